//! The one thread that writes: it takes what has come, writes it in one go, syncs once, and tells
//! those who wait. A record that is waited for waits for at most the sync in progress and its own,
//! never for a timer.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use metrics::{counter, gauge, histogram};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::{
    bodies::Blob,
    event::Event,
    heads::Heads,
    inbox::Inbox,
    keeper::{Signed, Told},
    merkle::{self, Range},
    note::Signer,
    segment::{self, Header},
    storage::{LogFile, Storage},
};
use crate::time::{SharedClock, Timestamp};

/// At most so many records are written with one sync.
const BATCH: usize = 4_096;
/// While the disk fails each attempt is made with so few, so that a full queue is not written in
/// vain again and again.
const PROBE: usize = 32;

/// Whether records can be made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// They can.
    Healthy,
    /// They cannot: writes are refused. Tried again with each record and each head.
    Failing {
        /// What the disk said.
        why: String,
    },
}

/// What became of requests while the disk fails: the record of the recovery says it.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// Requests that were refused.
    pub refused: AtomicU64,
    /// Reads that went on and are in no record.
    pub unrecorded: AtomicU64,
}

impl Missed {
    fn begin(&self) {
        self.refused.store(0, Ordering::Relaxed);
        self.unrecorded.store(0, Ordering::Relaxed);
    }
}

/// Since when the disk fails, and what it said first.
struct Outage {
    since: Timestamp,
    why: String,
}

/// A record on its way to the disk.
#[derive(Debug)]
pub(super) struct Entry {
    pub line: Vec<u8>,
    /// The bodies that it names: they are durable before it is.
    pub blobs: Vec<Blob>,
    /// The place in the queue, given back when the record is durable.
    pub slot: Option<OwnedSemaphorePermit>,
    /// What it takes of the memory for records under way.
    pub weight: Option<OwnedSemaphorePermit>,
    /// Who waits for it to be durable; if nobody does it is kept and tried again.
    pub durable: Option<oneshot::Sender<bool>>,
}

pub(super) enum Message {
    Append(Entry),
    /// Sign the head, if there is anything new.
    Head,
    /// Sign the head and end.
    Stop(oneshot::Sender<bool>),
}

impl Message {
    /// Whether somebody waits for what becomes of it.
    pub fn is_waited_for(&self) -> bool {
        match self {
            Self::Append(entry) => entry.durable.is_some(),
            Self::Head | Self::Stop(_) => true,
        }
    }
}

/// A segment that is being written.
struct Open<F> {
    file: F,
    name: String,
    /// Bytes that are durable.
    good: u64,
    /// Its index, unless that failed: nothing depends on it.
    index: Option<F>,
}

pub(super) struct Writer<S: Storage> {
    pub storage: S,
    pub signer: Signer,
    /// The key that is replaced: it signs the head that first counts the record at this position.
    pub retiring: Option<(Signer, u64)>,
    /// Who is told of each head, and each time that there is none.
    pub heads: mpsc::Sender<Told>,
    pub range: Range,
    /// The size of the newest signed head.
    pub signed: u64,
    heads_file: Heads,
    pub segment_bytes: u64,
    pub condition: Arc<ArcSwap<Condition>>,
    pub clock: SharedClock,
    pub missed: Arc<Missed>,
    /// As long as the condition is that it fails.
    outage: Option<Outage>,
    /// Whether the newest head could not be signed: then what is written is not vouched for, and
    /// nothing more is written until it is.
    unsigned: bool,
    /// How many records are durable.
    pub durable: watch::Sender<u64>,
    state: State<S::File>,
    /// Records that nobody waits for and that a failing disk did not take yet.
    carried: VecDeque<Entry>,
}

/// Says when it is dropped that the writer has ended, even if it panicked.
struct Ended(Arc<ArcSwap<Condition>>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the journal's writer failed: nothing can be recorded until a restart");
        }
        gauge!("amlgate_journal_healthy").set(0.0);
        self.0.store(Arc::new(Condition::Failing { why: "the journal is closed".to_owned() }));
    }
}

