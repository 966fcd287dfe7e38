//! Azure Monitor: rows of `AmlGateAudit_CL`, and custom events of Application Insights.

use serde_json::{Value, json};

use super::{Exported, Fields, View, hex};

/// The longest property that Application Insights keeps.
const MAX_PROPERTY: usize = 8_192;

/// A record as a row; `CorrelationId` joins Azure's own logs.
#[must_use]
pub fn azure_monitor(record: &Exported) -> Value {
    let view = View::of(record);
    let mut row = Fields::default();
    row.put("TimeGenerated", view.time().to_rfc3339());
    row.some("DecisionId", view.own_text("decision"));
    row.put("Decision", decision(view));
    row.put("Phase", view.phase());
    row.put("ReasonCodes", json!(view.reason().into_iter().collect::<Vec<_>>()));
    row.some("CallerObjectId", view.subject());
    row.some("CallerUpn", view.text("/actor/user/name"));
    row.some("CallerIssuer", view.text("/actor/idp/name"));
    row.some("ClientAppId", view.text("/actor/app_uid"));
    row.put("Operation", view.action());
    row.some("ResourceId", view.resource());
    row.some("WorkspaceName", view.of_resource("workspaces"));
    row.some("SubscriptionId_s", view.of_resource("subscriptions"));
    row.some("HttpMethod", view.text("/http_request/http_method"));
    row.some("Uri", uri(view));
    row.some("StatusCode", view.number("/http_response/code"));
    row.some("DurationMs", view.number("/duration"));
    row.some("CallerIpAddress", view.text("/src_endpoint/ip"));
    row.some("CorrelationId", view.text("/metadata/correlation_uid"));
    row.some("PolicyDigest", view.own_text("policy_digest"));
    row.some("RuleId", view.entry().map(|(name, _)| name));
    row.put("LeafIndex", record.position);
    row.put("LeafHash", hex(&record.leaf));
    row.put("ChainId", &*record.origin);
    row.put("Raw", json!(record.value));
    row.done()
}

/// A record as a custom event.
#[must_use]
pub fn insights(record: &Exported, instrumentation_key: &str) -> Value {
    let view = View::of(record);
    let mut properties = Fields::default();
    for (name, value) in [
        ("action", Some(view.action().to_owned())),
        ("caller", view.caller().map(ToOwned::to_owned)),
        ("client_address", view.text("/src_endpoint/ip").map(ToOwned::to_owned)),
        ("correlation_id", view.text("/metadata/correlation_uid").map(ToOwned::to_owned)),
        ("decision", Some(decision(view).to_owned())),
        ("decision_id", view.own_text("decision").map(ToOwned::to_owned)),
        ("entry", view.entry().map(|(name, _)| name.to_owned())),
        ("leaf", Some(hex(&record.leaf))),
        ("method", view.text("/http_request/http_method").map(ToOwned::to_owned)),
        ("origin", Some(record.origin.to_string())),
        ("phase", Some(view.phase().to_owned())),
        ("policy_digest", view.own_text("policy_digest").map(ToOwned::to_owned)),
        ("position", Some(record.position.to_string())),
        ("reason", view.reason().map(ToOwned::to_owned)),
        // Cut in two it would say something else, so it is there whole or not at all.
        (
            "record",
            Some(String::from_utf8_lossy(&record.line).into_owned()).filter(|r| r.len() <= MAX_PROPERTY),
        ),
        ("resource", view.resource().map(ToOwned::to_owned)),
        ("uri", uri(view)),
    ] {
        properties.some(name, value.filter(|value| value.len() <= MAX_PROPERTY));
    }
    let mut measurements = Fields::default();
    measurements.some("duration_ms", view.number("/duration"));
    measurements.some("status", view.number("/http_response/code"));
    let mut tags = Fields::default();
    tags.put("ai.cloud.role", "amlgate");
    tags.put("ai.cloud.roleInstance", &*record.origin);
    tags.some("ai.operation.id", view.own_text("decision"));
    tags.some("ai.user.authUserId", view.caller());
    json!({
        "ver": 1,
        "name": "Microsoft.ApplicationInsights.Event",
        "time": view.time().to_rfc3339(),
        "iKey": instrumentation_key,
        "sampleRate": 100,
        "tags": tags.done(),
        "data": {"baseType": "EventData", "baseData": {
            "ver": 2,
            "name": format!("amlgate {}", view.phase()),
            "properties": properties.done(),
            "measurements": measurements.done(),
        }},
    })
}

fn decision(view: View<'_>) -> &'static str {
    match (view.own("phase"), view.denied()) {
        (None, _) => "none",
        (Some(_), true) => "deny",
        (Some(_), false) => "allow",
    }
}

fn uri(view: View<'_>) -> Option<String> {
    let host = view.text("/http_request/url/hostname")?;
    Some(format!("https://{host}{}", view.text("/http_request/url/path").unwrap_or_default()))
}
