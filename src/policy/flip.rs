//! The flip: the smallest change that turns a denial (DECISIONS 5).
//!
//! Changes are supposed, and the one judge is asked again; so what is printed is true by
//! construction. The 403 says the part that makes the caller nobody else, from the same judgement,
//! and names no subject. Conditions are not solved: to leave a `deny` means to leave one of its
//! selectors, and its conditions are shown with their values by the trace.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{
    EntryRef, EntryTrace, Hypothesis, PolicySet, Question, SecretTreatment, Selector, Verdict, raw::List,
};
use crate::azureml::{Act, Action, ResourceId, SecretClass};

/// At most so many different smallest sets are given.
const SHOWN: usize = 8;
/// At most so many judgements are asked for.
const PATIENCE: usize = 20_000;

/// One change. They are ordered as they are offered: what concerns one request before what lasts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// The request leaves a selector of this entry of `deny`, or the demands of this entry of
    /// `require` are met.
    Leave(Named),
    /// What this entry of `require` demands is met.
    Satisfy(Named),
    /// The caller joins a subject.
    Join(Arc<str>),
    /// A class of secrets is named by an entry, for handles.
    NameSecret(&'static str),
    /// An action is granted at a scope.
    Grant(String, String),
}

/// An entry by name and place, in the order of files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    file: Arc<str>,
    line: u32,
    name: Arc<str>,
}

impl From<&EntryRef> for Named {
    fn from(entry: &EntryRef) -> Self {
        Self { file: Arc::clone(&entry.file), line: entry.line, name: Arc::clone(&entry.name) }
    }
}

impl Change {
    /// To grant an act where it is done; `None` if the request does not say where that is.
    pub(super) fn grant(act: &Act) -> Option<Self> {
        let scope = act.resource.as_ref()?;
        Some(Self::Grant(act.action.as_str().to_owned(), scope.as_str().to_owned()))
    }
}

impl Named {
    /// The entry's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn reference(&self) -> EntryRef {
        EntryRef { name: Arc::clone(&self.name), file: Arc::clone(&self.file), line: self.line }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave(entry) => {
                write!(f, "leave a selector of `{}` ({}:{})", entry.name, entry.file, entry.line)
            }
            Self::Satisfy(entry) => {
                write!(f, "meet what `{}` demands ({}:{})", entry.name, entry.file, entry.line)
            }
            Self::Join(subject) => write!(f, "join the subject `{subject}`"),
            Self::NameSecret(class) => write!(f, "name the secret class `{class}` in an entry"),
            Self::Grant(action, scope) => write!(f, "grant `{action}` at `{scope}`"),
        }
    }
}

/// The smallest sets of changes that turn a denial.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flips {
    /// Each by itself turns it, and all are equally small: what the caller is told first, then those
    /// with subjects to join; at most eight. Empty if nothing turns it, or nothing is denied.
    pub sets: Vec<BTreeSet<Change>>,
    /// Whether nothing smaller was left untried; `false` only where so many subjects could be joined
    /// that trying all of their combinations would take too long.
    pub exhaustive: bool,
}

/// The smallest sets of changes that turn the denial.
///
/// What is in the way of one request is known from judging it once, and each obstacle needs a
/// change of its own ([`Judgement::flip`](super::Judgement::flip)). Only joining subjects can save
/// some of them; so subjects are tried, one, then two at a time, as long as that can be smaller.
#[must_use]
pub fn flips(set: &PolicySet, question: &Question<'_>) -> Flips {
    let judgement = set.judge(question);
    if judgement.denial.is_none() {
        return Flips { sets: Vec::new(), exhaustive: true };
    }
    let (mut best, mut sets) = match judgement.flip.len() {
        0 => (usize::MAX, Vec::new()),
        size => (size, vec![judgement.flip]),
    };
    let subjects: Vec<_> = joinable(set, question).into_iter().collect();
    let mut left = PATIENCE;
    for size in 1..=subjects.len() {
        if size > best {
            break;
        }
        let mut chosen: Vec<usize> = (0..size).collect();
        loop {
            if left == 0 {
                return Flips { sets, exhaustive: false };
            }
            left -= 1;
            let joins = chosen.iter().filter_map(|at| subjects.get(*at)).cloned().map(Change::Join);
            let mut changes: BTreeSet<Change> = joins.collect();
            let after = set.judge_if(question, &supposed(&changes));
            let turns = after.denial.is_none() || !after.flip.is_empty();
            changes.extend(after.flip);
            if turns && changes.len() <= best {
                if changes.len() < best {
                    best = changes.len();
                    sets.clear();
                }
                // A subject that saves nothing is no part of a smallest set.
                if sets.len() < SHOWN {
                    sets.push(changes);
                }
            }
            if !next(&mut chosen, subjects.len()) {
                break;
            }
        }
    }
    Flips { sets, exhaustive: true }
}

