//! Sending a recorded request, and the one second attempt.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts, uri::PathAndQuery};
use tokio::sync::oneshot;

use super::{
    Gate, Outgoing, Route, answer, impersonation,
    meters::{Stage, Stopwatch},
    respond::Refusal,
    routes::{Chosen, EndpointAuth},
};
use crate::{
    audit::{Ending, Recorded, bodies::Taker},
    azureml::{Audience, BodyRefusal, Kind, Operation, Protocol},
    credentials::{ActsFor, Attempt, Bearer, CallerToken, Challenge, CredentialError, KeySlot, Unminted},
    http::{
        Body, Connection,
        headers::{self, Told},
    },
    identity::ConnectionMemo,
    policy::PolicySet,
    upstream::{self, Answer, Failure, Sending, Until, Upload, Watch, Watching, rewrite},
};

/// Everything that is sent but the token.
pub(super) struct Sent {
    pub onward: Onward,
    pub body: Outgoing,
    pub upgrade: Option<HeaderValue>,
    pub chosen: Chosen,
    pub policies: Arc<PolicySet>,
}

/// What goes on of the caller's head, before policies' facts take the rest of it.
pub(super) struct Onward {
    method: Method,
    /// The target as the caller wrote it.
    written: Option<PathAndQuery>,
    /// The headers that the upstream is told.
    pub headers: HeaderMap,
    /// Whether there is a second bearer to be replaced.
    pub ml_token: bool,
}

impl Onward {
    /// Of a request on a route.
    pub fn of(head: &Parts, route: &Route) -> Self {
        Self {
            method: head.method.clone(),
            written: head.uri.path_and_query().cloned(),
            headers: headers::upstream(&head.headers, told(route)),
            ml_token: head.headers.contains_key("x-azureml-token"),
        }
    }
}

/// How much of the caller's headers a route's upstream is told.
const fn told(route: &Route) -> Told {
    match route.settings.protocol {
        Protocol::Arm => headers::ARM,
        Protocol::Azureml => headers::AZUREML,
        Protocol::KeyVault => headers::KEY_VAULT,
        Protocol::Storage => headers::STORAGE,
        Protocol::Inference | Protocol::Kubernetes | Protocol::Http => Told::AllButRemoved,
    }
}

/// What the upstream is to see. `known_by` is what the caller is known by, if the route may need it.
pub(super) fn bearer(
    route: &Route,
    operation: &Operation,
    slot: Option<&KeySlot>,
    known_by: Option<CallerToken>,
) -> Bearer {
    let Some(choice) = &route.settings.credential else { return Bearer::Nothing };
    let Some(chosen) = choice.of(operation) else { return Bearer::Unchosen };
    let credential = Arc::clone(&chosen.name);
    let by_key = slot.is_some() || route.settings.auth == EndpointAuth::Key;
    match (&route.settings.resource, operation.audience) {
        (Some(endpoint), Audience::MachineLearning) if by_key => Bearer::EndpointKey {
            credential,
            endpoint: endpoint.clone(),
            slot: slot.copied().unwrap_or(KeySlot::Primary),
        },
        _ => {
            let caller = known_by.filter(|_| chosen.acts_for == ActsFor::Caller);
            Bearer::Token { credential, caller }
        }
    }
}

/// The credential's name, for the record.
pub(super) fn credential(bearer: &Bearer) -> Option<Arc<str>> {
    match bearer {
        Bearer::Token { credential, .. } | Bearer::EndpointKey { credential, .. } => {
            Some(Arc::clone(credential))
        }
        Bearer::Nothing | Bearer::Unchosen => None,
    }
}

/// Gets the token and sends. A write goes on to its answer in a task of its own, so that a caller
/// who hangs up does not leave it unrecorded (DECISIONS 14).
pub(super) async fn send(
    gate: &Gate,
    connection: &Connection<ConnectionMemo>,
    recorded: Recorded,
    bearer: Bearer,
    sent: Sent,
) -> Result<Response<Body>, Refusal> {
    let operation = recorded.permit().operation();
    let writes = operation.kind != Kind::Read && operation.audience != Audience::MachineLearning;
    if !writes {
        return exchange(gate, recorded, bearer, sent, Until::Answered).await;
    }
    let (done, answered) = oneshot::channel();
    let own = gate.clone();
    // The listener waits for it when it drains.
    connection.tasks().spawn_local(async move {
        // If the caller is gone the answer is dropped here, and its outcome recorded.
        drop(done.send(exchange(&own, recorded, bearer, sent, Until::Sent).await));
    });
    answered.await.unwrap_or(Err(Refusal::Internal))
}

