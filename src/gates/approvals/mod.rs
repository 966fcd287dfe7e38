//! Approvals: people say yes before a call goes on, and what they said yes to goes on once.
//!
//! A call that an entry holds up is refused and remembered; whoever made it asks from there, others
//! answer, and what they grant is taken by the same call when it comes again. Who may answer, what
//! becomes of a request and of a grant, and what makes two calls the same are pure functions
//! ([`people`], [`request`], [`grant`], [`call`]); this file joins them with the store, whose
//! conditional updates let one win of however many ask at once. It records nothing: whoever calls it
//! does, by the values that it returns.

mod ask;
mod bounds;
pub mod call;
pub mod claimed;
mod clear;
pub mod grant;
pub mod people;
mod places;
pub mod request;
mod rows;
#[cfg(test)]
mod tests;
mod withdrawn;

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

pub use self::{
    ask::{Answer, AnswerError, Answered, AskError, Wanted},
    bounds::Bounds,
    call::{BodyKnown, Call, Refused, What},
    claimed::{Claimed, Likeness, MAX_CLAIMED, Speaker},
    clear::{Found, GrantUse, Looking, Uses, Waits},
    grant::{Came, Grant, GrantState},
    people::{NoVoice, Party, Vote, Voter},
    places::Place,
    request::{Request, State},
};
use self::{places::Places, request::Event, withdrawn::Withdrawn};
use crate::{
    gates::words::is_id,
    identity::Caller,
    policy::PolicySet,
    store::{Heard, Page, Store, StoreError},
    time::{SharedClock, Timestamp},
};

/// A request waits so long for its answers.
pub const PENDING_FOR: Duration = Duration::from_secs(86_400);
/// A refused call is remembered so long: whoever made it asks within this time.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(3_600);
/// Refused calls that are remembered of each person; each takes at most some 16 KiB.
const REMEMBERED: u32 = 64;
/// Within this time the requests that one person makes are counted.
const DAY: Duration = Duration::from_secs(86_400);
/// The longest reason, note or ticket, in bytes.
pub const MAX_REASON: usize = 1_024;
/// The longest ticket, in bytes.
pub const MAX_TICKET: usize = 128;

/// Requests, grants and what is known of them here. One for the whole process.
pub struct Approvals {
    clock: SharedClock,
    store: Option<Store>,
    /// The URL of the console, without a slash at its end.
    console: ArcSwapOption<String>,
    /// The service that may ask in people's names, if there is one.
    speaker: ArcSwapOption<Speaker>,
    withdrawn: Withdrawn,
    places: Places,
    bounds: ArcSwap<Bounds>,
    /// Rises whenever something about approvals changed on any replica.
    changed: watch::Sender<i64>,
}

impl fmt::Debug for Approvals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Approvals({:?})", self.store)
    }
}

impl Approvals {
    pub(super) fn new(clock: SharedClock, store: Option<Store>) -> Self {
        let (console, withdrawn) = (ArcSwapOption::empty(), Withdrawn::default());
        let (places, bounds) = (Places::default(), ArcSwap::default());
        let (speaker, changed) = (ArcSwapOption::empty(), watch::Sender::new(-1));
        Self { clock, store, console, speaker, withdrawn, places, bounds, changed }
    }

    /// So much may wait for people from here on; what waits already waits on.
    pub fn bound_by(&self, bounds: Bounds) {
        self.bounds.store(Arc::new(bounds));
    }

    /// Where people open requests, if there is a console: stands in refusals from here on.
    pub fn at_console(&self, url: Option<&str>) {
        self.console.store(url.map(|url| Arc::new(url.trim_end_matches('/').to_owned())));
    }

    /// Where that is.
    #[must_use]
    pub fn console(&self) -> Option<Arc<String>> {
        self.console.load_full()
    }

    /// Who may ask in people's names from here on, if anybody may.
    pub fn asked_for_by(&self, speaker: Option<&Speaker>) {
        self.speaker.store(speaker.map(|speaker| Arc::new(speaker.clone())));
    }

    /// Who may ask in people's names.
    #[must_use]
    pub fn speaker(&self) -> Option<Arc<Speaker>> {
        self.speaker.load_full()
    }

    fn store(&self) -> Result<&Store, StoreError> {
        self.store.as_ref().ok_or_else(|| {
            StoreError::Unavailable(
                "approvals are kept in a store: add `store: {sqlite: var/amlgate.db}` to the configuration"
                    .to_owned(),
            )
        })
    }

