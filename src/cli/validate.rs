//! `amlgate validate`: is everything that the gate would start with in order?

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{exit, put, serve::refused};
use crate::{
    config,
    policy::{PolicySet, Trigger},
    yaml::{Place, Problem, Spanned},
};

/// Checks configuration and policies without starting.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(long, default_value = "amlgate.yaml")]
    config: PathBuf,
}

/// The subjects of `break_glass` that no policy defines.
fn nobody_on_call(set: &PolicySet, config: &Path) -> Vec<Problem> {
    let (file, named) = config::on_call(config);
    let known = |name: &str| set.subjects().iter().any(|subject| **subject == *name);
    let unknown = named.iter().filter(|name| !known(&name.value));
    unknown
        .map(|name| {
            let message =
                format!("`break_glass` names the subject `{}`, which no policy defines", name.value);
            let hint = "define it under `subjects` of a policy, or name another";
            Problem::error(&file, Place::of(name), message).hint(hint)
        })
        .collect()
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    match config::load(&args.config) {
        Err(found) => {
            problems.extend(found);
            if let Some((directory, around)) = config::around_policies(&args.config) {
                match PolicySet::load(&directory, &around) {
                    Err(found) => problems.extend(found),
                    Ok((_, found)) => warnings.extend(found),
                }
            }
        }
        Ok(settings) => {
            let around = settings.surroundings();
            warnings.extend(settings.warnings);
            match PolicySet::load(&settings.policies, &around) {
                Err(found) => problems.extend(found),
                Ok((set, found)) => {
                    warnings.extend(found);
                    let kept = settings.store.is_some();
                    let wanted = set.first_approval().filter(|_| !kept);
                    warnings.extend(wanted.map(|entry| {
                        let place = Place { line: entry.line, column: 1 };
                        let message = format!("nobody can give the approval that `{}` demands", entry.name);
                        let hint = "approvals are kept in a store: add `store: {sqlite: var/amlgate.db}` to the configuration";
                        Problem::warning(&entry.file, place, message).hint(hint)
                    }));
                    warnings.extend(untold(&config::notified(&args.config), &set));
                    let asks = settings.clutch.as_ref().is_some_and(|clutch| clutch.check.is_some());
                    let wanted = set.first_opinion().filter(|_| !asks);
                    warnings.extend(wanted.map(|entry| {
                        let place = Place { line: entry.line, column: 1 };
                        let message = format!("nobody gives the opinion that `{}` demands", entry.name);
                        let hint = "Clutch is asked where `clutch: {check: {url: ...}}` in the configuration says; until then the entry denies";
                        Problem::warning(&entry.file, place, message).hint(hint)
                    }));
                    warnings.extend(idle(&set, kept, |server| {
                        let named = settings.gerrits.iter().find(|gerrit| *gerrit.name == *server);
                        named.is_some_and(|gerrit| !gerrit.people.links.is_empty())
                    }));
                    problems.extend(nobody_on_call(&set, &args.config));
                    let lifted = set.first_lifted_by_break_glass();
                    warnings.extend(lifted.filter(|_| settings.break_glass.is_none()).map(|entry| {
                        let place = Place { line: entry.line, column: 1 };
                        let message = format!("nobody can lift `{}` by break-glass", entry.name);
                        let hint = "say who may: add `break_glass: {who: [SUBJECT]}` to the configuration";
                        Problem::warning(&entry.file, place, message).hint(hint)
                    }));
                    if problems.is_empty() {
                        let entries = set.entries().count();
                        put(format_args!(
                            "{}: valid; {}: {entries} entries",
                            args.config.display(),
                            settings.policies.display()
                        ));
                    }
                }
            }
        }
    }
    for warning in &warnings {
        eprintln!("{warning}");
    }
    if problems.is_empty() { exit::DONE } else { refused(&problems) }
}

