//! The verifier: from a token to a [`Principal`], on the cheapest rung that can tell.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::digest;
use http::HeaderValue;
use serde_json::{Map, Value};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};

use super::{
    Certificates, Groups, Principal, bearer, claims,
    discovery::KeySource,
    jws::{Jws, TokenKind},
    keyring::{IssuerStatus, Keyring, Keys},
    offline::OfflineCodes,
    own::{Exchanged, NotExchanged, OwnIssuer},
    plugins::{self, Limited},
    rejection::{Reason, Rejection},
    remembered::{ConnectionMemo, Digest, Remembered, RememberedSettings, Verified},
    revoked::Revoked,
    settings::{IssuerKind, IssuerSettings, SignatureAlgorithm},
    userinfo,
};
use crate::time::{SharedClock, Timestamp};

/// Verifies tokens of the configured issuers and remembers whom it verified. Shared by all cores.
///
/// The order of checks, cheap first: form, issuer, algorithm, claims, key, signature. Only the last
/// makes a [`Principal`].
pub struct Verifier {
    issuers: ArcSwap<Vec<Arc<Keyring>>>,
    certificates: Certificates,
    remembered: Remembered,
    source: Arc<dyn KeySource>,
    own: ArcSwapOption<OwnIssuer>,
    codes: ArcSwapOption<OfflineCodes>,
    revoked: Revoked,
    clock: SharedClock,
    changed: Notify,
    // At most so many tokens at a time wait for their groups.
    asking: Semaphore,
    // Serialises `reconfigure`, which runs on the control runtime, never on a request's path.
    changing: Mutex<()>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<_> = self.issuers.load().iter().map(|k| k.form.iss.clone()).collect();
        f.debug_struct("Verifier")
            .field("issuers", &issuers)
            .field("remembered", &self.remembered)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier without keys yet: [`Self::refresh_forever`] fetches them. The settings were
    /// judged by [`super::problems`].
    #[must_use]
    pub fn new(
        issuers: Vec<IssuerSettings>,
        remembered: RememberedSettings,
        source: Arc<dyn KeySource>,
        clock: SharedClock,
    ) -> Self {
        Self {
            certificates: Certificates::new(&issuers),
            issuers: ArcSwap::from_pointee(issuers.into_iter().flat_map(keyrings).collect()),
            remembered: Remembered::new(remembered),
            source,
            own: ArcSwapOption::empty(),
            codes: ArcSwapOption::empty(),
            revoked: Revoked::default(),
            clock,
            changed: Notify::new(),
            asking: Semaphore::new(userinfo::AT_A_TIME),
            changing: Mutex::new(()),
        }
    }

