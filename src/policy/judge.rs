//! The decision, pure: entries and a question become a judgement.
//!
//! Each act of the operation needs an `allow` entry; a `deny` entry that matches any act denies; a
//! `require` entry that matches any act must be satisfied. What the answer holds of secrets needs
//! entries of its own: a role brings what jobs cannot be submitted without, every other class must
//! be named. An `allow` entry that wants people's approval counts only where no entry without one
//! suffices, and then its approval is an obligation; so it is in `require`. If several things are
//! wrong, the caller is told the one that no new right would mend first: a denial, then what is
//! missing, then secrets, then demands. All of it is kept as the changes that would turn the decision
//! together.

mod ahead;
mod granted;

use std::sync::Arc;

pub(super) use ahead::{azure_scopes, reads_body};
use granted::{BROUGHT_BY_ROLES, Granted};

use super::{
    Denial, DenialCode, Judgement, Obligation, PolicySet, Question, Standing,
    condition::Roots,
    entry::{Context, Entry},
    flip::Change,
    hypothesis::Hypothesis,
    index::{Doubt, Look},
    lent::Human,
    raw::List,
    recording::Recording,
    selector::{Cause, Check, Selector},
    step_up::StepUpWanted,
    words,
};
use crate::azureml::{Act, SecretClass};

/// Of a past request it is not known how its caller signed in.
const UNRECORDED_SIGN_IN: &str = "how the caller signed in is not in the record";

/// How an entry's selectors came out, taken together.
#[derive(Debug, Clone, Default)]
pub(super) struct Fit {
    /// A selector surely does not match.
    fails: bool,
    /// Selectors without a value; empty if all have one.
    pub unevaluable: Vec<(Selector, Cause)>,
}

impl Fit {
    /// Takes one more selector into account.
    pub(super) fn add(&mut self, selector: Selector, check: Check) {
        match check {
            Check::Matches => {}
            Check::Fails => self.fails = true,
            Check::Unevaluable(cause) => self.unevaluable.push((selector, cause)),
        }
    }

    /// Whether the entry matches: what cannot be evaluated counts against the caller.
    pub(super) fn matches(&self, list: List) -> bool {
        !self.fails
            && match list {
                List::Allow => self.unevaluable.is_empty(),
                List::Deny | List::Require => true,
            }
    }

    /// Whether a selector surely does not match.
    pub(super) fn fails(&self) -> bool {
        self.fails
    }

    /// Whether only what cannot be evaluated is in the way.
    pub(super) fn might_match(&self) -> bool {
        !self.fails && !self.unevaluable.is_empty()
    }
}

/// Asks selectors until one fails.
pub(super) fn fit(entry: &Entry, selectors: &[Selector], context: &Context<'_>, act: Option<&Act>) -> Fit {
    let mut fit = Fit::default();
    for &selector in selectors {
        if let Some(check) = entry.check(selector, context, act) {
            fit.add(selector, check);
        }
        if fit.fails {
            break;
        }
    }
    fit
}

/// One act under one entry whose request-wide selectors came out as `of_request`.
pub(super) fn fit_act(entry: &Entry, of_request: &Fit, context: &Context<'_>, act: &Act) -> Fit {
    let mut fit = fit(entry, &Selector::OF_ACT, context, Some(act));
    fit.unevaluable.splice(0..0, of_request.unevaluable.iter().cloned());
    fit
}

/// An entry that denies or demands, and why it matched.
struct Matched<'e> {
    entry: &'e Entry,
    fit: Fit,
}

/// A judgement in the making.
struct Bench<'a> {
    set: &'a PolicySet,
    context: Context<'a>,
    look: Look<'a>,
    hypothesis: &'a Hypothesis,
    judgement: Judgement,
    /// Whether the changes found so far are all that is needed.
    can_be_turned: bool,
}

/// Which entries are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those that the index finds.
    Candidates,
    /// All: what the index must agree with, and where more than the index knows of is open.
    Everything,
}

pub(super) fn judge(
    set: &PolicySet,
    question: &Question<'_>,
    hypothesis: &Hypothesis,
    reach: Reach,
) -> Judgement {
    let seen = set.seen(question.caller);
    let question = &Question { caller: &seen, ..*question };
    let membership = set.membership(question.caller, hypothesis);
    let human = Human::of(set, question.caller, hypothesis.recalled);
    let context = Context::new(question, &membership, hypothesis.recalled).behind(human.as_ref());
    let look = set.index.look(question, &membership);
    let judgement = Judgement::default();
    let bench = Bench { set, context, look, hypothesis, judgement, can_be_turned: true };
    bench.judge(reach)
}

