//! Error bodies in the shape that the caller's client prints.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::Body;

/// Whose error shape is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `{"error":{"code","message","additionalInfo"}}`.
    Arm,
    /// `{"error_code","message"}`.
    Mlflow,
    /// A Kubernetes `Status`.
    Kubernetes,
    /// RFC 9457.
    Problem,
}

/// An error to be told.
#[derive(Debug, Clone)]
pub struct Problem<'a> {
    /// The status.
    pub status: StatusCode,
    /// One word for programs.
    pub code: &'a str,
    /// For people; `amlgate:` is put in front.
    pub message: &'a str,
    /// For programs that know the gate: decision, missing actions, entry.
    pub info: Value,
}

/// The answer in the given shape.
#[must_use]
pub fn answer(shape: Shape, problem: &Problem<'_>) -> Response<Body> {
    let message = format!("amlgate: {}", problem.message);
    let status = problem.status.as_u16();
    let (media, body) = match shape {
        Shape::Arm => (
            "application/json; charset=utf-8",
            json!({"error": {"code": problem.code, "message": message, "details": [], "additionalInfo": [{"type": "amlgate", "info": problem.info}]}}),
        ),
        Shape::Mlflow => {
            let code = match status {
                401 => "UNAUTHENTICATED",
                403 => "PERMISSION_DENIED",
                404 => "ENDPOINT_NOT_FOUND",
                429 => "REQUEST_LIMIT_EXCEEDED",
                400..=499 => "INVALID_PARAMETER_VALUE",
                _ => "TEMPORARILY_UNAVAILABLE",
            };
            ("application/json", json!({"error_code": code, "message": message, "amlgate": problem.info}))
        }
        Shape::Kubernetes => (
            "application/json",
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": problem.code, "code": status}),
        ),
        // `error` is an extension member (section 3.2): OpenAI's clients print nothing else of a refusal.
        Shape::Problem => (
            "application/problem+json",
            json!({"type": format!("urn:amlgate:{}", problem.code), "title": problem.code, "status": status, "error": {"code": problem.code, "message": message}, "detail": message, "amlgate": problem.info}),
        ),
    };
    let bytes = Bytes::from(body.to_string());
    let mut response = Response::new(Body::full(bytes));
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
