//! `/api/v1/requests`.

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
        call::{Named, Refused, Said, json_of},
        openapi::{self, Body, Operation, Parameter, Shape},
    },
    CURSOR, LIMIT, Listed, MAX_BODY, Show, conflict, cursor, of_grant, of_request, shown, to_its_end,
    unavailable, unknown, unrecorded,
};
use crate::{
    audit::event::{GrantChange, Verdict},
    azureml::Kind,
    gates::approvals::{
        Answer, AnswerError, Answered, Approvals, AskError, Likeness, MAX_CLAIMED, MAX_REASON, MAX_TICKET,
        NoVoice, Request, Voter, Wanted, request,
    },
    identity::Principal,
    store::Page,
};

/// Requests that are read at once for a page of those that somebody may answer, however few they want.
const LOOKED_AT: u32 = super::LARGEST_PAGE;
/// Requests that are looked at for one page of those that somebody may answer.
const MOST_LOOKED_AT: usize = 2_000;

const READ: &str = "amlgate/requests/read";
const READ_OTHERS: &str = "amlgate/others/requests/read";
const WRITE: &str = "amlgate/requests/write";
const APPROVING: &str = "amlgate/requests/approve/action";
const DENYING: &str = "amlgate/requests/deny/action";
const WITHDRAWING: &str = "amlgate/requests/withdraw/action";

const ID: Parameter = Parameter::path("id", "The request's id.", Shape::Id);
const NONE: (StatusCode, &str) =
    (StatusCode::NOT_FOUND, "There is no such request, or none that the caller may see.");
const OVER: (StatusCode, &str) = (StatusCode::CONFLICT, "It has come to its end, or just changed.");

pub const ASK: Operation = Operation {
    about: "For the approvals for want of which a call of the caller's was refused in the last hour.",
    body: Some(Body::json::<Asked>(MAX_BODY)),
    problems: &[
        (StatusCode::NOT_FOUND, "No call of the caller's is remembered by this decision."),
        (StatusCode::CONFLICT, "The entry has changed since, or too many requests of the caller's are open."),
    ],
    ..Operation::judged(
        "askForApproval",
        "Asks people to let a refused call pass",
        &[WRITE],
        &[
            openapi::Answer::json::<All>(StatusCode::CREATED, "The requests, one for each entry."),
            openapi::Answer::json::<All>(StatusCode::OK, "They had been made before."),
        ],
    )
};

pub const LIST: Operation = Operation {
    about: "`show` says whose: others' are judged as `amlgate/others/requests/read`.",
    parameters: &[
        Parameter::query(
            "show",
            "Whose; `mine` unless it is said.",
            Shape::OneOf(&["mine", "to_answer", "all"]),
        ),
        Parameter::query(
            "state",
            "How far they have come; those to answer are pending.",
            Shape::OneOf(&["pending", "approved", "denied", "expired", "withdrawn"]),
        ),
        LIMIT,
        CURSOR,
    ],
    ..Operation::judged(
        "listRequests",
        "Requests for approval, the newest first",
        &[READ, READ_OTHERS],
        &[openapi::Answer::json::<Listing>(StatusCode::OK, "A page.")],
    )
};

pub const ONE: Operation = Operation {
    about: "Of others', which the caller neither may answer nor has answered, also as \
            `amlgate/others/requests/read`.",
    parameters: &[ID],
    problems: &[NONE],
    ..Operation::judged(
        "readRequest",
        "Who asks for what, why, who answered and who must yet",
        &[READ],
        &[openapi::Answer::json::<shown::RequestView>(StatusCode::OK, "The request.")],
    )
};

pub const APPROVE: Operation = answering(
    "approveRequest",
    "Says yes, if the entry lets the caller, and never whoever asked",
    &[APPROVING],
);
pub const DENY: Operation = answering("denyRequest", "Says no", &[DENYING]);
pub const WITHDRAW: Operation =
    answering("withdrawRequest", "Takes a request of the caller's back", &[WITHDRAWING]);

const fn answering(id: &'static str, summary: &'static str, actions: &'static [&'static str]) -> Operation {
    Operation {
        about: "Whom the caller may answer says the `by` of the entry that demands the approval, not the entry \
                that lets them call this.",
        parameters: &[ID],
        body: Some(Body::json::<Noted>(MAX_BODY)),
        problems: &[NONE, OVER],
        ..Operation::judged(id, summary, actions, ANSWERED)
    }
}

const ANSWERED: &[openapi::Answer] =
    &[openapi::Answer::json::<shown::RequestView>(StatusCode::OK, "The request, as it is now.")];

