//! Every entry held against a question, selector by selector, for people who ask why.
//!
//! The verdicts come from the same checks as the judgement; only nothing is cut short here.

use std::sync::Arc;

use super::{
    Approval, EntryRef, Hypothesis, PolicySet, Question, Review,
    entry::{Context, Entry},
    judge::Fit,
    lent::Human,
    raw::List,
    rights::Word,
    selector::{Check, Selector},
    who::SubjectIx,
};
use crate::azureml::Act;

/// What one entry says of a question.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryTrace {
    /// The entry.
    pub entry: EntryRef,
    /// Its list.
    pub list: List,
    /// Whether it is only watched (`dry_run_until`).
    pub dry_run: bool,
    /// Every selector that the entry has: those of the request, then for each act those of the act.
    pub selectors: Vec<SelectorTrace>,
    /// Whether the entry counts: in `allow`, for every act that the next field names.
    pub matches: bool,
    /// The acts (by their place in the operation) for which it counts.
    pub acts: Vec<usize>,
    /// In `require`: what it demands and does not get.
    pub unmet: Vec<Selector>,
    /// The approval without which it lets nothing through, or holds up what it matches.
    pub approval: Option<Arc<Approval>>,
    /// The review without which it holds up what it matches.
    pub review: Option<Arc<Review>>,
    /// The subjects that `who` names; empty for every caller.
    pub who: Vec<Arc<str>>,
    /// The subjects that `unless` exempts.
    pub exempts: Vec<Arc<str>>,
}

/// What one selector says.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectorTrace {
    /// Which.
    pub selector: Selector,
    /// For a selector of an act: which act, by its place in the operation.
    pub act: Option<usize>,
    /// The verdict.
    pub verdict: Verdict,
    /// What was wanted and what was found, in words.
    pub detail: String,
}

/// Whether a selector matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Matches,
    /// It does not.
    Fails,
    /// It cannot be evaluated: counts as matching in `deny` and `require`, as failing in `allow`.
    Unevaluable,
}

pub(super) fn trace(set: &PolicySet, question: &Question<'_>, hypothesis: &Hypothesis) -> Vec<EntryTrace> {
    let seen = set.seen(question.caller);
    let question = &Question { caller: &seen, ..*question };
    let membership = set.membership(question.caller, hypothesis);
    let human = Human::of(set, question.caller, hypothesis.recalled);
    let context = Context::new(question, &membership, hypothesis.recalled).behind(human.as_ref());
    set.entries.iter().map(|entry| of_entry(set, entry, &context)).collect()
}

fn of_entry(set: &PolicySet, entry: &Entry, context: &Context<'_>) -> EntryTrace {
    let mut selectors = Vec::new();
    let mut of_request = Fit::default();
    for selector in Selector::OF_REQUEST {
        let Some(check) = entry.check(selector, context, None) else { continue };
        selectors.push(of_selector(set, entry, selector, &check, context, None));
        of_request.add(selector, check);
    }
    let mut acts = Vec::new();
    for (number, act) in context.question.operation.acts.iter().enumerate() {
        let mut fit = of_request.clone();
        for selector in Selector::OF_ACT {
            let Some(check) = entry.check(selector, context, Some(act)) else { continue };
            selectors.push(of_selector(set, entry, selector, &check, context, Some((number, act))));
            fit.add(selector, check);
        }
        if fit.matches(entry.list) {
            acts.push(number);
        }
    }
    let demand = |selector, holds: Option<bool>| (holds == Some(false)).then_some(selector);
    let unmet = if entry.list == List::Require && !acts.is_empty() {
        [
            demand(Selector::From, entry.is_from(context)),
            demand(Selector::During, entry.is_during(context.question.now)),
            demand(Selector::StepUp, entry.is_signed_in(context)),
        ]
        .into_iter()
        .flatten()
        .collect()
    } else {
        Vec::new()
    };
    EntryTrace {
        entry: entry.reference.clone(),
        list: entry.list,
        dry_run: entry.is_dry_run(context.question.now),
        selectors,
        matches: !acts.is_empty(),
        acts,
        unmet,
        approval: entry.approval_wanted(context).cloned(),
        review: entry.review_wanted(context).cloned(),
        who: names(set, entry.who.as_deref()),
        exempts: names(set, entry.unless.as_ref().and_then(|unless| unless.who.as_deref())),
    }
}

fn names(set: &PolicySet, subjects: Option<&[SubjectIx]>) -> Vec<Arc<str>> {
    subjects.unwrap_or_default().iter().filter_map(|s| set.subjects.name(*s)).map(Arc::clone).collect()
}

fn of_selector(
    set: &PolicySet,
    entry: &Entry,
    selector: Selector,
    check: &Check,
    context: &Context<'_>,
    act: Option<(usize, &Act)>,
) -> SelectorTrace {
    let (verdict, cause) = match check {
        Check::Matches => (Verdict::Matches, None),
        Check::Fails => (Verdict::Fails, None),
        Check::Unevaluable(cause) => (Verdict::Unevaluable, Some(cause)),
    };
    let detail = match cause {
        Some(cause) => cause.to_string(),
        None => detail(set, entry, selector, context, act.map(|(_, act)| act)),
    };
    SelectorTrace { selector, act: act.map(|(number, _)| number), verdict, detail }
}