/// Answers somebody who may have gone.
fn tell(whom: oneshot::Sender<bool>, what: bool) {
    let _gone = whom.send(what);
}

enum State<F> {
    /// The next record begins a segment.
    None,
    /// Appending.
    Open(Open<F>),
    /// A write or sync failed: what lies behind the good bytes must go first.
    Broken { name: String, good: u64 },
}

/// What the writer shares with those who send it records.
pub(super) struct Shared {
    pub condition: Arc<ArcSwap<Condition>>,
    pub missed: Arc<Missed>,
    pub clock: SharedClock,
}

impl<S: Storage> Writer<S> {
    pub fn new(
        storage: S,
        signer: Signer,
        retiring: Option<Signer>,
        heads: mpsc::Sender<Told>,
        recovered: &super::Recovery,
        segment_bytes: u64,
        shared: Shared,
    ) -> Self {
        let Shared { condition, missed, clock } = shared;
        Self {
            storage,
            signer,
            retiring: retiring.map(|signer| (signer, recovered.range.size())),
            heads,
            range: recovered.range.clone(),
            signed: recovered.signed,
            heads_file: Heads::found(recovered.heads_bytes, recovered.heads),
            segment_bytes,
            condition,
            clock,
            missed,
            outage: None,
            unsigned: false,
            durable: watch::Sender::new(recovered.range.size()),
            // A segment that a crash left without a leaf has the name of the one that is to begin.
            state: match &recovered.leafless {
                Some(name) => State::Broken { name: name.clone(), good: 0 },
                None => State::None,
            },
            carried: VecDeque::new(),
        }
    }

    /// Runs until told to stop, or until nobody is left who could send anything. However it ends,
    /// nothing can be recorded any more, and the condition says so.
    pub fn run(mut self, inbox: &Inbox) {
        let ended = Ended(Arc::clone(&self.condition));
        let mut stop = None;
        while let Some(messages) = inbox.next() {
            let mut batch = Vec::with_capacity(messages.len());
            let mut head = false;
            for message in messages {
                match message {
                    Message::Append(entry) => batch.push(entry),
                    Message::Head => head = true,
                    Message::Stop(done) => {
                        head = true;
                        stop = Some(done);
                    }
                }
            }
            self.commit(batch);
            if head {
                self.sign();
            }
            if let Some(done) = stop.take() {
                let clean = self.carried.is_empty() && self.signed == self.range.size();
                drop(ended);
                tell(done, clean);
                return;
            }
        }
    }

    /// Writes what was carried and what is new, in that order. With nothing to write a disk that
    /// failed is tried all the same, because plain reads wait for it to be healthy and bring nothing.
    fn commit(&mut self, batch: Vec<Entry>) {
        let mut queue = std::mem::take(&mut self.carried);
        queue.extend(batch);
        let mut failing = **self.condition.load() != Condition::Healthy;
        while failing || !queue.is_empty() {
            let most = if failing { PROBE } else { BATCH };
            let entries: Vec<Entry> = queue.drain(..queue.len().min(most)).collect();
            let start = Instant::now();
            // The first record behind an outage says that there was one.
            let resumed = self.resumed();
            if let Err(error) = self.attempt(resumed.as_deref(), &entries) {
                counter!("amlgate_journal_failures_total").increment(1);
                self.now(Condition::Failing { why: error.to_string() });
                // Who waits is told at once; what nobody waits for is kept, in its order.
                for mut entry in entries.into_iter().chain(queue) {
                    match entry.durable.take() {
                        Some(durable) => tell(durable, false),
                        None => self.carried.push_back(entry),
                    }
                }
                return;
            }
            failing = false;
            self.now(Condition::Healthy);
            let written = entries.len() + usize::from(resumed.is_some());
            if written > 0 {
                histogram!("amlgate_journal_sync_seconds").record(start.elapsed().as_secs_f64());
                histogram!("amlgate_journal_batch_records").record(written as f64);
                counter!("amlgate_journal_records_total").increment(written as u64);
            }
            let mut lines = Vec::with_capacity(written);
            lines.extend(resumed);
            for entry in entries {
                drop(entry.slot);
                if let Some(durable) = entry.durable {
                    tell(durable, true);
                }
                lines.push(entry.line);
            }
            self.grow(&lines);
            self.rotate();
        }
    }

