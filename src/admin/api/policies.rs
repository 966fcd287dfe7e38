//! `GET /api/v1/policies` and `POST /api/v1/policies/why`: the entries in force, and one question taken
//! apart, for those who may read the policies. Whoever only wants to know what they may do themselves
//! asks `can-i`, which tells nothing of others.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::{
    Api, Peer,
    call::{Refused, json_of},
    openapi::{Answer, Body, Operation},
};
use crate::{
    azureml::{Kind, ResourceId},
    identity::Caller,
    policy::{
        EntryView,
        described::{Described, DescribedCaller, DescribedRequest},
        explained::Explained,
    },
};

/// What this is called in policies and in the record.
pub(in crate::admin) const ACTION: &str = "amlgate/policies/read";
/// The largest question, in bytes: a caller's claims and a body.
const MAX_QUESTION: usize = 128 << 10;

pub(super) const LIST: Operation = Operation::judged(
    "listPolicies",
    "The entries in force, by file and line",
    &[ACTION],
    &[Answer::json::<InForce>(StatusCode::OK, "Every entry, expanded.")],
);

pub(super) const WHY: Operation = Operation {
    about: "As `policy why`: every entry that was held against the request, and what would turn the decision.",
    body: Some(Body::json::<Asked>(MAX_QUESTION)),
    ..Operation::judged(
        "whyPolicies",
        "What the policies would make of a request",
        &[ACTION],
        &[Answer::json::<Explained>(StatusCode::OK, "The decision, taken apart.")],
    )
};

/// The policies in force.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Policies")]
struct InForce {
    /// Their digest in hex, as in the record.
    digest: String,
    /// Since when.
    #[schemars(extend("format" = "date-time"))]
    since: String,
    /// Every entry, in the order of the files.
    entries: Vec<EntryView>,
    /// What should be looked at.
    warnings: Vec<String>,
    /// Why a later edit is not in force.
    problems: Vec<String>,
}

/// What would be decided of this request?
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WhyQuestion")]
struct Asked {
    /// Whose request it is; the caller's own, if it is not said.
    #[serde(rename = "as")]
    caller: Option<DescribedCaller>,
    /// The method.
    method: String,
    /// The whole URL, with Azure's host.
    url: String,
    /// The body, if it is JSON.
    body: Option<Value>,
    /// What the URL does not say: the resource behind an endpoint.
    resource: Option<String>,
}

/// A request in words.
pub(in crate::admin) struct Words {
    pub method: String,
    pub url: String,
    pub body: Option<Vec<u8>>,
    pub resource: Option<String>,
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, _) = request.into_parts();
    let (allowed, _) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    let (set, status) = (api.policies.current(), api.policies.status());
    let words = |problems: &[crate::yaml::Problem]| problems.iter().map(ToString::to_string).collect();
    let body = InForce {
        digest: set.digest().iter().map(|b| format!("{b:02x}")).collect(),
        since: status.since.to_rfc3339(),
        entries: set.views(),
        warnings: words(&status.warnings),
        problems: words(&status.problems),
    };
    Ok(allowed.answer(StatusCode::OK, &body))
}

pub(super) async fn why(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refused> {
    let (head, body) = request.into_parts();
    let (allowed, principal) = api.entered(&head, peer, ACTION, Kind::Read).await?;
    let asked: Asked = match json_of(&head, body, MAX_QUESTION).await {
        Ok(asked) => asked,
        Err(refused) => return Ok(allowed.refuse(refused)),
    };
    let body = asked.body.as_ref().map(|body| body.to_string().into_bytes());
    let words = Words { method: asked.method, url: asked.url, body, resource: asked.resource };
    let own = Caller::clone(&principal);
    Ok(match api.explained(own, asked.caller.as_ref(), &words, peer).await {
        Ok(explained) => allowed.answer(StatusCode::OK, &explained),
        Err(refused) => allowed.refuse(refused),
    })
}

impl Api {
    /// What the policies in force make of a request in words: of the caller's `own`, or of `other`'s,
    /// of whose rights in Azure nothing is asked.
    pub(in crate::admin) async fn explained(
        &self,
        own: Caller,
        other: Option<&DescribedCaller>,
        words: &Words,
        Peer(from): Peer,
    ) -> Result<Explained, Refused> {
        let (set, at) = (self.policies.current(), self.clock.now());
        let resource = match &words.resource {
            None => None,
            Some(id) => Some(
                ResourceId::parse(id)
                    .ok_or_else(|| Refused::malformed(format!("`{id}` is no resource's id")))?,
            ),
        };
        let caller = other.map_or(own, DescribedCaller::caller);
        let (method, url, body) = (&*words.method, &*words.url, words.body.as_deref());
        let from = SocketAddr::new(from.ip(), 0);
        let request = DescribedRequest { method, url, body, from, at, resource };
        let glass = self.gates.break_glass().under(&set, &caller, at);
        let described = Described::new(caller, &request, |host| (self.doors.door)(host))?.under(glass);
        let scopes = described.azure_scopes(&set);
        let described = if other.is_some() || scopes.is_empty() {
            described
        } else {
            let azure = (self.elsewhere.rights)((described.caller.clone(), scopes)).await;
            described.with_azure(azure)
        };
        // It takes a core for a while.
        let _place = self.lists.acquire().await.map_err(|_| Refused::unavailable("the gate stops"))?;
        let explained = spawn_blocking(move || Explained::of(&set, &described));
        explained.await.map_err(|_| Refused::unavailable("the question could not be answered"))
    }
}
