//! `approval` of an entry, as it is written.

use std::time::Duration;

use super::{
    super::{
        approval::{Covers, MAX_HOLD, MAX_VALID, Reason, Ticket},
        document::{Located, Node, Reader, Text, Tree},
    },
    entries::{choice, duration},
    reviewers::group,
};
use crate::{identity::GerritGroup, yaml::Place};

/// Its keys.
pub(in crate::policy) const KEYS: &[&str] =
    &["by", "covers", "uses", "valid_for", "hold", "never", "ask", "skip"];
/// How it is written.
const FORM: &str = "write `approval: {by: [{subject: NAME, count: 1}]}`, or `by: [human]` for an agent's own";
/// Demands of one approval, and people whom one of them names: more is never waited for.
const MOST: usize = 8;
const MOST_PEOPLE: u32 = 16;
/// How long a grant holds that does not say.
const VALID: Duration = Duration::from_secs(3_600);

/// `approval` of an entry.
#[derive(Debug)]
pub(in crate::policy) struct RawApproval {
    pub by: Vec<RawApprovers>,
    pub covers: Covers,
    pub uses: Option<u32>,
    pub valid_for: Duration,
    pub hold: Duration,
    pub reason: Reason,
    pub ticket: Option<Ticket>,
    /// Where `never` names who wrote the commit.
    pub never_author: Option<Place>,
    pub skip: Option<Vec<Text>>,
}

/// One of `by`.
#[derive(Debug)]
pub(in crate::policy) enum RawApprovers {
    Human,
    Subject { name: Text, count: u32 },
    Reviewers { group: Located<GerritGroup>, count: u32 },
}

pub(super) fn approval(reader: &mut Reader<'_>, tree: Tree) -> Option<RawApproval> {
    let place = tree.place;
    let before = reader.problems.len();
    let mut fields = reader.fields(tree, "`approval`", KEYS, &[])?;
    let by_place = fields.place_of("by").unwrap_or(place);
    let by = match fields.take("by") {
        None => {
            reader.error_with(place, "`approval` needs `by`", FORM);
            Vec::new()
        }
        Some(tree) => approvers(reader, tree),
    };
    if by.len() > MOST {
        reader.error(by_place, format!("`by` has more than {MOST} demands"));
    }
    let covers = fields.take("covers").and_then(|tree| {
        let text = reader.text(tree, "`covers`")?;
        choice(reader, &text, "`covers`", &[("request", Covers::Request), ("entry", Covers::Entry)])
    });
    let covers = covers.unwrap_or(Covers::Request);
    let uses = fields.take("uses").and_then(|tree| reader.count(tree, "`uses`"));
    let uses = uses.or((covers == Covers::Request).then_some(1));
    let valid_for = fields.take("valid_for").and_then(|tree| bounded(reader, tree, "`valid_for`", MAX_VALID));
    let hold = fields.take("hold").and_then(|tree| bounded(reader, tree, "`hold`", MAX_HOLD));
    let never_author = fields.take("never").and_then(|tree| never(reader, tree));
    let (reason, ticket) = match fields.take("ask") {
        Some(tree) => ask(reader, tree),
        None => (Reason::Optional, None),
    };
    let skip = fields.take("skip").map(|tree| reader.texts(tree, "`skip`"));
    (reader.problems.len() == before).then_some(RawApproval {
        by,
        covers,
        uses,
        valid_for: valid_for.unwrap_or(VALID),
        hold: hold.unwrap_or_default(),
        reason,
        ticket,
        never_author,
        skip,
    })
}

fn approvers(reader: &mut Reader<'_>, tree: Tree) -> Vec<RawApprovers> {
    let place = tree.place;
    let items = match tree.value {
        Node::List(items) => items,
        // One need not be a list.
        Node::Text(_) | Node::Map(_) | Node::Null | Node::Bool(_) | Node::Number(_) => vec![tree],
    };
    if items.is_empty() {
        reader.error_with(place, "`by` is an empty list", FORM);
    }
    let mut all: Vec<RawApprovers> = Vec::new();
    for item in items {
        let place = item.place;
        let Some(one) = approver(reader, item) else { continue };
        let again = all.iter().any(|other| match (other, &one) {
            (RawApprovers::Human, RawApprovers::Human) => true,
            (RawApprovers::Subject { name, .. }, RawApprovers::Subject { name: other, .. }) => {
                name.value == other.value
            }
            (RawApprovers::Reviewers { group, .. }, RawApprovers::Reviewers { group: other, .. }) => {
                group.value == other.value
            }
            (RawApprovers::Human, RawApprovers::Subject { .. } | RawApprovers::Reviewers { .. })
            | (RawApprovers::Subject { .. }, RawApprovers::Human | RawApprovers::Reviewers { .. })
            | (RawApprovers::Reviewers { .. }, RawApprovers::Human | RawApprovers::Subject { .. }) => false,
        });
        if again {
            reader.error_with(place, "`by` names the same twice", "write it once, with a `count`");
        }
        all.push(one);
    }
    all
}

