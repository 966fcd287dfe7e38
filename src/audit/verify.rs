//! Verification, offline, from the files and a verifier key alone.
//!
//! It proves that every record up to the newest head that it is given is there, unchanged and in
//! its order; it vouches for nothing behind that head, and says so.

mod walk;

use self::walk::Walk;
use super::{
    merkle,
    note::{self, Head, NoteError, VerifierKeys},
    recovery::split_heads,
    segment::{self, END, HEADS},
    storage::Storage,
    tiles::{self, CHECKPOINT, Tile},
};

/// What was found whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Whole {
    /// The log's name.
    pub origin: String,
    /// Records that a signed head vouches for.
    pub vouched: u64,
    /// Records behind the newest head: nothing vouches for them yet.
    pub beyond: u64,
    /// Signed heads that were checked.
    pub heads: u64,
    /// Files of tiles that were checked against the records.
    pub tiles: u64,
    /// Records before this position were removed, and a vouched record says so.
    pub retired: u64,
    /// Those from there up to this position lie in object storage, as a vouched record says, and were
    /// not looked at.
    pub archived: u64,
    /// Whether the log says that it ended.
    pub ended: bool,
    /// Bytes behind the last whole record: a write that a crash cut off. Nothing was acknowledged
    /// from it; the gate cuts it off and says so when it starts again.
    pub torn_bytes: u64,
}

/// What is wrong, and where.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The disk.
    #[error("cannot read the log")]
    Io(#[from] std::io::Error),
    /// A segment.
    #[error("the segment `{name}` is broken: {why}")]
    Segment {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// A head whose signature is not good, or that is of another log.
    #[error("the head number {number} is not good: {source}")]
    Head {
        /// From 1.
        number: u64,
        /// Why.
        source: NoteError,
    },
    /// Heads contradict each other.
    #[error(
        "the head number {number} counts {size} records, but the one before it {before}: the heads were reordered or replayed"
    )]
    Order {
        /// From 1.
        number: u64,
        /// What it counts.
        size: u64,
        /// What the one before it counts.
        before: u64,
    },
    /// Records are missing.
    #[error("a signed head counts {size} records, but only {found} are there: the end was cut off")]
    Missing {
        /// By the head.
        size: u64,
        /// In the segments.
        found: u64,
    },
    /// A record was changed, and the index beside the segment still knows which.
    #[error(
        "the segment `{name}` is broken: by its index the record at position {position} is the first that is not the one that was written: it was changed, dropped, added or moved"
    )]
    Record {
        /// Which segment.
        name: String,
        /// The first record that is another, from 0.
        position: u64,
    },
    /// Records were changed, and it cannot be told which.
    #[error(
        "the segment `{name}` is broken: one of the records at positions {good} to {} was changed, dropped, added or moved: they do not make up the tree that was signed", .size.saturating_sub(1)
    )]
    Changed {
        /// The segment where the head is that does not fit.
        name: String,
        /// The first head that does not fit.
        size: u64,
        /// The last one that does.
        good: u64,
    },
    /// A tile is not what the records make of it.
    #[error(
        "the tile `{path}` {why}: stop the gate, remove the folder `tile` and the file `checkpoint`, and start it: it builds them anew"
    )]
    Tile {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The head that is published beside the tiles is none of the log's.
    #[error("`{CHECKPOINT}` is not a head of this log")]
    Checkpoint(#[source] Option<NoteError>),
    /// The beginning is gone.
    #[error(
        "the log begins at position {first}, but no vouched record says that what was before was removed: by the records it begins at {allowed}"
    )]
    Beheaded {
        /// Where it begins.
        first: u64,
        /// Where it may begin.
        allowed: u64,
    },
    /// Something follows the end.
    #[error("the log was ended at {end} records, but {found} are there")]
    BeyondEnd {
        /// By the signed end.
        end: u64,
        /// In the segments.
        found: u64,
    },
    /// Nothing vouches for anything.
    #[error("there is no signed head, so nothing vouches for the {found} records that are there")]
    NoHead {
        /// In the segments.
        found: u64,
    },
}

/// The name that a log gives itself, which nobody has checked yet; `None` if it has no segment.
///
/// # Errors
/// [`Broken::Io`].
pub fn claimed_origin<S: Storage>(storage: &S) -> Result<Option<String>, Broken> {
    let names = super::segment_names(storage)?;
    let Some(first) = names.first() else { return Ok(None) };
    Ok(segment::split(&segment::read(storage, first)?).ok().map(|(header, ..)| header.origin))
}

/// Verifies the log of one origin under its keys, oldest first: its records, the tree, the heads and
/// their order, the tiles, and the head that is published beside them. A key that a key before it
/// vouches for, in a record that it signed, is taken as one of them. `further` are heads from
/// elsewhere (a witness, a note kept by the auditor): they are checked like the log's own, and the
/// log must reach them.
///
/// # Errors
/// The first thing that is [`Broken`].
pub fn verify<S: Storage>(
    storage: &S,
    origin: &str,
    keys: &VerifierKeys,
    further: &[String],
) -> Result<Whole, Broken> {
    verify_opening(storage, origin, keys, further, &VerifierKeys::open)
}

/// How a signed note is opened under keys that are not older than a number.
pub(super) type Open<'o> = &'o dyn Fn(&VerifierKeys, &str, usize) -> Result<(Head, usize), NoteError>;

