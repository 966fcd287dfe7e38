//! Break-glass: in an emergency, somebody whom the configuration names does what an entry forbids that
//! says `unless: {break_glass: true}`; nothing else is lifted, and never the record.
//!
//! It is a verb of its own, and not an approval: nobody is asked about a call, no right grows, and what
//! an entry of `deny` or `require` keeps shut is opened for one human, for a short time, with a reason.
//! [`state`] says what becomes of it, as a pure function; this file joins it with the store, whose one
//! slot is taken by whoever comes first, on whichever replica.
//!
//! - **Who**: a person who is signed in and surely belongs to a subject of `who`, looked at when it is
//!   opened and again at each request. Software never, nor its human through it; a handle of an
//!   endpoint's key neither.
//! - **Another's word**: where `by` says so it opens only when so many others have said yes.
//! - **How long**: at most `max`, and it ends at its time, or when anybody who may closes it.
//! - **How a decision learns of it**: [`BreakGlasses::under`] looks into a snapshot without waiting and
//!   puts it beside the request's facts, so that the judge stays pure and `can-i` and `policy why`
//!   agree with the 403. A snapshot that is older than five seconds lifts nothing: who cannot ask the
//!   store does not know that it was closed.
//! - **The record**: every decision under it names it and the entries that it lifted, and both bodies
//!   of what it lifted are kept. What cannot be recorded so does not go on.
//! - **Streams** are leases: when it is over they are judged without it, and cut where that denies.
//! - **The review**: one at a time for all replicas, and the next only when another human than whoever
//!   opened it has closed the review of the last. One that is overdue is told of in the record, in
//!   `/readyz` and as a metric, and keeps the glass whole.
//!
//! - **Without the identity provider** sealed codes open it, confirm it, and identify whoever opened it
//!   for as long as it is open ([`codes`]).
//!
//! It records nothing: whoever calls it does, by the values that it returns.

pub mod codes;
mod rows;
pub mod state;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};

use self::codes::Attempts;
pub use self::state::{Asked, Became, BreakGlass, Ended, Event, State, Unmoved};
use super::{
    approvals::{Likeness, MAX_REASON, MAX_TICKET, Party, Voter},
    words::{given, is_id, is_plain},
};
use crate::{
    identity::{Caller, PrincipalKind, Vouching, revoked::MAX_AGE},
    policy::{Approvers, OpenGlass, PolicySet},
    store::{Heard, Store, StoreError},
    time::{SharedClock, Timestamp},
};

/// Where others must say yes, so long is waited for them.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(900);
/// How long it is open at most, where the configuration does not say.
pub const USUAL: Duration = Duration::from_secs(3_600);
/// How long it is open at most, whatever the configuration says.
pub const LONGEST: Duration = Duration::from_secs(8 * 3_600);
/// How long after its end the review is due, where the configuration does not say.
pub const REVIEW_BY: Duration = Duration::from_secs(86_400);
/// How often a change is tried again when others change it at the same time.
const TRIES: usize = 8;

/// `break_glass` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Who may: one of these subjects is enough.
    pub who: Box<[Approvers]>,
    /// Who else must say yes; empty where nobody must.
    pub by: Box<[Approvers]>,
    /// How long it is open at most.
    pub max: Duration,
    /// How long after its end the review is due.
    pub review_by: Duration,
}

impl Rules {
    /// The subjects that are named.
    pub fn subjects(&self) -> impl Iterator<Item = &Arc<str>> {
        self.who.iter().chain(&self.by).filter_map(|by| match by {
            Approvers::Human | Approvers::GerritGroup { .. } => None,
            Approvers::Subject { name, .. } => Some(name),
        })
    }
}

/// What somebody asks for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Why.
    pub reason: String,
    /// The ticket.
    pub ticket: Option<String>,
    /// For how long; as long as may be, if it is not said.
    pub length: Option<Duration>,
    /// Whether a code says who asks.
    pub offline: bool,
}

