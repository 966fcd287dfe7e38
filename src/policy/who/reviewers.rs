//! Subjects that are groups of a code host: whoever its mirror says is in them.
//!
//! The group is of people, so that machines are never in it; software that acts for somebody in it has
//! subjects of its own, and counts as perhaps a member. Nothing is remembered with a token: a group
//! changes while the token is the same.

use std::sync::Arc;

use super::{Fit, Membership, Subjects};
use crate::identity::{Caller, GerritGroup};

/// Whether a caller, seen as the policies see them, is in a group.
pub(in crate::policy) fn is_in(group: &GerritGroup, caller: &Caller) -> Fit {
    if !caller.kind.has_human() {
        return Fit::No;
    }
    match caller.reviewers.as_ref().and_then(|reviewers| reviewers.holds(group)) {
        Some(true) if !caller.kind.is_agent() => Fit::Yes,
        Some(true) | None => Fit::Unknown,
        Some(false) => Fit::No,
    }
}

impl Subjects {
    /// The groups that subjects are made of, each once, in order.
    pub(in crate::policy) fn gerrit_groups(&self) -> impl Iterator<Item = &GerritGroup> {
        self.reviewers.iter().map(|(_, group)| group)
    }

    /// What the token says, and what mirrors say besides; of a past request only if they were asked.
    pub(super) fn mirrored(&self, caller: &Caller, found: Arc<Membership>, is_past: bool) -> Arc<Membership> {
        if self.reviewers.is_empty() || caller.subjects_at_issue.is_some() {
            return found;
        }
        let mut more = Membership::default();
        for (number, group) in &self.reviewers {
            match is_in(group, caller) {
                Fit::Yes => more.sure.push(*number),
                Fit::Unknown if is_past && caller.reviewers.is_none() => more.unrecorded.push(*number),
                Fit::Unknown => more.unknown.push(*number),
                Fit::No | Fit::Unrecorded => {}
            }
        }
        if more == Membership::default() {
            return found;
        }
        more.sure.extend(&found.sure);
        more.unknown.extend(&found.unknown);
        more.unrecorded.extend(&found.unrecorded);
        more.settle();
        Arc::new(more)
    }
}
