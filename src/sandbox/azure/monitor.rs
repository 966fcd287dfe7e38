//! Azure Monitor: the activity log of what was done through Resource Manager, and ingestion of rows
//! by a data collection rule.

use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Shared,
    access::{self, Caller, Service},
    call::{Call, Refusal, Reply, ok},
    names,
};
use crate::sandbox::jwt;

/// The largest body of a call of ingestion.
const LARGEST: usize = 1 << 20;

/// Keeps an event of a call that may have changed something: not of what was not let in.
pub fn note(shared: &Shared, call: &Call, response: &Response) {
    if matches!(call.method, Method::GET | Method::HEAD | Method::OPTIONS)
        || response.status() == StatusCode::UNAUTHORIZED
    {
        return;
    }
    let Some((action, resource)) = operation(call) else { return };
    let claims = access::bearer(call)
        .and_then(|token| jwt::verify(&shared.keys, token, shared.clock.now()).ok())
        .unwrap_or_default();
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let status = if response.status().is_success() { "Succeeded" } else { "Failed" };
    let provider = action.split('/').next().unwrap_or_default();
    let event = json!({
        "authorization": {"action": action, "scope": resource},
        "caller": claims.get("oid"),
        "category": {"value": "Administrative", "localizedValue": "Administrative"},
        "claims": {"appid": claims.get("appid")},
        "correlationId": header("x-ms-correlation-request-id"),
        "eventDataId": uuid::Uuid::new_v4().to_string(),
        "eventTimestamp": shared.clock.now().to_rfc3339(),
        "httpRequest": {"method": call.method.as_str(), "clientRequestId": call.header("x-ms-client-request-id")},
        "level": "Informational",
        "operationId": header("x-ms-request-id"),
        "operationName": {"value": action, "localizedValue": action},
        "resourceId": resource,
        "resourceProviderName": {"value": provider, "localizedValue": provider},
        "status": {"value": status, "localizedValue": status},
        "subscriptionId": names::SUBSCRIPTION,
    });
    shared.with(|world| world.activity.push(event));
}

/// What a call does, as its path says: types and names by turns behind the last provider.
fn operation(call: &Call) -> Option<(String, String)> {
    let at = call.segments.iter().rposition(|segment| segment.eq_ignore_ascii_case("providers"))?;
    let (provider, rest) = call.segments.get(at + 1..)?.split_first()?;
    let types: Vec<&str> = rest.iter().step_by(2).map(String::as_str).collect();
    let action = match (&call.method, rest.len() % 2) {
        (&Method::DELETE, 0) => format!("{provider}/{}/delete", types.join("/")),
        (&Method::POST, 1) => format!("{provider}/{}/action", types.join("/")),
        (_, 0) => format!("{provider}/{}/write", types.join("/")),
        _ => return None,
    };
    let named = if rest.len() % 2 == 1 { call.segments.len() - 1 } else { call.segments.len() };
    Some((action, format!("/{}", call.segments.get(..named)?.join("/"))))
}

/// `.../eventtypes/management/values`: newest first, in pages.
///
/// # Errors
/// As Resource Manager refuses.
pub fn activity(shared: &Shared, call: &Call, caller: &Caller) -> Reply {
    let scope = format!("/subscriptions/{}", names::SUBSCRIPTION);
    access::authorize(shared, caller, "Microsoft.Insights/eventtypes/values/Read", &scope)?;
    if call.method != Method::GET {
        return Err(Refusal::method(&call.method));
    }
    let filter = call.query("$filter").unwrap_or_default();
    let conditions = filter.split(" and ").map(condition).collect::<Option<Vec<_>>>().filter(|c| {
        // Without a time to begin at it answers nothing.
        c.iter().any(|(field, operator, _)| field == "eventTimestamp" && operator == "ge")
    });
    let conditions = conditions.ok_or_else(|| {
        Refusal::bad_request("The $filter is not valid: eventTimestamp ge '...' and ... is required.")
    })?;
    let skip: usize = call.query("$skipToken").and_then(|s| s.parse().ok()).unwrap_or_default();
    let (page, more) = shared.with(|world| {
        let fits = |event: &&Value| conditions.iter().all(|condition| holds(event, condition));
        let mut found = world.activity.iter().rev().filter(fits).skip(skip);
        let page: Vec<Value> = found.by_ref().take(shared.page_size).cloned().collect();
        (page, found.next().is_some())
    });
    let next = more.then(|| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in call.query.iter().filter(|(key, _)| !key.eq_ignore_ascii_case("$skipToken")) {
            query.append_pair(key, value);
        }
        query.append_pair("$skipToken", &(skip + shared.page_size).to_string());
        format!("{}{}?{}", call.urls().arm(), call.path, query.finish())
    });
    Ok(ok(json!({"value": page, "nextLink": next})))
}

