//! What is refused though it verifies: revocations as a snapshot that every core reads.
//!
//! The control runtime replaces the snapshot when the store holds another (it looks every 500 ms, and
//! at once after a revocation of its own). A request never asks the store. While the store cannot be
//! read the last snapshot counts: a revocation that was known stays known. Whatever the gate itself
//! signed lives by it, so after [`MAX_AGE`] without news that is denied (DECISIONS 26).

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use serde_json::Value;

use super::{
    Caller,
    offline::{GLASS, Vouching},
};
use crate::{
    store::{Revocation, RevocationKind, Revocations},
    time::Timestamp,
};

/// How old the snapshot may be for what depends on it.
pub const MAX_AGE: Duration = Duration::from_secs(5);
/// In revocations, the issuer of tokens that the gate signed.
pub const OWN: &str = "amlgate";
/// The claim in which a verified caller's own claims say that the gate signed the token.
pub(super) const MARK: &str = "amlgate";

/// Whether a caller may go on, as far as revocations say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is said against it.
    Stands,
    /// It is revoked: 401.
    Revoked,
    /// Nothing recent is known, and it must be: 503.
    Unknown,
}

/// The revocations that count now. Shared by all cores.
#[derive(Default)]
pub struct Revoked {
    current: ArcSwap<Snapshot>,
    /// When the store was last read, in milliseconds.
    read: AtomicU64,
    /// For which break-glass codes identify people.
    vouching: Arc<Vouching>,
}

/// What is stopped of one kind and issuer, by value.
type Values = HashMap<Box<str>, Vec<Stop>>;

#[derive(Default)]
struct Snapshot {
    version: Option<i64>,
    /// By kind, issuer and value.
    stops: HashMap<RevocationKind, HashMap<Box<str>, Values>>,
}

impl Snapshot {
    fn of(&self, kind: RevocationKind, issuer: &str) -> Option<&Values> {
        self.stops.get(&kind)?.get(issuer)
    }
}

struct Stop {
    issued_before: Option<Timestamp>,
    expires: Timestamp,
}

impl Stop {
    fn stops(&self, issued: Option<Timestamp>, now: Timestamp) -> bool {
        // What does not say when it was issued may be old.
        now < self.expires
            && self.issued_before.is_none_or(|before| issued.is_none_or(|issued| issued <= before))
    }
}

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current.load();
        write!(f, "Revoked(version {:?}, read {:?})", current.version, self.read())
    }
}

impl Revoked {
    /// The version of the snapshot, to ask the store whether it has another.
    #[must_use]
    pub fn version(&self) -> Option<i64> {
        self.current.load().version
    }

    /// When the store was last read.
    #[must_use]
    pub fn read(&self) -> Timestamp {
        Timestamp::from_millis(self.read.load(Ordering::Relaxed))
    }

    fn is_recent(&self, now: Timestamp) -> bool {
        now.since(self.read()) <= MAX_AGE
    }

    /// Takes over what was read of the store at `now`; `None` says that nothing changed.
    pub fn follow(&self, news: Option<Revocations>, now: Timestamp) {
        self.read.store(now.as_millis(), Ordering::Relaxed);
        let Some(news) = news else { return };
        // Two readings may cross: the later state stays.
        if self.version().is_some_and(|version| version > news.version) {
            return;
        }
        let mut stops: HashMap<_, HashMap<Box<str>, Values>> = HashMap::new();
        for Revocation { kind, issuer, value, issued_before, expires, .. } in news.list {
            let of = stops.entry(kind).or_default().entry(issuer.into_boxed_str()).or_default();
            of.entry(value.into_boxed_str()).or_default().push(Stop { issued_before, expires });
        }
        self.current.store(Snapshot { version: Some(news.version), stops }.into());
    }

    /// For which break-glass codes identify people: whoever knows tells it.
    #[must_use]
    pub const fn vouching(&self) -> &Arc<Vouching> {
        &self.vouching
    }