/// The same, with signatures checked by `open`: whoever verifies nearly the same log many times need
/// not check the same note each time.
pub(super) fn verify_opening<S: Storage>(
    storage: &S,
    origin: &str,
    keys: &VerifierKeys,
    further: &[String],
    open: Open<'_>,
) -> Result<Whole, Broken> {
    let names = storage.list()?;
    let own = if names.iter().any(|n| n == HEADS) { storage.read(HEADS)? } else { Vec::new() };
    let own = String::from_utf8_lossy(&own);
    let (notes, _unfinished) = split_heads(&own);
    let mut keys = keys.clone();
    let mut heads = loop {
        let (good, unknown) = opened(&notes, &keys, open);
        let Some(unknown) = unknown else { break good };
        match successor(storage, origin, &keys, good, &unknown)? {
            Some(next) => keys.rotate(next),
            None => return Err(unknown),
        };
    };
    let kept = heads.len() as u64;
    let mut end = None;
    let own_end = if names.iter().any(|n| n == END) { Some(storage.read(END)?) } else { None };
    let own_end = own_end.map(|note| String::from_utf8_lossy(&note).into_owned());
    for (number, note) in (1..).zip(further.iter().chain(&own_end)) {
        let (head, _) =
            open(&keys, note, 0).map_err(|source| Broken::Head { number: kept + number, source })?;
        if note::is_end(note) {
            end = Some(head.size);
        }
        heads.push(head);
    }
    let published = published(storage, &names, &keys, open)?;
    heads.extend(published.clone());
    heads.sort_by_key(|head| head.size);
    let checked = heads.len() as u64 - u64::from(published.is_some());
    let walk = Walk::through(storage, origin, &heads, published.map(|head| head.size))?;
    let found = walk.size();
    let newest = match (heads.last(), end) {
        (None, _) => return Err(Broken::NoHead { found }),
        (Some(newest), _) if newest.size > found => {
            return Err(Broken::Missing { size: newest.size, found });
        }
        (_, Some(end)) if end < found => return Err(Broken::BeyondEnd { end, found }),
        (Some(newest), _) => newest,
    };
    let (allowed, retired) = walk.allowed(newest.size);
    if allowed < walk.first {
        return Err(Broken::Beheaded { first: walk.first, allowed });
    }
    if let Some(end) = walk.bundles_missing.iter().find(|end| **end > allowed) {
        let path = tiles::path(Tile::Entries, end / tiles::WIDTH - 1, tiles::WIDTH);
        return Err(Broken::Tile { path, why: "is missing" });
    }
    Ok(Whole {
        origin: origin.to_owned(),
        vouched: newest.size,
        beyond: found - newest.size,
        heads: checked,
        tiles: walk.tiles,
        retired: retired.min(walk.first),
        archived: if retired < walk.first { walk.first } else { 0 },
        ended: end.is_some(),
        torn_bytes: walk.torn,
    })
}

/// The head that is published beside the tiles.
fn published<S: Storage>(
    storage: &S,
    names: &[String],
    keys: &VerifierKeys,
    open: Open<'_>,
) -> Result<Option<Head>, Broken> {
    if !names.iter().any(|n| n == CHECKPOINT) {
        return Ok(None);
    }
    let note = String::from_utf8(storage.read(CHECKPOINT)?).map_err(|_| Broken::Checkpoint(None))?;
    open(keys, &note, 0).map(|(head, _)| Some(head)).map_err(|e| Broken::Checkpoint(Some(e)))
}

/// The key for which the newest of these keys vouches: a record that a head of it counts names it.
fn successor<S: Storage>(
    storage: &S,
    origin: &str,
    keys: &VerifierKeys,
    good: Vec<Head>,
    unknown: &Broken,
) -> Result<Option<note::VerifierKey>, Broken> {
    let newest = keys.newest().map(ToString::to_string);
    let (Broken::Head { source: NoteError::Signature(_), .. }, Some(newest)) = (unknown, newest) else {
        return Ok(None);
    };
    let vouched = good.last().map_or(0, |head| head.size);
    let walk = Walk::through(storage, origin, &good, None)?;
    let mut found = walk.rotations.iter().filter(|r| r.position < vouched && r.before == newest);
    Ok(found
        .next_back()
        .and_then(|r| note::VerifierKey::parse(&r.after).ok())
        .filter(|key| key.origin() == origin))
}

/// Names the record, if the index of the segment tells it from the others.
fn named<S: Storage>(storage: &S, name: &str, bytes: &[u8], broken: Broken) -> Broken {
    let Broken::Changed { good, .. } = broken else { return broken };
    let (Ok(index), Ok((header, leaves, _))) =
        (storage.read(&segment::index_of(name)), segment::split(bytes))
    else {
        return broken;
    };
    let mut pairs = (header.first..).zip(leaves.iter().zip(segment::indexed(&index)));
    // A difference before the last good head is in the index: it was touched too, and tells nothing.
    match pairs.find(|(_, (leaf, known))| merkle::leaf(leaf) != **known) {
        Some((position, _)) if position >= good => Broken::Record { name: name.to_owned(), position },
        _ => broken,
    }
}

/// Opens a log's own heads in their order: each is good, counts more than the one before, and no
/// key signs again after the next one did. Gives the good ones, and why the one behind is not.
fn opened(notes: &[&str], keys: &VerifierKeys, open: Open<'_>) -> (Vec<Head>, Option<Broken>) {
    let mut heads: Vec<Head> = Vec::with_capacity(notes.len());
    let mut oldest = 0;
    for (number, note) in (1..).zip(notes) {
        let (head, key) = match open(keys, note, oldest) {
            Ok(opened) => opened,
            Err(source) => return (heads, Some(Broken::Head { number, source })),
        };
        if let Some(before) = heads.last().map(|before| before.size).filter(|before| *before >= head.size) {
            return (heads, Some(Broken::Order { number, size: head.size, before }));
        }
        oldest = key;
        heads.push(head);
    }
    (heads, None)
}
