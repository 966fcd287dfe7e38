//! An errand: a whole request that the gate itself makes at Resource Manager for somebody, the same way
//! as any call.
//!
//! Nobody waits at the other end. So nothing is held: whom an entry wants to approve it are asked at
//! once, and whoever sent the errand is told to come again. What is under way goes on to its answer.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};

use super::{
    Gate, Outgoing, Route, cleared, denied_by, facts,
    identify::{self, Caller},
    respond::Refusal,
    rights,
    routes::Chosen,
    send, unnamed, unreadable,
};
use crate::{
    audit::Exchange,
    azureml::{self, Inspected, Protocol},
    gates::approvals::BodyKnown,
    http::{Body, Target},
    identity::Principal,
    policy::{self, DecisionId, DenialCode},
    upstream::Until,
};

/// Bytes of an answer that are read.
const ANSWER: usize = 1 << 20;
/// It comes from nowhere, so that no entry takes it for a call from a network.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What is asked of Resource Manager.
#[derive(Debug)]
pub struct Errand {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Headers besides the body's type: words for whoever is asked to approve it.
    pub headers: HeaderMap,
    /// A body of JSON.
    pub body: Bytes,
}

/// Azure answered.
#[derive(Debug)]
pub struct Answered {
    /// The decision that let it go on.
    pub decision: DecisionId,
    /// The answer's status.
    pub status: StatusCode,
    /// Its body; nothing of one that is too large or broke off.
    pub body: Option<Bytes>,
}

/// It was not done, or nobody knows whether it was.
#[derive(Debug)]
pub struct Undone {
    /// The decision.
    pub decision: DecisionId,
    /// The code that a caller would be told.
    pub code: &'static str,
    /// Cause and cure, as a caller would be told.
    pub why: String,
    /// Whether it makes sense to come again.
    pub next: Next,
}

/// What can come of an errand that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing, unless something else changes.
    Nothing,
    /// Another outcome, after so long.
    Again(Duration),
    /// Another outcome, when people have answered this request.
    Answered(Box<str>),
}

/// Does an errand for somebody.
///
/// # Errors
/// [`Undone`]; what the policies refuse is recorded.
pub async fn run(gate: &Gate, principal: Principal, errand: Errand) -> Result<Answered, Undone> {
    let decision = DecisionId::fresh();
    let start = Instant::now();
    let route = gate.parts().routes.iter().find(|route| route.settings.protocol == Protocol::Arm).cloned();
    let sent = match &route {
        Some(route) => through(gate, decision, principal, errand, route).await,
        None => Err(Refusal::NoRoute),
    };
    let (verdict, status) = match &sent {
        Ok(response) => ("allowed", response.status()),
        Err(refusal) => ("denied", refusal.status()),
    };
    gate.meters().answered(route.as_ref(), verdict, status, start.elapsed());
    match sent {
        Ok(response) => {
            let (head, body) = response.into_parts();
            // An error is of a body that is too large or broke off: what was asked for is done.
            let body = Limited::new(body, ANSWER).collect().await.ok();
            Ok(Answered { decision, status: head.status, body: body.map(|body| body.to_bytes()) })
        }
        Err(refusal) => {
            let (code, why, next) = (refusal.code(), refusal.message(), next(&refusal));
            Err(Undone { decision, code, why, next })
        }
    }
}

async fn through(
    gate: &Gate,
    decision: DecisionId,
    principal: Principal,
    errand: Errand,
    route: &Arc<Route>,
) -> Result<Response<Body>, Refusal> {
    let Errand { method, target, headers, body } = errand;
    let bad = |why: &str| Refusal::Target(why.to_owned());
    let host = &route.settings.upstream.host;
    let chosen = Chosen {
        route: Arc::clone(route),
        target: Target::parse(host, &target).map_err(|why| bad(&why.0))?,
        prefix: String::new(),
        // No URL of the answer is for a caller of the gate.
        tunnelled: true,
    };
    let request = Request::builder().method(method).uri(&target).body(());
    let (mut head, ()) = request.map_err(|_| bad("it is none of a request"))?.into_parts();
    head.headers = headers;
    head.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    identify::standing(gate, &principal).map_err(|(refusal, _)| refusal)?;
    let caller = identify::belonging(gate, Caller { principal, slot: None }).await;
    let onward = send::Onward::of(&head, route);
    let (mut facts, standing) = facts(gate, decision, &chosen, &caller, head, NOWHERE);
    let named = match azureml::name(&route.naming, &facts.method, &facts.target) {
        Ok(named) => named,
        Err(unknown) => return Err(unnamed(gate, &caller, &facts, &unknown).await),
    };
    let inspected = match Inspected::parse(&body) {
        Ok(inspected) => inspected,
        Err(refusal) => return Err(unreadable(gate, &caller, &facts, refusal).await),
    };
    let mut body = Outgoing::Judged(inspected.bytes().clone());
    let operation = match named.complete(Some(&inspected)) {
        Ok(operation) => operation,
        Err(refusal) => return Err(unreadable(gate, &caller, &facts, refusal).await),
    };
    facts.body = Some(Arc::new(inspected));
    let mut policies = gate.parts().policies.current();
    let principal = caller.principal;
    let azure = rights(gate, &policies, &principal, &operation, &facts).await;
    let permit = match policy::decide(&policies, principal, operation, facts, standing, azure, gate.now()) {
        Ok(permit) => permit,
        Err(denied) => return Err(denied_by(gate, denied).await),
    };
    let cleared = cleared(gate, permit, BodyKnown::Whole, &mut policies, &mut body).await?;
    let bearer = send::bearer(route, cleared.permit().operation(), None, None);
    let exchange = Exchange { credential: send::credential(&bearer), upgrade: false };
    let recorded = gate.parts().journal.intend(cleared, exchange).await.map_err(|_| Refusal::Unrecorded)?;
    let sending = send::Sent { onward, body, upgrade: None, chosen, policies };
    send::exchange(gate, recorded, bearer, sending, Until::Sent).await
}

/// Whether a refusal may be another one later.
fn next(refusal: &Refusal) -> Next {
    let soon = Next::Again(Duration::from_secs(15));
    match refusal {
        Refusal::Denied { denial, retry_after } => match (denial.code, &denial.request, retry_after) {
            (DenialCode::ApprovalPending, Some(request), _) => Next::Answered(request.clone()),
            (DenialCode::LimitExceeded, _, wait) => Next::Again(wait.unwrap_or(Duration::from_secs(15))),
            // A code host may not answer now, or know it a moment later.
            (DenialCode::ReviewRequired, _, _) => soon,
            (_, _, _) => Next::Nothing,
        },
        Refusal::IssuerDown
        | Refusal::GroupsUnknown
        | Refusal::RevocationsUnknown
        | Refusal::Unrecorded
        | Refusal::NoToken { passing: true, .. }
        | Refusal::Stale { .. }
        | Refusal::Cut(_)
        | Refusal::Upstream(_)
        | Refusal::TimedOut(_)
        | Refusal::Internal => soon,
        Refusal::Head(_)
        | Refusal::Target(_)
        | Refusal::NoRoute
        | Refusal::Unauthenticated { .. }
        | Refusal::Unproven { .. }
        | Refusal::NotAPerson { .. }
        | Refusal::SignInWanted { .. }
        | Refusal::Body(_)
        | Refusal::NoToken { passing: false, .. }
        | Refusal::UpstreamRefusesGate => Next::Nothing,
    }
}
