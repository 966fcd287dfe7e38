//! One entry, compiled: its selectors, each answered on its own.
//!
//! Judging, tracing and explaining all ask [`Entry::check`], so that they agree. A selector that is
//! absent matches; one that cannot be evaluated says why, and the list decides what follows: it
//! counts as matching in `deny` and `require`, and not in `allow` (DECISIONS 3).
//!
//! An operation may bring about several effects and hold several classes of secrets. In `deny` and
//! `require` one named effect or class is enough; in `allow` all of the operation's must be named,
//! because the entry would let all of them through.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::{
    EntryRef, LimitPer, Question, SecretTreatment,
    approval::Demand,
    calendar::Calendar,
    condition::{Condition, Roots},
    hypothesis::{Favours, Recalled},
    lent::Human,
    path::{LetterCase, PathPattern},
    raw::List,
    recording::Recording,
    review::Review,
    rights::Word,
    roles::{ActionPattern, Role},
    selector::{Cause, Check, Selector},
    step_up::StepUp,
    who::{Fit, Membership, SubjectIx},
};
use crate::{
    azureml::{Act, Effects, Kind, Protocol, ResourceId, SecretClass, Secrets},
    identity::{Caller, Groups},
    time::Timestamp,
};

/// A named set of networks.
#[derive(Debug)]
pub(super) struct Network {
    pub name: Arc<str>,
    pub nets: Box<[IpNet]>,
}

/// `secrets` of an entry.
#[derive(Debug)]
pub(super) enum SecretsRule {
    /// The entry concerns answers that hold one of these.
    Selected(Secrets),
    /// The entry names these, each with its treatment.
    Granted(Box<[(SecretClass, SecretTreatment)]>),
}

/// `limit` of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub requests: u32,
    pub every: Duration,
    pub per: LimitPer,
}

/// `unless` of an entry: each of its keys lifts the entry by itself.
#[derive(Debug)]
pub(super) struct Unless {
    /// These callers are exempt.
    pub who: Option<Box<[SubjectIx]>>,
    /// So is whoever broke the glass, as long as that is open.
    pub break_glass: bool,
}

/// The gate's own actions about break-glass: what only break-glass lifts does not keep it shut.
const OF_BREAK_GLASS: &str = "amlgate/break-glass/";

/// Whose rights an entry mirrors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    /// The caller's own in Azure.
    Azure,
}

/// An entry with every name resolved; `None` where a key is absent.
#[derive(Debug)]
pub(super) struct Entry {
    pub reference: EntryRef,
    pub list: List,
    /// `None` also for `authenticated`.
    pub who: Option<Box<[SubjectIx]>>,
    pub role: Option<Arc<Role>>,
    pub rights: Option<Rights>,
    /// `as: human`: an agent may do what the human may for whom it acts.
    pub as_human: bool,
    pub actions: Option<Box<[ActionPattern]>>,
    pub kinds: Option<Box<[Kind]>>,
    pub effects: Option<Effects>,
    pub secrets: Option<SecretsRule>,
    pub scope: Option<Box<[ResourceId]>>,
    pub routes: Option<Box<[Box<str>]>>,
    pub methods: Option<Box<[http::Method]>>,
    pub path: Option<Box<[PathPattern]>>,
    pub from: Option<Box<[Arc<Network>]>>,
    pub during: Option<Box<[Arc<Calendar>]>>,
    pub when: Option<Condition>,
    pub unless: Option<Unless>,
    pub dry_run_until: Option<Timestamp>,
    pub limit: Option<Limit>,
    pub step_up: Option<StepUp>,
    /// Which bodies are kept in the record.
    pub record: Option<Recording>,
    pub approval: Option<Demand>,
    /// Whether Clutch must let the caller do it, too.
    pub opinion: bool,
    /// From which reviewed change the code must come.
    pub review: Option<Arc<Review>>,
}

