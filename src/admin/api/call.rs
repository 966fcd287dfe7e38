//! The road of a call to the API: caller, decision, gates, record.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, Path},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{super::sign_in, Api};
use crate::{
    audit::{Ending, Exchange, OutcomeGuard},
    azureml::{Kind, Operation},
    gates::approvals::BodyKnown,
    http::{
        Target, headers,
        problem::{self, Problem, Shape},
    },
    identity::{Principal, Standing, bearer},
    policy::{self, Azure, DecisionId, Denial, DenialCode, RequestFacts},
};

/// Who dialled.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Every answer names its decision, as on the data plane.
const DECISION: &str = "x-amlgate-decision";

/// What kind of refusal it is, in one word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Said {
    Unauthenticated,
    Denied(DenialCode),
    Malformed,
    NotFound,
    NotConfigured,
    NotYours,
    Conflict,
    Unavailable,
    NotWhole,
    OtherMethod,
}

impl Said {
    const fn code(self) -> &'static str {
        match self {
            Self::Unauthenticated => "AuthenticationFailed",
            Self::Denied(code) => code.name(),
            Self::Malformed => "BadRequest",
            Self::NotFound => "NotFound",
            Self::NotConfigured => "NotConfigured",
            Self::NotYours => "Forbidden",
            Self::Conflict => "Conflict",
            Self::Unavailable => "ServiceUnavailable",
            Self::NotWhole => "RecordNotWhole",
            Self::OtherMethod => "MethodNotAllowed",
        }
    }
}

/// A call that is refused.
#[derive(Debug)]
pub(in crate::admin) struct Refused {
    pub status: StatusCode,
    pub said: Said,
    pub message: String,
    pub decision: Option<DecisionId>,
    pub retry_after: Option<u64>,
}

impl Refused {
    pub fn new(status: StatusCode, said: Said, message: impl Into<String>) -> Self {
        Self { status, said, message: message.into(), decision: None, retry_after: None }
    }

    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Said::Malformed, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        let retry_after = Some(1);
        Self { retry_after, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, Said::Unavailable, message) }
    }

    pub fn nobody(why: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Said::Unauthenticated, why)
    }

    fn denied(denial: &Denial, decision: DecisionId) -> Self {
        let status = if denial.code == DenialCode::LimitExceeded {
            StatusCode::TOO_MANY_REQUESTS
        } else if denial.code == DenialCode::AlreadySent {
            StatusCode::CONFLICT
        } else if denial.code == DenialCode::StepUpRequired {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::FORBIDDEN
        };
        let message = format!("{}\n{}", denial.cause, denial.cure);
        let decision = Some(decision);
        Self { decision, ..Self::new(status, Said::Denied(denial.code), message) }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let info = self.decision.map_or(Value::Null, |decision| json!({"decision": decision.to_string()}));
        let problem = Problem { status: self.status, code: self.said.code(), message: &self.message, info };
        let (head, body) = problem::answer(Shape::Problem, &problem).into_parts();
        let body = match body {
            crate::http::Body::Full(Some(bytes)) => bytes,
            crate::http::Body::Full(None) | crate::http::Body::Empty | crate::http::Body::Stream(_) => {
                Bytes::new()
            }
        };
        let mut response = Response::from_parts(head, Body::from(body));
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"amlgate\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(decision) = self.decision {
            named(&mut response, decision);
        }
        response
    }
}

/// A parameter of the path. What is no text is refused in the words of the API.
#[derive(Debug)]
pub(in crate::admin) struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(Refused::malformed("the path is no UTF-8 behind its `%`")),
        }
    }
}

fn named(response: &mut Response, decision: DecisionId) {
    if let Ok(value) = HeaderValue::from_str(&decision.to_string()) {
        response.headers_mut().insert(DECISION, value);
    }
}

