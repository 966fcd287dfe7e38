//! `/hooks/azure/NAME/SECRET`: Event Grid's events of a workspace, in its own schema or as CloudEvents.
//!
//! They come at least once and in any order. Of a registration it is kept that somebody told of it, and
//! looked up at Azure before anybody hears of it; the end of a run only has others look sooner.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{lineage::ModelId, time::Timestamp};

/// Events of one delivery.
const MOST: usize = 500;
/// Characters of a code, an id or an origin.
const LONGEST: usize = 512;

const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";
const REGISTERED: &str = "Microsoft.MachineLearningServices.ModelRegistered";
const COMPLETED: &str = "Microsoft.MachineLearningServices.RunCompleted";

/// What one delivery tells.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Delivery {
    /// What proves that the gate wants to hear: is sent back.
    pub validation: Option<String>,
    /// Models that were registered.
    pub registered: Vec<Registered>,
    /// Whether a run ended.
    pub completed: bool,
}

/// A model that was registered.
#[derive(Debug, PartialEq)]
pub(super) struct Registered {
    pub model: ModelId,
    /// Tells one telling from another that is not its repetition.
    pub event: String,
    /// When, if that is told.
    pub happened: Option<Timestamp>,
}

/// An event of either schema.
#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(alias = "eventType", rename = "type")]
    kind: String,
    /// The workspace.
    #[serde(alias = "topic", default)]
    source: String,
    #[serde(default)]
    subject: String,
    #[serde(alias = "eventTime")]
    time: Option<String>,
    #[serde(default)]
    data: Value,
}

/// Reads a delivery: one event, or several.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(body: &[u8]) -> Result<Delivery, String> {
    let unread = |error: serde_json::Error| format!("these are no events of Event Grid: {error}");
    let is_list = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    let events: Vec<Event> = if is_list {
        serde_json::from_slice(body).map_err(unread)?
    } else {
        vec![serde_json::from_slice(body).map_err(unread)?]
    };
    if events.len() > MOST {
        return Err(format!("a delivery has at most {MOST} events"));
    }
    let mut delivery = Delivery::default();
    for event in events {
        match event.kind.as_str() {
            VALIDATION => delivery.validation = Some(code(&event)?),
            REGISTERED => delivery.registered.push(registered(event)?),
            COMPLETED => delivery.completed = true,
            // Whoever subscribes to more than is wanted is not refused for it.
            _ => {}
        }
    }
    Ok(delivery)
}

/// What is sent back to a validation.
pub(super) fn validated(code: &str) -> String {
    json!({"validationResponse": code}).to_string()
}

fn code(event: &Event) -> Result<String, String> {
    let code = event.data.get("validationCode").and_then(Value::as_str);
    let code = code.filter(|code| !code.is_empty() && code.len() <= LONGEST);
    code.map(str::to_owned).ok_or_else(|| "the validation has no `validationCode`".to_owned())
}

fn registered(event: Event) -> Result<Registered, String> {
    let from_subject = || event.subject.strip_prefix("models/")?.rsplit_once(':');
    let text = |key: &str| match event.data.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let name = text("ModelName").or_else(|| from_subject().map(|(name, _)| name.to_owned()));
    let version = text("ModelVersion").or_else(|| from_subject().map(|(_, version)| version.to_owned()));
    let model = name.zip(version).and_then(|(name, version)| {
        let is_part = |part: &str| !part.is_empty() && !part.contains('/');
        let parts = is_part(&name) && is_part(&version);
        parts.then(|| ModelId::parse(&format!("{}/models/{name}/versions/{version}", event.source)))?
    });
    let model = model.filter(|model| model.arm().is_some());
    let model = model.ok_or_else(|| "a `ModelRegistered` names no model of a workspace".to_owned())?;
    if event.id.is_empty() || event.id.len() > LONGEST {
        return Err(format!("an event's `id` has 1 to {LONGEST} characters"));
    }
    Ok(Registered { model, event: event.id, happened: event.time.as_deref().and_then(instant) })
}

fn instant(text: &str) -> Option<Timestamp> {
    let read = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(read.timestamp_millis()).ok().map(Timestamp::from_millis)
}

