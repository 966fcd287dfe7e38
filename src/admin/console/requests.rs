//! Requests for approval and grants: who asks for what and why, and the buttons to answer.
//!
//! A link only opens a page; what answers is a form that is POSTed from here, by whoever is signed in.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    super::{
        Mount,
        api::{Api, Peer, Refused, approvals},
    },
    Frame, Notice, Visit, entered,
    forms::{field, fields},
    html, refusal, visit,
};
use crate::{
    azureml::Kind,
    gates::approvals::{Answer, Wanted},
};

#[derive(Template)]
#[template(path = "requests.html")]
struct List {
    frame: Frame,
    to_answer: Vec<Asked>,
    mine: Vec<Asked>,
}

#[derive(Template)]
#[template(path = "request.html")]
struct One {
    frame: Frame,
    one: Asked,
}

#[derive(Template)]
#[template(path = "ask.html")]
struct Ask {
    frame: Frame,
    decision: String,
    reason: String,
    ticket: String,
    /// Why nothing was asked.
    wrong: Option<String>,
}

#[derive(Template)]
#[template(path = "grants.html")]
struct Grants {
    frame: Frame,
    grants: Vec<Granted>,
    /// Whether these are everybody's.
    all: bool,
}

/// A request, as the API answers it.
#[derive(Debug, Deserialize)]
struct Asked {
    id: String,
    state: String,
    entry: String,
    requester: Somebody,
    claimed: Option<ClaimedUser>,
    reason: Option<String>,
    ticket: Option<String>,
    what: What,
    demands: Vec<Demand>,
    open: Vec<Demand>,
    votes: Vec<Vote>,
    covers: String,
    uses: Option<u32>,
    valid_for: u64,
    decision: String,
    made: String,
    expires: String,
    decided: Option<String>,
    can: Vec<String>,
}

impl Asked {
    fn may(&self, verb: &str) -> bool {
        self.can.iter().any(|can| can == verb)
    }

    /// For how long a grant is good, in words.
    fn lasts(&self) -> String {
        match self.valid_for {
            hours if hours % 3_600 == 0 => format!("{} h", hours / 3_600),
            minutes if minutes % 60 == 0 => format!("{} min", minutes / 60),
            seconds => format!("{seconds} s"),
        }
    }

    /// For the style.
    fn class(&self) -> &'static str {
        match self.state.as_str() {
            "approved" => "allowed",
            "denied" => "denied",
            "pending" => "failed",
            _ => "open",
        }
    }
}

/// In whose name software asked, as it says.
#[derive(Debug, Deserialize)]
struct ClaimedUser {
    user: String,
}

#[derive(Debug, Deserialize)]
struct Somebody {
    id: String,
    agent: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct What {
    actions: Vec<String>,
    resources: Vec<String>,
    effects: Vec<String>,
    secrets: Vec<String>,
    reserves: Vec<String>,
    method: String,
    path: String,
    route: String,
    body: String,
    from: String,
}

/// Whose answer is wanted.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Demand {
    Subject {
        subject: String,
        count: u32,
    },
    /// Of an agent: the human for whom it acts.
    Human(serde::de::IgnoredAny),
}

