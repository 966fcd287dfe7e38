//! `amlgate policy replay`: what would other policies have decided?
//!
//! The record proves nothing by itself; `audit verify` does. It does not hold all that policies may
//! read: where a decision hangs on the rest it is printed as undecidable, with what is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;
use serde_json::Value;

use super::{Output, Source, exit, print_data, put, refused};
use crate::{
    audit::{
        read::Reader,
        recall::{NotRecorded, Recalled, recall},
        storage::Directory,
    },
    policy::{
        DenialCode, EntryRef, Judgement, PolicySet, SecretTreatment,
        replay::{Replayed, replay},
    },
};

/// `policy replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// The directory of a log.
    directory: PathBuf,
    /// Not before: RFC 3339.
    #[arg(long)]
    since: Option<chrono::DateTime<chrono::Utc>>,
    /// Before: RFC 3339.
    #[arg(long)]
    until: Option<chrono::DateTime<chrono::Utc>>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// One decision that would change, or of which that cannot be said.
#[derive(Debug, Serialize)]
struct Change {
    decision: String,
    at: String,
    caller: String,
    action: String,
    resource: String,
    was: String,
    #[serde(flatten)]
    now: Now,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Now {
    /// What would be decided instead, and by which entries.
    Would { be: String, by: Vec<String>, because: Option<String> },
    /// Why it cannot be said.
    Undecidable(Vec<String>),
}

/// How requests were refused that policies allowed if people said yes.
const ASKED: [&str; 2] = ["ApprovalRequired", "ApprovalPending"];
/// And how those that they allowed if the code was reviewed.
const UNREVIEWED: &str = "ReviewRequired";

/// What came of all records.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// How many decisions were looked at.
    replayed: usize,
    /// How many stay as they are.
    unchanged: usize,
    /// How many requests could not be named: policies do not matter to them.
    unnamed: usize,
    /// Those that change, and those of which it cannot be said.
    changes: Vec<Change>,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> ExitCode {
    let loaded = match args.source.load() {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems),
    };
    let report = match all(args, &loaded.set) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("amlgate: cannot read the log in `{}`: {error}", args.directory.display());
            return exit::unreachable();
        }
    };
    match args.output {
        Output::Table => print(&report),
        Output::Json | Output::Yaml => print_data(&report, args.output),
    }
    if report.changes.is_empty() { exit::DONE } else { exit::FINDING }
}

fn print(report: &Report) {
    for change in &report.changes {
        let Change { decision, at, caller, action, resource, was, now } = change;
        put(format_args!("{at}  {caller}  `{action}` at `{resource}`  ({decision})"));
        match now {
            Now::Would { be, by, because } => {
                let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
                put(format_args!("    {was} -> {be}{by}"));
                if let Some(because) = because {
                    put(format_args!("    {because}"));
                }
            }
            Now::Undecidable(why) => {
                put(format_args!("    {was} -> undecidable"));
                why.iter().for_each(|why| put(format_args!("    {why}")));
            }
        }
    }
    let undecidable = report.changes.iter().filter(|c| matches!(c.now, Now::Undecidable(_))).count();
    put(format_args!(
        "{} decisions: {} unchanged, {} changed, {undecidable} undecidable; {} requests that cannot be named",
        report.replayed,
        report.unchanged,
        report.changes.len() - undecidable,
        report.unnamed
    ));
}

/// The decision of this id.
///
/// # Errors
/// What the disk says.
pub(super) fn find(directory: &Path, decision: &str) -> io::Result<Option<Result<Recalled, NotRecorded>>> {
    let mut reader = Reader::new(Directory::at(directory.to_owned()));
    while let Some(record) = reader.record()? {
        let Ok(value) = serde_json::from_slice::<Value>(&record.line) else { continue };
        if text(&value, "/unmapped/amlgate/decision") == decision
            && let Some(recalled) = recall(&value)
        {
            return Ok(Some(recalled));
        }
    }
    Ok(None)
}

fn all(args: &Args, set: &PolicySet) -> io::Result<Report> {
    let mut reader = Reader::new(Directory::at(args.directory.clone()));
    let (mut report, mut seen) = (Report::default(), BTreeSet::new());
    while let Some(record) = reader.record()? {
        let Ok(value) = serde_json::from_slice::<Value>(&record.line) else { continue };
        let time =
            value.get("time").and_then(Value::as_i64).and_then(chrono::DateTime::from_timestamp_millis);
        let within = args.since.is_none_or(|since| time.is_some_and(|t| t >= since))
            && args.until.is_none_or(|until| time.is_some_and(|t| t < until));
        let decision = text(&value, "/unmapped/amlgate/decision");
        if !within || decision.is_empty() || !seen.insert(decision.clone()) {
            continue;
        }
        match recall(&value) {
            None => report.unnamed += 1,
            Some(recalled) => {
                report.replayed += 1;
                match compared(set, recalled, &value) {
                    None => report.unchanged += 1,
                    Some((was, now)) => report.changes.push(Change {
                        decision,
                        at: time.map(|t| t.to_rfc3339()).unwrap_or_default(),
                        caller: text(&value, "/actor/user/uid"),
                        action: text(&value, "/api/operation"),
                        resource: text(&value, "/resources/0/uid"),
                        was,
                        now,
                    }),
                }
            }
        }
    }
    Ok(report)
}

