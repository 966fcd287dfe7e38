//! The keys of one issuer as all cores see them, and the one task that fetches them.
//!
//! Requests read an immutable snapshot. A request that meets an unknown `kid` asks the task for a
//! newer one and waits a bounded time; asking is limited to one fetch in [`ASK_EVERY`] for all
//! requests together, so that a storm of invented ids costs the issuer nothing. The last good keys
//! stand in while the issuer is down, for as long as the settings say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, watch};

use super::{
    discovery::{self, KeySource},
    jwks::{KeySet, Note},
    settings::{Form, IssuerSettings},
};
use crate::time::{Clock, SharedClock, Timestamp};

/// An unknown `kid` makes the keys be fetched at most this often.
pub const ASK_EVERY: Duration = Duration::from_secs(10);
/// A request waits at most this long for newer keys.
const WAIT: Duration = Duration::from_secs(6);
/// After a failed fetch the next one comes after this, then after twice as long, up to the last.
const RETRY: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(300)];

/// One form of an issuer with its keys.
#[derive(Debug)]
pub(super) struct Keyring {
    pub issuer: Arc<IssuerSettings>,
    pub form: Form,
    loaded: ArcSwapOption<Loaded>,
    /// Raised when a key is gone or changed, or the issuer: what was verified before is forgotten.
    epoch: AtomicU64,
    /// Until when the snapshot may be used, in milliseconds; 0 while there is none.
    good_until: AtomicU64,
    progress: watch::Sender<Progress>,
    asked: Notify,
    retired: AtomicBool,
    last_error: ArcSwap<Option<Problem>>,
}

#[derive(Debug)]
struct Loaded {
    keys: Arc<KeySet>,
    at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    at: Timestamp,
    what: String,
    in_a_row: u32,
}

/// Asked and answered, so that whoever waits knows when its question was.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    asked: u64,
    answered: u64,
    /// When somebody last asked or a fetch last ended.
    last_fetch: Option<Timestamp>,
    /// When a fetch last ended.
    ended: Option<Timestamp>,
}

/// What a request finds.
#[derive(Debug)]
pub(super) enum Keys {
    /// These.
    Good(Arc<KeySet>),
    /// None yet, or only ones that are too old.
    None,
}

/// How one issuer's keys stand: for readiness and `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerStatus {
    /// The issuer's name.
    pub name: Arc<str>,
    /// The `iss` whose keys these are.
    pub iss: Box<str>,
    /// Whether tokens can be verified now.
    pub usable: bool,
    /// The ids of the keys in use.
    pub keys: Vec<String>,
    /// When they were fetched.
    pub fetched: Option<Timestamp>,
    /// The last fetch's failure, if it failed.
    pub last_error: Option<String>,
    /// Published keys that are not used, and why.
    pub notes: Vec<Note>,
}

impl Keyring {
    pub fn new(issuer: Arc<IssuerSettings>, form: Form) -> Self {
        Self {
            issuer,
            form,
            loaded: ArcSwapOption::empty(),
            epoch: AtomicU64::new(1),
            good_until: AtomicU64::new(0),
            progress: watch::Sender::new(Progress::default()),
            asked: Notify::new(),
            retired: AtomicBool::new(false),
            last_error: ArcSwap::from_pointee(None),
        }
    }

    /// Takes over the keys of the same form of an issuer whose other settings were changed, so that
    /// a reload while the issuer is down loses nothing.
    pub fn inherit(&self, old: &Self) {
        let same = old.form == self.form
            && old.issuer.address == self.issuer.address
            && old.issuer.trust == self.issuer.trust;
        if let Some(loaded) = old.loaded.load_full().filter(|_| same) {
            self.good_until.store(loaded.at.plus(self.issuer.keep_for).as_millis(), Ordering::Release);
            self.loaded.store(Some(loaded));
            self.last_error.store(old.last_error.load_full());
        }
    }

    /// The present epoch. Read it before [`Self::keys`], so that what is verified with keys that
    /// are replaced meanwhile is already of an older epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether what was verified in `epoch` still stands at `now`.
    pub fn stands(&self, epoch: u64, now: Timestamp) -> bool {
        self.epoch() == epoch
            && now.as_millis() < self.good_until.load(Ordering::Acquire)
            && !self.retired.load(Ordering::Acquire)
    }

    fn good(&self, now: Timestamp) -> bool {
        matches!(self.keys(now), Keys::Good(_))
    }

    /// Why the last fetch failed, if it did.
    pub fn down(&self) -> Option<String> {
        self.last_error.load().as_ref().as_ref().map(|p| p.what.clone())
    }

    /// The snapshot.
    pub fn keys(&self, now: Timestamp) -> Keys {
        match self.loaded.load_full() {
            Some(loaded) if now < loaded.at.plus(self.issuer.keep_for) => {
                Keys::Good(Arc::clone(&loaded.keys))
            }
            Some(_) | None => Keys::None,
        }
    }

