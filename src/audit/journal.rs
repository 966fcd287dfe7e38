//! The journal: what the request path sees of the record.

mod bodies;
mod open;

use std::{
    fmt, fs,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{
    Condition, Exchange, Reads, Recorded, Refusals, Unrecorded,
    bodies::{Blob, BodySettings},
    event::Event,
    inbox::Outbox,
    keeper::{GivenUp, Wish},
    record::{self, Ending, Parts, Phase},
    writer::{Entry, Message, Missed},
};
use crate::{
    azureml::Kind,
    gates::{Cleared, Held},
    identity::Principal,
    policy::{Denial, Denied, Permit, RequestFacts, Standing},
    secrets::Mac,
    time::{SharedClock, Timestamp},
};

/// How long closing waits for the last records and their head: a disk that is busy takes seconds.
const RECORD_END: Duration = Duration::from_secs(60);
/// How long it waits then for tiles, and for segments to be packed.
const TILES_END: Duration = Duration::from_secs(5);

/// The record of everything. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    messages: Outbox,
    slots: Arc<Semaphore>,
    /// What the records under way may take, in KiB: waiting for a disk that hangs costs memory.
    space: Arc<Semaphore>,
    capacity: usize,
    slot_wait: Duration,
    sync_wait: Duration,
    condition: Arc<ArcSwap<Condition>>,
    missed: Arc<Missed>,
    durable: watch::Receiver<u64>,
    reads: Reads,
    clock: SharedClock,
    thumbprint: Mac,
    refusals: Refusals,
    wish: Wish,
    given_up: GivenUp,
    /// Everything before this position was recorded as removed.
    retired: AtomicU64,
    /// How bodies are kept; nothing that wants them recorded goes on without.
    bodies: ArcSwapOption<BodySettings>,
    /// Where bodies are sealed: beside the request path, and beside the writer.
    apart: mpsc::Sender<Apart>,
    /// Says when what is kept behind the last head is done.
    kept: Mutex<Option<oneshot::Receiver<()>>>,
    /// Held as long as the journal is open.
    _lock: Option<fs::File>,
}

/// Work for the thread that seals bodies.
pub(super) type Apart = Box<dyn FnOnce() + Send>;

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({:?})", self.condition())
    }
}

impl Journal {
    /// Whether records can be made durable.
    #[must_use]
    pub fn condition(&self) -> Condition {
        Condition::clone(&self.inner.condition.load())
    }

    /// What happens to plain reads when the disk fails.
    #[must_use]
    pub fn reads(&self) -> Reads {
        self.inner.reads
    }

