//! Software that asks in somebody's name, and whether whoever answers is that somebody: pure.
//!
//! A portal such as Clutch calls with an identity of its own and says for whom. That is its word and
//! nobody's proof, so it gives nobody anything: who asked is the portal. It takes something, though:
//! whoever was named may not answer, and neither may anybody of whom it cannot be told that they are
//! somebody else.

use serde::{Deserialize, Serialize};

use crate::identity::Caller;

/// The longest name, in bytes.
pub const MAX_CLAIMED: usize = 256;

/// Claims that name people, besides the one that is configured.
const NAMES: &[&str] = &["sub", "email", "upn", "preferred_username", "unique_name", "login", "name"];

/// The one service that may ask in people's names, and how they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// The issuer of the service's tokens.
    pub issuer: String,
    /// Its subject there.
    pub subject: String,
    /// The issuer of the people in whose names it asks.
    pub people: String,
    /// The claim of their tokens that says what the service calls them.
    pub claim: String,
    /// The header that names them, if the service sends one.
    pub header: Option<http::HeaderName>,
}

impl Speaker {
    /// Whether somebody, by issuer and subject, is the service.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        id.strip_prefix(&*self.issuer).and_then(|rest| rest.strip_prefix(':')) == Some(&*self.subject)
    }

    /// Somebody in whose name it asks.
    #[must_use]
    pub fn claimed(&self, user: String) -> Claimed {
        Claimed { user, issuer: self.people.clone(), claim: self.claim.clone() }
    }
}

/// In whose name something was asked, by the word of who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// What they are called.
    pub user: String,
    /// The issuer that calls them so.
    pub issuer: String,
    /// In this claim.
    pub claim: String,
}

/// Whether somebody is the one in whose name was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// They are somebody else, or nobody was named.
    Other,
    /// They are.
    Same,
    /// Their token does not say.
    Unknown,
}

impl Claimed {
    /// Whether a caller is the one who is named, by any of their names. That they are not is believed
    /// only of a token of that issuer which says what they are called.
    #[must_use]
    pub fn likeness(&self, caller: &Caller) -> Likeness {
        let wanted = folded(&self.user);
        let is = |name: &str| folded(name) == wanted;
        let said = |claim: &str| caller.claims.get(claim).and_then(|value| value.as_str());
        let own = said(&self.claim);
        let ids = [&caller.id, caller.person()];
        let same = own.is_some_and(is)
            || NAMES.iter().filter_map(|claim| said(claim)).any(is)
            || ids.iter().any(|id| is(&id.to_string()) || is(&id.subject))
            || caller.display.as_deref().is_some_and(is);
        match (same, own) {
            (true, _) => Likeness::Same,
            (false, Some(name)) if *caller.id.issuer == *self.issuer && !name.trim().is_empty() => {
                Likeness::Other
            }
            (false, _) => Likeness::Unknown,
        }
    }
}

/// Names of people as they are compared: what reads the same is the same.
fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        identity::{Groups, PrincipalId, PrincipalKind},
        time::Timestamp,
    };

    fn caller(issuer: &str, subject: &str, claims: &Value) -> Caller {
        Caller {
            id: PrincipalId { issuer: issuer.into(), subject: subject.into() },
            human: None,
            kind: PrincipalKind::Person,
            tenant: None,
            client: None,
            display: None,
            groups: Groups::Known(Arc::new([])),
            roles: Arc::new([]),
            claims: Arc::new(claims.as_object().unwrap().clone()),
            expires: Timestamp::from_secs(0),
            from_pull_request: false,
            subjects_at_issue: None,
            reviewers: None,
            token_digest: [0; 32],
        }
    }

    fn claimed(user: &str) -> Claimed {
        Claimed { user: user.into(), issuer: "corp".into(), claim: "email".into() }
    }

    #[test]
    fn who_is_named_is_known_by_any_of_their_names_however_they_are_spelled() {
        let ann = json!({"email": "ann@example.com", "preferred_username": "ann"});
        let ann = caller("corp", "u-1", &ann);
        for name in ["ann@example.com", " Ann@Example.COM ", "ANN", "u-1", "corp:u-1"] {
            assert_eq!(claimed(name).likeness(&ann), Likeness::Same, "{name}");
        }
        assert_eq!(claimed("bob@example.com").likeness(&ann), Likeness::Other);
        let linked = Caller {
            human: Some(PrincipalId { issuer: "corp".into(), subject: "u-1".into() }),
            ..caller("portal", "p-9", &json!({"email": "other@example.com"}))
        };
        assert_eq!(claimed("corp:u-1").likeness(&linked), Likeness::Same);
    }

    #[test]
    fn who_cannot_be_told_apart_is_not_taken_for_another() {
        let bob = claimed("bob@example.com");
        let nameless = caller("corp", "u-1", &json!({}));
        let elsewhere = caller("portal", "u-1", &json!({"email": "ann@example.com"}));
        let several = caller("corp", "u-1", &json!({"email": ["ann@example.com"]}));
        let empty = caller("corp", "u-1", &json!({"email": " "}));
        for caller in [nameless, elsewhere, several, empty] {
            assert_eq!(bob.likeness(&caller), Likeness::Unknown, "{:?}", caller.id);
        }
    }

    #[test]
    fn only_the_service_itself_speaks_for_people() {
        let speaker = Speaker {
            issuer: "corp".into(),
            subject: "clutch".into(),
            people: "corp".into(),
            claim: "email".into(),
            header: None,
        };
        assert!(speaker.is("corp:clutch"));
        for other in ["corp:clutch2", "corp", "other:clutch", "corpclutch", "corp:"] {
            assert!(!speaker.is(other), "{other}");
        }
    }
}
