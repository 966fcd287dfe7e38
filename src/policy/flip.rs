//! The flip: the smallest change that turns a denial (DECISIONS 5).
//!
//! Changes are supposed, and the one judge is asked again; so what is printed is true by
//! construction. Conditions are not solved: to leave a `deny` means to leave one of its selectors,
//! and its conditions are shown with their values by the trace.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{EntryRef, EntryTrace, Hypothesis, PolicySet, Question, SecretTreatment, raw::List};
use crate::azureml::{Action, ResourceId, SecretClass};

/// The largest set of changes that is looked for by trying all; beyond it the set is only such that
/// none of its changes can be left out.
const EXHAUSTIVE: usize = 3;
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

impl Named {
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

/// The smallest sets of changes that turn the denial, each by itself; empty if none does, or if
/// nothing is denied.
#[must_use]
pub fn flips(set: &PolicySet, question: &Question<'_>) -> Vec<BTreeSet<Change>> {
    if set.judge(question).denial.is_none() {
        return Vec::new();
    }
    let mut search = Search { set, question, left: PATIENCE };
    let changes = search.candidates();
    let found = search.smallest(&changes);
    if found.is_empty() { search.irreducible(&changes).into_iter().collect() } else { found }
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

struct Search<'a> {
    set: &'a PolicySet,
    question: &'a Question<'a>,
    left: usize,
}

impl Search<'_> {
    fn turns<'c>(&mut self, changes: impl IntoIterator<Item = &'c Change>) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0 && self.set.judge_if(self.question, &supposed(changes)).denial.is_none()
    }

    /// Every change that could matter: by what the entries say, held against the question.
    fn candidates(&self) -> Vec<Change> {
        let mut changes = BTreeSet::new();
        for trace in self.set.trace(self.question) {
            match trace.list {
                List::Deny if trace.matches && !trace.dry_run => {
                    changes.insert(Change::Leave((&trace.entry).into()));
                    changes.extend(trace.exempts.iter().cloned().map(Change::Join));
                }
                List::Require if !trace.unmet.is_empty() && !trace.dry_run => {
                    changes.insert(Change::Satisfy((&trace.entry).into()));
                    changes.extend(trace.exempts.iter().cloned().map(Change::Join));
                }
                List::Allow if only_who_fails(&trace) => {
                    changes.extend(trace.who.iter().cloned().map(Change::Join));
                }
                List::Allow | List::Deny | List::Require => {}
            }
        }
        changes.extend(self.question.operation.acts.iter().filter_map(|act| {
            let scope = act.resource.as_ref()?;
            Some(Change::Grant(act.action.as_str().to_owned(), scope.as_str().to_owned()))
        }));
        changes.extend(self.question.operation.secrets.iter().map(|c| Change::NameSecret(c.name())));
        changes.into_iter().collect()
    }

    /// All sets of the smallest size that turn the denial, up to [`EXHAUSTIVE`].
    fn smallest(&mut self, changes: &[Change]) -> Vec<BTreeSet<Change>> {
        for size in 1..=EXHAUSTIVE.min(changes.len()) {
            let mut found = Vec::new();
            let mut chosen: Vec<usize> = (0..size).collect();
            loop {
                let subset: Vec<&Change> = chosen.iter().filter_map(|at| changes.get(*at)).collect();
                if self.turns(subset.iter().copied()) {
                    found.push(subset.into_iter().cloned().collect());
                }
                if found.len() == SHOWN || self.left == 0 || !next(&mut chosen, changes.len()) {
                    break;
                }
            }
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// All changes together, less every one that can be left out.
    fn irreducible(&mut self, changes: &[Change]) -> Option<BTreeSet<Change>> {
        self.left = self.left.max(changes.len() * 2 + 2);
        let mut kept: BTreeSet<Change> = changes.iter().cloned().collect();
        if !self.turns(&kept) {
            return None;
        }
        for change in changes.iter().rev() {
            let mut without = kept.clone();
            without.remove(change);
            if self.turns(&without) {
                kept = without;
            }
        }
        Some(kept)
    }
}

/// Whether `who` is all that is in the way of an entry of `allow`, for some act.
fn only_who_fails(trace: &EntryTrace) -> bool {
    use super::{Selector, Verdict};
    let fits = |act: Option<usize>| {
        trace.selectors.iter().filter(|s| s.act == act).all(|s| {
            s.verdict == Verdict::Matches || (s.selector == Selector::Who && s.verdict != Verdict::Matches)
        })
    };
    let acts: BTreeSet<_> = trace.selectors.iter().filter_map(|s| s.act).collect();
    !trace.matches && fits(None) && (acts.is_empty() || acts.into_iter().any(|act| fits(Some(act))))
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
