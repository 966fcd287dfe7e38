//! A record as a row that people read, and what many of them come to.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::audit::query::Found;

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It was let through and answered.
    Allowed,
    /// It was refused.
    Denied,
    /// It was let through, and what is behind failed.
    Failed,
    /// It is not over yet, or is none.
    Open,
}

impl Came {
    /// For the style.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Open => "open",
        }
    }
}

/// One record.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub position: u64,
    pub vouched: bool,
    /// Milliseconds since 1970.
    pub time: u64,
    pub when: String,
    pub who: String,
    /// How the issuer calls them.
    pub name: String,
    pub came: Came,
    /// In words: a status, a code, an ending.
    pub result: String,
    pub method: String,
    pub what: String,
    pub on: String,
    /// The last part of `on`.
    pub short: String,
    pub decision: String,
    pub route: String,
    /// The entry that decided, and where it stands.
    pub entry: Option<Deciding>,
    pub cause: String,
    /// How long it took, in milliseconds.
    pub took: Option<u64>,
    pub phase: String,
}

/// The entry of a policy that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deciding {
    pub name: String,
    /// `file:line`.
    pub place: String,
}

impl Deciding {
    /// Where it stands on the page of policies.
    pub fn anchor(&self) -> String {
        anchor(&self.place)
    }
}

/// An anchor for `file:line`.
pub(super) fn anchor(place: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("e-{}", place.chars().map(plain).collect::<String>())
}

impl Row {
    pub fn of(found: &Found) -> Self {
        let value = &found.value;
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let own = |key: &str| text(&format!("/unmapped/amlgate/{key}"));
        let owned = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let time = value.get("time").and_then(Value::as_u64).unwrap_or_default();
        let status = value.pointer("/http_response/code").and_then(Value::as_u64);
        let phase = own("phase").unwrap_or_default();
        let event = own("event");
        let ending = own("ending").unwrap_or_default();
        let (came, result) = match (phase, event, status) {
            ("denial", ..) => (Came::Denied, owned(own("denial/code"))),
            ("intent", ..) => (Came::Open, "begun".to_owned()),
            ("outcome", _, Some(status)) => {
                let failed = status >= 500 || !matches!(ending, "completed" | "established" | "ended");
                let result =
                    if ending == "completed" { status.to_string() } else { format!("{status} {ending}") };
                (if failed { Came::Failed } else { Came::Allowed }, result)
            }
            ("outcome", _, None) => (Came::Failed, ending.to_owned()),
            (_, event, _) => (Came::Open, owned(event)),
        };
        let of_denial = value.pointer("/unmapped/amlgate/denial/entry");
        let entry = match of_denial {
            Some(entry) => {
                let part = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
                let line = entry.get("line").and_then(Value::as_u64).unwrap_or_default();
                let place = format!("{}:{line}", part("file"));
                Some(Deciding { name: part("name").to_owned(), place })
            }
            None => value.pointer("/actor/authorizations/0/policy").and_then(|policy| {
                let part = |key: &str| policy.get(key).and_then(Value::as_str).map(str::to_owned);
                Some(Deciding { name: part("name")?, place: part("uid")? })
            }),
        };
        let on = owned(text("/resources/0/uid"));
        let what = text("/api/operation").or_else(|| text("/http_request/url/path")).or(event);
        let why = ["denial/cause", "because", "reason", "problem", "what"].iter().find_map(|key| own(key));
        Self {
            position: found.position,
            vouched: found.vouched,
            time,
            when: moment(time),
            who: owned(text("/actor/user/uid").or_else(|| text("/user/uid"))),
            name: owned(text("/actor/user/name")),
            came,
            result,
            method: owned(text("/http_request/http_method")),
            what: owned(what),
            short: on.rsplit('/').next().unwrap_or_default().to_owned(),
            on,
            decision: owned(own("decision")),
            route: owned(text("/api/service/name")),
            entry,
            cause: owned(why),
            took: value.get("duration").and_then(Value::as_u64),
            phase: phase.to_owned(),
        }
    }

