//! Which subjects a caller belongs to.
//!
//! A subject is a list of descriptions, any of which may fit; a description is a set of keys, all of
//! which must. Values match exactly, in case and JSON type; a list of values is any of them; a claim
//! that is an array matches if it contains the value. Where the token does not say (more groups than
//! it carries), the answer is unknown rather than no. Subjects are found through hash maps on
//! their most telling key, so that ten thousand of them cost little more than ten, and the answer
//! for a token is remembered per thread: it depends on nothing but the token and the set.

mod doubts;
mod reviewers;

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

pub(super) use doubts::doubts;
pub(super) use reviewers::is_in;
use serde_json::Value;

use crate::identity::{Caller, GerritGroup, Groups, PrincipalKind};

/// The number of a subject within its set.
pub(super) type SubjectIx = u32;

/// Stands in place of an issuer's name where the callers of all may fit: a trigger's, and no other.
pub(super) const ANY_ISSUER: &str = "";

/// One description of callers; all its keys must fit.
#[derive(Debug, Clone)]
pub(super) struct Description {
    pub issuer: Box<str>,
    pub group: Option<Box<str>>,
    pub subject: Option<Box<str>>,
    pub client: Option<Box<str>>,
    /// An agent, by the client that is it.
    pub agent: Option<Box<str>>,
    pub kind: Option<PrincipalKind>,
    pub tenant: Option<Box<str>>,
    pub claims: Box<[(Box<str>, Expected)]>,
}

/// Who belongs to a subject: one of the items of its list.
#[derive(Debug, Clone)]
pub(super) enum Member {
    /// Whoever's token fits.
    Caller(Description),
    /// The people of a group of a code host.
    Reviewers(GerritGroup),
}

/// What a claim must be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    /// Any of these values; an array claim contains one of them.
    AnyOf(Box<[Value]>),
    /// An object whose members fit.
    Members(Box<[(Box<str>, Self)]>),
}

/// Yes, no, or not to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    No,
    Unknown,
    /// The record of a past request does not say.
    Unrecorded,
}

impl Expected {
    fn fits(&self, claim: &Value) -> bool {
        match (self, claim) {
            (Self::AnyOf(values), Value::Array(items)) => items.iter().any(|i| values.contains(i)),
            (
                Self::AnyOf(values),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_),
            ) => values.contains(claim),
            (Self::Members(members), Value::Object(object)) => {
                members.iter().all(|(name, expected)| object.get(&**name).is_some_and(|v| expected.fits(v)))
            }
            (
                Self::Members(_),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_),
            ) => false,
        }
    }
}

impl Description {
    /// Whether it takes in software that acts: by name, or all of it.
    fn names_agents(&self) -> bool {
        self.agent.is_some() || self.kind == Some(PrincipalKind::Agent)
    }

    /// Whether `kind` is met: an agent is of its subject's kind too, which takes nobody in.
    fn is_of_kind(&self, caller: &Caller) -> bool {
        match self.kind {
            None => true,
            Some(PrincipalKind::Agent | PrincipalKind::AutonomousAgent) => caller.kind.is_agent(),
            Some(PrincipalKind::Person) => caller.kind.has_human(),
            Some(PrincipalKind::Machine) => !caller.kind.has_human(),
        }
    }

