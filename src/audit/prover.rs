//! Makes proofs out of a log's files: the tree of the newest head of which there are tiles, or of the
//! newest head and the records.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    COSIGNED, HEADS, PUBLIC_KEY,
    merkle::{self, Hash},
    note::{self, Head, NoteError, VerifierKeys},
    proof,
    proved::{Consistency, Inclusion, Unproven},
    read::{Reader, Record},
    storage::Directory,
    tiles::{CHECKPOINT, Tiled},
};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProverError {
    /// A file of the log.
    #[error("cannot read `{}`", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log.
    #[error("cannot read the log")]
    Log(#[from] io::Error),
    /// The keys, or a head under them.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Nothing was signed yet.
    #[error("there is no signed head, so nothing can be proven")]
    NoHead,
    /// Old records were removed from a log without tiles.
    #[error("the beginning of the log and its tiles are not there")]
    Beheaded,
    /// The record is too new.
    #[error("no signed head counts the record at position {0} yet: ask again in some seconds")]
    NotYet(u64),
    /// The head is of a longer log.
    #[error("the head counts {head} records, and the log only {log}")]
    Beyond {
        /// By the head.
        head: u64,
        /// By the log's newest.
        log: u64,
    },
    /// The log's own files contradict each other.
    #[error("the log does not prove it: `amlgate audit verify` tells more")]
    Broken(#[source] Unproven),
}

/// The tree of a log, from which proofs are made.
pub struct Prover {
    note: String,
    head: Head,
    /// The newest head that witnesses signed too.
    cosigned: Option<(String, Head)>,
    keys: VerifierKeys,
    storage: Directory,
    /// Of a log without tiles.
    leaves: Option<Vec<Hash>>,
}

impl Prover {
    /// Of the log in a directory, under the keys that lie beside it.
    ///
    /// # Errors
    /// [`ProverError`].
    pub fn of(directory: &Path) -> Result<Self, ProverError> {
        let text = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|source| ProverError::File { path, source })
        };
        let storage = Directory::at(directory.to_owned());
        let keys = VerifierKeys::parse(&text(PUBLIC_KEY)?)?;
        let (note, leaves) = if directory.join(CHECKPOINT).exists() {
            (text(CHECKPOINT)?, None)
        } else {
            let heads = text(HEADS)?;
            let note = note::last(&heads).ok_or(ProverError::NoHead)?;
            let mut reader = Reader::new(storage.clone());
            let mut leaves = Vec::new();
            while let Some(record) = reader.record()? {
                if record.position != leaves.len() as u64 {
                    return Err(ProverError::Beheaded);
                }
                leaves.push(merkle::leaf(&record.line));
            }
            (note.to_owned(), Some(leaves))
        };
        let (head, _) = keys.open(&note, 0)?;
        let cosigned = fs::read_to_string(directory.join(COSIGNED)).ok();
        let cosigned = cosigned.and_then(|note| Some((keys.open(&note, 0).ok()?.0, note)));
        let cosigned = cosigned.filter(|(old, _)| old.size <= head.size).map(|(old, note)| (note, old));
        Ok(Self { note, head, cosigned, keys, storage, leaves })
    }

    /// The head that proofs lead to, and its note.
    #[must_use]
    pub fn head(&self) -> (&Head, &str) {
        (&self.head, &self.note)
    }

    /// The log's keys.
    #[must_use]
    pub const fn keys(&self) -> &VerifierKeys {
        &self.keys
    }

    /// That a record is in the log: under a head that witnesses signed too, if one counts it, because
    /// that convinces more people.
    ///
    /// # Errors
    /// [`ProverError`].
    pub fn inclusion(&self, record: Record) -> Result<Inclusion, ProverError> {
        let cosigned = self.cosigned.as_ref().map(|(note, head)| (note.as_str(), head));
        let cosigned = cosigned.filter(|(_, head)| record.position < head.size);
        self.included(record, cosigned.unwrap_or((&self.note, &self.head)))
    }

    /// The same under the newest head, whoever signed it.
    ///
    /// # Errors
    /// [`ProverError`].
    pub fn inclusion_under_newest(&self, record: Record) -> Result<Inclusion, ProverError> {
        self.included(record, (&self.note, &self.head))
    }

    fn included(&self, record: Record, (note, head): (&str, &Head)) -> Result<Inclusion, ProverError> {
        let (index, size) = (record.position, head.size);
        if index >= size {
            return Err(ProverError::NotYet(index));
        }
        let path = match &self.leaves {
            Some(leaves) => proof::inclusion(&mut &leaves[..], index, size).map_err(io::Error::other)?,
            None => proof::inclusion(&mut Tiled::new(&self.storage, size), index, size)?,
        };
        let proof = Inclusion { index, leaf: record.line, path, checkpoint: note.to_owned() };
        proof.verify(&self.keys).map_err(ProverError::Broken)?;
        Ok(proof)
    }

    /// That the log begins with what an older head vouches for.
    ///
    /// # Errors
    /// [`ProverError`].
    pub fn consistency(&self, note: &str) -> Result<Consistency, ProverError> {
        let (old, _) = self.keys.open(note, 0)?;
        let size = self.head.size;
        if old.size > size {
            return Err(ProverError::Beyond { head: old.size, log: size });
        }
        let path = match &self.leaves {
            Some(leaves) => proof::consistency(&mut &leaves[..], old.size, size).map_err(io::Error::other)?,
            None => proof::consistency(&mut Tiled::new(&self.storage, size), old.size, size)?,
        };
        let proof = Consistency { old: old.size, path, checkpoint: self.note.clone() };
        proof.verify(&self.keys, &old).map_err(ProverError::Broken)?;
        Ok(proof)
    }
}
