//! The form of a log on disk: segments of JSON lines, and the file of signed heads.
//!
//! A segment is called `SIZE.log`, where SIZE is the number of leaves before it in 20 digits. Its
//! first line is its header, every further line is a leaf. What lies behind the leaves that the
//! next header counts was never part of the log: a write that failed, which is cut off before the
//! log goes on.
//!
//! Beside each segment lies its index, `SIZE.idx`: for each leaf 40 bytes, its offset in the segment
//! (8 bytes, little endian) and its hash. Nothing is vouched for by it and nothing waits for it; it
//! says where a leaf is, and which one was changed when the tree no longer fits.

use serde::{Deserialize, Serialize};

use super::merkle::{Hash, Range};

/// The file of signed heads, in their order, each followed by an empty line.
pub const HEADS: &str = "heads";
/// The file with the verifier key.
pub const PUBLIC_KEY: &str = "audit.pub";
/// The version of the form.
pub const VERSION: u32 = 1;

/// The first line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The version of the form.
    pub amlgate_segment: u32,
    /// The log's name.
    pub origin: String,
    /// How many leaves were before.
    pub first: u64,
    /// The subtrees that they make up, largest first, in hexadecimal.
    pub range: Vec<String>,
}

impl Header {
    /// The header of the segment that begins behind `range`.
    #[must_use]
    pub fn after(origin: &str, range: &Range) -> Self {
        let hex = |hash: &Hash| hash.iter().map(|b| format!("{b:02x}")).collect();
        Self {
            amlgate_segment: VERSION,
            origin: origin.to_owned(),
            first: range.size(),
            range: range.stack().iter().map(hex).collect(),
        }
    }

    /// The tree before the segment; `None` if the header contradicts itself.
    #[must_use]
    pub fn range(&self) -> Option<Range> {
        let stack = self.range.iter().map(|h| unhex(h)).collect::<Option<Vec<_>>>()?;
        Range::restore(self.first, stack)
    }

    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

fn unhex(text: &str) -> Option<Hash> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in out.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(out)
}

/// The name of the segment that begins behind so many leaves.
#[must_use]
pub fn name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The name of the index of a segment.
#[must_use]
pub fn index_of(segment: &str) -> String {
    segment.replace(".log", ".idx")
}

/// One leaf in an index.
#[must_use]
pub fn index_entry(offset: u64, leaf: &Hash) -> [u8; 40] {
    let mut entry = [0; 40];
    let (at, hash) = entry.split_at_mut(8);
    at.copy_from_slice(&offset.to_le_bytes());
    hash.copy_from_slice(leaf);
    entry
}

/// The hashes in an index, up to where it breaks off.
pub fn indexed(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks_exact(40).filter_map(|entry| entry.get(8..))
}

/// How many leaves lie before the segment of that name; `None` if it is no segment's.
#[must_use]
pub fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// The header and the whole lines behind it; then how many bytes are left over, because the last
/// line has no end or a line is not a leaf.
///
/// # Errors
/// If there is no readable header.
pub fn split(bytes: &[u8]) -> Result<(Header, Vec<&[u8]>, usize), &'static str> {
    let mut lines = bytes.split_inclusive(|b| *b == b'\n');
    let header = lines.next().filter(|l| l.ends_with(b"\n")).ok_or("its header is cut")?;
    let header: Header = serde_json::from_slice(header).map_err(|_| "its header is not one")?;
    if header.amlgate_segment != VERSION {
        return Err("its form is of another version");
    }
    let mut leaves = Vec::new();
    let mut rest = bytes.len().saturating_sub(header_length(bytes));
    for line in lines {
        let Some(leaf) = line.strip_suffix(b"\n") else { break };
        if !(leaf.starts_with(b"{") && leaf.ends_with(b"}")) {
            break;
        }
        leaves.push(leaf);
        rest -= line.len();
    }
    Ok((header, leaves, rest))
}

/// Whether nothing was ever acknowledged from these bytes of a last segment: its header, which is
/// synced before any record is written, is unfinished.
#[must_use]
pub fn is_only_begun(bytes: &[u8]) -> bool {
    header_length(bytes) == bytes.len() && split(bytes).is_err()
}

fn header_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1)
}
