//! What is found when the journal is opened: where the log ends, and what a crash left unfinished.

use std::{collections::HashSet, io};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    merkle::{self, Range},
    note::{NoteError, VerifierKey, VerifierKeys},
    segment::{self, HEADS, PUBLIC_KEY},
    storage::Storage,
};

/// Where the log ends.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// The tree of everything that is whole.
    pub range: Range,
    /// The size of the newest signed head.
    pub signed: u64,
    /// The whole heads, in bytes of their file.
    pub heads_bytes: u64,
    /// How many they are.
    pub heads: usize,
    /// Bytes of an unfinished record that were cut off.
    pub torn_bytes: u64,
    /// Whether the log does not end with the record of a stop: the gate crashed or was killed.
    pub crashed: bool,
    /// Intents of the run that crashed without an outcome, by decision, oldest first.
    pub unresolved: Vec<String>,
    /// The last segment, if it has no leaf: the next record begins it anew.
    pub leafless: Option<String>,
    /// The keys that signed the log before.
    pub keys: VerifierKeys,
    /// The one that signed the newest head.
    pub signed_by: Option<VerifierKey>,
}

/// Why a log cannot be gone on with. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The disk.
    #[error("cannot read the log")]
    Io(#[from] io::Error),
    /// The last segment contradicts itself.
    #[error("the segment `{name}` cannot be gone on with: {why}; `amlgate audit verify` tells more")]
    Segment {
        /// Which.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// The log is another's.
    #[error("the log is of `{found}`, not of `{expected}`: give this gate a directory of its own")]
    Origin {
        /// What it says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The keys beside the log cannot be read.
    #[error("`{PUBLIC_KEY}` beside the log holds something else than verifier keys")]
    Keys(#[source] NoteError),
    /// Records that a head vouches for are gone.
    #[error(
        "a signed head counts {signed} records, but only {found} are there: records were lost or removed"
    )]
    Lost {
        /// By the newest head.
        signed: u64,
        /// In the segments.
        found: u64,
    },
}

/// Finds the log's end and cuts off what is unfinished. What is kept is durable afterwards: a crash
/// of the process alone leaves whole records that were never synced, and a head that counts them
/// must not outlive them. Nothing is cut before it is known that no head counts it.
pub(super) fn recover<S: Storage>(storage: &mut S, origin: &str) -> Result<Recovery, RecoveryError> {
    let mut found = Recovery::default();
    let names = storage.list()?;
    let all = super::segment_names(storage)?;
    let mut segments: Vec<&String> = all.iter().collect();
    let mut cut = None;
    if let Some(last) = segments.last().copied() {
        let bytes = segment::read(storage, last)?;
        if !segment::is_only_begun(&bytes) {
            let (end, kept) = end(last, &bytes, origin)?;
            found = Recovery { torn_bytes: (bytes.len() - kept) as u64, ..end };
            // What is packed was vouched for, and the disk has it.
            if !segment::is_packed(last) {
                cut = Some((last, kept as u64));
            } else if found.torn_bytes > 0 {
                let why = "it is packed and has something behind its last record";
                return Err(RecoveryError::Segment { name: last.clone(), why });
            }
        } else {
            // The log ends with the one before it.
            segments.pop();
            if let Some(before) = segments.last() {
                found = end(before, &segment::read(storage, before)?, origin)?.0;
            }
            if segment::first_of(last) != Some(found.range.size()) {
                return Err(RecoveryError::Segment {
                    name: last.clone(),
                    why: "it does not begin where the one before it ends",
                });
            }
            found.torn_bytes = bytes.len() as u64;
            found.leafless = Some(last.clone());
            cut = Some((last, 0));
        }
        (found.unresolved, found.crashed) = unresolved(storage, &segments)?;
    }
    if names.iter().any(|n| n == PUBLIC_KEY) {
        let text = String::from_utf8_lossy(&storage.read(PUBLIC_KEY)?).into_owned();
        found.keys = VerifierKeys::parse(&text).map_err(RecoveryError::Keys)?.of(origin);
    }
    let heads = heads(storage, &names, &mut found)?;
    if found.signed > found.range.size() {
        return Err(RecoveryError::Lost { signed: found.signed, found: found.range.size() });
    }
    if let Some((last, kept)) = cut {
        storage.truncate(last, kept)?;
    }
    if heads {
        storage.truncate(HEADS, found.heads_bytes)?;
    }
    Ok(found)
}

/// Where the log ends if this segment is its last, and how many bytes of the segment are whole.
fn end(name: &str, bytes: &[u8], origin: &str) -> Result<(Recovery, usize), RecoveryError> {
    let wrong = |why| RecoveryError::Segment { name: name.to_owned(), why };
    let (header, leaves, rest) = segment::split(bytes).map_err(wrong)?;
    if header.origin != origin {
        return Err(RecoveryError::Origin { found: header.origin, expected: origin.to_owned() });
    }
    if segment::first_of(name) != Some(header.first) {
        return Err(wrong("its name does not fit its header"));
    }
    let mut range = header.range().ok_or_else(|| wrong("its header contradicts itself"))?;
    // A lost sector in the middle of what was never synced leaves a line that only looks whole.
    let sound = leaves.iter().take_while(|leaf| serde_json::from_slice::<IgnoredAny>(leaf).is_ok()).count();
    let (leaves, unsound) = leaves.split_at(sound);
    for leaf in leaves {
        range.push(merkle::leaf(leaf));
    }
    let rest = rest + unsound.iter().map(|leaf| leaf.len() + 1).sum::<usize>();
    let leafless = leaves.is_empty().then(|| name.to_owned());
    Ok((Recovery { range, leafless, ..Recovery::default() }, bytes.len() - rest))
}

/// Reads the signed heads, but for half a head at the end; whether there is a file of them.
fn heads<S: Storage>(storage: &S, names: &[String], found: &mut Recovery) -> Result<bool, RecoveryError> {
    if !names.iter().any(|n| n == HEADS) {
        return Ok(false);
    }
    let bytes = storage.read(HEADS)?;
    let text = String::from_utf8_lossy(&bytes);
    let (mut notes, mut whole) = split_heads(&text);
    // A head that was never synced may look whole and not be it.
    if let Some(last) = notes.last().filter(|note| found.keys.open(note, 0).is_err()) {
        whole -= last.len() + 1;
        notes.pop();
    }
    if let Some((head, key)) = notes.iter().rev().find_map(|note| found.keys.open(note, 0).ok()) {
        found.signed = head.size;
        found.signed_by = found.keys.get(key).cloned();
    }
    found.heads_bytes = whole as u64;
    found.heads = notes.len();
    Ok(true)
}

/// The whole notes of a file of heads, and how many bytes they take.
pub(super) fn split_heads(text: &str) -> (Vec<&str>, usize) {
    let mut notes = Vec::new();
    let mut from = 0;
    while let Some(rest) = text.get(from..) {
        // Three lines, an empty one, signatures, an empty one.
        let Some(body) = rest.find("\n\n") else { break };
        let Some(end) = rest.get(body + 2..).and_then(|r| r.find("\n\n")) else { break };
        let length = body + 2 + end + 1;
        notes.extend(rest.get(..length));
        from += length + 1;
    }
    (notes, from)
}

/// At most so many segments are read back for intents without an outcome: one run of the gate may
/// have written more than can be read before it must serve again.
const LOOK_BACK: usize = 16;

/// What a record says of its request; the rest is not looked at.
#[derive(Deserialize)]
struct Leaf<'a> {
    #[serde(borrow)]
    unmapped: Unmapped<'a>,
}

