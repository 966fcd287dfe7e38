//! The form of a log on disk: segments of JSON lines, and the file of signed heads.
//!
//! A segment is called `SIZE.log`, where SIZE is the number of leaves before it in 20 digits. Its
//! first line is its header, every further line is a leaf. What lies behind the leaves that the
//! next header counts was never part of the log: a write that failed, which is cut off before the
//! log goes on.
//!
//! A segment that another follows may be packed: `SIZE.log.gz` has the same bytes (RFC 1952).
//!
//! Beside each segment lies its index, `SIZE.idx`: for each leaf 40 bytes, its offset in the segment
//! (8 bytes, little endian) and its hash. Nothing is vouched for by it and nothing waits for it; it
//! says where a leaf is, and which one was changed when the tree no longer fits.

use std::io::{self, Read as _, Write as _};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};

use super::{
    merkle::{Hash, Range},
    storage::Storage,
};
use crate::time::Timestamp;

/// The file of signed heads, in their order, each followed by an empty line.
pub const HEADS: &str = "heads";
/// The file with the verifier key.
pub const PUBLIC_KEY: &str = "audit.pub";
/// The file with the head that says that nothing comes behind it.
pub const END: &str = "end";
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
    format!("{}.idx", segment.strip_suffix(PACKED).unwrap_or(segment).trim_end_matches(".log"))
}

/// What the name of a packed segment ends with.
const PACKED: &str = ".log.gz";

/// The largest segment that is unpacked, against a file that grows without end.
const MAX_UNPACKED: u64 = 4 << 30;

/// Whether it is the name of a packed segment.
#[must_use]
pub fn is_packed(name: &str) -> bool {
    name.ends_with(PACKED)
}

/// The name of a segment when it is packed.
#[must_use]
pub fn packed(name: &str) -> String {
    format!("{name}.gz")
}

/// Packs a segment, piece by piece, and removes what was not packed. At every moment one whole form is
/// there.
///
/// # Errors
/// What the disk says.
pub fn pack<S: Storage + Clone>(storage: &mut S, name: &str) -> io::Result<()> {
    const PIECE: usize = 1 << 20;
    let source = storage.clone();
    storage.replace_by(&packed(name), &mut |file| {
        // The fastest level: JSON lines become as small as an eighth by it, and the best one, which
        // takes several times as long, saves a tenth more.
        let mut encoder = GzEncoder::new(file, Compression::fast());
        let mut offset = 0;
        loop {
            let piece = source.read_part(name, offset, PIECE)?;
            if piece.is_empty() {
                return encoder.finish().map(drop);
            }
            encoder.write_all(&piece)?;
            offset = offset.saturating_add(piece.len() as u64);
        }
    })?;
    storage.discard(name)
}

/// A segment's bytes, whether it is packed or not.
///
/// # Errors
/// What the disk says, or that it cannot be unpacked.
pub fn read<S: Storage>(storage: &S, name: &str) -> io::Result<Vec<u8>> {
    read_from(storage, name, 0)
}

/// A segment's bytes from one on, whether it is packed or not, or was packed meanwhile.
///
/// # Errors
/// As [`read`].
pub fn read_from<S: Storage>(storage: &S, name: &str, offset: u64) -> io::Result<Vec<u8>> {
    if is_packed(name) {
        return unpacked(&storage.read(name)?, offset);
    }
    match storage.read_from(name, offset) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match storage.read(&packed(name)) {
            Ok(bytes) => unpacked(&bytes, offset),
            Err(_) => Err(error),
        },
        read => read,
    }
}

/// At most so many of a segment's bytes from one on; of a packed one all of them.
///
/// # Errors
/// As [`read`].
pub fn read_part<S: Storage>(storage: &S, name: &str, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    if !is_packed(name) {
        match storage.read_part(name, offset, most) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
    }
    read_from(storage, name, offset)
}

fn unpacked(bytes: &[u8], offset: u64) -> io::Result<Vec<u8>> {
    let mut whole = Vec::new();
    GzDecoder::new(bytes).take(MAX_UNPACKED).read_to_end(&mut whole)?;
    whole.drain(..whole.len().min(usize::try_from(offset).unwrap_or(usize::MAX)));
    Ok(whole)
}

/// When the last record of a segment was written; `None` if it says nothing of that.
///
/// # Errors
/// As [`read`].
pub fn newest_of<S: Storage>(storage: &S, name: &str) -> io::Result<Option<Timestamp>> {
    #[derive(Deserialize)]
    struct Timed {
        time: u64,
    }
    let bytes = read(storage, name)?;
    let last = split(&bytes).ok().and_then(|(_, leaves, _)| leaves.last().copied());
    let timed = last.and_then(|leaf| serde_json::from_slice::<Timed>(leaf).ok());
    Ok(timed.map(|timed| Timestamp::from_millis(timed.time)))
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
    let digits = name.strip_suffix(PACKED).or_else(|| name.strip_suffix(".log"))?;
    let whole = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then(|| digits.parse().ok())?
}

/// The header of a segment that begins with these bytes.
#[must_use]
pub fn header(bytes: &[u8]) -> Option<Header> {
    serde_json::from_slice(bytes.get(..header_length(bytes))?).ok()
}

/// The header and the whole lines behind it; then how many bytes are left over, because the last
/// line has no end or a line is not a leaf.
///
/// # Errors
/// If there is no readable header.
pub fn split(bytes: &[u8]) -> Result<(Header, Vec<&[u8]>, usize), &'static str> {
    let length = header_length(bytes);
    let mut rest = bytes.get(length..).unwrap_or_default();
    if !bytes.get(..length).is_some_and(|line| line.ends_with(b"\n")) {
        return Err("its header is cut");
    }
    let header = header(bytes).ok_or("its header is not one")?;
    if header.amlgate_segment != VERSION {
        return Err("its form is of another version");
    }
    let mut leaves = Vec::with_capacity(rest.len() / 1_024);
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let Some((leaf, behind)) = rest.split_at_checked(end) else { break };
        if !(leaf.starts_with(b"{") && leaf.ends_with(b"}")) {
            break;
        }
        leaves.push(leaf);
        rest = behind.get(1..).unwrap_or_default();
    }
    Ok((header, leaves, rest.len()))
}

/// Whether nothing was ever acknowledged from these bytes of a last segment: its header, which is
/// synced before any record is written, is unfinished.
#[must_use]
pub fn is_only_begun(bytes: &[u8]) -> bool {
    header_length(bytes) == bytes.len() && split(bytes).is_err()
}

fn header_length(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}
