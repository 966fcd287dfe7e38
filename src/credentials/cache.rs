//! The cache of tokens: one fetch for any number of waiting requests, renewal in the background.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use metrics::counter;
use moka::{Expiry, future::Cache};
use secrecy::SecretString;
use tokio::{runtime::Handle, sync::Mutex};

use super::{
    ActsFor, CallerToken, Challenge, CredentialError, CredentialSettings, Holder, Proof,
    entra::{self, Asked, Fetched},
    managed,
    moment::Moment,
    person::{Assertion, Caused, Person},
    settings::resource,
    token::{Cached, Key, LAST_MINUTES, PASSING_FOR, Token},
};
use crate::{
    azureml::Audience,
    cloud::Cloud,
    identity::Caller,
    net::{ClockSkew, Connector},
    time::SharedClock,
};

/// Tries of one fetch, and the pause before the second and third.
const TRIES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// How long a request waits for a token. The fetch goes on without it: a machine's identity may
/// take more than a minute, which no caller waits for.
const PATIENCE: Duration = Duration::from_secs(15);
/// At most so many tokens.
const CAPACITY: u64 = 10_000;

/// The resource of tokens that stand for an application's secret.
const EXCHANGE: &str = "api://AzureADTokenExchange";

/// A claims challenge, and the token that it was the answer to.
pub(super) type Refused<'a> = (&'a Challenge, &'a HeaderValue);

/// The gate's credentials. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
}

type Sources = HashMap<Arc<str>, Arc<Source>>;

struct Inner {
    sources: ArcSwap<Sources>,
    /// Numbers the identities that sources had.
    identities: AtomicU64,
    /// Tokens of the credentials themselves.
    cache: Cache<Key, Cached>,
    /// Tokens of people: apart, so that many people push out none that everybody needs.
    people: Cache<Key, Cached>,
    connector: Connector,
    cloud: Cloud,
    clock: SharedClock,
    /// Where renewals run: not on a thread that serves requests.
    control: Handle,
}

struct Source {
    settings: CredentialSettings,
    /// Whom its tokens speak for: a new proof of the same application keeps it, and its tokens.
    identity: u64,
    /// The last fetch's failure, if it failed.
    failure: ArcSwapOption<CredentialError>,
    /// Why newer settings are not in use, if there are some.
    refused: ArcSwapOption<CredentialError>,
    fetched: AtomicBool,
    /// The machine's token that stands for the application's secret. Only fetches wait for it.
    machine: Mutex<Option<(SecretString, Moment)>>,
}

/// Frees the memory of people's tokens that are over. Whether one is is judged on the injected
/// clock on every hit; this is only housekeeping, on the machine's.
struct UntilOver(SharedClock);

impl Expiry<Key, Cached> for UntilOver {
    fn expire_after_create(&self, _: &Key, cached: &Cached, _: Instant) -> Option<Duration> {
        Some(cached.left(Moment::now(&*self.0)))
    }

    fn expire_after_update(
        &self,
        key: &Key,
        cached: &Cached,
        at: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, cached, at)
    }
}

impl Source {
    fn new(settings: CredentialSettings, identity: u64) -> Self {
        Self {
            settings,
            identity,
            failure: ArcSwapOption::empty(),
            refused: ArcSwapOption::empty(),
            fetched: AtomicBool::new(false),
            machine: Mutex::default(),
        }
    }

    fn key(&self, audience: Audience, claims: Option<[u8; 32]>, person: Option<Person>) -> Key {
        let credential = Arc::clone(&self.settings.name);
        Key { credential, identity: self.identity, audience, claims, person }
    }
}

/// How a credential does: for readiness and `doctor`.
#[derive(Debug, Clone)]
pub struct CredentialStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Whether a token was ever had.
    pub fetched: bool,
    /// The last fetch's failure, if it failed.
    pub failure: Option<Arc<CredentialError>>,
    /// Why newer settings, a rotated secret for example, are not in use, if there are some.
    pub refused: Option<Arc<CredentialError>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.inner.sources.load().keys()).finish()
    }
}

impl Credentials {
    /// Credentials whose renewals run on `control`.
    #[must_use]
    pub fn new(
        settings: Vec<CredentialSettings>,
        connector: Connector,
        cloud: Cloud,
        clock: SharedClock,
        control: Handle,
    ) -> Self {
        let sources: Sources = (0..)
            .zip(settings)
            .map(|(identity, settings)| {
                (Arc::clone(&settings.name), Arc::new(Source::new(settings, identity)))
            })
            .collect();
        let identities = AtomicU64::new(sources.len() as u64);
        let sources = ArcSwap::from_pointee(sources);
        let cache = Cache::builder().max_capacity(CAPACITY).build();
        let until = UntilOver(Arc::clone(&clock));
        let people = Cache::builder().max_capacity(CAPACITY).expire_after(until).build();
        Self {
            inner: Arc::new(Inner { sources, identities, cache, people, connector, cloud, clock, control }),
        }
    }