/// Triggers that start nothing under the configuration: it names no store, or says of no account of a server
/// (`links`) who that is as a person.
fn idle(set: &PolicySet, kept: bool, links: impl Fn(&str) -> bool) -> Vec<Problem> {
    let warned = |trigger: &Trigger| {
        let (why, hint) = match (kept, links(&trigger.server)) {
            (true, true) => return None,
            (false, _) => (
                "this gate has no store",
                "what it starts is kept in one: add `store: {sqlite: var/amlgate.db}` to the configuration"
                    .to_owned(),
            ),
            (true, false) => (
                "nobody is known for whom it could act",
                format!(
                    "say who accounts are: `people: {{links: [{{gerrit: {}, external_id: azure-oauth}}]}}` in the configuration",
                    trigger.server
                ),
            ),
        };
        let (name, place) = (&trigger.entry.name, Place { line: trigger.entry.line, column: 1 });
        let message = format!("trigger `{name}` starts nothing: {why}");
        Some(Problem::warning(&trigger.entry.file, place, message).hint(hint))
    };
    set.triggers().iter().filter_map(|trigger| warned(trigger)).collect()
}

/// What channels of `notify` are for and no policy speaks of: they would be told nothing of it.
fn untold(notified: &config::Notified, set: &PolicySet) -> Vec<Problem> {
    let warned = |name: &Spanned<String>, message: String| {
        let hint = "the channel is told nothing of it: check the name";
        Problem::warning(&notified.file, Place::of(name), message).hint(hint)
    };
    let entries = notified.entries.iter().filter(|name| set.approval(&name.value).is_none());
    let entries =
        entries.map(|name| warned(name, format!("no entry called `{}` demands an approval", name.value)));
    let approvers = notified.approvers.iter().filter(|name| !set.asks_people_of(&name.value));
    let approvers =
        approvers.map(|name| warned(name, format!("no entry asks people of a subject `{}`", name.value)));
    entries.chain(approvers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{FileSet, Surroundings};

    #[test]
    fn a_trigger_that_starts_nothing_is_warned_of_at_its_place() {
        let policies = "version: 1
triggers:
  - name: train
    on: {gerrit: main, project: ml/vision, branch: main}
    as: owner
    put: /subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/jobs/j-${change}
    body: {properties: {jobType: Command, command: x, computeId: c, environmentId: e}}
";
        let files = FileSet::from_texts([("p.yaml", policies)]);
        let (set, _) = PolicySet::compile(&files, &Surroundings::default()).unwrap();
        let said = |kept, links| {
            let all = idle(&set, kept, |server| server == "main" && links);
            all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(said(true, true), "");
        let storeless = said(false, true);
        assert!(storeless.starts_with("p.yaml:3:1: warning: trigger `train` starts nothing"), "{storeless}");
        assert!(
            storeless.contains("has no store")
                && said(true, false).contains("people: {links: [{gerrit: main")
        );
    }

    #[test]
    fn a_channel_for_what_no_policy_speaks_of_is_warned_of_at_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("amlgate.yaml");
        let configuration = "version: 1
listen: {}
policies: policies/
audit: {name: a, directory: d, signing_key: {file: k}}
keys: {seal: []}
notify:
  - {name: a, entries: [big, bigg, all], approvers: [platform, human, platfrom]}
  - {name: b}
";
        std::fs::write(&file, configuration).unwrap();
        let policies = "
version: 1
subjects: {team: [{issuer: corp, group: team}], platform: [{issuer: corp, group: platform}]}
allow: [{name: all, who: [authenticated], actions: [\"*\"]}]
require:
  - {name: big, who: [team], kinds: [write], approval: {by: [{subject: platform}]}}
  - {name: own, who: [authenticated], kinds: [delete], approval: {by: [human]}}
";
        let files = FileSet::from_texts([("p.yaml", policies)]);
        let (set, _) = PolicySet::compile(&files, &Surroundings::default()).unwrap();
        let said: Vec<_> = untold(&config::notified(&file), &set)
            .iter()
            .map(|warning| format!("{}:{} {}", warning.place.line, warning.place.column, warning.message))
            .collect();
        assert_eq!(
            said,
            [
                "7:30 no entry called `bigg` demands an approval",
                "7:36 no entry called `all` demands an approval",
                "7:71 no entry asks people of a subject `platfrom`",
            ]
        );
    }
}
