//! What a caller's sign-in must have been, and what to ask of the next one if it was not.
//!
//! A demand is judged by the token's claims alone: the authentication context (`acrs`, Entra), the
//! authentication class (`acr`), the methods (`amr`), and when the person signed in (`auth_time`).
//! A claim that is absent or of another form meets no demand. How the challenge is written for a
//! client is the business of whoever answers; it is not said here.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

use super::EntryRef;
use crate::{identity::Caller, time::Timestamp};

/// Clocks of issuer and gate may differ by so much before a sign-in lies in the future.
const SKEW: Duration = Duration::from_secs(60);

/// `step_up` of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepUp {
    pub sign_in: Option<SignIn>,
    pub max_age: Option<Duration>,
}

/// How the person must have signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SignIn {
    /// `acrs`: under this authentication context of Entra's; for another issuer's token, `acr`.
    Context(Box<str>),
    /// `acr_values`: with one of these classes.
    Classes(Box<[Box<str>]>),
    /// `amr`: by one of these methods.
    Methods(Box<[Box<str>]>),
}

impl StepUp {
    /// Whether the caller's sign-in is as demanded. Nobody who came with a handle is: it carries no
    /// claims.
    pub(super) fn is_met(&self, caller: &Caller, now: Timestamp) -> bool {
        let holds = |name: &str, wanted: &str| match caller.claims.get(name) {
            Some(Value::String(one)) => one == wanted,
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(wanted)),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
        };
        let signed_in = match &self.sign_in {
            None => true,
            Some(SignIn::Context(context)) => {
                holds("acrs", context) || (caller.tenant.is_none() && holds("acr", context))
            }
            Some(SignIn::Classes(classes)) => classes.iter().any(|class| holds("acr", class)),
            Some(SignIn::Methods(methods)) => methods.iter().any(|method| holds("amr", method)),
        };
        signed_in && self.max_age.is_none_or(|oldest| is_recent(&caller.claims, oldest, now))
    }

    /// What it demands, in words.
    pub(super) fn words(&self) -> String {
        let one_of =
            |all: &[Box<str>]| all.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(" or ");
        let sign_in = self.sign_in.as_ref().map(|sign_in| match sign_in {
            SignIn::Context(context) => format!("a sign-in under the authentication context `{context}`"),
            SignIn::Classes(classes) => format!("a sign-in of the class {}", one_of(classes)),
            SignIn::Methods(methods) => format!("a sign-in by the method {}", one_of(methods)),
        });
        let age = self.max_age.map(|age| format!("at most {} s ago", age.as_secs()));
        match (sign_in, age) {
            (Some(sign_in), Some(age)) => format!("{sign_in}, {age}"),
            (Some(sign_in), None) => sign_in,
            (None, Some(age)) => format!("a sign-in {age}"),
            (None, None) => "a sign-in".to_owned(),
        }
    }
}

/// Whether `auth_time` says that the sign-in is at most so old.
fn is_recent(claims: &Map<String, Value>, oldest: Duration, now: Timestamp) -> bool {
    let Some(at) = claims.get("auth_time").and_then(Value::as_u64).map(Timestamp::from_secs) else {
        return false;
    };
    at <= now.plus(SKEW) && now <= at.plus(oldest)
}

/// What the next sign-in must be: everything that unmet entries demand, taken together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepUpWanted {
    /// The issuer of the caller's token.
    pub issuer: Arc<str>,
    /// The caller's Entra tenant, if the issuer is Entra: its clients understand claims challenges.
    pub tenant: Option<Arc<str>>,
    /// Authentication contexts, all of them.
    pub contexts: Vec<Box<str>>,
    /// Authentication classes, one of them.
    pub classes: Vec<Box<str>>,
    /// Authentication methods, one of them.
    pub methods: Vec<Box<str>>,
    /// The greatest age of the sign-in.
    pub max_age: Option<Duration>,
}

impl StepUpWanted {
    pub(super) fn of(caller: &Caller) -> Self {
        Self { issuer: Arc::clone(&caller.id.issuer), tenant: caller.tenant.clone(), ..Self::default() }
    }

