//! RFC 5424.

use std::fmt::Write as _;

use super::{Came, Exported, Format, View, hex};

/// A record as a syslog message, without its length before it.
#[must_use]
pub fn syslog(record: &Exported, format: Format, facility: u8) -> String {
    let view = View::of(record);
    // Warning, notice, informational.
    let severity = match (view.denied(), view.result()) {
        (true, _) => 4,
        (false, Came::Failure) => 5,
        (false, Came::Success | Came::Unknown) => 6,
    };
    let mut message = String::new();
    let priority = u16::from(facility.min(23)) * 8 + severity;
    let time = view.time().to_rfc3339();
    let host = word(&record.origin, 255);
    let id = word(view.own_text("event").unwrap_or_else(|| view.phase()), 32);
    // 32473 stands for whoever has no number of their own (RFC 5612).
    let _infallible = write!(message, "<{priority}>1 {time} {host} amlgate - {id} [amlgate@32473");
    for (name, value) in [
        ("position", Some(record.position.to_string())),
        ("leaf", Some(hex(&record.leaf))),
        ("decision", view.own_text("decision").map(ToOwned::to_owned)),
        ("caller", view.caller().map(ToOwned::to_owned)),
        ("action", Some(view.action().to_owned())),
        ("resource", view.resource().map(ToOwned::to_owned)),
        ("reason", view.reason().map(ToOwned::to_owned)),
    ] {
        if let Some(value) = value {
            let _infallible = write!(message, " {name}=\"");
            value.chars().for_each(|c| match c {
                '"' | '\\' | ']' => message.extend(['\\', c]),
                c if c.is_control() => message.push(' '),
                c => message.push(c),
            });
            message.push('"');
        }
    }
    // A byte order mark says that what follows is UTF-8 (6.4).
    message.push_str("] \u{feff}");
    message.push_str(&format.line(record));
    message
}

/// Printable ASCII of a bounded length, `-` for none.
fn word(text: &str, most: usize) -> String {
    let word: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(most).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}
