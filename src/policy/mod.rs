//! May they? Azure's own roles plus narrowing rules in YAML, decided by a pure function.
//!
//! [`PolicySet::judge`] is the one decision procedure: the gate, `policy test`, `policy why`,
//! `can-i` and `policy replay` all call it. [`decide`] turns its answer into a [`Permit`], the only
//! value from which a request can go on.

mod calendar;
pub mod condition;
mod document;
pub mod lease;
pub mod live;
mod path;
pub mod permit;
mod raw;
pub mod request;
pub mod roles;
mod who;

pub use lease::{Cut, Lease, OnTokenExpiry, StreamLimits};
pub use live::LivePolicies;
pub use permit::{
    Denial, DenialCode, Denied, EntryRef, Judgement, LimitPer, Obligation, Permit, SecretTreatment, decide,
};
pub use request::{DecisionId, RequestFacts};

use std::{collections::BTreeSet, path::Path, sync::Arc};

use crate::{identity::Caller, yaml::Problem};

/// All policy files, compiled and indexed; immutable.
#[derive(Debug)]
pub struct PolicySet {
    digest: [u8; 32],
    generation: u64,
}

/// The names that the configuration defines and policies may use.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Configured issuers; `None` where no configuration is at hand: then any name is believed.
    pub issuers: Option<BTreeSet<String>>,
    /// Configured routes; `None` likewise.
    pub routes: Option<BTreeSet<String>>,
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
        Self { digest: [0; 32], generation: 0 }
    }

    /// Reads and compiles the files below `directory`: `**/*.yaml` but not `*.test.yaml`, and
    /// `roles/*.json`. Warnings come beside the set.
    ///
    /// # Errors
    /// Every problem of every file at once; no file at all is one.
    pub fn load(directory: &Path, around: &Surroundings) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let _ = around;
        let file: Arc<str> = directory.display().to_string().into();
        Err(vec![Problem::error(&file, crate::yaml::Place::default(), "holds no policy file")])
    }

    /// SHA-256 over the files' names and contents: stands in every record.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
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

    /// The names of the subjects that `caller` belongs to, sorted.
    #[must_use]
    pub fn subjects_of(&self, caller: &Caller) -> Vec<Arc<str>> {
        caller.subjects_at_issue.iter().flat_map(|names| names.iter().cloned()).collect()
    }

    /// Whether some entry that could apply reads the body (`request.body` in `when`), so that it
    /// must be inspected although the operation's meaning does not depend on it.
    #[must_use]
    pub fn reads_body(
        &self,
        caller: &Caller,
        operation: &crate::azureml::Operation,
        request: &RequestFacts,
    ) -> bool {
        let _ = (caller, operation, request);
        false
    }

    /// The decision, pure: same question, same answer.
    #[must_use]
    pub fn judge(&self, question: &Question<'_>) -> Judgement {
        let missing = question
            .operation
            .acts
            .iter()
            .map(|act| {
                let scope = act.resource.as_ref().map_or("an unknown resource", |r| r.as_str());
                (act.action.as_str().to_owned(), scope.to_owned())
            })
            .collect();
        Judgement {
            denial: Some(Denial {
                code: DenialCode::AuthorizationFailed,
                cause: "no entry of the gate's policies allows this".to_owned(),
                cure: "whoever keeps the policies can add an entry".to_owned(),
                entry: None,
                missing,
            }),
            ..Judgement::default()
        }
    }

    /// Whether a live stream may go on under this set at `now`: judged again from its lease, limits
    /// not counted again.
    ///
    /// # Errors
    /// [`Cut`]: the token or the stream's age ended it, or the policies no longer allow it.
    pub fn renew(&self, lease: &Lease, now: crate::time::Timestamp) -> Result<(), Cut> {
        lease.ended(now)?;
        match self.judge(&lease.question(now)).denial {
            None => Ok(()),
            Some(denial) => Err(Cut::Denied(Box::new(denial))),
        }
    }
}