    /// Adds a credential, or puts other settings in the place of those of its name.
    pub fn add(&self, settings: CredentialSettings) {
        let identity = self.identity_of(&settings);
        self.put(Arc::new(Source::new(settings, identity)));
    }

    /// Takes over other settings of a credential once they have brought a token, so that what works
    /// stays in use until what follows works too. Tokens of the old settings go on unless the new
    /// ones are another identity.
    ///
    /// # Errors
    /// [`CredentialError`]: the settings bring no token, and the old ones stay in use.
    pub async fn offer(&self, settings: CredentialSettings) -> Result<(), CredentialError> {
        let inner = &self.inner;
        let identity = self.identity_of(&settings);
        let fresh = Arc::new(Source::new(settings, identity));
        match inner.fetch(&fresh, Audience::Arm, None, None).await {
            Ok(token) => {
                if fresh.settings.acts_for == ActsFor::Itself {
                    let key = fresh.key(Audience::Arm, None, None);
                    inner.cache.insert(key, Cached::Token(Arc::new(token))).await;
                }
                self.put(fresh);
                Ok(())
            }
            Err(error) => {
                if let Ok(old) = inner.source(&fresh.settings.name) {
                    old.refused.store(Some(Arc::new(error.clone())));
                }
                Err(error)
            }
        }
    }

    /// The digest of the settings in use of a credential.
    #[must_use]
    pub fn digest(&self, name: &str) -> Option<[u8; 32]> {
        self.inner.source(name).ok().map(|source| source.settings.digest)
    }

    /// What was offered to a credential and refused is not offered any more.
    pub fn withdrawn(&self, name: &str) {
        if let Ok(source) = self.inner.source(name) {
            source.refused.store(None);
        }
    }

    fn identity_of(&self, settings: &CredentialSettings) -> u64 {
        match self.inner.source(&settings.name) {
            Ok(old) if old.settings.is_identity_of(settings) => old.identity,
            Ok(_) | Err(_) => self.inner.identities.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn put(&self, source: Arc<Source>) {
        self.inner.sources.rcu(|sources| {
            let mut sources = Sources::clone(sources);
            sources.insert(Arc::clone(&source.settings.name), Arc::clone(&source));
            sources
        });
    }

    /// Forgets the credentials of other names.
    pub fn retain(&self, kept: impl Fn(&str) -> bool) {
        self.inner.sources.rcu(|sources| {
            sources
                .iter()
                .filter(|(name, _)| kept(name))
                .map(|(name, source)| (Arc::clone(name), Arc::clone(source)))
                .collect::<Sources>()
        });
    }

    /// Whether there is a credential of that name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.inner.sources.load().contains_key(name)
    }

    /// How each credential does.
    #[must_use]
    pub fn status(&self) -> Vec<CredentialStatus> {
        let mut status: Vec<_> = self
            .inner
            .sources
            .load()
            .values()
            .map(|source| CredentialStatus {
                name: Arc::clone(&source.settings.name),
                fetched: source.fetched.load(Ordering::Relaxed),
                failure: source.failure.load_full(),
                refused: source.refused.load_full(),
            })
            .collect();
        status.sort_by(|a, b| a.name.cmp(&b.name));
        status
    }

    /// Tries a credential now, past the cache, and reads what the token says of its holder: for
    /// `doctor`. Of one that acts for callers its own proof is tried: nobody is there to act for.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn probe(&self, name: &str, audience: Audience) -> Result<Holder, CredentialError> {
        let source = self.inner.source(name)?;
        self.inner.fetch(&source, audience, None, None).await.map(|token| Holder::of(&token))
    }