impl<'a> Bench<'a> {
    fn judge(mut self, reach: Reach) -> Judgement {
        let deny = self.deny(reach);
        let allow = self.allow(reach);
        let require = self.require(reach);
        self.judgement.denial = deny.or(allow).or(require);
        if !self.can_be_turned {
            self.judgement.flip.clear();
        }
        if let Some(denial) = &mut self.judgement.denial {
            words::besides(denial, &self.judgement.flip);
            self.judgement.obligations.clear();
            self.judgement.record = None;
            // A watched entry is counted where it would change something.
            self.judgement.would_deny.clear();
            self.judgement.lifted.clear();
        }
        self.judgement
    }

    fn entries(&self, list: List, doubt: Doubt, reach: Reach) -> Vec<&'a Entry> {
        let entries = &self.set.entries;
        match reach {
            Reach::Everything => entries.iter().filter(|e| e.list == list).collect(),
            Reach::Candidates => {
                let found = self.look.candidates(list, doubt);
                found.into_iter().filter_map(|n| entries.get(usize::try_from(n).ok()?)).collect()
            }
        }
    }

    /// The matching entries of `deny` or `require`, each once, by its best-fitting act.
    fn matching(&mut self, list: List, reach: Reach) -> Vec<Matched<'a>> {
        let mut matching = Vec::new();
        for entry in self.entries(list, Doubt::Counts, reach) {
            // What break-glass lifts is looked at all the same: it stands in the record.
            let lifted = entry.is_lifted(&self.context);
            let context = if lifted { self.context.unbroken() } else { self.context };
            let of_request = fit(entry, &Selector::OF_REQUEST, &context, None);
            if of_request.fails || self.hypothesis.leaves(&entry.reference) {
                continue;
            }
            let mut best: Option<(&Act, Fit)> = None;
            for act in &self.context.question.operation.acts {
                let fit = fit_act(entry, &of_request, &context, act);
                let better = best.as_ref().is_none_or(|(_, b)| fit.unevaluable.len() < b.unevaluable.len());
                if fit.matches(list) && better {
                    best = Some((act, fit));
                }
            }
            let Some((act, fit)) = best else { continue };
            self.note(entry, &fit, Some(act));
            if lifted {
                if !entry.is_dry_run(self.context.question.now) {
                    self.judgement.lifted.push(entry.reference.clone());
                    // Never the record: what the entry leaves out of it stays out, too.
                    self.wants(entry);
                    self.judgement.record.get_or_insert_default().join(&Recording::everything());
                }
                continue;
            }
            matching.push(Matched { entry, fit });
        }
        matching
    }

    /// Keeps which bodies an entry that counted wants recorded.
    fn wants(&mut self, entry: &Entry) {
        if let Some(recording) = &entry.record {
            self.judgement.record.get_or_insert_default().join(recording);
        }
    }

    /// Keeps what the record needs of an entry that counted.
    fn note(&mut self, entry: &Entry, fit: &Fit, act: Option<&Act>) {
        for (selector, cause) in &fit.unevaluable {
            let noted = (entry.reference.clone(), selector.name(), cause.to_string());
            self.judgement.unevaluable.push(noted);
        }
        if let (Some(_), Some(Act { action, resource: Some(resource) })) = (entry.rights, act) {
            let found = self.context.question.azure.granting(action.as_str(), resource);
            self.judgement.read.extend(found.map(|by| ("rights.azure".to_owned(), by.into())));
        }
        if let (Some(condition), Some(act)) = (&entry.when, act) {
            for (name, value) in condition.read(&Roots { question: self.context.question, act }) {
                if !self.judgement.read.iter().any(|(known, _)| *known == name) {
                    self.judgement.read.push((name, value));
                }
            }
        }
    }

    fn deny(&mut self, reach: Reach) -> Option<Denial> {
        let now = self.context.question.now;
        let (watched, enforced): (Vec<_>, Vec<_>) =
            self.matching(List::Deny, reach).into_iter().partition(|m| m.entry.is_dry_run(now));
        self.judgement.would_deny.extend(watched.iter().map(|m| m.entry.reference.clone()));
        self.judgement.flip.extend(enforced.iter().map(|m| Change::Leave((&m.entry.reference).into())));
        // An entry that surely matches explains more than one that could not be evaluated.
        let told = enforced.iter().find(|m| m.fit.unevaluable.is_empty()).or(enforced.first())?;
        Some(words::denied(told.entry, &told.fit, &self.context))
    }

    fn allow(&mut self, reach: Reach) -> Option<Denial> {
        let question = self.context.question;
        let acts = &question.operation.acts;
        let held = question.operation.secrets;
        let mut granted = Granted::new(acts.len());
        let mut conditional = Vec::new();
        for entry in self.entries(List::Allow, Doubt::Fails, reach) {
            if held.is_empty() && granted.allowed.iter().all(Option::is_some) && !acts.is_empty() {
                break;
            }
            let of_request = fit(entry, &Selector::OF_REQUEST, &self.context, None);
            if of_request.fails {
                continue;
            }
            match entry.approval_wanted(&self.context) {
                None => self.take(&mut granted, entry, &of_request),
                Some(approval) => conditional.push((entry, of_request, approval)),
            }
        }
        // What needs nobody's approval was looked at first: others are asked for what it lacks.
        for (entry, of_request, approval) in conditional {
            if self.is_wanted(&granted, entry, &of_request) {
                self.take(&mut granted, entry, &of_request);
                self.judgement.obligations.push(Obligation::Approval(Arc::clone(approval)));
            }
        }
        let Granted { allowed, secrets } = granted;
        let missing: Vec<&Act> = acts
            .iter()
            .zip(&allowed)
            .filter(|(act, by)| by.is_none() && !self.hypothesis.grants(act))
            .map(|(act, _)| act)
            .collect();
        let stands_in = question.standing == Standing::PollingCapability;
        self.judgement.allowed_by = allowed.into_iter().flatten().collect();
        let treated: Vec<_> = held
            .iter()
            .map(|class| (class, self.hypothesis.treatment(class).or_else(|| secrets.treatment(class))))
            .collect();
        let ungranted: Vec<_> =
            treated.iter().filter(|(_, how)| how.is_none()).map(|(class, _)| *class).collect();
        self.judgement.flip.extend(ungranted.iter().map(|class| Change::NameSecret(class.name())));
        if acts.is_empty() || (!missing.is_empty() && !stands_in) {
            self.note_undecided(reach);
            self.suppose_granted(&missing);
            let closest = self.closest(&missing, reach);
            return Some(words::not_allowed(&missing, &self.judgement.unevaluable, closest));
        }
        self.judgement.secrets.extend(treated.into_iter().filter_map(|(class, how)| Some((class, how?))));
        (!ungranted.is_empty()).then(|| words::secrets_not_granted(&ungranted, acts))
    }

    /// Takes what an entry lets through, act by act.
    fn take(&mut self, granted: &mut Granted, entry: &Entry, of_request: &Fit) {
        let question = self.context.question;
        for (number, act) in question.operation.acts.iter().enumerate() {
            let fit = fit_act(entry, of_request, &self.context, act);
            let matches = fit.matches(List::Allow);
            granted.secrets.add(entry, number, matches, || self.reaches(entry, of_request, act));
            if matches && let Some(slot @ None) = granted.allowed.get_mut(number) {
                *slot = Some(entry.reference.clone());
                self.note(entry, &fit, Some(act));
                self.wants(entry);
            }
        }
    }

    /// Whether an entry lets through what nothing else does: an act, or a class of secrets for one.
    fn is_wanted(&self, granted: &Granted, entry: &Entry, of_request: &Fit) -> bool {
        let question = self.context.question;
        let held = question.operation.secrets;
        let stands_in = question.standing == Standing::PollingCapability;
        let open = |class: &SecretClass| {
            self.hypothesis.treatment(*class).is_none() && granted.secrets.treatment(*class).is_none()
        };
        let brings = (entry.role.is_some() || entry.rights.is_some())
            && held.iter().any(|class| BROUGHT_BY_ROLES.contains(&class) && open(&class));
        question.operation.acts.iter().enumerate().any(|(number, act)| {
            let is_open = matches!(granted.allowed.get(number), Some(None));
            let named = || {
                held.iter().any(|class| {
                    entry.names(class).is_some() && open(&class) && granted.secrets.lacks(class, number)
                })
            };
            (((is_open && !stands_in && !self.hypothesis.grants(act)) || brings)
                && fit_act(entry, of_request, &self.context, act).matches(List::Allow))
                || (named() && self.reaches(entry, of_request, act))
        })
    }

    /// What would have to be granted: an action at a scope also covers what lies below.
    fn suppose_granted(&mut self, missing: &[&Act]) {
        self.can_be_turned &= !missing.is_empty() && missing.iter().all(|act| act.resource.is_some());
        let covers = |other: &Act, act: &Act| {
            other.action == act.action
                && matches!((&other.resource, &act.resource), (Some(o), Some(a)) if a != o && a.is_within(o))
        };
        for act in missing.iter().filter(|act| !missing.iter().any(|other| covers(other, act))) {
            self.judgement.flip.extend(Change::grant(act));
        }
    }

    /// The first entry that would allow one of `acts` but for one selector, and that selector. Only
    /// entries of the caller's own: of others the caller is told nothing.
    fn closest(&self, acts: &[&Act], reach: Reach) -> Option<(&'a Entry, Selector)> {
        // What the index does not look at is no reason here: it leaves such entries out.
        const REASONS: [Selector; 8] = [
            Selector::As,
            Selector::Kinds,
            Selector::Methods,
            Selector::Path,
            Selector::From,
            Selector::During,
            Selector::Rights,
            Selector::When,
        ];
        let selectors = || Selector::OF_REQUEST.into_iter().chain(Selector::OF_ACT);
        self.entries(List::Allow, Doubt::Fails, reach).into_iter().find_map(|entry| {
            acts.iter().find_map(|act| {
                let mut missed = selectors().filter(|selector| {
                    entry
                        .check(*selector, &self.context, Some(act))
                        .is_some_and(|check| check != Check::Matches)
                });
                let reason = missed.next().filter(|selector| REASONS.contains(selector))?;
                (missed.next().is_none()
                    && entry.check(reason, &self.context, Some(act)) == Some(Check::Fails))
                .then_some((entry, reason))
            })
        })
    }

    /// Notes the entries that would allow some act if all of their selectors could be evaluated.
    fn note_undecided(&mut self, reach: Reach) {
        for entry in self.entries(List::Allow, Doubt::Counts, reach) {
            let of_request = fit(entry, &Selector::OF_REQUEST, &self.context, None);
            if of_request.fails {
                continue;
            }
            for act in &self.context.question.operation.acts {
                let fit = fit_act(entry, &of_request, &self.context, act);
                if fit.might_match() {
                    self.note(entry, &fit, None);
                    break;
                }
            }
        }
    }

    /// Whether an entry's secrets reach an act: every selector but the action itself matches.
    fn reaches(&self, entry: &Entry, of_request: &Fit, act: &Act) -> bool {
        of_request.matches(List::Allow)
            && fit(entry, &[Selector::Scope, Selector::When], &self.context, Some(act)).matches(List::Allow)
    }

    fn require(&mut self, reach: Reach) -> Option<Denial> {
        let now = self.context.question.now;
        let mut told = None;
        // Who is outside a network or a time is not sent to sign in again: it would not help.
        let mut sign_in: Option<(&Entry, StepUpWanted)> = None;
        for Matched { entry, .. } in self.matching(List::Require, reach) {
            if self.hypothesis.satisfies(&entry.reference) {
                continue;
            }
            self.wants(entry);
            if let Some(limit) = entry.limit {
                self.judgement.obligations.push(Obligation::Limit {
                    entry: entry.reference.clone(),
                    requests: limit.requests,
                    every: limit.every,
                    per: limit.per,
                });
            }
            if entry.opinion {
                self.judgement.obligations.push(Obligation::Opinion { entry: entry.reference.clone() });
            }
            let outside_network = entry.is_from(&self.context) == Some(false);
            let outside_hours = entry.is_during(now) == Some(false);
            let sign_in_unmet = entry.is_signed_in(&self.context) == Some(false);
            let approval = entry.approval_wanted(&self.context);
            let unmet = outside_network || outside_hours || sign_in_unmet;
            let review = entry.review_wanted(&self.context);
            if !unmet && approval.is_none() && review.is_none() {
                continue;
            }
            if entry.is_dry_run(now) {
                self.judgement.would_deny.push(entry.reference.clone());
                continue;
            }
            self.judgement.obligations.extend(review.cloned().map(Obligation::Review));
            self.judgement.obligations.extend(approval.cloned().map(Obligation::Approval));
            if !unmet {
                continue;
            }
            self.judgement.flip.insert(Change::Satisfy((&entry.reference).into()));
            if sign_in_unmet && self.context.recalled.is_some() {
                let noted = (entry.reference.clone(), Selector::StepUp.name(), UNRECORDED_SIGN_IN.to_owned());
                self.judgement.unevaluable.push(noted);
            }
            if sign_in_unmet && let Some(demand) = &entry.step_up {
                let fresh = || (entry, StepUpWanted::of(self.context.question.caller));
                sign_in.get_or_insert_with(fresh).1.add(demand);
            }
            if told.is_none() && (outside_network || outside_hours) {
                let code =
                    if outside_network { DenialCode::OutsideNetwork } else { DenialCode::OutsideHours };
                told = Some(words::outside(code, entry, &self.context));
            }
        }
        told.or_else(|| {
            let (entry, wanted) = sign_in?;
            Some(words::stepped_up(entry, entry.step_up.as_ref()?, wanted, &self.context))
        })
    }
}