/// Reads a body of JSON, of at most so many bytes.
pub(in crate::admin) async fn json_of<T: DeserializeOwned>(
    head: &Parts,
    body: Body,
    most: usize,
) -> Result<T, Refused> {
    let media = head.headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
    let is_json = |media: &str| media.split(';').next().is_some_and(|m| m.trim() == "application/json");
    if !media.is_some_and(is_json) {
        let why = "write `content-type: application/json`";
        return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Said::Malformed, why));
    }
    let body = Limited::new(body, most).collect().await;
    let body = body.map_err(|_| Refused::malformed("the body is too large or too slow, or broke off"))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| Refused::malformed(error.to_string()))
}

/// A call that was allowed and recorded; its outcome is recorded when it is answered, or dropped.
pub(in crate::admin) struct Allowed {
    outcome: OutcomeGuard,
    decision: DecisionId,
}

impl Allowed {
    /// A page, or another answer that is no JSON, recorded.
    pub fn shown(mut self, response: Response) -> Response {
        self.outcome.answered(response.status().as_u16(), None);
        self.outcome.ended(Ending::Completed);
        let mut response = response;
        named(&mut response, self.decision);
        response
    }

    pub const fn decision(&self) -> DecisionId {
        self.decision
    }

    /// What was allowed besides is done, and another answer says it.
    pub fn done(mut self) {
        self.outcome.ended(Ending::Completed);
    }

    /// The answer, recorded.
    pub fn answer(mut self, status: StatusCode, body: &impl Serialize) -> Response {
        self.outcome.answered(status.as_u16(), None);
        self.outcome.ended(Ending::Completed);
        let mut response = (status, axum::Json(body)).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        named(&mut response, self.decision);
        response
    }

    /// The answer that is no JSON, recorded.
    pub fn give(mut self, body: impl Into<Body>) -> Response {
        self.outcome.answered(StatusCode::OK.as_u16(), None);
        self.outcome.ended(Ending::Completed);
        let mut response = Response::new(body.into());
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        named(&mut response, self.decision);
        response
    }

    /// The refusal of a call that was allowed and cannot be done.
    pub fn refuse(mut self, refused: Refused) -> Response {
        self.outcome.answered(refused.status.as_u16(), None);
        self.outcome.ended(Ending::NotSent);
        Refused { decision: Some(self.decision), ..refused }.into_response()
    }
}