    /// `caller` is of its kind: who is an agent by the policies' word is one here already.
    fn fit(&self, caller: &Caller) -> Fit {
        let is = |wanted: &Option<Box<str>>, given: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| given == Some(wanted))
        };
        let told = |(name, expected): &(Box<str>, Expected)| {
            caller.claims.get(&**name).is_some_and(|v| expected.fits(v))
        };
        // What a token of the human would say for whom a trigger acts, nobody knows.
        let untold = !self.claims.is_empty() && caller.trigger().is_some();
        let certain = (*self.issuer == *caller.id.issuer || *self.issuer == *ANY_ISSUER)
            && is(&self.subject, Some(&caller.id.subject))
            && is(&self.client, caller.client.as_deref())
            && (self.agent.is_none() || caller.kind.is_agent())
            && is(&self.agent, caller.client.as_deref())
            && is(&self.tenant, caller.tenant.as_deref())
            && self.is_of_kind(caller)
            && (untold || self.claims.iter().all(told));
        // Software that acts has its own subjects: those of whom it acts for never let it in, and
        // count against it.
        let by_name = self.names_agents() || !caller.kind.is_agent();
        // A run that a pull request started bears the names of the repository and says the words
        // of a stranger: it is taken in by name, and counts as perhaps a member everywhere else.
        let by_event = !caller.from_pull_request || self.names_run(caller);
        // An address that its issuer has not seen to be its holder's is whoever's wrote it.
        let by_address = !self.names("email") || !is_unverified(caller);
        let yes = if by_name && by_event && by_address && !untold { Fit::Yes } else { Fit::Unknown };
        match (certain, &self.group, &caller.groups) {
            (false, _, _) => Fit::No,
            (true, None, _) => yes,
            (true, Some(_), Groups::Overage) => Fit::Unknown,
            (true, Some(group), Groups::Asked(asked)) => match asked.holds(group) {
                Some(true) => yes,
                Some(false) => Fit::No,
                None => Fit::Unknown,
            },
            (true, Some(group), Groups::Known(groups)) => {
                if groups.contains(group) {
                    yes
                } else {
                    Fit::No
                }
            }
        }
    }

    fn names(&self, claim: &str) -> bool {
        self.claims.iter().any(|(name, _)| &**name == claim)
    }

    /// Whether it names a run of a pull request, whom it fits, as one: by its event, or by a ref or a
    /// subject that no other run has.
    fn names_run(&self, caller: &Caller) -> bool {
        let is = |key, held: Option<&str>| held.is_some_and(|held| is_of_pull_request(key, held));
        self.names("event_name")
            || self.names("ref") && is("ref", caller.claims.get("ref").and_then(Value::as_str))
            || (self.subject.is_some() || self.names("sub")) && is("sub", Some(&caller.id.subject))
    }

    /// Every text that a value must equal, with its key.
    fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = [
            ("subject", &self.subject),
            ("group", &self.group),
            ("client", &self.client),
            ("tenant", &self.tenant),
        ];
        let own = own.into_iter().filter_map(|(key, text)| Some((key, text.as_deref()?)));
        let claims = self.claims.iter().flat_map(|(name, expected)| {
            let values: &[Value] = match expected {
                Expected::AnyOf(values) => values,
                Expected::Members(_) => &[],
            };
            values.iter().filter_map(|value| Some((&**name, value.as_str()?)))
        });
        own.chain(claims)
    }
}

/// Whether a value is one that GitHub gives to runs of pull requests alone.
fn is_of_pull_request(key: &str, text: &str) -> bool {
    match key {
        "event_name" => text.starts_with("pull_request"),
        "ref" => text.starts_with("refs/pull/"),
        "subject" | "sub" => text.starts_with("repo:") && text.ends_with(":pull_request"),
        _ => false,
    }
}

/// Whether the issuer says of the caller's address that it is not seen to be theirs.
fn is_unverified(caller: &Caller) -> bool {
    caller.claims.get("email_verified").is_some_and(|said| said != true && said != "true")
}

/// A description and the subject that it stands for.
type Entry = (SubjectIx, Description);

/// The descriptions of one issuer, by their most telling key.
#[derive(Debug, Default)]
struct IssuerIndex {
    by_group: HashMap<Box<str>, Vec<Entry>>,
    by_subject: HashMap<Box<str>, Vec<Entry>>,
    by_client: HashMap<Box<str>, Vec<Entry>>,
    by_claim: HashMap<Box<str>, HashMap<Box<str>, Vec<Entry>>>,
    others: Vec<Entry>,
}