    /// Puts other issuers in force. Whoever was verified by an issuer that is gone or was changed
    /// is forgotten; keys stay wherever they still come from the same place.
    pub fn reconfigure(&self, issuers: Vec<IssuerSettings>) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.certificates.reconfigure(&issuers);
        let old = self.issuers.load_full();
        let new: Vec<Arc<Keyring>> = issuers
            .into_iter()
            .flat_map(keyrings)
            .map(|new| {
                let Some(old) = old.iter().find(|old| old.form == new.form) else { return new };
                if old.issuer == new.issuer {
                    return Arc::clone(old);
                }
                new.inherit(old);
                new
            })
            .collect();
        let gone: Vec<_> =
            old.iter().filter(|old| !new.iter().any(|new| Arc::ptr_eq(old, new))).cloned().collect();
        self.issuers.store(Arc::new(new));
        for keyring in gone {
            keyring.retire();
        }
        self.changed.notify_one();
    }

    /// The gate as an issuer of tokens of its own, from here on; `None` takes them back.
    pub fn issue_as(&self, own: Option<Arc<OwnIssuer>>) {
        self.own.store(own);
    }

    /// The gate as an issuer, if it is one.
    #[must_use]
    pub fn own(&self) -> Option<Arc<OwnIssuer>> {
        self.own.load_full()
    }

    /// Codes that identify people without their issuers are tagged and sealed with these from here on.
    pub fn seal_codes_with(&self, codes: Option<Arc<OfflineCodes>>) {
        self.codes.store(codes);
    }

    pub(super) fn codes(&self) -> Option<Arc<OfflineCodes>> {
        self.codes.load_full()
    }

    /// The issuer of this name.
    pub(super) fn named(&self, issuer: &str) -> Option<Arc<Keyring>> {
        self.issuers.load().iter().find(|keyring| *keyring.issuer.name == *issuer).cloned()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What is refused though it verifies. Asked of every caller, however it was found.
    #[must_use]
    pub const fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// A token of the gate for a verified caller, bound to the key of the thumbprint `jkt` if there
    /// is one.
    ///
    /// # Errors
    /// [`NotExchanged`].
    pub fn exchange(&self, from: &Principal, jkt: Option<&str>) -> Result<Exchanged, NotExchanged> {
        let own = self.own().ok_or(NotExchanged::Unsigned)?;
        let issuers = self.issuers.load();
        let issuer = issuers.iter().map(|k| &k.issuer).find(|issuer| issuer.name == from.id.issuer);
        // Groups that were asked for are not among the token's claims.
        let asked = issuer.filter(|issuer| issuer.userinfo().is_some());
        own.exchange(from, asked.map(|issuer| &*issuer.groups_claim), jkt, self.clock.now())
    }

    /// Where people of this Entra issuer sign in: the login host with the tenant; `None` for an
    /// issuer of another kind.
    #[must_use]
    pub fn entra_authority(&self, issuer: &str) -> Option<String> {
        let issuers = self.issuers.load();
        let keyring = issuers.iter().find(|keyring| keyring.issuer.name.as_ref() == issuer)?;
        match &keyring.issuer.kind {
            IssuerKind::Entra { tenant, authority, .. } => {
                Some(format!("{}/{tenant}", authority.to_string().trim_end_matches('/')))
            }
            IssuerKind::Oidc { .. } | IssuerKind::Backstage { .. } | IssuerKind::Certificate(_) => None,
        }
    }

    /// Whether an issuer of this name is configured.
    #[must_use]
    pub fn knows(&self, issuer: &str) -> bool {
        self.issuers.load().iter().any(|keyring| keyring.issuer.name.as_ref() == issuer)
            || self.certificates.knows(issuer)
    }

    /// The authorities of callers who are known by certificates.
    #[must_use]
    pub const fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Whether proofs that come with tokens of this issuer, or of any, must hold a nonce of the gate's.
    #[must_use]
    pub fn wants_nonce(&self, issuer: Option<&str>) -> bool {
        let is = |name: &str| issuer.is_none_or(|wanted| wanted == name);
        self.issuers.load().iter().any(|k| is(&k.issuer.name) && k.issuer.dpop_nonce)
    }

    /// The fast path of a connection: its memo, then the process's memory. `None` says nothing of
    /// the token: [`Self::authenticate`] it. A hit allocates nothing once the connection's memo
    /// has grown to the header's length.
    #[must_use]
    pub fn recall(&self, memo: &mut ConnectionMemo, header: &HeaderValue) -> Option<Principal> {
        let now = self.clock.now();
        if let Some(principal) = memo.recall(header, now) {
            metrics::counter!(TOKENS, "result" => "connection").increment(1);
            return Some(principal);
        }
        let verified = self.remembered.get(&digest_of(bearer::credentials(header).ok()?.1), now)?;
        metrics::counter!(TOKENS, "result" => "process").increment(1);
        let principal = verified.principal.clone();
        memo.keep(header, verified);
        Some(principal)
    }

    /// The holder of a token that was verified before and still stands.
    #[must_use]
    pub fn remembered(&self, token: &str) -> Option<Principal> {
        let now = self.clock.now();
        self.remembered.get(&digest_of(token), now).map(|verified| verified.principal.clone())
    }

    /// About how many tokens are remembered.
    #[must_use]
    pub fn remembered_count(&self) -> u64 {
        self.remembered.len()
    }

    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.remembered.settle();
    }

    /// Verifies a token. It waits only if the issuer's keys are missing or do not hold the token's,
    /// and then for a few seconds at most.
    ///
    /// # Errors
    /// [`Rejection`]: a 401 that says nothing, or a 503 if [`Rejection::is_outage`]. A token that is
    /// bound to something is refused: [`Self::present`] is for whoever can look at that.
    pub async fn authenticate(&self, token: &str) -> Result<Principal, Rejection> {
        let principal = self.present(token).await?;
        match principal.binding() {
            None => Ok(principal),
            Some(_) => Err(Rejection::new(Reason::Bound)
                .found("a token that is bound to a key or certificate")
                .expected("one that anybody may bear")),
        }
    }

    /// Verifies a token as [`Self::authenticate`] does, one that is bound included: its holder is the
    /// caller only once [`Principal::binding`] was seen to be met.
    ///
    /// # Errors
    /// [`Rejection`].
    pub async fn present(&self, token: &str) -> Result<Principal, Rejection> {
        let digest = digest_of(token);
        if let Some(verified) = self.remembered.get(&digest, self.clock.now()) {
            metrics::counter!(TOKENS, "result" => "process").increment(1);
            return Ok(verified.principal.clone());
        }
        let outcome = self.verify(token, digest).await;
        let result = outcome.as_ref().map_or_else(|rejection| rejection.reason().name(), |_| "verified");
        metrics::counter!(TOKENS, "result" => result).increment(1);
        outcome
    }

    async fn verify(&self, token: &str, digest: Digest) -> Result<Principal, Rejection> {
        let now = self.clock.now();
        let jws = Jws::parse(token)?;
        if let Some(own) = self.own().filter(|own| jws.claims.get("iss") == Some(&own.url().into())) {
            return self.verify_own(&own, jws, digest, now);
        }
        let keyring = self.keyring(&jws)?;
        accepted(&keyring.issuer, jws.algorithm)?;
        fits(&keyring.issuer, jws.kind)?;
        if jws.kind == TokenKind::BackstagePlugin {
            // Boxed: few come this way, and every request's future would have room for it.
            return Box::pin(self.verify_plugin(jws, keyring, digest, now)).await;
        }
        let Jws { algorithm, key_id, claims, signed, signature, kind: _ } = jws;
        let mut described = claims::describe(claims, digest, &keyring.issuer, now)?;

        let epoch = self.signed(&keyring, algorithm, &key_id, signed, signature).await?;
        if described.caller.groups == Groups::Overage
            && let Some(at) = keyring.issuer.userinfo()
        {
            let caller = &mut described.caller;
            let source = self.source.as_ref();
            let ask = userinfo::groups(source, &at, &keyring.issuer, token, &caller.id.subject);
            caller.groups = Box::pin(userinfo::bounded(&self.asking, ask)).await?;
        }
        let verified = Arc::new(Verified {
            principal: Principal::verified(described.caller).bound(described.binding),
            not_before: described.not_before,
            keyring,
            epoch,
            inner: None,
        });
        self.remembered.insert(digest, Arc::clone(&verified), now);
        Ok(verified.principal.clone())
    }

    /// A token of the gate's own: its holder is described as by the token that it came from. It
    /// stands as long as the configuration of that one's issuer does.
    fn verify_own(
        &self,
        own: &OwnIssuer,
        jws: Jws<'_>,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Principal, Rejection> {
        own.signed(&jws)?;
        let named = claims::origin(&jws.claims)?;
        let keyring = self
            .named(&named)
            .ok_or_else(|| Rejection::new(Reason::Issuer).found(format_args!("a token of {named}")))?;
        let epoch = keyring.epoch();
        let settings = own.settings(&jws.claims);
        let described = claims::describe_exchanged(jws.claims, digest, settings, &keyring.issuer, now)?;
        let verified = Arc::new(Verified {
            principal: Principal::verified(described.caller).bound(described.binding),
            not_before: described.not_before,
            keyring,
            epoch,
            inner: None,
        });
        self.remembered.insert(digest, Arc::clone(&verified), now);
        Ok(verified.principal.clone())
    }

    /// The token of a Backstage plugin, and that of the user inside it.
    async fn verify_plugin(
        &self,
        jws: Jws<'_>,
        keyring: Arc<Keyring>,
        digest: Digest,
        now: Timestamp,
    ) -> Result<Principal, Rejection> {
        let IssuerKind::Backstage { plugins, .. } = &keyring.issuer.kind else {
            return Err(Rejection::new(Reason::Type));
        };
        let Jws { algorithm, key_id, claims, signed, signature, kind: _ } = jws;
        let mut calling = plugins::describe(claims, digest, &keyring.issuer, plugins, now)?;
        let epoch = self.signed(&keyring, algorithm, &key_id, signed, signature).await?;
        let binding = calling.binding.take();
        let (caller, not_before, inner) = match calling.on_behalf_of.take() {
            None => (calling.caller, calling.not_before, None),
            Some(token) => {
                let (user, groups, inner) = self.verify_limited(&token, &keyring.issuer, now).await?;
                let (caller, not_before) = calling.by(user, groups);
                (caller, not_before, Some(inner))
            }
        };
        let principal = Principal::verified(caller).bound(binding);
        let verified = Arc::new(Verified { principal, not_before, keyring, epoch, inner });
        self.remembered.insert(digest, Arc::clone(&verified), now);
        Ok(verified.principal.clone())
    }

    /// The user of a limited token, with the groups that userinfo tells, and what must stand for it.
    async fn verify_limited(
        &self,
        token: &str,
        issuer: &IssuerSettings,
        now: Timestamp,
    ) -> Result<(Limited, Groups, (Arc<Keyring>, u64)), Rejection> {
        let jws = Jws::limited(token)?;
        accepted(issuer, jws.algorithm)?;
        let user = plugins::limited(&jws.claims, issuer, now)?;
        let users = |k: &&Arc<Keyring>| k.issuer.name == issuer.name && k.form.plugin.is_none();
        let keyring = self.issuers.load().iter().find(users).cloned();
        let keyring = keyring.ok_or_else(|| Rejection::new(Reason::Issuer))?;
        let epoch = self.signed(&keyring, jws.algorithm, &jws.key_id, jws.signed, jws.signature).await?;
        let at = issuer.userinfo().ok_or_else(|| Rejection::new(Reason::GroupsUnavailable))?;
        let ask = userinfo::groups(self.source.as_ref(), &at, issuer, token, &user.subject);
        let groups = userinfo::bounded(&self.asking, ask).await?;
        Ok((user, groups, (keyring, epoch)))
    }

    /// Whether a portal knows the gate as a plugin of this id.
    #[must_use]
    pub fn is_plugin(&self, id: &str) -> bool {
        self.issuers.load().iter().any(|keyring| match &keyring.issuer.kind {
            IssuerKind::Backstage { plugins, .. } => {
                keyring.form.plugin.is_some() && *plugins.audience == *id
            }
            IssuerKind::Entra { .. } | IssuerKind::Oidc { .. } | IssuerKind::Certificate(_) => false,
        })
    }

    /// Whether some portal knows the gate as a plugin.
    #[must_use]
    pub fn has_plugins(&self) -> bool {
        self.issuers.load().iter().any(|keyring| keyring.form.plugin.is_some())
    }

    /// The keyring of the issuer that `iss` names, to the letter.
    pub(super) fn keyring(&self, jws: &Jws<'_>) -> Result<Arc<Keyring>, Rejection> {
        let issuers = self.issuers.load();
        if jws.kind == TokenKind::BackstagePlugin {
            return of_plugin(&issuers, &jws.claims);
        }
        let all = || issuers.iter().map(|k| k.form.iss.as_ref()).collect::<Vec<_>>().join(" or ");
        let rejection = |reason| Rejection::new(reason).expected(format_args!("`iss`: {}", all()));
        match jws.claims.get("iss") {
            Some(serde_json::Value::String(iss)) => issuers
                .iter()
                .find(|keyring| keyring.form.plugin.is_none() && keyring.form.iss.as_ref() == iss)
                .cloned()
                .ok_or_else(|| rejection(Reason::Issuer).found(format_args!("`iss`: {iss}"))),
            Some(other) => Err(rejection(Reason::Claim).found(format_args!("`iss`: {other}"))),
            None => Err(rejection(Reason::Claim).found("no `iss`")),
        }
    }

    /// Checks the signature with the issuer's key of this id; gives the epoch in which it stood.
    pub(super) async fn signed(
        &self,
        keyring: &Keyring,
        algorithm: SignatureAlgorithm,
        key_id: &str,
        signed: &str,
        signature: &str,
    ) -> Result<u64, Rejection> {
        for attempt in [Attempt::First, Attempt::Last] {
            let epoch = keyring.epoch();
            let missing = match keyring.keys(self.clock.now()) {
                Keys::Good(keys) => match keys.find(key_id) {
                    Some(key) if !key.fits(algorithm) => {
                        return Err(Rejection::new(Reason::Key)
                            .found(format_args!("`alg` {algorithm} with the key `{key_id}`"))
                            .expected("an algorithm of the key's own kind"));
                    }
                    Some(key) if key.verifies(algorithm, signed, signature) => return Ok(epoch),
                    Some(_) => {
                        return Err(Rejection::new(Reason::Signature)
                            .found(format_args!("a signature that the key `{key_id}` did not make"))
                            .expected(format_args!("{algorithm} by a key of {}", keyring.form.iss)));
                    }
                    None => {
                        let found = format!("`kid`: {key_id}");
                        let expected = format!("one of {}", keys.ids().join(", "));
                        // It may be newer than what could be fetched last: that is no fault of
                        // the token.
                        match keyring.down() {
                            Some(why) => Rejection::new(Reason::KeysUnavailable)
                                .found(format_args!("{found}, and newer keys cannot be had: {why}"))
                                .expected(expected),
                            None => Rejection::new(Reason::Key).found(found).expected(expected),
                        }
                    }
                },
                Keys::None => Rejection::new(Reason::KeysUnavailable)
                    .found(keyring.down().unwrap_or_else(|| "not fetched yet".to_owned()))
                    .expected(format_args!("the keys of {}", keyring.form.iss)),
            };
            match attempt {
                Attempt::First if keyring.newer(self.clock.as_ref()).await => {}
                Attempt::First | Attempt::Last => return Err(missing),
            }
        }
        Err(Rejection::new(Reason::KeysUnavailable))
    }

    /// Fetches every issuer's keys once, all at the same time: for the command line and tests.
    pub async fn refresh_once(&self) {
        let mut fetches = JoinSet::new();
        for keyring in self.issuers.load().iter() {
            let (keyring, source, clock) =
                (Arc::clone(keyring), Arc::clone(&self.source), Arc::clone(&self.clock));
            fetches.spawn(async move { keyring.fetch(source.as_ref(), clock.as_ref()).await });
        }
        while fetches.join_next().await.is_some() {}
    }

    /// Keeps the keys of all issuers fresh, also of those that [`Self::reconfigure`] brings. Runs
    /// on the control runtime until it is dropped.
    pub async fn refresh_forever(&self) {
        let mut served: Vec<Arc<Keyring>> = Vec::new();
        let mut tasks = JoinSet::new();
        loop {
            let present = self.issuers.load_full();
            for keyring in present.iter().filter(|k| !served.iter().any(|s| Arc::ptr_eq(s, k))) {
                tasks
                    .spawn(Arc::clone(keyring).keep_fresh(Arc::clone(&self.source), Arc::clone(&self.clock)));
            }
            served = present.to_vec();
            self.changed.notified().await;
            // Those of retired issuers have ended.
            while tasks.try_join_next().is_some() {}
        }
    }

    /// How each issuer's keys stand, for readiness and `doctor`.
    #[must_use]
    pub fn status(&self) -> Vec<IssuerStatus> {
        let now: Timestamp = self.clock.now();
        self.issuers.load().iter().map(|keyring| keyring.status(now)).collect()
    }
}

