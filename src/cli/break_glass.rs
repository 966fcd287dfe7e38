//! `amlgate break-glass`: in an emergency, what an entry forbids that says `unless: {break_glass: true}`.

mod offline;

use std::{fmt::Write as _, process::ExitCode, time::Duration};

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    exit,
    request::{
        At, path, print, print_one,
        shown::{list as items, party, text},
    },
};
use crate::config::values;

/// The most pages of a list that are read.
const MOST_PAGES: usize = 50;

/// Opens what only an emergency opens, and looks after it.
#[derive(Debug, clap::Subcommand)]
pub enum BreakGlass {
    /// Breaks the glass: for a short time, what entries forbid that say so is not forbidden to you.
    Open(Open),
    /// Says yes to somebody who wants to break the glass.
    Confirm(Noted),
    /// Ends it before its time.
    Close(One),
    /// Lists every time that the glass was broken.
    List(List),
    /// Shows one.
    Show(One),
    /// Closes the review of somebody else's, without which the next cannot be opened.
    Review(Reviewed),
    /// Codes that open or confirm one while the identity provider is down.
    #[command(subcommand)]
    Codes(offline::Codes),
}

/// `break-glass open`.
#[derive(Debug, clap::Args)]
pub struct Open {
    /// Why: whoever reviews it reads this.
    #[arg(long, value_name = "WORDS")]
    reason: String,
    /// With a code (`break-glass codes create`) that is asked for, or read from standard input, while
    /// the identity provider is down.
    #[arg(long)]
    offline: bool,
    /// The ticket.
    #[arg(long)]
    ticket: Option<String>,
    /// For how long: `30m`, `1h`; as long as the gate lets you, if it is not given.
    #[arg(long = "for", value_name = "TIME", value_parser = values::duration)]
    length: Option<Duration>,
    #[command(flatten)]
    at: At,
}

/// `break-glass confirm`.
#[derive(Debug, clap::Args)]
pub struct Noted {
    /// Its id.
    id: String,
    /// What you say to it, for the record.
    #[arg(long, value_name = "WORDS")]
    note: Option<String>,
    /// With a code of yours that is asked for, or read from standard input, while the identity provider
    /// is down.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    at: At,
}

/// One of them.
#[derive(Debug, clap::Args)]
pub struct One {
    /// Its id.
    id: String,
    #[command(flatten)]
    at: At,
}

/// `break-glass list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    at: At,
}

/// `break-glass review`.
#[derive(Debug, clap::Args)]
pub struct Reviewed {
    /// Its id.
    id: String,
    /// What the review found.
    #[arg(long, value_name = "WORDS")]
    note: String,
    #[command(flatten)]
    at: At,
}

/// Runs the verb.
#[must_use]
pub fn run(args: &BreakGlass) -> ExitCode {
    let done = match args {
        BreakGlass::Open(args) => open(args),
        BreakGlass::Confirm(Noted { id, note, offline, at }) => {
            let said = note.as_ref().map_or_else(|| json!({}), |note| json!({ "note": note }));
            if *offline { offline::confirm(at, id, &said) } else { told(at, id, "confirm", &said) }
        }
        BreakGlass::Codes(args) => offline::codes(args),
        BreakGlass::Close(One { id, at }) => told(at, id, "close", &json!({})),
        BreakGlass::Review(Reviewed { id, note, at }) => told(at, id, "review", &json!({ "note": note })),
        BreakGlass::List(args) => listed(args),
        BreakGlass::Show(args) => shown(args),
    };
    done.unwrap_or_else(|code| code)
}

fn open(args: &Open) -> Result<ExitCode, ExitCode> {
    let mut asked = json!({ "reason": args.reason });
    if let Some(asked) = asked.as_object_mut() {
        asked.extend(args.ticket.iter().map(|ticket| ("ticket".to_owned(), json!(ticket))));
        asked.extend(args.length.iter().map(|length| ("seconds".to_owned(), json!(length.as_secs()))));
    }
    let one: Value = if args.offline {
        offline::open(&args.at, &asked)?
    } else {
        args.at.gate()?.call(&Method::POST, "/api/v1/break-glass", Some(&asked))?
    };
    print_one(&one, args.at.output, whole);
    if one.get("state").and_then(Value::as_str) == Some("asked") {
        eprintln!(
            "amlgate: it opens when others have said yes: `amlgate break-glass confirm {}{}`",
            text(&one, "/id"),
            if args.offline { " --offline" } else { "" }
        );
        return Ok(exit::FINDING);
    }
    Ok(exit::DONE)
}

fn told(at: &At, id: &str, verb: &str, said: &Value) -> Result<ExitCode, ExitCode> {
    let one: Value = at.gate()?.call(&Method::POST, &path("break-glass", id, verb), Some(said))?;
    print_one(&one, at.output, whole);
    Ok(exit::DONE)
}

