//! What was read of Azure about somebody, kept fresh.
//!
//! One reading serves all who ask for the same until it is no longer fresh; then one of them reads
//! anew while the others wait. If Azure does not answer, what it said last stands until it is
//! stale; after that there is nothing, and the reason. Readings that were used lately are renewed in
//! the background, so that hardly any request waits.

use std::{
    fmt,
    hash::Hash,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use moka::future::Cache;
use tokio::sync::Semaphore;

use super::CredentialError;
use crate::time::{SharedClock, Timestamp};

/// At most so many readings.
const CAPACITY: u64 = 50_000;
/// At most so many questions are under way; further ones wait for these.
const AT_A_TIME: usize = 64;
/// After a failure Azure is not asked again for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// What was not used for so long is no longer renewed.
const UNUSED: Duration = Duration::from_secs(900);
/// At most so many readings are renewed in one round.
const ROUND: usize = 1_000;

/// How old a reading may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ages {
    /// It is used without question for so long.
    pub fresh: Duration,
    /// One that could not be renewed is used for so long.
    pub stale: Duration,
}

/// A value and when it was read.
type Dated<V> = (Arc<V>, Timestamp);

/// What is kept of a reading.
pub(super) struct Held<V> {
    /// The last reading that succeeded.
    value: Option<Dated<V>>,
    /// Why the last attempt failed, if it did.
    failure: Option<Arc<str>>,
    /// When it was last tried.
    tried: Timestamp,
    /// When it was last asked for, in milliseconds.
    used: Arc<AtomicU64>,
}

impl<V> Clone for Held<V> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            failure: self.failure.clone(),
            tried: self.tried,
            used: Arc::clone(&self.used),
        }
    }
}

impl<V> Held<V> {
    fn is_due(&self, now: Timestamp, fresh: Duration) -> bool {
        let wait = if self.failure.is_some() { PAUSE.min(fresh) } else { fresh };
        now.since(self.tried) >= wait || now < self.tried
    }

    fn answer(&self, now: Timestamp, stale: Duration) -> Result<Arc<V>, Arc<str>> {
        self.used.store(now.as_millis(), Ordering::Relaxed);
        match (&self.value, &self.failure) {
            (Some((value, _)), None) => Ok(Arc::clone(value)),
            (Some((value, read)), Some(_)) if now.since(*read) < stale => Ok(Arc::clone(value)),
            (_, failure) => Err(failure.clone().unwrap_or_else(|| "Azure was not reached".into())),
        }
    }
}

/// Readings of one sort, by what was asked. Cheap to clone.
pub(super) struct Readings<K, V> {
    /// What is read, in logs and metrics.
    what: &'static str,
    held: Cache<K, Held<V>>,
    ages: Ages,
    clock: SharedClock,
    asking: Arc<Semaphore>,
}

impl<K, V> Clone for Readings<K, V> {
    fn clone(&self) -> Self {
        Self {
            what: self.what,
            held: self.held.clone(),
            ages: self.ages,
            clock: Arc::clone(&self.clock),
            asking: Arc::clone(&self.asking),
        }
    }
}

impl<K, V> fmt::Debug for Readings<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} readings", self.held.entry_count())
    }
}

impl<K, V> Readings<K, V>
where
    K: Hash + Eq + Clone + fmt::Debug + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(what: &'static str, ages: Ages, clock: SharedClock) -> Self {
        let asking = Arc::new(Semaphore::new(AT_A_TIME));
        Self { what, held: Cache::builder().max_capacity(CAPACITY).build(), ages, clock, asking }
    }

    /// The same readings, of other ages.
    pub(super) fn aged(&self, ages: Ages) -> Self {
        Self { ages, ..self.clone() }
    }

    /// What `key` stands for; `read` reads it if need be.
    pub(super) async fn get(
        &self,
        key: K,
        read: impl Future<Output = Result<V, CredentialError>>,
    ) -> Result<Arc<V>, Arc<str>> {
        let now = self.clock.now();
        let before = self.held.get(&key).await;
        if let Some(held) = before.as_ref().filter(|held| !held.is_due(now, self.ages.fresh)) {
            return held.answer(now, self.ages.stale);
        }
        let read = self.renewed(&key, before, now, read);
        let due = |held: &Held<V>| held.is_due(now, self.ages.fresh);
        // Boxed: every request's future would have room for it, and it is rare.
        let held = Box::pin(self.held.entry(key.clone()).or_insert_with_if(read, due)).await.into_value();
        held.answer(self.clock.now(), self.ages.stale)
    }

    /// What was read last, without asking Azure: for streams that are judged again. They keep their
    /// reading in use, so that it is renewed in the background.
    pub(super) fn last(&self, key: &K) -> Result<Arc<V>, Arc<str>> {
        let now = self.clock.now();
        let held = pin!(self.held.get(key)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Some(held)) = held else { return Err("Azure was not reached".into()) };
        let value = held.answer(now, self.ages.stale)?;
        match held.value {
            Some((_, read)) if now.since(read) < self.ages.stale => Ok(value),
            Some(_) | None => Err("what Azure said last is too old".into()),
        }
    }

    /// Waits until the next look at what is due.
    pub(super) async fn wait(&self) {
        self.clock.sleep(self.ages.fresh / 4).await;
    }

    /// What was used lately and will not be fresh at the next look.
    pub(super) fn due(&self) -> Vec<(Arc<K>, Held<V>)> {
        let now = self.clock.now();
        let due = |held: &Held<V>| {
            let used = Timestamp::from_millis(held.used.load(Ordering::Relaxed));
            now.since(used) < UNUSED && held.is_due(now, self.ages.fresh / 2)
        };
        self.held.iter().filter(|(_, held)| due(held)).take(ROUND).collect()
    }

    /// Renews what [`Self::due`] found.
    pub(super) async fn renew(
        &self,
        key: &K,
        before: Held<V>,
        read: impl Future<Output = Result<V, CredentialError>>,
    ) {
        let now = self.clock.now();
        let due = |held: &Held<V>| held.is_due(now, self.ages.fresh / 2);
        let read = self.renewed(key, Some(before), now, read);
        self.held.entry(key.clone()).or_insert_with_if(read, due).await;
    }

    /// Reads anew; what was read before stands beside a failure.
    async fn renewed(
        &self,
        key: &K,
        before: Option<Held<V>>,
        now: Timestamp,
        read: impl Future<Output = Result<V, CredentialError>>,
    ) -> Held<V> {
        let used = before.as_ref().map(|held| Arc::clone(&held.used)).unwrap_or_default();
        // It is never closed.
        let _one_of_a_few = self.asking.acquire().await;
        let count = |outcome: &'static str| {
            metrics::counter!("amlgate_azure_reads_total", "what" => self.what, "outcome" => outcome)
                .increment(1);
        };
        match read.await {
            Ok(value) => {
                count("read");
                Held { value: Some((Arc::new(value), now)), failure: None, tried: now, used }
            }
            Err(error) => {
                count("failed");
                tracing::warn!(%error, ?key, what = self.what, "cannot be read of Azure");
                let value = before.and_then(|held| held.value);
                Held { value, failure: Some(error.to_string().into()), tried: now, used }
            }
        }
    }
}
