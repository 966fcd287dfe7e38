//! The journal: what the request path sees of the record.

use std::{
    fmt, fs, io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    Condition, Recovery, Refusals,
    event::Event,
    note::{NoteError, Signer},
    record::{self, Ending, Parts, Phase},
    recovery::{self, RecoveryError},
    segment::PUBLIC_KEY,
    storage::{Directory, Storage},
    writer::{Entry, Message, Writer},
};
use crate::{
    azureml::Kind,
    gates::{Cleared, Held},
    identity::Principal,
    policy::{Denial, Denied, Permit, RequestFacts, Standing},
    secrets::Mac,
    time::{SharedClock, Timestamp},
};

/// What happens to plain reads when the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reads {
    /// They are refused.
    #[default]
    Required,
    /// They go on and are counted.
    BestEffort,
}

/// How the journal is kept.
#[derive(Clone)]
pub struct JournalSettings {
    /// The log's name: one for each replica.
    pub origin: String,
    /// Where it is kept.
    pub directory: PathBuf,
    /// Ed25519, PKCS#8 PEM.
    pub signing_key: SecretString,
    /// What happens to plain reads when the disk fails.
    pub reads: Reads,
    /// A segment ends when it is larger.
    pub segment_bytes: u64,
    /// Records under way; further requests wait `slot_wait` and are refused.
    pub slots: usize,
    /// How long a request waits for a place in the queue.
    pub slot_wait: Duration,
    /// How long a request waits for its intent to be durable: a disk that neither writes nor fails
    /// must not hold requests for ever.
    pub sync_wait: Duration,
}

impl JournalSettings {
    /// Segments of 64 MiB, 16,384 records under way, 50 ms for a place and 5 s for a sync, reads
    /// refused when the disk fails.
    #[must_use]
    pub fn new(origin: &str, directory: PathBuf, signing_key: SecretString) -> Self {
        Self {
            origin: origin.to_owned(),
            directory,
            signing_key,
            reads: Reads::Required,
            segment_bytes: 64 << 20,
            slots: 16_384,
            slot_wait: Duration::from_millis(50),
            sync_wait: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for JournalSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalSettings")
            .field("origin", &self.origin)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory.
    #[error("cannot use the directory `{path}`")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("another gate keeps its journal in `{0}`: give each a directory of its own")]
    Locked(PathBuf),
    /// The key.
    #[error(transparent)]
    Key(#[from] NoteError),
    /// The log that is there.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The writer's thread.
    #[error("cannot start the writer")]
    Thread(#[source] io::Error),
}

/// The record of everything. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    messages: mpsc::Sender<Message>,
    slots: Arc<Semaphore>,
    capacity: usize,
    slot_wait: Duration,
    sync_wait: Duration,
    condition: Arc<ArcSwap<Condition>>,
    reads: Reads,
    clock: SharedClock,
    thumbprint: Mac,
    refusals: Refusals,
    /// Held as long as the journal is open.
    _lock: Option<fs::File>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({:?})", self.condition())
    }
}

/// What the record says of the way to Azure.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// The credential that Azure sees.
    pub credential: Option<Arc<str>>,
    /// Whether the request asks for another protocol: then it is no plain read.
    pub upgrade: bool,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The upstream's status, if it answered.
    pub status: Option<u16>,
    /// Bytes of the request's body that were sent.
    pub sent: u64,
    /// Bytes of the answer's body that came.
    pub received: u64,
    /// From the intent to the end.
    pub took: Duration,
    /// From the intent to the answer's head.
    pub latency: Option<Duration>,
    /// Why the gate ended it, if it did.
    pub because: Option<String>,
    /// `x-ms-correlation-request-id`: joins the record with Azure's activity log.
    pub correlation: Option<String>,
}

/// A request that was cleared and is recorded: made by [`Journal::intend`] alone, so that nothing
/// is sent of which there is no record:
/// ```compile_fail
/// use amlgate::{audit::{OutcomeGuard, Recorded}, gates::Cleared};
/// fn forged(cleared: std::sync::Arc<Cleared>, outcome: OutcomeGuard) -> Recorded {
///     Recorded { cleared, outcome }
/// }
/// ```
/// It is spent once: the right to send is gone with it.
/// ```compile_fail
/// use amlgate::audit::Recorded;
/// fn twice(recorded: Recorded) -> (Recorded, Recorded) {
///     (recorded, recorded)
/// }
/// ```
#[derive(Debug)]
pub struct Recorded {
    cleared: Arc<Cleared>,
    outcome: OutcomeGuard,
}

/// The request cannot be recorded, so it must not go on.
#[derive(Debug)]
pub struct Unrecorded {
    /// What was cleared.
    pub cleared: Arc<Cleared>,
}

/// The place that is kept for a request's outcome. When it is dropped, what was last said of the
/// request is recorded: nothing said is `aborted`.
pub struct OutcomeGuard {
    journal: Journal,
    slot: Option<OwnedSemaphorePermit>,
    subject: Subject,
    outcome: Outcome,
}

/// What the records of one request share.
struct Subject {
    cleared: Arc<Cleared>,
    exchange: Exchange,
    started: Timestamp,
}

impl Journal {
    /// Opens the log in a directory, or begins one; finds its end and says what a crash left
    /// unfinished. The verifier key is written beside it.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed then.
    pub fn open(
        settings: &JournalSettings,
        thumbprint: Mac,
        clock: SharedClock,
    ) -> Result<(Self, Recovery), OpenError> {
        let path = &settings.directory;
        let failed = |source| OpenError::Directory { path: path.clone(), source };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(OpenError::Locked(path.clone())),
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        Self::open_on(Directory::at(path.clone()), settings, thumbprint, clock, Some(lock))
    }

