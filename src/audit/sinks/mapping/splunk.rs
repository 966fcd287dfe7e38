//! Splunk's HTTP Event Collector.

use serde_json::{Value, json};

use super::{Exported, Fields, View, hex};

/// A record as an event of the collector.
#[must_use]
pub fn splunk(record: &Exported, index: Option<&str>, source_type: &str) -> Value {
    let view = View::of(record);
    let mut event = Fields::default();
    let millis = view.time().as_millis();
    // Seconds with milliseconds behind the point, as text: no digit is lost.
    event.put("time", format!("{}.{:03}", millis / 1_000, millis % 1_000));
    event.put("host", &*record.origin);
    event.put("source", "amlgate");
    event.put("sourcetype", source_type);
    event.some("index", index);
    event.within("fields", |f| {
        f.put("position", record.position.to_string());
        f.put("leaf", hex(&record.leaf));
    });
    event.put("event", json!(record.value));
    event.done()
}