fn text(record: &Value, pointer: &str) -> String {
    record.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What was decided and what would be; `None` if that is the same.
fn compared(
    set: &PolicySet,
    recalled: Result<Recalled, NotRecorded>,
    record: &Value,
) -> Option<(String, Now)> {
    let recalled = match recalled {
        Ok(recalled) => recalled,
        Err(why) => {
            let was = text(record, "/unmapped/amlgate/denial/code");
            let was = if was.is_empty() { "allow".to_owned() } else { was };
            return Some((was, Now::Undecidable(vec![why.to_string()])));
        }
    };
    // Limits count requests; policies had allowed what came too often, what people had to be asked and
    // what code hosts had to be.
    let asked = recalled.denied.as_deref().is_some_and(|code| ASKED.contains(&code));
    let unreviewed = recalled.denied.as_deref() == Some(UNREVIEWED);
    let denied = recalled.denied.as_deref().filter(|code| *code != "LimitExceeded" && !asked && !unreviewed);
    let was = match denied {
        Some(code) => code.to_owned(),
        None if asked => DenialCode::ApprovalRequired.name().to_owned(),
        None if unreviewed => UNREVIEWED.to_owned(),
        None => allowed(recalled.secrets.iter().copied()),
    };
    match replay(set, &recalled.question(), recalled.skus) {
        Replayed::Undecidable(why) => Some((was, Now::Undecidable(why))),
        Replayed::Decided(judgement) => {
            let same = match (denied, &judgement.denial) {
                (Some(_), Some(_)) => true,
                // What a limit refused has no treatments to compare.
                (None, None) => {
                    let known =
                        |entry: &EntryRef| recalled.obligations.iter().any(|name| **name == *entry.name);
                    let same_people = judgement.approvals().all(|approval| asked || known(&approval.entry))
                        && (!asked || judgement.approvals().next().is_some());
                    let same_code = judgement.reviews().all(|review| unreviewed || known(&review.entry))
                        && (!unreviewed || judgement.reviews().next().is_some());
                    same_people
                        && same_code
                        && (recalled.denied.is_some() || same_secrets(&recalled, &judgement))
                }
                (Some(_), None) | (None, Some(_)) => false,
            };
            (!same).then(|| (was, would(&judgement)))
        }
    }
}

fn same_secrets(recalled: &Recalled, judgement: &Judgement) -> bool {
    let by_class = |all: &[(crate::azureml::SecretClass, SecretTreatment)]| {
        all.iter()
            .map(|(class, how)| (class.name(), *how == SecretTreatment::Reveal))
            .collect::<BTreeMap<_, _>>()
    };
    by_class(&recalled.secrets) == by_class(&judgement.secrets)
}

fn would(judgement: &Judgement) -> Now {
    let (be, entries, because) = match &judgement.denial {
        None => match judgement.wanted() {
            None => (allowed(judgement.secrets.iter().copied()), judgement.allowed_by.clone(), None),
            Some(wanted) => (wanted.code.name().to_owned(), wanted.entries, Some(wanted.words)),
        },
        Some(denial) => {
            let entries: Vec<_> = denial.entry.iter().cloned().collect();
            (denial.code.name().to_owned(), entries, Some(denial.cause.clone()))
        }
    };
    let by: BTreeSet<_> = entries.iter().map(|e| format!("`{}` ({}:{})", e.name, e.file, e.line)).collect();
    Now::Would { be, by: by.into_iter().collect(), because }
}

fn allowed(secrets: impl Iterator<Item = (crate::azureml::SecretClass, SecretTreatment)>) -> String {
    let treated: Vec<_> = secrets
        .map(|(class, how)| match how {
            SecretTreatment::Substitute => format!("{} as a handle", class.name()),
            SecretTreatment::Reveal => format!("{} revealed", class.name()),
        })
        .collect();
    if treated.is_empty() { "allow".to_owned() } else { format!("allow, {}", treated.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderMap, Method};

    use super::*;
    use crate::{
        azureml::{Act, Action, Audience, Effects, Facts, Kind, Operation, Protocol, ResourceId, Secrets},
        http::Target,
        identity::{Caller, Groups, PrincipalId, PrincipalKind},
        policy::{DecisionId, FileSet, RequestFacts, Standing, Surroundings},
        time::Timestamp,
    };

    const FREE: &str = "version: 1\nallow: [{name: all, who: [authenticated], kinds: [write]}]\nnetworks: {n: [10.0.0.0/8]}\n";
    const REVIEW: &str =
        "  - {name: reviewed, kinds: [write], review: {gerrit: main, project: p, branch: main}}\n";
    const ASK: &str = "  - {name: asked, kinds: [write], approval: {by: [{subject: boss}]}}\n";

    /// A write, recorded as it came out then.
    fn recorded(denied: Option<&str>, obligations: &[&str]) -> Recalled {
        let at = Timestamp::from_secs(1_795_435_200);
        Recalled {
            caller: Caller {
                id: PrincipalId { issuer: "corp".into(), subject: "ann".into() },
                kind: PrincipalKind::Person,
                tenant: None,
                client: None,
                display: None,
                groups: Groups::Known(Arc::new([])),
                roles: Arc::new([]),
                claims: Arc::default(),
                expires: at,
                from_pull_request: false,
                subjects_at_issue: None,
                reviewers: None,
                human: None,
                token_digest: [0; 32],
            },
            operation: Operation {
                name: "Test".into(),
                acts: vec![Act {
                    action: Action::new("Microsoft.MachineLearningServices/workspaces/models/versions/write"),
                    resource: ResourceId::parse("/subscriptions/s"),
                }],
                kind: Kind::Write,
                effects: Effects::NONE,
                unclear_effects: Effects::NONE,
                secrets: Secrets::NONE,
                facts: Facts::default(),
                audience: Audience::Arm,
                long_running: false,
                protocol: Protocol::Arm,
            },
            request: RequestFacts {
                decision: DecisionId::fresh(),
                route: "arm".into(),
                method: Method::PUT,
                target: Target::parse("gate", "/x").unwrap(),
                headers: HeaderMap::new(),
                body: None,
                source: "10.0.0.1:1".parse().unwrap(),
                received: at,
                glass: None,
            },
            standing: Standing::Entries,
            at,
            denied: denied.map(ToOwned::to_owned),
            secrets: Vec::new(),
            obligations: obligations.iter().map(ToString::to_string).collect(),
            skus: true,
        }
    }

    /// What it was and would be under `FREE` and these demands; `None` if that is the same.
    fn changed(demands: &[&str], denied: Option<&str>, obligations: &[&str]) -> Option<(String, String)> {
        let mut text = format!("{FREE}subjects: {{boss: [{{issuer: corp, group: boss}}]}}\n");
        if !demands.is_empty() {
            text.push_str(&format!("require:\n{}", demands.concat()));
        }
        let files = FileSet::from_texts([("p.yaml", text.as_str())]);
        let (set, _) = PolicySet::compile(&files, &Surroundings::default()).unwrap();
        match compared(&set, Ok(recorded(denied, obligations)), &Value::Null)? {
            (was, Now::Would { be, .. }) => Some((was, be)),
            (_, Now::Undecidable(why)) => panic!("{why:?}"),
        }
    }

    #[test]
    fn what_was_or_was_not_reviewed_changes_only_where_the_demand_does() {
        let change = |was: &str, be: &str| Some((was.to_owned(), be.to_owned()));
        // Nothing new is demanded.
        assert_eq!(changed(&[REVIEW], None, &["reviewed"]), None);
        assert_eq!(changed(&[REVIEW], Some("ReviewRequired"), &["reviewed"]), None);
        assert_eq!(changed(&[REVIEW, ASK], Some("ReviewRequired"), &["reviewed", "asked"]), None);
        assert_eq!(changed(&[REVIEW, ASK], Some("ApprovalRequired"), &["reviewed", "asked"]), None);
        // A review is.
        assert_eq!(changed(&[REVIEW], None, &[]), change("allow", "ReviewRequired"));
        assert_eq!(
            changed(&[REVIEW, ASK], Some("ApprovalRequired"), &["asked"]),
            change("ApprovalRequired", "ReviewRequired")
        );
        // No review is any more.
        assert_eq!(changed(&[], Some("ReviewRequired"), &["reviewed"]), change("ReviewRequired", "allow"));
        assert_eq!(
            changed(&[ASK], Some("ReviewRequired"), &["reviewed", "asked"]),
            change("ReviewRequired", "ApprovalRequired")
        );
    }
}
