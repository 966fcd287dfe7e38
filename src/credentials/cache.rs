//! The cache of tokens: one fetch for any number of waiting requests, renewal in the background.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use metrics::counter;
use moka::future::Cache;
use secrecy::ExposeSecret;
use tokio::runtime::Handle;

use super::{
    Challenge, Cloud, CredentialError, CredentialSettings, Proof,
    entra::{self, Fetched},
    managed,
};
use crate::{
    azureml::Audience,
    net::Connector,
    time::{SharedClock, Timestamp},
};

/// A fetch that failed for good is not tried again for so long; Microsoft's libraries do the same.
const FATAL_FOR: Duration = Duration::from_secs(60);
/// A fetch that failed for now is not tried again for so long, unless the other side says.
const PASSING_FOR: Duration = Duration::from_secs(5);
/// Tries of one fetch, and the pause before the second and third.
const TRIES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// A token that lives at least so long is renewed at half its life; a shorter one before its last
/// five minutes.
const LONG_LIVED: Duration = Duration::from_secs(7_200);
const LAST_MINUTES: Duration = Duration::from_secs(300);
/// At most so many tokens.
const CAPACITY: u64 = 10_000;

/// Everything that changes what a token can do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    credential: Arc<str>,
    audience: Audience,
    claims: Option<[u8; 32]>,
}

/// A token, ready to be sent.
pub(super) struct Token {
    header: HeaderValue,
    renew_at: Timestamp,
    expires: Timestamp,
    renewing: AtomicBool,
}

#[derive(Clone)]
enum Cached {
    Token(Arc<Token>),
    Failure { error: CredentialError, until: Timestamp },
}

/// The gate's credentials. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
}

struct Inner {
    sources: HashMap<Arc<str>, Source>,
    cache: Cache<Key, Cached>,
    connector: Connector,
    cloud: Cloud,
    clock: SharedClock,
    /// Where renewals run: not on a thread that serves requests.
    control: Handle,
}

struct Source {
    settings: CredentialSettings,
    /// The last fetch's failure, if it failed.
    failure: ArcSwapOption<CredentialError>,
    fetched: AtomicBool,
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
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.inner.sources.keys()).finish()
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
        let sources = settings
            .into_iter()
            .map(|settings| {
                let source =
                    Source { failure: ArcSwapOption::empty(), fetched: AtomicBool::new(false), settings };
                (Arc::clone(&source.settings.name), source)
            })
            .collect();
        let cache = Cache::builder().max_capacity(CAPACITY).build();
        Self { inner: Arc::new(Inner { sources, cache, connector, cloud, clock, control }) }
    }

    /// Whether there is a credential of that name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.inner.sources.contains_key(name)
    }

    /// How each credential does.
    #[must_use]
    pub fn status(&self) -> Vec<CredentialStatus> {
        let mut status: Vec<_> = self
            .inner
            .sources
            .values()
            .map(|source| CredentialStatus {
                name: Arc::clone(&source.settings.name),
                fetched: source.fetched.load(Ordering::Relaxed),
                failure: source.failure.load_full(),
            })
            .collect();
        status.sort_by(|a, b| a.name.cmp(&b.name));
        status
    }

    /// Tries a credential now, past the cache: for `doctor`.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn probe(&self, name: &str) -> Result<(), CredentialError> {
        let source = self.inner.source(name)?;
        self.inner.fetch(source, Audience::Arm, None).await.map(drop)
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.inner.connector
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }

    /// The header of a token; `None` for an audience that takes none.
    pub(super) async fn bearer(
        &self,
        credential: &str,
        audience: Audience,
        challenge: Option<&Challenge>,
    ) -> Result<Option<HeaderValue>, CredentialError> {
        if self.inner.cloud.resource(audience).is_none() {
            return Ok(None);
        }
        let source = self.inner.source(credential)?;
        let key = Key {
            credential: Arc::clone(&source.settings.name),
            audience,
            claims: challenge.map(Challenge::digest),
        };
        let now = self.inner.clock.now();
        if let Some(cached) = self.inner.cache.get(&key).await
            && let Some(answer) = self.judged(cached, &key, challenge, now)
        {
            return answer.map(Some);
        }
        let inner = Arc::clone(&self.inner);
        let name = Arc::clone(&key.credential);
        let fetch = async move {
            match inner.sources.get(&name) {
                Some(source) => inner.patiently(source, audience, challenge).await,
                None => failure(CredentialError::Unknown(name.to_string()), now),
            }
        };
        // Whoever waits for the same key waits for this one fetch.
        let stale = |cached: &Cached| match cached {
            Cached::Token(token) => now >= token.expires,
            Cached::Failure { until, .. } => now >= *until,
        };
        let entry = self.inner.cache.entry(key).or_insert_with_if(fetch, stale).await;
        match entry.into_value() {
            Cached::Token(token) => Ok(Some(token.header.clone())),
            Cached::Failure { error, .. } => Err(error),
        }
    }

    /// What a cached value says now; `None` if it must be fetched.
    fn judged(
        &self,
        cached: Cached,
        key: &Key,
        challenge: Option<&Challenge>,
        now: Timestamp,
    ) -> Option<Result<HeaderValue, CredentialError>> {
        match cached {
            Cached::Token(token) if now < token.expires => {
                if now >= token.renew_at
                    && challenge.is_none()
                    && !token.renewing.swap(true, Ordering::Relaxed)
                {
                    self.renew(key.clone(), Arc::clone(&token));
                }
                Some(Ok(token.header.clone()))
            }
            Cached::Failure { error, until } if now < until => Some(Err(error)),
            Cached::Token(_) | Cached::Failure { .. } => None,
        }
    }

    /// Fetches anew in the background; if that fails the old token stays until it expires.
    fn renew(&self, key: Key, old: Arc<Token>) {
        let inner = Arc::clone(&self.inner);
        self.inner.control.spawn(async move {
            let Some(source) = inner.sources.get(&key.credential) else { return };
            match inner.patiently(source, key.audience, None).await {
                fresh @ Cached::Token(_) => inner.cache.insert(key, fresh).await,
                Cached::Failure { error, until } => {
                    tracing::warn!(credential = &*key.credential, %error, "the token could not be renewed; the old one is used until it expires");
                    let again = Token {
                        header: old.header.clone(),
                        renew_at: until.max(inner.clock.now().plus(PASSING_FOR)),
                        expires: old.expires,
                        renewing: AtomicBool::new(false),
                    };
                    inner.cache.insert(key, Cached::Token(Arc::new(again))).await;
                }
            }
        });
    }
}