    pub(super) fn add(&mut self, demand: &StepUp) {
        fn put(list: &mut Vec<Box<str>>, more: &[Box<str>]) {
            for one in more {
                if !list.contains(one) {
                    list.push(one.clone());
                }
            }
        }
        match &demand.sign_in {
            None => {}
            Some(SignIn::Context(context)) => put(&mut self.contexts, std::slice::from_ref(context)),
            Some(SignIn::Classes(classes)) => put(&mut self.classes, classes),
            Some(SignIn::Methods(methods)) => put(&mut self.methods, methods),
        }
        self.max_age = match (self.max_age, demand.max_age) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// The `claims` request that a client of Entra passes on (OpenID Connect Core, section 5.5;
    /// `acrs` as "Developer guide to Conditional Access authentication context" has it).
    #[must_use]
    pub fn claims(&self) -> Value {
        let mut wanted = Map::new();
        let mut put = |name: &str, values: &[Box<str>]| match values {
            [] => {}
            [one] => drop(wanted.insert(name.to_owned(), json!({"essential": true, "value": one}))),
            many => drop(wanted.insert(name.to_owned(), json!({"essential": true, "values": many}))),
        };
        put("acrs", &self.contexts);
        put("acr", &self.classes);
        put("amr", &self.methods);
        if self.max_age.is_some() {
            wanted.insert("auth_time".to_owned(), json!({"essential": true}));
        }
        json!({"access_token": wanted})
    }

    /// The classes that RFC 9470 asks for, separated by spaces; contexts count as classes there.
    #[must_use]
    pub fn acr_values(&self) -> Option<String> {
        let all: Vec<&str> = self.contexts.iter().chain(&self.classes).map(AsRef::as_ref).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }
}

/// An entry whose demand is not met.
pub(super) fn demanded(entry: &EntryRef, demand: &StepUp, caller: &Caller) -> (String, String) {
    let cause = format!("entry `{}` demands {}, which your token does not prove", entry.name, demand.words());
    let cure = if caller.subjects_at_issue.is_some() {
        "an endpoint key proves no sign-in: send a token of your own"
    } else {
        "sign in again as the `WWW-Authenticate` of this answer says; clients that know claims challenges do so by themselves"
    };
    (cause, cure.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::tests::{caller, noon};

    fn with(claims: Value, tenant: bool) -> Caller {
        Caller {
            claims: Arc::new(claims.as_object().cloned().unwrap()),
            tenant: tenant.then(|| "t".into()),
            ..caller(&[])
        }
    }

    fn context(name: &str) -> StepUp {
        StepUp { sign_in: Some(SignIn::Context(name.into())), max_age: None }
    }

    #[test]
    fn a_context_is_one_text_or_one_of_a_list_and_nothing_else() {
        for (claims, met) in [
            (json!({"acrs": "c1"}), true),
            (json!({"acrs": ["c2", "c1"]}), true),
            (json!({"acrs": ["c2"]}), false),
            (json!({"acrs": "c1 c2"}), false),
            (json!({"acrs": {"c1": true}}), false),
            (json!({"acrs": ["C1", ["c1"]]}), false),
            (json!({"acr": "c1"}), false),
            (json!({}), false),
        ] {
            assert_eq!(context("c1").is_met(&with(claims.clone(), true), noon()), met, "{claims}");
        }
        assert!(context("c1").is_met(&with(json!({"acr": "c1"}), false), noon()), "no Entra: its `acr`");
    }

    #[test]
    fn one_of_several_classes_or_methods_is_enough() {
        let list = |all: &[&str]| all.iter().map(|one| (*one).into()).collect();
        let classes = StepUp { sign_in: Some(SignIn::Classes(list(&["gold", "silver"]))), max_age: None };
        assert!(classes.is_met(&with(json!({"acr": "silver"}), false), noon()));
        assert!(!classes.is_met(&with(json!({"acr": "bronze", "amr": ["gold"]}), false), noon()));
        let methods = StepUp { sign_in: Some(SignIn::Methods(list(&["mfa", "hwk"]))), max_age: None };
        assert!(methods.is_met(&with(json!({"amr": ["pwd", "mfa"]}), false), noon()));
        assert!(!methods.is_met(&with(json!({"amr": ["pwd"]}), false), noon()));
    }

    #[test]
    fn without_a_time_of_sign_in_none_is_recent() {
        let recent = StepUp { sign_in: None, max_age: Some(Duration::from_secs(600)) };
        let now = noon().as_secs();
        for (at, met) in [
            (json!(now), true),
            (json!(now - 600), true),
            (json!(now - 601), false),
            (json!(now + 60), true),
            (json!(now + 61), false),
            (json!(now.to_string()), false),
            (json!(-1), false),
            (Value::Null, false),
        ] {
            assert_eq!(recent.is_met(&with(json!({"auth_time": at}), true), noon()), met, "{at}");
        }
        assert!(!recent.is_met(&with(json!({"iat": now}), true), noon()), "when it was issued says nothing");
    }

    #[test]
    fn what_several_entries_demand_is_asked_for_together() {
        let mut wanted = StepUpWanted::of(&caller(&[]));
        wanted.add(&StepUp { max_age: Some(Duration::from_secs(900)), ..context("c1") });
        wanted.add(&context("c1"));
        assert_eq!(wanted.claims()["access_token"]["acrs"], json!({"essential": true, "value": "c1"}));
        wanted.add(&StepUp { max_age: Some(Duration::from_secs(300)), ..context("c2") });
        assert_eq!(
            wanted.claims(),
            json!({"access_token": {
                "acrs": {"essential": true, "values": ["c1", "c2"]},
                "auth_time": {"essential": true},
            }})
        );
        assert_eq!(wanted.max_age, Some(Duration::from_secs(300)));
        assert_eq!(wanted.acr_values().as_deref(), Some("c1 c2"));
    }

    proptest! {
        #[test]
        fn a_sign_in_that_is_recent_once_was_recent_before(age in 0_u64..100_000, oldest in 1_u64..100_000, earlier in 0_u64..100_000) {
            let demand = StepUp { sign_in: None, max_age: Some(Duration::from_secs(oldest)) };
            let at = noon().as_secs() - age;
            let holder = with(json!({"auth_time": at}), true);
            prop_assert_eq!(demand.is_met(&holder, noon()), age <= oldest);
            let before = Timestamp::from_secs((noon().as_secs() - earlier).max(at));
            prop_assert!(!demand.is_met(&holder, noon()) || demand.is_met(&holder, before));
        }
    }
}
