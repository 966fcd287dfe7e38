//! What people can hear of: one table, and what a channel wants of it.

use std::sync::Arc;

use crate::audit::sinks::Picks;

/// Where what is told of an event is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The request for approval that the record names.
    Request,
    /// The grant that it names.
    Grant,
    /// The record says all there is.
    Record,
}

/// Who hears of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Every channel, whatever it says.
    Everywhere,
    /// Every channel that does not say what it wants.
    Usually,
    /// Channels that name it.
    Named,
}

/// An event that people can hear of.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name in the configuration.
    pub name: &'static str,
    /// The word in the record; with `_` at its end every word that begins so.
    pub record: &'static str,
    /// What it is called in messages; of several words the rest stands behind it.
    pub title: &'static str,
    /// Where the rest is found.
    pub about: About,
    /// Who hears of it.
    pub heard: Heard,
}

const fn told(
    name: &'static str,
    record: &'static str,
    title: &'static str,
    about: About,
    heard: Heard,
) -> Told {
    Told { name, record, title, about, heard }
}

/// All of them.
pub const EVENTS: &[Told] = &[
    told("asked", "approval_asked", "Approval asked", About::Request, Heard::Usually),
    told("voted", "approval_voted", "Approved by one, others must, too", About::Request, Heard::Usually),
    told("approved", "approved", "Approved", About::Request, Heard::Usually),
    told("denied", "approval_denied", "Denied", About::Request, Heard::Usually),
    told("withdrawn", "approval_withdrawn", "Withdrawn", About::Request, Heard::Usually),
    told("expired", "approval_expired", "Nobody answered in time", About::Request, Heard::Usually),
    told("granted", "grant_given", "Grant given", About::Grant, Heard::Named),
    told("revoked", "grant_revoked", "Grant taken back", About::Grant, Heard::Usually),
    told("ended", "grant_expired", "Grant over", About::Grant, Heard::Named),
    told("break_glass", "break_glass_", "Break-glass", About::Record, Heard::Everywhere),
    told("unstated_model", "unstated_model", "A model without a statement", About::Record, Heard::Usually),
    told("exporter_failing", "exporter_failing", "An exporter fails", About::Record, Heard::Named),
    told("exporter_recovered", "exporter_recovered", "An exporter works again", About::Record, Heard::Named),
];

/// What stands before the word of an event in a record's line.
const MARK: &[u8] = br#""event":""#;

impl Told {
    /// Whether a record's word is of this event.
    #[must_use]
    pub fn is(&self, word: &[u8]) -> bool {
        let own = self.record.as_bytes();
        if own.ends_with(b"_") { word.starts_with(own) } else { word == own }
    }

    /// By its name in the configuration.
    ///
    /// # Errors
    /// Words that say which there are.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        EVENTS.iter().find(|told| told.name == name).ok_or_else(|| {
            let all: Vec<_> = EVENTS.iter().map(|told| format!("`{}`", told.name)).collect();
            format!("`{name}` is none of {}", all.join(", "))
        })
    }
}

/// What a channel wants to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// These events.
    pub events: Vec<&'static Told>,
    /// Of approvals those that these entries demand; all of them if there is none.
    pub entries: Vec<Arc<str>>,
    /// Of approvals those that people of these subjects can give; all of them if there is none.
    pub approvers: Vec<Arc<str>>,
}

impl Filter {
    /// What a channel hears that does not say what it wants.
    #[must_use]
    pub fn usual() -> Self {
        Self::of(EVENTS.iter().filter(|told| told.heard == Heard::Usually).collect())
    }

    /// What a channel hears that wants these events: those, and what is told everywhere.
    #[must_use]
    pub fn of(events: Vec<&'static Told>) -> Self {
        let mut all: Vec<_> = EVENTS.iter().filter(|told| told.heard == Heard::Everywhere).collect();
        all.extend(events.into_iter().filter(|told| told.heard != Heard::Everywhere));
        Self { events: all, entries: Vec::new(), approvers: Vec::new() }
    }

    /// The event of a record's word, if it is wanted.
    #[must_use]
    pub fn wants(&self, word: &str) -> Option<&'static Told> {
        self.events.iter().copied().find(|told| told.is(word.as_bytes()))
    }

    /// Which lines of the log are worth reading: those with the word of an event that is wanted, and
    /// now and then one that only holds it elsewhere.
    #[must_use]
    pub fn picks(&self) -> Picks {
        let events = self.events.clone();
        let mark = memchr::memmem::Finder::new(MARK);
        Arc::new(move |line| {
            mark.find_iter(line).any(|at| {
                let rest = line.get(at + MARK.len()..).unwrap_or_default();
                let word = rest.split(|byte| *byte == b'"').next().unwrap_or_default();
                events.iter().any(|told| told.is(word))
            })
        })
    }
}