/// The origin that asks by `WebHook-Request-Origin` (CloudEvents, HTTP 1.1 Web Hooks, 4.1), if it may be
/// sent back.
pub(super) fn origin(text: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    (!text.is_empty() && text.len() <= LONGEST && text.bytes().all(plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = "/subscriptions/5f08d643-1910-4a38-a7c7-84a39d4f42e0/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/vision";

    fn own(kind: &str, subject: &str, data: &Value) -> Value {
        json!({
            "topic": WORKSPACE, "subject": subject, "eventType": kind, "eventTime": "2026-11-26T18:41:00.9584103Z",
            "id": "831e1650-001e-001b-66ab-eeb76e069631", "data": data, "dataVersion": "", "metadataVersion": "1",
        })
    }

    fn cloud(kind: &str, subject: &str, data: &Value) -> Value {
        json!({
            "source": WORKSPACE, "subject": subject, "type": kind, "time": "2026-11-26T18:41:00.9584103Z",
            "id": "831e1650-001e-001b-66ab-eeb76e069631", "data": data, "specversion": "1.0",
        })
    }

    fn told(event: &Value) -> Result<Delivery, String> {
        read(event.to_string().as_bytes())
    }

    #[test]
    fn a_registration_is_read_in_either_schema() {
        let data = json!({"ModelName": "churn", "ModelVersion": "20", "ModelTags": {"area": "x"}, "ModelProperties": {}});
        let number = json!({"ModelName": "churn", "ModelVersion": 20});
        for event in [
            json!([own(REGISTERED, "models/churn:20", &data)]),
            cloud(REGISTERED, "models/churn:20", &data),
            json!([cloud(REGISTERED, "", &number)]),
            own(REGISTERED, "models/churn:20", &json!({})),
            own(REGISTERED, "models/churn:20", &Value::Null),
        ] {
            let delivery = told(&event).unwrap();
            let [registered] = &delivery.registered[..] else { panic!("{event}") };
            assert_eq!(registered.model.short(), "churn:20");
            assert_eq!(
                registered.model.arm().unwrap().as_str(),
                format!("{WORKSPACE}/models/churn/versions/20")
            );
            assert_eq!(registered.happened.unwrap().to_rfc3339(), "2026-11-26T18:41:00.958Z");
            assert!(delivery.validation.is_none() && !delivery.completed);
        }
    }

    #[test]
    fn several_events_come_together_and_what_is_not_wanted_is_no_harm() {
        let model = |name: &str| own(REGISTERED, "", &json!({"ModelName": name, "ModelVersion": "1"}));
        let run = cloud(COMPLETED, "experiments/e/runs/r", &json!({"runId": "r", "runStatus": "Completed"}));
        let other = own("Microsoft.MachineLearningServices.ModelDeployed", "endpoints/x", &json!({}));
        let delivery = told(&json!([model("a"), run, other, model("b")])).unwrap();
        let names: Vec<_> = delivery.registered.iter().map(|one| one.model.short()).collect();
        assert_eq!(names, ["a:1", "b:1"]);
        assert!(delivery.completed);
        assert_eq!(told(&json!([])), Ok(Delivery::default()));
    }

    #[test]
    fn a_validation_is_answered_with_its_code() {
        let event = own(VALIDATION, "", &json!({"validationCode": "512d38b6", "validationUrl": "https://x"}));
        let delivery = told(&json!([event])).unwrap();
        assert_eq!(
            validated(delivery.validation.as_deref().unwrap()),
            r#"{"validationResponse":"512d38b6"}"#
        );
        for odd in [json!({}), json!({"validationCode": ""}), json!({"validationCode": "x".repeat(513)})] {
            assert!(told(&json!([own(VALIDATION, "", &odd)])).is_err(), "{odd}");
        }
        assert_eq!(origin("eventgrid.azure.net"), Some("eventgrid.azure.net"));
        for odd in ["", "a b", "a\r\nb", "*", "a,b"] {
            assert_eq!(origin(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_names_no_model_of_a_workspace_is_said_to_name_none() {
        let mut elsewhere = own(REGISTERED, "models/churn:20", &json!({}));
        elsewhere["topic"] =
            json!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a");
        let mut nameless = own(REGISTERED, "models/churn:20", &json!({}));
        nameless["id"] = json!("");
        for odd in [
            elsewhere,
            nameless,
            own(REGISTERED, "churn", &json!({})),
            own(REGISTERED, "", &json!({"ModelName": "../x", "ModelVersion": "1"})),
            own(REGISTERED, "", &json!({"ModelName": "a/b", "ModelVersion": "1"})),
            json!({"type": REGISTERED}),
            json!("text"),
            json!([1]),
        ] {
            assert!(told(&odd).is_err(), "{odd}");
        }
        assert!(read(b"").is_err() && read(b"{").is_err() && read(b"[").is_err());
    }
}
