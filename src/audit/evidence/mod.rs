//! Evidence packs: what an auditor is given, to be checked on a machine that has nothing of the gate
//! and no network.
//!
//! A pack is a folder: the records of a period that belong to the controls asked for, with a proof of
//! inclusion for each; the head that all proofs lead to, the newest head from before the period and a
//! proof that the log grew out of it; the policies that were in force, by what the record says of
//! them; a manifest; and `SHA256SUMS`, which names every other file and is signed with the log's key.
//! So a file that is changed, left out or put in is found with `sha256sum` and `openssl` alone.
//!
//! What it does not prove: that no record of the period was left out of it. The manifest, which is
//! signed, says how many there were; whoever doubts it verifies the log itself (`audit verify`).

mod check;
mod control;
mod manifest;
mod sums;
#[cfg(test)]
mod tests;
mod write;

use std::{io, path::PathBuf};

pub use check::{Checked, check};
pub use control::{Class, Control, Named, UnknownControl};
pub use manifest::{Manifest, PolicySet, Verifier};
pub use write::{Asked, write};

use super::{note::NoteError, proved::Unproven, prover::ProverError};

/// What describes the pack.
pub(super) const MANIFEST: &str = "manifest.json";
/// The digests of all other files.
pub(super) const SUMS: &str = "SHA256SUMS";
/// Their signature: Ed25519, 64 bytes.
pub(super) const SIGNATURE: &str = "SHA256SUMS.sig";
/// The log's keys, as verifier keys.
pub(super) const KEYS: &str = "audit.pub";
/// The key that signed the pack, as `openssl` reads it.
pub(super) const PEM: &str = "key.pem";
/// The head that all proofs lead to.
pub(super) const END: &str = "checkpoints/end";
/// The newest head from before the records.
pub(super) const BEGIN: &str = "checkpoints/begin";
/// That the log at the end begins with what it was at the beginning.
pub(super) const GROWN: &str = "checkpoints/grown";
/// What to do with it.
pub(super) const READ_ME: &str = "README.txt";
/// So many records are in one file, and their proofs in another.
pub(super) const PART: usize = 1_000;
/// A pack has at most so many files, and a log's record at most so many bytes: whoever checks a pack
/// may have it from anybody.
pub(super) const MAX_FILES: usize = 100_000;
/// The largest file that is read whole, in bytes: the proofs of a part are less than half of it.
pub(super) const MAX_FILE: u64 = 128 << 20;

/// Why there is no pack, or why it is none.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// A file.
    #[error("`{}`", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log.
    #[error("cannot read the log")]
    Log(#[source] io::Error),
    /// What the log does not prove.
    #[error(transparent)]
    Prover(#[from] ProverError),
    /// A key or a head.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Where the pack is to be made is something already.
    #[error("`{}` is there already, and nothing is overwritten: name a folder that is not there yet", .0.display())]
    There(PathBuf),
    /// Records of the period are not on the disk.
    #[error(
        "records of the period, up to position {until}, are archived at `{url}`: fetch them into a copy of the log's directory first"
    )]
    Archived {
        /// The position behind the last of them.
        until: u64,
        /// Where it is.
        url: String,
    },
    /// The key does not sign this log.
    #[error("the key is not the one that signs the log `{0}`")]
    Key(String),
    /// Something in the pack is not what its signed list says, or proves nothing.
    #[error("`{file}` {why}")]
    Flawed {
        /// Which file of the pack.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A proof in the pack.
    #[error("`{file}` proves nothing")]
    Unproven {
        /// Which file of the pack.
        file: String,
        /// Why.
        source: Unproven,
    },
}

impl EvidenceError {
    fn flawed(file: &str, why: impl Into<String>) -> Self {
        // What a pack says of itself comes from anybody, and may be meant for the terminal.
        let plain = |text: &str| text.replace(char::is_control, "\u{fffd}");
        Self::Flawed { file: plain(file), why: plain(&why.into()) }
    }

    /// Whether the disk failed, rather than the pack.
    #[must_use]
    pub const fn is_unreadable(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Log(_))
    }
}
