//! What the cache holds: tokens and failures, each with its end.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use secrecy::ExposeSecret;

use super::{CredentialError, entra::Fetched, moment::Moment, person::Person};
use crate::{azureml::Audience, time::Timestamp};

/// A fetch that failed for good is not tried again for so long; Microsoft's libraries do the same.
const FATAL_FOR: Duration = Duration::from_secs(60);
/// A fetch that failed for now is not tried again for so long, unless the other side says.
pub(super) const PASSING_FOR: Duration = Duration::from_secs(5);
/// A token that lives at least so long is renewed at half its life; a shorter one before its last
/// five minutes.
const LONG_LIVED: Duration = Duration::from_secs(7_200);
pub(super) const LAST_MINUTES: Duration = Duration::from_secs(300);
/// A machine may hand out the same token until shortly before its end: it is not asked more often.
const SELDOM: Duration = Duration::from_secs(30);
/// A token is given up so long before its end: a request takes its time to arrive.
const MARGIN: Duration = Duration::from_secs(10);
/// A token that was refused is asked for anew only if it is at least so old: a fresh one would be
/// refused again.
const YOUNG: Duration = Duration::from_secs(10);

/// Everything that changes what a token can do. The tenant and the client are the credential's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub credential: Arc<str>,
    /// The credential's identity, which other settings may change.
    pub identity: u64,
    pub audience: Audience,
    /// The digest of the claims that a challenge demanded.
    pub claims: Option<[u8; 32]>,
    /// Whom the token speaks for, if not for the credential itself.
    pub person: Option<Person>,
}

impl Key {
    /// The same without a challenge: what every other request uses.
    pub(super) fn unchallenged(&self) -> Self {
        Self { claims: None, ..self.clone() }
    }
}

/// A token, ready to be sent.
pub(super) struct Token {
    pub header: HeaderValue,
    asked: Moment,
    renew_at: Moment,
    expires: Moment,
    renewing: AtomicBool,
}

impl Token {
    /// From an answer to a question of that moment. Its life is counted from the question, so that
    /// it never outlives Azure's own count.
    pub(super) fn new(fetched: &Fetched, asked: Moment) -> Result<Self, CredentialError> {
        let life = fetched.expires_in;
        let renew_in = fetched
            .refresh_in
            .unwrap_or_else(|| if life >= LONG_LIVED { life / 2 } else { life.saturating_sub(LAST_MINUTES) });
        let header = bearer(fetched.token.expose_secret())
            .ok_or_else(|| CredentialError::passing("the token endpoint's answer is no token"))?;
        Ok(Self {
            header,
            asked,
            renew_at: asked.plus(renew_in.max(SELDOM).min(life)),
            expires: asked.plus(life.saturating_sub(MARGIN)),
            renewing: AtomicBool::new(false),
        })
    }

    /// The same, but over at `end` at the latest: when the token ends that it was exchanged for.
    pub(super) fn until(self, end: Timestamp) -> Result<Self, CredentialError> {
        let left = end.since(self.asked.wall());
        if left.is_zero() {
            return Err(CredentialError::CallerTokenOver("your token has ended".to_owned()));
        }
        let expires = self.expires.earlier(self.asked.plus(left));
        Ok(Self { expires, ..self })
    }

    /// How long it may still be kept.
    pub(super) fn left(&self, now: Moment) -> Duration {
        now.until(self.expires)
    }

    /// The same after a renewal that failed: it is tried again at `renew_at`.
    pub(super) fn kept(&self, renew_at: Moment) -> Self {
        Self { header: self.header.clone(), renew_at, renewing: AtomicBool::new(false), ..*self }
    }

    /// Whether it is time to renew it and nobody does so yet; the one who asks does it then.
    pub(super) fn is_to_be_renewed(&self, now: Moment) -> bool {
        now.has_reached(self.renew_at) && !self.renewing.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_over(&self, now: Moment) -> bool {
        now.has_reached(self.expires)
    }

    /// Whether a refusal of this token is a reason to ask for another.
    pub(super) fn was_refused(&self, refused: &HeaderValue, now: Moment) -> bool {
        self.header == refused && now.has_reached(self.asked.plus(YOUNG))
    }

    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        self.asked.is_before(other.asked)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// `Bearer` and a secret, marked as sensitive; `None` if the secret cannot stand in a header.
pub(super) fn bearer(secret: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {secret}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// What stands in the cache.
#[derive(Debug, Clone)]
pub(super) enum Cached {
    Token(Arc<Token>),
    Failure { error: CredentialError, until: Moment },
}

impl Cached {
    pub(super) fn failure(error: CredentialError, now: Moment) -> Self {
        let pause = match &error {
            CredentialError::Passing { retry_after, .. } => retry_after.unwrap_or(PASSING_FOR),
            CredentialError::Fatal { .. }
            | CredentialError::Unknown(_)
            | CredentialError::NotAPerson { .. }
            | CredentialError::SignInWanted { .. }
            | CredentialError::CallerTokenOver(_) => FATAL_FOR,
        };
        Self::Failure { error, until: now.plus(pause) }
    }

    /// Whether it must be fetched anew.
    pub(super) fn is_over(&self, now: Moment, refused: Option<&HeaderValue>) -> bool {
        match self {
            Self::Token(token) => token.is_over(now) || refused.is_some_and(|r| token.was_refused(r, now)),
            Self::Failure { until, .. } => now.has_reached(*until),
        }
    }

    /// How long it may still be kept.
    pub(super) fn left(&self, now: Moment) -> Duration {
        match self {
            Self::Token(token) => token.left(now),
            Self::Failure { until, .. } => now.until(*until),
        }
    }

    pub(super) fn answer(self) -> Result<HeaderValue, CredentialError> {
        match self {
            Self::Token(token) => Ok(token.header.clone()),
            Self::Failure { error, .. } => Err(error),
        }
    }
}
