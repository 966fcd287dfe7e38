//! `approval` of an entry: who must say yes before what it concerns goes on.
//!
//! In `require` it is one more demand; in `allow` the entry lets nothing through without it, and
//! counts only where no entry without one suffices. The judge says which approvals a request needs
//! ([`Obligation::Approval`](super::Obligation)); whether there is one is not its business: that is
//! state, and the gates keep it.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use regex::Regex;

use super::{
    EntryRef, PolicySet,
    entry::{Context, Entry},
    raw::List,
    who::{Fit, SubjectIx, is_in},
};
use crate::identity::{Caller, GerritGroup, PrincipalKind};

/// The longest that a call is held while people decide (DECISIONS 23).
pub const MAX_HOLD: Duration = Duration::from_secs(120);
/// The longest that a grant holds.
pub const MAX_VALID: Duration = Duration::from_secs(30 * 86_400);

/// What an entry demands of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The entry, by the name that approvers see.
    pub entry: EntryRef,
    /// SHA-256 of the entry and of the subjects that it names: a grant holds for the entry as it was
    /// when it was asked for, and for no other.
    pub version: [u8; 32],
    /// All of them must be met, by different humans.
    pub by: Box<[Approvers]>,
    /// What one approval is good for.
    pub covers: Covers,
    /// How often a grant can be used; `None` for as often as it holds.
    pub uses: Option<u32>,
    /// How long a grant holds, from the last approval that it needed.
    pub valid_for: Duration,
    /// How long a call waits for people by itself; zero if it is refused at once.
    pub hold: Duration,
    /// Whether whoever wrote the code never counts: the entry's `review` shows who that is.
    pub never_author: bool,
    /// Whether whoever asks must say why.
    pub reason: Reason,
    /// What the ticket that is named must look like, if one must be.
    pub ticket: Option<Ticket>,
}

/// One of the demands of `by`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approvers {
    /// The human for whom an agent acts.
    Human,
    /// So many people of a subject.
    Subject {
        /// Its name.
        name: Arc<str>,
        /// How many, at least 1.
        count: u32,
    },
    /// So many people of a group of a code host.
    GerritGroup {
        /// Which.
        #[serde(flatten)]
        group: GerritGroup,
        /// How many, at least 1.
        count: u32,
    },
}

/// What one approval is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// The very call that was asked about: method, path, query and body.
    Request,
    /// Every request that the entry matches, in the workspace that was asked about.
    Entry,
}

/// Whether whoever asks must say why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// They must.
    Required,
    /// They may.
    Optional,
}

/// What a ticket's name must look like.
#[derive(Debug, Clone)]
pub struct Ticket {
    written: Box<str>,
    pattern: Regex,
}

impl Ticket {
    /// From a regular expression, which the whole of a ticket's name must match.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(written: &str) -> Result<Self, String> {
        let whole = format!("^(?:{written})$");
        let pattern = regex::RegexBuilder::new(&whole).size_limit(256 << 10).build();
        let pattern = pattern.map_err(|error| {
            error.to_string().lines().last().unwrap_or("it is no regular expression").trim().to_owned()
        })?;
        Ok(Self { written: written.into(), pattern })
    }

    /// Whether this is the name of one.
    #[must_use]
    pub fn is(&self, ticket: &str) -> bool {
        self.pattern.is_match(ticket)
    }

    /// The expression as it was written.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }
}

impl PartialEq for Ticket {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for Ticket {}

impl Approval {
    /// Who must approve, in words: `2 of platform and 1 of risk`.
    #[must_use]
    pub fn words(&self) -> String {
        let each = self.by.iter().map(|by| match by {
            Approvers::Human => "the human for whom the agent acts".to_owned(),
            Approvers::Subject { name, count } => format!("{count} of `{name}`"),
            Approvers::GerritGroup { group, count } => format!("{count} of {group}"),
        });
        let others = if self.never_author { ", none of whom wrote the code" } else { "" };
        format!("{}{others}", each.collect::<Vec<_>>().join(" and "))
    }

    /// The demand in words, with its entry.
    #[must_use]
    pub fn demand(&self) -> String {
        format!("entry `{}` demands the approval of {}", self.entry.name, self.words())
    }

    /// Whether some demand is the human's own.
    #[must_use]
    pub fn asks_human(&self) -> bool {
        self.by.contains(&Approvers::Human)
    }

    /// Whether a caller of this kind needs anybody: a human who calls is the human already.
    #[must_use]
    pub fn asks(&self, kind: PrincipalKind) -> bool {
        self.by.iter().any(|by| kind != PrincipalKind::Person || *by != Approvers::Human)
    }

