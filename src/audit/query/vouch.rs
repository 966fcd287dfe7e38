//! Whether records are those that a signed head vouches for.
//!
//! The leaves of a segment, put on the tree that its header names, give the tree at its end; a signed
//! head of that size vouches for the header and for every leaf. Leaf hashes are taken from the index
//! beside the segment, which costs little, and from the segment itself if they do not fit.

use std::path::Path;

use super::{Found, QueryError, first_of};
use crate::audit::{
    heads,
    merkle::{self, Hash},
    note::{Head, VerifierKeys},
    segment::{self, Header},
    storage::{Directory, Storage as _},
};

/// What vouches for a log.
pub(super) struct Vouchers<'k> {
    storage: Directory,
    keys: &'k VerifierKeys,
    names: &'k [String],
}

/// The tree at the end of a segment, or as far as a head goes.
struct Chain {
    leaves: Vec<Hash>,
    /// So many of them are vouched for.
    vouched: usize,
}

impl<'k> Vouchers<'k> {
    pub fn new(directory: &Path, keys: &'k VerifierKeys, names: &'k [String]) -> Self {
        Self { storage: Directory::at(directory.to_owned()), keys, names }
    }

    /// Marks the records of a segment that are vouched for.
    pub fn vouch(&self, name: &str, found: &mut [Found]) -> Result<(), QueryError> {
        if self.keys.newest().is_none() {
            return Ok(());
        }
        let broken = |why: String| QueryError::Broken { segment: name.to_owned(), why };
        let first = first_of(name);
        let quick = self.chain(name, false)?;
        let fits = |chain: &Chain, record: &Found| {
            let number = usize::try_from(record.position.saturating_sub(first)).unwrap_or(usize::MAX);
            match chain.leaves.get(number) {
                Some(leaf) if *leaf == merkle::leaf(&record.line) => Some(number < chain.vouched),
                Some(_) | None => None,
            }
        };
        let chain = match quick {
            Some(chain) if found.iter().all(|record| fits(&chain, record).is_some()) => chain,
            // Its index may be behind or wrong; the segment itself says.
            Some(_) | None => self
                .chain(name, true)?
                .ok_or_else(|| broken("is not what its signed heads vouch for".to_owned()))?,
        };
        for record in found {
            record.vouched = fits(&chain, record)
                .ok_or_else(|| broken(format!("holds another record at position {}", record.position)))?;
        }
        Ok(())
    }

    /// The leaves of a segment and how many of them are vouched for; `None` if they contradict what
    /// follows.
    fn chain(&self, name: &str, whole: bool) -> Result<Option<Chain>, QueryError> {
        let leaves = self.leaves(name, whole)?;
        let Some(header) = self.header(name)? else { return Ok(None) };
        let Some(mut range) = header.range() else { return Ok(None) };
        let mut at = self.names.iter().position(|n| n == name);
        let mut part = leaves.clone();
        // To the end of the segment, and on from there until some head says.
        loop {
            let next = at.and_then(|at| self.names.get(at + 1)).cloned();
            let Some(next) = next else { break };
            // A header that is only begun: the log ends with this segment.
            let Some(follows) = self.header(&next)? else { break };
            part.iter().for_each(|leaf| range.push(*leaf));
            if follows.range().as_ref() != Some(&range) {
                return Ok(None);
            }
            match self.head(&header.origin, range.size())? {
                Some(head) if head.root == range.root() => {
                    let vouched = leaves.len();
                    return Ok(Some(Chain { leaves, vouched }));
                }
                Some(_) => return Ok(None),
                None => {}
            }
            part = self.leaves(&next, whole)?;
            at = at.map(|at| at + 1);
        }
        // The last segment: as far as the newest head goes.
        let Some(head) = self.newest(&header.origin)? else { return Ok(Some(Chain { leaves, vouched: 0 })) };
        let begin = range.size();
        for leaf in &part {
            if range.size() == head.size {
                break;
            }
            range.push(*leaf);
        }
        if range.size() != head.size {
            // A head beyond what is here says that records are gone; one before vouches for none of these.
            return Ok((begin >= head.size).then_some(Chain { leaves, vouched: 0 }));
        }
        if range.root() != head.root {
            return Ok(None);
        }
        let own = begin == header.first;
        let vouched = if own { usize::try_from(head.size - begin).unwrap_or_default() } else { leaves.len() };
        Ok(Some(Chain { leaves, vouched }))
    }

    fn leaves(&self, name: &str, whole: bool) -> Result<Vec<Hash>, QueryError> {
        if !whole && let Ok(bytes) = self.storage.read(&segment::index_of(name)) {
            return Ok(segment::indexed(&bytes).filter_map(|leaf| leaf.try_into().ok()).collect());
        }
        let bytes = segment::read(&self.storage, name)?;
        let lines = bytes.split_inclusive(|b| *b == b'\n').skip(1);
        Ok(lines.filter_map(|line| line.strip_suffix(b"\n")).map(merkle::leaf).collect())
    }

    fn header(&self, name: &str) -> Result<Option<Header>, QueryError> {
        let bytes = segment::read_part(&self.storage, name, 0, 64 << 10)?;
        let line = bytes.split_inclusive(|b| *b == b'\n').next().unwrap_or_default();
        Ok(serde_json::from_slice(line).ok())
    }

    /// The signed head of a size, if there is one that a key opens.
    fn head(&self, origin: &str, size: u64) -> Result<Option<Head>, QueryError> {
        let note = heads::of_size(&self.storage, size)?;
        let head = note.and_then(|note| self.keys.open(&note, 0).ok()).map(|(head, _)| head);
        Ok(head.filter(|head| head.origin == origin && head.size == size))
    }

    fn newest(&self, origin: &str) -> Result<Option<Head>, QueryError> {
        let notes = heads::newest(&self.storage)?;
        let heads = notes.iter().rev().filter_map(|note| self.keys.open(note, 0).ok());
        Ok(heads.map(|(head, _)| head).find(|head| head.origin == origin))
    }
}
