//! One record as it is printed.

use std::io::{self, Write as _};

use serde_json::Value;

use super::super::{Output, plain, to_yaml};
use crate::audit::read::Record;

/// A record, as it stands and as it reads.
pub(super) struct Line {
    pub record: Record,
    pub value: Value,
}

impl Line {
    /// A line that is no JSON is the unfinished end, or tampering, which `verify` names.
    pub fn of(record: Record) -> Option<Self> {
        Some(Self { value: serde_json::from_slice(&record.line).ok()?, record })
    }

    pub fn print(&self, output: Output) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match output {
            Output::Table => writeln!(out, "{}", shown(&self.row())),
            Output::Json => out.write_all(&self.record.line).and_then(|()| out.write_all(b"\n")),
            Output::Yaml => {
                writeln!(out, "---\n# position {}\n{}", self.record.position, plain(&to_yaml(&self.value)))
            }
        }
    }

    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer).and_then(Value::as_str)
    }

    pub fn time(&self) -> Option<chrono::DateTime<chrono::Utc>> {
        chrono::DateTime::from_timestamp_millis(self.value.get("time")?.as_i64()?)
    }

    /// One row for a person: when, who, what came of it, what, on which resource.
    pub fn row(&self) -> String {
        let time = self.time().map_or_else(String::new, |t| t.format("%Y-%m-%d %H:%M:%S").to_string());
        if let Some(event) = self.text("/unmapped/amlgate/event") {
            let more = ["reason", "problem", "what"]
                .iter()
                .find_map(|k| self.text(&format!("/unmapped/amlgate/{k}")));
            // Whoever did it, or else whom it is about; the gate's own doings have neither.
            let who = self.text("/actor/user/uid").or_else(|| self.text("/user/uid")).unwrap_or("-");
            return format!("{time}  {who:<28} {event:<28} {}", more.unwrap_or_default());
        }
        let phase = self.text("/unmapped/amlgate/phase").unwrap_or_default();
        let result = match phase {
            "denial" => self.text("/unmapped/amlgate/denial/code").unwrap_or("denied").to_owned(),
            "intent" => "intent".to_owned(),
            _ => {
                let status = self.value.pointer("/http_response/code").and_then(Value::as_u64);
                let ending = self.text("/unmapped/amlgate/ending").unwrap_or_default();
                match status {
                    Some(status) if ending == "completed" => status.to_string(),
                    Some(status) => format!("{status} {ending}"),
                    None => ending.to_owned(),
                }
            }
        };
        let method = self.text("/http_request/http_method").unwrap_or_default();
        let what =
            self.text("/api/operation").or_else(|| self.text("/http_request/url/path")).unwrap_or_default();
        let on = self.text("/resources/0/name").unwrap_or_default();
        let who = self.text("/actor/user/uid").unwrap_or_default();
        format!("{time}  {who:<28} {result:<28} {method:<6} {what}  {on}")
    }
}

/// A row is one line, whatever a record says that nobody vouches for.
fn shown(row: &str) -> String {
    plain(row).replace('\n', "\\u000a")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_somebody_else_wrote_is_one_row_all_the_same() {
        let hostile = br#"{"actor":{"user":{"uid":"a\u001b[2J\nb\u202ec"}},"unmapped":{"amlgate":{"event":"started"}}}"#;
        let line = Line::of(Record { position: 0, line: hostile.to_vec() }).unwrap();
        let row = shown(&line.row());
        assert!(row.contains(r"a\u001b[2J\u000ab\u202ec") && row.lines().count() == 1, "{row}");
    }

    #[test]
    fn a_row_names_whoever_did_it_or_whom_it_is_about() {
        let row = |golden: &str| {
            let record = Record { position: 0, line: golden.as_bytes().to_vec() };
            Line::of(record).unwrap().row()
        };
        let asked = row(include_str!("../../audit/tests/golden/approval_asked.json"));
        assert!(asked.contains("  corp:ann  ") && asked.contains("approval_asked"), "{asked}");
        assert!(row(include_str!("../../audit/tests/golden/signed_in.json")).contains("  corp:ann  "));
        assert!(row(include_str!("../../audit/tests/golden/started.json")).contains("  -  "));
    }
}