#[derive(Deserialize)]
struct Unmapped<'a> {
    #[serde(borrow)]
    amlgate: Own<'a>,
}

#[derive(Deserialize)]
struct Own<'a> {
    phase: Option<&'a str>,
    decision: Option<&'a str>,
    ending: Option<&'a str>,
    event: Option<&'a str>,
}

/// Decisions with an intent and no end, back to where the run began that wrote the last segment; and
/// whether that run did not record its stop.
fn unresolved<S: Storage>(storage: &S, segments: &[&String]) -> Result<(Vec<String>, bool), RecoveryError> {
    let (mut ended, mut open) = (HashSet::new(), Vec::new());
    let mut crashed = None;
    'run: for name in segments.iter().rev().take(LOOK_BACK) {
        let bytes = segment::read(storage, name)?;
        let Ok((_, leaves, _)) = segment::split(&bytes) else { break };
        for leaf in leaves.iter().rev() {
            let Ok(Leaf { unmapped: Unmapped { amlgate: own } }) = serde_json::from_slice(leaf) else {
                continue;
            };
            crashed.get_or_insert(!matches!(own.event, Some("stopped" | "log_ended")));
            let decision = own.decision.and_then(|d| uuid::Uuid::parse_str(d).ok());
            match (own.event, own.phase, decision) {
                // Before these everything is ended, or was said already.
                (Some("started" | "stopped" | "recovered"), ..) => break 'run,
                (_, Some("outcome"), Some(decision)) if own.ending != Some("established") => {
                    ended.insert(decision);
                }
                (_, Some("intent"), Some(decision)) if !ended.remove(&decision) => {
                    open.push(decision.to_string())
                }
                _ => {}
            }
        }
    }
    open.reverse();
    Ok((open, crashed.unwrap_or_default()))
}