#[derive(Debug, Deserialize)]
struct Page {
    break_glass: Vec<Value>,
    next: Option<String>,
}

fn listed(args: &List) -> Result<ExitCode, ExitCode> {
    let gate = args.at.gate()?;
    let (mut found, mut cursor): (_, Option<String>) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
        let page: Page = gate.call(&Method::GET, &format!("/api/v1/break-glass?{}", query.finish()), None)?;
        found.extend(page.break_glass);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    print(&found, args.at.output, row, "nobody has broken the glass");
    Ok(exit::DONE)
}

fn shown(args: &One) -> Result<ExitCode, ExitCode> {
    let one: Value = args.at.gate()?.call(&Method::GET, &path("break-glass", &args.id, ""), None)?;
    print_one(&one, args.at.output, whole);
    Ok(exit::DONE)
}

/// How it stands, with what is urgent about it.
fn state(value: &Value) -> String {
    let overdue = value.get("overdue").and_then(Value::as_bool) == Some(true);
    let reviewed = value.get("review").is_some_and(|review| !review.is_null());
    let late = if overdue && !reviewed { ", its review is overdue" } else { "" };
    format!("{}{late}", text(value, "/state"))
}

/// One on one line.
fn row(value: &Value) -> String {
    format!(
        "{}  {:<9}  {}  {}  {}",
        text(value, "/id"),
        state(value),
        text(value, "/opener/id"),
        text(value, "/made"),
        text(value, "/reason")
    )
}

/// One, whole.
fn whole(value: &Value) -> String {
    let mut all = format!("{}  {}\n", text(value, "/id"), state(value));
    let mut line = |name: &str, what: &str| {
        if !what.is_empty() {
            let _infallible = writeln!(all, "  {name:<9} {what}");
        }
    };
    let by_code =
        if value.get("offline").and_then(Value::as_bool) == Some(true) { ", by a code" } else { "" };
    line("who", &format!("{}{by_code}", value.get("opener").map(party).unwrap_or_default()));
    line("why", &text(value, "/reason"));
    line("ticket", &text(value, "/ticket"));
    let wanted: Vec<_> = items(value, "/wanted")
        .map(|one| format!("{} of {}", text(one, "/count"), text(one, "/subject")))
        .collect();
    line("wants", &wanted.join(" and "));
    let noted = |vote: &Value| {
        let note = text(vote, "/note");
        let note = if note.is_empty() { note } else { format!(": {note}") };
        format!("{} at {}{note}", vote.get("by").map(party).unwrap_or_default(), text(vote, "/at"))
    };
    for vote in items(value, "/votes") {
        line("confirmed", &noted(vote));
    }
    line("opened", &text(value, "/opened"));
    line("until", &text(value, "/until"));
    if let Some(ended) = value.get("ended").filter(|ended| !ended.is_null()) {
        let by = ended.get("by").filter(|by| !by.is_null()).map(party);
        let by = by.map_or_else(|| "by its time".to_owned(), |by| format!("by {by}"));
        line("ended", &format!("{} {by}", text(ended, "/at")));
    }
    line("review", &text(value, "/review_by"));
    if let Some(review) = value.get("review").filter(|review| !review.is_null()) {
        line("reviewed", &noted(review));
    }
    let can: Vec<_> = items(value, "/can").map(|verb| text(verb, "")).collect();
    line("you may", &can.join(", "));
    all.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reviews_it_reads_who_why_and_how_long_and_no_words_speak_to_the_terminal() {
        let one = json!({
            "id": "b-1", "state": "over", "reason": "the region is down\u{1b}[2J", "ticket": null,
            "opener": {"id": "corp:ann", "person": "corp:ann", "name": "Ann"},
            "wanted": [], "votes": [{"by": {"id": "corp:bob", "name": null}, "at": "2026-11-30T09:00:00Z", "note": "go"}],
            "made": "2026-11-30T08:59:00Z", "opened": "2026-11-30T09:00:00Z", "until": null,
            "ended": {"at": "2026-11-30T09:30:00Z", "by": null}, "review_by": "2026-12-01T09:30:00Z",
            "overdue": true, "review": null, "can": ["review"],
        });
        let shown = whole(&one);
        for told in [
            "b-1  over, its review is overdue",
            "who       Ann (corp:ann)",
            "why       the region is down [2J",
            "confirmed corp:bob at 2026-11-30T09:00:00Z: go",
            "ended     2026-11-30T09:30:00Z by its time",
            "review    2026-12-01T09:30:00Z",
            "you may   review",
        ] {
            assert!(shown.contains(told), "{told} in {shown}");
        }
        assert!(!shown.contains('\u{1b}') && !row(&one).contains('\u{1b}'));
    }
}
