//! Finding records: by an index that is derived from the log, and never trusted.
//!
//! The index says where to look. What is found there is read from the log itself, judged by the
//! filter again, and checked against the tree: its leaf must be one of those that a signed head
//! vouches for. So an index that was tampered with can hide a record but show none that is not there;
//! whoever fears the former reads the whole log ([`Look::Everywhere`]), or has the index made anew by
//! deleting its folder.

mod filter;
mod index;
mod search;
mod vouch;

use std::{io, path::Path};

pub use filter::Filter;
pub use search::{Bounds, Found, Look, Page, search};

use super::{segment, storage::Directory};

/// The folder of the index, below the log's directory.
const FOLDER: &str = "query";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A segment cannot be read, or is not what was vouched for.
    #[error("`{segment}` {why}: `amlgate audit verify` tells more")]
    Broken {
        /// Which.
        segment: String,
        /// Why.
        why: String,
    },
}

/// Makes the index of what was written since, so that whoever asks need not; how many segments were
/// looked at.
///
/// # Errors
/// [`QueryError`].
pub fn refresh(directory: &Path) -> Result<usize, QueryError> {
    let storage = Directory::at(directory.to_owned());
    let mut made = 0;
    let names = super::segment_names(&storage)?;
    for (at, name) in names.iter().enumerate() {
        let ended = at + 1 < names.len();
        let covered = ended && index::Index::cover(directory, name).is_some_and(|cover| cover.ended);
        if !covered && index::Index::refreshed(directory, &storage, name, ended)?.1 {
            made += 1;
        }
    }
    Ok(made)
}

fn first_of(name: &str) -> u64 {
    segment::first_of(name).unwrap_or_default()
}

#[cfg(test)]
mod tests;
