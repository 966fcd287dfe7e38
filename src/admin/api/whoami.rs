//! `GET /api/v1/whoami`: who the gate takes the caller for.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{Api, Peer};
use crate::{
    azureml::Kind,
    identity::{Groups, Principal},
};

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
    let body = described(&principal, session);
    match api.allowed(&head, peer, principal, "amlgate/whoami/read", Kind::Read).await {
        Ok(allowed) => allowed.answer(StatusCode::OK, &body),
        Err(refused) => refused.into_response(),
    }
}

fn described(principal: &Principal, session: Option<String>) -> Value {
    let groups = match &principal.groups {
        Groups::Known(groups) => json!(groups.iter().map(|g| &**g).collect::<Vec<_>>()),
        // There are more than the token says.
        Groups::Overage | Groups::Asked(_) => Value::Null,
    };
    json!({
        "principal": principal.id.to_string(),
        "issuer": &*principal.id.issuer,
        "subject": &*principal.id.subject,
        "person": principal.person().to_string(),
        "kind": principal.kind.name(),
        "display": principal.display.as_deref(),
        "tenant": principal.tenant.as_deref(),
        "client": principal.client.as_deref(),
        "groups": groups,
        "roles": principal.roles.iter().map(|r| &**r).collect::<Vec<_>>(),
        "session": session,
        "expires": principal.expires.to_rfc3339(),
    })
}
