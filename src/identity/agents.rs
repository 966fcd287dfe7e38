//! Software that acts: what tokens say of it. Pure.
//!
//! RFC 8693 says it with `act`, Entra with facets of actor and subject ("Agent token claims"). Who
//! else is an agent, by the client that the token was issued to, policies say.

use serde_json::{Map, Value};

use super::{
    PrincipalKind,
    rejection::{Reason, Rejection},
};

/// How many actors one token may name, one behind the other.
const MAX_ACTORS: usize = 4;
/// The longest name of an actor, in bytes.
const MAX_NAME: usize = 1_024;
/// Entra's facet of an agent identity.
const AGENT: &str = "11";
/// Entra's facet of a user account that belongs to an agent, not to a human.
const AGENTS_USER: &str = "13";

/// What a token says of software that acts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acting {
    /// Its name, where the token tells one beside the client that it was issued to.
    pub name: Option<String>,
    /// Whether it is its own subject, so that no human is behind it.
    pub for_itself: bool,
}

/// What the claims of a token of `iss` say of software that acts; `None` if nothing.
///
/// # Errors
/// Claims that say so in a form that cannot be understood: nobody is taken for a human by mistake.
pub(super) fn acting(claims: &Map<String, Value>) -> Result<Option<Acting>, Rejection> {
    let actor = facet(claims, "xms_act_fct", &[AGENT])?;
    let subject = facet(claims, "xms_sub_fct", &[AGENT, AGENTS_USER])?;
    let name = match claims.get("act") {
        None => None,
        Some(act) => Some(actors(act, claims.get("iss"))?),
    };
    if name.is_none() && !actor && !subject {
        return Ok(None);
    }
    Ok(Some(Acting { name, for_itself: subject }))
}

/// The kind of a caller who would otherwise be of `kind`.
pub(super) fn kind(acting: Option<&Acting>, kind: PrincipalKind) -> PrincipalKind {
    match acting {
        None => kind,
        Some(acting) if acting.for_itself => PrincipalKind::AutonomousAgent,
        Some(_) => kind.acting(),
    }
}

/// Whether a list of facets, numbers between spaces, holds one of these.
fn facet(claims: &Map<String, Value>, name: &str, wanted: &[&str]) -> Result<bool, Rejection> {
    match claims.get(name) {
        None => Ok(false),
        Some(Value::String(text)) => Ok(text.split(' ').any(|facet| wanted.contains(&facet))),
        Some(other) => Err(odd(name, other, "a string")),
    }
}

/// The name of the one who acts; those behind are looked at and counted, and decide nothing (RFC 8693,
/// 4.1).
fn actors(act: &Value, iss: Option<&Value>) -> Result<String, Rejection> {
    let wanted = "objects with `sub` or `client_id`, at most four deep";
    let mut first = None;
    let mut next = Some(act);
    for _ in 0..MAX_ACTORS {
        let Some(found) = next else { break };
        let text = |name: &str| found.get(name).and_then(Value::as_str);
        let name = text("client_id").or_else(|| text("sub"));
        let plain =
            |name: &&str| !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
        let Some(name) = name.filter(plain) else { return Err(odd("act", act, wanted)) };
        // Another issuer's name is not one of this issuer's.
        let elsewhere = found.get("iss").filter(|of| Some(*of) != iss);
        let name = elsewhere.map_or_else(|| name.to_owned(), |of| format!("{of} {name}"));
        first.get_or_insert(name);
        next = found.get("act");
    }
    match (first, next) {
        (Some(name), None) => Ok(name),
        (_, _) => Err(odd("act", act, wanted)),
    }
}

fn odd(name: &str, value: &Value, wanted: &str) -> Rejection {
    Rejection::new(Reason::Claim)
        .found(format_args!("`{name}`: {value}"))
        .expected(format_args!("`{name}`: {wanted}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(claims: Value) -> Result<Option<Acting>, Reason> {
        acting(claims.as_object().unwrap()).map_err(|rejection| rejection.reason())
    }

    fn by(name: &str) -> Result<Option<Acting>, Reason> {
        Ok(Some(Acting { name: Some(name.to_owned()), for_itself: false }))
    }

    #[test]
    fn the_actor_is_the_outermost_and_those_behind_are_bounded() {
        assert_eq!(said(json!({"sub": "ann"})), Ok(None));
        assert_eq!(said(json!({"sub": "ann", "act": {"sub": "copilot"}})), by("copilot"));
        assert_eq!(said(json!({"act": {"sub": "copilot", "client_id": "app"}})), by("app"));
        let chain =
            json!({"act": {"sub": "a", "act": {"sub": "b", "act": {"sub": "c", "act": {"sub": "d"}}}}});
        assert_eq!(said(chain.clone()), by("a"));
        assert_eq!(said(json!({"act": {"sub": "x", "act": chain["act"]}})), Err(Reason::Claim));
    }

    #[test]
    fn an_actor_of_another_issuer_is_another() {
        assert_eq!(said(json!({"iss": "https://i", "act": {"sub": "a", "iss": "https://i"}})), by("a"));
        let other = said(json!({"iss": "https://i", "act": {"sub": "a", "iss": "https://j"}}));
        assert_eq!(other, by("\"https://j\" a"));
    }

    #[test]
    fn nobody_is_taken_for_a_human_because_an_actor_cannot_be_understood() {
        for act in [
            json!(null),
            json!("copilot"),
            json!(["copilot"]),
            json!({}),
            json!({"sub": 1}),
            json!({"sub": ""}),
            json!({"sub": "a\nb"}),
            json!({"sub": "a", "act": "b"}),
        ] {
            assert_eq!(said(json!({"act": act})), Err(Reason::Claim), "{act}");
        }
        assert_eq!(said(json!({"xms_act_fct": 11})), Err(Reason::Claim));
    }

    #[test]
    fn entra_says_it_with_facets() {
        let agent = |for_itself| Ok(Some(Acting { name: None, for_itself }));
        assert_eq!(said(json!({"xms_act_fct": "3 9", "xms_sub_fct": "9 3"})), Ok(None));
        assert_eq!(said(json!({"xms_act_fct": "3 9 11", "xms_sub_fct": "1 2"})), agent(false));
        assert_eq!(said(json!({"xms_act_fct": "11"})), agent(false));
        assert_eq!(said(json!({"xms_act_fct": "3 9 11", "xms_sub_fct": "9 3 11"})), agent(true));
        assert_eq!(said(json!({"xms_act_fct": "11", "xms_sub_fct": "13"})), agent(true));
        assert_eq!(said(json!({"xms_act_fct": "111 1 1"})), Ok(None));
    }
}
