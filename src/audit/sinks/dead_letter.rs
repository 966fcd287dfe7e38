//! What a receiver refused for good: kept beside the cursor, one JSON line a record.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::Exported;
use crate::time::Timestamp;

/// The dead letters of one sink.
#[derive(Debug, Clone)]
pub(super) struct DeadLetters {
    path: PathBuf,
}

impl DeadLetters {
    pub fn at(directory: &Path, sink: &str) -> Self {
        Self { path: directory.join(format!("{sink}.dead")) }
    }

    /// Puts records aside, durably.
    ///
    /// # Errors
    /// What the disk says.
    pub fn put(&self, refused: &[(Exported, String)], now: Timestamp) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut lines = Vec::new();
        for (record, why) in refused {
            let line: Value = json!({
                "at": now.to_rfc3339(),
                "origin": &*record.origin,
                "position": record.position,
                "reason": why,
                "record": record.value,
            });
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        let mut file = options.open(&self.path)?;
        file.write_all(&lines)?;
        file.sync_data()
    }
}
