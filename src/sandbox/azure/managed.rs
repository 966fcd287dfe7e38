//! Managed identity endpoints, over plain HTTP as on a machine of Azure: the instance metadata
//! service and App Service's shape.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Shared, call::Call, entra, names};

/// Answers a request to the machine's identity endpoint.
pub fn serve(shared: &Shared, call: &Call) -> Response {
    match call.path.as_str() {
        _ if call.method != Method::GET => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        "/metadata/identity/oauth2/token" => metadata_service(shared, call),
        "/msi/token" => app_service(shared, call),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn metadata_service(shared: &Shared, call: &Call) -> Response {
    let refused = |error: &str, text: &str| {
        (StatusCode::BAD_REQUEST, Json(json!({"error": error, "error_description": text}))).into_response()
    };
    if call.header("metadata") != Some("true") {
        return refused("invalid_request", "Required metadata header not specified");
    }
    // A forwarded request is somebody else's, who must not get this machine's identity.
    if call.header("x-forwarded-for").is_some() {
        return refused("invalid_request", "Requests with X-Forwarded-For are not served");
    }
    if call.query("api-version") != Some("2018-02-01") {
        return refused("invalid_request", "Required query variable 'api-version' missing or not supported");
    }
    let Some(resource) = call.query("resource") else {
        return refused("invalid_request", "Required query variable 'resource' missing");
    };
    if !identity_fits(call) {
        return refused("invalid_request", "Identity not found");
    }
    grant(shared, resource)
}

fn app_service(shared: &Shared, call: &Call) -> Response {
    let refused = |status: StatusCode, text: &str| {
        (status, Json(json!({"statusCode": status.as_u16(), "message": text}))).into_response()
    };
    if call.header("x-identity-header") != Some(names::IDENTITY_HEADER) {
        return refused(StatusCode::UNAUTHORIZED, "X-IDENTITY-HEADER is missing or wrong");
    }
    if call.query("api-version") != Some("2019-08-01") {
        return refused(StatusCode::BAD_REQUEST, "api-version is missing or not supported");
    }
    let Some(resource) = call.query("resource") else {
        return refused(StatusCode::BAD_REQUEST, "resource is missing");
    };
    if !identity_fits(call) {
        return refused(
            StatusCode::BAD_REQUEST,
            "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.",
        );
    }
    grant(shared, resource)
}

/// The machine has one identity; a request may name it.
fn identity_fits(call: &Call) -> bool {
    let is = |key: &str, value: &str| call.query(key).is_none_or(|v| v.eq_ignore_ascii_case(value));
    is("client_id", names::MACHINE_CLIENT)
        && is("object_id", names::MACHINE_PRINCIPAL)
        && is("principal_id", names::MACHINE_PRINCIPAL)
        && call.query("mi_res_id").is_none()
        && call.query("msi_res_id").is_none()
}

/// Numbers are strings here.
fn grant(shared: &Shared, resource: &str) -> Response {
    let claims = entra::machine(shared, names::MACHINE_CLIENT, names::MACHINE_PRINCIPAL, resource);
    let expires = claims.get("exp").and_then(Value::as_u64).unwrap_or_default();
    let now = shared.clock.now().as_secs();
    match shared.sign(&Value::Object(claims)) {
        Ok(token) => Json(json!({
            "access_token": token,
            "client_id": names::MACHINE_CLIENT,
            "expires_in": expires.saturating_sub(now).to_string(),
            "expires_on": expires.to_string(),
            "not_before": now.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        }))
        .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
