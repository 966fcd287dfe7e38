//! A disk in memory that fails as it is told, for tests of everything above it: it forgets what was
//! not synced, tears the end, writes short, is full, fails one sync, or loses its power at a chosen
//! operation. It serves no gate.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use super::{LogFile, Storage};

/// What goes wrong from now on.
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
    /// Every write, sync, cut and new file fails.
    Dead,
    /// Everything but reading waits until the trouble is over.
    Hangs,
    /// Nothing can be added to the file of signed heads.
    Heads,
    /// Tiles wait until the trouble is over.
    Tiles,
}

/// How much of the operation during which the power failed was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Nothing of it.
    Nothing,
    /// All of it, but nobody was told.
    Everything,
}

/// What is found of bytes that were written and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    /// The first so many.
    Cut(usize),
    /// All, but this many sectors' worth of them, from there on, are zeroes.
    Zeroes(usize, usize),
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
    /// What was put and is not settled.
    unsettled: Vec<String>,
    /// Operations until the power fails, and what becomes of the last.
    fuse: Option<(u64, Half)>,
    off: bool,
}

/// The disk; clones share it, as a restarted program shares the machine's.
#[derive(Debug, Clone, Default)]
pub struct FaultyDisk {
    state: Arc<(Mutex<State>, Condvar)>,
}

/// A file of it.
#[derive(Debug)]
pub struct FaultyFile {
    disk: FaultyDisk,
    name: String,
}

impl FaultyDisk {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An operation that changes something: it may be the last, or none.
    fn operation<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        while state.trouble == Some(Trouble::Hangs) {
            state = self.state.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let lost = || io::Error::other("the power is off");
        if state.off {
            return Err(lost());
        }
        match &mut state.fuse {
            Some((0, half)) => {
                let half = *half;
                if half == Half::Everything {
                    drop(work(&mut state));
                }
                state.off = true;
                return Err(lost());
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        work(&mut state)
    }

    /// Waits, if that is the trouble with files of that name.
    fn waits(&self, name: &str) {
        let mut state = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        while state.trouble == Some(Trouble::Tiles) && name.starts_with("tile/") {
            state = self.state.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn from_files(files: BTreeMap<String, Content>) -> Self {
        Self { state: Arc::new((Mutex::new(State { files, ..State::default() }), Condvar::new())) }
    }

    /// From now on this goes wrong.
    pub fn suffer(&self, trouble: Trouble) {
        self.with(|s| s.trouble = Some(trouble).filter(|t| *t != Trouble::None));
        self.state.1.notify_all();
    }

    /// The power fails during the operation behind so many more.
    pub fn loses_power_after(&self, operations: u64, half: Half) {
        self.with(|s| s.fuse = Some((operations, half)));
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.with(|s| s.off)
    }

    /// How often something was synced.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.with(|s| s.syncs)
    }

    /// The disk as it is found after the power failed: what was synced, and of what was not that
    /// which the tear leaves.
    #[must_use]
    pub fn after_power_loss(&self, tear: Tear) -> Self {
        let files = self.with(|s| s.files.clone()).into_iter().map(|(name, content)| {
            let mut written = content.written;
            match tear {
                Tear::Cut(kept) => written.truncate(content.durable.saturating_add(kept)),
                Tear::Zeroes(from, count) => {
                    written
                        .iter_mut()
                        .skip(content.durable.saturating_add(from))
                        .take(count)
                        .for_each(|b| *b = 0);
                }
            }
            (name, Content { durable: written.len(), written })
        });
        Self::from_files(files.collect())
    }

    /// The disk as the next process finds it after this one was killed: everything that was written,
    /// and what was not synced still may be lost.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        Self::from_files(self.with(|s| s.files.clone()))
    }

    /// Changes a file's bytes behind the journal's back.
    pub fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        self.with(|s| {
            if let Some(content) = s.files.get_mut(name) {
                change(&mut content.written);
                content.durable = content.written.len();
            }
        });
    }

    /// The names of all files, those in folders too.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.with(|s| s.files.keys().cloned().collect())
    }

    /// Removes a file behind the journal's back.
    pub fn remove(&self, name: &str) {
        self.with(|s| s.files.remove(name));
    }
}

impl Storage for FaultyDisk {
    type File = FaultyFile;

    fn create(&mut self, name: &str) -> io::Result<FaultyFile> {
        self.operation(|s| {
            if matches!(s.trouble, Some(Trouble::Dead | Trouble::Space(0))) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            if s.files.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            s.files.insert(name.to_owned(), Content::default());
            Ok(())
        })?;
        Ok(FaultyFile { disk: self.clone(), name: name.to_owned() })
    }

