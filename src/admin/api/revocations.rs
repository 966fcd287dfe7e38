//! `/api/v1/revocations`: what is refused though it verifies.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Request, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Api, MAX_BODY, Peer,
    call::{Allowed, Named, Refused, Said, json_of},
    changes::unavailable,
    openapi::{Answer, Body, Operation, Parameter, Shape},
};
use crate::{
    azureml::Kind,
    identity::{Principal, settings::MAX_LIFETIME},
    store::{Revocation, RevocationKind, Store},
    time::Timestamp,
};

/// A revocation is remembered at most so long.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);
/// The longest value and reason, in bytes.
const MAX_TEXT: usize = 1_024;

/// Where there is no store.
const NO_STORE: (StatusCode, &str) =
    (StatusCode::NOT_IMPLEMENTED, "The configuration names no `store` to keep revocations in.");

pub(super) const LIST: Operation = Operation {
    problems: &[NO_STORE],
    ..Operation::judged(
        "listRevocations",
        "What is refused though it verifies",
        &["amlgate/revocations/read"],
        &[Answer::json::<List>(StatusCode::OK, "Every revocation that is in force.")],
    )
};

pub(super) const ADD: Operation = Operation {
    about: "It counts here at once and on every replica within a second, and live streams are cut.",
    body: Some(Body::json::<Asked>(MAX_BODY)),
    problems: &[NO_STORE],
    ..Operation::judged(
        "revoke",
        "Refuses a principal, a token or a session from now on",
        &["amlgate/revocations/write"],
        &[Answer::json::<Shown>(StatusCode::CREATED, "It is in force.")],
    )
};

pub(super) const LIFT: Operation = Operation {
    parameters: &[Parameter::path("id", "The revocation's id.", Shape::Id)],
    problems: &[(StatusCode::NOT_FOUND, "There is no such revocation."), NO_STORE],
    ..Operation::judged(
        "liftRevocation",
        "Takes a revocation back",
        &["amlgate/revocations/delete"],
        &[Answer::json::<Lifted>(StatusCode::OK, "It is not in force any more.")],
    )
};

/// What to revoke: exactly one of `principal`, `token`, `session`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewRevocation")]
struct Asked {
    /// `ISSUER:SUBJECT`, as `whoami` says it.
    #[schemars(length(min = 1, max = MAX_TEXT), pattern(":"))]
    principal: Option<String>,
    /// The `jti` of a token.
    #[schemars(length(min = 1, max = MAX_TEXT))]
    token: Option<String>,
    /// Whose token it is: the issuer's name, or `amlgate` for one of the gate's.
    issuer: Option<String>,
    /// A session's digest, as `whoami` and the record say it.
    #[schemars(length(min = 1, max = MAX_TEXT))]
    session: Option<String>,
    /// Why; stands in the record.
    #[schemars(length(min = 1, max = MAX_TEXT), pattern(r"\S"))]
    reason: String,
    /// For how many seconds; by default as long as any token lives.
    #[schemars(range(min = 1, max = LONGEST.as_secs()))]
    seconds: Option<u64>,
    /// Of a principal: only what was issued until now, so that a new sign-in mends it.
    #[serde(default)]
    issued_until_now: bool,
}

/// What is revoked.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Revocations")]
struct List {
    /// Every revocation that is in force.
    revocations: Vec<Shown>,
}

/// A revocation.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Revocation")]
struct Shown {
    /// Its id.
    id: String,
    /// What `value` is.
    kind: RevocationKind,
    /// The issuer's name; empty for a session.
    issuer: String,
    /// The subject, the session's digest, or the `jti`.
    value: String,
    /// Only what was issued up to then, if there is an instant.
    #[schemars(extend("format" = "date-time"))]
    issued_before: Option<String>,
    /// Since when.
    #[schemars(extend("format" = "date-time"))]
    made: String,
    /// Until when.
    #[schemars(extend("format" = "date-time"))]
    expires: String,
    /// Who revoked.
    by: String,
    /// Why.
    reason: String,
}

/// A revocation that was taken back.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LiftedRevocation")]
struct Lifted {
    /// Its id.
    id: String,
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let (allowed, store, _) = match entered(&api, &head, peer, "read", Kind::Read).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    match store.revocations(None, api.clock.now()).await {
        Ok(found) => {
            let revocations = found.unwrap_or_default().list.iter().map(shown).collect();
            allowed.answer(StatusCode::OK, &List { revocations })
        }
        Err(error) => allowed.refuse(unavailable(&error)),
    }
}