/// All subjects of a set.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    names: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, SubjectIx>,
    issuers: HashMap<Box<str>, IssuerIndex>,
    /// The groups of code hosts that subjects are made of.
    reviewers: Vec<(SubjectIx, GerritGroup)>,
    /// What is written of each, by number.
    descriptions: Vec<Box<str>>,
    /// The groups that are named of each issuer.
    groups: HashMap<Box<str>, Arc<[Box<str>]>>,
    /// The clients of each issuer that are agents.
    agents: HashMap<Box<str>, HashSet<Box<str>>>,
    /// Tells this value from every other of the process: what is remembered is remembered for it.
    identity: u64,
}

/// The subjects of one caller, by number, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Membership {
    /// The caller belongs to these.
    pub sure: Vec<SubjectIx>,
    /// Whether the caller belongs to these cannot be known.
    pub unknown: Vec<SubjectIx>,
    /// Whether the caller of a past request belonged to these was not recorded.
    pub unrecorded: Vec<SubjectIx>,
}

impl Membership {
    /// Each subject once, in the list that says most.
    fn settle(&mut self) {
        for list in [&mut self.sure, &mut self.unknown, &mut self.unrecorded] {
            list.sort_unstable();
            list.dedup();
        }
        self.unknown.retain(|number| self.sure.binary_search(number).is_err());
        self.unrecorded.retain(|number| self.sure.binary_search(number).is_err());
    }

    /// Whether the caller belongs to one of `subjects`.
    pub(super) fn fit(&self, subjects: &[SubjectIx]) -> Fit {
        if subjects.iter().any(|s| self.sure.binary_search(s).is_ok()) {
            Fit::Yes
        } else if subjects.iter().any(|s| self.unrecorded.binary_search(s).is_ok()) {
            Fit::Unrecorded
        } else if subjects.iter().any(|s| self.unknown.binary_search(s).is_ok()) {
            Fit::Unknown
        } else {
            Fit::No
        }
    }
}

