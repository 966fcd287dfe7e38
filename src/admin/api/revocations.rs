//! `/api/v1/revocations`: what is refused though it verifies.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Path, Request, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Api, MAX_BODY, Peer,
    call::{Allowed, Refused, Said, json_of},
};
use crate::{
    azureml::Kind,
    identity::{Principal, settings::MAX_LIFETIME},
    store::{Revocation, RevocationKind, Store, StoreError},
    time::Timestamp,
};

/// A revocation is remembered at most so long.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);
/// The longest value and reason, in bytes.
const MAX_TEXT: usize = 1_024;

/// What to revoke: exactly one of `principal`, `token`, `session`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// `ISSUER:SUBJECT`, as `whoami` says it.
    principal: Option<String>,
    /// The `jti` of a token.
    token: Option<String>,
    /// Whose token it is: the issuer's name, or `amlgate` for one of the gate's.
    issuer: Option<String>,
    /// A session's digest, as `whoami` and the record say it.
    session: Option<String>,
    /// Why; stands in the record.
    reason: String,
    /// For how many seconds; by default as long as any token lives.
    seconds: Option<u64>,
    /// Of a principal: only what was issued until now, so that a new sign-in mends it.
    #[serde(default)]
    issued_until_now: bool,
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
            let list: Vec<Value> = found.unwrap_or_default().list.iter().map(shown).collect();
            allowed.answer(StatusCode::OK, &json!({ "revocations": list }))
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
    Path(id): Path<String>,
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
            allowed.answer(StatusCode::OK, &json!({ "id": id }))
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

fn shown(one: &Revocation) -> Value {
    json!({
        "id": one.id,
        "kind": one.kind,
        "issuer": one.issuer,
        "value": one.value,
        "issued_before": one.issued_before.map(Timestamp::to_rfc3339),
        "made": one.made.to_rfc3339(),
        "expires": one.expires.to_rfc3339(),
        "by": one.by,
        "reason": one.reason,
    })
}

fn unavailable(error: &StoreError) -> Refused {
    Refused::unavailable(error.to_string())
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