/// `field operator 'value'`.
fn condition(text: &str) -> Option<(String, String, String)> {
    let mut words = text.trim().splitn(3, ' ');
    let (field, operator, value) = (words.next()?, words.next()?, words.next()?);
    let value = value.strip_prefix('\'')?.strip_suffix('\'')?;
    Some((field.to_owned(), operator.to_owned(), value.to_owned()))
}

fn holds(event: &Value, (field, operator, value): &(String, String, String)) -> bool {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match (field.as_str(), operator.as_str()) {
        ("eventTimestamp", _) => {
            let instant = |text: &str| chrono::DateTime::parse_from_rfc3339(text).ok();
            let (Some(at), Some(bound)) = (instant(text("/eventTimestamp")), instant(value)) else {
                return false;
            };
            match operator.as_str() {
                "ge" => at >= bound,
                "le" => at <= bound,
                _ => false,
            }
        }
        ("resourceProvider", "eq") => text("/resourceProviderName/value").eq_ignore_ascii_case(value),
        ("resourceUri", "eq") => text("/resourceId").eq_ignore_ascii_case(value),
        ("resourceGroupName", "eq") => {
            let id = text("/resourceId").to_ascii_lowercase();
            id.contains(&format!("/resourcegroups/{}/", value.to_ascii_lowercase()))
        }
        _ => false,
    }
}

/// Answers a request to an ingestion endpoint.
pub fn ingest(shared: &Shared, call: &Call) -> Response {
    ingested(shared, call).unwrap_or_else(Refusal::arm)
}

fn ingested(shared: &Shared, call: &Call) -> Reply {
    let caller = access::authenticate(shared, call, Service::Monitor)?;
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let ["dataCollectionRules", rule, "streams", stream] = segments.as_slice() else {
        return Err(Refusal::not_found(&call.path));
    };
    let rule_id = format!("{}/providers/Microsoft.Insights/dataCollectionRules/{rule}", names::group_id());
    access::authorize(shared, &caller, "Microsoft.Insights/Telemetry/Write", &rule_id)?;
    if call.method != Method::POST || call.query("api-version") != Some("2023-01-01") {
        return Err(Refusal::bad_request("POST with api-version 2023-01-01 is expected."));
    }
    if call.body.len() > LARGEST {
        let message = "Maximum allowed content length: 1048576 bytes (1 MB).";
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "ContentLengthLimitExceeded", message));
    }
    let rows = serde_json::from_slice::<Vec<serde_json::Map<String, Value>>>(&call.body)
        .map_err(|_| Refusal::bad_request("The payload is not an array of objects."))?;
    if rows.iter().any(|row| !row.get("TimeGenerated").is_some_and(Value::is_string)) {
        return Err(Refusal::bad_request("TimeGenerated is missing."));
    }
    shared.with(|world| {
        let table = world.tables.entry((*stream).to_owned()).or_default();
        table.extend(rows.into_iter().map(Value::Object));
    });
    Ok(StatusCode::NO_CONTENT.into_response())
}
