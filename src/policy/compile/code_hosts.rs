//! What the policies say of code hosts: reviews, triggers, and groups of reviewers.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{
        EntryRef, Surroundings,
        approval::Approvers,
        document::{listed, near},
        entry::Entry,
        raw::{RawReview, RawTrigger},
        review::{HostKind, Review},
        trigger::{Trigger, fits::Unfit},
        who::Subjects,
    },
    Compiler,
};
use crate::{
    identity::GerritGroup,
    yaml::{Place, Problem},
};

/// The groups of code hosts that subjects and approvals name.
pub(super) fn gerrit_groups(subjects: &Subjects, entries: &[Entry]) -> Arc<[GerritGroup]> {
    let approvals = entries.iter().filter_map(|entry| entry.approval.as_ref());
    let approvers = approvals.flat_map(|demand| &demand.approval.by).filter_map(|by| match by {
        Approvers::GerritGroup { group, .. } => Some(group),
        Approvers::Human | Approvers::Subject { .. } => None,
    });
    let all: BTreeSet<_> = subjects.gerrit_groups().chain(approvers).cloned().collect();
    all.into_iter().collect()
}

/// Why nobody could be known as one of a group of a code host.
pub(super) fn strangers(
    around: &Surroundings,
    file: &Arc<str>,
    place: Place,
    group: &GerritGroup,
) -> Option<Problem> {
    let GerritGroup { server, .. } = group;
    if let Some(unknown) = unknown_host(around, file, place, server, HostKind::Gerrit) {
        return Some(unknown);
    }
    around.faceless.contains(&**server).then(|| {
        let message = format!("nobody is known to be in {group}: who its accounts are is not said");
        let hint = format!(
            "link them in amlgate.yaml, `people.links: [{{gerrit: {server}, external_id: azure-oauth}}]`, or take e-mails for people with `accounts: {{match: email}}` and `people.canonical`"
        );
        Problem::error(file, place, message).hint(hint)
    })
}

/// A code host that amlgate.yaml does not name.
fn unknown_host(
    around: &Surroundings,
    file: &Arc<str>,
    place: Place,
    name: &str,
    kind: HostKind,
) -> Option<Problem> {
    let known = match kind {
        HostKind::Gerrit => &around.gerrits,
        HostKind::GitHub => &around.githubs,
        HostKind::GitLab => &around.gitlabs,
    };
    let known = known.as_ref().filter(|known| !known.contains(name))?;
    let known = || known.iter().map(String::as_str);
    let message = format!("no `{}` named `{name}` in amlgate.yaml", kind.key());
    let hint = near(name, known()).unwrap_or_else(|| match known().next() {
        None => "it names no server: nobody could say what was reviewed".to_owned(),
        Some(_) => format!("it names {}", listed(known())),
    });
    Some(Problem::error(file, place, message).hint(hint))
}

impl Compiler<'_> {
    /// A trigger that asks for something that Azure ML knows.
    pub(super) fn trigger(&mut self, file: &Arc<str>, raw: RawTrigger) -> Option<Trigger> {
        self.problems.extend(unknown_host(
            self.around,
            file,
            raw.gerrit.place,
            &raw.gerrit.value,
            HostKind::Gerrit,
        ));
        let scope = match &raw.scope {
            None => None,
            Some(text) => match &*self.scope(file, std::slice::from_ref(text)) {
                [one] => Some(one.as_str().into()),
                [] => return None,
                [_, _, ..] => {
                    let message = "`scope` is several ids, and a trigger puts one thing";
                    self.problems.push(Problem::error(file, text.place, message).hint("name one of them"));
                    return None;
                }
            },
        };
        let name = raw.name.value.as_str().into();
        let trigger = Trigger {
            entry: EntryRef { name, file: Arc::clone(file), line: raw.place.line },
            server: raw.gerrit.value.into(),
            project: raw.project,
            branch: raw.branch,
            acts_as: raw.acts_as,
            put: raw.put.value.into(),
            scope,
            body: raw.body,
            report: raw.report,
        };
        if let Err(unfit) = trigger.fits() {
            let place = if matches!(unfit, Unfit::Body(_)) { raw.body_place } else { raw.put.place };
            self.problems.push(Problem::error(file, place, unfit.to_string()).hint(unfit.hint()));
            return None;
        }
        Some(trigger)
    }

    pub(super) fn review(&mut self, file: &Arc<str>, entry: &EntryRef, raw: RawReview) -> Review {
        if let (Some(place), Some(false)) = (raw.statement, self.around.states) {
            let message = "a statement is required, and this gate makes and checks none";
            let hint = "add `evidence: {signing_key: {file: certs/evidence.key}}` to amlgate.yaml";
            self.problems.push(Problem::error(file, place, message).hint(hint));
        }
        self.problems.extend(unknown_host(self.around, file, raw.name.place, &raw.name.value, raw.kind));
        Review {
            entry: entry.clone(),
            host: raw.kind.named(&raw.name.value),
            project: raw.project,
            branch: raw.branch,
            labels: raw.labels,
            approvals: raw.approvals,
            by: raw.by,
            not_by: raw.not_by,
            commit: raw.commit,
            requirements: raw.requirements,
            accept: raw.accept,
            max_age: raw.max_age,
            merge_commits: raw.merge_commits,
            on_unreachable: raw.on_unreachable,
            statement: raw.statement.is_some(),
            hold: raw.hold,
        }
    }
}
