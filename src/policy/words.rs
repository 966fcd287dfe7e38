//! Denials in words: one line of cause, one line of cure.
//!
//! The caller learns the action, the scope and the entry that decided, and what would change it. The
//! caller does not learn who else is exempt, which subjects exist, or whether the resource does.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Denial, DenialCode, EntryRef,
    entry::{Context, Entry},
    flip::{Change, Named},
    judge::Fit,
    selector::{Check, Selector},
    step_up::{self, StepUp, StepUpWanted},
};
use crate::azureml::{Act, Operation, SecretClass, UnknownOperation};

impl Denial {
    /// The request cannot be named, so nothing can allow it.
    #[must_use]
    pub fn unknown_operation(unknown: &UnknownOperation) -> Self {
        Self {
            code: DenialCode::UnknownOperation,
            cause: unknown.to_string(),
            cure: "nobody can allow it: the gate lets through only what it understands".to_owned(),
            entry: None,
            missing: Vec::new(),
            step_up: None,
            request: None,
        }
    }

    /// An entry's limit is used up for now.
    #[must_use]
    pub fn limit_exceeded(entry: &EntryRef, requests: u32, every: Duration, again_in: Duration) -> Self {
        Self {
            code: DenialCode::LimitExceeded,
            cause: format!("entry `{}` lets through {requests} requests in {every:?}", entry.name),
            cure: format!("send it again in {} s", again_in.as_secs().max(1)),
            entry: Some(entry.clone()),
            missing: Vec::new(),
            step_up: None,
            request: None,
        }
    }
}

/// How many missing rights are spelled out in the text; all are in the details.
const SPELLED_OUT: usize = 3;

fn scope_of(act: &Act) -> String {
    act.resource.as_ref().map_or_else(|| "(not told by the request)".to_owned(), ToString::to_string)
}

/// An operation's name and its acts.
pub(super) fn about(operation: &Operation) -> String {
    let acts: Vec<_> = operation.acts.iter().collect();
    let rights = rights(&acts);
    // An act that is asked about by itself has no other name.
    let itself = acts.iter().any(|act| act.action.as_str() == &*operation.name);
    if itself { rights } else { format!("{}: {rights}", operation.name) }
}

fn rights(acts: &[&Act]) -> String {
    let spelled: Vec<_> = acts
        .iter()
        .take(SPELLED_OUT)
        .map(|act| format!("`{}` at `{}`", act.action.as_str(), scope_of(act)))
        .collect();
    let more = acts.len().saturating_sub(SPELLED_OUT);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", spelled.join(", "))
}