/// What a selector wants and what it found.
fn detail(
    set: &PolicySet,
    entry: &Entry,
    selector: Selector,
    context: &Context<'_>,
    act: Option<&Act>,
) -> String {
    let question = context.question;
    let (operation, request) = (question.operation, question.request);
    let subjects = |numbers: &[u32]| {
        let names: Vec<_> =
            numbers.iter().filter_map(|n| set.subjects.name(*n)).map(|n| format!("`{n}`")).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let wanted_and_found = |wanted: String, found: String| format!("wants {wanted}; is {found}");
    let text = match selector {
        Selector::Who => {
            entry.who.as_ref().map(|who| wanted_and_found(subjects(who), subjects(&context.membership.sure)))
        }
        Selector::Unless => entry.unless.as_ref().map(|unless| {
            let exempt = unless
                .who
                .as_ref()
                .map(|who| format!("exempts {}; is {}", subjects(who), subjects(&context.membership.sure)));
            let glass = unless.break_glass.then(|| match &request.glass {
                Some(glass) => format!("break-glass `{}` lifts it", glass.id),
                None => "break-glass lifts it, and none of the caller's is open".to_owned(),
            });
            exempt.into_iter().chain(glass).collect::<Vec<_>>().join("; ")
        }),
        Selector::Routes => {
            entry.routes.as_ref().map(|r| wanted_and_found(format!("{r:?}"), request.route.to_string()))
        }
        Selector::Kinds => {
            entry.kinds.as_ref().map(|k| wanted_and_found(format!("{k:?}"), format!("{:?}", operation.kind)))
        }
        Selector::Effects => {
            entry.effects.map(|e| wanted_and_found(format!("{e:?}"), format!("{:?}", operation.effects)))
        }
        Selector::Secrets => entry
            .secrets
            .as_ref()
            .map(|s| wanted_and_found(format!("{s:?}"), format!("{:?}", operation.secrets))),
        Selector::Methods => {
            entry.methods.as_ref().map(|m| wanted_and_found(format!("{m:?}"), request.method.to_string()))
        }
        Selector::Path => {
            entry.path.as_ref().map(|p| wanted_and_found(format!("{p:?}"), request.target.path().to_owned()))
        }
        Selector::From => entry.from.as_ref().map(|networks| {
            let names: Vec<_> = networks.iter().map(|n| format!("`{}`", n.name)).collect();
            wanted_and_found(names.join(", "), context.source.to_string())
        }),
        Selector::During => entry.during.as_ref().map(|calendars| {
            let hours: Vec<_> = calendars.iter().map(|c| format!("`{}` ({c})", c.name())).collect();
            let local = calendars.first().map(|c| c.local(question.now)).unwrap_or_default();
            wanted_and_found(hours.join(", "), local)
        }),
        Selector::StepUp => entry.step_up.as_ref().map(super::step_up::StepUp::words),
        Selector::Scope => entry.scope.as_ref().map(|scopes| {
            let resource = act.and_then(|a| a.resource.as_ref()).map(ToString::to_string);
            wanted_and_found(format!("{scopes:?}"), resource.unwrap_or_default())
        }),
        Selector::Role => entry.role.as_ref().map(|role| {
            wanted_and_found(
                format!("an action of `{}`", role.name()),
                act.map(|a| a.action.as_str().to_owned()).unwrap_or_default(),
            )
        }),
        Selector::As => entry.as_human.then(|| match context.human {
            Some(human) => {
                format!("judged as `{}`, for whom the caller acts", human.question(question).caller.id)
            }
            None => "the caller acts for nobody".to_owned(),
        }),
        Selector::Rights => entry.rights.map(|_| azure(entry, question, act)),
        Selector::Actions => entry.actions.as_ref().map(|a| {
            wanted_and_found(format!("{a:?}"), act.map(|a| a.action.as_str().to_owned()).unwrap_or_default())
        }),
        Selector::When => entry.when.as_ref().zip(act).map(|(condition, act)| {
            let values = condition.read(&super::condition::Roots { question, act });
            let values: Vec<_> = values.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            values.join(", ")
        }),
    };
    text.unwrap_or_default()
}

/// What Azure says of an act, and by what.
fn azure(entry: &Entry, question: &Question<'_>, act: Option<&Act>) -> String {
    let found = act.and_then(|act| {
        let resource = act.resource.as_ref()?;
        let rights = question.azure.at(entry.azure_scope(resource)?)?.as_ref().ok()?;
        Some(match rights.word(act.action.as_str(), resource) {
            Word::Granted(assignment) => format!("Azure grants it by {assignment}"),
            Word::Denied(name) => format!("Azure denies it by deny assignment `{name}`"),
            Word::Conditional(assignment) => format!("only {assignment} would grant it, on a condition"),
            Word::Nothing => "no role assignment of the caller grants it".to_owned(),
        })
    });
    found.unwrap_or_else(|| "Azure was not asked".to_owned())
}
