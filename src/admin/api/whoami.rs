//! `GET /api/v1/whoami`: who the gate takes the caller for.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Api, Peer,
    openapi::{Answer, Operation},
};
use crate::{
    azureml::Kind,
    identity::{Groups, Principal},
};

/// What this is called in policies and in the record.
const ACTION: &str = "amlgate/whoami/read";

pub(super) const READ: Operation = Operation::judged(
    "whoAmI",
    "Whom the gate takes the caller for",
    &[ACTION],
    &[Answer::json::<Whoami<'_>>(StatusCode::OK, "The caller.")],
);

/// A caller, as the gate knows them.
#[derive(Serialize, JsonSchema)]
struct Whoami<'a> {
    /// Issuer and subject, as `ISSUER:SUBJECT`.
    principal: String,
    /// The issuer's name in the configuration.
    issuer: &'a str,
    /// The subject.
    subject: &'a str,
    /// The human behind it, or the same again.
    person: String,
    /// What kind of caller.
    #[schemars(extend("enum" = ["person", "machine", "agent", "autonomous_agent"]))]
    kind: &'static str,
    /// A name to read; decides nothing.
    display: Option<&'a str>,
    /// The Entra tenant.
    tenant: Option<&'a str>,
    /// The client that the token was issued to.
    client: Option<&'a str>,
    /// The groups; null if there are more than the token says.
    groups: Option<Vec<&'a str>>,
    /// Application roles.
    roles: Vec<&'a str>,
    /// The digest of the browser's session.
    session: Option<String>,
    /// Until when.
    #[schemars(extend("format" = "date-time"))]
    expires: String,
}

pub(super) async fn whoami(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let (principal, session) = match api.visitor(&head.headers, peer).await {
        Ok(visitor) => visitor,
        Err(refused) => return refused.into_response(),
    };
    match api.allowed(&head, peer, principal.clone(), ACTION, Kind::Read).await {
        Ok(allowed) => allowed.answer(StatusCode::OK, &described(&principal, session)),
        Err(refused) => refused.into_response(),
    }
}

fn described(principal: &Principal, session: Option<String>) -> Whoami<'_> {
    let groups = match &principal.groups {
        Groups::Known(groups) => Some(groups.iter().map(|g| &**g).collect()),
        // There are more than the token says.
        Groups::Overage | Groups::Asked(_) => None,
    };
    Whoami {
        principal: principal.id.to_string(),
        issuer: &principal.id.issuer,
        subject: &principal.id.subject,
        person: principal.person().to_string(),
        kind: principal.kind.name(),
        display: principal.display.as_deref(),
        tenant: principal.tenant.as_deref(),
        client: principal.client.as_deref(),
        groups,
        roles: principal.roles.iter().map(|r| &**r).collect(),
        session,
        expires: principal.expires.to_rfc3339(),
    }
}
