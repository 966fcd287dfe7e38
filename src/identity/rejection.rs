//! Why a token is not accepted.
//!
//! Callers learn nothing of it: every rejection but an outage ([`Rejection::is_outage`]) and
//! [`Reason::LimitedUser`] (read off the header, before any key) is the same 401.
//! The reason's name goes to the record and the metrics; the two values, found and expected, are
//! for `token verify` alone, and hold claims of the token, never the token or its signature.

use std::fmt;

/// The check that failed. Names are stable: they stand in records and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not a compact JWS of two JSON objects: size, segments, base64url, JSON, depth.
    Malformed,
    /// `iss` is no configured issuer's, to the letter.
    Issuer,
    /// `alg` is absent, no signature algorithm, or not on the issuer's list.
    Algorithm,
    /// `typ` is another kind of token: a logout token, a proof, a security event.
    Type,
    /// A limited user token of Backstage, which is no bearer: it only travels inside another.
    LimitedUser,
    /// A header that changes the meaning of the token: `crit`, `b64`, `zip`, `enc`.
    Header,
    /// `kid` is absent, no string, or too long.
    KeyId,
    /// No usable key of the issuer has this `kid`.
    Key,
    /// The signature does not verify.
    Signature,
    /// `exp` has passed.
    Expired,
    /// `nbf` has not come.
    NotYetValid,
    /// `iat` lies in the future.
    IssuedInFuture,
    /// It lives longer than the issuer's tokens may.
    Lifetime,
    /// `aud` does not hold one of the issuer's audiences, to the letter.
    Audience,
    /// A claim is absent, of the wrong JSON type, or out of bounds.
    Claim,
    /// `tid` is another tenant.
    Tenant,
    /// An Entra token with neither `scp` nor `roles`: nobody granted it anything here.
    Unscoped,
    /// It lacks a claim that the issuer's `accept` demands.
    NotAccepted,
    /// It is bound to a key (`cnf`) in a way whose proof cannot be checked.
    Bound,
    /// The groups, which the token lacks, could not be had from the issuer: 503, not 401.
    GroupsUnavailable,
    /// The issuer's keys could not be fetched, or not for too long: 503, not 401.
    KeysUnavailable,
}

impl Reason {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::LimitedUser => "limited_user",
            Self::Header => "header",
            Self::KeyId => "key_id",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::Lifetime => "lifetime",
            Self::Audience => "audience",
            Self::Claim => "claim",
            Self::Tenant => "tenant",
            Self::Unscoped => "unscoped",
            Self::NotAccepted => "not_accepted",
            Self::Bound => "bound",
            Self::GroupsUnavailable => "groups_unavailable",
            Self::KeysUnavailable => "keys_unavailable",
        }
    }

    /// What is wrong, in words.
    const fn words(self) -> &'static str {
        match self {
            Self::Malformed => "the token is malformed",
            Self::Issuer => "no issuer of this name is configured",
            Self::Algorithm => "the signature algorithm is not accepted",
            Self::Type => "this kind of token is not accepted",
            Self::LimitedUser => "a limited user token of Backstage is not accepted as a bearer",
            Self::Header => "the header asks for what is not supported",
            Self::KeyId => "the header does not name its key",
            Self::Key => "the issuer publishes no usable key of this id",
            Self::Signature => "the signature does not verify",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::IssuedInFuture => "the token was issued in the future",
            Self::Lifetime => "the token lives too long",
            Self::Audience => "the token is for another audience",
            Self::Claim => "a claim is missing or malformed",
            Self::Tenant => "the token is from another tenant",
            Self::Unscoped => "the token carries neither a scope nor an application role",
            Self::NotAccepted => "the issuer's `accept` demands a claim that the token lacks",
            Self::Bound => {
                "the token is bound to something that did not come with it, or that cannot be checked"
            }
            Self::GroupsUnavailable => "the caller's groups cannot be had from the issuer",
            Self::KeysUnavailable => "the issuer's keys are not available",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// A token that was not accepted: which check failed, and on what.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejection {
    reason: Reason,
    found: Option<Box<str>>,
    expected: Option<Box<str>>,
}

/// Longer values are cut: they are for reading.
const SHOWN: usize = 300;

impl Rejection {
    pub(in crate::identity) fn new(reason: Reason) -> Self {
        Self { reason, found: None, expected: None }
    }

    /// Adds what the token holds: a claim or header, never the token itself.
    pub(in crate::identity) fn found(mut self, value: impl fmt::Display) -> Self {
        self.found = Some(shown(value));
        self
    }

    /// Adds what was wanted.
    pub(in crate::identity) fn expected(mut self, value: impl fmt::Display) -> Self {
        self.expected = Some(shown(value));
        self
    }

    /// The check that failed.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What the token held, for people who hold the token.
    #[must_use]
    pub fn value_found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// What was wanted.
    #[must_use]
    pub fn value_expected(&self) -> Option<&str> {
        self.expected.as_deref()
    }

    /// Whether the gate could not judge, rather than the token being bad: the answer is 503 with
    /// `Retry-After`, so that clients do not throw good tokens away.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self.reason, Reason::KeysUnavailable | Reason::GroupsUnavailable)
    }
}

// Values of a token do not belong in logs.
impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rejection({})", self.reason.name())
    }
}

/// Bounded, and with nothing that moves a terminal's cursor.
fn shown(value: impl fmt::Display) -> Box<str> {
    let text = value.to_string();
    let mut out: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out.replace("\\\"", "\"").replace("\\'", "'").into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_in_a_log_holds_no_value_of_the_token() {
        let rejection = Rejection::new(Reason::Audience).found("secret-ish").expected("api://amlgate");
        assert_eq!(format!("{rejection:?}"), "Rejection(audience)");
        assert_eq!(rejection.to_string(), "the token is for another audience");
        assert_eq!(rejection.value_found(), Some("secret-ish"));
    }

    #[test]
    fn shown_values_are_bounded_and_move_no_cursor() {
        let rejection = Rejection::new(Reason::Issuer).found(format!("\u{1b}[2J{}", "x".repeat(9_000)));
        let shown = rejection.value_found().unwrap();
        assert!(shown.len() < 400 && !shown.contains('\u{1b}'), "{shown}");
    }
}