fn failure(error: CredentialError, now: Timestamp) -> Cached {
    let pause = match &error {
        CredentialError::Passing { retry_after, .. } => retry_after.unwrap_or(PASSING_FOR),
        CredentialError::Fatal { .. } | CredentialError::Unknown(_) => FATAL_FOR,
    };
    Cached::Failure { error, until: now.plus(pause) }
}

impl Inner {
    fn source(&self, name: &str) -> Result<&Source, CredentialError> {
        self.sources.get(name).ok_or_else(|| CredentialError::Unknown(name.to_owned()))
    }

    /// Fetches, and again if it may help.
    async fn patiently(&self, source: &Source, audience: Audience, challenge: Option<&Challenge>) -> Cached {
        let mut pauses = TRIES.iter();
        loop {
            match self.fetch(source, audience, challenge).await {
                Ok(token) => return Cached::Token(Arc::new(token)),
                Err(CredentialError::Passing { retry_after: None, what }) => match pauses.next() {
                    Some(pause) => self.clock.sleep(*pause).await,
                    None => return failure(CredentialError::passing(what), self.clock.now()),
                },
                Err(error) => return failure(error, self.clock.now()),
            }
        }
    }

    async fn fetch(
        &self,
        source: &Source,
        audience: Audience,
        challenge: Option<&Challenge>,
    ) -> Result<Token, CredentialError> {
        let settings = &source.settings;
        let resource = self.cloud.resource(audience).unwrap_or_default();
        let asked = self.clock.now();
        let fetched = match settings.proof {
            Proof::ManagedIdentity { .. } => {
                managed::fetch(settings, &self.connector, resource, &*self.clock).await
            }
            Proof::Secret(_) | Proof::Certificate { .. } | Proof::WorkloadIdentity { .. } => {
                entra::fetch(settings, &self.connector, resource, challenge, asked).await
            }
        };
        let result = if fetched.is_ok() { "ok" } else { "failed" };
        counter!("amlgate_token_fetches_total", "credential" => settings.name.to_string(), "result" => result)
                .increment(1);
        let token = fetched.and_then(|f| token(f, asked));
        match &token {
            Ok(_) => {
                source.failure.store(None);
                source.fetched.store(true, Ordering::Relaxed);
            }
            Err(error) => source.failure.store(Some(Arc::new(error.clone()))),
        }
        token
    }
}

fn token(fetched: Fetched, asked: Timestamp) -> Result<Token, CredentialError> {
    let life = fetched.expires_in;
    let renew_in = fetched
        .refresh_in
        .unwrap_or_else(|| if life >= LONG_LIVED { life / 2 } else { life.saturating_sub(LAST_MINUTES) });
    let mut header = HeaderValue::try_from(format!("Bearer {}", fetched.token.expose_secret()))
        .map_err(|_| CredentialError::passing("the token endpoint's answer is no token"))?;
    header.set_sensitive(true);
    Ok(Token {
        header,
        renew_at: asked.plus(renew_in.min(life)),
        // Counted from when it was asked for, so that it never outlives Azure's own count.
        expires: asked.plus(life.saturating_sub(Duration::from_secs(10))),
        renewing: AtomicBool::new(false),
    })
}
