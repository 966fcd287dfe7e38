//! What if: changes to a question that are smaller than a change of the policies.
//!
//! `policy why` looks for the smallest of them that would turn a decision. It asks the same judge
//! with the change applied, so that what it prints is true by construction.

use std::sync::Arc;

use super::{EntryRef, SecretTreatment};
use crate::azureml::{Act, Action, ResourceId, SecretClass};

/// Changes to suppose; the default supposes none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hypothesis {
    /// The caller belongs to these subjects too.
    pub joins: Vec<Arc<str>>,
    /// These actions are allowed at and below these scopes.
    pub granted: Vec<(Action, ResourceId)>,
    /// These classes of secrets are treated so.
    pub secrets: Vec<(SecretClass, SecretTreatment)>,
    /// What these entries of `require` demand is satisfied.
    pub satisfied: Vec<EntryRef>,
    /// The request has left a selector of these entries of `deny` or `require`.
    pub left: Vec<EntryRef>,
    /// The question comes out of the record of a past request, which does not hold all of it.
    pub recalled: Option<Recalled>,
}

/// What is known of a question that comes out of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recalled {
    /// For whom it counts that something was not recorded.
    pub favours: Favours,
    /// Whether all VM sizes that the request may have reserved were recorded.
    pub skus: bool,
}

/// For whom it counts that something was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Favours {
    /// For the caller: `allow` entries match, `deny` and `require` entries do not.
    Caller,
    /// For the policies, like everything that cannot be evaluated.
    Policies,
}

impl Hypothesis {
    pub(super) fn grants(&self, act: &Act) -> bool {
        self.granted.iter().any(|(action, scope)| {
            *action == act.action && act.resource.as_ref().is_some_and(|r| r.is_within(scope))
        })
    }

    pub(super) fn treatment(&self, class: SecretClass) -> Option<SecretTreatment> {
        self.secrets.iter().find(|(c, _)| *c == class).map(|(_, how)| *how)
    }

    pub(super) fn satisfies(&self, entry: &EntryRef) -> bool {
        self.satisfied.contains(entry)
    }

    pub(super) fn leaves(&self, entry: &EntryRef) -> bool {
        self.left.contains(entry)
    }
}
