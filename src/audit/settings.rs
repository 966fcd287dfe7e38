//! How the journal is kept, and why there is none.

use std::{fmt, io, path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{Retention, note::NoteError, recovery::RecoveryError};

/// What happens to plain reads when the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reads {
    /// They are refused.
    #[default]
    Required,
    /// They go on and are counted.
    BestEffort,
}

/// How the journal is kept.
#[derive(Clone)]
pub struct JournalSettings {
    /// The log's name: one for each replica.
    pub origin: String,
    /// Where it is kept.
    pub directory: PathBuf,
    /// Ed25519, PKCS#8 PEM.
    pub signing_key: SecretString,
    /// The key that signed before, while it is replaced: it signs the record that says so.
    pub previous_key: Option<SecretString>,
    /// What happens to plain reads when the disk fails.
    pub reads: Reads,
    /// Whether segments that another follows are packed.
    pub pack: bool,
    /// How long records are kept.
    pub retain: Retention,
    /// A segment ends when it is larger.
    pub segment_bytes: u64,
    /// Records under way; further requests wait `slot_wait` and are refused.
    pub slots: usize,
    /// Bytes of records under way: as many as wait for a disk that hangs.
    pub queued_bytes: usize,
    /// How long a request waits for a place in the queue.
    pub slot_wait: Duration,
    /// How long a request waits for its intent to be durable: a disk that neither writes nor fails
    /// must not hold requests for ever.
    pub sync_wait: Duration,
}

impl JournalSettings {
    /// Segments of 64 MiB, packed, and kept for ever; 16,384 records or 64 MiB under way, 50 ms for a
    /// place and 5 s for a sync; reads refused when the disk fails.
    #[must_use]
    pub fn new(origin: &str, directory: PathBuf, signing_key: SecretString) -> Self {
        Self {
            origin: origin.to_owned(),
            directory,
            signing_key,
            previous_key: None,
            reads: Reads::Required,
            pack: true,
            retain: Retention::default(),
            segment_bytes: 64 << 20,
            slots: 16_384,
            queued_bytes: 64 << 20,
            slot_wait: Duration::from_millis(50),
            sync_wait: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for JournalSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalSettings")
            .field("origin", &self.origin)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory.
    #[error("cannot use the directory `{path}`")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("another gate keeps its journal in `{0}`: give each a directory of its own")]
    Locked(PathBuf),
    /// The key.
    #[error(transparent)]
    Key(#[from] NoteError),
    /// The key that is to vouch for the new one is another.
    #[error("`previous_key` is not the key that signed the newest head, which is `{0}`")]
    PreviousKey(String),
    /// The log was ended.
    #[error("the log in `{0}` was ended: give this gate another name and another directory")]
    Ended(PathBuf),
    /// The log that is there.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The writer's thread.
    #[error("cannot start the writer")]
    Thread(#[source] io::Error),
}
