//! Verification, offline, from the files and a verifier key alone.
//!
//! It proves that every record up to the newest head that it is given is there, unchanged and in
//! its order; it vouches for nothing behind that head, and says so.

use super::{
    merkle::{self, Range},
    note::{Head, NoteError, VerifierKeys},
    recovery::split_heads,
    segment::{self, HEADS, Header},
    storage::Storage,
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
    let names = storage.list()?;
    let Some(first) = names.iter().find(|n| segment::first_of(n).is_some()) else { return Ok(None) };
    Ok(segment::split(&storage.read(first)?).ok().map(|(header, ..)| header.origin))
}

/// Verifies the log of one origin under its keys, oldest first. `further` are heads from elsewhere
/// (a witness, a note kept by the auditor): they are checked like the log's own, and the log must
/// reach them.
///
/// # Errors
/// The first thing that is [`Broken`].
pub fn verify<S: Storage>(
    storage: &S,
    origin: &str,
    keys: &VerifierKeys,
    further: &[String],
) -> Result<Whole, Broken> {
    let names = storage.list()?;
    let own = if names.iter().any(|n| n == HEADS) { storage.read(HEADS)? } else { Vec::new() };
    let own = String::from_utf8_lossy(&own);
    let (notes, _unfinished) = split_heads(&own);
    let mut heads = opened(&notes, keys)?;
    let kept = heads.len() as u64;
    for (number, note) in (1..).zip(further) {
        let (head, _) =
            keys.open(note, 0).map_err(|source| Broken::Head { number: kept + number, source })?;
        heads.push(head);
    }
    heads.sort_by_key(|head| head.size);
    let mut walk = Walk { origin, range: Range::default(), heads: &heads, good: 0, torn: 0 };
    let mut segments = names.iter().filter(|n| segment::first_of(n).is_some()).peekable();
    while let Some(name) = segments.next() {
        let until = segments.peek().and_then(|next| segment::first_of(next));
        let bytes = storage.read(name)?;
        walk.segment(name, &bytes, until).map_err(|broken| named(storage, name, &bytes, broken))?;
    }
    let found = walk.range.size();
    match heads.last() {
        None => Err(Broken::NoHead { found }),
        Some(newest) if newest.size > found => Err(Broken::Missing { size: newest.size, found }),
        Some(newest) => Ok(Whole {
            origin: origin.to_owned(),
            vouched: newest.size,
            beyond: found - newest.size,
            heads: heads.len() as u64,
            torn_bytes: walk.torn,
        }),
    }
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
/// key signs again after the next one did.
fn opened(notes: &[&str], keys: &VerifierKeys) -> Result<Vec<Head>, Broken> {
    let mut heads: Vec<Head> = Vec::with_capacity(notes.len());
    let mut oldest = 0;
    for (number, note) in (1..).zip(notes) {
        let (head, key) = keys.open(note, oldest).map_err(|source| Broken::Head { number, source })?;
        if let Some(before) = heads.last().filter(|before| before.size >= head.size) {
            return Err(Broken::Order { number, size: head.size, before: before.size });
        }
        oldest = key;
        heads.push(head);
    }
    Ok(heads)
}

struct Walk<'a> {
    origin: &'a str,
    range: Range,
    /// By size.
    heads: &'a [Head],
    /// The size of the last head that fits.
    good: u64,
    /// Bytes behind the last record.
    torn: u64,
}

impl Walk<'_> {
    fn segment(&mut self, name: &str, bytes: &[u8], until: Option<u64>) -> Result<(), Broken> {
        let wrong = |why: &str| Broken::Segment { name: name.to_owned(), why: why.to_owned() };
        if until.is_none() && segment::is_only_begun(bytes) {
            self.torn = bytes.len() as u64;
            return Ok(()); // Begun, and nothing was acknowledged from it.
        }
        let (header, leaves, rest) = segment::split(bytes).map_err(wrong)?;
        if header.origin != self.origin {
            return Err(wrong("it is of another log"));
        }
        if segment::first_of(name) != Some(header.first) {
            return Err(wrong("its name does not fit its header"));
        }
        let before = header.range().ok_or_else(|| wrong("its header contradicts itself"))?;
        if before != self.range {
            return Err(wrong(
                "it does not go on where the one before it ends: there something was changed, or records or a segment are missing",
            ));
        }
        if !bytes.starts_with(&Header::after(self.origin, &self.range).line()) {
            return Err(wrong("its header is not in the one form that a header has"));
        }
        let count = until.map_or(leaves.len() as u64, |until| until.saturating_sub(header.first));
        if count > leaves.len() as u64 {
            return Err(wrong("records at its end are missing"));
        }
        if until.is_some() && count < leaves.len() as u64 {
            return Err(wrong("it has more records than the next one counts"));
        }
        if rest > 0 && until.is_some() {
            return Err(wrong("it has something behind its last record"));
        }
        self.torn = rest as u64;
        for leaf in leaves {
            self.range.push(merkle::leaf(leaf));
            let size = self.range.size();
            let from = self.heads.partition_point(|h| h.size < size);
            for head in self.heads.iter().skip(from).take_while(|h| h.size == size) {
                if head.root != self.range.root() {
                    return Err(Broken::Changed { name: name.to_owned(), size, good: self.good });
                }
                self.good = size;
            }
        }
        Ok(())
    }
}
