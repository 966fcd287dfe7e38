//! THE request: each step consumes what only the step before it can make.
//!
//! target, route, caller, meaning, body, decision, gates, record, token, upstream, answer. What
//! goes wrong at any of them ends in [`respond`], and is recorded on its way there.

mod answer;
mod approve;
mod challenge;
mod custody;
mod discovery;
mod drain;
pub mod errand;
pub mod forward;
mod gate;
mod identify;
mod impersonation;
mod meters;
mod passthrough;
pub mod possession;
pub mod respond;
pub mod routes;
mod send;
mod upgrade;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};

pub use discovery::CloudDocuments;
pub use gate::{Core, Gate, GateParts, ProxyLimits, SharedParts};
pub use routes::{EndpointAuth, Route, RouteSettings, Routes};

use self::{
    identify::Caller,
    meters::{Stage, Stopwatch},
    respond::{Refusal, mark, refuse, shape},
    routes::Chosen,
};
use crate::{
    audit::Exchange,
    azureml::{self, BodyNeed, BodyRefusal, Inspected, Operation, UnknownOperation},
    gates::{Cleared, approvals::BodyKnown},
    http::{Body, Connection, Target, framing, headers},
    identity::{ConnectionMemo, Principal},
    policy::{self, DecisionId, Denial, Permit, PolicySet, RequestFacts, Standing},
    upstream::polling,
};

/// By which way a request came.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Door<'t> {
    /// To the gate's own address: a path or a host of its own selects the route.
    Reverse,
    /// To the upstream's own name: through a tunnel, or by an absolute URL where that is plaintext.
    Tunnel(&'t forward::Tunnel),
}

/// Serves one request of a connection to the reverse proxy. No future around another: each would hold
/// the request once more.
pub fn serve<'g>(
    gate: &'g Gate,
    connection: &'g Connection<ConnectionMemo>,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Body>> + use<'g> {
    serve_through(gate, connection, request, Door::Reverse)
}

/// Serves one request of a connection, whichever way it came.
pub(crate) async fn serve_through(
    gate: &Gate,
    connection: &Connection<ConnectionMemo>,
    request: Request<Incoming>,
    door: Door<'_>,
) -> Response<Body> {
    let decision = DecisionId::fresh();
    let start = Instant::now();
    let (head, body) = request.into_parts();
    let mut known = Known::default();
    let reading = drain::Reading::of(&head, &body);
    let mut unread = Some(body);
    let mut response = match pass(gate, connection, decision, head, &mut unread, &mut known, door).await {
        Ok(response) => response,
        Err(refusal) => {
            let protocol = known.route.as_ref().map(|r| r.settings.protocol);
            let mut response = refuse(&refusal, shape(protocol, known.mlflow), decision);
            challenge::put(&mut response, &refusal, protocol, gate);
            drain::finish(reading, unread, &gate.parts().clock, &mut response).await;
            response
        }
    };
    mark(&mut response, decision);
    gate.meters().answered(known.route.as_ref(), known.verdict, response.status(), start.elapsed());
    response
}

/// What is known of a request when it ends, for its answer's shape and the metrics.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub route: Option<Arc<Route>>,
    /// Whether it is one of MLflow's own paths.
    pub mlflow: bool,
    pub verdict: &'static str,
}