    /// Whether the body of what it concerns must be read: the call is bound with its body.
    #[must_use]
    pub fn binds_body(&self) -> bool {
        self.covers == Covers::Request
    }
}

/// `approval` of an entry, with what only judging needs.
#[derive(Debug)]
pub(super) struct Demand {
    pub approval: Arc<Approval>,
    /// Whoever surely belongs to one of these needs none.
    pub skip: Option<Box<[SubjectIx]>>,
}

impl Entry {
    /// The approval that a request needs where this entry lets it through or demands something.
    pub(super) fn approval_wanted(&self, context: &Context<'_>) -> Option<&Arc<Approval>> {
        let demand = self.approval.as_ref()?;
        // Asking and answering need no approval, or nobody could ask for one.
        if self.list == List::Require && context.asks_people() {
            return None;
        }
        let skipped =
            demand.skip.as_deref().is_some_and(|skip| matches!(context.membership.fit(skip), Fit::Yes));
        (!skipped && demand.approval.asks(context.question.caller.kind)).then_some(&demand.approval)
    }
}

impl PolicySet {
    /// The approval that an entry demands; `None` if there is no such entry, or it demands none.
    #[must_use]
    pub fn approval(&self, entry: &str) -> Option<&Arc<Approval>> {
        let found = self.entries.iter().find(|one| *one.reference.name == *entry)?;
        Some(&found.approval.as_ref()?.approval)
    }

    /// Whether some entry demands the approval of people of this subject; `human` is an agent's own.
    #[must_use]
    pub fn asks_people_of(&self, subject: &str) -> bool {
        let approvals = self.entries.iter().filter_map(|entry| entry.approval.as_ref());
        approvals.flat_map(|demand| &demand.approval.by).any(|by| match by {
            Approvers::Human => subject == "human",
            Approvers::Subject { name, .. } => **name == *subject,
            Approvers::GerritGroup { .. } => false,
        })
    }

    /// The first entry that demands an approval.
    #[must_use]
    pub fn first_approval(&self) -> Option<&EntryRef> {
        self.entries.iter().find(|entry| entry.approval.is_some()).map(|entry| &entry.reference)
    }

    /// The first entry that wants Clutch's word.
    #[must_use]
    pub fn first_opinion(&self) -> Option<&EntryRef> {
        self.entries.iter().find(|entry| entry.opinion).map(|entry| &entry.reference)
    }

    /// The first entry that break-glass lifts.
    #[must_use]
    pub fn first_lifted_by_break_glass(&self) -> Option<&EntryRef> {
        let lifts = |entry: &&Entry| entry.unless.as_ref().is_some_and(|unless| unless.break_glass);
        self.entries.iter().find(lifts).map(|entry| &entry.reference)
    }

    /// Which demands for people of a subject `caller` can meet, by their places in the list: only what
    /// is surely so counts. Whether they are somebody else than who asks is not looked at here.
    #[must_use]
    pub fn meets(&self, by: &[Approvers], caller: &Caller) -> Vec<usize> {
        let seen = self.seen(caller);
        let membership = self.subjects.of(&seen);
        let of = |name: &str| {
            let number = self.subjects.number(name);
            number.is_some_and(|number| membership.fit(&[number]) == Fit::Yes)
        };
        let met = by.iter().enumerate().filter(|(_, by)| match by {
            Approvers::Human => false,
            Approvers::Subject { name, .. } => of(name),
            Approvers::GerritGroup { group, .. } => is_in(group, &seen) == Fit::Yes,
        });
        met.map(|(at, _)| at).collect()
    }

    /// The kind of caller that these policies take `caller` for.
    #[must_use]
    pub fn kind_of(&self, caller: &Caller) -> PrincipalKind {
        self.seen(caller).kind
    }

    /// Gives each approval its version: once every name has been looked up.
    pub(super) fn with_versions(mut self) -> Self {
        let versions: Vec<_> = self.entries.iter().map(|entry| self.version(entry)).collect();
        for (entry, version) in self.entries.iter_mut().zip(versions) {
            if let Some(demand) = &mut entry.approval {
                demand.approval = Arc::new(Approval { version, ..Approval::clone(&demand.approval) });
            }
        }
        self
    }

    fn version(&self, entry: &Entry) -> [u8; 32] {
        let Some(demand) = &entry.approval else { return [0; 32] };
        let view = self.view(entry);
        let named =
            |numbers: &Option<Box<[SubjectIx]>>| numbers.iter().flatten().copied().collect::<Vec<_>>();
        let approvers = demand.approval.by.iter().filter_map(|by| match by {
            // A group of a code host stands in the entry itself.
            Approvers::Human | Approvers::GerritGroup { .. } => None,
            Approvers::Subject { name, .. } => self.subjects.number(name),
        });
        let exempt = entry.unless.as_ref().map(|unless| named(&unless.who)).unwrap_or_default();
        let mut subjects: Vec<_> = [named(&entry.who), exempt, named(&demand.skip)].concat();
        subjects.extend(approvers);
        let condition = entry.when.as_ref().map(super::condition::Condition::written);
        let mut text = format!("{}\n{}\n{:?}\n{condition:?}\n", view.list, view.entry.name, view.keys);
        for subject in subjects {
            text.push_str(&format!("{:?}\n", self.subjects.description(subject)));
        }
        digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap_or_default()
    }
}
