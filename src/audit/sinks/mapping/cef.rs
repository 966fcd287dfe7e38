//! Common Event Format, version 0.

use std::fmt::Write as _;

use super::{Came, Exported, View, hex};

/// The longest text in an extension: receivers cut at about a kilobyte.
const MAX_TEXT: usize = 1_023;

/// A record as one line.
#[must_use]
pub fn cef(record: &Exported) -> String {
    let view = View::of(record);
    let version = view.text("/metadata/product/version").unwrap_or("0");
    let severity = match (view.denied(), view.result()) {
        (true, _) => 6,
        (false, Came::Failure) => 4,
        (false, Came::Success | Came::Unknown) => 2,
    };
    let mut line = String::from("CEF:0|amlgate|amlgate|");
    for text in [version, view.action(), &view.summary()] {
        header(&mut line, text);
        line.push('|');
    }
    let _infallible = write!(line, "{severity}|rt={}", view.time().as_millis());
    let number = |pointer: &str| view.number(pointer).map(|n| n.to_string());
    let outcome = match view.result() {
        Came::Success => Some("success"),
        Came::Failure => Some("failure"),
        Came::Unknown => None,
    };
    let url = view.text("/http_request/url/path").map(|path| {
        let host = view.text("/http_request/url/hostname").unwrap_or_default();
        let args = view.text("/http_request/args").map(|args| format!("?{args}")).unwrap_or_default();
        format!("https://{host}{path}{args}")
    });
    let entry = view.entry().map(|(name, _)| name);
    let act = view.own("phase").map(|_| if view.denied() { "denied" } else { "allowed" });
    let labelled = [
        (1, "policyEntry", entry),
        (2, "resourceId", view.resource()),
        (3, "phase", Some(view.phase())),
        (4, "policyDigest", view.own_text("policy_digest")),
        (5, "correlationId", view.text("/metadata/correlation_uid")),
    ];
    for (key, value) in [
        ("act", act.map(ToOwned::to_owned)),
        ("outcome", outcome.map(ToOwned::to_owned)),
        ("suser", view.text("/actor/user/name").or_else(|| view.subject()).map(ToOwned::to_owned)),
        ("suid", view.caller().map(ToOwned::to_owned)),
        ("src", view.text("/src_endpoint/ip").map(ToOwned::to_owned)),
        ("spt", number("/src_endpoint/port")),
        ("dhost", view.text("/http_request/url/hostname").map(ToOwned::to_owned)),
        ("request", url),
        ("requestMethod", view.text("/http_request/http_method").map(ToOwned::to_owned)),
        ("requestClientApplication", view.text("/http_request/user_agent").map(ToOwned::to_owned)),
        ("in", number("/http_request/body_length")),
        ("out", number("/http_response/body_length")),
        ("externalId", view.own_text("decision").map(ToOwned::to_owned)),
        ("reason", view.reason().map(ToOwned::to_owned)),
        ("dvchost", Some(record.origin.to_string())),
    ] {
        extension(&mut line, key, value.as_deref());
    }
    for (number, label, value) in labelled {
        if value.is_some() {
            extension(&mut line, &format!("cs{number}Label"), Some(label));
            extension(&mut line, &format!("cs{number}"), value);
        }
    }
    extension(&mut line, "cs6Label", Some("leafHash"));
    extension(&mut line, "cs6", Some(&hex(&record.leaf)));
    extension(&mut line, "cn1Label", Some("position"));
    extension(&mut line, "cn1", Some(&record.position.to_string()));
    if let Some(status) = number("/http_response/code") {
        extension(&mut line, "cn2Label", Some("status"));
        extension(&mut line, "cn2", Some(&status));
    }
    line
}

/// In the head `|` and `\` are escaped; line ends have no form there.
fn header(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '|' | '\\' => line.extend(['\\', c]),
            c if c.is_control() => line.push(' '),
            c => line.push(c),
        }
    }
}

/// In a value `=`, `\` and line ends are escaped.
fn extension(line: &mut String, key: &str, value: Option<&str>) {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return };
    line.push(' ');
    line.push_str(key);
    line.push('=');
    let mut left = MAX_TEXT;
    for c in value.chars() {
        let Some(rest) = left.checked_sub(c.len_utf8()) else { break };
        left = rest;
        match c {
            '=' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            c if c.is_control() => line.push(' '),
            c => line.push(c),
        }
    }
}