async fn pass(
    gate: &Gate,
    connection: &Connection<ConnectionMemo>,
    decision: DecisionId,
    head: Parts,
    unread: &mut Option<Incoming>,
    known: &mut Known,
    door: Door<'_>,
) -> Result<Response<Body>, Refusal> {
    known.verdict = "refused";
    let source = gate.source(connection.peer, &head.headers);
    let early = |refusal: Refusal, reason| {
        gate.parts().journal.refused(source.ip(), reason);
        refusal
    };
    // Where to?
    let host = framing::check(&head).map_err(|why| early(Refusal::Head(why), why.name()))?;
    let path_and_query = head.uri.path_and_query().map_or("/", |p| p.as_str());
    if let (Door::Reverse, Some(document)) = (door, discovery::own(gate, &head.method, path_and_query)) {
        known.verdict = "answered";
        return Ok(document);
    }
    let target = Target::parse(&host, path_and_query)
        .map_err(|why| early(Refusal::Target(why.0.into()), "bad_target"))?;
    known.mlflow = target.path().contains("/mlflow/");
    let chosen = match door {
        Door::Reverse => gate.parts().routes.choose(&target),
        // Whoever was let through to one host asks for no other (RFC 9110, 15.5.20).
        Door::Tunnel(tunnel) if *tunnel.host != *target.host() => {
            return Err(early(Refusal::Head(framing::BadHead::Misdirected), "misdirected"));
        }
        Door::Tunnel(tunnel) => gate.parts().routes.inside(tunnel.scheme, tunnel.port, &target),
    };
    let chosen = chosen.ok_or_else(|| early(Refusal::NoRoute, "no_route"))?;
    known.route = Some(Arc::clone(&chosen.route));
    if let Some(document) = discovery::answer(gate, &head.method, &head.headers, &chosen) {
        known.verdict = "answered";
        return Ok(document);
    }
    let mut watch = Stopwatch::start(gate.meters());
    // Who?
    let asked = identify::Asked { method: &head.method, headers: &head.headers, target: &target };
    let caller = identify::caller(gate, connection, asked, &chosen, door)
        .await
        .and_then(|caller| identify::standing(gate, &caller.principal).map(|()| caller))
        .map_err(|(refusal, reason)| early(refusal, reason))?;
    let caller = identify::belonging(gate, caller).await;
    watch.ended(Stage::Identify);
    // What is kept of a request is kept as long as it lasts.
    drop((host, target));
    // From here on everything is recorded with the caller's name.
    known.verdict = "denied";
    let upgrade = upgrade::wanted(&head, &chosen.route);
    let onward = send::Onward::of(&head, &chosen.route);
    let known_by = identify::known_by(&chosen, &head.headers, door);
    let (mut facts, standing) = facts(gate, decision, &chosen, &caller, head, source);
    let glass = gate.parts().gates.break_glass();
    facts.glass = glass.under(&gate.parts().policies.peek(), &caller.principal, gate.now());
    let body = unread.take().ok_or(Refusal::Internal)?;
    let (operation, mut facts, body) = meaning(gate, &chosen, &caller, facts, &onward.headers, body).await?;
    // A refusal below finds a body that nobody has read.
    let mut body = match body {
        Outgoing::Streaming(body) => {
            *unread = Some(body);
            Outgoing::None
        }
        read @ (Outgoing::None | Outgoing::Judged(_)) => read,
    };
    watch.ended(Stage::Name);
    // May they?
    let mut policies = gate.parts().policies.current();
    let Caller { principal, slot } = caller;
    // Whoever took long to send it may act under another by now, or under none.
    facts.glass = gate.parts().gates.break_glass().under(&policies, &principal, gate.now());
    let azure = rights(gate, &policies, &principal, &operation, &facts).await;
    let permit = match policy::decide(&policies, principal, operation, facts, standing, azure, gate.now()) {
        Ok(permit) => permit,
        Err(denied) => return Err(Box::pin(denied_by(gate, denied)).await),
    };
    let known_body = if unread.is_some() { BodyKnown::Streams } else { BodyKnown::Whole };
    let cleared = cleared(gate, permit, known_body, &mut policies, &mut body).await?;
    known.verdict = "allowed";
    watch.ended(Stage::Decide);
    // Record, token, upstream, answer.
    let bearer = send::bearer(&chosen.route, cleared.permit().operation(), slot.as_ref(), known_by);
    let exchange = Exchange { credential: send::credential(&bearer), upgrade: upgrade.is_some() };
    let recorded = gate.parts().journal.intend(cleared, exchange).await.map_err(|_| Refusal::Unrecorded)?;
    watch.ended(Stage::Record);
    let body = unread.take().map_or(body, Outgoing::Streaming);
    let sending = send::Sent { onward, body, upgrade, chosen, policies };
    if let Some(protocol) = sending.upgrade.clone() {
        return Box::pin(upgrade::tunnel(gate, connection, recorded, bearer, sending, protocol)).await;
    }
    send::send(gate, connection, recorded, bearer, sending).await
}