    fn append(&mut self, name: &str) -> io::Result<FaultyFile> {
        self.operation(|s| {
            if s.trouble == Some(Trouble::Dead) {
                return Err(io::Error::other("dead"));
            }
            s.files.entry(name.to_owned()).or_default();
            Ok(())
        })?;
        Ok(FaultyFile { disk: self.clone(), name: name.to_owned() })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.with(|s| s.files.keys().filter(|name| !name.contains('/')).cloned().collect()))
    }

    fn folder(&self, name: &str) -> io::Result<Vec<String>> {
        let folder = format!("{name}/");
        let inside = |file: &String| {
            let rest = file.strip_prefix(&folder)?;
            Some(rest.split('/').next().unwrap_or(rest).to_owned())
        };
        let names: std::collections::BTreeSet<_> = self.with(|s| s.files.keys().filter_map(inside).collect());
        Ok(names.into_iter().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.with(|s| s.files.get(name).map(|c| c.written.clone())).ok_or(io::ErrorKind::NotFound.into())
    }

    fn read_from(&self, name: &str, offset: u64) -> io::Result<Vec<u8>> {
        let bytes = self.read(name)?;
        Ok(usize::try_from(offset).ok().and_then(|o| bytes.get(o..)).unwrap_or_default().to_vec())
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.operation(|s| {
            if s.trouble == Some(Trouble::Dead) {
                return Err(io::Error::other("dead"));
            }
            if let Some(content) = s.files.get_mut(name) {
                content.written.truncate(usize::try_from(length).unwrap_or(usize::MAX));
                content.durable = content.written.len();
            }
            Ok(())
        })
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.waits(name);
        let content = Content { written: bytes.to_vec(), durable: bytes.len() };
        self.operation(|s| {
            if matches!(s.trouble, Some(Trouble::Dead | Trouble::Space(0))) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            s.files.insert(name.to_owned(), content);
            Ok(())
        })
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.waits(name);
        let content = Content { written: bytes.to_vec(), durable: 0 };
        self.operation(|s| {
            if matches!(s.trouble, Some(Trouble::Dead | Trouble::Space(0))) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            s.files.insert(name.to_owned(), content);
            s.unsettled.push(name.to_owned());
            Ok(())
        })
    }

    fn settle(&mut self) -> io::Result<()> {
        self.operation(|s| {
            if s.trouble == Some(Trouble::Dead) {
                return Err(io::Error::other("dead"));
            }
            for name in std::mem::take(&mut s.unsettled) {
                if let Some(content) = s.files.get_mut(&name) {
                    content.durable = content.written.len();
                }
            }
            Ok(())
        })
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.with(|s| s.files.get(name).map(|c| c.written.len() as u64)).ok_or(io::ErrorKind::NotFound.into())
    }

    fn discard(&mut self, name: &str) -> io::Result<()> {
        let folder = format!("{name}/");
        self.operation(|s| {
            if s.trouble == Some(Trouble::Dead) {
                return Err(io::Error::other("dead"));
            }
            s.files.retain(|file, _| file != name && !file.starts_with(&folder));
            Ok(())
        })
    }
}

impl LogFile for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.operation(|s| {
            let (take, result) = match &mut s.trouble {
                Some(Trouble::Heads) if self.name == "heads" => (0, Err(io::Error::other("no heads"))),
                None
                | Some(
                    Trouble::None | Trouble::OneSync | Trouble::Hangs | Trouble::Heads | Trouble::Tiles,
                ) => (bytes.len(), Ok(())),
                Some(Trouble::Space(left)) => {
                    let take = bytes.len().min(*left);
                    *left -= take;
                    let full = take < bytes.len();
                    (take, if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) })
                }
                Some(Trouble::ShortWrites) => (bytes.len() / 2, Err(io::ErrorKind::WriteZero.into())),
                Some(Trouble::Dead) => (0, Err(io::Error::other("dead"))),
            };
            if let Some(content) = s.files.get_mut(&self.name) {
                content.written.extend_from_slice(bytes.get(..take).unwrap_or_default());
            }
            result
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.operation(|s| {
            s.syncs += 1;
            let Some(content) = s.files.get_mut(&self.name) else { return Ok(()) };
            match s.trouble {
                Some(Trouble::OneSync) => {
                    // As Linux does: the error is told once, and the dirty pages are gone.
                    content.written.truncate(content.durable);
                    s.trouble = None;
                    Err(io::Error::other("the sync failed"))
                }
                Some(Trouble::Dead) => Err(io::Error::other("dead")),
                None
                | Some(
                    Trouble::None
                    | Trouble::Space(_)
                    | Trouble::ShortWrites
                    | Trouble::Hangs
                    | Trouble::Heads
                    | Trouble::Tiles,
                ) => {
                    content.durable = content.written.len();
                    Ok(())
                }
            }
        })
    }
}