    /// Whether there is anything to keep requests in.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.store.is_some()
    }

    /// Looks whether something changed on any replica: which grants were taken back, for the streams
    /// that live by them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look(&self) -> Result<(), StoreError> {
        let Some(store) = &self.store else { return Ok(()) };
        let now = self.clock.now();
        let news = store.approvals_changed(self.withdrawn.version(), now).await?;
        if let Some(version) = self.withdrawn.follow(news, now) {
            self.changed.send_replace(version);
        }
        Ok(())
    }

    /// The same after a change was made: it counts, whatever comes of looking, which is soon done anyhow.
    async fn look_again(&self) {
        if let Err(error) = self.look().await {
            tracing::debug!(%error, "what changed of approvals is seen at the next look");
        }
    }

    /// Waits until another replica tells of a change; for ever where none does.
    pub async fn told(&self, heard: &mut Option<Heard>) {
        let Some(store) = &self.store else { return std::future::pending().await };
        store.changed(heard.get_or_insert_with(|| store.heard())).await;
    }

    /// Changes whenever something about approvals did, on any replica.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.changed.subscribe()
    }

    /// A place for a call of a person's that waits; `None` if there is none.
    #[must_use]
    pub fn place(&self, person: &str) -> Option<Place> {
        self.places.take(person, &self.bounds.load())
    }

    /// How many calls wait for people here.
    #[must_use]
    pub fn calls_waiting(&self) -> usize {
        self.places.taken()
    }

    /// Ends what is over; the requests and grants that ended by this call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire(&self) -> Result<(Vec<Request>, Vec<Grant>), StoreError> {
        let Some(store) = &self.store else { return Ok((Vec::new(), Vec::new())) };
        let now = self.clock.now();
        let requests =
            store.expire_requests(now).await?.into_iter().map(rows::request).collect::<Result<_, _>>()?;
        let grants =
            store.expire_grants(now).await?.into_iter().map(rows::grant).collect::<Result<_, _>>()?;
        Ok((requests, grants))
    }

    /// Forgets what ended long ago.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget(&self) -> Result<u64, StoreError> {
        match &self.store {
            Some(store) => store.forget_approvals(self.clock.now()).await,
            None => Ok(0),
        }
    }

    /// Whether what was begun with a grant may go on.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn stands(&self, grant: &GrantUse, now: Timestamp) -> Result<(), String> {
        if now >= grant.expires {
            return Err(format!("the approval of entry `{}` is over", grant.entry));
        }
        self.withdrawn
            .stands(&grant.id, now)
            .map_err(|why| format!("the approval of entry `{}` {why}", grant.entry))
    }

    /// A request by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn request(&self, id: &str) -> Result<Option<Request>, StoreError> {
        let store = self.store()?;
        if !is_id(id) {
            return Ok(None);
        }
        store.approval_request(id).await?.map(rows::request).transpose()
    }

    /// A page of requests, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn requests(&self, page: Page) -> Result<Vec<Request>, StoreError> {
        self.store()?.approval_requests(page).await?.into_iter().map(rows::request).collect()
    }

    /// A grant by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn grant(&self, id: &str) -> Result<Option<Grant>, StoreError> {
        let store = self.store()?;
        if !is_id(id) {
            return Ok(None);
        }
        store.approval_grant(id).await?.map(rows::grant).transpose()
    }

    /// A page of grants, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn grants(&self, page: Page) -> Result<Vec<Grant>, StoreError> {
        self.store()?.approval_grants(page).await?.into_iter().map(rows::grant).collect()
    }

    /// Takes a grant back: every replica uses it no more, and cuts what lives by it within a second.
    /// Whether it held until then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke(&self, id: &str) -> Result<bool, StoreError> {
        let store = self.store()?;
        if !is_id(id) {
            return Ok(false);
        }
        let revoked = store.revoke_grant(id, self.clock.now()).await?;
        self.look_again().await;
        Ok(revoked)
    }

    /// Somebody as a request hears them: as the policies see them, with the demands that they meet.
    #[must_use]
    pub fn voter(policies: &PolicySet, caller: &Caller, request: &Request) -> Voter {
        let kind = policies.kind_of(caller);
        let meets = policies.meets(&request.asked.demands, caller);
        let claimed = &request.asked.claimed;
        let claimed = claimed.as_ref().map_or(Likeness::Other, |claimed| claimed.likeness(caller));
        Voter { party: Party::of(caller, kind), kind, meets, claimed }
    }
}
