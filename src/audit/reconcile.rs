//! What Azure's activity log holds of guarded resources and this record does not: somebody went
//! around the gate.
//!
//! The two are joined by `x-ms-correlation-request-id`, which Azure puts on each answer and the
//! record keeps. Whoever calls Azure directly may choose that id, so a record stands for no more than
//! it says: the same action on the same resource, as often as it was recorded.

pub mod events;

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;

/// Why an operation counts as done around the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No record has its correlation id.
    NoRecord,
    /// The records with its correlation id are of something else.
    OtherRecord,
    /// It was done more often than it was recorded.
    MoreThanRecorded,
}

impl Why {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoRecord => "no record has its correlation id",
            Self::OtherRecord => "the record with its correlation id is of something else",
            Self::MoreThanRecorded => "it was done more often than it was recorded",
        }
    }
}

/// An operation that went around the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Around {
    /// When, as Azure says.
    pub time: String,
    /// Who, as Azure says.
    pub caller: String,
    /// With which application.
    pub client: String,
    /// What.
    pub action: String,
    /// On what.
    pub resource: String,
    /// Azure's id of it.
    pub operation: String,
    /// The id that it would be joined by.
    pub correlation: String,
    /// Why it counts as done around the gate.
    pub why: Why,
}

/// What the record says was done, by correlation id.
#[derive(Debug, Default)]
pub struct Recorded {
    done: HashMap<String, HashMap<(String, String), usize>>,
}

impl Recorded {
    /// Takes in a record; what is no outcome of a request says nothing here.
    pub fn add(&mut self, record: &Value) {
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        let Some(correlation) = text("/metadata/correlation_uid") else { return };
        if text("/unmapped/amlgate/phase") != Some("outcome") {
            return;
        }
        let known = self.done.entry(correlation.to_ascii_lowercase()).or_default();
        let mut add = |action: Option<&str>, resource: Option<&str>| {
            let key = |text: Option<&str>| text.unwrap_or_default().to_ascii_lowercase();
            *known.entry((key(action), key(resource))).or_default() += 1;
        };
        let acts = record.pointer("/unmapped/amlgate/acts").and_then(Value::as_array);
        match acts {
            None => add(text("/api/operation"), text("/resources/0/uid")),
            Some(acts) => {
                let member =
                    |act: &'_ Value, key: &str| act.get(key).and_then(Value::as_str).map(str::to_owned);
                acts.iter().for_each(|act| {
                    add(member(act, "action").as_deref(), member(act, "resource").as_deref());
                });
            }
        }
    }
}

/// One operation of Azure's, of which its log holds several events.
struct Operation<'e> {
    event: &'e Value,
    failed: bool,
}

/// The operations among these events that the record does not have, oldest first; and how many there
/// were in all. What failed changed nothing and is left out.
#[must_use]
pub fn around(events: &[Value], mut recorded: Recorded) -> (Vec<Around>, usize) {
    let text = |event: &'_ Value, pointer: &str| -> String {
        event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut operations: BTreeMap<String, Operation<'_>> = BTreeMap::new();
    for event in events {
        let id = match text(event, "/operationId") {
            none if none.is_empty() => text(event, "/eventDataId"),
            id => id,
        };
        let failed = text(event, "/status/value").eq_ignore_ascii_case("failed");
        let operation = operations.entry(id).or_insert(Operation { event, failed: true });
        operation.failed &= failed;
        if text(event, "/eventTimestamp") < text(operation.event, "/eventTimestamp") {
            operation.event = event;
        }
    }
    let mut operations: Vec<_> = operations.into_iter().filter(|(_, operation)| !operation.failed).collect();
    operations.sort_by_key(|(_, operation)| text(operation.event, "/eventTimestamp"));
    let count = operations.len();
    let mut found = Vec::new();
    for (id, Operation { event, .. }) in operations {
        let (action, resource) = (text(event, "/operationName/value"), text(event, "/resourceId"));
        let correlation = text(event, "/correlationId");
        let key = (action.to_ascii_lowercase(), resource.trim_end_matches('/').to_ascii_lowercase());
        let known = recorded.done.get_mut(&correlation.to_ascii_lowercase());
        let why = match known.map(|known| known.get_mut(&key)) {
            None => Why::NoRecord,
            Some(None) => Why::OtherRecord,
            Some(Some(0)) => Why::MoreThanRecorded,
            Some(Some(left)) => {
                *left -= 1;
                continue;
            }
        };
        found.push(Around {
            time: text(event, "/eventTimestamp"),
            caller: text(event, "/caller"),
            client: text(event, "/claims/appid"),
            action,
            resource,
            operation: id,
            correlation,
            why,
        });
    }
    (found, count)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(id: &str, correlation: &str, action: &str, resource: &str, status: &str) -> Value {
        json!({
            "operationId": id, "correlationId": correlation, "eventTimestamp": "2026-11-30T00:00:00Z",
            "operationName": {"value": action}, "resourceId": resource, "status": {"value": status},
            "caller": "ann@corp", "claims": {"appid": "app"},
        })
    }

    fn recorded(correlation: &str, action: &str, resource: &str) -> Recorded {
        let mut recorded = Recorded::default();
        recorded.add(&json!({
            "metadata": {"correlation_uid": correlation}, "api": {"operation": action},
            "resources": [{"uid": resource}], "unmapped": {"amlgate": {"phase": "outcome"}},
        }));
        recorded
    }

    #[test]
    fn what_was_recorded_is_found_whatever_the_case_and_however_many_events_azure_has_of_it() {
        let events = [
            event("1", "C-1", "microsoft.x/jobs/WRITE", "/Subscriptions/s/jobs/j", "Accepted"),
            event("1", "C-1", "microsoft.x/jobs/WRITE", "/Subscriptions/s/jobs/j", "Succeeded"),
        ];
        let (found, count) =
            around(&events, recorded("c-1", "Microsoft.X/jobs/write", "/subscriptions/s/jobs/j"));
        assert_eq!((found, count), (vec![], 1));
    }

    #[test]
    fn a_record_stands_for_no_more_than_it_says() {
        let done = |id, action, resource| event(id, "c", action, resource, "Succeeded");
        let why = |events: &[Value]| {
            let (found, _) = around(events, recorded("c", "a/write", "/r"));
            found.into_iter().map(|one| (one.operation, one.why)).collect::<Vec<_>>()
        };
        assert_eq!(why(&[done("1", "a/write", "/r")]), []);
        assert_eq!(why(&[done("1", "a/delete", "/r")]), [("1".into(), Why::OtherRecord)]);
        assert_eq!(why(&[done("1", "a/write", "/other")]), [("1".into(), Why::OtherRecord)]);
        let twice = [done("1", "a/write", "/r"), done("2", "a/write", "/r")];
        assert_eq!(why(&twice), [("2".into(), Why::MoreThanRecorded)]);
        let foreign = event("3", "d", "a/write", "/r", "Succeeded");
        assert_eq!(why(&[foreign]), [("3".into(), Why::NoRecord)]);
    }

    #[test]
    fn what_failed_changed_nothing() {
        let (found, count) = around(&[event("1", "c", "a/write", "/r", "Failed")], Recorded::default());
        assert_eq!((found.len(), count), (0, 0));
        let events =
            [event("1", "c", "a/write", "/r", "Failed"), event("1", "c", "a/write", "/r", "Started")];
        assert_eq!(around(&events, Recorded::default()).0.len(), 1);
    }
}
