//! CloudEvents 1.0, JSON format.

use serde_json::{Value, json};

use super::{Exported, Fields, View, hex};

/// The kind of every event: a record of a gate, in its first form.
const TYPE: &str = "dev.amlgate.record.v1";

/// A record as an event; its data is the record itself.
#[must_use]
pub fn cloud_events(record: &Exported) -> Value {
    let view = View::of(record);
    let mut event = Fields::default();
    event.put("specversion", "1.0");
    // Unique in its source, and the same whenever the record is sent.
    event.put("id", record.position.to_string());
    event.put("source", format!("//amlgate/{}", record.origin));
    event.put("type", TYPE);
    event.some("subject", view.resource().or_else(|| view.own_text("event")));
    event.put("time", view.time().to_rfc3339());
    event.put("datacontenttype", "application/json");
    // Extensions: the log's own order and the record's leaf in its tree.
    event.put("sequence", format!("{:020}", record.position));
    event.put("leafhash", hex(&record.leaf));
    event.put("data", json!(record.value));
    event.done()
}