/// What all entries are held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub question: &'a Question<'a>,
    pub membership: &'a Membership,
    /// The caller's address; an IPv4 address that came as IPv6 is IPv4.
    pub source: IpAddr,
    /// For a question out of the record: what it lacks, and for whom that counts.
    pub recalled: Option<Recalled>,
    /// For whom an agent acts.
    pub human: Option<&'a Human<'a>>,
    /// Whether the caller broke the glass, and that is open.
    pub glass: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        question: &'a Question<'a>,
        membership: &'a Membership,
        recalled: Option<Recalled>,
    ) -> Self {
        Self {
            question,
            membership,
            source: question.request.source.ip().to_canonical(),
            recalled,
            human: None,
            glass: question.request.glass.is_some(),
        }
    }

    /// The same, with the human for whom the caller acts.
    pub(super) fn behind(self, human: Option<&'a Human<'a>>) -> Self {
        Self { human, ..self }
    }

    /// Whether people are asked or answer: what is demanded of requests is not demanded of that, or
    /// nobody could ask.
    pub(super) fn asks_people(&self) -> bool {
        let asks = |act: &Act| {
            ["amlgate/requests/", "amlgate/grants/"].iter().any(|own| act.action.as_str().starts_with(own))
        };
        self.question.operation.acts.iter().any(asks)
    }

    /// The same as if no glass were broken.
    pub(super) fn unbroken(self) -> Self {
        Self { glass: false, ..self }
    }
}

impl Entry {
    /// What a selector says; `None` if the entry does not have it, or if it is a demand here.
    /// Selectors of an act are asked with the act.
    pub(super) fn check(
        &self,
        selector: Selector,
        context: &Context<'_>,
        act: Option<&Act>,
    ) -> Option<Check> {
        let check = self.find(selector, context, act)?;
        let favours = context.recalled.is_some_and(|recalled| recalled.favours == Favours::Caller);
        // What was not recorded speaks for the caller: an `allow` matches, the others do not.
        Some(match check {
            Check::Unevaluable(Cause::NotRecorded(_)) if favours => (self.list == List::Allow).into(),
            Check::Matches | Check::Fails | Check::Unevaluable(_) => check,
        })
    }

    fn find(&self, selector: Selector, context: &Context<'_>, act: Option<&Act>) -> Option<Check> {
        let question = context.question;
        let (operation, request) = (question.operation, question.request);
        match selector {
            Selector::Who => match self.who.as_deref() {
                Some(who) => Some(member(context.membership.fit(who), question.caller)),
                // `authenticated` names no event.
                None if self.list == List::Allow && question.caller.from_pull_request => {
                    Some(Check::Unevaluable(Cause::PullRequest))
                }
                // Nor does it name agents.
                None if self.list == List::Allow && question.caller.kind.is_agent() => {
                    Some(Check::Unevaluable(Cause::Agent))
                }
                None => None,
            },
            Selector::Unless => self.unless.as_ref().map(|unless| unless.check(context)),
            Selector::Routes => self.routes.as_ref().map(|r| r.iter().any(|r| **r == *request.route).into()),
            Selector::Kinds => self.kinds.as_ref().map(|kinds| kinds.contains(&operation.kind).into()),
            Selector::Effects => self.effects.map(|wanted| self.effects_fit(wanted, context)),
            Selector::Secrets => self.secrets_fit(operation.secrets),
            Selector::Methods => self.methods.as_ref().map(|m| m.contains(&request.method).into()),
            Selector::Path => self.path.as_ref().map(|patterns| {
                let case = match self.list {
                    // Elsewhere letters do not count, and `actions` say it better: nothing is
                    // allowed by the spelling of such a path.
                    List::Allow if !names_paths(operation.protocol) => return Check::Fails,
                    List::Allow => LetterCase::Sensitive,
                    List::Deny | List::Require => LetterCase::Ignored,
                };
                patterns.iter().any(|p| p.matches(&request.target, case)).into()
            }),
            Selector::From if self.list != List::Require => self.is_from(context).map(Check::from),
            Selector::During if self.list != List::Require => self.is_during(question.now).map(Check::from),
            Selector::From | Selector::During | Selector::StepUp => None,
            Selector::Scope => {
                self.scope.as_ref().map(|scopes| match act.and_then(|a| a.resource.as_ref()) {
                    None => Check::Unevaluable(Cause::NoResource),
                    Some(resource) => scopes.iter().any(|scope| resource.is_within(scope)).into(),
                })
            }
            Selector::Role => {
                let role = self.role.as_ref()?;
                Some(act.is_some_and(|act| role.grants(act.action.as_str())).into())
            }
            Selector::As => self.as_human.then(|| match (context.human, act) {
                (Some(human), Some(act)) => human.may(context, act),
                (None, _) | (_, None) => Check::Fails,
            }),
            Selector::Rights => self.rights.map(|Rights::Azure| self.mirrored(context, act)),
            Selector::Actions => {
                let patterns = self.actions.as_ref()?;
                Some(act.is_some_and(|a| patterns.iter().any(|p| p.matches(a.action.as_str()))).into())
            }
            Selector::When => {
                let condition = self.when.as_ref()?;
                let Some(act) = act else { return Some(Check::Fails) };
                let lacks = |recalled: Recalled| condition.lacks(question.operation, recalled.skus);
                if let Some(path) = context.recalled.and_then(lacks) {
                    return Some(Check::Unevaluable(Cause::NotRecorded(format!("`{path}`"))));
                }
                Some(match condition.evaluate(&Roots { question, act }) {
                    Ok(holds) => holds.into(),
                    Err(why) => Check::Unevaluable(Cause::Condition(why.to_string())),
                })
            }
        }
    }