/// Why the glass stays whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// The configuration lets nobody.
    #[error("nobody breaks the glass here: the configuration has no `break_glass`")]
    NotConfigured,
    /// It is software, or a machine.
    #[error("only a person who is signed in breaks the glass, no software and no machine")]
    NotAPerson,
    /// They are none of those who may.
    #[error("you are none of those whom `break_glass.who` names")]
    NotYou,
    /// There is no reason.
    #[error("say why, in a few words: the reason is read by whoever reviews it")]
    NoReason,
    /// A text is too long, or holds what nobody writes.
    #[error(
        "a reason has at most {MAX_REASON} bytes, a ticket {MAX_TICKET}, and neither control, invisible or bidirectional characters"
    )]
    Text,
    /// It is for longer than may be.
    #[error("it can be open from one second to {} s", .0.as_secs())]
    Length(Duration),
    /// The one before is not reviewed.
    #[error("break-glass {id} is {state}: the next comes when its review is closed")]
    Unreviewed {
        /// Which.
        id: String,
        /// How far it has come.
        state: &'static str,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NotOpened {
    /// The word in the record.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::NotAPerson => "not_a_person",
            Self::NotYou => "not_named",
            Self::NoReason | Self::Text => "no_reason",
            Self::Length(_) => "too_long",
            Self::Unreviewed { .. } => "not_reviewed",
            Self::Store(_) => "store",
        }
    }
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such one.
    #[error("there is no such break-glass")]
    Unknown,
    /// It does not move.
    #[error(transparent)]
    Unmoved(#[from] Unmoved),
    /// A text is too long, or holds what nobody writes.
    #[error("a note has at most {MAX_REASON} bytes and no control, invisible or bidirectional characters")]
    Text,
    /// A review without words.
    #[error("say what the review found, in a few words")]
    NoNote,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What somebody does to one that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Says yes.
    Confirm(Option<String>),
    /// Ends it.
    Close,
    /// Closes its review, with what it found.
    Review(String),
}

/// The one that is not whole, as this replica knows it.
#[derive(Debug, Default)]
struct Snapshot {
    version: Option<i64>,
    glass: Option<BreakGlass>,
    /// What requests are given of it, where it is open.
    open: Option<Arc<OpenGlass>>,
}

/// All of them, and the one that is not whole. One for the whole process.
pub struct BreakGlasses {
    clock: SharedClock,
    store: Option<Store>,
    rules: ArcSwapOption<Rules>,
    /// Who is told for which break-glass codes identify people.
    vouching: ArcSwapOption<Vouching>,
    attempts: Attempts,
    current: ArcSwap<Snapshot>,
    /// When the store was last read, in milliseconds.
    read: AtomicU64,
}

impl fmt::Debug for BreakGlasses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BreakGlasses({:?})", self.store)
    }
}

/// Somebody as the rules see them.
fn voter(policies: &PolicySet, caller: &Caller, demands: &[Approvers]) -> Voter {
    let kind = policies.kind_of(caller);
    let claimed = Likeness::Other;
    Voter { party: Party::of(caller, kind), kind, meets: policies.meets(demands, caller), claimed }
}

/// What somebody asks for, if the rules let them have it.
fn asked(rules: &Rules, by: Voter, wanted: Wanted) -> Result<Asked, NotOpened> {
    if by.kind != PrincipalKind::Person {
        return Err(NotOpened::NotAPerson);
    }
    if by.meets.is_empty() {
        return Err(NotOpened::NotYou);
    }
    let reason = given(Some(wanted.reason)).ok_or(NotOpened::NoReason)?;
    let ticket = given(wanted.ticket);
    if !is_plain(&reason, MAX_REASON) || ticket.as_ref().is_some_and(|ticket| !is_plain(ticket, MAX_TICKET)) {
        return Err(NotOpened::Text);
    }
    let length = wanted.length.unwrap_or(rules.max);
    if length < Duration::from_secs(1) || length > rules.max {
        return Err(NotOpened::Length(rules.max));
    }
    Ok(Asked {
        by: by.party,
        reason,
        ticket,
        offline: wanted.offline,
        seconds: length.as_secs(),
        demands: rules.by.to_vec(),
        review_within: rules.review_by.as_secs(),
    })
}

/// A new one: open at once where nobody else must say yes.
fn begun(id: String, asked: Asked, now: Timestamp) -> BreakGlass {
    let alone = asked.demands.is_empty();
    let glass = BreakGlass {
        id,
        version: 0,
        asked,
        state: State::Asked,
        votes: Vec::new(),
        made: now,
        due: now.plus(CONFIRM_WITHIN),
        opened: None,
        ended: None,
        overdue: false,
        review: None,
    };
    if alone { glass.opened_at(now) } else { glass }
}

impl BreakGlasses {
    pub(super) fn new(clock: SharedClock, store: Option<Store>) -> Self {
        let (rules, vouching) = (ArcSwapOption::empty(), ArcSwapOption::empty());
        let (attempts, current, read) = (Attempts::default(), ArcSwap::default(), AtomicU64::new(0));
        Self { clock, store, rules, vouching, attempts, current, read }
    }

    /// Who may from here on, and how; nobody may without rules, and nothing is lifted.
    pub fn ruled(&self, rules: Option<Rules>) {
        self.rules.store(rules.map(Arc::new));
        self.vouch();
    }

    /// Who is told for which break-glass codes identify people, from here on.
    pub fn vouches_by(&self, vouching: Arc<Vouching>) {
        self.vouching.store(Some(vouching));
    }

