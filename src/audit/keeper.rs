//! What is done behind the newest signed head, in a thread of its own: tiles are built, segments
//! that are full are packed, and what need not be kept any longer is removed.
//!
//! Nothing waits for it and no request fails with it; what it could not do it does with the next
//! head. What needs no head (bodies whose time is over) it does whether one comes or not: on a disk
//! that is full none does. It removes nothing of which no vouched record says that it may: a log that
//! is shorter than its own records say was cut by somebody else.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use metrics::{counter, gauge};

use super::{
    bodies::{BODIES, is_over},
    event,
    merkle::{self, Hash},
    note,
    read::Reader,
    segment,
    storage::Storage,
    tiles::{self, CHECKPOINT, Edge, Tile, WIDTH},
};
use crate::time::{SharedClock, Timestamp};

/// So many whole tiles at most are built before they are made durable.
const SETTLED: usize = 1_024;

/// How long records are kept; for ever, unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Records older than this may go.
    pub age: Option<Duration>,
    /// The oldest go while the segments take more bytes than this.
    pub bytes: Option<u64>,
}

/// What the keeper is told, at intervals.
pub(super) enum Told {
    /// A head was signed.
    Signed(Signed),
    /// There was none to be signed, or none could be.
    Passed,
}

/// Set when nobody waits for the keeper any more: what is left goes on after the next start where it
/// ended.
pub(super) type GivenUp = Arc<AtomicBool>;

/// A head that was just signed.
pub(super) struct Signed {
    pub size: u64,
    pub root: Hash,
    pub note: String,
}

/// What the keeper wishes to remove and the journal has to record first: everything before this
/// position.
pub(super) type Wish = Arc<AtomicU64>;

pub(super) struct Keeper<S> {
    storage: S,
    edge: Option<Edge>,
    pack: bool,
    retention: Retention,
    clock: SharedClock,
    wish: Wish,
    given_up: GivenUp,
    /// Everything before this position may go: a vouched record says so.
    allowed: u64,
    /// When the last record of a segment was written, by the segment's first position.
    ages: HashMap<u64, Timestamp>,
    failing: bool,
}

impl<S: Storage + Clone> Keeper<S> {
    pub fn new(
        storage: S,
        pack: bool,
        retention: Retention,
        clock: SharedClock,
        (wish, given_up): (Wish, GivenUp),
    ) -> Self {
        let (allowed, ages) = (0, HashMap::new());
        Self { storage, edge: None, pack, retention, clock, wish, given_up, allowed, ages, failing: false }
    }