    /// Whether the caller's break-glass lifts the entry.
    pub(super) fn is_lifted(&self, context: &Context<'_>) -> bool {
        context.glass && self.unless.as_ref().is_some_and(|unless| unless.break_glass)
    }

    fn effects_fit(&self, wanted: Effects, context: &Context<'_>) -> Check {
        let operation = context.question.operation;
        let (sure, unclear) = (operation.effects, operation.unclear_effects);
        let relevant = unclear.intersection(wanted);
        match self.list {
            List::Deny | List::Require => {
                if !sure.intersection(wanted).is_empty() {
                    Check::Matches
                } else if relevant.is_empty() {
                    Check::Fails
                } else {
                    Check::Unevaluable(Cause::UnclearEffects(relevant))
                }
            }
            List::Allow => {
                if sure.intersection(wanted) != sure || sure.union(relevant).is_empty() {
                    Check::Fails
                } else if sure.is_empty() || relevant != unclear {
                    Check::Unevaluable(Cause::UnclearEffects(unclear))
                } else {
                    Check::Matches
                }
            }
        }
    }

    /// Where `secrets` selects: always in `deny` and `require`; in `allow` only if the entry names
    /// no action and no role, so that it says nothing else of what it lets through.
    fn secrets_fit(&self, held: Secrets) -> Option<Check> {
        match self.secrets.as_ref()? {
            SecretsRule::Selected(classes) => Some((!held.intersection(*classes).is_empty()).into()),
            SecretsRule::Granted(_) if self.names_acts() => None,
            SecretsRule::Granted(named) => {
                let all = held.iter().all(|class| named.iter().any(|(c, _)| *c == class));
                Some((!held.is_empty() && all).into())
            }
        }
    }

    /// Whether the entry says which acts it is about.
    pub(super) fn names_acts(&self) -> bool {
        self.role.is_some() || self.rights.is_some() || self.actions.is_some()
    }

    /// Where the caller's rights in Azure are read for an act on `resource`: the narrowest of the
    /// entry's scopes that hold it.
    pub(super) fn azure_scope(&self, resource: &ResourceId) -> Option<&ResourceId> {
        self.rights?;
        let scopes = self.scope.as_deref()?.iter().filter(|scope| resource.is_within(scope));
        scopes.max_by_key(|scope| scope.folded().len())
    }

    /// What Azure's own rights say of an act.
    fn mirrored(&self, context: &Context<'_>, act: Option<&Act>) -> Check {
        let Some(act) = act else { return Check::Fails };
        let Some(resource) = &act.resource else { return Check::Unevaluable(Cause::NoResource) };
        if context.recalled.is_some() {
            return Check::Unevaluable(Cause::NotRecorded("what Azure let the caller do".to_owned()));
        }
        let unknown = |why: String| Check::Unevaluable(Cause::Azure(why));
        let read = self.azure_scope(resource).and_then(|scope| context.question.azure.at(scope));
        match read {
            None => unknown("what Azure lets the caller do was not asked".to_owned()),
            Some(Err(unread)) => unknown(unread.to_string()),
            Some(Ok(rights)) => match rights.word(act.action.as_str(), resource) {
                Word::Granted(_) => Check::Matches,
                Word::Denied(_) | Word::Nothing => Check::Fails,
                Word::Conditional(on) => {
                    unknown(format!("{on} has a condition, which the gate cannot evaluate"))
                }
            },
        }
    }