/// What to ask for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewApprovalRequest")]
struct Asked {
    /// The decision that refused the call, as the answer named it.
    decision: String,
    /// Why.
    #[schemars(length(max = MAX_REASON))]
    reason: Option<String>,
    /// The ticket.
    #[schemars(length(max = MAX_TICKET))]
    ticket: Option<String>,
    /// In whose name, where software asks that may: it must then say so, and nobody else does.
    #[schemars(length(max = MAX_CLAIMED))]
    claimed: Option<String>,
}

/// What is said to an answer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Note")]
struct Noted {
    /// In words, for who asked and for the record.
    #[schemars(length(max = MAX_REASON))]
    note: Option<String>,
}

/// What was asked for.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApprovalRequests")]
struct All {
    /// One for each entry that demands an approval.
    requests: Vec<shown::RequestView>,
}

/// A page of requests.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApprovalRequestPage")]
struct Listing {
    /// The newest first.
    requests: Vec<shown::RequestView>,
    /// Where to go on, if there is more: `cursor` of the next call.
    next: Option<String>,
}

pub async fn ask(State(api): State<Arc<Api>>, Extension(peer): Extension<Peer>, call: Call) -> Response {
    let (head, body) = call.into_parts();
    let entered = async {
        let principal = api.known(&head, peer).await?;
        let allowed = api.allowed(&head, peer, principal.clone(), WRITE, Kind::Write);
        Ok::<_, Refused>((allowed.await?, principal))
    };
    let (allowed, principal) = match entered.await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let asked = async {
        let Asked { decision, reason, ticket, claimed } = json_of(&head, body, MAX_BODY).await?;
        let claimed = named(&api, &head, claimed)?;
        ask_for(&api, &principal, Wanted { decision, reason, ticket, claimed }).await
    };
    match asked.await {
        Ok((status, answer)) => allowed.answer(status, &answer),
        Err(refused) => allowed.refuse(refused),
    }
}

/// In whose name is asked: by the body, or by the header that the configuration names. Whoever sends
/// it without being that service is refused and not overheard: a claim that gets lost would let who was
/// named answer.
fn named(api: &Api, head: &Parts, claimed: Option<String>) -> Result<Option<String>, Refused> {
    let Some(header) = api.gates.approvals().speaker().and_then(|speaker| speaker.header.clone()) else {
        return Ok(claimed);
    };
    let mut sent = head.headers.get_all(&header).iter();
    match (sent.next(), sent.next(), claimed) {
        (None, _, claimed) => Ok(claimed),
        (Some(_), Some(_), _) => Err(Refused::malformed(format!("`{header}` is there twice"))),
        (Some(value), None, claimed) => {
            let name = std::str::from_utf8(value.as_bytes()).ok().filter(|name| !name.trim().is_empty());
            let name = name.ok_or_else(|| Refused::malformed(format!("`{header}` names nobody")))?;
            if claimed.is_some_and(|other| other.trim() != name.trim()) {
                return Err(Refused::malformed(format!("`{header}` and `claimed` name two people")));
            }
            Ok(Some(name.to_owned()))
        }
    }
}

/// Asks, and records what is new.
pub(in crate::admin) async fn ask_for(
    api: &Arc<Api>,
    principal: &Principal,
    wanted: Wanted,
) -> Result<(StatusCode, Value), Refused> {
    let policies = api.policies.current();
    let (own, by, current) = (Arc::clone(api), principal.clone(), Arc::clone(&policies));
    let asking = async move {
        let requests = own.gates.approvals().ask(&current, &by, wanted).await.map_err(not_asked)?;
        for (request, _) in requests.iter().filter(|(_, new)| *new) {
            let by = Some(by.id.to_string());
            let event = of_request(request, by, Verdict::Asked, request.asked.reason.clone());
            own.journal.happened(&event).await.map_err(|_| unrecorded())?;
        }
        Ok(requests)
    };
    let requests = to_its_end(asking).await?;
    let new = requests.iter().any(|(_, new)| *new);
    let now = api.clock.now();
    let all = All {
        requests: requests.iter().map(|(one, _)| shown::request(one, principal, &policies, now)).collect(),
    };
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, json!(all)))
}