    /// The record that the disk failed and does no longer, if it did.
    fn resumed(&self) -> Option<Vec<u8>> {
        let Outage { since, why } = self.outage.as_ref()?;
        let event = Event::RecordResumed {
            since: since.as_millis(),
            why: why.clone(),
            refused: self.missed.refused.load(Ordering::Relaxed),
            unrecorded: self.missed.unrecorded.load(Ordering::Relaxed),
        };
        Some(event.render(self.clock.now()))
    }

    /// Signs the head that is owed, if one is, and writes: bodies, and then the records that name them.
    fn attempt(&mut self, resumed: Option<&[u8]>, entries: &[Entry]) -> io::Result<()> {
        if self.unsigned {
            self.sign_head()?;
            self.unsigned = false;
        }
        let mut blobs = entries.iter().flat_map(|entry| &entry.blobs).peekable();
        if blobs.peek().is_some() {
            for blob in blobs {
                self.storage.put(&blob.name, &blob.bytes)?;
                counter!("amlgate_journal_bodies_total").increment(1);
            }
            self.storage.settle()?;
        }
        self.write(resumed, entries)
    }

    /// Adds to the tree what is durable, and to the index.
    fn grow(&mut self, lines: &[Vec<u8>]) {
        let State::Open(open) = &mut self.state else { return };
        let mut offset = open.good - lines.iter().map(|l| l.len() as u64 + 1).sum::<u64>();
        let mut index = Vec::with_capacity(lines.len() * 40);
        for line in lines {
            let leaf = merkle::leaf(line);
            index.extend_from_slice(&segment::index_entry(offset, &leaf));
            offset += line.len() as u64 + 1;
            self.range.push(leaf);
        }
        // Half an entry would shift all that follow: the index ends here.
        if open.index.as_mut().is_some_and(|file| file.write(&index).is_err()) {
            open.index = None;
        }
        self.durable.send_replace(self.range.size());
    }

