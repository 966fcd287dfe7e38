//! Elastic Common Schema, 9.x.

use serde_json::{Value, json};

use super::{Came, Exported, Fields, View, hex};

/// A record in ECS; what ECS has no field for is under `amlgate`.
#[must_use]
pub fn ecs(record: &Exported) -> Value {
    let view = View::of(record);
    let mut all = Fields::default();
    all.put("@timestamp", view.time().to_rfc3339());
    all.within("ecs", |f| f.put("version", "9.1.0"));
    all.put("message", view.summary());
    all.within("event", |f| {
        f.put("kind", "event");
        f.put("module", "amlgate");
        f.put("dataset", "amlgate.audit");
        f.put("category", category(view));
        f.put("type", kinds(view));
        f.put("action", view.action());
        f.put(
            "outcome",
            match view.result() {
                Came::Success => "success",
                Came::Failure => "failure",
                Came::Unknown => "unknown",
            },
        );
        f.some("reason", view.reason());
        f.put("id", format!("{}/{}", record.origin, record.position));
        f.put("sequence", record.position);
        f.put("hash", hex(&record.leaf));
        // Nanoseconds.
        f.some("duration", view.number("/duration").map(|millis| millis.saturating_mul(1_000_000)));
    });
    all.within("user", |f| {
        f.some("id", view.caller());
        f.some("name", view.text("/actor/user/name").or_else(|| view.subject()));
        f.some("domain", view.text("/actor/user/domain"));
        f.some("roles", view.own("roles").cloned());
        f.within("effective", |f| f.some("id", view.own_text("credential")));
        f.within("target", |f| f.some("id", view.text("/actor/user/uid_alt")));
    });
    for side in ["source", "client"] {
        all.within(side, |f| {
            f.some("ip", view.text("/src_endpoint/ip"));
            f.some("port", view.number("/src_endpoint/port"));
        });
    }
    all.within("http", |f| {
        f.within("request", |f| {
            f.some("id", view.own_text("decision"));
            f.some("method", view.text("/http_request/http_method"));
            f.within("body", |f| f.some("bytes", view.number("/http_request/body_length")));
        });
        f.within("response", |f| {
            f.some("status_code", view.number("/http_response/code"));
            f.within("body", |f| f.some("bytes", view.number("/http_response/body_length")));
        });
    });
    all.within("url", |f| {
        f.some("domain", view.text("/http_request/url/hostname"));
        f.some("path", view.text("/http_request/url/path"));
        f.some("query", view.text("/http_request/args"));
    });
    all.within("user_agent", |f| f.some("original", view.text("/http_request/user_agent")));
    all.within("rule", |f| {
        if let Some((name, place)) = view.entry() {
            f.put("name", name);
            f.some("id", place);
            f.put("ruleset", "amlgate");
        }
        f.some("version", view.own_text("policy_digest"));
    });
    all.within("cloud", |f| {
        f.some("provider", view.text("/cloud/provider").map(str::to_ascii_lowercase));
        f.within("account", |f| f.some("id", view.text("/cloud/account/uid")));
    });
    all.within("observer", |f| {
        f.put("vendor", "amlgate");
        f.put("product", "amlgate");
        f.put("type", "proxy");
        f.put("name", &*record.origin);
        f.some("version", view.text("/metadata/product/version"));
    });
    all.within("labels", |f| f.some("correlation_id", view.text("/metadata/correlation_uid")));
    all.within("amlgate", |f| {
        f.some("resource", view.resource());
        f.some("record", view.at("/unmapped/amlgate").cloned());
    });
    all.done()
}

fn category(view: View<'_>) -> Value {
    match view.number("/class_uid") {
        Some(6_003) => json!(["api", "iam", "web"]),
        Some(3_002) => json!(["authentication"]),
        Some(3_004) => json!(["configuration"]),
        Some(3_008 | 3_003) => json!(["iam"]),
        Some(_) | None => json!(["process"]),
    }
}

fn kinds(view: View<'_>) -> Value {
    let mut kinds = Vec::new();
    if view.number("/class_uid") == Some(6_003) && view.own("phase").is_some() {
        kinds.push("access");
        kinds.push(if view.denied() { "denied" } else { "allowed" });
        match view.own_text("kind") {
            Some("write") => kinds.push("change"),
            Some("delete") => kinds.push("deletion"),
            Some(_) | None => {}
        }
    } else {
        match view.own_text("event") {
            Some("started") => kinds.push("start"),
            Some("stopped") => kinds.push("end"),
            Some("refused") => kinds.push("denied"),
            Some(_) if view.number("/class_uid") == Some(3_004) => kinds.push("change"),
            Some(_) | None => kinds.push("info"),
        }
    }
    json!(kinds)
}