/// No entry allows some act.
pub(super) fn not_allowed(
    missing: &[&Act],
    unevaluable: &[(EntryRef, &'static str, String)],
    closest: Option<(&Entry, Selector)>,
) -> Denial {
    let mut cause = if missing.is_empty() {
        "the request names nothing that could be allowed".to_owned()
    } else {
        format!("no entry allows you {}", rights(missing))
    };
    if let Some((entry, selector, why)) = unevaluable.last() {
        cause.push_str(&format!("; entry `{}` could not be evaluated at `{selector}`: {why}", entry.name));
    } else if let Some((entry, selector)) = closest {
        cause.push_str(&format!(
            "; entry `{}` would, but for its `{}`",
            entry.reference.name,
            selector.name()
        ));
    }
    let cure = if missing.is_empty() {
        "nobody can allow it".to_owned()
    } else {
        "whoever keeps the gate's policies can grant it with an `allow` entry, or by adding you to a subject \
         that has it"
            .to_owned()
    };
    Denial {
        code: DenialCode::AuthorizationFailed,
        cause,
        cure,
        entry: None,
        missing: missing.iter().map(|act| (act.action.as_str().to_owned(), scope_of(act))).collect(),
        step_up: None,
        request: None,
    }
}

/// An entry denies.
pub(super) fn denied(entry: &Entry, fit: &Fit, context: &Context<'_>) -> Denial {
    let name = &entry.reference.name;
    let mut cause = format!("entry `{name}` denies {}", subject_matter(entry, context));
    if let Some((selector, why)) = fit.unevaluable.first() {
        cause.push_str(&format!(
            "; its `{}` could not be evaluated and so counts as matching: {why}",
            selector.name()
        ));
    }
    let cure = match &entry.unless {
        Some(unless) if unless.break_glass => {
            "no right lifts it; in an emergency break-glass does, for whoever may: `amlgate break-glass open --reason WORDS`"
        }
        Some(_) => "only callers whom the entry exempts may; no further right lifts it",
        None => "no right lifts it: it stands until the entry is changed in the gate's policies",
    };
    Denial {
        code: DenialCode::RequestDisallowedByPolicy,
        cause,
        cure: cure.to_owned(),
        entry: Some(entry.reference.clone()),
        missing: Vec::new(),
        step_up: None,
        request: None,
    }
}

/// Says what else is in the way, so that nobody mends one thing to be told of the next. It names
/// entries that concern the caller's own request, never subjects: who exists is not told.
pub(super) fn besides(denial: &mut Denial, flip: &BTreeSet<Change>) {
    let of_entry = |entry: &Named| denial.entry.as_ref().is_some_and(|told| Named::from(told) == *entry);
    let rest: Vec<String> = flip
        .iter()
        .filter_map(|change| match change {
            Change::Leave(entry) | Change::Satisfy(entry) if of_entry(entry) => None,
            Change::Leave(entry) => Some(format!("entry `{}` denies it too", entry.name())),
            Change::Satisfy(entry) => {
                Some(format!("entry `{}` demands what does not hold now", entry.name()))
            }
            Change::Grant(..) if denial.code == DenialCode::AuthorizationFailed => None,
            Change::Grant(action, scope) => Some(format!("no entry allows you `{action}` at `{scope}`")),
            Change::NameSecret(_) if denial.code == DenialCode::SecretsNotGranted => None,
            Change::NameSecret(class) => Some(format!("no entry names secrets of class `{class}` for you")),
            Change::Join(_) => None,
        })
        .collect();
    if rest.is_empty() {
        return;
    }
    let spelled: Vec<_> = rest.iter().take(SPELLED_OUT).map(String::as_str).collect();
    let more = rest.len().saturating_sub(SPELLED_OUT);
    let tail = if more > 0 { format!(", and {more} more") } else { String::new() };
    denial.cure.push_str(&format!("; besides, {}{tail}", spelled.join(", ")));
}

/// What about the request an entry is concerned with, as far as its selectors tell.
fn subject_matter(entry: &Entry, context: &Context<'_>) -> String {
    let operation = context.question.operation;
    if let Some(wanted) = entry.effects {
        let met = operation.effects.union(operation.unclear_effects).intersection(wanted);
        let names: Vec<_> = met.iter().map(|e| format!("`{}`", e.name())).collect();
        return format!("what brings about {}", names.join(", "));
    }
    let matched = operation.acts.iter().find(|act| {
        [Selector::Scope, Selector::Actions]
            .into_iter()
            .all(|s| entry.check(s, context, Some(act)).is_none_or(|check| check != Check::Fails))
    });
    matched.map_or_else(|| "this request".to_owned(), |act| rights(&[act]))
}

/// The answer holds secrets that no entry names.
pub(super) fn secrets_not_granted(classes: &[SecretClass], acts: &[Act]) -> Denial {
    let names: Vec<_> = classes.iter().map(|class| format!("`{}`", class.name())).collect();
    let acts: Vec<_> = acts.iter().collect();
    let class = classes.first().map_or("", |class| class.name());
    // Only what is used at the gate itself can be replaced by a handle.
    let handles = [SecretClass::EndpointKey, SecretClass::EndpointToken];
    let treatment =
        if classes.first().is_some_and(|c| handles.contains(c)) { "substitute" } else { "reveal" };
    Denial {
        code: DenialCode::SecretsNotGranted,
        cause: format!(
            "the answer to {} holds secrets of class {}, which no entry names for you",
            rights(&acts),
            names.join(", ")
        ),
        cure: format!(
            "whoever keeps the gate's policies can add `secrets: {{{class}: {treatment}}}` to an `allow` entry of yours"
        ),
        entry: None,
        missing: Vec::new(),
        step_up: None,
        request: None,
    }
}

/// The caller's sign-in is not what an entry demands; `wanted` is what all such entries demand.
pub(super) fn stepped_up(
    entry: &Entry,
    demand: &StepUp,
    wanted: StepUpWanted,
    context: &Context<'_>,
) -> Denial {
    let (cause, cure) = step_up::demanded(&entry.reference, demand, context.question.caller);
    Denial {
        code: DenialCode::StepUpRequired,
        cause,
        cure,
        entry: Some(entry.reference.clone()),
        missing: Vec::new(),
        step_up: Some(Box::new(wanted)),
        request: None,
    }
}

/// A demanded network or time does not hold the request.
pub(super) fn outside(code: DenialCode, entry: &Entry, context: &Context<'_>) -> Denial {
    let name = &entry.reference.name;
    let now = context.question.now;
    let (cause, cure) = if code == DenialCode::OutsideNetwork {
        let names: Vec<_> =
            entry.from.iter().flatten().map(|network| format!("`{}`", network.name)).collect();
        (
            format!("entry `{name}` demands a network that does not hold your address {}", context.source),
            format!("send it from the network {}", names.join(" or ")),
        )
    } else {
        let calendars = || entry.during.iter().flatten();
        let hours: Vec<_> = calendars().map(ToString::to_string).collect();
        let local = calendars().next().map(|calendar| calendar.local(now)).unwrap_or_default();
        let next = calendars().filter_map(|calendar| calendar.next_opening(now)).min();
        (
            format!("entry `{name}` demands `{}`, and it is {local} there", hours.join("` or `")),
            next.map_or_else(
                || "the calendar names no day".to_owned(),
                |at| format!("send it again from {} on", at.to_rfc3339()),
            ),
        )
    };
    Denial {
        code,
        cause,
        cure,
        entry: Some(entry.reference.clone()),
        missing: Vec::new(),
        step_up: None,
        request: None,
    }
}
