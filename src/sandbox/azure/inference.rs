//! Online endpoints: scoring, a chat API that streams, a WebSocket and an echo.
//!
//! Bodies stream here, so that what flows through the gate can be watched event by event.

mod stream;
mod websocket;

use crate::sandbox::members::Members as _;
use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

pub use stream::Live;

use super::{
    Shared,
    access::{self, Service},
    call::{Call, Refusal, ok},
    names,
};

/// The largest scoring request.
const LARGEST: usize = 16 * 1024 * 1024;

/// Answers a request to an endpoint; `path` is what comes after the endpoint's base.
pub async fn serve(
    shared: &std::sync::Arc<Shared>,
    endpoint: &str,
    path: &str,
    host: String,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    // Judged by its head alone: the body may be long.
    let call = Call::new(&head, host, bytes::Bytes::new());
    let deployment = match admit(shared, &call, endpoint) {
        Ok(deployment) => deployment,
        Err(refusal) => return refusal.arm(),
    };
    let mut response = match (head.method.clone(), path) {
        (Method::GET, "/ws") => websocket::echo(Request::from_parts(head, body)),
        (Method::GET, "/swagger.json") => swagger(endpoint),
        (Method::GET, "/" | "") => ok(json!({"status": "Healthy"})),
        (Method::POST, "/echo") => echo(&head.headers, body),
        (Method::POST, "/score") => match whole(&head.headers, body).await {
            Ok(input) => score(&input, &deployment),
            Err(refusal) => refusal.arm(),
        },
        (Method::POST, "/v1/chat/completions") => match whole(&head.headers, body).await {
            Ok(input) => chat(shared, &input),
            Err(refusal) => refusal.arm(),
        },
        (Method::GET, "/v1/models") => ok(
            json!({"object": "list", "data": [{"id": "churn-chat", "object": "model", "owned_by": "sandbox"}]}),
        ),
        (_, "/score" | "/v1/chat/completions" | "/echo" | "/ws") => Refusal::method(&head.method).arm(),
        _ => StatusCode::NOT_FOUND.into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&deployment) {
        headers.insert("azureml-model-deployment", value);
    }
    if let Ok(value) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        headers.insert("x-request-id", value);
    }
    response
}

/// Checks the key or token, and picks the deployment.
fn admit(shared: &Shared, call: &Call, endpoint: &str) -> Result<String, Refusal> {
    let id = format!("{}/onlineEndpoints/{endpoint}", names::workspace_id(names::WORKSPACE));
    let (mode, keys, traffic) = shared
        .with(|world| {
            world.get(&id).map(|e| {
                let properties = e.body.member("properties");
                (
                    properties.member("authMode").as_str().unwrap_or_default().to_owned(),
                    e.secret.clone(),
                    properties.member("traffic").clone(),
                )
            })
        })
        .ok_or_else(|| {
            Refusal::new(StatusCode::NOT_FOUND, "NotFound", "There is no endpoint of this name.")
        })?;
    let bearer = access::bearer(call).unwrap_or_default();
    let unauthorized =
        |text: &str| Refusal::unauthorized("Unauthorized", text, &call.urls().login(), "invalid_token");
    match mode.as_str() {
        "Key" => {
            let is = |name: &str| keys.member(name).as_str().is_some_and(|k| k == bearer);
            if bearer.is_empty() || !(is("primaryKey") || is("secondaryKey")) {
                return Err(unauthorized("The key is missing or wrong."));
            }
        }
        "AMLToken" => {
            shared
                .check_endpoint_token(endpoint, bearer)
                .map_err(|_| unauthorized("The token is not valid here."))?;
        }
        _ => {
            let caller = access::authenticate(shared, call, Service::Inference)?;
            let action = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action";
            access::authorize(shared, &caller, action, &id)?;
        }
    }
    let asked = call.header("azureml-model-deployment");
    let by_traffic = traffic
        .as_object()
        .and_then(|t| t.iter().max_by_key(|(_, share)| share.as_u64()))
        .map(|(name, _)| name.clone());
    let deployment = asked.map(ToOwned::to_owned).or(by_traffic).unwrap_or_default();
    let exists = shared.with(|world| world.get(&format!("{id}/deployments/{deployment}")).is_some());
    if exists {
        return Ok(deployment);
    }
    Err(Refusal::new(
        StatusCode::NOT_FOUND,
        "DeploymentNotFound",
        &format!("The endpoint has no deployment '{deployment}' to serve this."),
    ))
}

async fn whole(headers: &HeaderMap, body: Body) -> Result<Value, Refusal> {
    let json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.starts_with("application/json"));
    if !json {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            "The scoring script reads application/json.",
        ));
    }
    let bytes = axum::body::to_bytes(body, LARGEST)
        .await
        .map_err(|_| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", "The request is too large."))?;
    serde_json::from_slice(&bytes).map_err(|e| Refusal::bad_request(&format!("not JSON: {e}")))
}

/// The churn model: a logistic of the row's mean. Small, but its answer depends on its input.
fn score(input: &Value, deployment: &str) -> Response {
    let rows =
        input.member("input_data").member("data").as_array().or_else(|| input.member("data").as_array());
    let Some(rows) = rows else {
        return Refusal::bad_request("expected {\"input_data\": {\"data\": [[...], ...]}}").arm();
    };
    let predictions: Vec<f64> = rows
        .iter()
        .map(|row| {
            let values: Vec<f64> = match row.as_array() {
                Some(row) => row.iter().filter_map(Value::as_f64).collect(),
                None => row.as_f64().into_iter().collect(),
            };
            let count = u32::try_from(values.len().max(1)).map_or(1.0, f64::from);
            let mean = values.iter().sum::<f64>() / count;
            1.0 / (1.0 + (-mean).exp())
        })
        .collect();
    ok(json!({"predictions": predictions, "deployment": deployment}))
}

fn chat(shared: &std::sync::Arc<Shared>, input: &Value) -> Response {
    let asked =
        input.member("messages").as_array().and_then(|m| m.last()).and_then(|m| m.member("content").as_str());
    let Some(asked) = asked else { return Refusal::bad_request("messages is required").arm() };
    let words: Vec<String> =
        format!("You said: {asked}").split_whitespace().map(|w| format!("{w} ")).collect();
    let limit =
        input.member("max_tokens").as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(words.len());
    let id = format!("chatcmpl-{}", uuid::Uuid::new_v4().simple());
    if input.member("stream").as_bool() != Some(true) {
        let text: String = words.iter().take(limit).map(String::as_str).collect();
        return ok(json!({
            "id": id, "object": "chat.completion", "model": "churn-chat",
            "created": shared.clock.now().as_secs(),
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text.trim_end()}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": words.len(), "total_tokens": words.len() + 1},
        }));
    }
    let created = shared.clock.now().as_secs();
    // The words are said again and again until the limit: long streams for tests of long streams.
    let events = words.into_iter().cycle().take(limit).map(move |word| {
        json!({
            "id": id, "object": "chat.completion.chunk", "model": "churn-chat", "created": created,
            "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": null}],
        })
        .to_string()
    });
    stream::events(shared, Box::new(events))
}

/// Sends the body back as it comes.
fn echo(headers: &HeaderMap, body: Body) -> Response {
    let mut response = body.into_response();
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}

fn swagger(endpoint: &str) -> Response {
    ok(json!({
        "swagger": "2.0",
        "info": {"title": endpoint, "version": "1.0"},
        "paths": {"/score": {"post": {"operationId": "RunMLService", "responses": {"200": {"description": "predictions"}}}}},
    }))
}
