//! OpenTelemetry's log data model, as OTLP's JSON.

use serde_json::{Value, json};

use super::{Came, Exported, View, hex};

/// A batch as an `ExportLogsServiceRequest`.
#[must_use]
pub fn otlp(batch: &[Exported]) -> Value {
    let Some(first) = batch.first() else { return json!({"resourceLogs": []}) };
    let version = View::of(first).text("/metadata/product/version");
    let resource = Attributes::default()
        .text("service.name", Some("amlgate"))
        .text("service.instance.id", Some(&first.origin))
        .text("service.version", version);
    let records: Vec<Value> = batch.iter().map(one).collect();
    json!({"resourceLogs": [{
        "resource": {"attributes": resource.0},
        "scopeLogs": [{"scope": {"name": "amlgate.audit"}, "logRecords": records}],
    }]})
}

fn one(record: &Exported) -> Value {
    let view = View::of(record);
    let (number, text) = match (view.denied(), view.result()) {
        (true, _) => (13, "WARN"),
        (false, Came::Failure) => (12, "INFO4"),
        (false, Came::Success | Came::Unknown) => (9, "INFO"),
    };
    let denied = view.denied().then(|| view.reason()).flatten();
    let attributes = Attributes::default()
        .text("user.id", view.caller())
        .text("user.name", view.text("/actor/user/name"))
        .text("client.address", view.text("/src_endpoint/ip"))
        .number("client.port", view.number("/src_endpoint/port"))
        .text("http.request.method", view.text("/http_request/http_method"))
        .number("http.request.body.size", view.number("/http_request/body_length"))
        .number("http.response.status_code", view.number("/http_response/code"))
        .number("http.response.body.size", view.number("/http_response/body_length"))
        .text("server.address", view.text("/http_request/url/hostname"))
        .text("url.path", view.text("/http_request/url/path"))
        .text("url.query", view.text("/http_request/args"))
        .text("user_agent.original", view.text("/http_request/user_agent"))
        .text("azure.resource_group.name", view.of_resource("resourceGroups"))
        .text("azure.resource_provider.namespace", view.of_resource("providers"))
        .text("azure.service.request.id", view.text("/metadata/correlation_uid"))
        .text("cloud.account.id", view.text("/cloud/account/uid"))
        .text("cloud.resource_id", view.resource())
        .text("error.type", denied)
        .text("amlgate.action", Some(view.action()))
        .text("amlgate.phase", Some(view.phase()))
        .text("amlgate.decision", view.own_text("decision"))
        .text("amlgate.reason", view.reason())
        .text("amlgate.entry", view.entry().map(|(name, _)| name))
        .text("amlgate.policy_digest", view.own_text("policy_digest"))
        .text("amlgate.credential", view.own_text("credential"))
        .text("amlgate.origin", Some(&record.origin))
        .number("amlgate.position", Some(record.position))
        .text("amlgate.leaf", Some(&hex(&record.leaf)));
    let nanos = u128::from(view.time().as_millis()) * 1_000_000;
    let event = if view.own("phase").is_some() { "amlgate.decision" } else { "amlgate.event" };
    json!({
        // 64-bit numbers are strings in this JSON.
        "timeUnixNano": nanos.to_string(),
        "severityNumber": number,
        "severityText": text,
        "eventName": event,
        "body": {"stringValue": String::from_utf8_lossy(&record.line)},
        "attributes": attributes.0,
    })
}

#[derive(Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn text(mut self, key: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.0.push(json!({"key": key, "value": {"stringValue": value}}));
        }
        self
    }

    fn number(mut self, key: &str, value: Option<u64>) -> Self {
        if let Some(value) = value {
            self.0.push(json!({"key": key, "value": {"intValue": value.to_string()}}));
        }
        self
    }
}
