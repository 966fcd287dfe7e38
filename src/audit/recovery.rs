//! What is found when the journal is opened: where the log ends, and what a crash left unfinished.

use std::{collections::BTreeMap, io};

use serde_json::Value;

use super::{
    merkle::{self, Range},
    note::VerifierKey,
    segment::{self, HEADS},
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
    /// Bytes of an unfinished record that were cut off.
    pub torn_bytes: u64,
    /// Intents in the last segment without an outcome, by decision.
    pub unresolved: Vec<String>,
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

/// Finds the log's end and cuts off what is unfinished.
pub(super) fn recover<S: Storage>(storage: &mut S, key: &VerifierKey) -> Result<Recovery, RecoveryError> {
    let mut found = Recovery::default();
    let names = storage.list()?;
    if let Some(name) = names.iter().rev().find(|n| segment::first_of(n).is_some()) {
        let bytes = storage.read(name)?;
        match segment::split(&bytes) {
            Ok((header, leaves, rest)) => {
                if header.origin != key.origin() {
                    return Err(RecoveryError::Origin {
                        found: header.origin,
                        expected: key.origin().to_owned(),
                    });
                }
                let wrong = |why| RecoveryError::Segment { name: name.clone(), why };
                if segment::first_of(name) != Some(header.first) {
                    return Err(wrong("its name does not fit its header"));
                }
                found.range = header.range().ok_or_else(|| wrong("its header contradicts itself"))?;
                for leaf in &leaves {
                    found.range.push(merkle::leaf(leaf));
                }
                found.unresolved = unresolved(&leaves);
                if rest > 0 {
                    found.torn_bytes = rest as u64;
                    storage.truncate(name, (bytes.len() - rest) as u64)?;
                }
            }
            // Nothing was ever acknowledged from a segment whose header is cut: the one before it
            // is the last, and the next record begins this one anew.
            Err(_) if !bytes.contains(&b'\n') => {
                found.torn_bytes = bytes.len() as u64;
                let first = segment::first_of(name).unwrap_or_default();
                let before = before(storage, &names, name)?;
                found.range = before.range;
                found.unresolved = before.unresolved;
                if found.range.size() != first {
                    return Err(RecoveryError::Segment {
                        name: name.clone(),
                        why: "it does not begin where the one before it ends",
                    });
                }
                storage.truncate(name, 0)?;
            }
            Err(why) => return Err(RecoveryError::Segment { name: name.clone(), why }),
        }
    }
    heads(storage, key, &names, &mut found)?;
    if found.signed > found.range.size() {
        return Err(RecoveryError::Lost { signed: found.signed, found: found.range.size() });
    }
    Ok(found)
}

/// The end of the segment before `name`.
fn before<S: Storage>(storage: &mut S, names: &[String], name: &str) -> Result<Recovery, RecoveryError> {
    let mut found = Recovery::default();
    let previous = names.iter().rev().filter(|n| segment::first_of(n).is_some()).find(|n| n.as_str() < name);
    if let Some(previous) = previous {
        let bytes = storage.read(previous)?;
        let wrong = |why| RecoveryError::Segment { name: previous.clone(), why };
        let (header, leaves, _) = segment::split(&bytes).map_err(wrong)?;
        found.range = header.range().ok_or_else(|| wrong("its header contradicts itself"))?;
        for leaf in &leaves {
            found.range.push(merkle::leaf(leaf));
        }
        found.unresolved = unresolved(&leaves);
    }
    Ok(found)
}

/// Reads the signed heads; half a head at the end is cut off.
fn heads<S: Storage>(
    storage: &mut S,
    key: &VerifierKey,
    names: &[String],
    found: &mut Recovery,
) -> Result<(), RecoveryError> {
    if !names.iter().any(|n| n == HEADS) {
        return Ok(());
    }
    let bytes = storage.read(HEADS)?;
    let text = String::from_utf8_lossy(&bytes);
    let (notes, whole) = split_heads(&text);
    // The newest good head counts: one under another key was signed before a rotation.
    found.signed = notes.iter().rev().find_map(|note| key.open(note).ok()).map_or(0, |h| h.size);
    found.heads_bytes = whole as u64;
    if whole < bytes.len() {
        storage.truncate(HEADS, whole as u64)?;
    }
    Ok(())
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

/// Decisions with an intent and no outcome behind it.
fn unresolved(leaves: &[&[u8]]) -> Vec<String> {
    let mut open = BTreeMap::new();
    for leaf in leaves {
        let Ok(record) = serde_json::from_slice::<Value>(leaf) else { continue };
        let own = record.pointer("/unmapped/amlgate");
        let text = |key: &str| own.and_then(|o| o.get(key)).and_then(Value::as_str).map(str::to_owned);
        match (text("phase").as_deref(), text("decision")) {
            (Some("intent"), Some(decision)) => drop(open.insert(decision, ())),
            (Some("outcome"), Some(decision)) => drop(open.remove(&decision)),
            _ => {}
        }
    }
    open.into_keys().collect()
}