    /// The same for somebody who is there: the exchange of their token.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn probe_for(
        &self,
        name: &str,
        audience: Audience,
        caller: &Caller,
        token: &CallerToken,
    ) -> Result<Holder, CredentialError> {
        let source = self.inner.source(name)?;
        let caused = Caused::by(caller, token);
        caused.person(&source.settings)?;
        let assertion = caused.assertion()?;
        self.inner.fetch(&source, audience, None, Some(&assertion)).await.map(|token| Holder::of(&token))
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.inner.connector
    }

    /// What was seen of other clocks while tokens were fetched.
    #[must_use]
    pub fn skew(&self) -> Option<Arc<ClockSkew>> {
        self.inner.connector.skew().cloned()
    }

    /// Which Azure they are of.
    #[must_use]
    pub fn cloud(&self) -> &Cloud {
        &self.inner.cloud
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }

    /// The header of a token; `None` for an audience that takes none. After a refusal it is a token
    /// with the claims that were demanded, and from then on every other request gets it too.
    pub(super) async fn bearer(
        &self,
        credential: &str,
        audience: Audience,
        refused: Option<Refused<'_>>,
    ) -> Result<Option<HeaderValue>, CredentialError> {
        self.bearer_for(credential, audience, refused, None).await
    }

    /// The same for a request that somebody caused. A credential that acts for callers brings a token
    /// of theirs, for them alone and no longer than the one that they came with; without somebody
    /// whom it can act for it brings none.
    pub(super) async fn bearer_for(
        &self,
        credential: &str,
        audience: Audience,
        refused: Option<Refused<'_>>,
        caused: Option<Caused<'_>>,
    ) -> Result<Option<HeaderValue>, CredentialError> {
        if audience == Audience::None {
            return Ok(None);
        }
        let source = self.inner.source(credential)?;
        let caused = match (source.settings.acts_for, caused) {
            (ActsFor::Itself, _) => None,
            (ActsFor::Caller, Some(caused)) => Some(caused),
            (ActsFor::Caller, None) => {
                return Err(CredentialError::NotAPerson {
                    why: format!("`{credential}` acts for callers, and this is asked for by nobody"),
                    cure: "let a credential that speaks for itself do it",
                });
            }
        };
        let person = caused.map(|caused| caused.person(&source.settings)).transpose()?;
        let key = source.key(audience, refused.map(|(challenge, _)| challenge.digest()), person);
        let now = self.inner.now();
        if refused.is_none()
            && let Some(cached) = self.inner.of(&key).get(&key).await
            && !cached.is_over(now, None)
        {
            counter!("amlgate_token_cache_total", "result" => "hit").increment(1);
            // A person's token is exchanged anew by their next request, not behind their back.
            if let Cached::Token(token) = &cached
                && key.person.is_none()
                && token.is_to_be_renewed(now)
            {
                self.renew(key, Arc::clone(token));
            }
            return cached.answer().map(Some);
        }
        counter!("amlgate_token_cache_total", "result" => "miss").increment(1);
        let refused = refused.map(|(challenge, token)| (challenge.clone(), token.clone()));
        // In a task of its own: a caller who hangs up ends no fetch that others wait for.
        let assertion = caused.map(|caused| caused.assertion()).transpose()?;
        let fetched = self.inner.control.spawn(Arc::clone(&self.inner).shared(key, refused, assertion));
        tokio::select! {
            biased;
            cached = fetched => match cached {
                Ok(cached) => cached.answer().map(Some),
                Err(_) => Err(CredentialError::passing("the gate is stopping")),
            },
            () = self.inner.clock.sleep(PATIENCE) => Err(CredentialError::Passing {
                what: format!("there was no token of `{credential}` within {} s", PATIENCE.as_secs()),
                retry_after: Some(PASSING_FOR),
            }),
        }
    }

    /// Fetches anew in the background; if that fails the old token stays until it expires.
    fn renew(&self, key: Key, old: Arc<Token>) {
        let inner = Arc::clone(&self.inner);
        self.inner.control.spawn(async move {
            let Ok(source) = inner.source(&key.credential) else { return };
            match inner.patiently(&source, key.audience, None, None).await {
                fresh @ Cached::Token(_) => inner.cache.insert(key, fresh).await,
                Cached::Failure { error, until } => {
                    tracing::warn!(credential = &*key.credential, %error, "the token could not be renewed; the old one is used until it expires");
                    inner.cache.insert(key, Cached::Token(Arc::new(old.kept(until)))).await;
                }
            }
        });
    }
}

impl Inner {
    fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    fn source(&self, name: &str) -> Result<Arc<Source>, CredentialError> {
        self.sources.load().get(name).cloned().ok_or_else(|| CredentialError::Unknown(name.to_owned()))
    }

    /// Fetches what is not there; whoever waits for the same key waits for this one fetch.
    async fn shared(
        self: Arc<Self>,
        key: Key,
        refused: Option<(Challenge, HeaderValue)>,
        assertion: Option<Assertion>,
    ) -> Cached {
        let now = self.now();
        let fetch = async {
            match self.source(&key.credential) {
                Ok(source) => {
                    let challenge = refused.as_ref().map(|(challenge, _)| challenge);
                    self.patiently(&source, key.audience, challenge, assertion.as_ref()).await
                }
                Err(error) => Cached::failure(error, now),
            }
        };
        let over = |cached: &Cached| cached.is_over(now, refused.as_ref().map(|(_, token)| token));
        let cached = self.of(&key).entry(key.clone()).or_insert_with_if(fetch, over).await.into_value();
        if let (Cached::Token(fresh), true) = (&cached, refused.is_some()) {
            self.replace(key.unchallenged(), fresh).await;
        }
        cached
    }

