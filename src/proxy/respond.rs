//! The only place where something that went wrong becomes an answer.
//!
//! What is said to a caller and what is said to the operator differ: the caller learns what they
//! may know and what they can do, the operator finds the rest by the decision's id.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::possession::Asks;
use crate::{
    azureml::{BodyRefusal, Protocol},
    http::{
        Body,
        framing::BadHead,
        headers,
        problem::{self, Problem, Shape},
    },
    policy::{DecisionId, Denial, DenialCode},
};

/// Everything that ends a request at the gate.
#[derive(Debug)]
pub enum Refusal {
    /// The head is refused.
    Head(BadHead),
    /// The target is refused: 400.
    Target(String),
    /// No route: 404.
    NoRoute,
    /// Nobody is known: 401.
    Unauthenticated {
        /// For the caller.
        why: &'static str,
    },
    /// Nobody is known, because what was to prove it does not: 401, or 503 if the gate cannot look at
    /// it now.
    Unproven {
        /// For the caller.
        why: String,
        /// What is asked of them.
        asks: Asks,
    },
    /// The route's credential acts for the person who calls, and this caller is none whom it can act
    /// for: 403.
    NotAPerson {
        /// Why not.
        why: String,
        /// What the caller can do.
        cure: &'static str,
    },
    /// Azure wants the person to sign in in another way, and says how: 401.
    SignInWanted {
        /// The issuer of the caller's token.
        issuer: Arc<str>,
        /// The claims request, as JSON.
        claims: Arc<str>,
        /// Entra's word for it, or the resource's.
        code: Box<str>,
    },
    /// The issuer's keys are not there: 503.
    IssuerDown,
    /// The caller's groups cannot be had from the issuer: 503.
    GroupsUnknown,
    /// Whether what the gate signed was revoked cannot be known now: 503.
    RevocationsUnknown,
    /// The body is refused.
    Body(BodyRefusal),
    /// The decision is against it: 403, or 429 for a limit.
    Denied {
        /// Why.
        denial: Box<Denial>,
        /// For a limit.
        retry_after: Option<Duration>,
    },
    /// The record cannot be kept: 503.
    Unrecorded,
    /// The gate has no token: 502 or 503.
    NoToken {
        /// For the caller.
        why: String,
        /// Whether it may pass.
        passing: bool,
    },
    /// The credential that was sent is over, and the request cannot be sent twice: 503, and a later
    /// try gets another (DECISIONS 13).
    Stale {
        /// For the caller.
        why: &'static str,
        /// Seconds until a try makes sense.
        retry_after: u64,
    },
    /// What let it go on is over: 403.
    Cut(String),
    /// The upstream cannot be reached or broke off: 502.
    Upstream(String),
    /// The upstream is too slow: 504.
    TimedOut(String),
    /// Azure refuses the gate itself: 403.
    UpstreamRefusesGate,
    /// Something is wrong with the gate: 500.
    Internal,
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Head(BadHead::Ambiguous(_)) | Self::Target(_) => StatusCode::BAD_REQUEST,
            Self::Head(BadHead::Unsupported(_)) => StatusCode::NOT_IMPLEMENTED,
            Self::Head(BadHead::Method) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Head(BadHead::TargetTooLong) => StatusCode::URI_TOO_LONG,
            Self::Head(BadHead::Expectation) => StatusCode::EXPECTATION_FAILED,
            Self::Head(BadHead::TooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Head(BadHead::Misdirected) => StatusCode::MISDIRECTED_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Unproven { asks: Asks::Later, .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated { .. } | Self::Unproven { .. } | Self::SignInWanted { .. } => {
                StatusCode::UNAUTHORIZED
            }
            Self::NotAPerson { .. } => StatusCode::FORBIDDEN,
            Self::Body(BodyRefusal::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyRefusal::Unreadable(_)) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(BodyRefusal::Ambiguous(_)) => StatusCode::BAD_REQUEST,
            Self::Body(BodyRefusal::Slow { .. }) => StatusCode::REQUEST_TIMEOUT,
            Self::Denied { denial, .. } if denial.code == DenialCode::LimitExceeded => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Denied { denial, .. } if denial.code == DenialCode::StepUpRequired => {
                StatusCode::UNAUTHORIZED
            }
            Self::Denied { denial, .. } if denial.code == DenialCode::AlreadySent => StatusCode::CONFLICT,
            Self::Denied { .. } | Self::Cut(_) | Self::UpstreamRefusesGate => StatusCode::FORBIDDEN,
            Self::IssuerDown
            | Self::GroupsUnknown
            | Self::RevocationsUnknown
            | Self::Unrecorded
            | Self::Stale { .. }
            | Self::NoToken { passing: true, .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoToken { passing: false, .. } | Self::Upstream(_) => StatusCode::BAD_GATEWAY,
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Head(_) | Self::Target(_) => "BadRequest",
            Self::NoRoute => "NotFound",
            Self::Unauthenticated { .. } | Self::Unproven { .. } => "AuthenticationFailed",
            Self::SignInWanted { .. } => "StepUpRequired",
            Self::NotAPerson { .. } => "PersonRequired",
            Self::IssuerDown | Self::GroupsUnknown => "IssuerUnavailable",
            Self::RevocationsUnknown => "StoreUnavailable",
            Self::Body(BodyRefusal::Slow { .. }) => "RequestTimeout",
            Self::Body(_) => "InvalidRequestContent",
            Self::Denied { denial, .. } => denial.code.name(),
            Self::Cut(_) => DenialCode::AuthorizationFailed.name(),
            Self::Unrecorded => "RecordUnavailable",
            Self::NoToken { .. } | Self::Stale { .. } => "GateCredentialFailed",
            Self::Upstream(_) => "BadGateway",
            Self::TimedOut(_) => "GatewayTimeout",
            Self::UpstreamRefusesGate => "UpstreamAuthorizationFailed",
            Self::Internal => "InternalError",
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::Head(BadHead::Ambiguous(why) | BadHead::Unsupported(why)) => (*why).to_owned(),
            Self::Head(BadHead::Method) => "CONNECT and TRACE are not served here".to_owned(),
            Self::Head(BadHead::TargetTooLong) => "the target is longer than 16 KiB".to_owned(),
            Self::Head(BadHead::Expectation) => "the only expectation that is met is 100-continue".to_owned(),
            Self::Head(BadHead::TooLarge) => "the head is too large: at most 100 headers, 96 KiB in all, 48 KiB for the token, 16 KiB for any other header".to_owned(),
            Self::Head(BadHead::Misdirected) => "the request names no host of this gate".to_owned(),
            Self::Target(why) => why.clone(),
            Self::NoRoute => "no route has this path: the gate forwards only what `routes` names".to_owned(),
            Self::Unauthenticated { why } => {
                format!("{why}; send `Authorization: Bearer TOKEN` with a token of one of the gate's issuers; `amlgate token verify` says what is wrong with one")
            }
            Self::Unproven { why, asks: Asks::Certificate } => format!(
                "{why}; whoever issues your certificates can mend it, and `amlgate token verify` says what a token is bound to"
            ),
            Self::Unproven { why, .. } => why.clone(),
            Self::GroupsUnknown => {
                "the issuer does not say which groups the caller is in, so that nothing can be decided; try again".to_owned()
            }
            Self::SignInWanted { code, .. } => format!(
                "Azure wants you to sign in in another way ({code})\nsign in again as the `WWW-Authenticate` of this answer says; clients that know claims challenges do so by themselves"
            ),
            Self::NotAPerson { why, cure } => {
                format!("this route acts in Azure on behalf of the person who calls, and {why}\n{cure}")
            }
            Self::IssuerDown => {
                "the issuer's keys are not to be had, so that no token can be checked; try again".to_owned()
            }
            Self::RevocationsUnknown => {
                "whether this token was revoked cannot be known now, because the store cannot be read; try again, or use the token that it came from".to_owned()
            }
            Self::Body(why) => why.to_string(),
            Self::Denied { denial, .. } => format!("{}\n{}", denial.cause, denial.cure),
            Self::Unrecorded => "the request cannot be recorded now, and what is not recorded is not sent; try again".to_owned(),
            Self::Stale { why, .. } => (*why).to_owned(),
            Self::NoToken { why, .. } => format!("the gate has no token for Azure: {why}"),
            Self::Upstream(why) | Self::TimedOut(why) => why.clone(),
            Self::Cut(why) => format!("the request was cut off while it was under way: {why}"),
            Self::UpstreamRefusesGate => {
                "the policies allow this, but Azure refuses the gate's own identity; whoever runs the gate must assign it the role".to_owned()
            }
            Self::Internal => "something is wrong with the gate; the decision's id finds it in its log".to_owned(),
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Denied { retry_after, .. } => {
                retry_after.map(|d| d.as_millis().div_ceil(1_000).try_into().unwrap_or(1))
            }
            Self::IssuerDown
            | Self::GroupsUnknown
            | Self::RevocationsUnknown
            | Self::Unrecorded
            | Self::Unproven { asks: Asks::Later, .. } => Some(1),
            Self::NoToken { passing: true, .. } => Some(5),
            Self::Stale { retry_after, .. } => Some(*retry_after),
            Self::Head(_)
            | Self::Target(_)
            | Self::NoRoute
            | Self::Unauthenticated { .. }
            | Self::Unproven { .. }
            | Self::NotAPerson { .. }
            | Self::SignInWanted { .. }
            | Self::Body(_)
            | Self::NoToken { .. }
            | Self::Upstream(_)
            | Self::Cut(_)
            | Self::TimedOut(_)
            | Self::UpstreamRefusesGate
            | Self::Internal => None,
        }
    }

    /// Whether the connection must end with the answer: its framing is in doubt.
    const fn closes(&self) -> bool {
        matches!(self, Self::Head(_) | Self::Target(_))
    }
}

/// The shape that a protocol's clients print.
#[must_use]
pub fn shape(protocol: Option<Protocol>, mlflow: bool) -> Shape {
    match protocol {
        Some(Protocol::Azureml) if mlflow => Shape::Mlflow,
        Some(Protocol::Arm | Protocol::Azureml | Protocol::KeyVault) => Shape::Arm,
        Some(Protocol::Storage) => Shape::Storage,
        Some(Protocol::Kubernetes) => Shape::Kubernetes,
        Some(Protocol::Inference | Protocol::Http) => Shape::Problem,
        // Nobody knows yet what the caller speaks; every Azure client prints this one.
        None => Shape::Arm,
    }
}

/// The answer to a refusal.
#[must_use]
pub fn refuse(refusal: &Refusal, shape: Shape, decision: DecisionId) -> Response<Body> {
    let message = refusal.message();
    let mut info = json!({"decision": decision.to_string()});
    if let (Refusal::Denied { denial, .. }, Some(info)) = (refusal, info.as_object_mut()) {
        if !denial.missing.is_empty() {
            let missing: Vec<_> = denial
                .missing
                .iter()
                .map(|(action, scope)| json!({"action": action, "scope": scope}))
                .collect();
            info.insert("missing".to_owned(), missing.into());
        }
        if let Some(entry) = &denial.entry {
            info.insert("entry".to_owned(), entry.name.as_ref().into());
        }
        if let Some(request) = &denial.request {
            info.insert("request".to_owned(), request.as_ref().into());
        }
    }
    let problem = Problem { status: refusal.status(), code: refusal.code(), message: &message, info };
    let mut response = problem::answer(shape, &problem);
    let map = response.headers_mut();
    if let Some(seconds) = refusal.retry_after() {
        map.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.closes() {
        map.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    mark(&mut response, decision);
    response
}

/// Names the decision in an answer.
pub fn mark(response: &mut Response<Body>, decision: DecisionId) {
    response.headers_mut().insert("x-amlgate-decision", headers::value(&decision.to_string()));
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn told(refusal: &Refusal, shape: Shape) -> (StatusCode, serde_json::Value, http::HeaderMap) {
        let response = refuse(refusal, shape, DecisionId::fresh());
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (head.status, serde_json::from_slice(&bytes).unwrap(), head.headers)
    }

    #[tokio::test]
    async fn a_denial_says_cause_and_cure_in_the_shape_that_the_client_prints() {
        let denial = Denial {
            code: DenialCode::AuthorizationFailed,
            cause: "no entry grants it".into(),
            cure: "ask the platform team".into(),
            entry: None,
            missing: vec![("M/workspaces/delete".into(), "/subscriptions/s".into())],
            step_up: None,
            request: None,
        };
        let refusal = Refusal::Denied { denial: Box::new(denial), retry_after: None };
        let (status, body, headers) = told(&refusal, Shape::Arm).await;
        assert_eq!(status, 403);
        assert_eq!(body["error"]["code"], "AuthorizationFailed");
        assert_eq!(body["error"]["message"], "amlgate: no entry grants it\nask the platform team");
        assert_eq!(body["error"]["additionalInfo"][0]["info"]["missing"][0]["action"], "M/workspaces/delete");
        assert!(headers.contains_key("x-amlgate-decision"));
        assert_eq!(told(&refusal, Shape::Mlflow).await.1["error_code"], "PERMISSION_DENIED");
        assert_eq!(told(&refusal, Shape::Kubernetes).await.1["kind"], "Status");
        assert_eq!(told(&refusal, Shape::Problem).await.1["status"], 403);
    }

    #[tokio::test]
    async fn only_a_limit_is_429_and_it_says_when() {
        let denial = Denial {
            code: DenialCode::LimitExceeded,
            cause: String::new(),
            cure: String::new(),
            entry: None,
            missing: Vec::new(),
            step_up: None,
            request: None,
        };
        let refusal =
            Refusal::Denied { denial: Box::new(denial), retry_after: Some(Duration::from_millis(1_200)) };
        let (status, _, headers) = told(&refusal, Shape::Arm).await;
        assert_eq!((status.as_u16(), headers["retry-after"].to_str().unwrap()), (429, "2"));
    }
}
