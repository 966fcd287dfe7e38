//! Microsoft Graph: the groups of a person or service principal, for tokens that do not hold them.

use crate::sandbox::members::Members as _;
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::{
    Shared,
    access::{self, Service},
    call::{Call, Refusal, Reply, ok},
    names,
};
use crate::sandbox::PEOPLE;

/// Answers a request to Graph.
pub fn serve(shared: &Shared, call: &Call) -> Response {
    route(shared, call).unwrap_or_else(Refusal::arm)
}

fn route(shared: &Shared, call: &Call) -> Reply {
    let caller = access::authenticate(shared, call, Service::Graph)?;
    if ![names::GATE_PRINCIPAL, names::MACHINE_PRINCIPAL].contains(&caller.object_id.as_str()) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "Authorization_RequestDenied",
            "Insufficient privileges to complete the operation.",
        ));
    }
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let ["v1.0", "users" | "servicePrincipals", id, "getMemberObjects"] = segments.as_slice() else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "Request_ResourceNotFound", "Resource not found."));
    };
    call.json()?
        .member("securityEnabledOnly")
        .as_bool()
        .ok_or_else(|| Refusal::bad_request("securityEnabledOnly is required."))?;
    let person = PEOPLE.iter().find(|p| p.object_id.eq_ignore_ascii_case(id)).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "Request_ResourceNotFound",
            &format!("Resource '{id}' does not exist or one of its queried reference-property objects are not present."),
        )
    })?;
    Ok(ok(json!({"value": person.group_ids})))
}