impl Demand {
    fn words(&self) -> String {
        match self {
            Self::Human(_) => "their own human".to_owned(),
            Self::Subject { subject, count } => format!("{count} of {subject}"),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Vote {
    by: Somebody,
    at: String,
    note: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Granted {
    id: String,
    state: String,
    entry: String,
    holder: Somebody,
    request: String,
    approvers: Vec<Vote>,
    what: What,
    uses: Option<u32>,
    used: u32,
    expires: String,
}

impl Granted {
    fn stands(&self) -> bool {
        matches!(self.state.as_str(), "active" | "used")
    }
}

/// What the API answers, for a page.
fn read<T: DeserializeOwned>(value: Value) -> Result<T, Refused> {
    serde_json::from_value(value).map_err(|error| Refused::unavailable(error.to_string()))
}

fn many<T: DeserializeOwned>(mut value: Value, key: &str) -> Result<Vec<T>, Refused> {
    read(value.get_mut(key).map(Value::take).unwrap_or_default())
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let entered = entered(&api, peer, head, "/requests", "amlgate/requests/read", Kind::Read).await;
    let (Visit { principal, frame, .. }, allowed) = match entered {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    let found = async {
        let to_answer = approvals::requests_of(&api, &principal, "show=to_answer").await?;
        let mine = approvals::requests_of(&api, &principal, "show=mine&limit=25").await?;
        Ok::<_, Refused>((many(to_answer, "requests")?, many(mine, "requests")?))
    };
    match found.await {
        Ok((to_answer, mine)) => {
            let page = List { frame, to_answer, mine };
            allowed.shown(html(StatusCode::OK, &page.frame, &page))
        }
        Err(refused) => allowed.shown(refusal(refused, frame)),
    }
}

pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let entered = entered(&api, peer, head, "/requests", "amlgate/requests/read", Kind::Read).await;
    let (Visit { head, peer, principal, frame }, allowed) = match entered {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    match approvals::found(&api, &head, peer, &principal, &id).await.and_then(read) {
        Ok(one) => {
            let page = One { frame, one };
            allowed.shown(html(StatusCode::OK, &page.frame, &page))
        }
        Err(refused) => allowed.shown(refusal(refused, frame)),
    }
}

/// The form with which somebody asks, for a decision that the address names.
pub(super) async fn new(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let Visit { head, frame, .. } = match visit(&api, peer, head, "/requests").await {
        Ok(visit) => visit,
        Err(response) => return *response,
    };
    let query = head.uri.query().unwrap_or_default();
    let decision = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "decision");
    let decision = decision.map(|(_, value)| value.into_owned()).unwrap_or_default();
    let page = Ask { frame, decision, reason: String::new(), ticket: String::new(), wrong: None };
    html(StatusCode::OK, &page.frame, &page)
}

pub(super) async fn ask(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let entered = entered(&api, peer, head, "/requests", "amlgate/requests/write", Kind::Write).await;
    let (Visit { principal, frame, .. }, allowed) = match entered {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    let fields = match fields(body).await {
        Ok(fields) => fields,
        Err(refused) => return allowed.shown(refusal(refused, frame)),
    };
    let text = |name: &str| field(&fields, name);
    let decision = text("decision").unwrap_or_default();
    let (reason, ticket) = (text("reason"), text("ticket"));
    let wanted = Wanted { decision: decision.clone(), reason, ticket, claimed: None };
    let asked = approvals::ask_for(&api, &principal, wanted).await;
    match asked.and_then(|(_, value)| many::<Asked>(value, "requests")) {
        Ok(made) => {
            let one = made.first().map_or_else(String::new, |one| format!("/{}", one.id));
            let to = frame.at(&format!("/requests{one}"));
            allowed.shown(Redirect::to(&to).into_response())
        }
        Err(refused) => {
            let (reason, ticket) = (text("reason").unwrap_or_default(), text("ticket").unwrap_or_default());
            let page = Ask { frame, decision, reason, ticket, wrong: Some(refused.message) };
            allowed.shown(html(refused.status, &page.frame, &page))
        }
    }
}

pub(super) async fn answer(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Path((id, verb)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    type Said = fn(Option<String>) -> Answer;
    let (action, said): (_, Said) = match &*verb {
        "approve" => ("amlgate/requests/approve/action", Answer::Approve),
        "deny" => ("amlgate/requests/deny/action", Answer::Deny),
        "withdraw" => ("amlgate/requests/withdraw/action", Answer::Withdraw),
        _ => {
            return Notice::page(
                StatusCode::NOT_FOUND,
                Frame::nobody(Mount::of(&head.extensions)),
                "Requests are approved, denied or withdrawn.",
            );
        }
    };
    let (Visit { head, peer, principal, frame }, allowed) =
        match entered(&api, peer, head, "/requests", action, Kind::Action).await {
            Ok(entered) => entered,
            Err(response) => return *response,
        };
    let answered = async {
        let note = field(&fields(body).await?, "note");
        approvals::taken(&api, (&head, peer), &principal, &id, said(note)).await
    };
    match answered.await.and_then(read::<Asked>) {
        Ok(one) => allowed.shown(Redirect::to(&frame.at(&format!("/requests/{}", one.id))).into_response()),
        Err(refused) => allowed.shown(refusal(refused, frame)),
    }
}

pub(super) async fn grants(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let all = head.uri.query() == Some("show=all");
    let action = if all { "amlgate/others/grants/read" } else { "amlgate/grants/read" };
    let (Visit { principal, frame, .. }, allowed) =
        match entered(&api, peer, head, "/grants", action, Kind::Read).await {
            Ok(entered) => entered,
            Err(response) => return *response,
        };
    let query = if all { "show=all" } else { "show=mine" };
    let found = approvals::grants_of(&api, &principal, query).await;
    match found.and_then(|value| many(value, "grants")) {
        Ok(grants) => {
            let page = Grants { frame, grants, all };
            allowed.shown(html(StatusCode::OK, &page.frame, &page))
        }
        Err(refused) => allowed.shown(refusal(refused, frame)),
    }
}

pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let (head, _) = request.into_parts();
    let entered = entered(&api, peer, head, "/grants", "amlgate/grants/revoke/action", Kind::Action).await;
    let (Visit { head, peer, principal, frame }, allowed) = match entered {
        Ok(entered) => entered,
        Err(response) => return *response,
    };
    match approvals::taken_back(&api, &head, peer, &principal, &id).await {
        Ok(_) => allowed.shown(Redirect::to(&frame.at("/grants")).into_response()),
        Err(refused) => allowed.shown(refusal(refused, frame)),
    }
}