/// What Azure lets the caller do where an entry asks for that.
async fn rights(
    gate: &Gate,
    policies: &PolicySet,
    principal: &Principal,
    operation: &Operation,
    facts: &RequestFacts,
) -> policy::Azure {
    match policies.azure_scopes(principal, operation, facts) {
        none if none.is_empty() => policy::Azure::default(),
        // Boxed: hardly any request waits for it.
        scopes => Box::pin(gate.parts().rights.of(principal, scopes)).await,
    }
}

/// Records that the decision is against it.
async fn denied_by(gate: &Gate, denied: Box<policy::Denied>) -> Refusal {
    match (gate.parts().journal.denied(&denied).await, denied.judgement.denial) {
        (Err(_), _) => Refusal::Unrecorded,
        (Ok(()), None) => Refusal::Internal,
        (Ok(()), Some(denial)) => Refusal::Denied { denial: Box::new(denial), retry_after: None },
    }
}

/// The permit with all that it needs; `policies` are those that let it go on.
async fn cleared(
    gate: &Gate,
    permit: Permit,
    known: BodyKnown,
    policies: &mut Arc<PolicySet>,
    body: &mut Outgoing,
) -> Result<Cleared, Refusal> {
    // Boxed: few requests wait for people or for others' words, and few are held up.
    if permit.judgement().asks() || custody::concerns(policies, &permit) {
        let cleared = Box::pin(custody::cleared(gate, permit, known, body)).await?;
        // Who waited is treated as the policies say that let them go on.
        *policies = gate.parts().policies.current();
        return Ok(cleared);
    }
    match gate.parts().gates.clear(permit) {
        Ok(cleared) => Ok(cleared),
        Err(held) => Err(Box::pin(approve::refused(gate, held)).await),
    }
}

/// What policies may know of the request, and what stands in for an `allow`.
fn facts(
    gate: &Gate,
    decision: DecisionId,
    chosen: &Chosen,
    caller: &Caller,
    head: Parts,
    source: SocketAddr,
) -> (RequestFacts, Standing) {
    let now = gate.now();
    let (target, polls) = if chosen.target.query().get(polling::PARAMETER).is_some() {
        let principal = caller.principal.id.to_string();
        let bound = polling::Bound { route: &chosen.route.settings.name, principal: &principal };
        polling::open(&gate.parts().polling, &chosen.target, bound, now)
    } else {
        (chosen.target.clone(), false)
    };
    let polls = polls && head.method == http::Method::GET;
    let facts = RequestFacts {
        decision,
        route: Arc::clone(&chosen.route.settings.name),
        method: head.method,
        target,
        headers: headers::without_credentials(head.headers),
        body: None,
        source,
        received: now,
        glass: None,
    };
    (facts, if polls { Standing::PollingCapability } else { Standing::Entries })
}

/// What is still to be sent of the request's body.
pub(crate) enum Outgoing {
    /// Nothing.
    None,
    /// What was judged.
    Judged(Bytes),
    /// What streams.
    Streaming(Incoming),
}