fn not_asked(error: AskError) -> Refused {
    match &error {
        AskError::Unknown => Refused::new(StatusCode::NOT_FOUND, Said::NotFound, error.to_string()),
        AskError::Changed | AskError::TooMany(_) | AskError::TooOften(_) => conflict(error.to_string()),
        AskError::Wants { .. } | AskError::Text | AskError::Unclaimed => {
            Refused::malformed(error.to_string())
        }
        AskError::MayNotClaim => Refused::new(StatusCode::FORBIDDEN, Said::NotYours, error.to_string()),
        AskError::Store(error) => unavailable(error),
    }
}

pub async fn list(State(api): State<Arc<Api>>, Extension(peer): Extension<Peer>, call: Call) -> Response {
    let (head, _) = call.into_parts();
    let entered = async {
        let principal = api.known(&head, peer).await?;
        let listed = Listed::read(head.uri.query().unwrap_or_default());
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
    let (policies, now) = (api.policies.current(), api.clock.now());
    let named = |name: &String| {
        request::State::named(name)
            .ok_or_else(|| Refused::malformed("`state` is pending, approved, denied, expired or withdrawn"))
    };
    let state = match (listed.state.as_ref().map(named).transpose()?, listed.show) {
        (None | Some(request::State::Pending), Show::ToAnswer) => Some(request::State::Pending),
        // What is to answer waits: there is none in another state.
        (Some(_), Show::ToAnswer) => return Ok(json!(Listing { requests: Vec::new(), next: None })),
        (state, Show::Mine | Show::All) => state,
    };
    let state = state.map(request::State::name);
    let person = (listed.show == Show::Mine).then(|| principal.person().to_string());
    let limit = usize::try_from(listed.limit).unwrap_or(usize::MAX);
    let at_once = if listed.show == Show::ToAnswer { LOOKED_AT } else { listed.limit };
    let mut found = Vec::new();
    let (mut before, mut looked) = (listed.before, 0);
    let next = loop {
        let page = Page { person: person.clone(), state, before: before.clone(), limit: at_once };
        let rows = api.gates.approvals().requests(page).await.map_err(|error| unavailable(&error))?;
        let whole = rows.len() < usize::try_from(at_once).unwrap_or(usize::MAX);
        looked += rows.len();
        for row in &rows {
            if found.len() == limit {
                break;
            }
            before = Some((row.made, row.id.clone()));
            let is_theirs = || {
                let voter = Approvals::voter(&policies, principal, row);
                row.state_at(now) == request::State::Pending && row.voice(&voter).is_ok()
            };
            if listed.show != Show::ToAnswer || is_theirs() {
                found.push(shown::request(row, principal, &policies, now));
            }
        }
        if found.len() == limit || looked >= MOST_LOOKED_AT {
            break before.map(|(made, id)| cursor(made, &id));
        }
        if whole {
            break None;
        }
    };
    Ok(json!(Listing { requests: found, next }))
}

pub async fn one(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Named(id): Named,
    call: Call,
) -> Response {
    let (head, _) = call.into_parts();
    let entered = async {
        let principal = api.known(&head, peer).await?;
        let allowed = api.allowed(&head, peer, principal.clone(), READ, Kind::Read).await?;
        Ok::<_, Refused>((allowed, principal))
    };
    let (allowed, principal) = match entered.await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    match found(&api, &head, peer, &principal, &id).await {
        Ok(answer) => allowed.answer(StatusCode::OK, &answer),
        Err(refused) => allowed.refuse(refused),
    }
}

/// A request, as whoever may see it sees it.
pub(in crate::admin) async fn found(
    api: &Api,
    head: &Parts,
    peer: Peer,
    principal: &Principal,
    id: &str,
) -> Result<Value, Refused> {
    let found = seen(api, head, peer, principal, id).await?;
    Ok(json!(shown::request(&found, principal, &api.policies.current(), api.clock.now())))
}

/// A request, if it concerns whoever looks, or they may see those of others.
async fn seen(
    api: &Api,
    head: &Parts,
    peer: Peer,
    principal: &Principal,
    id: &str,
) -> Result<Request, Refused> {
    let found = api.gates.approvals().request(id).await.map_err(|error| unavailable(&error))?;
    let found = found.ok_or_else(|| unknown("request"))?;
    let policies = api.policies.current();
    if !concerns(&found, &Approvals::voter(&policies, principal, &found)) {
        let others = api.allowed(head, peer, principal.clone(), READ_OTHERS, Kind::Read).await;
        // Whoever may not see it is not told that it is there.
        others.map_err(|_| unknown("request"))?.done();
    }
    Ok(found)
}

/// Whether a request is somebody's own, or was asked in their name, or is theirs to answer if nobody
/// else's name stood in the way, or they are left out because they wrote the code, or they have answered
/// it.
fn concerns(request: &Request, voter: &Voter) -> bool {
    let own = voter.party.is_human_of(&request.asked.requester) || voter.claimed == Likeness::Same;
    let theirs = || {
        let heard = request.voice(&Voter { claimed: Likeness::Other, ..voter.clone() });
        matches!(heard, Ok(_) | Err(NoVoice::Author))
    };
    own || theirs() || request.votes.iter().any(|vote| vote.by.is_human_of(&voter.party))
}

pub async fn approve(api: State<Arc<Api>>, peer: Extension<Peer>, id: Named, call: Call) -> Response {
    answered(api, peer, id, call, APPROVING, Answer::Approve).await
}

pub async fn deny(api: State<Arc<Api>>, peer: Extension<Peer>, id: Named, call: Call) -> Response {
    answered(api, peer, id, call, DENYING, Answer::Deny).await
}

pub async fn withdraw(api: State<Arc<Api>>, peer: Extension<Peer>, id: Named, call: Call) -> Response {
    answered(api, peer, id, call, WITHDRAWING, Answer::Withdraw).await
}

async fn answered(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Named(id): Named,
    call: Call,
    action: &'static str,
    answer: impl FnOnce(Option<String>) -> Answer + Send,
) -> Response {
    let (head, body) = call.into_parts();
    let entered = async {
        let principal = api.known(&head, peer).await?;
        let allowed = api.allowed(&head, peer, principal.clone(), action, Kind::Action).await?;
        Ok::<_, Refused>((allowed, principal))
    };
    let (allowed, principal) = match entered.await {
        Ok(entered) => entered,
        Err(refused) => return refused.into_response(),
    };
    let given = async {
        let said = json_of::<Noted>(&head, body, MAX_BODY).await?;
        taken(&api, (&head, peer), &principal, &id, answer(said.note)).await
    };
    match given.await {
        Ok(shown) => allowed.answer(StatusCode::OK, &shown),
        Err(refused) => allowed.refuse(refused),
    }
}

/// Takes an answer, and records what came of it. Whoever may not see a request is not told that it is
/// there, or how far it has come.
pub(in crate::admin) async fn taken(
    api: &Arc<Api>,
    (head, peer): (&Parts, Peer),
    principal: &Principal,
    id: &str,
    answer: Answer,
) -> Result<Value, Refused> {
    drop(seen(api, head, peer, principal, id).await?);
    let (api, principal, id) = (Arc::clone(api), principal.clone(), id.to_owned());
    to_its_end(async move { answer_of(&api, &principal, &id, answer).await }).await
}

async fn answer_of(api: &Api, principal: &Principal, id: &str, answer: Answer) -> Result<Value, Refused> {
    let policies = api.policies.current();
    let answered = api.gates.approvals().answer(&policies, principal, id, &answer).await;
    let Answered { request, grant } = answered.map_err(|error| not_answered(&error))?;
    let verdict = match request.state {
        request::State::Pending => Verdict::Voted,
        request::State::Approved => Verdict::Approved,
        request::State::Denied => Verdict::Denied,
        request::State::Expired => Verdict::Expired,
        request::State::Withdrawn => Verdict::Withdrawn,
    };
    let by = Some(principal.id.to_string());
    let note = match answer {
        Answer::Approve(note) | Answer::Deny(note) | Answer::Withdraw(note) => note,
    };
    let mut events = vec![of_request(&request, by.clone(), verdict, note)];
    events.extend(grant.iter().map(|grant| of_grant(grant, by.clone(), GrantChange::Given)));
    for event in events {
        api.journal.happened(&event).await.map_err(|_| unrecorded())?;
    }
    let now = api.clock.now();
    let mut shown = shown::request(&request, principal, &policies, now);
    shown.grant = grant.as_ref().map(|grant| shown::grant(grant, now));
    Ok(json!(shown))
}

fn not_answered(error: &AnswerError) -> Refused {
    use crate::gates::approvals::request::Unmoved;
    let message = error.to_string();
    match error {
        AnswerError::Unknown => unknown("request"),
        AnswerError::Unmoved(Unmoved::Over(_) | Unmoved::Waits) | AnswerError::Changed(_) => {
            conflict(message)
        }
        AnswerError::Unmoved(Unmoved::NoVoice(_) | Unmoved::NotTheirs) => {
            Refused::new(StatusCode::FORBIDDEN, Said::NotYours, message)
        }
        AnswerError::Text => Refused::malformed(message),
        AnswerError::Store(error) => unavailable(error),
    }
}