impl Subjects {
    /// Indexes subjects in the order of their numbers; names are unique.
    pub(super) fn new(subjects: Vec<(Arc<str>, Vec<Member>)>) -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let mut all =
            Self { identity: NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed), ..Self::default() };
        for (number, (name, members)) in (0..).zip(subjects) {
            all.by_name.insert(Arc::clone(&name), number);
            all.names.push(name);
            all.descriptions.push(format!("{members:?}").into());
            for member in members {
                let description = match member {
                    Member::Caller(description) => description,
                    Member::Reviewers(group) => {
                        all.reviewers.push((number, group));
                        continue;
                    }
                };
                if let Some(agent) = &description.agent {
                    all.agents.entry(description.issuer.clone()).or_default().insert(agent.clone());
                }
                let issuer = all.issuers.entry(description.issuer.clone()).or_default();
                issuer.add(number, description);
            }
        }
        let named = all.issuers.iter().filter(|(_, index)| !index.by_group.is_empty());
        let groups = named.map(|(issuer, index)| {
            let mut groups: Vec<_> = index.by_group.keys().cloned().collect();
            groups.sort_unstable();
            (issuer.clone(), groups.into())
        });
        all.groups = groups.collect();
        all
    }

    /// The number of a named subject.
    pub(super) fn number(&self, name: &str) -> Option<SubjectIx> {
        self.by_name.get(name).copied()
    }

    /// The name of a subject.
    pub(super) fn name(&self, number: SubjectIx) -> Option<&Arc<str>> {
        self.names.get(usize::try_from(number).ok()?)
    }

    /// What is written of a subject, in a form that is the same for the same.
    pub(super) fn description(&self, number: SubjectIx) -> Option<&str> {
        self.descriptions.get(usize::try_from(number).ok()?).map(|text| &**text)
    }

    /// The names of all subjects, in the order of their numbers.
    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The groups that descriptions of an issuer's callers name, each once, in order.
    pub(super) fn groups_of(&self, issuer: &str) -> Option<Arc<[Box<str>]>> {
        self.groups.get(issuer).map(Arc::clone)
    }

    /// Whether `caller` must be seen as software that acts, though the token does not say so: some
    /// description names its client as an agent.
    pub(super) fn is_mistaken(&self, caller: &Caller) -> bool {
        let named = |client: &Arc<str>| {
            self.agents.get(&*caller.id.issuer).is_some_and(|agents| agents.contains(&**client))
        };
        !self.agents.is_empty() && !caller.kind.is_agent() && caller.client.as_ref().is_some_and(named)
    }

    /// The caller's subjects: those named at issue for a handle, else those whose description fits.
    pub(super) fn of(&self, caller: &Caller) -> Arc<Membership> {
        if let Some(names) = &caller.subjects_at_issue {
            let mut sure: Vec<_> = names.iter().filter_map(|name| self.number(name)).collect();
            sure.sort_unstable();
            sure.dedup();
            return Arc::new(Membership { sure, ..Membership::default() });
        }
        // A caller who was described, not verified, has no digest to remember it by; and what a
        // directory says changes while the token is the same.
        if caller.token_digest == [0; 32] || matches!(caller.groups, Groups::Asked(_)) {
            return self.mirrored(caller, Arc::new(self.find(caller)), false);
        }
        if self.is_mistaken(caller) {
            let agent = caller.as_agent();
            return self.mirrored(&agent, Arc::new(self.find(&agent)), false);
        }
        let by_token = remembered(self.identity, &caller.token_digest, || self.find(caller));
        self.mirrored(caller, by_token, false)
    }

    /// The subjects of a caller out of a record, which holds no claims: whoever would belong but for
    /// claims may belong.
    pub(super) fn recalled(&self, caller: &Caller) -> Arc<Membership> {
        if caller.subjects_at_issue.is_some() {
            return self.of(caller);
        }
        let mut found = Membership::default();
        self.named_as_human(caller, &mut found);
        for (number, description) in self.of_issuer(caller) {
            let without = Description { claims: Box::default(), ..description.clone() };
            match (without.fit(caller), description.claims.is_empty()) {
                (Fit::Yes, true) => found.sure.push(*number),
                (Fit::Unknown, true) => found.unknown.push(*number),
                (Fit::Yes | Fit::Unknown, false) => found.unrecorded.push(*number),
                (Fit::No | Fit::Unrecorded, _) => {}
            }
        }
        found.settle();
        self.mirrored(caller, Arc::new(found), true)
    }

    /// Where a description names the human whom the caller is at another issuer: what it demands
    /// besides is of that issuer's tokens, and cannot be known from this one.
    fn named_as_human(&self, caller: &Caller, found: &mut Membership) {
        let Some(human) = &caller.human else { return };
        let Some(issuer) = self.issuers.get(&*human.issuer) else { return };
        let tenant = human.subject.split_once('/').map(|(tenant, _)| tenant);
        for (number, description) in issuer.all() {
            let named = description.subject.as_deref() == Some(&*human.subject)
                && description.is_of_kind(caller)
                && description.tenant.as_deref().is_none_or(|wanted| Some(wanted) == tenant);
            let more = description.group.is_some()
                || description.client.is_some()
                || description.agent.is_some()
                || !description.claims.is_empty()
                || (caller.kind.is_agent() && !description.names_agents());
            match (named, more) {
                (false, _) => {}
                (true, false) => found.sure.push(*number),
                (true, true) => found.unknown.push(*number),
            }
        }
    }

    fn find(&self, caller: &Caller) -> Membership {
        let mut found = Membership::default();
        self.named_as_human(caller, &mut found);
        let mut visit = |(number, description): &Entry| match description.fit(caller) {
            Fit::Yes => found.sure.push(*number),
            Fit::Unknown => found.unknown.push(*number),
            Fit::No | Fit::Unrecorded => {}
        };
        if caller.trigger().is_some() {
            // Of which claims might lead to a description is not known.
            self.of_issuer(caller).for_each(visit);
        } else if let Some(issuer) = self.issuers.get(&*caller.id.issuer) {
            issuer.candidates(caller, &mut visit);
        }
        found.settle();
        found
    }

    /// Every description that could fit whoever an issuer vouches for, at least once.
    fn of_issuer(&self, caller: &Caller) -> impl Iterator<Item = &Entry> {
        let any = caller.trigger().and_then(|_| self.issuers.get(ANY_ISSUER));
        [self.issuers.get(&*caller.id.issuer), any].into_iter().flatten().flat_map(IssuerIndex::all)
    }
}

