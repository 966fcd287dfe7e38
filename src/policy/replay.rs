//! Past requests under other policies: what would have been decided?
//!
//! A record holds no claims, no body, no headers and no values of the query. What an entry reads of
//! these is open; so the question is judged twice, once with everything open for the caller and once
//! against. Entries can only add or take away, so the truth lies between the two: where they agree
//! it is decided, elsewhere it is said to be undecidable, never guessed.

pub use super::hypothesis::{Favours, Recalled};
use super::{Hypothesis, Judgement, PolicySet, Question, judge};

/// What these policies make of a past request.
#[derive(Debug, Clone, PartialEq)]
pub enum Replayed {
    /// The decision, whatever was not recorded.
    Decided(Box<Judgement>),
    /// It depends on what was not recorded: which entries, by which selector, read what.
    Undecidable(Vec<String>),
}

/// Judges a past request. `skus`: whether its record holds all VM sizes that it may have reserved.
#[must_use]
pub fn replay(set: &PolicySet, question: &Question<'_>, skus: bool) -> Replayed {
    let judged = |favours| {
        let recalled = Some(Recalled { favours, skus });
        let hypothesis = Hypothesis { recalled, ..Hypothesis::default() };
        judge::judge(set, question, &hypothesis, judge::Reach::Everything)
    };
    let (for_caller, against) = (judged(Favours::Caller), judged(Favours::Policies));
    let answer = |judgement: &Judgement| {
        let secrets = judgement.denial.is_none().then(|| judgement.secrets.clone());
        let mut asked: Vec<_> = judgement.approvals().map(|approval| approval.version).collect();
        asked.sort_unstable();
        let mut reviewed: Vec<_> = judgement.reviews().map(|review| review.entry.clone()).collect();
        reviewed.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        (judgement.denial.is_none(), secrets, asked, reviewed)
    };
    if answer(&for_caller) == answer(&against) {
        return Replayed::Decided(Box::new(against));
    }
    let open = |(entry, selector, why): &(super::EntryRef, &str, String)| {
        format!("entry `{}` reads at `{selector}` what was not recorded: {why}", entry.name)
    };
    let known = |noted: &&(super::EntryRef, &str, String)| for_caller.unevaluable.contains(noted);
    let mut why: Vec<_> = against.unevaluable.iter().filter(|noted| !known(noted)).map(open).collect();
    why.dedup();
    if why.is_empty() {
        why.push("entries that name secrets read what was not recorded".to_owned());
    }
    Replayed::Undecidable(why)
}