impl Api {
    /// Who calls.
    pub(in crate::admin) async fn caller(
        &self,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Principal, Refused> {
        self.visitor(headers, peer).await.map(|(principal, _)| principal)
    }

    /// Who calls, by the one bearer token of the request, else by the session of a browser; then the
    /// session's digest, too.
    pub(in crate::admin) async fn visitor(
        &self,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<(Principal, Option<String>), Refused> {
        let (principal, session) = self.came(headers, peer).await?;
        let principal = match self.policies.peek().gerrit_groups_to_ask(&principal) {
            None => principal,
            Some(about) => self.gates.reviews().mirror().told(principal, about).await,
        };
        Ok((principal, session))
    }

    async fn came(&self, headers: &HeaderMap, peer: Peer) -> Result<(Principal, Option<String>), Refused> {
        let refused = |reason: &'static str, refusal: Refused| {
            self.journal.refused(peer.0.ip(), reason);
            refusal
        };
        if !headers.contains_key(header::AUTHORIZATION)
            && let Some(sessions) = self.sessions.load_full()
        {
            match sign_in::session(headers) {
                Ok(None) => {}
                Ok(Some(secret)) => {
                    return match sessions.visitor(secret).await {
                        Ok(visitor) => Ok((visitor.principal, Some(visitor.session))),
                        Err(error) => {
                            let refusal = if sign_in::status(&error).is_server_error() {
                                Refused::unavailable("the session cannot be read now")
                            } else {
                                Refused::nobody("the session has ended: sign in again")
                            };
                            Err(refused(sign_in::reason(&error), refusal))
                        }
                    };
                }
                Err(sign_in::Several) => {
                    let refusal = Refused::nobody("the request carries more than one session");
                    return Err(refused("several_sessions", refusal));
                }
            }
        }
        let token = bearer::of(headers).map_err(|why| {
            refused(why.name(), Refused::nobody("the request carries no bearer token, or more than one"))
        })?;
        let holder = self.holder(token).await;
        holder.map(|principal| (principal, None)).map_err(|(reason, refusal)| refused(reason, refusal))
    }

    /// Whose token it is, if it is accepted and not revoked.
    pub(super) async fn holder(&self, token: &str) -> Result<Principal, (&'static str, Refused)> {
        let principal = self.verifier.authenticate(token).await.map_err(|rejection| {
            let refusal = if rejection.is_outage() {
                Refused::unavailable("what the token is verified with cannot be had from its issuer now")
            } else {
                Refused::nobody("the token is not accepted")
            };
            (rejection.reason().name(), refusal)
        })?;
        match self.verifier.revoked().standing(&principal, self.clock.now()) {
            Standing::Stands => Ok(principal),
            Standing::Revoked => Err(("revoked", Refused::nobody("the token is not accepted"))),
            Standing::Unknown => {
                Err(("revocations_unknown", Refused::unavailable("revocations cannot be read now")))
            }
        }
    }

    /// Who calls, if they may do `action`, and its record.
    pub(super) async fn entered(
        &self,
        head: &Parts,
        peer: Peer,
        action: &str,
        kind: Kind,
    ) -> Result<(Allowed, Principal), Refused> {
        let principal = self.caller(&head.headers, peer).await?;
        let allowed = self.allowed(head, peer, principal.clone(), action, kind).await?;
        Ok((allowed, principal))
    }

    /// Whether the caller may do `action`, and its record.
    pub(in crate::admin) async fn allowed(
        &self,
        head: &Parts,
        peer: Peer,
        principal: Principal,
        action: &str,
        kind: Kind,
    ) -> Result<Allowed, Refused> {
        let decision = DecisionId::fresh();
        let now = self.clock.now();
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let target = Target::parse(host, path).map_err(|why| Refused::malformed(why.0))?;
        let facts = RequestFacts {
            decision,
            route: Arc::from("amlgate"),
            method: head.method.clone(),
            target,
            headers: headers::without_credentials(head.headers.clone()),
            body: None,
            source: peer.0,
            received: now,
            glass: None,
        };
        let unrecorded = || Refused::unavailable("the record cannot be kept, and nothing is done without");
        let operation = Operation::of_the_gate(action, kind);
        let policies = self.policies.current();
        let glass = self.gates.break_glass().under(&policies, &principal, now);
        let facts = RequestFacts { glass, ..facts };
        let standing = policy::Standing::Entries;
        let permit =
            match policy::decide(&policies, principal, operation, facts, standing, Azure::default(), now) {
                Ok(permit) => permit,
                Err(denied) => {
                    self.journal.denied(&denied).await.map_err(|_| unrecorded())?;
                    return Err(match &denied.judgement.denial {
                        Some(denial) => Refused::denied(denial, decision),
                        None => Refused::unavailable("the decision could not be made"),
                    });
                }
            };
        let revoked = self.verifier.revoked();
        let cleared = match self.gates.clear_approved(permit, BodyKnown::Streams, revoked).await {
            Ok(cleared) => cleared,
            Err(held) => {
                self.journal.held(&held).await.map_err(|_| unrecorded())?;
                let retry_after = held.retry_after.map(|wait| wait.as_secs().saturating_add(1));
                return Err(Refused { retry_after, ..Refused::denied(&held.denial, decision) });
            }
        };
        let recorded = self.journal.intend(cleared, Exchange::default()).await.map_err(|_| unrecorded())?;
        Ok(Allowed { outcome: recorded.into_outcome(), decision })
    }
}