    /// Codes identify people for the one that was open when the store was last read.
    fn vouch(&self) {
        let Some(vouching) = self.vouching.load_full() else { return };
        let (snapshot, read) = (self.current.load(), self.read.load(Ordering::Relaxed));
        let open = snapshot.glass.as_ref().filter(|glass| self.is_configured() && glass.state == State::Open);
        vouching.follow(open.map(|glass| (&*glass.id, glass.due)), Timestamp::from_millis(read));
    }

    /// Whether the configuration speaks of it.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.rules.load().is_some()
    }

    /// How long it can be open at most, where the configuration speaks of it.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        self.rules.load().as_ref().map(|rules| rules.max)
    }

    fn store(&self) -> Result<&Store, StoreError> {
        self.store.as_ref().ok_or_else(|| {
            StoreError::Unavailable(
                "there is none: break-glass is kept in the configuration's `store`".to_owned(),
            )
        })
    }

    /// Looks whether something changed on any replica.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look(&self) -> Result<(), StoreError> {
        let Some(store) = self.store.as_ref().filter(|_| self.is_configured()) else { return Ok(()) };
        let now = self.clock.now();
        let news = store.glass_changed(self.current.load().version).await?;
        if let Some((version, row)) = news {
            let glass = row.map(rows::read).transpose()?;
            self.follow(version, glass);
        }
        self.read.store(now.as_millis(), Ordering::Relaxed);
        self.vouch();
        self.show();
        Ok(())
    }

    /// Looks at once at what was just changed; if that fails, the next look, half a second later,
    /// brings it.
    async fn heed(&self) {
        if let Err(error) = self.look().await {
            tracing::warn!(%error, "break-glass could not be read back");
        }
    }

    fn follow(&self, version: i64, glass: Option<BreakGlass>) {
        // Two readings may cross: the later state stays.
        if self.current.load().version.is_some_and(|known| known >= version) {
            return;
        }
        let is_open = |glass: &&BreakGlass| glass.state == State::Open;
        let open = glass.as_ref().filter(is_open).map(|glass| OpenGlass { id: glass.id.as_str().into() });
        self.current.store(Arc::new(Snapshot { version: Some(version), glass, open: open.map(Arc::new) }));
    }

    /// Waits until another replica tells of a change; for ever where none does.
    pub async fn told(&self, heard: &mut Option<Heard>) {
        let Some(store) = &self.store else { return std::future::pending().await };
        store.changed(heard.get_or_insert_with(|| store.heard())).await;
    }

    /// The one that is not whole, as far as is known here.
    #[must_use]
    pub fn current(&self) -> Option<BreakGlass> {
        self.current.load().glass.clone().filter(|_| self.is_configured())
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        let read = Timestamp::from_millis(self.read.load(Ordering::Relaxed));
        now.since(read) <= MAX_AGE
    }

    /// The break-glass that `caller` holds open at `now`, as these policies see them; nothing waits.
    #[must_use]
    pub fn under(&self, policies: &PolicySet, caller: &Caller, now: Timestamp) -> Option<Arc<OpenGlass>> {
        let snapshot = self.current.load();
        let open = snapshot.open.as_ref()?;
        let glass = snapshot.glass.as_ref().filter(|glass| glass.state_at(now) == State::Open)?;
        let rules = self.rules.load_full()?;
        if !self.is_fresh(now) || caller.subjects_at_issue.is_some() {
            return None;
        }
        let voter = voter(policies, caller, &rules.who);
        let own = voter.kind == PrincipalKind::Person && voter.party.is_human_of(&glass.asked.by);
        (own && !voter.meets.is_empty()).then(|| Arc::clone(open))
    }

    /// Whether one that was open when something began still is.
    #[must_use]
    pub fn stands(&self, glass: &OpenGlass, now: Timestamp) -> bool {
        let snapshot = self.current.load();
        let same = snapshot.open.as_ref().is_some_and(|open| open.id == glass.id);
        let open = snapshot.glass.as_ref().is_some_and(|glass| glass.state_at(now) == State::Open);
        same && open && self.is_configured() && self.is_fresh(now)
    }

    /// Breaks the glass, or asks those who must say yes.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub async fn open(
        &self,
        policies: &PolicySet,
        by: &Caller,
        wanted: Wanted,
    ) -> Result<(BreakGlass, Became), NotOpened> {
        self.open_as(uuid::Uuid::now_v7().to_string(), policies, by, wanted).await
    }

    async fn open_as(
        &self,
        id: String,
        policies: &PolicySet,
        by: &Caller,
        wanted: Wanted,
    ) -> Result<(BreakGlass, Became), NotOpened> {
        let rules = self.rules.load_full().ok_or(NotOpened::NotConfigured)?;
        let asked = asked(&rules, voter(policies, by, &rules.who), wanted)?;
        let store = self.store()?;
        let glass = begun(id, asked, self.clock.now());
        if !store.begin_glass(rows::of(&glass)?).await? {
            let before = store.current_glass().await?.map(rows::read).transpose()?;
            return Err(match before {
                Some(before) => {
                    let state = before.state_at(self.clock.now()).name();
                    NotOpened::Unreviewed { id: before.id, state }
                }
                // It became whole meanwhile.
                None => NotOpened::Store(StoreError::Busy),
            });
        }
        self.heed().await;
        let became = if glass.state == State::Open { Became::Opened } else { Became::Asked };
        Self::tell(&glass, became);
        Ok((glass, became))
    }

    /// Does something to one that there is, for somebody.
    ///
    /// # Errors
    /// [`ChangeError`]; it stays as it is.
    pub async fn change(
        &self,
        policies: &PolicySet,
        by: &Caller,
        id: &str,
        deed: &Deed,
    ) -> Result<(BreakGlass, Became), ChangeError> {
        let note = match deed {
            Deed::Confirm(note) => given(note.clone()),
            Deed::Review(note) => Some(given(Some(note.clone())).ok_or(ChangeError::NoNote)?),
            Deed::Close => None,
        };
        if note.as_ref().is_some_and(|note| !is_plain(note, MAX_REASON)) {
            return Err(ChangeError::Text);
        }
        let store = self.store()?;
        if !is_id(id) {
            return Err(ChangeError::Unknown);
        }
        for _ in 0..TRIES {
            let row = store.glass(id).await?.ok_or(ChangeError::Unknown)?;
            let before = rows::read(row)?;
            let voter = voter(policies, by, &before.asked.demands);
            let event = match deed {
                Deed::Confirm(_) => Event::Confirm { by: voter, note: note.clone() },
                Deed::Close => Event::Close { by: voter.party },
                Deed::Review(_) => Event::Review { by: voter, note: note.clone().unwrap_or_default() },
            };
            let (after, became) = before.after(&event, self.clock.now())?;
            if store.change_glass(rows::of(&after)?).await? {
                Self::tell(&after, became);
                self.heed().await;
                return Ok((after, became));
            }
        }
        Err(ChangeError::Store(StoreError::Busy))
    }

    /// Lets time go by for the one that is not whole; what became of it by this call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pass(&self) -> Result<Vec<(BreakGlass, Became)>, StoreError> {
        let Some(store) = self.store.as_ref().filter(|_| self.is_configured()) else { return Ok(Vec::new()) };
        let mut passed = Vec::new();
        while let Some(row) = store.current_glass().await? {
            let Ok((after, became)) = rows::read(row)?.after(&Event::Pass, self.clock.now()) else { break };
            if store.change_glass(rows::of(&after)?).await? {
                Self::tell(&after, became);
                passed.push((after, became));
            }
        }
        if !passed.is_empty() {
            self.heed().await;
        }
        Ok(passed)
    }

    /// Says what became of one where operators look: the log and the metrics.
    fn tell(glass: &BreakGlass, became: Became) {
        let (id, opener, what) = (&*glass.id, &*glass.asked.by.id, became.name());
        match became {
            Became::Opened => tracing::error!(id, opener, "the glass is broken"),
            Became::Overdue => tracing::error!(id, opener, "the review of a break-glass is overdue"),
            Became::Asked
            | Became::Confirmed
            | Became::Closed
            | Became::Expired
            | Became::Dropped
            | Became::Reviewed => tracing::warn!(id, opener, what, "break-glass"),
        }
        metrics::counter!("amlgate_break_glass_total", "what" => what).increment(1);
    }

    /// Shows in the metrics how it stands.
    fn show(&self) {
        let snapshot = self.current.load();
        let state = snapshot.glass.as_ref().map(|glass| glass.state_at(self.clock.now()));
        let overdue = snapshot.glass.as_ref().is_some_and(|glass| glass.overdue);
        let as_gauge = |holds: bool| if holds { 1.0 } else { 0.0 };
        metrics::gauge!("amlgate_break_glass_open").set(as_gauge(state == Some(State::Open)));
        metrics::gauge!("amlgate_break_glass_review_overdue").set(as_gauge(overdue));
    }

    /// One by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn one(&self, id: &str) -> Result<Option<BreakGlass>, StoreError> {
        let store = self.store()?;
        if !is_id(id) {
            return Ok(None);
        }
        store.glass(id).await?.map(rows::read).transpose()
    }

    /// At most `limit` of them, the newest first, from before this one on: when it was asked for, and
    /// its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(
        &self,
        before: Option<(Timestamp, String)>,
        limit: u32,
    ) -> Result<Vec<BreakGlass>, StoreError> {
        self.store()?.glasses(before, limit).await?.into_iter().map(rows::read).collect()
    }

    /// Somebody as one of them hears them.
    #[must_use]
    pub fn voter(policies: &PolicySet, caller: &Caller, glass: &BreakGlass) -> Voter {
        voter(policies, caller, &glass.asked.demands)
    }
}