    /// Asks for newer keys, unless somebody did or they were fetched within [`ASK_EVERY`], and waits
    /// until the question is answered, at most a few seconds. Whether an answer came. While the
    /// issuer is known to be down nobody waits for it who could be served by the last good keys.
    pub async fn newer(&self, clock: &dyn Clock) -> bool {
        let mut progress = self.progress.subscribe();
        let now = clock.now();
        self.progress.send_if_modified(|p| {
            // A clock that jumped back does not silence us.
            let due = p.last_fetch.is_none_or(|last| now < last || now.since(last) >= ASK_EVERY);
            if due {
                p.asked += 1;
                p.last_fetch = Some(now);
                self.asked.notify_one();
            }
            due
        });
        let ticket = progress.borrow().asked;
        if progress.borrow().answered >= ticket || (self.down().is_some() && self.good(now)) {
            return false;
        }
        tokio::select! {
            answered = progress.wait_for(|p| p.answered >= ticket) => answered.is_ok(),
            () = clock.sleep(WAIT) => false,
        }
    }

    /// Fetches once and puts the result in force; a failure leaves the last good keys.
    pub async fn fetch(&self, source: &dyn KeySource, clock: &dyn Clock) {
        let ticket = self.progress.borrow().asked;
        let loaded = discovery::load(source, &self.issuer, &self.form).await;
        let now = clock.now();
        let (issuer, result) =
            (self.issuer.name.to_string(), if loaded.is_ok() { "fetched" } else { "failed" });
        metrics::counter!("amlgate_key_fetches_total", "issuer" => issuer, "result" => result).increment(1);
        match loaded {
            Ok(keys) => self.install(keys, now),
            Err(error) => {
                let what = chain(&error);
                tracing::warn!(issuer = %self.issuer.name, iss = %self.form.iss, error = %what, "keys not fetched");
                let in_a_row = self.last_error.load().as_ref().as_ref().map_or(0, |p| p.in_a_row) + 1;
                self.last_error.store(Arc::new(Some(Problem { at: now, what, in_a_row })));
            }
        }
        self.progress.send_modify(|p| {
            p.answered = p.answered.max(ticket);
            // Whatever it was for: what was just fetched is not worth fetching again.
            p.last_fetch = Some(now);
            p.ended = Some(now);
        });
    }

    fn install(&self, keys: KeySet, now: Timestamp) {
        let before = self.loaded.load_full();
        let kept = before.as_ref().is_none_or(|old| old.keys.survives_in(&keys));
        if before.as_ref().is_none_or(|old| old.keys.notes() != keys.notes()) {
            for note in keys.notes() {
                tracing::warn!(issuer = %self.issuer.name, key = %note.key, why = note.why, "published key not used");
            }
        }
        self.loaded.store(Some(Arc::new(Loaded { keys: Arc::new(keys), at: now })));
        self.good_until.store(now.plus(self.issuer.keep_for).as_millis(), Ordering::Release);
        if !kept {
            tracing::info!(issuer = %self.issuer.name, iss = %self.form.iss, "a key was withdrawn: its tokens are forgotten");
            self.forget();
        }
        self.last_error.store(Arc::new(None));
    }

    /// Makes everything that was verified with these keys be verified again.
    pub fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// The issuer is no longer configured, or not so: nothing that was verified stands.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.forget();
        self.asked.notify_one();
    }

    /// Keeps the keys fresh until the issuer is retired: ahead of their age, sooner when asked, with
    /// growing pauses while it fails. The first fetch is due at once, unless somebody fetched before:
    /// a gate that starts waits for its keys, and does not fetch them a second time.
    pub async fn keep_fresh(self: Arc<Self>, source: Arc<dyn KeySource>, clock: SharedClock) {
        loop {
            let ended = self.progress.borrow().ended;
            if let Some(ended) = ended {
                tokio::select! {
                    () = clock.sleep_until(ended.plus(self.pause())) => {}
                    () = self.asked.notified() => {}
                }
            }
            if self.retired.load(Ordering::Acquire) {
                return;
            }
            self.fetch(source.as_ref(), clock.as_ref()).await;
        }
    }

    fn pause(&self) -> Duration {
        let [first, last] = RETRY;
        match self.last_error.load().as_ref() {
            None => self.issuer.refresh_every,
            Some(problem) => {
                let doubled = 1_u32.checked_shl(problem.in_a_row.saturating_sub(1)).unwrap_or(u32::MAX);
                first.saturating_mul(doubled).min(last).min(self.issuer.refresh_every)
            }
        }
    }

    pub fn status(&self, now: Timestamp) -> IssuerStatus {
        let loaded = self.loaded.load_full();
        let keys = loaded.as_ref().map(|l| Arc::clone(&l.keys));
        IssuerStatus {
            name: Arc::clone(&self.issuer.name),
            iss: self.form.iss.clone(),
            usable: self.good(now),
            keys: keys.iter().flat_map(|k| k.ids()).map(str::to_owned).collect(),
            fetched: loaded.as_ref().map(|l| l.at),
            last_error: self
                .last_error
                .load()
                .as_ref()
                .as_ref()
                .map(|p| format!("{} (at {}, {} in a row)", p.what, p.at.to_rfc3339(), p.in_a_row)),
            notes: keys.map(|k| k.notes().to_vec()).unwrap_or_default(),
        }
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
