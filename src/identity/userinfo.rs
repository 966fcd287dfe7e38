//! The groups of a Backstage user, which the token lacks: asked for with the token itself, at the
//! portal's userinfo endpoint, once the signature stands.
//!
//! The answer is remembered with the token, so a portal is asked once for each, and a change of
//! membership is seen with the next token (they live an hour). Without an answer nobody is let in
//! as a person without groups: a `deny` entry could name one of them.

use std::{future::Future, sync::Arc};

use http::Uri;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::{
    Groups,
    discovery::KeySource,
    json,
    rejection::{Reason, Rejection},
    settings::IssuerSettings,
};

/// At most so many questions are under way; further tokens are told to come again.
pub(super) const AT_A_TIME: usize = 64;
/// At most so many groups are taken from an answer.
const MAX_GROUPS: usize = 4_096;
/// How deep an answer may nest.
const MAX_DEPTH: u8 = 8;

/// Asks, unless [`AT_A_TIME`] others do.
pub(super) async fn bounded(
    asking: &Semaphore,
    ask: impl Future<Output = Result<Groups, Rejection>>,
) -> Result<Groups, Rejection> {
    let Ok(_permit) = asking.try_acquire() else {
        return Err(unavailable("too many questions are under way"));
    };
    ask.await
}

/// The groups of `subject`, whose verified token is `token`.
pub(super) async fn groups(
    source: &dyn KeySource,
    at: &Uri,
    issuer: &IssuerSettings,
    token: &str,
    subject: &str,
) -> Result<Groups, Rejection> {
    let answer = source.get_as(at, issuer, token).await.map_err(|error| {
        tracing::warn!(issuer = %issuer.name, %error, "groups not fetched");
        unavailable(&error.to_string())
    })?;
    read(&answer, &issuer.groups_claim, subject).map_err(|why| {
        tracing::warn!(issuer = %issuer.name, uri = %at, why, "groups not understood");
        unavailable(why)
    })
}

/// `{"claims": {"sub": ..., "ent": [...]}}`, of the same subject.
fn read(answer: &[u8], claim: &str, subject: &str) -> Result<Groups, &'static str> {
    let answer: Map<String, Value> =
        json::object(answer, MAX_DEPTH).map_err(|_| "the answer is no JSON object of one reading")?;
    let claims = answer.get("claims").and_then(Value::as_object).ok_or("the answer has no `claims`")?;
    if claims.get("sub").and_then(Value::as_str) != Some(subject) {
        return Err("the answer is about another subject");
    }
    let listed = claims.get(claim).and_then(Value::as_array).ok_or("the answer lists no groups")?;
    if listed.len() > MAX_GROUPS {
        return Err("the answer lists too many groups");
    }
    let groups: Option<Arc<[Box<str>]>> = listed.iter().map(|g| g.as_str().map(Into::into)).collect();
    groups.map(Groups::Known).ok_or("a group in the answer is no string")
}

fn unavailable(why: &str) -> Rejection {
    Rejection::new(Reason::GroupsUnavailable).found(why).expected("the groups of the token's subject")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_about_the_same_subject_that_lists_strings_is_taken() {
        let ana = "user:default/ana";
        let said = |answer: &str| read(answer.as_bytes(), "ent", ana);
        assert_eq!(
            said(r#"{"claims":{"sub":"user:default/ana","ent":["group:default/ml"]}}"#),
            Ok(Groups::Known(["group:default/ml".into()].into()))
        );
        assert_eq!(said(r#"{"claims":{"sub":"user:default/ana","ent":[]}}"#), Ok(Groups::Known([].into())));
        for wrong in [
            r#"{"claims":{"sub":"user:default/bob","ent":["group:default/ml"]}}"#,
            r#"{"claims":{"ent":["group:default/ml"]}}"#,
            r#"{"claims":{"sub":"user:default/ana"}}"#,
            r#"{"claims":{"sub":"user:default/ana","ent":"group:default/ml"}}"#,
            r#"{"claims":{"sub":"user:default/ana","ent":["a",1]}}"#,
            r#"{"claims":{"sub":"user:default/bob","sub":"user:default/ana","ent":[]}}"#,
            r#"{"sub":"user:default/ana","ent":[]}"#,
            "[]",
            "",
        ] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn more_questions_than_the_bound_are_told_to_come_again() {
        let none_left = Semaphore::new(0);
        let refused = bounded(&none_left, async { Ok(Groups::Known([].into())) }).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::GroupsUnavailable);
        assert!(refused.is_outage());
    }
}