pub(super) async fn add(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let (allowed, store, principal) = match entered(&api, &head, peer, "write", Kind::Write).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let asked = match json_of(&head, body, MAX_BODY).await {
        Ok(asked) => asked,
        Err(refused) => return allowed.refuse(refused),
    };
    let new = match wanted(&asked, &principal, api.clock.now()) {
        Ok(new) => new,
        Err(refused) => return allowed.refuse(refused),
    };
    let answer = shown(&new);
    if new.kind == RevocationKind::Session
        && let Err(error) = store.end_session(&new.value).await
    {
        return allowed.refuse(unavailable(&error));
    }
    if let Err(error) = store.revoke(new).await {
        return allowed.refuse(unavailable(&error));
    }
    // Here it counts from now on; the other replicas look every half second.
    api.renew_revocations().await;
    allowed.answer(StatusCode::CREATED, &answer)
}

pub(super) async fn lift(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Named(id): Named,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let (allowed, store, _) = match entered(&api, &head, peer, "delete", Kind::Delete).await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    match store.lift_revocation(&id).await {
        Ok(true) => {
            api.renew_revocations().await;
            allowed.answer(StatusCode::OK, &Lifted { id })
        }
        Ok(false) => {
            let refused = Refused::new(StatusCode::NOT_FOUND, Said::NotFound, "there is no such revocation");
            allowed.refuse(refused)
        }
        Err(error) => allowed.refuse(unavailable(&error)),
    }
}

async fn entered<'a>(
    api: &'a Api,
    head: &Parts,
    peer: Peer,
    verb: &str,
    kind: Kind,
) -> Result<(Allowed, &'a Store, Principal), Refused> {
    let action = format!("amlgate/revocations/{verb}");
    let (allowed, principal) = api.entered(head, peer, &action, kind).await?;
    match &api.store {
        Some(store) => Ok((allowed, store, principal)),
        None => {
            let why =
                "revocations are kept in a store: add `store: {sqlite: var/amlgate.db}` to the configuration";
            Err(Refused {
                decision: Some(allowed.decision()),
                ..Refused::new(StatusCode::NOT_IMPLEMENTED, Said::NotConfigured, why)
            })
        }
    }
}

fn wanted(asked: &Asked, by: &Principal, now: Timestamp) -> Result<Revocation, Refused> {
    let (kind, issuer, value) = match (&asked.principal, &asked.token, &asked.session) {
        (Some(principal), None, None) => match principal.split_once(':') {
            Some((issuer, subject)) if asked.issuer.is_none() => (RevocationKind::Principal, issuer, subject),
            Some(_) | None => return Err(Refused::malformed("`principal` is `ISSUER:SUBJECT`, alone")),
        },
        (None, Some(token), None) => {
            let issuer = asked.issuer.as_deref();
            let issuer = issuer.ok_or_else(|| Refused::malformed("`token` needs its `issuer`"))?;
            (RevocationKind::Token, issuer, token.as_str())
        }
        (None, None, Some(session)) => (RevocationKind::Session, "", session.as_str()),
        _ => return Err(Refused::malformed("name one of `principal`, `token`, `session`")),
    };
    if asked.issued_until_now && kind != RevocationKind::Principal {
        return Err(Refused::malformed("`issued_until_now` is for a `principal`"));
    }
    let fits = |text: &str| !text.trim().is_empty() && text.len() <= MAX_TEXT;
    if !fits(value) || !fits(&asked.reason) {
        return Err(Refused::malformed("a value and a `reason` have 1 to 1024 bytes"));
    }
    let life = asked.seconds.map_or(MAX_LIFETIME, Duration::from_secs);
    if life.is_zero() || life > LONGEST {
        return Err(Refused::malformed("`seconds` are 1 to 31622400, a year"));
    }
    Ok(Revocation {
        id: uuid::Uuid::now_v7().to_string(),
        kind,
        issuer: issuer.to_owned(),
        value: value.to_owned(),
        issued_before: asked.issued_until_now.then_some(now),
        made: now,
        expires: now.plus(life),
        by: by.id.to_string(),
        reason: asked.reason.clone(),
    })
}

fn shown(one: &Revocation) -> Shown {
    Shown {
        id: one.id.clone(),
        kind: one.kind,
        issuer: one.issuer.clone(),
        value: one.value.clone(),
        issued_before: one.issued_before.map(Timestamp::to_rfc3339),
        made: one.made.to_rfc3339(),
        expires: one.expires.to_rfc3339(),
        by: one.by.clone(),
        reason: one.reason.clone(),
    }
}

impl Api {
    /// Reads the revocations again, for this replica.
    async fn renew_revocations(&self) {
        let Some(store) = &self.store else { return };
        let now = self.clock.now();
        match store.revocations(None, now).await {
            Ok(news) => self.verifier.revoked().follow(news, now),
            // The next look, half a second later, brings it.
            Err(error) => tracing::warn!(%error, "revocations could not be read back"),
        }
    }
}
