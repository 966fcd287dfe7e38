//! What there is to tell of a record: pure.

use std::time::Duration;

use serde_json::Value;

use super::{
    data,
    events::{About, Told},
    plain::{LONG, SHORT, plain},
};
use crate::{
    audit::sinks::Exported,
    gates::approvals::{Grant, GrantState, PENDING_FOR, Party, Request, State, Vote, call::What},
    policy::{Approvers, Covers},
    time::Timestamp,
};

/// A message that comes later than this says so.
const LATE: Duration = Duration::from_secs(120);
/// At most so many of a list are written out.
const LISTED: usize = 3;

/// What was found of that which a record is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The request, as it is now.
    Request(Box<Request>),
    /// The grant, as it is now.
    Grant(Box<Grant>),
    /// There is nothing besides the record.
    Nothing,
    /// It cannot be looked up now.
    Unknown,
}

/// A label of the gate's and a value that may be somebody's words, made plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The label.
    pub label: String,
    /// The value; never empty.
    pub value: String,
}

/// Where one signs in and sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// A page of the console.
    pub url: String,
    /// What is written on it.
    pub words: &'static str,
}

/// What there is to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Of which event.
    pub told: &'static Told,
    /// In a few words of the gate's.
    pub title: String,
    /// The same with who and which entry, on one line.
    pub line: String,
    /// The rest.
    pub rows: Vec<Row>,
    /// When it happened, and how to see it.
    pub foot: String,
    /// A page of the console, if there is one.
    pub link: Option<Link>,
    /// All of it for machines, as it was written.
    pub data: Value,
}

/// A text of the gate's own part of a record.
pub(super) fn own<'r>(record: &'r Exported, key: &str) -> Option<&'r str> {
    record.value.pointer("/unmapped/amlgate")?.get(key)?.as_str()
}

/// Who acted, by the record.
pub(super) fn actor(record: &Exported) -> Option<&str> {
    ["/actor/user/uid", "/user/uid"].iter().find_map(|at| record.value.pointer(at)?.as_str())
}

/// When it happened.
pub(super) fn at(record: &Exported) -> Timestamp {
    Timestamp::from_millis(record.value.get("time").and_then(Value::as_u64).unwrap_or_default())
}

/// What became of a request or a grant since the record, if that is not what the record says.
pub(super) fn since(record: &Exported, told: &Told, found: &Found, now: Timestamp) -> Option<&'static str> {
    let asks = || matches!(told.name, "asked" | "voted");
    match found {
        Found::Request(request) if asks() => match request.state_at(now) {
            State::Pending if told.name == "asked" && !request.votes.is_empty() => Some("approved by one"),
            State::Pending => None,
            over @ (State::Approved | State::Denied | State::Expired | State::Withdrawn) => Some(over.name()),
        },
        Found::Grant(grant) if told.name == "granted" => match grant.state(now) {
            GrantState::Active => None,
            over @ (GrantState::Used | GrantState::Revoked | GrantState::Expired) => Some(over.name()),
        },
        Found::Unknown if asks() && now.since(at(record)) > LATE => Some("not known"),
        Found::Request(_) | Found::Grant(_) | Found::Nothing | Found::Unknown => None,
    }
}

impl Notice {
    /// What there is to tell of a record at `now`; nothing of a request whose time is over and which
    /// is said to wait.
    #[must_use]
    pub fn of(
        record: &Exported,
        told: &'static Told,
        found: &Found,
        console: Option<&str>,
        now: Timestamp,
    ) -> Option<Self> {
        let waits_until = match found {
            Found::Request(request) => request.expires,
            Found::Grant(_) | Found::Nothing | Found::Unknown => at(record).plus(PENDING_FOR),
        };
        if matches!(told.name, "asked" | "voted") && now >= waits_until {
            return None;
        }
        let since = since(record, told, found, now);
        let mut rows = Rows::default();
        let (who, entry) = match (told.about, found) {
            (About::Record, _) => {
                rows.members(record);
                let which = ["entry", "sink", "model"].iter().find_map(|key| own(record, key));
                (actor(record).map(short), which.map(short))
            }
            (_, Found::Request(request)) => rows.of_request(record, told, request),
            (_, Found::Grant(grant)) => rows.of_grant(record, told, grant),
            (About::Request | About::Grant, Found::Nothing | Found::Unknown) => rows.of_record(record, told),
        };
        rows.some(
            "Since then",
            since.map(|word| match word {
                "not known" => "not known: open it to see whether it still waits".to_owned(),
                word => word.to_owned(),
            }),
        );
        let mut title = title(record, told);
        if let Some(word) = since {
            title.push_str(&format!(" (since then: {word})"));
        }
        let parts: Vec<String> = [who, entry].into_iter().flatten().filter(|part| !part.is_empty()).collect();
        let line = if parts.is_empty() { title.clone() } else { format!("{title}: {}", parts.join(", ")) };
        let link = console.and_then(|console| link(record, told, found, console));
        Some(Self {
            foot: foot(record, told, link.is_some(), now),
            data: data::of(record, told, found, since, link.as_ref(), now),
            told,
            title,
            line,
            rows: rows.0,
            link,
        })
    }
}

