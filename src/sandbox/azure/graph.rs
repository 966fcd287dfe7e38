//! Microsoft Graph: the groups of a person or service principal, for tokens that do not hold them.

use crate::sandbox::members::Members as _;
use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Shared,
    access::{self, Service},
    call::{Call, Refusal, Reply, ok},
};
use crate::sandbox::{PEOPLE, people::PersonKind};

/// Answers a request to Graph.
pub fn serve(shared: &Shared, call: &Call) -> Response {
    route(shared, call).unwrap_or_else(Refusal::arm)
}

/// The application permissions that let somebody read memberships.
const READING: &[&str] = &["GroupMember.Read.All", "Group.Read.All", "Directory.Read.All"];
/// So many groups may be asked about at once.
const AT_ONCE: usize = 20;

fn route(shared: &Shared, call: &Call) -> Reply {
    let caller = access::authenticate(shared, call, Service::Graph)?;
    if !caller.permissions.iter().any(|held| READING.contains(&held.as_str())) {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "Authorization_RequestDenied",
            "Insufficient privileges to complete the operation.",
        ));
    }
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let ["v1.0", kind @ ("users" | "servicePrincipals"), id, question] = segments.as_slice() else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "Request_ResourceNotFound", "Resource not found."));
    };
    if call.method != Method::POST {
        return Err(Refusal::method(&call.method));
    }
    let person = PEOPLE.iter().find(|p| {
        let of_kind = if *kind == "users" { PersonKind::Human } else { PersonKind::Machine };
        p.kind == of_kind && p.object_id.eq_ignore_ascii_case(id)
    });
    let person = person.ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "Request_ResourceNotFound",
            &format!("Resource '{id}' does not exist or one of its queried reference-property objects are not present."),
        )
    })?;
    let now = shared.with(|world| world.groups.get(person.object_id).cloned());
    let groups = now.unwrap_or_else(|| person.group_ids.iter().map(|id| (*id).to_owned()).collect());
    match *question {
        "getMemberObjects" => {
            call.json()?
                .member("securityEnabledOnly")
                .as_bool()
                .ok_or_else(|| Refusal::bad_request("securityEnabledOnly is required."))?;
            Ok(ok(json!({"value": groups})))
        }
        "checkMemberGroups" => {
            let body = call.json()?;
            let asked: Option<Vec<&str>> =
                body.member("groupIds").as_array().and_then(|ids| ids.iter().map(Value::as_str).collect());
            let asked = asked.filter(|ids| (1..=AT_ONCE).contains(&ids.len())).ok_or_else(|| {
                Refusal::bad_request("groupIds must have between 1 and 20 ids, as strings.")
            })?;
            if let Some(odd) = asked.iter().find(|id| uuid::Uuid::try_parse(id).is_err()) {
                return Err(Refusal::bad_request(&format!("Invalid object identifier '{odd}'.")));
            }
            let held: Vec<_> =
                groups.iter().filter(|g| asked.iter().any(|id| id.eq_ignore_ascii_case(g))).collect();
            Ok(ok(json!({"value": held})))
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "Request_ResourceNotFound", "Resource not found.")),
    }
}