    /// A token that satisfies a challenge replaces the older one, which Azure refuses to everybody:
    /// else each request would be challenged first, and one that cannot be sent twice would fail.
    async fn replace(&self, key: Key, fresh: &Arc<Token>) {
        let is_older = match self.of(&key).get(&key).await {
            Some(Cached::Token(old)) => old.is_older_than(fresh),
            Some(Cached::Failure { .. }) | None => true,
        };
        if is_older {
            self.of(&key).insert(key.clone(), Cached::Token(Arc::clone(fresh))).await;
        }
    }

    /// Where what has this key is kept.
    fn of(&self, key: &Key) -> &Cache<Key, Cached> {
        if key.person.is_some() { &self.people } else { &self.cache }
    }

    /// Fetches, and again if it may help.
    async fn patiently(
        &self,
        source: &Source,
        audience: Audience,
        challenge: Option<&Challenge>,
        assertion: Option<&Assertion>,
    ) -> Cached {
        let mut pauses = TRIES.iter();
        loop {
            match self.fetch(source, audience, challenge, assertion).await {
                Ok(token) => return Cached::Token(Arc::new(token)),
                Err(CredentialError::Passing { retry_after: None, what }) => match pauses.next() {
                    Some(pause) => self.clock.sleep(*pause).await,
                    None => return Cached::failure(CredentialError::passing(what), self.now()),
                },
                Err(error) => return Cached::failure(error, self.now()),
            }
        }
    }

    async fn fetch(
        &self,
        source: &Source,
        audience: Audience,
        challenge: Option<&Challenge>,
        assertion: Option<&Assertion>,
    ) -> Result<Token, CredentialError> {
        let settings = &source.settings;
        let resource = resource(&self.cloud, audience).unwrap_or_default();
        let resource = &*resource;
        let asked = self.now();
        let fetched = match (&settings.proof, settings.acts_for) {
            (Proof::ManagedIdentity { .. }, ActsFor::Itself) => {
                managed::fetch(settings, &self.connector, resource, &*self.clock).await
            }
            (Proof::ManagedIdentity { .. }, ActsFor::Caller) => match self.machine(source).await {
                Ok(machine) => self.ask(source, resource, challenge, assertion, Some(&machine)).await,
                Err(error) => Err(error),
            },
            (Proof::Secret(_) | Proof::Certificate { .. } | Proof::WorkloadIdentity { .. }, _) => {
                self.ask(source, resource, challenge, assertion, None).await
            }
        };
        let token = fetched.and_then(|fetched| Token::new(&fetched, asked));
        let token = match assertion {
            Some(assertion) => token.and_then(|token| token.until(assertion.expires)),
            None => token,
        };
        let result = match &token {
            Ok(_) => {
                source.failure.store(None);
                source.fetched.store(true, Ordering::Relaxed);
                "ok"
            }
            // That says something of the person, not of the credential.
            Err(error) if error.is_the_callers() => "caller",
            Err(error) => {
                source.failure.store(Some(Arc::new(error.clone())));
                "failed"
            }
        };
        counter!("amlgate_token_fetches_total", "credential" => settings.name.to_string(), "result" => result)
            .increment(1);
        token
    }

    async fn ask(
        &self,
        source: &Source,
        resource: &str,
        challenge: Option<&Challenge>,
        assertion: Option<&Assertion>,
        machine: Option<&SecretString>,
    ) -> Result<Fetched, CredentialError> {
        let assertion = assertion.map(|assertion| &assertion.token);
        let asked = Asked { resource, challenge, assertion, machine };
        entra::fetch(&source.settings, &self.connector, asked, self.now().wall()).await
    }

    /// The machine's token that stands for the application's secret; kept, because the machine is
    /// not to be asked for each person.
    async fn machine(&self, source: &Source) -> Result<SecretString, CredentialError> {
        let mut kept = source.machine.lock().await;
        let now = self.now();
        if let Some((token, until)) = &*kept
            && !now.has_reached(*until)
        {
            return Ok(token.clone());
        }
        let fetched = managed::fetch(&source.settings, &self.connector, EXCHANGE, &*self.clock).await?;
        let until = now.plus(fetched.expires_in.saturating_sub(LAST_MINUTES));
        *kept = Some((fetched.token.clone(), until));
        Ok(fetched.token)
    }
}