/// Whether these changes turn the denial.
#[must_use]
pub fn turns(set: &PolicySet, question: &Question<'_>, changes: &BTreeSet<Change>) -> bool {
    set.judge_if(question, &supposed(changes)).denial.is_none()
}

fn supposed<'c>(changes: impl IntoIterator<Item = &'c Change>) -> Hypothesis {
    let mut hypothesis = Hypothesis::default();
    for change in changes {
        match change {
            Change::Leave(entry) => hypothesis.left.push(entry.reference()),
            Change::Satisfy(entry) => hypothesis.satisfied.push(entry.reference()),
            Change::Join(subject) => hypothesis.joins.push(Arc::clone(subject)),
            Change::NameSecret(name) => {
                let class = SecretClass::ALL.iter().find(|c| c.name() == *name);
                hypothesis.secrets.extend(class.map(|c| (*c, SecretTreatment::Substitute)));
            }
            Change::Grant(action, scope) => {
                let scope = ResourceId::parse(scope);
                hypothesis.granted.extend(scope.map(|scope| (Action::new(action), scope)));
            }
        }
    }
    hypothesis
}

/// The subjects that could make a difference: those of `allow` entries that nothing else keeps from
/// the request, and those that entries of `deny` and `require` exempt.
fn joinable(set: &PolicySet, question: &Question<'_>) -> BTreeSet<Arc<str>> {
    let mut subjects = BTreeSet::new();
    for trace in set.trace(question) {
        match trace.list {
            List::Allow if !trace.who.is_empty() && fits_but(&trace, &[Selector::Who]) => {
                subjects.extend(trace.who);
            }
            // What an entry grants of secrets reaches further than its actions.
            List::Allow
                if !question.operation.secrets.is_empty()
                    && fits_but(
                        &trace,
                        &[Selector::Who, Selector::Role, Selector::Rights, Selector::Actions],
                    ) =>
            {
                subjects.extend(trace.who);
            }
            // The entry may come to match by another subject that is joined.
            List::Deny | List::Require
                if !trace.dry_run && fits_but(&trace, &[Selector::Who, Selector::Unless]) =>
            {
                subjects.extend(trace.exempts);
            }
            List::Allow | List::Deny | List::Require => {}
        }
    }
    subjects
}

/// Whether an entry's selectors, `but` some, keep it from no act.
fn fits_but(trace: &EntryTrace, but: &[Selector]) -> bool {
    let kept = |verdict| match trace.list {
        List::Allow => verdict != Verdict::Matches,
        List::Deny | List::Require => verdict == Verdict::Fails,
    };
    let fits = |act: Option<usize>| {
        trace
            .selectors
            .iter()
            .filter(|s| s.act == act && !but.contains(&s.selector))
            .all(|s| !kept(s.verdict))
    };
    let acts: BTreeSet<_> = trace.selectors.iter().filter_map(|s| s.act).collect();
    fits(None) && (acts.is_empty() || acts.into_iter().any(|act| fits(Some(act))))
}

/// The next choice of as many out of `of`, in order; `false` after the last.
fn next(chosen: &mut [usize], of: usize) -> bool {
    let size = chosen.len();
    for at in (0..size).rev() {
        let Some(place) = chosen.get_mut(at) else { return false };
        if *place + (size - at) < of {
            *place += 1;
            let mut value = *place;
            for later in chosen.iter_mut().skip(at + 1) {
                value += 1;
                *later = value;
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_comes_once_and_in_order() {
        let mut chosen = vec![0, 1];
        let mut all = vec![chosen.clone()];
        while next(&mut chosen, 4) {
            all.push(chosen.clone());
        }
        assert_eq!(all, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]);
    }
}
