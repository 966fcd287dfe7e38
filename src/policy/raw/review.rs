//! `review` of an entry, as it is written.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        approval::MAX_HOLD,
        document::{Fields, Node, Reader, Text, Tree},
        review::{
            Accepted, Authors, CommitFrom, Contributor, HostKind, Requirements, Reviewers, Unreachable,
        },
    },
    approval::bounded,
    entries::{choice, duration},
};
use crate::yaml::Place;

/// Its keys.
pub(in crate::policy) const KEYS: &[&str] = &[
    "gerrit",
    "github",
    "gitlab",
    "project",
    "branch",
    "labels",
    "approvals",
    "by",
    "not_by",
    "commit",
    "requirements",
    "accept",
    "max_age",
    "merge_commits",
    "on_unreachable",
    "statement",
    "hold",
];
/// How it is written.
const FORM: &str = "write `review: {gerrit: NAME, project: ml/vision, branch: main}`";
/// Labels, demands of `by`, and people whom one of them names.
const MOST: usize = 8;
const MOST_PEOPLE: u32 = 16;
/// Names of submit requirements.
const MOST_REQUIREMENTS: usize = 32;
/// Characters of a project, branch or group.
const LONGEST: usize = 255;
/// Characters of a server, label, requirement or claim.
const LONGEST_NAME: usize = 100;
/// The least vote that counts where none is written.
const USUAL: (&str, i16) = ("Code-Review", 2);

/// `review` of an entry.
#[derive(Debug)]
pub(in crate::policy) struct RawReview {
    pub kind: HostKind,
    pub name: Text,
    pub project: Arc<str>,
    pub branch: Arc<str>,
    pub labels: Box<[(Arc<str>, i16)]>,
    pub approvals: u32,
    pub by: Box<[Reviewers]>,
    pub not_by: Authors,
    pub commit: CommitFrom,
    pub requirements: Requirements,
    pub accept: Accepted,
    pub max_age: Option<Duration>,
    pub merge_commits: bool,
    /// Where `statement: required` stands.
    pub statement: Option<Place>,
    pub on_unreachable: Unreachable,
    pub hold: Duration,
}

pub(super) fn review(reader: &mut Reader<'_>, tree: Tree) -> Option<RawReview> {
    let place = tree.place;
    let before = reader.problems.len();
    let mut fields = reader.fields(tree, "`review`", KEYS, &[])?;
    let (kind, server) = host(reader, &mut fields, place);
    let project = needed(reader, &mut fields, place, "project").and_then(|text| {
        let form = if kind == HostKind::GitHub { "`OWNER/REPOSITORY`" } else { "`ml/vision`" };
        let hint = format!("write the project as {} calls it: {form}", kind.name());
        checked(reader, text, "is no project", &hint, |text| is_project(text) && is_project_of(kind, text))
    });
    let branch = needed(reader, &mut fields, place, "branch").and_then(|text| {
        let hint = match text.value.strip_prefix("refs/heads/") {
            Some(short) => format!("write the branch alone: `{short}`"),
            None => "write one branch: `main`".to_owned(),
        };
        checked(reader, text, "is no branch", &hint, is_branch)
    });
    let (labels, approvals) = least(reader, &mut fields, kind);
    let by = fields.take("by").map(|tree| reviewers(reader, tree, kind));
    let not_by = fields.take("not_by").map(|tree| {
        let known = Contributor::ALL.map(|one| (one.name(), one));
        let texts = reader.texts(tree, "`not_by`");
        texts.iter().filter_map(|text| choice(reader, text, "`not_by`", &known)).collect()
    });
    let commit = fields.take("commit").and_then(|tree| commit(reader, tree));
    let requirements = fields.take("requirements").and_then(|tree| requirements(reader, tree));
    let accept = fields.take("accept").map(|tree| accept(reader, tree, kind));
    let max_age = fields.take("max_age").and_then(|tree| max_age(reader, tree));
    let merge_commits = fields.take("merge_commits").and_then(|tree| merge_commits(reader, tree));
    let on_unreachable = fields.take("on_unreachable").and_then(|tree| {
        let text = reader.text(tree, "`on_unreachable`")?;
        let known = [("refuse", Unreachable::Refuse), ("hold", Unreachable::Hold)];
        choice(reader, &text, "`on_unreachable`", &known)
    });
    let hold = fields.take("hold").and_then(|tree| bounded(reader, tree, "`hold`", MAX_HOLD));
    let statement = fields.take("statement").and_then(|tree| statement(reader, tree, commit.as_ref()));
    if reader.problems.len() > before {
        return None;
    }
    Some(RawReview {
        kind,
        name: server?,
        project: project?.value.into(),
        branch: branch?.value.into(),
        labels: labels.into(),
        approvals,
        by: by.unwrap_or_default().into(),
        not_by: not_by.unwrap_or(Authors::ALL),
        commit: commit.unwrap_or(CommitFrom::Job),
        requirements: requirements.unwrap_or(Requirements::All),
        accept: accept.unwrap_or_default(),
        max_age,
        merge_commits: merge_commits.unwrap_or_default(),
        on_unreachable: on_unreachable.unwrap_or(Unreachable::Refuse),
        statement,
        hold: hold.unwrap_or_default(),
    })
}

