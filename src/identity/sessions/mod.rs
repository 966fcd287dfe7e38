//! Browser sessions: sign-in by authorization code with PKCE, and what a browser holds afterwards.
//!
//! A browser holds 256 random bits and nothing else. The store holds their digest, and the issuer's
//! tokens sealed under a key that is not in the store, so that neither a copy of the store nor a
//! look at a browser's memory gives a token away. Whoever comes with a session is verified by the
//! issuer's token like any caller, on every request: a session adds no right and no time.
//!
//! A sign-in under way is kept by the browser itself, sealed: nobody who only knocks fills the store.
//! Tokens are renewed by one request at a time over all replicas, because issuers that rotate refresh
//! tokens take a second use for theft. It knows nothing of cookies, pages and records.

mod issuer;
mod kept;

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::{constant_time, digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use issuer::{Authority, Granted};
pub use issuer::{IssuerError, SignInSettings};
use kept::{Kept, Pending};
use secrecy::SecretString;

use super::{Principal, Rejection, Standing, Verifier};
use crate::{
    net::Connector,
    secrets::{Purpose, Seal, Sealer},
    store::{SessionRow, Store, StoreError},
    time::{SharedClock, Timestamp},
};

/// How long a sign-in may take.
const SIGN_IN: Duration = Duration::from_secs(600);
/// A token that ends within this is renewed first.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// That a session was used is noted this often.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// How long one renewal may take before another is tried.
const RENEWAL: Duration = Duration::from_secs(30);
/// How often whoever waits for another's renewal looks, and how many times.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS: u32 = 100;
/// Random bytes of a session.
const SECRET: usize = 32;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The browser brings another sign-in than was begun in it, or an old one.
    #[error("this is not the sign-in that was begun in this browser, or it took too long")]
    State,
    /// The issuer, or what it gave out.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The gate does not accept the issuer's token.
    #[error("the issuer's token is not accepted here")]
    NotAccepted(#[source] Rejection),
    /// There is no such session any more.
    #[error("the session has ended")]
    Ended,
    /// Whether there is cannot be known now.
    #[error("sessions cannot be read now")]
    Unknown,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine gives no random bytes, or a seal fails.
    #[error("the gate cannot make a session")]
    Broken,
}

/// Where a browser is sent, and what it keeps meanwhile.
pub struct Begun {
    /// The issuer's page.
    pub page: String,
    /// The sign-in under way, sealed.
    pub pending: String,
}

/// A session that began.
pub struct SignedIn {
    /// What the browser keeps.
    pub secret: SecretString,
    /// The session's digest: its name in records and revocations.
    pub session: String,
    /// Who signed in.
    pub principal: Principal,
    /// Where the browser wanted to go.
    pub return_to: String,
}

/// Whoever comes with a session.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Who it is, by the issuer's token.
    pub principal: Principal,
    /// The session's digest.
    pub session: String,
}

/// A session that ended.
#[derive(Debug)]
pub struct SignedOut {
    /// Whose it was: the issuer's name and the subject of its ID token.
    pub caller: String,
    /// Where the issuer ends its own session, if it says.
    pub page: Option<String>,
}

/// Signs browsers in and out, at one issuer.
pub struct Sessions {
    authority: Authority,
    verifier: Arc<Verifier>,
    store: Store,
    pending: Sealer,
    kept: Sealer,
    clock: SharedClock,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({:?})", self.authority)
    }
}

impl Sessions {
    /// Sessions at the issuer of `settings`, kept in `store` under keys of `seal`.
    #[must_use]
    pub fn new(
        settings: SignInSettings,
        verifier: Arc<Verifier>,
        store: Store,
        seal: &Seal,
        connector: Connector,
        clock: SharedClock,
    ) -> Self {
        Self {
            authority: Authority::new(settings, connector, Arc::clone(&clock)),
            verifier,
            store,
            pending: seal.sealer(Purpose::SignIn),
            kept: seal.sealer(Purpose::Session),
            clock,
        }
    }

    /// How long a session may live.
    #[must_use]
    pub fn max_age(&self) -> Duration {
        self.authority.settings().max_age
    }