    /// Whether a verified caller may go on: nobody revoked them, and whom a code identifies does so for
    /// the break-glass that is open.
    #[must_use]
    pub fn standing(&self, caller: &Caller, now: Timestamp) -> Standing {
        let current = self.current.load();
        let own = caller.claims.get(MARK).and_then(Value::as_object);
        if !current.stops.is_empty() {
            let date = |value: Option<&Value>| value.and_then(Value::as_f64).map(seconds);
            let issued = date(caller.claims.get("iat"));
            let stopped = |kind, issuer: &str, value: &str| {
                let stops = current.of(kind, issuer).and_then(|of| of.get(value));
                stops.is_some_and(|stops| stops.iter().any(|stop| stop.stops(issued, now)))
            };
            let id = |value: Option<&Value>, issuer: &str| {
                value
                    .and_then(Value::as_str)
                    .is_some_and(|value| stopped(RevocationKind::Token, issuer, value))
            };
            let person =
                |id: &super::PrincipalId| stopped(RevocationKind::Principal, &id.issuer, &id.subject);
            if person(&caller.id)
                || caller.human.as_ref().is_some_and(person)
                // `uti` is Entra's word for it.
                || id(caller.claims.get("jti"), &caller.id.issuer)
                || id(caller.claims.get("uti"), &caller.id.issuer)
                || own.is_some_and(|own| id(own.get("jti"), OWN))
            {
                return Standing::Revoked;
            }
        }
        let Some(own) = own else { return Standing::Stands };
        if !self.is_recent(now) {
            return Standing::Unknown;
        }
        match own.get(GLASS) {
            None => Standing::Stands,
            Some(Value::String(glass)) => self.vouching.standing(glass, now),
            Some(_) => Standing::Revoked,
        }
    }

    /// Whether what a principal, by the text of its id, did at `then` counts no more.
    #[must_use]
    pub fn revokes(&self, principal: &str, then: Timestamp, now: Timestamp) -> bool {
        let Some((issuer, subject)) = principal.split_once(':') else { return true };
        let current = self.current.load();
        let stops = current.of(RevocationKind::Principal, issuer).and_then(|of| of.get(subject));
        stops.is_some_and(|stops| stops.iter().any(|stop| stop.stops(Some(then), now)))
    }

    /// Whether a session of this digest is revoked. That there is one is asked of the store itself.
    #[must_use]
    pub fn ends_session(&self, digest: &str, now: Timestamp) -> bool {
        let current = self.current.load();
        let stops = current.of(RevocationKind::Session, "").and_then(|of| of.get(digest));
        stops.is_some_and(|stops| stops.iter().any(|stop| stop.stops(None, now)))
    }
}

