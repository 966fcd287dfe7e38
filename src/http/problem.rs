//! Error bodies in the shape that the caller's client prints.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

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
    /// Azure Storage's: XML, and the code in `x-ms-error-code`, which is all that its clients read of an
    /// answer without a body ("Status and error codes" of its REST API).
    Storage,
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

/// The body of [`Shape::Problem`].
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem", description = "RFC 9457.")]
pub struct Rfc9457<'a> {
    /// `urn:amlgate:` and the code.
    r#type: String,
    /// The code: one word for programs.
    title: &'a str,
    /// The status.
    status: u16,
    /// For people: what is wrong, and how to mend it.
    detail: &'a str,
    /// The same again, as clients of OpenAI's look for it: an extension member (section 3.2).
    error: Rfc9457Error<'a>,
    /// For programs that know the gate: the decision, if there was one.
    #[schemars(with = "Option<Map<String, Value>>")]
    amlgate: &'a Value,
}

/// Of [`Rfc9457`].
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProblemError", description = "What is wrong.")]
pub struct Rfc9457Error<'a> {
    /// The code.
    code: &'a str,
    /// For people.
    message: &'a str,
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
        Shape::Problem => (
            "application/problem+json",
            json!(Rfc9457 {
                r#type: format!("urn:amlgate:{}", problem.code),
                title: problem.code,
                status,
                detail: &message,
                error: Rfc9457Error { code: problem.code, message: &message },
                amlgate: &problem.info,
            }),
        ),
        Shape::Storage => ("application/xml", Value::String(storage_error(problem.code, &message))),
    };
    let bytes =
        if let Value::String(text) = body { Bytes::from(text) } else { Bytes::from(body.to_string()) };
    let mut response = Response::new(Body::full(bytes));
    *response.status_mut() = problem.status;
    let headers = response.headers_mut();
    if let (Shape::Storage, Ok(code)) = (shape, HeaderValue::from_str(problem.code)) {
        headers.insert("x-ms-error-code", code);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The body of a refusal of Azure Storage.
fn storage_error(code: &str, message: &str) -> String {
    let mut text = String::with_capacity(message.len() + 128);
    text.push_str("<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>");
    text.push_str(code);
    text.push_str("</Code><Message>");
    for c in message.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            // What XML cannot hold, however it is written (XML 1.0, 2.2).
            c if c.is_control() && !matches!(c, '\n' | '\t') => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
    text.push_str("</Message></Error>");
    text
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn storages_clients_find_the_code_in_a_header_and_the_words_in_xml() {
        let status = StatusCode::FORBIDDEN;
        let message = "no `<entry>` & no\u{1} right";
        let problem = Problem { status, code: "AuthorizationFailed", message, info: Value::Null };
        let (head, body) = answer(Shape::Storage, &problem).into_parts();
        assert_eq!(head.headers["x-ms-error-code"], "AuthorizationFailed");
        let body = body.collect().await.unwrap().to_bytes();
        assert!(body.ends_with(
            "<Code>AuthorizationFailed</Code><Message>amlgate: no `&lt;entry&gt;` &amp; no\u{fffd} right</Message></Error>"
                .as_bytes()
        ));
    }
}
