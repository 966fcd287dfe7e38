//! A directory of real files on a disk that fails as it is told, for tests of a whole gate: what reads
//! beside the journal finds the files where they are. It serves no gate.

use std::{
    fs,
    io::{self, Seek as _, SeekFrom, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Directory, LogFile, Storage};

/// What the disk does not do from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It does everything.
    None,
    /// It has no space left (ENOSPC): half of what is written goes in.
    Full,
    /// It is mounted read-only (EROFS).
    ReadOnly,
    /// It does not sync (EIO), and forgets what was not synced.
    Unsynced,
    /// Its files may not be opened (EACCES); what is open stays open.
    Forbidden,
}

impl Failure {
    /// The system's number for it; `None` if nothing fails.
    const fn error(self) -> Option<i32> {
        match self {
            Self::None => None,
            Self::Full => Some(28),
            Self::ReadOnly => Some(30),
            Self::Unsynced => Some(5),
            Self::Forbidden => Some(13),
        }
    }

    fn result(self) -> io::Result<()> {
        self.error().map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
    }
}

/// The directory; clones share what fails.
#[derive(Debug, Clone)]
pub struct FailingDirectory {
    directory: Directory,
    failure: Arc<Mutex<Failure>>,
}

impl FailingDirectory {
    /// A directory in which nothing fails yet.
    #[must_use]
    pub fn of(directory: Directory) -> Self {
        Self { directory, failure: Arc::new(Mutex::new(Failure::None)) }
    }

    /// From now on this fails.
    pub fn fails(&self, failure: Failure) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn now(&self) -> Failure {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything may be changed; what does not sync is told after it was done.
    fn changes(&self) -> io::Result<()> {
        match self.now() {
            Failure::Unsynced => Ok(()),
            failure @ (Failure::None | Failure::Full | Failure::ReadOnly | Failure::Forbidden) => {
                failure.result()
            }
        }
    }

    /// Whether files may be looked at.
    fn opens(&self) -> io::Result<()> {
        match self.now() {
            Failure::Forbidden => Failure::Forbidden.result(),
            Failure::None | Failure::Full | Failure::ReadOnly | Failure::Unsynced => Ok(()),
        }
    }

    /// What a sync says.
    fn syncs(&self) -> io::Result<()> {
        match self.now() {
            Failure::Unsynced => Failure::Unsynced.result(),
            Failure::None | Failure::Full | Failure::ReadOnly | Failure::Forbidden => Ok(()),
        }
    }

    fn opened(&self, mut file: fs::File) -> io::Result<FailingFile> {
        let durable = file.seek(SeekFrom::End(0))?;
        Ok(FailingFile { file, durable, disk: self.clone() })
    }
}

impl Storage for FailingDirectory {
    type File = FailingFile;

    fn create(&mut self, name: &str) -> io::Result<FailingFile> {
        self.changes()?;
        let file = self.directory.create(name)?;
        // Made, but whether its name is durable is not known.
        self.syncs()?;
        self.opened(file)
    }

    fn append(&mut self, name: &str) -> io::Result<FailingFile> {
        // A full disk opens what is there.
        if self.now() != Failure::Full || !self.directory.file(name).exists() {
            self.changes()?;
        }
        let file = self.directory.append(name)?;
        self.syncs()?;
        self.opened(file)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.opens()?;
        self.directory.list()
    }

    fn folder(&self, name: &str) -> io::Result<Vec<String>> {
        self.opens()?;
        self.directory.folder(name)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.opens()?;
        self.directory.read(name)
    }

    fn read_from(&self, name: &str, offset: u64) -> io::Result<Vec<u8>> {
        self.opens()?;
        self.directory.read_from(name, offset)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        if self.now() != Failure::Full {
            self.changes()?;
        }
        self.syncs()?;
        self.directory.truncate(name, length)
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.changes()?;
        self.syncs()?;
        self.directory.replace(name, bytes)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.opens()?;
        self.directory.size(name)
    }

    fn discard(&mut self, name: &str) -> io::Result<()> {
        if self.now() != Failure::Full {
            self.changes()?;
        }
        self.directory.discard(name)
    }
}

/// A file of it.
#[derive(Debug)]
pub struct FailingFile {
    file: fs::File,
    /// So many of its bytes were synced.
    durable: u64,
    disk: FailingDirectory,
}

impl LogFile for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.disk.now() {
            Failure::Full => {
                self.file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default())?;
                Failure::Full.result()
            }
            Failure::ReadOnly => Failure::ReadOnly.result(),
            Failure::None | Failure::Unsynced | Failure::Forbidden => self.file.write_all(bytes),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Err(error) = self.disk.syncs() {
            // As Linux does: the error is told, and the dirty pages are gone.
            self.file.set_len(self.durable)?;
            return Err(error);
        }
        self.file.sync_data()?;
        self.durable = self.file.metadata()?.len();
        Ok(())
    }
}