    /// Whether the caller's address lies in `from`; `None` without one.
    pub(super) fn is_from(&self, context: &Context<'_>) -> Option<bool> {
        let networks = self.from.as_ref()?;
        Some(networks.iter().flat_map(|n| &n.nets).any(|net| net.contains(&context.source)))
    }

    /// Whether `during` holds the instant; `None` without one.
    pub(super) fn is_during(&self, now: Timestamp) -> Option<bool> {
        self.during.as_ref().map(|calendars| calendars.iter().any(|c| c.contains(now)))
    }

    /// Whether the caller's sign-in is what `step_up` demands; `None` without one. The record of a
    /// past request does not tell how its caller signed in.
    pub(super) fn is_signed_in(&self, context: &Context<'_>) -> Option<bool> {
        let demand = self.step_up.as_ref()?;
        Some(match context.recalled {
            Some(recalled) => recalled.favours == Favours::Caller,
            None => demand.is_met(context.question.caller, context.question.now),
        })
    }

    /// The treatment of a class, if the entry names it.
    pub(super) fn names(&self, class: SecretClass) -> Option<SecretTreatment> {
        match self.secrets.as_ref()? {
            SecretsRule::Selected(_) => None,
            SecretsRule::Granted(named) => named.iter().find(|(c, _)| *c == class).map(|(_, how)| *how),
        }
    }

    /// Whether the entry is only watched at `now`.
    pub(super) fn is_dry_run(&self, now: Timestamp) -> bool {
        self.dry_run_until.is_some_and(|until| now < until)
    }
}

impl Unless {
    fn check(&self, context: &Context<'_>) -> Check {
        let question = context.question;
        let of_its_own = |act: &Act| act.action.as_str().starts_with(OF_BREAK_GLASS);
        if self.break_glass && (context.glass || question.operation.acts.iter().any(of_its_own)) {
            return Check::Fails;
        }
        match self.who.as_deref().map(|exempt| context.membership.fit(exempt)) {
            Some(Fit::Yes) => Check::Fails,
            Some(Fit::No) | None => Check::Matches,
            Some(Fit::Unknown) => Check::Unevaluable(unclear(question.caller)),
            Some(Fit::Unrecorded) => Check::Unevaluable(unrecorded_claims()),
        }
    }
}

/// Why a membership cannot be told.
fn unclear(caller: &Caller) -> Cause {
    match &caller.groups {
        _ if caller.from_pull_request => Cause::PullRequest,
        _ if caller.kind.is_agent() => Cause::Agent,
        Groups::Overage => Cause::Overage,
        Groups::Asked(asked) => {
            asked.member().err().map_or_else(|| of_reviewers(caller), |why| Cause::Groups(Arc::clone(why)))
        }
        Groups::Known(_) => of_reviewers(caller),
    }
}

/// Nothing is unknown of the caller's token, so that it is of groups of a code host.
fn of_reviewers(caller: &Caller) -> Cause {
    let unread = caller.reviewers.as_ref().and_then(|reviewers| reviewers.unread().first());
    unread.map_or(Cause::Overage, |(_, why)| Cause::Reviewers(Arc::clone(why)))
}

fn member(fit: Fit, caller: &Caller) -> Check {
    match fit {
        Fit::Yes => Check::Matches,
        Fit::No => Check::Fails,
        Fit::Unknown => Check::Unevaluable(unclear(caller)),
        Fit::Unrecorded => Check::Unevaluable(unrecorded_claims()),
    }
}

fn unrecorded_claims() -> Cause {
    Cause::NotRecorded("a claim of the caller".to_owned())
}

/// Whether paths of this protocol are its own vocabulary.
fn names_paths(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Http | Protocol::Kubernetes => true,
        Protocol::Arm | Protocol::Azureml | Protocol::Inference | Protocol::Storage | Protocol::KeyVault => {
            false
        }
    }
}