/// Where a statement is required of what is deployed; by a claim of the caller's no model is followed.
fn statement(reader: &mut Reader<'_>, tree: Tree, commit: Option<&CommitFrom>) -> Option<Place> {
    let place = tree.place;
    let text = reader.text(tree, "`statement`")?;
    choice(reader, &text, "`statement`", &[("required", ())])?;
    if let Some(CommitFrom::Claim(_)) = commit {
        let hint = "write `commit: job`, or leave it out";
        reader.error_with(place, "a statement is about the commit of a job", hint);
    }
    Some(place)
}

/// Which code host is asked; Gerrit, where that is not to be known.
fn host(reader: &mut Reader<'_>, fields: &mut Fields, place: Place) -> (HostKind, Option<Text>) {
    let mut named = HostKind::ALL.into_iter().filter_map(|kind| Some((kind, fields.take(kind.key())?)));
    let first = named.next();
    if let Some((_, second)) = named.next() {
        let hint = "demand each host's review by an entry of its own";
        reader.error_with(second.place, "`review` names several code hosts", hint);
    }
    let Some((kind, tree)) = first else {
        reader.error_with(place, "`review` names no code host", FORM);
        return (HostKind::Gerrit, None);
    };
    let what = format!("`{}`", kind.key());
    (kind, reader.text(tree, &what).and_then(|text| name(reader, text, "of a server")))
}

/// Gerrit's labels, or how many people must have approved elsewhere.
fn least(reader: &mut Reader<'_>, fields: &mut Fields, kind: HostKind) -> (Vec<(Arc<str>, i16)>, u32) {
    let place = |key: &str, fields: &Fields| fields.place_of(key).unwrap_or_default();
    let (of_labels, of_approvals) = (place("labels", fields), place("approvals", fields));
    let (labels_found, approvals) = (fields.take("labels"), fields.take("approvals"));
    match kind {
        HostKind::Gerrit => {
            if approvals.is_some() {
                let hint = "write `labels: {Code-Review: 2}`, and how many people under `by`";
                reader.error_with(of_approvals, "Gerrit counts no `approvals`", hint);
            }
            let usual = || vec![(USUAL.0.into(), USUAL.1)];
            (labels_found.map_or_else(usual, |tree| labels(reader, tree)), 0)
        }
        HostKind::GitHub | HostKind::GitLab => {
            if labels_found.is_some() {
                let message = format!("nobody votes by `labels` at {}", kind.name());
                reader.error_with(of_labels, message, "write `approvals: 1`: how many people");
            }
            let people = approvals.map_or(Some(1), |tree| reader.count(tree, "`approvals`")).unwrap_or(1);
            if people > MOST_PEOPLE {
                reader.error(of_approvals, format!("`approvals` is more than {MOST_PEOPLE}"));
            }
            (Vec::new(), people)
        }
    }
}

/// The text of a key that must be there.
fn needed(reader: &mut Reader<'_>, fields: &mut Fields, place: Place, key: &str) -> Option<Text> {
    match fields.take(key) {
        Some(tree) => reader.text(tree, &format!("`{key}`")),
        None => {
            reader.error_with(place, format!("`review` needs `{key}`"), FORM);
            None
        }
    }
}

/// A text that is what it should be.
pub(super) fn checked(
    reader: &mut Reader<'_>,
    text: Text,
    why: &str,
    hint: &str,
    is: impl Fn(&str) -> bool,
) -> Option<Text> {
    if is(&text.value) {
        return Some(text);
    }
    reader.error_with(text.place, format!("`{}` {why}", text.value.escape_debug()), hint);
    None
}

/// A short name without spaces and quotes.
pub(super) fn name(reader: &mut Reader<'_>, text: Text, of: &str) -> Option<Text> {
    let hint = format!("names have up to {LONGEST_NAME} characters, and no spaces, quotes or backslashes");
    checked(reader, text, &format!("is no name {of}"), &hint, |text| {
        text.len() <= LONGEST_NAME && text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(&b))
    })
}