/// Counts tokens by what became of them: recalled by the connection or the process, verified, or the
/// reason of their rejection.
const TOKENS: &str = "amlgate_tokens_total";

#[derive(Clone, Copy)]
enum Attempt {
    First,
    Last,
}

fn keyrings(issuer: IssuerSettings) -> Vec<Arc<Keyring>> {
    let issuer = Arc::new(issuer);
    issuer.forms().into_iter().map(|form| Arc::new(Keyring::new(Arc::clone(&issuer), form))).collect()
}

/// The token chooses among the issuer's algorithms; it brings none.
pub(super) fn accepted(issuer: &IssuerSettings, algorithm: SignatureAlgorithm) -> Result<(), Rejection> {
    if issuer.algorithms.contains(&algorithm) {
        return Ok(());
    }
    let names: Vec<&str> = issuer.algorithms.iter().map(|a| a.name()).collect();
    Err(Rejection::new(Reason::Algorithm)
        .found(format_args!("`alg` {algorithm}"))
        .expected(names.join(" or ")))
}

/// The keyring of the plugin that a token's `sub` names: such a token has no issuer.
fn of_plugin(issuers: &[Arc<Keyring>], claims: &Map<String, Value>) -> Result<Arc<Keyring>, Rejection> {
    let known: Vec<&str> = issuers.iter().filter_map(|k| k.form.plugin.as_deref()).collect();
    if known.is_empty() {
        let rejection = Rejection::new(Reason::Type).found("the token of a Backstage plugin");
        return Err(rejection.expected("a `backstage` issuer with `plugins`"));
    }
    let Some(Value::String(plugin)) = claims.get("sub").filter(|_| !claims.contains_key("iss")) else {
        let rejection = Rejection::new(Reason::Claim).found("a plugin's token with `iss`, or without `sub`");
        return Err(rejection.expected("`sub`, the plugin's id, and no `iss`"));
    };
    let found = issuers.iter().find(|k| k.form.plugin.as_deref() == Some(plugin)).cloned();
    found.ok_or_else(|| {
        let rejection = Rejection::new(Reason::Issuer).found(format_args!("the plugin `{plugin}`"));
        rejection.expected(known.join(" or "))
    })
}

/// A Backstage user token is of a Backstage issuer, and that issuer has no other but its plugins'.
fn fits(issuer: &IssuerSettings, kind: TokenKind) -> Result<(), Rejection> {
    let wanted = match &issuer.kind {
        IssuerKind::Backstage { .. } => TokenKind::BackstageUser,
        IssuerKind::Entra { .. } | IssuerKind::Oidc { .. } | IssuerKind::Certificate(_) => TokenKind::Access,
    };
    let of_plugin = wanted == TokenKind::BackstageUser && kind == TokenKind::BackstagePlugin;
    if kind == wanted || of_plugin {
        return Ok(());
    }
    let expected =
        if wanted == TokenKind::Access { "`typ` JWT, at+jwt or none" } else { "`typ` vnd.backstage.user" };
    Err(Rejection::new(Reason::Type).found("another kind of token").expected(expected))
}

pub(super) fn digest_of(token: &str) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    out
}