/// Gets the token and sends, in the task of whoever asks for it.
pub(super) async fn exchange(
    gate: &Gate,
    recorded: Recorded,
    bearer: Bearer,
    sent: Sent,
    until: Until,
) -> Result<Response<Body>, Refusal> {
    let parts = gate.parts();
    let mut watch = Stopwatch::start(gate.meters());
    let mut attempt = parts
        .credentials
        .open(recorded, bearer, &parts.keys, sent.onward.ml_token)
        .await
        .map_err(unminted)?;
    watch.ended(Stage::Token);
    let mut again = Again::of(&sent.body);
    // All of it is taken apart: what stays of it would be kept as long as the request lasts.
    let Sent { onward, body, chosen, policies, upgrade } = sent;
    drop(upgrade);
    let taker = match &body {
        Outgoing::Streaming(_) => attempt.outcome().takes_request(),
        Outgoing::None | Outgoing::Judged(_) => None,
    };
    let (upload, mut body) = body_of(body, &chosen.route, taker);
    loop {
        let sending = sending(&attempt, &onward, body, &chosen);
        let judge = || watched(gate, &attempt);
        let watching = Watching { judge: &judge, until };
        let limits = &parts.limits.upstream;
        match upstream::forward(gate.pools(), &attempt, sending, &upload, Some(&watching), limits).await {
            Ok(answer) => {
                watch.ended(Stage::Upstream);
                if let Some(challenge) = challenge(&attempt, &answer) {
                    if let Some(bytes) = again.take() {
                        // Read nothing of the refusal: its connection ends with it. Boxed, as all that
                        // follows: few requests go twice.
                        attempt = Box::pin(parts.credentials.again(attempt, &parts.keys, Some(&challenge)))
                            .await
                            .map_err(unminted)?;
                        body = bytes;
                        continue;
                    }
                    // Whoever sends it again gets the fresh token.
                    let refreshed = Box::pin(parts.credentials.refresh(&attempt, &challenge)).await;
                    attempt.outcome().ended(Ending::NotSent);
                    if let Err(error) = refreshed {
                        tracing::warn!(%error, "no fresh token");
                        if attempt.bearer().is_on_behalf() {
                            return Err(untokened(attempt.recorded(), error));
                        }
                    }
                    return Err(Refusal::Stale {
                        why: "Azure asks for a fresh token; send the request again",
                        retry_after: 0,
                    });
                }
                if answer.response.status() == StatusCode::UNAUTHORIZED
                    && Box::pin(parts.keys.forget(&attempt)).await
                    && attempt.is_first()
                {
                    let Some(bytes) = again.take() else {
                        attempt.outcome().ended(Ending::NotSent);
                        return Err(Refusal::Stale {
                            why: "the endpoint's key was changed, and is fetched anew; send the request again",
                            retry_after: 0,
                        });
                    };
                    attempt = Box::pin(parts.credentials.again(attempt, &parts.keys, None))
                        .await
                        .map_err(unminted)?;
                    body = bytes;
                    continue;
                }
                return answer::pass_on(gate, attempt, answer, upload, &chosen, &policies).await;
            }
            // Azure has not looked at it: once more, by another connection (DECISIONS 13 and 19).
            Err(Failure::Unprocessed { .. }) if attempt.is_first() && again.is_there() => {
                metrics::counter!("amlgate_upstream_unprocessed_total").increment(1);
                attempt =
                    Box::pin(parts.credentials.again(attempt, &parts.keys, None)).await.map_err(unminted)?;
                body = again.take().unwrap_or(Body::Empty);
            }
            Err(failure) => return Err(failed(attempt, &failure, upload.sent())),
        }
    }
}

/// A body that can be sent a second time: none, or what was judged.
struct Again(Option<Outgoing>);

impl Again {
    fn of(body: &Outgoing) -> Self {
        Self(match body {
            Outgoing::None => Some(Outgoing::None),
            Outgoing::Judged(bytes) => Some(Outgoing::Judged(bytes.clone())),
            Outgoing::Streaming(_) => None,
        })
    }

    const fn is_there(&self) -> bool {
        self.0.is_some()
    }

    fn take(&mut self) -> Option<Body> {
        match self.0.take()? {
            Outgoing::Judged(bytes) => Some(Body::full(bytes)),
            Outgoing::None | Outgoing::Streaming(_) => Some(Body::Empty),
        }
    }
}

/// The body as it is sent, and what is known of it on its way; what streams is given to the taker.
pub(super) fn body_of(body: Outgoing, route: &Route, taker: Option<Taker>) -> (Upload, Body) {
    match body {
        Outgoing::None => (Upload::of(0), Body::Empty),
        Outgoing::Judged(bytes) => (Upload::of(bytes.len() as u64), Body::full(bytes)),
        Outgoing::Streaming(body) => {
            let (upload, counted) = Upload::streaming(body, told(route), taker);
            (upload, Body::stream(counted))
        }
    }
}