    /// Begins a sign-in that is to end at `return_to`, a path of this listener.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn begin(&self, return_to: &str) -> Result<Begun, SessionError> {
        let asked = self.authority.ask().await?;
        let pending = Pending {
            state: asked.state,
            nonce: asked.nonce,
            verifier: asked.verifier,
            return_to: return_to.to_owned(),
            expires: self.clock.now().plus(SIGN_IN).as_millis(),
        };
        let pending = pending.seal(&self.pending).ok_or(SessionError::Broken)?;
        Ok(Begun { page: asked.page, pending })
    }

    /// Ends a sign-in in the browser that began it, and begins a session. A session that the browser
    /// came with (`before`) ends: its secret may be known to whoever put it there.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn complete(
        &self,
        pending: &str,
        state: &str,
        code: &str,
        before: Option<&str>,
    ) -> Result<SignedIn, SessionError> {
        let now = self.clock.now();
        let pending = self.pending(pending, state)?;
        let granted = self.authority.redeem(code, &pending.nonce, &pending.verifier).await?;
        let (kept, principal) = self.verified(granted).await?;
        let mut bytes = [0; SECRET];
        rand::fill(&mut bytes).map_err(|_| SessionError::Broken)?;
        let secret = SecretString::from(URL_SAFE_NO_PAD.encode(bytes));
        let session = hex(&bytes);
        let row = SessionRow {
            sealed: kept.seal(&self.kept, &session).ok_or(SessionError::Broken)?,
            id: session.clone(),
            version: 0,
            issuer: principal.id.issuer.to_string(),
            subject: kept.subject.clone(),
            issuer_session: kept.issuer_session.clone(),
            created: now,
            seen: now,
            expires: now.plus(self.max_age()),
        };
        if let Some(before) = before.and_then(digest_of) {
            self.store.end_session(&before).await?;
        }
        self.store.begin_session(row).await?;
        Ok(SignedIn { secret, session, principal, return_to: pending.return_to })
    }

    /// The sign-in under way in a browser, if it is the one of `state`: also asked where the issuer
    /// refuses, so that nobody else ends it.
    ///
    /// # Errors
    /// [`SessionError::State`].
    fn pending(&self, pending: &str, state: &str) -> Result<Pending, SessionError> {
        let pending = Pending::open(&self.pending, pending).ok_or(SessionError::State)?;
        let same = constant_time::verify_slices_are_equal(pending.state.as_bytes(), state.as_bytes());
        if same.is_err() || self.clock.now().as_millis() >= pending.expires {
            return Err(SessionError::State);
        }
        Ok(pending)
    }

    /// The configured issuer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.authority.settings().name
    }

    /// The issuer's name for itself, which a browser that comes back brings along (RFC 9207).
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.authority.settings().issuer
    }

    /// Whoever comes with a session, its token renewed if it is about to end.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn visitor(&self, secret: &str) -> Result<Visitor, SessionError> {
        let session = digest_of(secret).ok_or(SessionError::Ended)?;
        if self.verifier.revoked().ends_session(&session, self.clock.now()) {
            return Err(SessionError::Ended);
        }
        let (mut row, mut kept) = self.read(&session).await?;
        let now = self.clock.now();
        if Timestamp::from_millis(kept.ends) <= now.plus(RENEW_BEFORE) {
            (row, kept) = self.renewed(row, kept).await?;
        } else if now.since(row.seen) >= NOTE_EVERY {
            let sealed = row.sealed.clone();
            // Whoever else changed it meanwhile noted a use, too.
            self.store.renew_session(&row, sealed, now, row.expires).await?;
        }
        let principal = self.accepted(&kept.token).await?;
        Ok(Visitor { principal, session: row.id })
    }

    /// Ends a session; `None` if there was none.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn end(&self, secret: &str) -> Result<Option<SignedOut>, SessionError> {
        let Some(session) = digest_of(secret) else { return Ok(None) };
        let Some(row) = self.store.session(&session).await? else { return Ok(None) };
        if !self.store.end_session(&session).await? {
            return Ok(None);
        }
        let kept = Kept::open(&self.kept, &session, &row.sealed);
        let hint = kept.as_ref().and_then(|kept| kept.id_token.as_deref());
        // The session has ended whether or not the issuer can be asked.
        let page = self.authority.sign_out_page(hint).await.ok().flatten();
        Ok(Some(SignedOut { caller: format!("{}:{}", row.issuer, row.subject), page }))
    }

    /// Ends the sessions that a logout token of the issuer names (OpenID Connect Back-Channel Logout
    /// 1.0); whose they were. A token is good once.
    ///
    /// # Errors
    /// [`SessionError::NotAccepted`] for a token that is none, [`SessionError::Ended`] for one that was
    /// used, else the store's.
    pub async fn logged_out(&self, token: &str) -> Result<Vec<String>, SessionError> {
        let settings = self.authority.settings();
        let named = self
            .verifier
            .logout_token(&settings.name, &settings.client_id, token)
            .await
            .map_err(SessionError::NotAccepted)?;
        let once = format!("{}\n{}", settings.name, named.id);
        if !self.store.spend("logout token", &hex(once.as_bytes()), named.remember_until).await? {
            return Err(SessionError::Ended);
        }
        let (subject, session) = (named.subject.as_deref(), named.session.as_deref());
        let ended = self.store.end_sessions(&settings.name, subject, session).await?;
        Ok(ended.into_iter().map(|(_, subject)| format!("{}:{subject}", settings.name)).collect())
    }

    async fn read(&self, session: &str) -> Result<(SessionRow, Kept), SessionError> {
        let row = self.store.session(session).await?.ok_or(SessionError::Ended)?;
        let now = self.clock.now();
        if now >= row.expires || now.since(row.seen) > self.authority.settings().idle {
            self.store.end_session(session).await?;
            return Err(SessionError::Ended);
        }
        // Sealed under a key that is gone: as good as ended.
        let kept = Kept::open(&self.kept, session, &row.sealed).ok_or(SessionError::Ended)?;
        Ok((row, kept))
    }

    /// One request renews, on whichever replica; the others wait for what it brings.
    async fn renewed(&self, row: SessionRow, kept: Kept) -> Result<(SessionRow, Kept), SessionError> {
        let now = self.clock.now();
        let ended = Timestamp::from_millis(kept.ends) <= now;
        let Some(refresh) = &kept.refresh else {
            // It lives as long as its token.
            return if ended { self.over(&row.id).await } else { Ok((row, kept)) };
        };
        let turn = now.as_millis() / u64::try_from(RENEWAL.as_millis()).unwrap_or(u64::MAX);
        let place = hex(format!("{}\n{}\n{turn}", row.id, kept.ends).as_bytes());
        if !self.store.spend("session renewal", &place, now.plus(RENEWAL * 2)).await? {
            if !ended {
                return Ok((row, kept));
            }
            return self.awaited(&row.id, kept.ends).await;
        }
        let granted = match self.authority.renew(refresh).await {
            Ok(granted) => granted,
            Err(error) if error.is_final() => return self.over(&row.id).await,
            Err(_) if !ended => return Ok((row, kept)),
            Err(error) => return Err(error.into()),
        };
        let (mut renewed, _) = self.verified(granted).await?;
        if renewed.id_token.is_none() {
            renewed.id_token.clone_from(&kept.id_token);
        }
        if renewed.subject.is_empty() {
            renewed.subject.clone_from(&kept.subject);
        } else if renewed.subject != kept.subject {
            // OpenID Connect Core, 12.2: a renewal speaks of the same person.
            return self.over(&row.id).await;
        }
        let sealed = renewed.seal(&self.kept, &row.id).ok_or(SessionError::Broken)?;
        if self.store.renew_session(&row, sealed.clone(), now, row.expires).await? {
            return Ok((SessionRow { sealed, version: row.version + 1, seen: now, ..row }, renewed));
        }
        // Somebody noted a use, or ended it, meanwhile: once more upon what stands there now.
        let (row, _) = self.read(&row.id).await?;
        if !self.store.renew_session(&row, sealed.clone(), now, row.expires).await? {
            return Err(SessionError::Unknown);
        }
        Ok((row, renewed))
    }

    async fn awaited(&self, session: &str, old: u64) -> Result<(SessionRow, Kept), SessionError> {
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK_EVERY).await;
            let (row, kept) = self.read(session).await?;
            if kept.ends != old {
                return Ok((row, kept));
            }
        }
        Err(SessionError::Unknown)
    }

    async fn over<T>(&self, session: &str) -> Result<T, SessionError> {
        self.store.end_session(session).await?;
        Err(SessionError::Ended)
    }

    /// What is kept of what the issuer gave out, once the gate accepts a token of it as a caller's:
    /// the access token, or where that is for somebody else, the ID token.
    async fn verified(&self, granted: Granted) -> Result<(Kept, Principal), SessionError> {
        let Granted { access, id_token, refresh, subject, issuer_session, binds } = granted;
        let (token, principal) = match (self.accepted(&access).await, &id_token) {
            (Ok(principal), _) => {
                // An access token of somebody else, put into the issuer's answer.
                if !binds.hold(&principal.claims) {
                    return Err(IssuerError::IdToken("the access token is not its own".to_owned()).into());
                }
                (access, principal)
            }
            (Err(SessionError::NotAccepted(why)), Some(id)) if !why.is_outage() => {
                let principal = self.accepted(id).await.map_err(|_| SessionError::NotAccepted(why))?;
                (id.clone(), principal)
            }
            (Err(error), _) => return Err(error),
        };
        let ends = principal.expires.as_millis();
        Ok((Kept { token, refresh, id_token, subject, issuer_session, ends }, principal))
    }

    async fn accepted(&self, token: &str) -> Result<Principal, SessionError> {
        let principal = self.verifier.authenticate(token).await.map_err(SessionError::NotAccepted)?;
        match self.verifier.revoked().standing(&principal, self.clock.now()) {
            Standing::Stands => Ok(principal),
            Standing::Revoked => Err(SessionError::Ended),
            Standing::Unknown => Err(SessionError::Unknown),
        }
    }
}

/// The digest of what a browser holds; `None` for what never was a session.
fn digest_of(secret: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(secret).ok().filter(|bytes| bytes.len() == SECRET)?;
    Some(hex(&bytes))
}

/// SHA-256 in hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().fold(
        String::with_capacity(64),
        |mut text, byte| {
            use fmt::Write as _;
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        },
    )
}