/// A claim's date; what is none was refused before.
fn seconds(value: f64) -> Timestamp {
    Timestamp::from_millis((value.max(0.0) * 1_000.0) as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::identity::{Groups, PrincipalId, PrincipalKind};

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn caller(subject: &str, claims: Value) -> Caller {
        let claims: Map<_, _> = claims.as_object().unwrap().clone();
        Caller {
            id: PrincipalId { issuer: "corp".into(), subject: subject.into() },
            human: None,
            kind: PrincipalKind::Person,
            tenant: None,
            client: None,
            display: None,
            groups: Groups::Overage,
            roles: std::sync::Arc::default(),
            claims: std::sync::Arc::new(claims),
            expires: at(10_000),
            from_pull_request: false,
            subjects_at_issue: None,
            reviewers: None,
            token_digest: [0; 32],
        }
    }

    fn revoked(kind: RevocationKind, issuer: &str, value: &str, before: Option<u64>) -> Revoked {
        let one = Revocation {
            id: "r".to_owned(),
            kind,
            issuer: issuer.to_owned(),
            value: value.to_owned(),
            issued_before: before.map(at),
            made: at(100),
            expires: at(1_000),
            by: "corp:operator".to_owned(),
            reason: "lost".to_owned(),
        };
        let revoked = Revoked::default();
        revoked.follow(Some(Revocations { version: 1, list: vec![one] }), at(100));
        revoked
    }

    #[test]
    fn a_principal_is_revoked_whole_or_up_to_an_instant() {
        let whole = revoked(RevocationKind::Principal, "corp", "ada", None);
        let before = revoked(RevocationKind::Principal, "corp", "ada", Some(100));
        let old = caller("ada", json!({"iat": 100}));
        let new = caller("ada", json!({"iat": 101}));
        let silent = caller("ada", json!({}));
        assert_eq!(whole.standing(&new, at(101)), Standing::Revoked);
        assert_eq!(before.standing(&old, at(101)), Standing::Revoked);
        assert_eq!(before.standing(&new, at(101)), Standing::Stands);
        assert_eq!(before.standing(&silent, at(101)), Standing::Revoked);
        assert_eq!(whole.standing(&old, at(1_000)), Standing::Stands, "it has expired");
        assert_eq!(whole.standing(&caller("ben", json!({"iat": 1})), at(101)), Standing::Stands);
        let mut elsewhere = caller("ada", json!({}));
        elsewhere.id.issuer = "other".into();
        assert_eq!(whole.standing(&elsewhere, at(101)), Standing::Stands);
        elsewhere.human = Some(PrincipalId { issuer: "corp".into(), subject: "ada".into() });
        assert_eq!(whole.standing(&elsewhere, at(101)), Standing::Revoked, "the same human");
    }

    #[test]
    fn a_token_is_revoked_by_its_id_under_its_issuer_and_whatever_came_of_it() {
        let revoked_one = revoked(RevocationKind::Token, "corp", "t-1", None);
        for (claims, standing) in [
            (json!({"jti": "t-1"}), Standing::Revoked),
            (json!({"uti": "t-1"}), Standing::Revoked),
            (json!({"jti": "t-1", "amlgate": {"jti": "own"}}), Standing::Revoked),
            (json!({"jti": "t-2"}), Standing::Stands),
            (json!({"jti": "t-2", "amlgate": {"jti": "t-1"}}), Standing::Stands),
        ] {
            assert_eq!(revoked_one.standing(&caller("ada", claims.clone()), at(101)), standing, "{claims}");
        }
        let own = revoked(RevocationKind::Token, OWN, "own", None);
        let exchanged = caller("ada", json!({"jti": "t-1", "amlgate": {"jti": "own"}}));
        assert_eq!(own.standing(&exchanged, at(101)), Standing::Revoked);
    }

    #[test]
    fn without_news_what_the_gate_signed_is_denied_and_nothing_else() {
        let revoked = revoked(RevocationKind::Principal, "corp", "eve", None);
        let own = caller("ada", json!({"amlgate": {"jti": "own"}}));
        assert_eq!(revoked.standing(&own, at(105)), Standing::Stands);
        assert_eq!(revoked.standing(&own, at(106)), Standing::Unknown);
        assert_eq!(revoked.standing(&caller("ada", json!({})), at(106)), Standing::Stands);
        assert_eq!(revoked.standing(&caller("eve", json!({})), at(106)), Standing::Revoked);
        revoked.follow(None, at(106));
        assert_eq!(revoked.standing(&own, at(106)), Standing::Stands);
        let never = Revoked::default();
        assert_eq!(never.standing(&own, at(106)), Standing::Unknown);
    }

    #[test]
    fn what_somebody_did_counts_no_more_once_they_are_revoked_up_to_then() {
        let before = revoked(RevocationKind::Principal, "corp", "t/ada", Some(100));
        assert!(before.revokes("corp:t/ada", at(100), at(200)));
        assert!(!before.revokes("corp:t/ada", at(101), at(200)));
        assert!(!before.revokes("corp:t/ben", at(100), at(200)));
        assert!(!before.revokes("corp:t/ada", at(100), at(1_000)), "it has expired");
        assert!(before.revokes("nobody", at(101), at(200)), "who cannot be read is nobody to go by");
    }

    #[test]
    fn an_earlier_state_never_replaces_a_later_one() {
        let revoked = revoked(RevocationKind::Principal, "corp", "eve", None);
        revoked.follow(Some(Revocations { version: 0, list: vec![] }), at(101));
        assert_eq!(revoked.standing(&caller("eve", json!({})), at(102)), Standing::Revoked);
        revoked.follow(Some(Revocations { version: 2, list: vec![] }), at(102));
        assert_eq!(revoked.standing(&caller("eve", json!({})), at(102)), Standing::Stands);
    }
}
