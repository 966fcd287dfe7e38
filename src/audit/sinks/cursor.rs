//! How far an exporter has come: one small file, replaced whole.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The version of the file's form.
const VERSION: u32 = 1;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// The log that was exported.
    origin: String,
    /// The first record that was not.
    next: u64,
}

/// The cursor of one exporter.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    path: PathBuf,
    origin: String,
}

impl Cursor {
    /// The cursor of a sink, which may not be there yet.
    pub fn at(directory: &Path, sink: &str, origin: &str) -> Self {
        Self { path: directory.join(format!("{sink}.cursor")), origin: origin.to_owned() }
    }

    /// The first record that was not exported; `None` if nothing was, of this log.
    ///
    /// # Errors
    /// What the disk says, or that the file is none of ours.
    pub fn load(&self) -> io::Result<Option<u64>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let unfit = |why: String| {
            io::Error::new(io::ErrorKind::InvalidData, format!("`{}` {why}", self.path.display()))
        };
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|e| unfit(format!("is no cursor: {e}")))?;
        if kept.version != VERSION {
            return Err(unfit(format!("is of version {}, this amlgate reads {VERSION}", kept.version)));
        }
        Ok((kept.origin == self.origin).then_some(kept.next))
    }

    /// Keeps it, durably.
    ///
    /// # Errors
    /// What the disk says; then the old one stays.
    pub fn save(&self, next: u64) -> io::Result<()> {
        let kept = Kept { version: VERSION, origin: self.origin.clone(), next };
        let beside = self.path.with_extension("cursor.new");
        let mut file = fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        match self.path.parent() {
            Some(directory) => fs::File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_kept_for_its_log_alone() {
        let dir = tempfile::tempdir().unwrap();
        let cursor = Cursor::at(dir.path(), "siem", "amlgate-0");
        assert_eq!(cursor.load().unwrap(), None);
        cursor.save(17).unwrap();
        assert_eq!(cursor.load().unwrap(), Some(17));
        assert_eq!(Cursor::at(dir.path(), "siem", "amlgate-1").load().unwrap(), None, "another log");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_cursor_that_cannot_be_read_is_an_error_and_not_a_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let cursor = Cursor::at(dir.path(), "siem", "amlgate-0");
        for text in ["", "{", r#"{"version":2,"origin":"amlgate-0","next":1}"#] {
            fs::write(dir.path().join("siem.cursor"), text).unwrap();
            assert!(cursor.load().is_err(), "{text}");
        }
    }
}
