//! May they? Azure's own roles plus narrowing rules in YAML, decided by a pure function.
//!
//! [`PolicySet::judge`] is the one decision procedure: the gate, `policy test`, `policy why`,
//! `can-i` and `policy replay` all call it. [`decide`] turns its answer into a [`Permit`], the only
//! value from which a request can go on.

pub mod approval;
mod calendar;
pub mod cases;
pub mod clutch;
mod compile;
pub mod condition;
pub mod described;
mod document;
mod entry;
pub mod explained;
mod files;
pub mod flip;
mod hypothesis;
mod index;
mod judge;
pub mod lease;
mod lent;
pub mod live;
pub mod may;
mod path;
pub mod permit;
mod raw;
mod recording;
pub mod replay;
pub mod request;
pub mod review;
pub mod rights;
pub mod roles;
mod selector;
mod step_up;
#[cfg(test)]
mod tests;
mod trace;
pub mod trigger;
mod view;
mod who;
mod words;

pub use approval::{Approval, Approvers, Covers};
pub use files::FileSet;
pub use flip::Change;
pub use hypothesis::Hypothesis;
pub use lease::{Cut, Lease, OnTokenExpiry, StreamLimits};
pub use live::LivePolicies;
pub use permit::{
    Denial, DenialCode, Denied, EntryRef, Judgement, LimitPer, Obligation, Permit, SecretTreatment, decide,
};
pub use raw::List;
pub use recording::{Pointer, Recording};
pub use request::{DecisionId, OpenGlass, RequestFacts};
pub use review::Review;
pub use rights::Azure;
pub use selector::Selector;
pub use step_up::StepUpWanted;
pub use trace::{EntryTrace, SelectorTrace, Verdict};
pub use trigger::{ActsAs, Trigger};
pub use view::EntryView;

use std::{borrow::Cow, collections::BTreeSet, path::Path, sync::Arc};

use crate::{
    azureml::{Operation, ResourceId},
    identity::{Caller, GerritGroup, Groups},
    time::Timestamp,
    yaml::Problem,
};

/// JSON Schema of a policy file, for editors.
pub const SCHEMA: &str = include_str!("schema.json");

/// All policy files, compiled and indexed; immutable.
#[derive(Debug, Default)]
pub struct PolicySet {
    digest: [u8; 32],
    files: FileDigests,
    generation: u64,
    entries: Vec<entry::Entry>,
    subjects: who::Subjects,
    /// The groups of code hosts that subjects and approvals name, each once, in order.
    gerrit_groups: Arc<[GerritGroup]>,
    index: index::Index,
    triggers: Arc<[Arc<Trigger>]>,
    reads_body: bool,
    asks_azure: bool,
    /// Whether some entry lets agents do what their humans may.
    lends: bool,
    depends_on_time: bool,
}

/// Each file of a set by its name, with the SHA-256 of its content.
pub type FileDigests = Arc<[(Arc<str>, [u8; 32])]>;

/// The names that the configuration defines and policies may use.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Configured issuers; `None` where no configuration is at hand: then any name is believed.
    pub issuers: Option<BTreeSet<String>>,
    /// Configured routes; `None` likewise.
    pub routes: Option<BTreeSet<String>>,
    /// Configured Gerrit servers; `None` likewise.
    pub gerrits: Option<BTreeSet<String>>,
    /// Whether statements are made and checked; `None` likewise.
    pub states: Option<bool>,
    /// Those of the Gerrit servers whose accounts nothing in the configuration takes for people.
    pub faceless: BTreeSet<String>,
    /// Configured GitHubs; `None` likewise.
    pub githubs: Option<BTreeSet<String>>,
    /// Configured GitLabs; `None` likewise.
    pub gitlabs: Option<BTreeSet<String>>,
}

/// What is judged: by whom, what, and the circumstances.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The caller, verified or described.
    pub caller: &'a Caller,
    /// The meaning of the request.
    pub operation: &'a crate::azureml::Operation,
    /// The request itself.
    pub request: &'a RequestFacts,
    /// The instant of judgement.
    pub now: crate::time::Timestamp,
    /// What stands in for an `allow` entry, if anything does.
    pub standing: Standing,
    /// What was read of the caller's own rights in Azure.
    pub azure: &'a Azure,
}

/// What entitles the caller, besides entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: some `allow` entry must match.
    Entries,
    /// A valid polling capability (DECISIONS 16): it stands in for an `allow`, never over a `deny`
    /// or the secrets rule.
    PollingCapability,
}

