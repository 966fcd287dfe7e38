//! `/api/v1/grants`.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request as Call, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    super::{
        Api, Peer,
        call::{Named, Refused, json_of},
        openapi::{Answer, Body, Operation, Parameter, Shape},
    },
    CURSOR, LIMIT, Listed, MAX_BODY, Show, conflict, cursor, of_grant, shown, to_its_end, unavailable,
    unknown, unrecorded,
};
use crate::{
    audit::event::GrantChange,
    azureml::Kind,
    gates::approvals::{Grant, GrantState, Party},
    identity::Principal,
    store::Page,
};

const READ: &str = "amlgate/grants/read";
const READ_OTHERS: &str = "amlgate/others/grants/read";
const REVOKING: &str = "amlgate/grants/revoke/action";
const REVOKING_OTHERS: &str = "amlgate/others/grants/revoke/action";

pub const LIST: Operation = Operation {
    about: "`show` says whose: others' are judged as `amlgate/others/grants/read`.",
    parameters: &[
        Parameter::query("show", "Whose; `mine` unless it is said.", Shape::OneOf(&["mine", "all"])),
        Parameter::query("state", "How far they have come.", Shape::OneOf(&["active", "revoked", "expired"])),
        LIMIT,
        CURSOR,
    ],
    ..Operation::judged(
        "listGrants",
        "What was granted, the newest first",
        &[READ, READ_OTHERS],
        &[Answer::json::<Listing>(StatusCode::OK, "A page.")],
    )
};

pub const REVOKE: Operation = Operation {
    about: "No replica uses it any more, and live streams that began with it are cut within a second. Another's, \
            which the caller did not approve, also as `amlgate/others/grants/revoke/action`.",
    parameters: &[Parameter::path("id", "The grant's id.", Shape::Id)],
    body: Some(Body::json::<Noted>(MAX_BODY)),
    problems: &[
        (StatusCode::NOT_FOUND, "There is no such grant, or none that the caller may see."),
        (StatusCode::CONFLICT, "It has come to its end already."),
    ],
    ..Operation::judged(
        "revokeGrant",
        "Takes a grant back",
        &[REVOKING],
        &[Answer::json::<shown::GrantView>(StatusCode::OK, "The grant, as it is now.")],
    )
};

/// A page of grants.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "GrantPage")]
struct Listing {
    /// The newest first.
    grants: Vec<shown::GrantView>,
    /// Where to go on, if there is more: `cursor` of the next call.
    next: Option<String>,
}

/// Nothing more than that it is taken back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RevokeGrant")]
struct Noted {}

pub async fn list(State(api): State<Arc<Api>>, Extension(peer): Extension<Peer>, call: Call) -> Response {
    let (head, _) = call.into_parts();
    let entered = async {
        let principal = api.known(&head, peer).await?;
        let listed = match Listed::read(head.uri.query().unwrap_or_default()) {
            Ok(Listed { show: Show::ToAnswer, .. }) => Err(Refused::malformed("`show` is `mine` or `all`")),
            read => read,
        };
        let action = match listed.as_ref().map(|listed| listed.show) {
            Ok(Show::Mine | Show::ToAnswer) | Err(_) => READ,
            Ok(Show::All) => READ_OTHERS,
        };
        let allowed = api.allowed(&head, peer, principal.clone(), action, Kind::Read).await?;
        Ok::<_, Refused>((allowed, principal, listed))
    };
    let (allowed, principal, listed) = match entered.await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let listed = async { page(&api, &principal, listed?).await };
    match listed.await {
        Ok(answer) => allowed.answer(StatusCode::OK, &answer),
        Err(refused) => allowed.refuse(refused),
    }
}

/// A page of those that `query` asks for, as the API's has it.
pub(in crate::admin) async fn listed(
    api: &Api,
    principal: &Principal,
    query: &str,
) -> Result<Value, Refused> {
    page(api, principal, Listed::read(query)?).await
}

async fn page(api: &Api, principal: &Principal, listed: Listed) -> Result<Value, Refused> {
    let state = match listed.state.as_deref() {
        None => None,
        Some("active") => Some("active"),
        Some("revoked") => Some("revoked"),
        Some("expired") => Some("expired"),
        Some(_) => return Err(Refused::malformed("`state` is active, revoked or expired")),
    };
    let person = (listed.show == Show::Mine).then(|| principal.person().to_string());
    let page = Page { person, state, before: listed.before, limit: listed.limit };
    let grants = api.gates.approvals().grants(page).await.map_err(|error| unavailable(&error))?;
    let whole = grants.len() < usize::try_from(listed.limit).unwrap_or(usize::MAX);
    let next = grants.last().filter(|_| !whole).map(|last| cursor(last.made, &last.id));
    let now = api.clock.now();
    let grants = grants.iter().map(|grant| shown::grant(grant, now)).collect();
    Ok(json!(Listing { grants, next }))
}

/// Whether a grant is somebody's own, or they approved it: themselves, and not some agent of theirs.
fn concerns(grant: &Grant, party: &Party) -> bool {
    let approved = || grant.terms.approvers.iter().any(|vote| party.may_end(&vote.by));
    party.may_end(&grant.terms.holder) || approved()
}

pub async fn revoke(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Named(id): Named,
    call: Call,
) -> Response {
    let (head, body) = call.into_parts();
    let entered = async {
        let principal = api.known(&head, peer).await?;
        let allowed = api.allowed(&head, peer, principal.clone(), REVOKING, Kind::Action).await?;
        Ok::<_, Refused>((allowed, principal))
    };
    let (allowed, principal) = match entered.await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let revoked = async {
        json_of::<Noted>(&head, body, MAX_BODY).await?;
        taken_back(&api, &head, peer, &principal, &id).await
    };
    match revoked.await {
        Ok(shown) => allowed.answer(StatusCode::OK, &shown),
        Err(refused) => allowed.refuse(refused),
    }
}

/// Takes a grant back, if it is whoever asks' own, they approved it, or they may take back any.
pub(in crate::admin) async fn taken_back(
    api: &Arc<Api>,
    head: &Parts,
    peer: Peer,
    principal: &Principal,
    id: &str,
) -> Result<Value, Refused> {
    let approvals = api.gates.approvals();
    let grant = approvals.grant(id).await.map_err(|error| unavailable(&error))?;
    let grant = grant.ok_or_else(|| unknown("grant"))?;
    let party = Party::of(principal, api.policies.peek().kind_of(principal));
    if !concerns(&grant, &party) {
        let others = api.allowed(head, peer, principal.clone(), REVOKING_OTHERS, Kind::Action).await;
        // Whoever may not see it is not told that it is there.
        others.map_err(|_| unknown("grant"))?.done();
    }
    let (api, by) = (Arc::clone(api), principal.id.to_string());
    to_its_end(async move { end_of(&api, by, grant).await }).await
}

async fn end_of(api: &Api, by: String, grant: Grant) -> Result<Value, Refused> {
    if !api.gates.approvals().revoke(&grant.id).await.map_err(|error| unavailable(&error))? {
        let now = match grant.state(api.clock.now()) {
            GrantState::Active | GrantState::Used => GrantState::Revoked,
            over @ (GrantState::Revoked | GrantState::Expired) => over,
        };
        return Err(conflict(format!("the grant is {} already", now.name())));
    }
    let event = of_grant(&grant, Some(by), GrantChange::Revoked);
    api.journal.happened(&event).await.map_err(|_| unrecorded())?;
    Ok(json!(shown::grant(&Grant { revoked: true, ..grant }, api.clock.now())))
}
