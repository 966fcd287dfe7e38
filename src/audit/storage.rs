//! The file seam of the journal: real files, and a disk that fails on purpose.
//!
//! Everything that the journal asks of a disk goes through [`Storage`], so that tests can forget
//! what was not synced, tear the last sector, write short, run out of space, and fail one sync.

use std::{
    fs, io,
    io::{Read, Write},
    path::PathBuf,
};

/// A directory of segments and heads.
pub trait Storage: Send + 'static {
    /// A file that is being appended to.
    type File: LogFile;

    /// Makes a new file; fails if it exists. The directory is synced before it returns.
    ///
    /// # Errors
    /// What the disk says.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Opens a file to append to, making it if need be.
    ///
    /// # Errors
    /// What the disk says.
    fn append(&mut self, name: &str) -> io::Result<Self::File>;

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A whole file.
    ///
    /// # Errors
    /// What the disk says.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Cuts a file to a length and syncs it.
    ///
    /// # Errors
    /// What the disk says.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;

    /// Replaces a file whole, durably.
    ///
    /// # Errors
    /// What the disk says.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
}

/// A file that only grows.
pub trait LogFile: Send {
    /// Writes all of the bytes at the end; a short write is an error.
    ///
    /// # Errors
    /// What the disk says; then any part of the bytes may be there.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// What the disk says; then nothing is known of what was written since the last sync.
    fn sync(&mut self) -> io::Result<()>;
}

/// Files in a directory of the machine.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`, which exists.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    fn sync_directory(&self) -> io::Result<()> {
        // A new name is durable only when its directory is.
        fs::File::open(&self.path)?.sync_all()
    }

    fn options() -> fs::OpenOptions {
        let mut options = fs::OpenOptions::new();
        options.append(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        options
    }
}

impl Storage for Directory {
    type File = fs::File;

    fn create(&mut self, name: &str) -> io::Result<fs::File> {
        let file = Self::options().create_new(true).open(self.path.join(name))?;
        self.sync_directory()?;
        Ok(file)
    }

    fn append(&mut self, name: &str) -> io::Result<fs::File> {
        let file = Self::options().create(true).open(self.path.join(name))?;
        self.sync_directory()?;
        Ok(file)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(self.path.join(name))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        let file = fs::OpenOptions::new().write(true).open(self.path.join(name))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let beside = self.path.join(format!("{name}.new"));
        fs::write(&beside, bytes)?;
        fs::File::open(&beside)?.sync_all()?;
        fs::rename(&beside, self.path.join(name))?;
        self.sync_directory()
    }
}

impl LogFile for fs::File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A disk in memory that fails as it is told: for tests of everything above it.
pub mod faulty {
    use std::{
        collections::BTreeMap,
        io,
        sync::{Arc, Mutex, PoisonError},
    };

    use super::{LogFile, Storage};