/// Names go into searches and paths of Gerrit's, where quotes, wildcards and dots mean something else.
fn is_plain(text: &str, forbidden: &str) -> bool {
    text.chars().count() <= LONGEST
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || forbidden.contains(c))
        && !text.starts_with(['/', '-'])
        && !text.ends_with(['/', '.'])
        && !["..", "//", "/."].iter().any(|odd| text.contains(odd))
}

pub(super) fn is_project(text: &str) -> bool {
    is_plain(text, "\"'\\?%*:<>|$^~{}#") && !text.ends_with(".git")
}

/// What is more than that, where a host has forms of its own: it goes into paths of its API.
fn is_project_of(kind: HostKind, text: &str) -> bool {
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match kind {
        HostKind::Gerrit => true,
        HostKind::GitHub => text.split('/').count() == 2 && text.split('/').all(plain),
        HostKind::GitLab => text.contains('/') && text.split('/').all(plain),
    }
}

/// As `git check-ref-format` has it, and no wider.
pub(super) fn is_branch(text: &str) -> bool {
    is_plain(text, "\"'\\?%*:^~[]{}")
        && !text.starts_with("refs/")
        && !text.contains(".lock/")
        && !text.ends_with(".lock")
}

/// As Gerrit has it.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_NAME
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn labels(reader: &mut Reader<'_>, tree: Tree) -> Vec<(Arc<str>, i16)> {
    let place = tree.place;
    let before = reader.problems.len();
    let hint = "write `labels: {Code-Review: 2}`: each label with the least vote that counts";
    let mut labels = Vec::new();
    for (label, value) in reader.any_fields(tree, "`labels`") {
        let place = value.place;
        let Some(label) = checked(reader, label, "is no label", hint, is_label) else { continue };
        let least = match value.value {
            Node::Number(number) => number.as_u64().and_then(|n| i16::try_from(n).ok()),
            Node::Null | Node::Bool(_) | Node::Text(_) | Node::List(_) | Node::Map(_) => None,
        };
        let Some(least) = least.filter(|least| (1..=10).contains(least)) else {
            let message = format!("the vote of `{}` must be a whole number from 1 to 10", label.value);
            reader.error_with(place, message, hint);
            continue;
        };
        labels.push((label.value.into(), least));
    }
    if labels.is_empty() && reader.problems.len() == before {
        reader.error_with(place, "`labels` names nothing", hint);
    }
    if labels.len() > MOST {
        reader.error(place, format!("`labels` has more than {MOST} labels"));
    }
    labels
}

fn reviewers(reader: &mut Reader<'_>, tree: Tree, kind: HostKind) -> Vec<Reviewers> {
    let place = tree.place;
    let items = match tree.value {
        Node::List(items) => items,
        // One need not be a list.
        Node::Text(_) | Node::Map(_) | Node::Null | Node::Bool(_) | Node::Number(_) => vec![tree],
    };
    if items.is_empty() {
        reader.error_with(place, "`by` is an empty list", "leave it out if everybody's vote counts");
    }
    if items.len() > MOST {
        reader.error(place, format!("`by` has more than {MOST} demands"));
    }
    let mut all: Vec<Reviewers> = Vec::new();
    for item in items {
        let place = item.place;
        let Some(one) = reviewer(reader, item, kind) else { continue };
        if all.iter().any(|other| other.group == one.group) {
            reader.error_with(place, "`by` names the same twice", "write it once, with a `count`");
        }
        all.push(one);
    }
    all
}

fn reviewer(reader: &mut Reader<'_>, tree: Tree, kind: HostKind) -> Option<Reviewers> {
    let (place, key) = (tree.place, kind.group_key());
    if let Node::Text(text) = &tree.value {
        let hint = format!("write `{{{key}: {text}, count: 1}}`");
        reader.error_with(place, format!("`by` does not know `{text}`"), hint);
        return None;
    }
    let before = reader.problems.len();
    let mut fields = reader.fields(tree, "one of `by`", &[key, "count"], &[])?;
    let count_place = fields.place_of("count").unwrap_or(place);
    let count = match fields.take("count") {
        None => Some(1),
        Some(tree) => reader.count(tree, "`count`"),
    };
    let Some(group) = fields.take(key) else {
        if reader.problems.len() == before {
            let hint = format!("write `by: [{{{key}: NAME, count: 1}}]`");
            reader.error_with(place, format!("one of `by` names no `{key}`"), hint);
        }
        return None;
    };
    let group = reader.text(group, &format!("`{key}`"))?;
    let group = group_of(reader, kind, group)?;
    let count = count?;
    if count > MOST_PEOPLE {
        reader.error(count_place, format!("`count` is more than {MOST_PEOPLE}"));
        return None;
    }
    Some(Reviewers { group: group.value.into(), count })
}

/// The name or UUID of a group of Gerrit's.
pub(super) fn is_group(reader: &mut Reader<'_>, group: Text) -> Option<Text> {
    group_of(reader, HostKind::Gerrit, group)
}