/// The event, in words: of an event with several words in the record, the record's own.
fn title(record: &Exported, told: &Told) -> String {
    let rest = own(record, "event").and_then(|word| word.strip_prefix(told.record)).unwrap_or_default();
    let rest = plain(rest, 64).replace('_', " ");
    if rest.is_empty() { told.title.to_owned() } else { format!("{} {rest}", told.title) }
}

/// The id of a request or a grant, if it is of the form that ids have: it becomes part of a link.
fn id(text: &str) -> Option<&str> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (!text.is_empty() && text.len() <= 64 && text.bytes().all(fits)).then_some(text)
}

fn link(record: &Exported, told: &Told, found: &Found, console: &str) -> Option<Link> {
    let request = match found {
        Found::Grant(grant) => Some(grant.terms.request.as_str()),
        Found::Request(request) => Some(request.id.as_str()),
        Found::Nothing | Found::Unknown => own(record, "request"),
    };
    let (path, words) = match (told.about, request) {
        (About::Request | About::Grant, Some(request)) => {
            (format!("requests/{}", id(request)?), "Open the request in the console")
        }
        (About::Request | About::Grant, None) => ("grants".to_owned(), "Open the console"),
        (About::Record, _) => (String::new(), "Open the console"),
    };
    Some(Link { url: format!("{}/{path}", console.trim_end_matches('/')), words })
}

fn foot(record: &Exported, told: &Told, linked: bool, now: Timestamp) -> String {
    let happened = at(record);
    let mut foot = happened.to_utc().format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let late = now.since(happened);
    if late > LATE {
        foot.push_str(&format!(", told {} later", words(late)));
    }
    if told.about == About::Record {
        return foot;
    }
    if let Some(id) = own(record, "request").and_then(id) {
        foot.push_str(&format!(". `amlgate request show {id}`"));
    } else if own(record, "grant").is_some() {
        foot.push_str(". `amlgate grant list`");
    }
    if linked {
        foot.push_str(". The link asks you to sign in; opening it approves nothing");
    }
    foot
}

/// How long, in its largest whole unit.
fn words(time: Duration) -> String {
    match time.as_secs() {
        secs if secs >= 2 * 86_400 => format!("{} days", secs / 86_400),
        secs if secs >= 2 * 3_600 || secs == 3_600 => format!("{} h", secs / 3_600),
        secs if secs >= 60 => format!("{} min", secs / 60),
        secs => format!("{secs} s"),
    }
}

fn short(text: &str) -> String {
    plain(text, SHORT)
}

fn date(at: Timestamp) -> String {
    at.to_utc().format("%Y-%m-%d %H:%M UTC").to_string()
}

fn party(party: &Party) -> String {
    let mut text = match &party.name {
        Some(name) if *name != party.id => format!("{name} ({})", party.id),
        Some(_) | None => party.id.clone(),
    };
    if let Some(agent) = &party.agent {
        text.push_str(&format!(", through the agent {agent}"));
    }
    text
}