    /// How many records are durable, and word of each time that there are more.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.inner.durable.clone()
    }

    /// Records under way.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.inner.capacity.saturating_sub(self.inner.slots.available_permits())
    }

    /// Records that a cleared request is about to be sent. For a plain read a place in the queue is
    /// taken and nobody waits; anything else waits until its intent is durable, and has the place for
    /// its outcome by then. If the future is dropped while it waits, the outcome says `aborted`.
    ///
    /// # Errors
    /// [`Unrecorded`] if that cannot be had in time: the request must not go on.
    pub async fn intend(&self, cleared: Cleared, exchange: Exchange) -> Result<Recorded, Unrecorded> {
        if cleared.permit().judgement().record.is_some() && self.inner.bodies.load().is_none() {
            self.refuses();
            return Err(Unrecorded { cleared });
        }
        let operation = cleared.permit().operation();
        if operation.kind == Kind::Read && operation.secrets.is_empty() && !exchange.upgrade {
            return self.intend_read(cleared, exchange).await;
        }
        let refused = |cleared| {
            self.refuses();
            Err(Unrecorded { cleared })
        };
        let Some(mut slots) = self.slots(2).await else { return refused(cleared) };
        let place = slots.split(1);
        let judged = self.judged_body(cleared.permit(), &exchange);
        let in_intent = judged.is_some();
        let (line, blobs) = match judged {
            None => (record::render(&self.parts(&cleared, &exchange, Phase::Intent)), Vec::new()),
            // Boxed: few bodies are recorded.
            Some(bodies) => match Box::pin(self.sealed(cleared.permit().decision(), bodies)).await {
                Some((notes, blobs)) => {
                    let parts = self.parts(&cleared, &exchange, Phase::Intent);
                    (record::render(&Parts { bodies: &notes, ..parts }), blobs)
                }
                None => return refused(cleared),
            },
        };
        let mut recorded = self.recorded(cleared, exchange, Some(slots));
        if let Some(bodies) = recorded.outcome.bodies.as_mut().filter(|_| in_intent) {
            bodies.forget_request();
        }
        match self.durably(line, blobs, place).await {
            Durability::Durable => Ok(recorded),
            Durability::Not => {
                recorded.outcome.slot = None;
                refused(recorded.given_up())
            }
            // It may become durable yet, so it gets its outcome.
            Durability::Unknown => {
                recorded.outcome.ended(Ending::NotSent);
                refused(recorded.given_up())
            }
        }
    }

    /// Counts a request that cannot be recorded.
    fn refuses(&self) {
        metrics::counter!("amlgate_journal_refused_total").increment(1);
        self.inner.missed.refused.fetch_add(1, Ordering::Relaxed);
    }

    async fn intend_read(&self, cleared: Cleared, exchange: Exchange) -> Result<Recorded, Unrecorded> {
        let failing = **self.inner.condition.load() != Condition::Healthy;
        let slot = match self.inner.reads {
            Reads::Required if failing => None,
            // What is kept for a failing disk fills the queue; nobody waits for that to change.
            Reads::BestEffort if failing && self.inner.space.available_permits() == 0 => None,
            Reads::BestEffort if failing => Arc::clone(&self.inner.slots).try_acquire_owned().ok(),
            Reads::Required | Reads::BestEffort => self.slots(1).await,
        };
        match (slot, self.inner.reads) {
            (Some(slot), _) => Ok(self.recorded(cleared, exchange, Some(slot))),
            (None, Reads::BestEffort) => {
                metrics::counter!("amlgate_journal_unrecorded_reads_total").increment(1);
                self.inner.missed.unrecorded.fetch_add(1, Ordering::Relaxed);
                Ok(self.recorded(cleared, exchange, None))
            }
            (None, Reads::Required) => {
                self.refuses();
                Err(Unrecorded { cleared })
            }
        }
    }

    /// Records a decision against a request.
    ///
    /// # Errors
    /// [`Unwritable`] if no place was free in time: the answer is 503 then.
    pub async fn denied(&self, denied: &Denied) -> Result<(), Unwritable> {
        let Some(denial) = &denied.judgement.denial else { return Ok(()) };
        // Rendered before anything is waited for: what it is made of is not kept meanwhile.
        let line = record::render(&Parts {
            phase: Phase::Denial(denial),
            caller: &denied.principal,
            operation: Some(&denied.operation),
            request: &denied.request,
            judgement: Some(&denied.judgement),
            standing: Standing::Entries,
            policy_digest: Some(&denied.policy_digest),
            credential: None,
            bodies: &[],
            grants: &[],
            reviews: &[],
            thumbprint: &self.inner.thumbprint,
            now: self.now(),
        });
        self.queue(line).await
    }

    /// Records that a gate stopped a permitted request.
    ///
    /// # Errors
    /// [`Unwritable`].
    pub async fn held(&self, held: &Held) -> Result<(), Unwritable> {
        let exchange = Exchange::default();
        let parts = self.parts_of(&held.permit, &exchange, Phase::Denial(&held.denial));
        self.queue(record::render(&parts)).await
    }

    /// Records that a known caller's request could not even be named or read.
    ///
    /// # Errors
    /// [`Unwritable`].
    pub async fn unnamed(
        &self,
        principal: &Principal,
        request: &RequestFacts,
        denial: &Denial,
    ) -> Result<(), Unwritable> {
        // Rendered before anything is waited for: what it is made of is not kept meanwhile.
        let line = record::render(&Parts {
            phase: Phase::Denial(denial),
            caller: principal,
            operation: None,
            request,
            judgement: None,
            standing: Standing::Entries,
            policy_digest: None,
            credential: None,
            bodies: &[],
            grants: &[],
            reviews: &[],
            thumbprint: &self.inner.thumbprint,
            now: self.now(),
        });
        self.queue(line).await
    }

    /// Counts a refusal before anybody was known; the counts become records with the next head.
    pub fn refused(&self, peer: IpAddr, reason: &'static str) {
        metrics::counter!("amlgate_refusals_total", "reason" => reason).increment(1);
        self.inner.refusals.count(peer, reason);
    }

    /// Records something that happened to the gate itself.
    ///
    /// # Errors
    /// [`Unwritable`] if it could not be made durable.
    pub async fn happened(&self, event: &Event) -> Result<(), Unwritable> {
        self.written(event.render(self.now())).await
    }

    /// Turns counted refusals into records and has the head signed.
    pub fn sign_head(&self) {
        for event in self.inner.refusals.take() {
            self.push_unbounded(event);
        }
        let before = self.inner.wish.load(Ordering::Relaxed);
        if self.inner.retired.fetch_max(before, Ordering::Relaxed) < before {
            self.push_unbounded(Event::RecordsRetired { before });
        }
        metrics::gauge!("amlgate_journal_depth").set(self.depth() as f64);
        drop(self.inner.messages.send(Message::Head));
    }

    /// Signs a head every `interval`, for ever.
    pub async fn sign_heads(&self, interval: Duration) {
        loop {
            self.inner.clock.sleep(interval).await;
            self.sign_head();
        }
    }

    /// Writes what is under way, signs the last head and ends the writer; whether everything was
    /// written and vouched for. From now on nothing more is recorded, so nothing may be under way:
    /// what is still open then is not recorded, and counted.
    ///
    /// The head is waited for as long as a disk may take that is only slow; the tiles that it is
    /// published with are not, because they can be built after the next start.
    pub async fn close(&self) -> bool {
        self.inner.slots.close();
        let ended = self.within(RECORD_END, self.ended()).await;
        let clean = ended.unwrap_or_else(|| {
            tracing::error!("the disk does not answer: the last records may not be written");
            false
        });
        let kept = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(kept) = kept {
            // It ends with the writer; a keeper that failed has said so.
            let _left = self.within(TILES_END, kept).await;
            self.inner.given_up.store(true, Ordering::Relaxed);
        }
        clean && self.depth() == 0
    }

    /// Writes what is under way, signs the last head and ends the writer.
    async fn ended(&self) -> bool {
        // What is sealed already goes first: outcomes that ended before.
        let (done, sealed) = oneshot::channel();
        self.apart(Box::new(move || {
            // Whoever closes waits for it.
            let _told = done.send(());
        }));
        // It is answered as long as the thread lives.
        let _ended = sealed.await;
        for event in self.inner.refusals.take() {
            self.push_unbounded(event);
        }
        self.push_unbounded(Event::Stopped);
        let (done, closed) = oneshot::channel();
        self.inner.messages.send(Message::Stop(done)).is_ok() && closed.await.unwrap_or(false)
    }

    async fn slots(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        let slots = &self.inner.slots;
        if self.inner.space.available_permits() == 0 {
            drop(self.within(self.inner.slot_wait, self.inner.space.acquire()).await?.ok()?);
        }
        if let Ok(slot) = Arc::clone(slots).try_acquire_many_owned(count) {
            return Some(slot);
        }
        self.within(self.inner.slot_wait, Arc::clone(slots).acquire_many_owned(count)).await?.ok()
    }

    async fn within<T>(&self, wait: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.inner.clock.sleep(wait) => None,
        }
    }

    /// Queues a line that nobody waits for.
    async fn queue(&self, line: Vec<u8>) -> Result<(), Unwritable> {
        let slot = self.slots(1).await.ok_or(Unwritable)?;
        self.push(Entry { line, blobs: Vec::new(), slot: Some(slot), durable: None, weight: None });
        Ok(())
    }

    /// Queues a line and waits until it is durable.
    pub(super) async fn written(&self, line: Vec<u8>) -> Result<(), Unwritable> {
        let slot = self.slots(1).await.ok_or(Unwritable)?;
        match self.durably(line, Vec::new(), Some(slot)).await {
            Durability::Durable => Ok(()),
            Durability::Not | Durability::Unknown => Err(Unwritable),
        }
    }

    /// Queues a line at once; what is waited for holds nothing of it.
    fn durably(
        &self,
        line: Vec<u8>,
        blobs: Vec<Blob>,
        slot: Option<OwnedSemaphorePermit>,
    ) -> impl Future<Output = Durability> {
        let (durable, written) = oneshot::channel();
        self.push(Entry { line, blobs, slot, durable: Some(durable), weight: None });
        async move {
            match self.within(self.inner.sync_wait, written).await {
                Some(Ok(true)) => Durability::Durable,
                Some(Ok(false) | Err(_)) => Durability::Not,
                None => Durability::Unknown,
            }
        }
    }

    /// Queues a record of the gate's own, of which there are few.
    fn push_unbounded(&self, event: Event) {
        let (line, blobs) = (event.render(self.now()), Vec::new());
        self.push(Entry { line, blobs, slot: None, durable: None, weight: None });
    }

    pub(super) fn push(&self, mut entry: Entry) {
        // What has its place already always goes in; then no further request gets one.
        let bytes = entry.line.len() + entry.blobs.iter().map(|blob| blob.bytes.len()).sum::<usize>();
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let space = &self.inner.space;
        let left = u32::try_from(space.available_permits()).unwrap_or(u32::MAX);
        entry.weight = Arc::clone(space).try_acquire_many_owned(kib.min(left)).ok();
        if self.inner.messages.send(Message::Append(entry)).is_err() {
            metrics::counter!("amlgate_journal_lost_records_total").increment(1);
            tracing::error!("a record came after the journal was closed: it is lost");
        }
    }

    /// Of what was cleared.
    pub(super) fn parts<'a>(
        &'a self,
        cleared: &'a Cleared,
        exchange: &'a Exchange,
        phase: Phase<'a>,
    ) -> Parts<'a> {
        let (grants, reviews) = (cleared.grants(), cleared.reviews());
        Parts { grants, reviews, ..self.parts_of(cleared.permit(), exchange, phase) }
    }

    fn parts_of<'a>(&'a self, permit: &'a Permit, exchange: &'a Exchange, phase: Phase<'a>) -> Parts<'a> {
        Parts {
            phase,
            caller: permit.principal(),
            operation: Some(permit.operation()),
            request: permit.request(),
            judgement: Some(permit.judgement()),
            standing: permit.standing(),
            policy_digest: Some(permit.policy_digest()),
            credential: exchange.credential.as_deref(),
            bodies: &[],
            grants: &[],
            reviews: &[],
            thumbprint: &self.inner.thumbprint,
            now: self.now(),
        }
    }

    fn recorded(&self, cleared: Cleared, exchange: Exchange, slot: Option<OwnedSemaphorePermit>) -> Recorded {
        Recorded::new(self.clone(), cleared, exchange, slot, self.now())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }
}

/// What became of a record that somebody waited for.
enum Durability {
    Durable,
    /// It is not in the log.
    Not,
    /// The disk did not answer in time.
    Unknown,
}

/// The record cannot be kept now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record cannot be kept now")]
pub struct Unwritable;
