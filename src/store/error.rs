//! Why the store gives no answer.

use std::{io, path::PathBuf};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error("cannot open `{path}`")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The URL of a database, which is a secret: only what is wrong with it is said.
    #[error("the URL of the store cannot be used: {0}")]
    Url(&'static str),
    /// A gate of a newer version has been here.
    #[error(
        "the store is at version {found}, this gate knows {known}: start a newer gate, or restore a backup from before"
    )]
    Newer {
        /// The store's version.
        found: i64,
        /// The newest that this gate knows.
        known: i64,
    },
    /// What is in it was not made by this program.
    #[error("the store was made by other migrations: {0}")]
    Foreign(String),
    /// It does not answer, or not as it should.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
}

/// Why a question has no answer. Whatever needed it is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer within the deadline.
    #[error("the store did not answer in time")]
    Late,
    /// Too many questions under way.
    #[error("too many questions to the store are under way")]
    Busy,
    /// It cannot be reached, or failed.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

impl StoreError {
    /// For metrics.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Busy => "busy",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// The database's own words, which hold no value that was bound.
    pub(super) fn of(error: &sqlx::Error) -> Self {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::Late;
        }
        Self::Unavailable(words(error))
    }
}

/// What of an error may be said: a database's complaint may quote a row.
pub(super) fn words(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(database) => match database.code() {
            Some(code) => format!("the database refused with code {code}"),
            None => "the database refused".to_owned(),
        },
        None => error.to_string(),
    }
}
