//! `as: human`: what an agent may do because the human may for whom it acts.
//!
//! The human's own `allow` entries are asked, as if the human called: by the same checks, with the
//! human's subjects. Nothing of secrets comes along: an entry that lets something through for its
//! secrets alone does not count, and treatments are never taken over. Entries that themselves lend
//! are left out, so that nothing is lent twice; so is what the human may only do with an approval.

use std::sync::Arc;

use super::{
    PolicySet, Question,
    entry::Context,
    hypothesis::{Hypothesis, Recalled},
    index::Doubt,
    judge::{fit, fit_act},
    raw::List,
    selector::{Check, Selector},
    who::Membership,
};
use crate::{azureml::Act, identity::Caller};

/// The human behind an agent, as the policies see them.
#[derive(Debug)]
pub(super) struct Human<'a> {
    set: &'a PolicySet,
    caller: Caller,
    membership: Arc<Membership>,
}

impl<'a> Human<'a> {
    /// The human for whom `caller` acts; `None` for whoever acts for nobody. A handle's holder is not
    /// known well enough.
    pub(super) fn of(set: &'a PolicySet, caller: &Caller, recalled: Option<Recalled>) -> Option<Self> {
        if !set.lends || caller.subjects_at_issue.is_some() {
            return None;
        }
        let caller = caller.human_served()?;
        let hypothesis = Hypothesis { recalled, ..Hypothesis::default() };
        let membership = set.membership(&caller, &hypothesis);
        Some(Self { set, caller, membership })
    }

    /// The question as the human would ask it.
    pub(super) fn question<'q>(&'q self, question: &Question<'q>) -> Question<'q> {
        Question { caller: &self.caller, ..*question }
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether an entry of the human's own allows an act.
    pub(super) fn may(&self, asked: &Context<'_>, act: &Act) -> Check {
        let question = self.question(asked.question);
        let context = Context { question: &question, membership: &self.membership, human: None, ..*asked };
        let look = self.set.index.look(&question, &self.membership);
        let candidates = match asked.recalled {
            None => look.candidates(List::Allow, Doubt::Counts),
            // More than the index knows of is open.
            Some(_) => (0..).take(self.set.entries.len()).collect(),
        };
        let entries = candidates.into_iter().filter_map(|n| self.set.entries.get(usize::try_from(n).ok()?));
        let own = |entry: &&super::entry::Entry| {
            entry.list == List::Allow
                && !entry.as_human
                && entry.approval.is_none()
                && (entry.secrets.is_none() || entry.names_acts())
        };
        let mut doubt = None;
        for entry in entries.filter(own) {
            let of_request = fit(entry, &Selector::OF_REQUEST, &context, None);
            if of_request.fails() {
                continue;
            }
            let fit = fit_act(entry, &of_request, &context, act);
            if fit.matches(List::Allow) {
                return Check::Matches;
            }
            if fit.might_match() && doubt.is_none() {
                doubt = fit.unevaluable.into_iter().next().map(|(_, cause)| cause);
            }
        }
        doubt.map_or(Check::Fails, Check::Unevaluable)
    }
}
