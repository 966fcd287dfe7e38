//! Proofs that were used: each is good once (RFC 9449, 11.1).
//!
//! One memory for all cores, in parts that are locked apart for the length of a look-up. A proof is
//! remembered until it is too old to be good anyhow. When a part is full of proofs that still are,
//! the next one is refused: forgetting one would let it be used again.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::time::Timestamp;

/// So many parts, each with a lock of its own.
const PARTS: usize = 16;

/// Whether a proof may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is new, and remembered from now on.
    First,
    /// It was used before.
    Before,
    /// There is no room to remember it.
    Full,
}

/// The proofs that were used.
pub struct Replays {
    parts: [Mutex<Part>; PARTS],
    room: usize,
}

#[derive(Default)]
struct Part {
    seen: HashSet<[u8; 32]>,
    /// The same by the time at which each may be forgotten.
    ends: BTreeSet<(Timestamp, [u8; 32])>,
}

impl fmt::Debug for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replays({} at most)", self.room * PARTS)
    }
}

impl Replays {
    /// Remembers at most about `count` proofs.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self { parts: Default::default(), room: count.div_ceil(PARTS).max(1) }
    }

    /// Uses a proof, which is good until `until`.
    pub fn first_use(&self, id: &[u8; 32], until: Timestamp, now: Timestamp) -> Seen {
        // The id is a digest: its first byte falls evenly.
        let Some(part) = self.parts.get(usize::from(id[0]) % PARTS) else { return Seen::Full };
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((end, gone)) = part.ends.first().copied().filter(|(end, _)| *end <= now) {
            part.ends.remove(&(end, gone));
            part.seen.remove(&gone);
        }
        if part.seen.contains(id) {
            return Seen::Before;
        }
        if part.seen.len() >= self.room {
            return Seen::Full;
        }
        part.seen.insert(*id);
        part.ends.insert((until, *id));
        Seen::First
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).seen.len()).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