    /// Whether it says what was decided, and not only that something began.
    pub fn decides(&self) -> bool {
        matches!(self.phase.as_str(), "outcome" | "denial")
    }
}

/// A time as people read it, in UTC.
pub(super) fn moment(millis: u64) -> String {
    let time = i64::try_from(millis).ok().and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or_else(String::new, |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// What the requests of one route came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub allowed: u64,
    pub denied: u64,
    pub failed: u64,
    took: Vec<u64>,
}

impl Tally {
    /// How long one of so many hundred took, in milliseconds.
    pub fn percentile(&self, percent: usize) -> Option<u64> {
        percentile(&self.took, percent)
    }

    pub const fn is_empty(&self) -> bool {
        self.allowed + self.denied + self.failed == 0
    }
}

/// One of so many hundred in order.
pub(super) fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?)).copied()
}

/// By route.
pub(super) fn by_route(rows: &[Row]) -> BTreeMap<&str, Tally> {
    let mut all: BTreeMap<&str, Tally> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.decides()) {
        let tally = all.entry(row.route.as_str()).or_default();
        match row.came {
            Came::Allowed => tally.allowed += 1,
            Came::Denied => tally.denied += 1,
            Came::Failed => tally.failed += 1,
            Came::Open => {}
        }
        tally.took.extend(row.took.filter(|_| row.came == Came::Allowed));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Row {
        Row::of(&Found { position: 7, line: Vec::new(), value, vouched: true })
    }

    #[test]
    fn a_record_says_who_did_what_what_came_of_it_and_which_line_decided() {
        let golden = include_str!("../../audit/tests/golden/outcome.json");
        let done = row(serde_json::from_str(golden).unwrap());
        assert_eq!((done.came, done.result.as_str(), done.method.as_str()), (Came::Allowed, "201", "PUT"));
        assert_eq!((done.who.as_str(), done.short.as_str()), ("corp:tid/oid-ann", "vision"));
        let entry = done.entry.clone().unwrap();
        assert_eq!((entry.name.as_str(), entry.place.as_str()), ("team works", "team.yaml:5"));
        assert_eq!(entry.anchor(), "e-team-yaml-5");
        assert!(done.decides());
        let golden = include_str!("../../audit/tests/golden/denial.json");
        let denied = row(serde_json::from_str(golden).unwrap());
        assert_eq!((denied.came, denied.result.as_str()), (Came::Denied, "AuthorizationFailed"));
        assert!(denied.cause.contains("no entry allows you"), "{}", denied.cause);
        assert_eq!(denied.entry, None);
        let golden = include_str!("../../audit/tests/golden/policies_changed.json");
        let event = row(serde_json::from_str(golden).unwrap());
        assert_eq!((event.came, event.what.as_str()), (Came::Open, "policies_changed"));
        assert!(!event.decides());
    }

    #[test]
    fn what_failed_behind_the_gate_is_no_refusal_and_a_route_counts_each_once() {
        let of = |phase: &str, status: Option<u64>, ending: &str| {
            row(json!({
                "time": 0, "duration": 40, "api": {"service": {"name": "arm"}},
                "http_response": {"code": status},
                "unmapped": {"amlgate": {"phase": phase, "ending": ending}},
            }))
        };
        let rows = [
            of("intent", None, ""),
            of("outcome", Some(200), "completed"),
            of("outcome", Some(503), "completed"),
            of("outcome", Some(200), "upstream_failed"),
            of("outcome", None, "timed_out"),
            of("denial", None, ""),
        ];
        let tallies = by_route(&rows);
        let arm = &tallies["arm"];
        assert_eq!((arm.allowed, arm.denied, arm.failed), (1, 1, 3));
        assert_eq!((arm.percentile(50), Tally::default().percentile(95)), (Some(40), None));
        assert_eq!(percentile(&(1..=100).collect::<Vec<_>>(), 95), Some(96));
    }
}
