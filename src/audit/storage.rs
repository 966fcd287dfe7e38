//! The file seam of the journal: real files, and a disk that fails on purpose.
//!
//! Everything that the journal asks of a disk goes through [`Storage`], so that tests can forget
//! what was not synced, tear the last sector, write short, run out of space, and fail one sync.

pub mod failing;
pub mod faulty;

use std::{
    collections::BTreeSet,
    fs, io,
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
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

    /// The names of what lies in a folder; none if there is no such folder.
    ///
    /// # Errors
    /// What the disk says.
    fn folder(&self, name: &str) -> io::Result<Vec<String>>;

    /// A whole file.
    ///
    /// # Errors
    /// What the disk says.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// A file from a byte on; nothing if it is shorter.
    ///
    /// # Errors
    /// What the disk says.
    fn read_from(&self, name: &str, offset: u64) -> io::Result<Vec<u8>>;

    /// At most so many bytes of a file from a byte on; nothing if it is shorter.
    ///
    /// # Errors
    /// What the disk says.
    fn read_part(&self, name: &str, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = self.read_from(name, offset)?;
        bytes.truncate(most);
        Ok(bytes)
    }

    /// Cuts a file to a length and syncs it.
    ///
    /// # Errors
    /// What the disk says.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;

    /// Replaces a file whole, durably; its name may lie in a folder, which is made then.
    ///
    /// # Errors
    /// What the disk says.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Replaces a file whole, durably, by what `fill` writes, however much that is.
    ///
    /// # Errors
    /// What the disk says, or `fill`; then the file is as it was.
    fn replace_by(
        &mut self,
        name: &str,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        fill(&mut bytes)?;
        self.replace(name, &bytes)
    }

    /// Replaces a file whole as [`replace`](Self::replace) does, but durably only once everything has
    /// been [settled](Self::settle): many files cost little more than one.
    ///
    /// # Errors
    /// What the disk says.
    fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(name, bytes)
    }

    /// Makes durable what was put since the last time.
    ///
    /// # Errors
    /// What the disk says; then nothing is known of what was put since.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// How many bytes a file has.
    ///
    /// # Errors
    /// What the disk says.
    fn size(&self, name: &str) -> io::Result<u64>;

    /// Removes a file, or a folder with its files; nothing if there is none of that name.
    ///
    /// # Errors
    /// What the disk says.
    fn discard(&mut self, name: &str) -> io::Result<()>;
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
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    /// What was put and is not settled.
    unsettled: Vec<PathBuf>,
}

impl Directory {
    /// The directory at `path`, which exists.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, unsettled: Vec::new() }
    }

    /// Where a file of that name lies.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        // A new name is durable only when its directory is.
        fs::File::open(&self.path)?.sync_all()
    }

    /// Makes a folder and those above it; each is durable in the one above.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() || !folder.starts_with(&self.path) {
            return Ok(());
        }
        if let Some(above) = folder.parent() {
            self.make_folder(above)?;
            match fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => fs::File::open(above)?.sync_all()?,
            }
        }
        Ok(())
    }

    /// A new file that will take the place of `name`: it, its path, and the path to rename it to.
    fn beside(&self, name: &str) -> io::Result<(fs::File, PathBuf, PathBuf)> {
        let (beside, path) = (self.path.join(format!("{name}.new")), self.path.join(name));
        self.make_folder(path.parent().unwrap_or(&self.path))?;
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(true).write(true);
        // What vouches for the log is for everybody; what it holds is not.
        if !PUBLIC.contains(&name) {
            private(&mut options);
        }
        Ok((options.open(&beside)?, beside, path))
    }

    fn options() -> fs::OpenOptions {
        let mut options = fs::OpenOptions::new();
        options.append(true);
        private(&mut options);
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
        names_in(&self.path)
    }

    fn folder(&self, name: &str) -> io::Result<Vec<String>> {
        match names_in(&self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names,
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(self.path.join(name))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_from(&self, name: &str, offset: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = fs::File::open(self.path.join(name))?;
        file.seek(io::SeekFrom::Start(offset))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn read_part(&self, name: &str, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = fs::File::open(self.path.join(name))?;
        file.seek(io::SeekFrom::Start(offset))?;
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        let file = fs::OpenOptions::new().write(true).open(self.path.join(name))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace_by(name, &mut |file| file.write_all(bytes))
    }

    fn replace_by(
        &mut self,
        name: &str,
        fill: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut file, beside, path) = self.beside(name)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        fs::File::open(path.parent().unwrap_or(&self.path))?.sync_all()
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (mut file, beside, path) = self.beside(name)?;
        file.write_all(bytes)?;
        fs::rename(&beside, &path)?;
        self.unsettled.push(path);
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for path in std::mem::take(&mut self.unsettled) {
            fs::File::open(&path)?.sync_all()?;
            folders.extend(path.parent().map(Path::to_owned));
        }
        folders.iter().try_for_each(|folder| fs::File::open(folder)?.sync_all())
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path.join(name))?.len())
    }

    fn discard(&mut self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// What lies in a folder, sorted.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The files that others are to read: the keys and the newest head.
const PUBLIC: &[&str] = &["audit.pub", "checkpoint", "cosigned", "end"];

/// For the gate's own user alone.
fn private(options: &mut fs::OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
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
