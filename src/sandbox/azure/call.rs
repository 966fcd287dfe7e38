//! One request to the simulated Azure, taken apart; and the answers that refuse.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{clouds::SimulatedCloud, names};

/// A request with its body read.
#[derive(Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The authority it named, port included.
    pub host: String,
    /// The path as sent.
    pub path: String,
    /// Path and query as sent.
    pub target: String,
    /// The decoded segments.
    pub segments: Vec<String>,
    /// The decoded query.
    pub query: Vec<(String, String)>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// Takes a request apart.
    pub fn new(head: &http::request::Parts, host: String, body: Bytes) -> Self {
        let path = head.uri.path().to_owned();
        let segments = path
            .split('/')
            .filter(|s| !s.is_empty())
            .map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned())
            .collect();
        let query =
            form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        Self {
            method: head.method.clone(),
            host,
            target: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            path,
            segments,
            query,
            headers: head.headers.clone(),
            body,
        }
    }

    /// The value of a query key, whose case does not count.
    pub fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v.as_str())
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The body as a JSON object.
    ///
    /// # Errors
    /// 415 without a JSON content type, 400 if it is no JSON object.
    pub fn json(&self) -> Result<Value, Refusal> {
        let kind = self.header("content-type").unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/json") {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UnsupportedMediaType",
                &format!(
                    "The content media type '{kind}' is not supported. Only 'application/json' is supported."
                ),
            ));
        }
        let invalid = |why: &str| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "InvalidRequestContent",
                &format!("The request content was invalid and could not be deserialized: '{why}'."),
            )
        };
        let value: Value = serde_json::from_slice(&self.body).map_err(|e| invalid(&e.to_string()))?;
        if value.is_object() { Ok(value) } else { Err(invalid("expected an object")) }
    }

    /// The body as a JSON object; an empty body is an empty object.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub fn json_or_empty(&self) -> Result<Value, Refusal> {
        if self.body.is_empty() { Ok(json!({})) } else { self.json() }
    }

    /// The URLs that this answer may name.
    pub const fn urls(&self) -> Urls<'_> {
        Urls { host: self.host.as_str() }
    }
}

/// Absolute URLs of the sandbox's Azure, as the caller of this request can reach them: by Azure's
/// own names if it came by one, else all on the authority it used.
#[derive(Debug, Clone, Copy)]
pub struct Urls<'a> {
    host: &'a str,
}

impl Urls<'_> {
    fn by_name(self) -> bool {
        !super::front::is_local(self.host)
    }

    fn cloud(self) -> &'static SimulatedCloud {
        SimulatedCloud::of(self.host)
    }

    /// Azure Resource Manager, without a slash at the end.
    pub fn arm(self) -> String {
        if self.by_name() { format!("https://{}", self.cloud().arm) } else { self.here() }
    }

    /// The workspace's data plane, without a slash at the end.
    pub fn data_plane(self) -> String {
        if self.by_name() {
            format!("https://{}.{}", names::REGION, self.cloud().data_plane)
        } else {
            self.here()
        }
    }

    /// The login authority, without a slash at the end.
    pub fn login(self) -> String {
        if self.by_name() { format!("https://{}", self.cloud().login) } else { self.here() }
    }

    /// An endpoint's own base, without a slash at the end.
    pub fn inference(self, endpoint: &str) -> String {
        if self.by_name() {
            format!("https://{endpoint}.{}", self.cloud().scoring())
        } else {
            format!("{}/inference/{endpoint}", self.here())
        }
    }

    /// The blob service of the workspace's account, without a slash at the end.
    pub fn blob(self) -> String {
        if self.by_name() {
            format!("https://{}.blob.{}", names::ACCOUNT, self.cloud().storage)
        } else {
            format!("{}/blob", self.here())
        }
    }

    /// The studio.
    pub fn studio(self) -> String {
        if self.by_name() { format!("https://{}", self.cloud().studio) } else { self.here() }
    }

    /// The authority that this request came to.
    pub fn here(self) -> String {
        format!("https://{}", self.host)
    }
}

/// An answer that refuses.
#[derive(Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The code in the body.
    pub code: String,
    /// The sentence in the body.
    pub message: String,
    /// `WWW-Authenticate`, if any.
    pub challenge: Option<String>,
    /// `Retry-After` in seconds, if any.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// A refusal with this status, code and message.
    pub fn new(status: StatusCode, code: &str, message: &str) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.to_owned(),
            challenge: None,
            retry_after: None,
        }
    }

    /// 404 of a resource.
    pub fn not_found(id: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "ResourceNotFound",
            &format!(
                "The resource '{id}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix"
            ),
        )
    }

    /// 400 for a body that the service's model does not admit.
    pub fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 405.
    pub fn method(method: &Method) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            &format!("The HTTP method '{method}' is not supported at this scope."),
        )
    }

    /// 401 with a challenge.
    pub fn unauthorized(code: &str, message: &str, login: &str, error: &str) -> Self {
        let tenant = names::TENANT;
        Self {
            challenge: Some(format!(
                "Bearer authorization_uri=\"{login}/{tenant}\", error=\"{error}\", error_description=\"{message}\""
            )),
            ..Self::new(StatusCode::UNAUTHORIZED, code, message)
        }
    }

    /// The answer in ARM's error shape.
    pub fn arm(self) -> Response {
        self.with(|r| json!({"error": {"code": r.code, "message": r.message}}))
    }

    /// The answer in MLflow's error shape.
    pub fn mlflow(self) -> Response {
        self.with(|r| {
            let code = match r.status {
                StatusCode::NOT_FOUND => "RESOURCE_DOES_NOT_EXIST",
                StatusCode::CONFLICT => "RESOURCE_ALREADY_EXISTS",
                StatusCode::FORBIDDEN => "PERMISSION_DENIED",
                StatusCode::UNAUTHORIZED => "UNAUTHENTICATED",
                StatusCode::BAD_REQUEST => "INVALID_PARAMETER_VALUE",
                _ => "INTERNAL_ERROR",
            };
            // MLflow answers 400 where REST would say 409.
            json!({"error_code": code, "message": r.message})
        })
    }

    fn with(self, body: impl FnOnce(&Self) -> Value) -> Response {
        let body = body(&self);
        let mut response = (self.status, Json(body)).into_response();
        if let Some(value) = self.challenge.and_then(|c| HeaderValue::from_str(&c).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An answer or a refusal.
pub type Reply = Result<Response, Refusal>;

/// 200 with a JSON body.
pub fn ok(body: Value) -> Response {
    Json(body).into_response()
}

/// This status with a JSON body and headers.
pub fn answer(status: StatusCode, headers: &[(&'static str, String)], body: Option<Value>) -> Response {
    let mut response = match body {
        Some(body) => (status, Json(body)).into_response(),
        None => status.into_response(),
    };
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}