impl IssuerIndex {
    fn add(&mut self, number: SubjectIx, description: Description) {
        let telling = description.claims.iter().find_map(|(name, expected)| match expected {
            Expected::AnyOf(values) => {
                let texts: Option<Vec<Box<str>>> =
                    values.iter().map(|v| v.as_str().map(Into::into)).collect();
                texts.map(|texts| (name.clone(), texts))
            }
            Expected::Members(_) => None,
        });
        if let Some(group) = description.group.clone() {
            self.by_group.entry(group).or_default().push((number, description));
        } else if let Some(subject) = description.subject.clone() {
            self.by_subject.entry(subject).or_default().push((number, description));
        } else if let Some((name, values)) = telling {
            let by_value = self.by_claim.entry(name).or_default();
            for value in values {
                by_value.entry(value).or_default().push((number, description.clone()));
            }
        } else if let Some(client) = description.agent.clone().or_else(|| description.client.clone()) {
            self.by_client.entry(client).or_default().push((number, description));
        } else {
            self.others.push((number, description));
        }
    }

    /// Every description, at least once.
    fn all(&self) -> impl Iterator<Item = &Entry> {
        let by_claim = self.by_claim.values().flat_map(HashMap::values);
        let keyed = self.by_group.values().chain(self.by_subject.values()).chain(self.by_client.values());
        keyed.chain(by_claim).flatten().chain(&self.others)
    }

    /// Every description that could fit, at least once.
    fn candidates(&self, caller: &Caller, mut visit: impl FnMut(&Entry)) {
        match &caller.groups {
            Groups::Known(groups) => {
                groups.iter().filter_map(|g| self.by_group.get(g)).flatten().for_each(&mut visit);
            }
            Groups::Asked(_) | Groups::Overage => self.by_group.values().flatten().for_each(&mut visit),
        }
        self.by_subject.get(&*caller.id.subject).into_iter().flatten().for_each(&mut visit);
        let client = caller.client.as_ref().and_then(|client| self.by_client.get(&**client));
        client.into_iter().flatten().for_each(&mut visit);
        for (name, by_value) in &self.by_claim {
            let claim = caller.claims.get(&**name);
            let values = claim.map_or(&[][..], |claim| match claim {
                Value::Array(items) => items,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    std::slice::from_ref(claim)
                }
            });
            let texts = values.iter().filter_map(Value::as_str);
            texts.filter_map(|text| by_value.get(text)).flatten().for_each(&mut visit);
        }
        self.others.iter().for_each(visit);
    }
}

/// Slots of the memory: each holds the last token whose digest falls on it.
const SLOTS: usize = 4096;

/// What one thread remembers: subjects, a token's digest, and what was found.
type Slot = Option<(u64, [u8; 32], Arc<Membership>)>;

thread_local! {
    static MEMORY: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

fn remembered(identity: u64, digest: &[u8; 32], find: impl FnOnce() -> Membership) -> Arc<Membership> {
    let slot = usize::from(u16::from_le_bytes([digest[0], digest[1]])) % SLOTS;
    MEMORY.with_borrow_mut(|memory| {
        if memory.is_empty() {
            memory.resize(SLOTS, None);
        }
        let Some(slot) = memory.get_mut(slot) else { return Arc::new(find()) };
        match slot {
            Some((of, token, found)) if *of == identity && token == digest => Arc::clone(found),
            _ => {
                let found = Arc::new(find());
                *slot = Some((identity, *digest, Arc::clone(&found)));
                found
            }
        }
    })
}

#[cfg(test)]
mod tests;