/// Judges what has no answer yet.
fn watched(gate: &Gate, attempt: &Attempt) -> Box<dyn Watch> {
    let lease = attempt.recorded().permit().lease(answer::stream_limits(gate, attempt));
    Box::new(answer::Leased::new(gate, lease, attempt.recorded().grants()))
}

pub(super) fn sending(attempt: &Attempt, onward: &Onward, body: Body, chosen: &Chosen) -> Sending {
    let permit = attempt.recorded().permit();
    let mut headers = onward.headers.clone();
    let operation = permit.operation();
    let recorded = permit.judgement().record.as_ref().is_some_and(|recording| recording.response);
    // What is looked into is asked for as it is.
    if recorded || rewrite::concerns(&operation.name) || !operation.secrets.is_empty() {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if operation.protocol == Protocol::Kubernetes {
        let caller = (!attempt.bearer().is_on_behalf()).then(|| &**permit.principal());
        impersonation::put(&mut headers, caller);
    }
    Sending {
        to: chosen.route.settings.upstream.clone(),
        method: onward.method.clone(),
        target: permit.request().target.clone(),
        written: onward.written.clone(),
        headers,
        body,
        upgrade: None,
        ml_token: onward.ml_token,
    }
}

fn challenge(attempt: &Attempt, answer: &Answer) -> Option<Challenge> {
    let token = matches!(attempt.bearer(), Bearer::Token { .. });
    if answer.response.status() != StatusCode::UNAUTHORIZED || !attempt.is_first() || !token {
        return None;
    }
    Challenge::of(answer.response.headers())
}

pub(super) fn unminted(unminted: Box<Unminted>) -> Refusal {
    let Unminted { mut recorded, error } = *unminted;
    recorded.outcome().ended(Ending::NotSent);
    tracing::warn!(%error, "no token");
    untokened(&recorded, error)
}

/// There is no token for a request: whose business is it?
fn untokened(recorded: &Recorded, error: CredentialError) -> Refusal {
    let passing = error.is_passing();
    // The mend is for the operator: `/readyz` and `doctor` show it.
    let why = match error {
        CredentialError::NotAPerson { why, cure } => return Refusal::NotAPerson { why, cure },
        CredentialError::SignInWanted { code, claims: Some(claims), .. } => {
            let issuer = Arc::clone(&recorded.permit().principal().id.issuer);
            return Refusal::SignInWanted { issuer, claims, code: code.into() };
        }
        CredentialError::SignInWanted { claims: None, .. } => {
            return Refusal::Unauthenticated { why: "Azure wants you to sign in again" };
        }
        CredentialError::CallerTokenOver(_) => {
            return Refusal::Unauthenticated { why: "your token has ended, or Entra does not take it" };
        }
        CredentialError::Fatal { code, .. } => format!("its credential is refused ({code})"),
        CredentialError::Passing { .. } => "the token endpoint does not answer".to_owned(),
        CredentialError::Unknown(_) => "its credential is not configured".to_owned(),
    };
    Refusal::NoToken { why, passing }
}

pub(super) fn failed(mut attempt: Attempt, failure: &Failure, sent: u64) -> Refusal {
    let outcome = attempt.outcome();
    outcome.sent(sent);
    let (ending, refusal) = match failure {
        Failure::Connect { .. } | Failure::Unwritable(_) => {
            (Ending::NotSent, Refusal::Upstream(failure.to_string()))
        }
        Failure::Broke { .. } | Failure::Unprocessed { .. } => {
            (Ending::UpstreamFailed, Refusal::Upstream(failure.to_string()))
        }
        Failure::Body => (Ending::ClientGone, Refusal::Body(BodyRefusal::Ambiguous(failure.to_string()))),
        Failure::Stalled { limit } => {
            (Ending::ClientGone, Refusal::Body(BodyRefusal::Slow { limit: *limit }))
        }
        Failure::Cut(_) => (Ending::Cut, Refusal::Cut(failure.to_string())),
        Failure::TimedOut { .. } => (Ending::TimedOut, Refusal::TimedOut(failure.to_string())),
    };
    match failure {
        Failure::Cut(why) => outcome.because(why),
        Failure::Stalled { .. } => outcome.because("the caller sent nothing more of the body"),
        Failure::Unprocessed { .. } => outcome.because("the upstream said that it had not looked at it"),
        Failure::Connect { .. }
        | Failure::Unwritable(_)
        | Failure::Broke { .. }
        | Failure::Body
        | Failure::TimedOut { .. } => {}
    }
    outcome.ended(ending);
    let error: &dyn std::error::Error = failure;
    tracing::warn!(error = %failure, cause = error.source().map(tracing::field::display), "the upstream failed");
    refusal
}