/// A group of a code host, by its name there.
fn group_of(reader: &mut Reader<'_>, kind: HostKind, group: Text) -> Option<Text> {
    let hint = match kind {
        HostKind::Gerrit => {
            format!("groups have up to {LONGEST} characters, none of them a control character")
        }
        HostKind::GitHub => {
            "write the team's name in URLs: `risk-reviewers`, or `ORGANIZATION/risk-reviewers`".to_owned()
        }
        HostKind::GitLab => "write the group's path: `risk/reviewers`".to_owned(),
    };
    checked(reader, group, "is no group", &hint, |text| is_group_of(kind, text))
}

fn is_group_of(kind: HostKind, text: &str) -> bool {
    let parts = text.split('/').count();
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let paths = is_project(text) && text.split('/').all(plain);
    match kind {
        HostKind::Gerrit => text.chars().count() <= LONGEST && !text.chars().any(char::is_control),
        HostKind::GitHub => paths && parts <= 2,
        HostKind::GitLab => paths,
    }
}

fn commit(reader: &mut Reader<'_>, tree: Tree) -> Option<CommitFrom> {
    let text = reader.text(tree, "`commit`")?;
    if text.value == "job" {
        return Some(CommitFrom::Job);
    }
    let is_claim = |claim: &str| {
        (1..=LONGEST_NAME).contains(&claim.len())
            && claim.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    let claim = text.value.strip_prefix("caller.").filter(|claim| is_claim(claim)).map(Arc::from);
    if claim.is_none() {
        let message = format!("`commit` does not know `{}`", text.value);
        let hint = "write `job`, or `caller.sha` for the claim `sha` of the caller's token";
        reader.error_with(text.place, message, hint);
    }
    claim.map(CommitFrom::Claim)
}

fn requirements(reader: &mut Reader<'_>, tree: Tree) -> Option<Requirements> {
    let place = tree.place;
    let texts = reader.texts(tree, "`requirements`");
    if let [one] = &*texts
        && one.value == "all"
    {
        return Some(Requirements::All);
    }
    if texts.len() > MOST_REQUIREMENTS {
        reader.error(place, format!("`requirements` has more than {MOST_REQUIREMENTS} names"));
    }
    let mut names: Vec<Arc<str>> = Vec::new();
    for text in texts {
        if text.value == "all" {
            let hint = "write `requirements: all`, or the names alone";
            reader.error_with(text.place, "`all` stands beside names", hint);
            continue;
        }
        let Some(text) = name(reader, text, "of a submit requirement") else { continue };
        if names.iter().any(|other| **other == *text.value) {
            let message = format!("`requirements` names `{}` twice", text.value);
            reader.error_with(text.place, message, "write it once");
        }
        names.push(text.value.into());
    }
    Some(Requirements::Named(names.into()))
}

fn accept(reader: &mut Reader<'_>, tree: Tree, kind: HostKind) -> Accepted {
    #[derive(Clone, Copy)]
    enum What {
        Overridden,
        NotApplicable,
        Forced,
    }
    let known =
        [("overridden", What::Overridden), ("not_applicable", What::NotApplicable), ("forced", What::Forced)];
    let mut accepted = Accepted::default();
    for text in reader.texts(tree, "`accept`") {
        if kind != HostKind::Gerrit && ["overridden", "forced"].contains(&text.value.as_str()) {
            let message = format!("{} does not say that a check was {}", kind.name(), text.value);
            reader.error_with(text.place, message, "write `not_applicable`: one that was skipped");
            continue;
        }
        match choice(reader, &text, "`accept`", &known) {
            Some(What::Overridden) => accepted.overridden = true,
            Some(What::NotApplicable) => accepted.not_applicable = true,
            Some(What::Forced) => accepted.forced = true,
            None => {}
        }
    }
    accepted
}

fn max_age(reader: &mut Reader<'_>, tree: Tree) -> Option<Duration> {
    let text = reader.text(tree, "`max_age`")?;
    let age = duration(&text.value).filter(|age| age.as_secs() > 0 && age.subsec_nanos() == 0);
    if age.is_none() {
        let message = format!("`{}` is no age from `1s` to `366d`", text.value);
        reader.error_with(text.place, message, "write `12h` or `30d`");
    }
    age
}

fn merge_commits(reader: &mut Reader<'_>, tree: Tree) -> Option<bool> {
    match tree.value {
        Node::Bool(one) => Some(one),
        Node::Null | Node::Number(_) | Node::Text(_) | Node::List(_) | Node::Map(_) => {
            reader.error(tree.place, "`merge_commits` is `true` or `false`");
            None
        }
    }
}