/// Names the request and reads its body if the meaning, or an entry, asks for it.
async fn meaning(
    gate: &Gate,
    chosen: &Chosen,
    caller: &Caller,
    mut facts: RequestFacts,
    onward: &HeaderMap,
    body: Incoming,
) -> Result<(Operation, RequestFacts, Outgoing), Refusal> {
    let named = match azureml::name(&chosen.route.naming, &facts.method, &facts.target) {
        Ok(named) => named,
        Err(unknown) => return Err(Box::pin(unnamed(gate, caller, &facts, &unknown)).await),
    };
    let empty = body.is_end_stream();
    // Without a body no entry is asked whether it reads it.
    let judged = !empty
        && (named.body_need() == BodyNeed::Inspect
            || gate.parts().policies.peek().reads_body(&caller.principal, named.so_far(), &facts));
    let outgoing = if judged {
        // Boxed: few bodies are judged.
        match Box::pin(inspect(gate, onward, body)).await {
            Ok(inspected) => {
                let bytes = inspected.bytes().clone();
                facts.body = Some(Arc::new(inspected));
                Outgoing::Judged(bytes)
            }
            Err(refusal) => return Err(unreadable(gate, caller, &facts, refusal).await),
        }
    } else if empty {
        Outgoing::None
    } else {
        Outgoing::Streaming(body)
    };
    let inspected = facts.body.clone();
    match named.complete(inspected.as_deref()) {
        Ok(operation) => Ok((operation, facts, outgoing)),
        Err(refusal) => Err(unreadable(gate, caller, &facts, refusal).await),
    }
}

/// What has no name is refused, and that is recorded.
async fn unnamed(gate: &Gate, caller: &Caller, facts: &RequestFacts, unknown: &UnknownOperation) -> Refusal {
    let denial = Denial::unknown_operation(unknown);
    match gate.parts().journal.unnamed(&caller.principal, facts, &denial).await {
        Ok(()) => Refusal::Denied { denial: Box::new(denial), retry_after: None },
        Err(_) => Refusal::Unrecorded,
    }
}

/// A body that cannot be judged is refused, and that is recorded.
async fn unreadable(gate: &Gate, caller: &Caller, facts: &RequestFacts, refusal: BodyRefusal) -> Refusal {
    let unknown = UnknownOperation { method: facts.method.to_string(), path: facts.target.path().to_owned() };
    let denial = Denial { cause: refusal.to_string(), ..Denial::unknown_operation(&unknown) };
    match gate.parts().journal.unnamed(&caller.principal, facts, &denial).await {
        Ok(()) => Refusal::Body(refusal),
        Err(_) => Refusal::Unrecorded,
    }
}

/// Reads a body whole, up to the limit, as the upstream will be told to read it.
async fn inspect(gate: &Gate, onward: &HeaderMap, body: Incoming) -> Result<Inspected, BodyRefusal> {
    let limit = gate.parts().limits.inspected_body;
    let text = |name| onward.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok());
    if text(header::CONTENT_ENCODING).is_some_and(|e| !e.eq_ignore_ascii_case("identity")) {
        return Err(BodyRefusal::Unreadable("a judged body may not be compressed".to_owned()));
    }
    let mut types = onward.get_all(header::CONTENT_TYPE).iter();
    let media = types.next().and_then(|v| v.to_str().ok()).unwrap_or_default();
    if types.next().is_some() || !is_json(media) {
        return Err(BodyRefusal::Unreadable(format!("a judged body is `application/json`, not `{media}`")));
    }
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyRefusal::TooLarge { limit });
    }
    let patience = gate.parts().limits.upstream.body;
    let collected = tokio::time::timeout(patience, Limited::new(body, limit).collect())
        .await
        .map_err(|_| BodyRefusal::Slow { limit: patience })?
        .map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                BodyRefusal::TooLarge { limit }
            } else {
                BodyRefusal::Ambiguous("the body broke off".to_owned())
            }
        })?;
    Inspected::parse(&collected.to_bytes())
}

fn is_json(media: &str) -> bool {
    let (kind, parameters) = media.split_once(';').unwrap_or((media, ""));
    let charset = parameters.trim().to_ascii_lowercase();
    kind.trim().eq_ignore_ascii_case("application/json") && (charset.is_empty() || charset == "charset=utf-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How large the future is that such a function makes.
    fn future<'a, F: Future>(
        _: impl FnOnce(&'a Gate, &'a Connection<ConnectionMemo>, Request<Incoming>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// Each request is this large in memory as long as it lasts, and is copied to its place.
    /// Whatever waits for the network rarely (a key's fetch, a dialling) belongs in a box.
    #[test]
    fn a_request_under_way_takes_less_than_9_kib() {
        let size = future(serve);
        assert!(size < 9 << 10, "{size} bytes");
    }
}