impl PolicySet {
    /// The set without entries: it denies everything.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads and compiles the files below `directory` ([`FileSet::read`]). Warnings come beside the
    /// set.
    ///
    /// # Errors
    /// Every problem of every file at once; no file at all is one.
    pub fn load(directory: &Path, around: &Surroundings) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        Self::compile(&FileSet::read(directory)?, around)
    }

    /// Compiles files that were read. Warnings come beside the set.
    ///
    /// # Errors
    /// Every problem of every file at once.
    pub fn compile(files: &FileSet, around: &Surroundings) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        compile::compile(files, around)
    }

    /// SHA-256 over the files' names and contents: stands in every record.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Each of the files: stands in the record of a reload.
    #[must_use]
    pub fn files(&self) -> &FileDigests {
        &self.files
    }

    /// Counts up with each set that was put in force.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// This set with the number under which it is put in force.
    #[must_use]
    pub fn with_generation(self, generation: u64) -> Self {
        Self { generation, ..self }
    }

    /// Every entry, in the order of the files: allow, deny, require of each.
    pub fn entries(&self) -> impl Iterator<Item = (List, &EntryRef)> {
        self.entries.iter().map(|entry| (entry.list, &entry.reference))
    }

    /// What is started when changes are merged, in the order of the files.
    #[must_use]
    pub fn triggers(&self) -> &Arc<[Arc<Trigger>]> {
        &self.triggers
    }

    /// The scopes that `allow` entries name, each once, in order.
    #[must_use]
    pub fn allowed_scopes(&self) -> Vec<&ResourceId> {
        let allow = self.entries.iter().filter(|entry| entry.list == List::Allow);
        let mut scopes: Vec<_> = allow.filter_map(|entry| entry.scope.as_deref()).flatten().collect();
        scopes.sort_unstable_by_key(|scope| scope.folded());
        scopes.dedup_by_key(|scope| scope.folded());
        scopes
    }

    /// Whether some `allow` entry lets somebody do an Azure action at a scope: what the gate itself
    /// then has to be allowed by Azure. Who, when and what else the entry demands is not looked at.
    #[must_use]
    pub fn could_allow(&self, action: &str, scope: &ResourceId) -> bool {
        // What Azure lets callers do is not known here.
        let own = self.entries.iter().filter(|e| e.list == List::Allow && e.rights.is_none());
        own.into_iter().any(|entry| {
            let here = entry.scope.as_ref().is_none_or(|all| all.iter().any(|one| scope.is_within(one)));
            let named = entry.actions.as_ref().is_none_or(|all| all.iter().any(|one| one.matches(action)));
            here && named && entry.role.as_ref().is_none_or(|role| role.grants(action))
        })
    }

    /// The names of all subjects that the policies define.
    #[must_use]
    pub fn subjects(&self) -> &[Arc<str>] {
        self.subjects.names()
    }

    /// The names of the subjects that `caller` belongs to, in the order of the files.
    #[must_use]
    pub fn subjects_of(&self, caller: &Caller) -> Vec<Arc<str>> {
        let membership = self.subjects.of(caller);
        membership.sure.iter().filter_map(|number| self.subjects.name(*number)).map(Arc::clone).collect()
    }

    /// The groups that must be asked for before `caller` can be judged, because the token carries too
    /// few: those that subjects of the issuer name. `None` if the token says all, or nothing of it
    /// counts here.
    #[must_use]
    pub fn groups_to_ask(&self, caller: &Caller) -> Option<Arc<[Box<str>]>> {
        match caller.groups {
            Groups::Overage if caller.subjects_at_issue.is_none() => {
                self.subjects.groups_of(&caller.id.issuer)
            }
            Groups::Overage | Groups::Known(_) | Groups::Asked(_) => None,
        }
    }

    /// The groups of code hosts that are to be mirrored: those that subjects and approvals name.
    #[must_use]
    pub const fn gerrit_groups(&self) -> &Arc<[GerritGroup]> {
        &self.gerrit_groups
    }

    /// The groups of code hosts that must be asked for before `caller` can be judged: `None` if none is
    /// named, or none can have a caller like this in it.
    #[must_use]
    pub fn gerrit_groups_to_ask(&self, caller: &Caller) -> Option<Arc<[GerritGroup]>> {
        let asks =
            !self.gerrit_groups.is_empty() && caller.kind.has_human() && caller.subjects_at_issue.is_none();
        asks.then(|| Arc::clone(&self.gerrit_groups))
    }

    /// Whether some entry that could apply reads the body (`request.body` in `when`), so that it
    /// must be inspected although the operation's meaning does not depend on it.
    #[must_use]
    pub fn reads_body(&self, caller: &Caller, operation: &Operation, request: &RequestFacts) -> bool {
        let now = request.received;
        let (standing, azure) = (Standing::Entries, &rights::UNREAD);
        let question = Question { caller, operation, request, now, standing, azure };
        self.reads_body && judge::reads_body(self, &question)
    }

    /// Where the caller's own rights in Azure must be known before the question can be judged: the
    /// scopes of the entries with `rights: azure` that could match, each once. Empty for whoever no
    /// such entry concerns.
    #[must_use]
    pub fn azure_scopes(
        &self,
        caller: &Caller,
        operation: &Operation,
        request: &RequestFacts,
    ) -> Vec<ResourceId> {
        if !self.asks_azure {
            return Vec::new();
        }
        let (now, standing, azure) = (request.received, Standing::Entries, &rights::UNREAD);
        judge::azure_scopes(self, &Question { caller, operation, request, now, standing, azure })
    }

    /// Whether some entry mirrors Azure's own rights.
    #[must_use]
    pub fn asks_azure(&self) -> bool {
        self.asks_azure
    }

    /// The scopes that entries with `rights: azure` name, each once.
    #[must_use]
    pub fn mirrored_scopes(&self) -> Vec<&ResourceId> {
        let mirrors = self.entries.iter().filter(|entry| entry.rights.is_some());
        let mut scopes: Vec<_> = mirrors.filter_map(|entry| entry.scope.as_deref()).flatten().collect();
        scopes.sort_unstable_by_key(|scope| scope.folded());
        scopes.dedup_by_key(|scope| scope.folded());
        scopes
    }

    /// Whether the same question can have another answer later: live streams are then asked again as
    /// time passes, not only when the policies change.
    #[must_use]
    pub fn depends_on_time(&self) -> bool {
        self.depends_on_time
    }

    /// The decision, pure: same question, same answer.
    #[must_use]
    pub fn judge(&self, question: &Question<'_>) -> Judgement {
        judge::judge(self, question, &Hypothesis::default(), judge::Reach::Candidates)
    }

    /// The decision as it would be if the hypothesis held.
    #[must_use]
    pub fn judge_if(&self, question: &Question<'_>, hypothesis: &Hypothesis) -> Judgement {
        judge::judge(self, question, hypothesis, judge::Reach::Candidates)
    }

    /// Every entry held against the question, selector by selector; slow, for people.
    #[must_use]
    pub fn trace(&self, question: &Question<'_>) -> Vec<EntryTrace> {
        trace::trace(self, question, &Hypothesis::default())
    }

    /// Whether a live stream may go on under this set at `now`: judged again from its lease, limits
    /// not counted again.
    ///
    /// # Errors
    /// [`Cut`]: the token or the stream's age ended it, or the policies no longer allow it.
    pub fn renew(&self, lease: &Lease, now: Timestamp) -> Result<(), Cut> {
        lease.ended(now)?;
        let judgement = self.judge(&lease.question(now));
        if let Some(denial) = judgement.denial {
            return Err(Cut::Denied(Box::new(denial)));
        }
        let open = judgement.approvals().find(|wanted| !lease.is_approved(wanted));
        if let Some(wanted) = open {
            return Err(Cut::Unapproved(Arc::clone(&wanted.entry.name)));
        }
        let unreviewed = judgement.reviews().find(|wanted| !lease.is_reviewed(wanted));
        if let Some(wanted) = unreviewed {
            return Err(Cut::Unreviewed(Arc::clone(&wanted.entry.name)));
        }
        let unheard = judgement.opinions().find(|wanted| !lease.is_heard(wanted));
        unheard.map_or(Ok(()), |wanted| Err(Cut::Unheard(Arc::clone(&wanted.name))))
    }

    /// Whether `caller` must be seen as an agent although the token does not say so, because a subject
    /// names its client as one.
    #[must_use]
    pub fn is_mistaken(&self, caller: &Caller) -> bool {
        self.subjects.is_mistaken(caller)
    }

    /// The caller as these policies see them.
    fn seen<'c>(&self, caller: &'c Caller) -> Cow<'c, Caller> {
        if self.is_mistaken(caller) { Cow::Owned(caller.as_agent()) } else { Cow::Borrowed(caller) }
    }

    fn membership(&self, caller: &Caller, hypothesis: &Hypothesis) -> Arc<who::Membership> {
        let membership = match hypothesis.recalled {
            None => self.subjects.of(caller),
            Some(_) => self.subjects.recalled(caller),
        };
        if hypothesis.joins.is_empty() {
            return membership;
        }
        let mut joined = who::Membership::clone(&membership);
        joined.sure.extend(hypothesis.joins.iter().filter_map(|name| self.subjects.number(name)));
        joined.sure.sort_unstable();
        joined.sure.dedup();
        joined.unknown.retain(|number| joined.sure.binary_search(number).is_err());
        Arc::new(joined)
    }
}
