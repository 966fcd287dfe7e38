//! May they? Azure's own roles plus narrowing rules in YAML, decided by a pure function.
//!
//! [`PolicySet::judge`] is the one decision procedure: the gate, `policy test`, `policy why`,
//! `can-i` and `policy replay` all call it. [`decide`] turns its answer into a [`Permit`], the only
//! value from which a request can go on.

pub mod permit;
pub mod request;

pub use permit::{
    Denial, DenialCode, Denied, EntryRef, Judgement, Obligation, Permit, SecretTreatment, decide,
};
pub use request::{DecisionId, RequestFacts};

use crate::identity::Caller;

/// All policy files, compiled and indexed; immutable.
#[derive(Debug)]
pub struct PolicySet {
    digest: [u8; 32],
    generation: u64,
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
        let _ = question;
        Judgement::default()
    }
}