fn approver(reader: &mut Reader<'_>, tree: Tree) -> Option<RawApprovers> {
    if let Node::Text(_) = tree.value {
        let text = reader.text(tree, "`by`")?;
        if text.value == "human" {
            return Some(RawApprovers::Human);
        }
        let hint = format!("write `{{subject: {}, count: 1}}`, or `human`", text.value);
        reader.error_with(text.place, format!("`by` does not know `{}`", text.value), hint);
        return None;
    }
    let place = tree.place;
    let before = reader.problems.len();
    let mut fields = reader.fields(tree, "one of `by`", &["subject", "gerrit_group", "count"], &[])?;
    let count_place = fields.place_of("count").unwrap_or(place);
    let count = match fields.take("count") {
        None => Some(1),
        Some(tree) => reader.count(tree, "`count`"),
    };
    let few = |count: &u32| *count <= MOST_PEOPLE;
    if count.is_some_and(|count| !few(&count)) {
        reader.error(count_place, format!("`count` is more than {MOST_PEOPLE}"));
    }
    let count = count.filter(few);
    match (fields.take("subject"), fields.take("gerrit_group")) {
        (Some(subject), None) => {
            let name = reader.text(subject, "`subject`")?;
            Some(RawApprovers::Subject { name, count: count? })
        }
        (None, Some(tree)) => {
            let group = group(reader, tree, "`gerrit_group`")?;
            Some(RawApprovers::Reviewers { group, count: count? })
        }
        (Some(_), Some(tree)) => {
            let hint = "make them two items of the list: both must be met, by different humans";
            reader.error_with(tree.place, "`subject` stands beside `gerrit_group`", hint);
            None
        }
        (None, None) => {
            if reader.problems.len() == before {
                reader.error_with(place, "one of `by` names neither `subject` nor `gerrit_group`", FORM);
            }
            None
        }
    }
}

pub(super) fn bounded(reader: &mut Reader<'_>, tree: Tree, what: &str, most: Duration) -> Option<Duration> {
    let text = reader.text(tree, what)?;
    let found = duration(&text.value).filter(|found| found.as_secs() > 0);
    match found {
        None => {
            let message = format!("`{}` is no duration of whole seconds", text.value);
            reader.error_with(text.place, message, "write `60s`, `15m`, `4h` or `1d`");
            None
        }
        Some(found) if found > most => {
            reader.error(text.place, format!("{what} is longer than {} s", most.as_secs()));
            None
        }
        Some(found) => Some(found),
    }
}

/// Whoever asks never approves, so that it need not be written; where it says that who wrote the commit
/// does not either.
fn never(reader: &mut Reader<'_>, tree: Tree) -> Option<Place> {
    let mut author = None;
    for text in reader.texts(tree, "`never`") {
        match text.value.as_str() {
            "requester" => {}
            "commit_author" => author = Some(text.place),
            other => {
                let message = format!("`never` does not know `{other}`");
                reader.error_with(text.place, message, "`never` knows `requester` and `commit_author`");
            }
        }
    }
    author
}

fn ask(reader: &mut Reader<'_>, tree: Tree) -> (Reason, Option<Ticket>) {
    let Some(mut fields) = reader.fields(tree, "`ask`", &["reason", "ticket"], &[]) else {
        return (Reason::Optional, None);
    };
    let reason = fields.take("reason").and_then(|tree| {
        let text = reader.text(tree, "`reason`")?;
        let known = [("required", Reason::Required), ("optional", Reason::Optional)];
        choice(reader, &text, "`reason`", &known)
    });
    let ticket = fields.take("ticket").and_then(|tree| {
        let text = reader.text(tree, "`ticket`")?;
        match Ticket::new(&text.value) {
            Ok(ticket) => Some(ticket),
            Err(why) => {
                let message = format!("`{}` is no regular expression", text.value);
                reader.error_with(text.place, message, why);
                None
            }
        }
    });
    (reason.unwrap_or(Reason::Optional), ticket)
}