    /// Runs until no more head can come.
    pub fn run(mut self, heads: &Receiver<Told>) {
        while let Ok(first) = heads.recv() {
            let mut head = None;
            for told in std::iter::once(first).chain(heads.try_iter()) {
                match told {
                    Told::Signed(signed) => head = Some(signed),
                    Told::Passed => {}
                }
            }
            match self.keep(head.as_ref()) {
                Ok(()) => self.failing = false,
                Err(_) if self.is_given_up() => {
                    self.edge = None;
                    tracing::warn!("tiles and packed segments are left to the next start");
                }
                Err(error) => {
                    self.edge = None;
                    counter!("amlgate_journal_keeper_failures_total").increment(1);
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(%error, "tiles cannot be built or old records not be kept as told");
                    }
                }
            }
        }
    }

    fn keep(&mut self, head: Option<&Signed>) -> io::Result<()> {
        // First, because what comes behind may fail for want of the space that this gives back.
        let forgotten = self.forget_bodies();
        if let Some(head) = head {
            self.tile(head)?;
            gauge!("amlgate_journal_tiled_size").set(head.size as f64);
            if self.pack {
                self.pack()?;
            }
            self.remove()?;
        }
        self.look_for_old()?;
        forgotten
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Builds the tiles up to a head, and then publishes it.
    fn tile(&mut self, head: &Signed) -> io::Result<()> {
        let mut edge = match self.edge.take() {
            Some(edge) => edge,
            None => restored(&self.storage),
        };
        let mut reader = Reader::from(self.storage.clone(), edge.size())?;
        let (mut ready, mut finished) = (Vec::new(), Vec::new());
        while edge.size() < head.size {
            let record = reader.record()?.filter(|record| record.position == edge.size());
            let record = record.ok_or_else(|| missing(edge.size()))?;
            if self.is_given_up() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            edge.push(&record.line, merkle::leaf(&record.line), |file| ready.push(file));
            for file in ready.drain(..) {
                self.storage.put(&tiles::path(file.tile, file.index, file.width), &file.bytes)?;
                finished.push(tiles::unfinished(file.tile, file.index));
            }
            if finished.len() >= SETTLED {
                self.settle(&mut finished)?;
            }
            if let Some(Gone::Retired(before) | Gone::Archived(before)) = gone(&record.line) {
                self.allowed = self.allowed.max(before);
            }
        }
        if edge.root() != head.root {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the records on the disk are not those that were signed: `amlgate audit verify` tells more",
            ));
        }
        // What a head is published of is there, whatever happens.
        self.settle(&mut finished)?;
        // Unfinished tiles are never written again, so none may be left behind that is torn.
        for file in edge.partial() {
            self.storage.replace(&tiles::path(file.tile, file.index, file.width), &file.bytes)?;
        }
        self.storage.replace(CHECKPOINT, head.note.as_bytes())?;
        self.edge = Some(edge);
        Ok(())
    }

    /// Makes the tiles durable that were built, and removes the states before they were whole.
    fn settle(&mut self, finished: &mut Vec<String>) -> io::Result<()> {
        self.storage.settle()?;
        finished.drain(..).try_for_each(|unfinished| self.storage.discard(&unfinished))
    }

    /// Packs the segments that another follows.
    fn pack(&mut self) -> io::Result<()> {
        let mut names = super::segment_names(&self.storage)?;
        names.pop();
        for name in names.into_iter().filter(|name| !segment::is_packed(name)) {
            if self.is_given_up() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            segment::pack(&mut self.storage, &name)?;
        }
        Ok(())
    }

    /// Removes what a vouched record says is removed, the oldest first. Tiles of hashes stay: with
    /// them every proof that was ever given still fits.
    fn remove(&mut self) -> io::Result<()> {
        let names = super::segment_names(&self.storage)?;
        for (name, next) in names.iter().zip(names.iter().skip(1)) {
            if segment::first_of(next).is_none_or(|end| end > self.allowed) {
                break;
            }
            for file in [name.clone(), segment::packed(name), segment::index_of(name)] {
                self.storage.discard(&file)?;
            }
        }
        let mut bundle = self.allowed / WIDTH;
        while let Some(before) = bundle.checked_sub(1) {
            let path = tiles::path(Tile::Entries, before, WIDTH);
            if self.storage.size(&path).is_err() {
                break;
            }
            self.storage.discard(&path)?;
            bundle = before;
        }
        Ok(())
    }

    /// Removes the bodies whose time is over: the records that name them say until when.
    fn forget_bodies(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        for hour in self.storage.folder(BODIES)?.into_iter().filter(|hour| is_over(hour, now)) {
            self.storage.discard(&format!("{BODIES}/{hour}"))?;
        }
        Ok(())
    }

    /// Finds what is older or more than is to be kept; the segment that is written always stays.
    fn look_for_old(&mut self) -> io::Result<()> {
        if self.retention == Retention::default() {
            return Ok(());
        }
        let names = super::segment_names(&self.storage)?;
        let mut bytes = 0;
        for name in &names {
            bytes += self.storage.size(name).unwrap_or_default();
        }
        let now = self.clock.now();
        let mut wish = 0;
        for (name, next) in names.iter().zip(names.iter().skip(1)) {
            let too_many = self.retention.bytes.is_some_and(|most| bytes > most);
            let too_old = match self.retention.age {
                Some(age) => self.newest_of(name)?.is_some_and(|newest| now.since(newest) > age),
                None => false,
            };
            if !too_many && !too_old {
                break;
            }
            bytes = bytes.saturating_sub(self.storage.size(name).unwrap_or_default());
            wish = segment::first_of(next).unwrap_or_default();
        }
        self.wish.fetch_max(wish, Ordering::Relaxed);
        Ok(())
    }

    /// When the last record of a segment was written.
    fn newest_of(&mut self, name: &str) -> io::Result<Option<Timestamp>> {
        let first = segment::first_of(name).unwrap_or_default();
        if let Some(known) = self.ages.get(&first) {
            return Ok(Some(*known));
        }
        let time = segment::newest_of(&self.storage, name)?;
        if let Some(time) = time {
            self.ages.insert(first, time);
        }
        Ok(time)
    }
}

fn missing(position: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the record at position {position} is not there"))
}

/// The edge behind the head that was published last, if its tiles are whole; else the beginning.
fn restored<S: Storage>(storage: &S) -> Edge {
    let published = || {
        let text = String::from_utf8(storage.read(CHECKPOINT).ok()?).ok()?;
        let head = note::unverified(&text)?;
        Edge::restore(storage, head.size).filter(|edge| edge.root() == head.root)
    };
    published().unwrap_or_default()
}

/// What a record says is no longer on the disk: everything before a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// It is nowhere.
    Retired(u64),
    /// It lies in object storage.
    Archived(u64),
}

/// What a record says was removed, if it is one that says so.
pub(super) fn gone(leaf: &[u8]) -> Option<Gone> {
    // No marker can stand inside a string: a quote in one is escaped.
    let has = |marker| memchr::memmem::find(leaf, marker).is_some();
    if !has(event::RETIRED) && !has(event::ARCHIVED) {
        return None;
    }
    let value: serde_json::Value = serde_json::from_slice(leaf).ok()?;
    let own = value.pointer("/unmapped/amlgate")?;
    let before = own.get("before")?.as_u64()?;
    match own.get("event")?.as_str()? {
        "records_retired" => Some(Gone::Retired(before)),
        "records_archived" => Some(Gone::Archived(before)),
        _ => None,
    }
}
