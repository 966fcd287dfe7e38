//! A record in the words of other systems: pure functions, each with its golden file.
//!
//! What a system has no word for goes along as the record itself; nothing is added that the record
//! does not say.

mod azure;
mod cef;
mod cloud_events;
mod clutch;
mod ecs;
mod otlp;
mod splunk;
mod syslog;

pub use azure::{azure_monitor, insights};
pub use cef::cef;
pub use cloud_events::cloud_events;
pub use clutch::clutch;
pub use ecs::ecs;
pub use otlp::otlp;
use serde_json::{Map, Value};
pub use splunk::splunk;
pub use syslog::syslog;

use super::Exported;
use crate::time::Timestamp;

/// The form of a line in files and in syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The record as it is.
    #[default]
    Ocsf,
    /// Elastic Common Schema.
    Ecs,
    /// Common Event Format.
    Cef,
    /// CloudEvents 1.0, structured.
    CloudEvents,
    /// Clutch's audit events.
    Clutch,
}

impl Format {
    /// Its word in the configuration.
    ///
    /// # Errors
    /// Words that say what is wanted.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "ocsf" => Ok(Self::Ocsf),
            "ecs" => Ok(Self::Ecs),
            "cef" => Ok(Self::Cef),
            "cloudevents" => Ok(Self::CloudEvents),
            "clutch" => Ok(Self::Clutch),
            _ => Err(format!("`{text}` is none of `ocsf`, `ecs`, `cef`, `cloudevents`, `clutch`")),
        }
    }

    /// One line, without its end.
    #[must_use]
    pub fn line(self, record: &Exported) -> String {
        match self {
            Self::Ocsf => String::from_utf8_lossy(&record.line).into_owned(),
            Self::Ecs => ecs(record).to_string(),
            Self::Cef => cef(record),
            Self::CloudEvents => cloud_events(record).to_string(),
            Self::Clutch => clutch(record).to_string(),
        }
    }
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What came of a request, or that it was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Success,
    Failure,
    Unknown,
}

/// A record by what it says.
#[derive(Debug, Clone, Copy)]
struct View<'r> {
    record: &'r Exported,
}

impl<'r> View<'r> {
    const fn of(record: &'r Exported) -> Self {
        Self { record }
    }

    fn at(self, pointer: &str) -> Option<&'r Value> {
        self.record.value.pointer(pointer)
    }

    fn text(self, pointer: &str) -> Option<&'r str> {
        self.at(pointer)?.as_str()
    }

    fn number(self, pointer: &str) -> Option<u64> {
        self.at(pointer)?.as_u64()
    }

    /// The gate's own part.
    fn own(self, key: &str) -> Option<&'r Value> {
        self.at("/unmapped/amlgate")?.get(key)
    }

    fn own_text(self, key: &str) -> Option<&'r str> {
        self.own(key)?.as_str()
    }

    fn time(self) -> Timestamp {
        Timestamp::from_millis(self.number("/time").unwrap_or_default())
    }

    /// What the record is of: the Azure action, else the event.
    fn action(self) -> &'r str {
        self.own_text("event").or_else(|| self.text("/api/operation")).unwrap_or("unknown")
    }

    /// `intent`, `outcome`, `denial`, or `event`.
    fn phase(self) -> &'r str {
        self.own_text("phase").unwrap_or("event")
    }

    fn caller(self) -> Option<&'r str> {
        self.text("/actor/user/uid")
    }

    /// The caller without the issuer's name.
    fn subject(self) -> Option<&'r str> {
        let caller = self.caller()?;
        let issuer = self.text("/actor/idp/name").unwrap_or_default();
        let rest = caller.strip_prefix(issuer).and_then(|rest| rest.strip_prefix(':'));
        rest.or(Some(caller))
    }

    fn resource(self) -> Option<&'r str> {
        self.text("/resources/0/uid")
    }

    /// A segment of the resource's id behind another.
    fn of_resource(self, kind: &str) -> Option<&'r str> {
        let mut segments = self.resource()?.split('/');
        segments.find(|segment| segment.eq_ignore_ascii_case(kind))?;
        segments.next().filter(|name| !name.is_empty())
    }

    /// The code of a denial, or how else it ended.
    fn reason(self) -> Option<&'r str> {
        self.text("/unmapped/amlgate/denial/code").or_else(|| self.text("/status_code"))
    }

    /// The entry that decided: of a denial the one that denied, else the first that allowed.
    fn entry(self) -> Option<(&'r str, Option<String>)> {
        if let Some(entry) = self.at("/unmapped/amlgate/denial/entry") {
            let place =
                entry.get("file").and_then(Value::as_str).zip(entry.get("line").and_then(Value::as_u64));
            return Some((entry.get("name")?.as_str()?, place.map(|(file, line)| format!("{file}:{line}"))));
        }
        let policy = self.at("/actor/authorizations/0/policy")?;
        let uid = policy.get("uid").and_then(Value::as_str).map(ToOwned::to_owned);
        Some((policy.get("name")?.as_str()?, uid))
    }

    fn denied(self) -> bool {
        self.number("/action_id") == Some(2)
    }

    fn result(self) -> Came {
        match self.number("/status_id") {
            Some(1) => Came::Success,
            Some(2) => Came::Failure,
            Some(_) | None => Came::Unknown,
        }
    }

    /// One line for people: who, what, on what, what came of it.
    fn summary(self) -> String {
        let mut words = Vec::new();
        words.extend(self.caller());
        words.push(self.action());
        words.extend(self.text("/resources/0/name"));
        let phase = self.phase();
        match (phase, self.reason()) {
            ("event", _) => {}
            ("intent", _) => words.push("(intent)"),
            (_, Some(reason)) => words.push(reason),
            (phase, None) => words.push(phase),
        }
        words.join(" ")
    }
}

/// An object of what there is: nothing is written for what a record does not say.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    fn some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// An object within, if there is anything in it.
    fn within(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        let mut fields = Self::default();
        fill(&mut fields);
        if !fields.0.is_empty() {
            self.put(key, fields.0);
        }
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

#[cfg(test)]
mod tests;
