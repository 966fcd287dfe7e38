//! Clutch's audit events (`clutch.audit.v1.Event`), in the JSON form of Protocol Buffers.

use serde_json::{Value, json};

use super::{Came, Exported, Fields, View, hex};
use crate::azureml::{
    Kind, ResourceId,
    method::{self, ActionType, FullMethod},
};

/// Clutch wants a name in each event, and this is whose word it is where nobody called.
const NOBODY: &str = "amlgate";

/// How many ids of resources an event names.
const MAX_RESOURCES: usize = 16;

/// A record as an event. Clutch writes an event before a call and its status behind it; here these
/// are two, joined by the decision in their bodies.
#[must_use]
pub fn clutch(record: &Exported) -> Value {
    let view = View::of(record);
    let mut all = Fields::default();
    all.put("occurredAt", view.time().to_rfc3339());
    all.within("event", |f| {
        f.put("username", view.caller().or_else(|| view.text("/user/uid")).unwrap_or(NOBODY));
        let full = full_method(view);
        f.put("serviceName", full.service);
        f.put("methodName", full.method);
        f.some("type", action_type(view).map(ActionType::name));
        f.some("status", status(view));
        let resources = resources(view);
        if !resources.is_empty() {
            f.put("resources", resources);
        }
        f.put("requestMetadata", json!({"body": any(request(record, view))}));
        let answer = answer(view);
        if answer.as_object().is_some_and(|answer| !answer.is_empty()) {
            f.put("responseMetadata", json!({"body": any(answer)}));
        }
    });
    // A 64-bit number is text in this form.
    all.put("id", record.position.to_string());
    all.done()
}

/// What may be anything carries its type with it.
fn any(body: Value) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": body})
}

fn full_method(view: View<'_>) -> FullMethod {
    match view.text("/api/operation") {
        Some(action) => FullMethod::of(action),
        None => FullMethod::of(&format!("amlgate/gate/{}", view.action())),
    }
}

fn action_type(view: View<'_>) -> Option<ActionType> {
    let kind = match view.own_text("kind") {
        Some("read") => Kind::Read,
        Some("write") => Kind::Write,
        Some("delete") => Kind::Delete,
        Some("action") => Kind::Action,
        // Of the gate's own events the class says it: 1 creates, 2 reads, 3 updates, 4 deletes.
        Some(_) | None => {
            let number = view.number("/activity_id").filter(|_| view.number("/class_uid") == Some(6_003))?;
            return ActionType::ALL.get(usize::try_from(number.checked_sub(1)?).ok()?).copied();
        }
    };
    match ActionType::all_of(kind) {
        // Only a change in part is sure to create nothing.
        [_, update] if view.text("/http_request/http_method") == Some("PATCH") => Some(*update),
        types => types.first().copied(),
    }
}

/// `google.rpc.Status`; none while the call is still to be made.
fn status(view: View<'_>) -> Option<Value> {
    if view.phase() == "intent" {
        return None;
    }
    let code = match (view.denied(), view.result()) {
        (true, _) => match view.reason() {
            Some("BudgetExceeded") => 8,
            Some("UnknownOperation") => 12,
            Some(_) | None => 7,
        },
        (false, Came::Success) => 0,
        (false, Came::Failure | Came::Unknown) => {
            match (view.own_text("ending"), view.number("/http_response/code")) {
                (_, Some(code)) => of_http(code),
                (Some("client_gone"), None) => 1,
                (Some("timed_out"), None) => 4,
                (Some("upstream_failed" | "not_sent"), None) => 14,
                (Some(_) | None, None) => 2,
            }
        }
    };
    let mut status = Fields::default();
    status.put("code", code);
    status.some("message", view.reason().filter(|_| code != 0));
    Some(status.done())
}

/// The codes of gRPC as grpc-gateway reads them into HTTP, the other way round.
const fn of_http(status: u64) -> u8 {
    match status {
        200..=399 => 0,
        400 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 10,
        412 => 9,
        429 => 8,
        499 => 1,
        500 => 13,
        501 => 12,
        502 | 503 => 14,
        504 => 4,
        _ => 2,
    }
}

