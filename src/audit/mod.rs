//! What happened, in a form that cannot be changed unnoticed.
//!
//! [`Journal::intend`] turns a cleared request into a [`Recorded`] one: the only value from which
//! an Azure token can be had. Records are canonical JSON lines, leaves of a Merkle tree (RFC 6962)
//! whose head is signed at intervals; one thread writes them, many in one sync. Nothing here knows
//! how a request is forwarded; rooms give back events as values, and only the proxy, the admin
//! listener, the server and the command line append them.

pub mod archive;
pub mod bodies;
pub(crate) mod canonical;
pub mod event;
pub mod evidence;
mod heads;
mod inbox;
mod journal;
mod keeper;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod proved;
pub mod prover;
pub mod query;
pub mod read;
pub mod recall;
pub mod reconcile;
mod record;
mod recorded;
mod recovery;
mod refusals;
mod segment;
mod settings;
pub mod sinks;
pub mod storage;
pub mod tiles;
pub mod verify;
pub mod witness;
mod writer;

pub use journal::{Journal, Unwritable};
pub use keeper::Retention;
pub use record::{Ending, MAX_RECORD};
pub use recorded::{Exchange, Outcome, OutcomeGuard, Recorded, Unrecorded};
pub use recovery::Recovery;
pub use refusals::Refusals;
pub use segment::{END, HEADS, PUBLIC_KEY};
pub use settings::{JournalSettings, OpenError, Reads};
pub use writer::Condition;

/// The file with the newest head for which witnesses vouch, and what they signed.
pub const COSIGNED: &str = "cosigned";

/// The folder of a log, wherever something of it is kept beside others.
#[must_use]
pub fn folder_of(origin: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    origin.chars().map(plain).collect::<String>().trim_start_matches('.').to_owned()
}

/// The segments of a log, in their order, each once: while one is packed both forms are there.
///
/// # Errors
/// What the disk says.
pub fn segment_names<S: storage::Storage>(storage: &S) -> std::io::Result<Vec<String>> {
    let mut names = storage.list()?;
    names.retain(|name| segment::first_of(name).is_some());
    names.sort();
    names.dedup_by_key(|name| segment::first_of(name));
    Ok(names)
}

#[cfg(test)]
mod tests;
