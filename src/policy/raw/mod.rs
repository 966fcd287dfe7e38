//! The shape of a policy file: keys and types, before any name is looked up.
//!
//! Keys that belong to features which are not built are refused by name, never ignored. A problem
//! in one entry does not hide those of the next.

mod approval;
mod definitions;
mod entries;
mod record;
mod review;
mod reviewers;
mod step_up;
mod trigger;

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

#[cfg(test)]
pub(super) use approval::KEYS as APPROVAL_KEYS;
pub(super) use approval::{RawApproval, RawApprovers};
use definitions::{description, items, network, read_calendar};
use entries::entry;
#[cfg(test)]
pub(super) use entries::entry_keys;
#[cfg(test)]
pub(super) use review::KEYS as REVIEW_KEYS;
pub(super) use review::RawReview;
#[cfg(test)]
pub(super) use trigger::KEYS as TRIGGER_KEYS;
pub(super) use trigger::RawTrigger;

use super::{
    LimitPer, SecretTreatment,
    calendar::Calendar,
    document::{Fields, Located, Node, Reader, Text, Tree, parse},
    entry::Rights,
    path::PathPattern,
    recording::Recording,
    step_up::StepUp,
    who::Member,
};
use crate::{
    azureml::{Effects, Kind, SecretClass, Secrets},
    time::Timestamp,
    yaml::{Place, Problem},
};

/// Which of the three lists an entry stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum List {
    /// Some entry must match.
    Allow,
    /// No entry may match.
    Deny,
    /// What a matching entry demands must hold.
    Require,
}

impl List {
    /// The key of the list in a policy file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Require => "require",
        }
    }
}

/// One file.
#[derive(Debug, Default)]
pub(super) struct RawFile {
    pub subjects: Vec<(Text, Vec<Located<Member>>)>,
    pub scopes: Vec<(Text, Vec<Text>)>,
    pub networks: Vec<(Text, Vec<IpNet>)>,
    pub calendars: Vec<(Text, Calendar)>,
    pub entries: Vec<RawEntry>,
    pub triggers: Vec<RawTrigger>,
}

/// One entry; `None` where the key is absent.
#[derive(Debug)]
pub(super) struct RawEntry {
    pub list: List,
    pub place: Place,
    pub name: Text,
    pub who: Option<Vec<Text>>,
    pub role: Option<Text>,
    pub rights: Option<Rights>,
    pub as_human: bool,
    pub actions: Option<Vec<Text>>,
    pub kinds: Option<Vec<Kind>>,
    pub effects: Option<Effects>,
    pub secrets: Option<RawSecrets>,
    pub scope: Option<Vec<Text>>,
    pub routes: Option<Vec<Text>>,
    pub methods: Option<Vec<http::Method>>,
    pub path: Option<Vec<PathPattern>>,
    pub from: Option<Vec<Text>>,
    pub during: Option<Vec<Text>>,
    pub when: Option<Text>,
    pub unless: Option<RawUnless>,
    pub dry_run_until: Option<Timestamp>,
    pub limit: Option<RawLimit>,
    pub step_up: Option<StepUp>,
    pub record: Option<Recording>,
    pub approval: Option<RawApproval>,
    pub review: Option<RawReview>,
    /// Whether Clutch is asked.
    pub opinion: bool,
}

/// `unless` of an entry: each of its keys lifts the entry by itself.
#[derive(Debug)]
pub(super) struct RawUnless {
    pub who: Option<Vec<Text>>,
    pub break_glass: bool,
}

/// `secrets` of an entry.
#[derive(Debug, Clone)]
pub(super) enum RawSecrets {
    /// In `deny` and `require`: the entry concerns answers that hold one of these.
    Selected(Secrets),
    /// In `allow`: the entry names these, each with its treatment.
    Granted(Vec<(SecretClass, SecretTreatment)>),
}

/// `limit` of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawLimit {
    pub requests: u32,
    pub every: Duration,
    pub per: LimitPer,
}

/// The keys of a policy file.
pub(super) const FILE_KEYS: &[&str] =
    &["version", "subjects", "scopes", "networks", "calendars", "allow", "deny", "require", "triggers"];

/// The keys of a description of callers.
pub(super) const DESCRIPTION_KEYS: &[&str] =
    &["issuer", "group", "claims", "subject", "client", "kind", "tenant", "agent", "gerrit"];

/// Keys of later versions, in any list.
const LATER: &[&str] = &["people", "lists"];

/// Reads one file. What could be read is returned beside the problems.
pub(super) fn read(file: &Arc<str>, text: &str, problems: &mut Vec<Problem>) -> RawFile {
    let mut raw = RawFile::default();
    let tree = match parse(file, text) {
        Ok(tree) => tree,
        Err(problem) => {
            problems.push(problem);
            return raw;
        }
    };
    let mut reader = Reader { file, problems };
    if let Node::Null = tree.value {
        reader.error_with(Place { line: 1, column: 1 }, "the file is empty", "begin with `version: 1`");
        return raw;
    }
    let Some(mut fields) = reader.fields(tree, "a policy file", FILE_KEYS, LATER) else { return raw };
    version(&mut reader, &mut fields);
    for (name, tree) in named(&mut reader, fields.take("subjects"), "`subjects`") {
        let what = format!("subject `{}`", name.value);
        let descriptions = items(&mut reader, tree, &what);
        let read = descriptions.into_iter().filter_map(|d| description(&mut reader, d)).collect();
        raw.subjects.push((name, read));
    }
    for (name, tree) in named(&mut reader, fields.take("scopes"), "`scopes`") {
        let ids = reader.texts(tree, &format!("scope `{}`", name.value));
        raw.scopes.push((name, ids));
    }
    for (name, tree) in named(&mut reader, fields.take("networks"), "`networks`") {
        let texts = reader.texts(tree, &format!("network `{}`", name.value));
        let nets = texts.iter().filter_map(|text| network(&mut reader, text)).collect();
        raw.networks.push((name, nets));
    }
    for (name, tree) in named(&mut reader, fields.take("calendars"), "`calendars`") {
        if let Some(calendar) = read_calendar(&mut reader, &name, tree) {
            raw.calendars.push((name, calendar));
        }
    }
    for list in [List::Allow, List::Deny, List::Require] {
        let Some(tree) = fields.take(list.name()) else { continue };
        for item in reader.list(tree, &format!("`{}`", list.name())) {
            raw.entries.extend(entry(&mut reader, list, item));
        }
    }
    if let Some(tree) = fields.take("triggers") {
        for item in reader.list(tree, "`triggers`") {
            raw.triggers.extend(trigger::trigger(&mut reader, item));
        }
    }
    raw
}

fn version(reader: &mut Reader<'_>, fields: &mut Fields) {
    let first = fields.first().map(|key| (key.value == "version", key.place));
    let hint = "begin the file with `version: 1`";
    match (fields.take("version"), first) {
        (None, first) => {
            let place = first.map_or(fields.place, |(_, place)| place);
            reader.error_with(place, "`version` is missing", hint);
        }
        (Some(tree), first) => {
            let known = matches!(&tree.value, Node::Number(n) if n.as_u64() == Some(1));
            if !known {
                reader.error_with(
                    tree.place,
                    "this version of a policy file is not known",
                    "write `version: 1`",
                );
            } else if first.is_some_and(|(is_first, _)| !is_first) {
                reader.error_with(tree.place, "`version` comes first", hint);
            }
        }
    }
}

fn named(reader: &mut Reader<'_>, tree: Option<Tree>, what: &str) -> Vec<(Text, Tree)> {
    tree.map(|tree| reader.any_fields(tree, what)).unwrap_or_default()
}