    /// As [`Self::open`], on any storage: for tests of what the disk does.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on<S: Storage>(
        mut storage: S,
        settings: &JournalSettings,
        thumbprint: Mac,
        clock: SharedClock,
        lock: Option<fs::File>,
    ) -> Result<(Self, Recovery), OpenError> {
        let signer = Signer::from_pem(&settings.origin, settings.signing_key.expose_secret().as_bytes())?;
        let mut recovered = recovery::recover(&mut storage, signer.origin())?;
        let before = recovered.keys.newest().map(ToString::to_string);
        let rotated = recovered.keys.rotate(signer.verifier());
        if rotated {
            storage
                .replace(PUBLIC_KEY, recovered.keys.to_string().as_bytes())
                .map_err(|source| OpenError::Directory { path: settings.directory.clone(), source })?;
        }
        let condition = Arc::new(ArcSwap::from_pointee(Condition::Healthy));
        metrics::gauge!("amlgate_journal_healthy").set(1.0);
        let writer = Writer::new(storage, signer, &recovered, settings.segment_bytes, Arc::clone(&condition));
        let (messages, inbox) = mpsc::channel();
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&inbox))
            .map_err(OpenError::Thread)?;
        let inner = Inner {
            messages,
            slots: Arc::new(Semaphore::new(settings.slots)),
            capacity: settings.slots,
            slot_wait: settings.slot_wait,
            sync_wait: settings.sync_wait,
            condition,
            reads: settings.reads,
            clock,
            thumbprint,
            refusals: Refusals::default(),
            _lock: lock,
        };
        let journal = Self { inner: Arc::new(inner) };
        if let (true, Some(before)) = (rotated, before) {
            let after = recovered.keys.newest().map(ToString::to_string).unwrap_or_default();
            journal.push_unbounded(Event::SigningKeyChanged { before, after });
        }
        if recovered.torn_bytes > 0 || !recovered.unresolved.is_empty() {
            journal.push_unbounded(Event::Recovered {
                torn_bytes: recovered.torn_bytes,
                unresolved: recovered.unresolved.clone(),
            });
        }
        Ok((journal, recovered))
    }

    /// Whether records can be made durable.
    #[must_use]
    pub fn condition(&self) -> Condition {
        Condition::clone(&self.inner.condition.load())
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
        let operation = cleared.permit().operation();
        if operation.kind == Kind::Read && operation.secrets.is_empty() && !exchange.upgrade {
            return self.intend_read(cleared, exchange).await;
        }
        let refused = |cleared| {
            metrics::counter!("amlgate_journal_refused_total").increment(1);
            Err(Unrecorded { cleared })
        };
        let Some(mut slots) = self.slots(2).await else { return refused(Arc::new(cleared)) };
        let place = slots.split(1);
        let line = record::render(&self.parts(cleared.permit(), &exchange, Phase::Intent));
        let mut recorded = self.recorded(cleared, exchange, Some(slots));
        match self.durably(line, place).await {
            Durability::Durable => Ok(recorded),
            Durability::Not => {
                recorded.outcome.slot = None;
                refused(recorded.cleared)
            }
            // It may become durable yet, so it gets its outcome.
            Durability::Unknown => {
                recorded.outcome.ended(Ending::NotSent);
                refused(recorded.cleared)
            }
        }
    }

    async fn intend_read(&self, cleared: Cleared, exchange: Exchange) -> Result<Recorded, Unrecorded> {
        let failing = **self.inner.condition.load() != Condition::Healthy;
        let slot = match self.inner.reads {
            Reads::Required if failing => None,
            // What is kept for a failing disk fills the queue; nobody waits for that to change.
            Reads::BestEffort if failing => Arc::clone(&self.inner.slots).try_acquire_owned().ok(),
            Reads::Required | Reads::BestEffort => self.slots(1).await,
        };
        match (slot, self.inner.reads) {
            (Some(slot), _) => Ok(self.recorded(cleared, exchange, Some(slot))),
            (None, Reads::BestEffort) => {
                metrics::counter!("amlgate_journal_unrecorded_reads_total").increment(1);
                Ok(self.recorded(cleared, exchange, None))
            }
            (None, Reads::Required) => {
                metrics::counter!("amlgate_journal_refused_total").increment(1);
                Err(Unrecorded { cleared: Arc::new(cleared) })
            }
        }
    }

    /// Records a decision against a request.
    ///
    /// # Errors
    /// [`Unwritable`] if no place was free in time: the answer is 503 then.
    pub async fn denied(&self, denied: &Denied) -> Result<(), Unwritable> {
        let Some(denial) = &denied.judgement.denial else { return Ok(()) };
        let parts = Parts {
            phase: Phase::Denial(denial),
            caller: &denied.principal,
            operation: Some(&denied.operation),
            request: &denied.request,
            judgement: Some(&denied.judgement),
            standing: Standing::Entries,
            policy_digest: Some(&denied.policy_digest),
            credential: None,
            thumbprint: &self.inner.thumbprint,
            now: self.inner.clock.now(),
        };
        self.queue(record::render(&parts)).await
    }

    /// Records that a gate stopped a permitted request.
    ///
    /// # Errors
    /// [`Unwritable`].
    pub async fn held(&self, held: &Held) -> Result<(), Unwritable> {
        let exchange = Exchange::default();
        let parts = self.parts(&held.permit, &exchange, Phase::Denial(&held.denial));
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
        let parts = Parts {
            phase: Phase::Denial(denial),
            caller: principal,
            operation: None,
            request,
            judgement: None,
            standing: Standing::Entries,
            policy_digest: None,
            credential: None,
            thumbprint: &self.inner.thumbprint,
            now: self.inner.clock.now(),
        };
        self.queue(record::render(&parts)).await
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
        self.written(event.render(self.inner.clock.now())).await
    }

    /// Turns counted refusals into records and has the head signed.
    pub fn sign_head(&self) {
        for event in self.inner.refusals.take() {
            self.push_unbounded(event);
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
    pub async fn close(&self) -> bool {
        self.inner.slots.close();
        for event in self.inner.refusals.take() {
            self.push_unbounded(event);
        }
        self.push_unbounded(Event::Stopped);
        let (done, closed) = oneshot::channel();
        let clean = self.inner.messages.send(Message::Stop(done)).is_ok() && closed.await.unwrap_or(false);
        clean && self.depth() == 0
    }

    async fn slots(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        let slots = &self.inner.slots;
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
        self.push(Entry { line, slot: Some(slot), durable: None });
        Ok(())
    }

    /// Queues a line and waits until it is durable.
    async fn written(&self, line: Vec<u8>) -> Result<(), Unwritable> {
        let slot = self.slots(1).await.ok_or(Unwritable)?;
        match self.durably(line, Some(slot)).await {
            Durability::Durable => Ok(()),
            Durability::Not | Durability::Unknown => Err(Unwritable),
        }
    }

    async fn durably(&self, line: Vec<u8>, slot: Option<OwnedSemaphorePermit>) -> Durability {
        let (durable, written) = oneshot::channel();
        self.push(Entry { line, slot, durable: Some(durable) });
        match self.within(self.inner.sync_wait, written).await {
            Some(Ok(true)) => Durability::Durable,
            Some(Ok(false) | Err(_)) => Durability::Not,
            None => Durability::Unknown,
        }
    }

    /// Queues a record of the gate's own, of which there are few.
    fn push_unbounded(&self, event: Event) {
        self.push(Entry { line: event.render(self.inner.clock.now()), slot: None, durable: None });
    }

    fn push(&self, entry: Entry) {
        if self.inner.messages.send(Message::Append(entry)).is_err() {
            metrics::counter!("amlgate_journal_lost_records_total").increment(1);
            tracing::error!("a record came after the journal was closed: it is lost");
        }
    }

    fn parts<'a>(&'a self, permit: &'a Permit, exchange: &'a Exchange, phase: Phase<'a>) -> Parts<'a> {
        Parts {
            phase,
            caller: permit.principal(),
            operation: Some(permit.operation()),
            request: permit.request(),
            judgement: Some(permit.judgement()),
            standing: permit.standing(),
            policy_digest: Some(permit.policy_digest()),
            credential: exchange.credential.as_deref(),
            thumbprint: &self.inner.thumbprint,
            now: self.inner.clock.now(),
        }
    }

    fn recorded(&self, cleared: Cleared, exchange: Exchange, slot: Option<OwnedSemaphorePermit>) -> Recorded {
        let cleared = Arc::new(cleared);
        let outcome = Outcome {
            ending: Ending::Aborted,
            status: None,
            sent: 0,
            received: 0,
            took: Duration::ZERO,
            latency: None,
            because: None,
            correlation: None,
        };
        let subject = Subject { cleared: Arc::clone(&cleared), exchange, started: self.inner.clock.now() };
        Recorded { cleared, outcome: OutcomeGuard { journal: self.clone(), slot, subject, outcome } }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record cannot be kept now")]
pub struct Unwritable;

impl Recorded {
    /// The permit that was recorded.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        self.cleared.permit()
    }

    /// What is to be said of the request's end.
    pub fn outcome(&mut self) -> &mut OutcomeGuard {
        &mut self.outcome
    }

    /// Gives up the right to send anything and keeps the place for the outcome: the answer streams.
    #[must_use]
    pub fn into_outcome(self) -> OutcomeGuard {
        self.outcome
    }
}

impl OutcomeGuard {
    /// How the request ended; the last word counts.
    pub fn ended(&mut self, ending: Ending) {
        self.outcome.ending = ending;
    }

    /// Why the gate itself ended it: for a cut stream, with the entry. Bounded, and no text of the
    /// caller's or the upstream's.
    pub fn because(&mut self, why: &str) {
        self.outcome.because = Some(why.to_owned());
    }

    /// The upstream answered.
    pub fn answered(&mut self, status: u16, correlation: Option<&str>) {
        self.outcome.status = Some(status);
        self.outcome.latency = Some(self.journal.inner.clock.now().since(self.subject.started));
        self.outcome.correlation = correlation.map(|c| c.chars().take(128).collect());
    }

    /// More of the request's body was sent.
    pub fn sent(&mut self, bytes: u64) {
        self.outcome.sent += bytes;
    }

    /// More of the answer's body came.
    pub fn received(&mut self, bytes: u64) {
        self.outcome.received += bytes;
    }

    /// What is said so far.
    #[must_use]
    pub fn so_far(&self) -> &Outcome {
        &self.outcome
    }

    /// Records an upgrade as established and keeps a place for its end; waits until the record is
    /// durable.
    ///
    /// # Errors
    /// [`Unwritable`]: the upgrade must not go on.
    pub async fn established(&mut self) -> Result<(), Unwritable> {
        self.outcome.ending = Ending::Established;
        let line = self.render();
        self.outcome.ending = Ending::Aborted;
        self.journal.written(line).await
    }

    fn render(&mut self) -> Vec<u8> {
        self.outcome.took = self.journal.inner.clock.now().since(self.subject.started);
        let permit = self.subject.cleared.permit();
        record::render(&self.journal.parts(permit, &self.subject.exchange, Phase::Outcome(&self.outcome)))
    }
}

impl Drop for OutcomeGuard {
    fn drop(&mut self) {
        if self.slot.is_none() {
            return; // A read that went on unrecorded, and was counted.
        }
        let line = self.render();
        self.journal.push(Entry { line, slot: self.slot.take(), durable: None });
    }
}

impl fmt::Debug for OutcomeGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutcomeGuard({:?})", self.outcome.ending)
    }
}