    /// What goes wrong next.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Trouble {
        /// Nothing.
        None,
        /// Writes take this many bytes more, then there is no space.
        Space(usize),
        /// Every write fails after half of its bytes.
        ShortWrites,
        /// The next sync fails and forgets what was not durable; then all is well.
        OneSync,
        /// Every write, sync and new file fails.
        Dead,
    }

    #[derive(Debug, Clone, Default)]
    struct Content {
        written: Vec<u8>,
        durable: usize,
    }

    #[derive(Debug, Default)]
    struct State {
        files: BTreeMap<String, Content>,
        trouble: Option<Trouble>,
        syncs: u64,
    }

    /// The disk; clones share it, as a restarted program shares the machine's.
    #[derive(Debug, Clone, Default)]
    pub struct FaultyDisk {
        state: Arc<Mutex<State>>,
    }

    /// A file of it.
    #[derive(Debug)]
    pub struct FaultyFile {
        disk: FaultyDisk,
        name: String,
    }

    impl FaultyDisk {
        fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
            work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
        }

        /// From now on this goes wrong.
        pub fn suffer(&self, trouble: Trouble) {
            self.with(|s| s.trouble = Some(trouble).filter(|t| *t != Trouble::None));
        }

        /// How often something was synced.
        #[must_use]
        pub fn syncs(&self) -> u64 {
            self.with(|s| s.syncs)
        }

        /// The disk as it is found after the power failed: what was synced, and of what was not
        /// the first `torn` bytes.
        #[must_use]
        pub fn after_power_loss(&self, torn: usize) -> Self {
            let files = self.with(|s| s.files.clone());
            let files = files
                .into_iter()
                .map(|(name, content)| {
                    let kept = content.written.len().min(content.durable.saturating_add(torn));
                    let written = content.written.get(..kept).unwrap_or_default().to_vec();
                    (name, Content { durable: written.len(), written })
                })
                .collect();
            Self { state: Arc::new(Mutex::new(State { files, ..State::default() })) }
        }

        /// Changes a file's bytes behind the journal's back.
        pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
            self.with(|s| {
                if let Some(content) = s.files.get_mut(name) {
                    change(&mut content.written);
                }
            });
        }
    }

    impl Storage for FaultyDisk {
        type File = FaultyFile;

        fn create(&mut self, name: &str) -> io::Result<FaultyFile> {
            self.with(|s| {
                if s.trouble == Some(Trouble::Dead) || s.trouble == Some(Trouble::Space(0)) {
                    return Err(io::Error::from(io::ErrorKind::StorageFull));
                }
                if s.files.contains_key(name) {
                    return Err(io::Error::from(io::ErrorKind::AlreadyExists));
                }
                s.files.insert(name.to_owned(), Content::default());
                Ok(())
            })?;
            Ok(FaultyFile { disk: self.clone(), name: name.to_owned() })
        }

        fn append(&mut self, name: &str) -> io::Result<FaultyFile> {
            self.with(|s| drop(s.files.entry(name.to_owned()).or_default()));
            Ok(FaultyFile { disk: self.clone(), name: name.to_owned() })
        }

        fn list(&self) -> io::Result<Vec<String>> {
            Ok(self.with(|s| s.files.keys().cloned().collect()))
        }

        fn read(&self, name: &str) -> io::Result<Vec<u8>> {
            self.with(|s| s.files.get(name).map(|c| c.written.clone())).ok_or(io::ErrorKind::NotFound.into())
        }

        fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
            self.with(|s| {
                if s.trouble == Some(Trouble::Dead) {
                    return Err(io::ErrorKind::Other.into());
                }
                if let Some(content) = s.files.get_mut(name) {
                    content.written.truncate(usize::try_from(length).unwrap_or(usize::MAX));
                    content.durable = content.written.len();
                }
                Ok(())
            })
        }

        fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
            let content = Content { written: bytes.to_vec(), durable: bytes.len() };
            self.with(|s| drop(s.files.insert(name.to_owned(), content)));
            Ok(())
        }
    }

    impl LogFile for FaultyFile {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.disk.with(|s| {
                let (take, result) = match &mut s.trouble {
                    None | Some(Trouble::None | Trouble::OneSync) => (bytes.len(), Ok(())),
                    Some(Trouble::Space(left)) => {
                        let take = bytes.len().min(*left);
                        *left -= take;
                        let full = take < bytes.len();
                        (take, if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) })
                    }
                    Some(Trouble::ShortWrites) => (bytes.len() / 2, Err(io::ErrorKind::WriteZero.into())),
                    Some(Trouble::Dead) => (0, Err(io::ErrorKind::Other.into())),
                };
                if let Some(content) = s.files.get_mut(&self.name) {
                    content.written.extend_from_slice(bytes.get(..take).unwrap_or_default());
                }
                result
            })
        }

        fn sync(&mut self) -> io::Result<()> {
            self.disk.with(|s| {
                s.syncs += 1;
                let Some(content) = s.files.get_mut(&self.name) else { return Ok(()) };
                match s.trouble {
                    Some(Trouble::OneSync) => {
                        // As Linux does: the error is told once, and the dirty pages are gone.
                        content.written.truncate(content.durable);
                        s.trouble = None;
                        Err(io::ErrorKind::Other.into())
                    }
                    Some(Trouble::Dead) => Err(io::ErrorKind::Other.into()),
                    None | Some(Trouble::None | Trouble::Space(_) | Trouble::ShortWrites) => {
                        content.durable = content.written.len();
                        Ok(())
                    }
                }
            })
        }
    }
}