fn votes(votes: &[Vote]) -> String {
    let one = |vote: &Vote| match &vote.note {
        Some(note) => format!("{}: {note}", party(&vote.by)),
        None => party(&vote.by),
    };
    votes.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn list(items: &[String]) -> String {
    let shown = items.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}

/// Who is still needed.
fn needed(open: &[(Approvers, u32)]) -> String {
    let one = |(by, count): &(Approvers, u32)| match by {
        Approvers::Human => "the agent's own human".to_owned(),
        Approvers::Subject { name, .. } => format!("{count} of {name}"),
        Approvers::GerritGroup { group, .. } => format!("{count} of Gerrit's group {}", group.group),
    };
    open.iter().map(one).collect::<Vec<_>>().join(", and ")
}

/// Who, and which entry, for the line.
type Gist = (Option<String>, Option<String>);

#[derive(Debug, Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn put(&mut self, label: &str, value: &str) {
        self.whole(label, value, SHORT);
    }

    /// Words that people wrote, as long as they may be.
    fn words(&mut self, label: &str, value: &str) {
        self.whole(label, value, LONG);
    }

    fn whole(&mut self, label: &str, value: &str, most: usize) {
        let value = plain(value, most);
        if !value.is_empty() {
            self.0.push(Row { label: label.to_owned(), value });
        }
    }

    fn some(&mut self, label: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.put(label, value.as_ref());
        }
    }

    fn of_request(&mut self, record: &Exported, told: &Told, request: &Request) -> Gist {
        let asked = &request.asked;
        self.put("Who", &party(&asked.requester));
        let claimed = asked.claimed.as_ref().map(|claimed| format!("unproved: {}", claimed.user));
        self.some("In whose name", claimed);
        self.put("Entry", &asked.entry);
        self.what(&asked.what);
        self.words("Why", asked.reason.as_deref().unwrap_or_default());
        self.some("Ticket", asked.ticket.as_deref());
        match told.name {
            "denied" => {
                self.words("Denied by", &votes(request.votes.last().map_or(&[], std::slice::from_ref)))
            }
            "withdrawn" => self.some("Withdrawn by", own(record, "by")),
            _ if !request.votes.is_empty() && request.state != State::Denied => {
                self.words("Approved by", &votes(&request.votes));
            }
            _ => {}
        }
        if matches!(told.name, "asked" | "voted") && request.state == State::Pending {
            self.put("Wanted", &needed(&request.open()));
            self.put("Waits until", &date(request.expires));
        }
        if matches!(told.name, "asked" | "voted" | "approved") {
            let lasts = words(Duration::from_secs(asked.valid_for));
            self.put(
                "Good for",
                &match (asked.covers, asked.uses) {
                    (Covers::Request, Some(1)) => format!("this very call, once, within {lasts}"),
                    (Covers::Request, Some(uses)) => format!("this very call, {uses} times, within {lasts}"),
                    (Covers::Request, None) => format!("this very call, for {lasts}"),
                    (Covers::Entry, Some(uses)) => {
                        format!("what the entry matches in the same workspace, {uses} times, within {lasts}")
                    }
                    (Covers::Entry, None) => {
                        format!("what the entry matches in the same workspace, for {lasts}")
                    }
                },
            );
        }
        (Some(short(&asked.requester.id)), Some(short(&asked.entry)))
    }

    fn of_grant(&mut self, record: &Exported, told: &Told, grant: &Grant) -> Gist {
        let terms = &grant.terms;
        self.put("Who", &party(&terms.holder));
        self.put("Entry", &terms.entry);
        self.what(&terms.what);
        self.words("Approved by", &votes(&terms.approvers));
        match told.name {
            // Whoever acted; the holder stands elsewhere in the record.
            "revoked" => {
                self.some("Taken back by", record.value.pointer("/actor/user/uid").and_then(Value::as_str));
            }
            _ => self.put("Until", &date(grant.expires)),
        }
        (Some(short(&terms.holder.id)), Some(short(&terms.entry)))
    }

    fn what(&mut self, what: &What) {
        self.put("Action", &list(&what.actions));
        self.put("On", &list(&what.resources));
        self.put("Effects", &list(&what.effects));
        self.put("Reserves", &list(&what.reserves));
        self.put("Secrets", &list(&what.secrets));
    }

    /// What the record alone says of a request or a grant.
    fn of_record(&mut self, record: &Exported, told: &Told) -> Gist {
        let who = own(record, "requester").or_else(|| record.value.pointer("/user/uid")?.as_str());
        let (entry, by) = (own(record, "entry"), own(record, "by"));
        self.some("Who", who);
        self.some("Entry", entry);
        self.some("By", by.filter(|by| Some(*by) != who));
        let label = if told.name == "asked" { "Why" } else { "Note" };
        self.words(label, own(record, "reason").unwrap_or_default());
        (who.map(short), entry.map(short))
    }

    /// Everything that the gate's own part of a record says, each member under its own name.
    fn members(&mut self, record: &Exported) {
        self.some("Who", actor(record));
        let Some(own) = record.value.pointer("/unmapped/amlgate").and_then(Value::as_object) else { return };
        for (key, value) in own.iter().filter(|(key, _)| !matches!(key.as_str(), "event" | "form")) {
            let mut label = key.replace('_', " ");
            if let Some(first) = label.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            self.words(&label, &member(value));
        }
    }
}

/// A member of a record, for people; instants are in milliseconds since 1970 there.
fn member(value: &Value) -> String {
    const INSTANTS: std::ops::Range<u64> = 1_000_000_000_000..10_000_000_000_000;
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64().filter(|millis| INSTANTS.contains(millis)) {
            Some(millis) => date(Timestamp::from_millis(millis)),
            None => number.to_string(),
        },
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(items) => list(&items.iter().map(member).collect::<Vec<_>>()),
        Value::Null | Value::Object(_) => String::new(),
    }
}