    /// Writes and syncs all of them, or none counts.
    fn write(&mut self, resumed: Option<&[u8]>, entries: &[Entry]) -> io::Result<()> {
        let mut open = self.open()?;
        let lines = || resumed.into_iter().chain(entries.iter().map(|entry| entry.line.as_slice()));
        let mut bytes = Vec::with_capacity(lines().map(|line| line.len() + 1).sum());
        for line in lines() {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        match open.file.write(&bytes).and_then(|()| open.file.sync()) {
            Ok(()) => {
                open.good += bytes.len() as u64;
                self.state = State::Open(open);
                Ok(())
            }
            Err(error) => {
                // After a failed sync nothing is known of the file: it is not written to again.
                self.state = State::Broken { name: open.name, good: open.good };
                Err(error)
            }
        }
    }

    /// The segment to append to; begins one if need be, after what failed was cut off.
    fn open(&mut self) -> io::Result<Open<S::File>> {
        let name = segment::name(self.range.size());
        match std::mem::replace(&mut self.state, State::None) {
            State::Open(open) => return Ok(open),
            State::Broken { name: broken, good } => {
                // A segment without a leaf has the name of the one that is to begin: it starts anew,
                // and is not there at all if it could not even be made.
                let again = broken == name;
                let mut cut = || -> io::Result<Option<S::File>> {
                    let file = if again { Some(self.storage.append(&name)?) } else { None };
                    self.storage.truncate(&broken, if again { 0 } else { good })?;
                    Ok(file)
                };
                match cut() {
                    Ok(Some(file)) => return self.begin(file, name),
                    Ok(None) => {}
                    Err(error) => {
                        self.state = State::Broken { name: broken, good };
                        return Err(error);
                    }
                }
            }
            State::None => {}
        }
        match self.storage.create(&name) {
            Ok(file) => self.begin(file, name),
            Err(error) => {
                // It may be there all the same, as when its directory could not be synced.
                self.state = State::Broken { name, good: 0 };
                Err(error)
            }
        }
    }

    fn begin(&mut self, mut file: S::File, name: String) -> io::Result<Open<S::File>> {
        let header = Header::after(self.signer.origin(), &self.range).line();
        match file.write(&header).and_then(|()| file.sync()) {
            Ok(()) => {
                let index = segment::index_of(&name);
                let index = self.storage.replace(&index, &[]).and_then(|()| self.storage.append(&index)).ok();
                Ok(Open { file, name, good: header.len() as u64, index })
            }
            Err(error) => {
                self.state = State::Broken { name, good: 0 };
                Err(error)
            }
        }
    }

    fn rotate(&mut self) {
        if matches!(&self.state, State::Open(open) if open.good >= self.segment_bytes) {
            self.sign();
            self.state = State::None;
        }
    }

    fn sign(&mut self) {
        let before = self.signed;
        let signed = self.sign_head();
        if self.signed == before {
            let _ended = self.heads.send(Told::Passed);
        }
        match signed {
            Ok(()) => self.unsigned = false,
            Err(error) => {
                self.unsigned = true;
                counter!("amlgate_journal_failures_total").increment(1);
                if self.outage.is_none() {
                    self.now(Condition::Failing { why: error.to_string() });
                }
            }
        }
    }

    /// Signs a head of everything that is durable, unless the newest one is of it.
    fn sign_head(&mut self) -> io::Result<()> {
        if self.signed == self.range.size() {
            return Ok(());
        }
        let (size, root) = (self.range.size(), self.range.root());
        let signer = self.retiring.as_ref().map_or(&self.signer, |(retiring, _)| retiring);
        let note = format!("{}\n", signer.sign(size, &root));
        self.heads_file.append(&mut self.storage, &note).map_err(|error| {
            io::Error::new(error.kind(), format!("the head could not be signed: {error}"))
        })?;
        self.signed = size;
        // From the head on that counts the record of it, the new key signs.
        self.retiring.take_if(|(_, record)| size > *record);
        let note = note.trim_end().to_owned() + "\n";
        let _ended = self.heads.send(Told::Signed(Signed { size, root, note }));
        gauge!("amlgate_journal_signed_size").set(self.signed as f64);
        if let Err(error) = self.heads_file.thin(&mut self.storage) {
            // Nothing depends on it: the file grows until it succeeds.
            counter!("amlgate_journal_keeper_failures_total").increment(1);
            tracing::warn!(%error, "the file of signed heads could not be thinned");
        }
        Ok(())
    }

    fn now(&mut self, condition: Condition) {
        if **self.condition.load() == condition {
            return;
        }
        match &condition {
            Condition::Healthy => self.outage = None,
            Condition::Failing { why } => {
                let (missed, clock) = (&self.missed, &self.clock);
                self.outage.get_or_insert_with(|| {
                    missed.begin();
                    Outage { since: clock.now(), why: why.clone() }
                });
            }
        }
        gauge!("amlgate_journal_healthy").set(if condition == Condition::Healthy { 1.0 } else { 0.0 });
        match &condition {
            Condition::Healthy => tracing::info!("the journal is healthy"),
            Condition::Failing { why } => {
                tracing::error!(%why, "records cannot be made durable: writes are refused until they can");
            }
        }
        self.condition.store(Arc::new(condition));
    }
}
