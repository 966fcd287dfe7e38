//! One decision, taken apart for people who may read the policies: what decided, every entry that was
//! held against the question, and what would turn it. `policy why`, the API and the console show it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    EntryRef, EntryTrace, PolicySet, SelectorTrace, Verdict, described::Described, flip, may::But,
    permit::Told,
};

/// What decided, and what came close.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Explained {
    /// `allow`, `needs_review`, `needs_approval` or `deny`.
    #[schemars(extend("enum" = ["allow", "needs_review", "needs_approval", "deny"]))]
    pub decision: &'static str,
    /// What was asked.
    pub about: String,
    /// The code of the refusal.
    pub code: Option<&'static str>,
    /// Why it is refused.
    pub cause: Option<String>,
    /// What the caller is told to do about it; `None` unless it is denied.
    pub cure: Option<String>,
    /// The entries that allow it, one for each act.
    pub allowed_by: Vec<EntryRef>,
    /// The role assignment in Azure that an entry with `rights: azure` goes by.
    pub through: Option<String>,
    /// Entries that are only watched yet, and would deny it.
    pub would_deny: Vec<EntryRef>,
    /// Effects with which it is refused all the same.
    pub but: Vec<But>,
    /// Every entry.
    pub entries: Vec<Considered>,
    /// The smallest sets of changes that turn a refusal.
    pub flips: Vec<Vec<String>>,
    /// Whether all such sets were looked for.
    #[serde(skip)]
    pub exhaustive: bool,
}

/// An entry that was held against the question.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ConsideredEntry")]
pub struct Considered {
    /// `allow`, `deny` or `require`.
    pub list: String,
    /// Its name and place.
    pub entry: EntryRef,
    /// Whether it counts.
    pub counts: bool,
    /// Whether it is only watched.
    pub dry_run: bool,
    /// Whose approval it demands.
    pub approval: Option<String>,
    /// From which reviewed change it demands the code to come.
    pub review: Option<String>,
    /// What each of its selectors says.
    pub selectors: Vec<Held>,
    /// Whether it comes close: it counts, or misses by one selector.
    #[serde(skip)]
    pub close: bool,
}

/// What one selector says.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "SelectorVerdict")]
pub struct Held {
    /// Which.
    pub selector: &'static str,
    /// Of which act, by its place in the operation.
    pub act: Option<usize>,
    /// `matches`, `fails` or `unevaluable`.
    #[schemars(extend("enum" = ["matches", "fails", "unevaluable"]))]
    pub verdict: &'static str,
    /// What was wanted and what was found, in words.
    pub detail: String,
    /// The act's action, where there are several.
    #[serde(skip)]
    pub of: Option<String>,
}

impl Explained {
    /// Takes the gate's own decision on a question apart. It is slow: for people.
    #[must_use]
    pub fn of(set: &PolicySet, described: &Described) -> Self {
        let judgement = described.judge(set);
        let question = described.question();
        let traces = question.as_ref().map(|q| set.trace(q)).unwrap_or_default();
        let flips = question.as_ref().map(|q| flip::flips(set, q)).unwrap_or_default();
        let acts = question.as_ref().map_or(&[][..], |q| &q.operation.acts);
        let actions: Vec<&str> = acts.iter().map(|act| act.action.as_str()).collect();
        let Told { decision, code, cause } = judgement.told();
        Self {
            decision,
            about: described.about(),
            code,
            cause,
            cure: judgement.denial.map(|denial| denial.cure),
            through: described.assignment(),
            but: But::all(set, described),
            entries: traces.iter().map(|trace| Considered::of(trace, &actions)).collect(),
            flips: flips.sets.iter().map(|set| set.iter().map(ToString::to_string).collect()).collect(),
            exhaustive: flips.exhaustive,
            allowed_by: judgement.allowed_by,
            would_deny: judgement.would_deny,
        }
    }
}

impl Considered {
    fn of(trace: &EntryTrace, actions: &[&str]) -> Self {
        let missed = trace.selectors.iter().filter(|s| s.verdict != Verdict::Matches);
        let missed: BTreeSet<_> = missed.map(|s| s.selector.name()).collect();
        let held = |selector: &SelectorTrace| Held {
            selector: selector.selector.name(),
            act: selector.act,
            verdict: match selector.verdict {
                Verdict::Matches => "matches",
                Verdict::Fails => "fails",
                Verdict::Unevaluable => "unevaluable",
            },
            detail: selector.detail.clone(),
            of: selector
                .act
                .filter(|_| actions.len() > 1)
                .and_then(|act| actions.get(act))
                .map(ToString::to_string),
        };
        Self {
            list: format!("{:?}", trace.list).to_lowercase(),
            entry: trace.entry.clone(),
            counts: trace.matches,
            dry_run: trace.dry_run,
            approval: trace.approval.as_ref().map(|approval| approval.words()),
            review: trace.review.as_ref().map(|review| review.words()),
            selectors: trace.selectors.iter().map(held).collect(),
            close: trace.matches || missed.len() <= 1,
        }
    }
}