fn resources(view: View<'_>) -> Vec<Value> {
    let all = view.at("/resources").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ids = all.iter().filter_map(|resource| resource.get("uid")?.as_str());
    let resource = |id: &str| {
        let kind =
            ResourceId::parse(id).map_or_else(|| "azure.v1.Unknown".into(), |id| method::type_url(&id));
        json!({"typeUrl": kind, "id": id})
    };
    ids.take(MAX_RESOURCES).map(resource).collect()
}

fn request(record: &Exported, view: View<'_>) -> Value {
    let mut body = Fields::default();
    body.put("origin", &*record.origin);
    body.put("leaf", hex(&record.leaf));
    body.put("phase", view.phase());
    body.some("decision", view.own_text("decision"));
    body.some("event", view.own_text("event"));
    body.some("request", view.own_text("request"));
    body.some("grant", view.own_text("grant"));
    body.some("requester", view.own_text("requester"));
    body.some("claimed", view.own_text("claimed"));
    body.some("action", view.text("/api/operation"));
    body.some("operation", view.own_text("operation"));
    body.some("entry", view.entry().map(|(name, _)| name));
    body.some("effects", view.own("effects").cloned());
    body.some("policyDigest", view.own_text("policy_digest"));
    body.some("httpMethod", view.text("/http_request/http_method"));
    body.some("host", view.text("/http_request/url/hostname"));
    body.some("path", view.text("/http_request/url/path"));
    body.some("source", view.text("/src_endpoint/ip"));
    body.some("client", view.text("/actor/app_uid"));
    body.some("correlationId", view.text("/metadata/correlation_uid"));
    body.done()
}

fn answer(view: View<'_>) -> Value {
    let mut body = Fields::default();
    body.some("httpStatus", view.number("/http_response/code"));
    body.some("bytes", view.number("/http_response/body_length"));
    body.some("ending", view.own_text("ending"));
    body.some("millis", view.number("/duration"));
    body.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Value) -> Value {
        clutch(&Exported::new(&"log".into(), 7, serde_json::to_vec(&value).unwrap()))
    }

    #[test]
    fn who_may_write_is_said_to_create_unless_only_a_part_is_changed() {
        let kind = |method: &str, kind: &str| {
            of(json!({"http_request": {"http_method": method}, "unmapped": {"amlgate": {"kind": kind}}}))
                ["event"]["type"]
                .clone()
        };
        assert_eq!(kind("PUT", "write"), "CREATE");
        assert_eq!(kind("PATCH", "write"), "UPDATE");
        assert_eq!(kind("POST", "action"), "UPDATE");
        assert_eq!(kind("POST", "read"), "READ");
        assert_eq!(kind("DELETE", "delete"), "DELETE");
    }

    #[test]
    fn the_status_is_what_came_of_the_call() {
        let status = |value: Value| of(value)["event"]["status"].clone();
        assert_eq!(status(json!({"unmapped": {"amlgate": {"phase": "intent"}}})), Value::Null);
        let denied = json!({"action_id": 2, "unmapped": {"amlgate": {"phase": "denial", "denial": {"code": "ApprovalRequired"}}}});
        assert_eq!(status(denied), json!({"code": 7, "message": "ApprovalRequired"}));
        let failed = json!({"status_id": 2, "status_code": "timed_out", "unmapped": {"amlgate": {"phase": "outcome", "ending": "timed_out"}}});
        assert_eq!(status(failed), json!({"code": 4, "message": "timed_out"}));
        assert_eq!(status(json!({"status_id": 1})), json!({"code": 0}));
        let refused = json!({"status_id": 2, "http_response": {"code": 404}});
        assert_eq!(status(refused), json!({"code": 5}));
    }

    #[test]
    fn what_nobody_called_for_is_the_gates_own() {
        let event = of(json!({"unmapped": {"amlgate": {"event": "started"}}}))["event"].clone();
        assert_eq!(event["username"], NOBODY);
        assert_eq!(event["serviceName"], "amlgate.v1.GateAPI");
        assert_eq!(event["methodName"], "Started");
    }
}
