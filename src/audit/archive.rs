//! Old segments that lie in object storage: which are due, what is noted of them beside the log, and
//! a log read together with what was fetched of them.
//!
//! That a segment is archived is a record of its own, and only then it may go from the disk. The tree
//! and the heads stay, so that every proof still fits; the note beside the log only says where things
//! are, and nothing is believed for it.

use std::{collections::HashMap, fs, io, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    note, segment,
    storage::{Directory, Storage},
    tiles::CHECKPOINT,
};
use crate::time::Timestamp;

/// The file that says where archived segments are: one JSON line each, in their order.
pub const ARCHIVED: &str = "archived";

/// An archived segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// Its file.
    pub segment: String,
    /// The position of its first record.
    pub first: u64,
    /// The position behind its last one.
    pub until: u64,
    /// When its last record was written, in milliseconds since 1970.
    pub newest: u64,
    /// SHA-256 of the packed file, in hexadecimal.
    pub sha256: String,
    /// Bytes of the packed file.
    pub bytes: u64,
    /// Where it is.
    pub url: String,
}

impl Archived {
    /// Whether it is of the form in which it is noted: it is shown to people, and names a file.
    fn is_plain(&self) -> bool {
        segment::first_of(&self.segment) == Some(self.first)
            && self.first < self.until
            && self.url.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

/// What is noted as archived of the log in a directory; what cannot be read is not noted.
#[must_use]
pub fn noted<S: Storage>(storage: &S) -> Vec<Archived> {
    let text = storage.read(ARCHIVED).unwrap_or_default();
    let lines = text.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    lines.filter(Archived::is_plain).collect()
}

/// What is noted as archived, is not there, and has records from a time on.
///
/// # Errors
/// What the disk says.
pub fn missing<S: Storage>(storage: &S, since: Option<Timestamp>) -> io::Result<Vec<Archived>> {
    let noted = noted(storage);
    if noted.is_empty() {
        return Ok(noted);
    }
    let names = super::segment_names(storage)?;
    let first =
        |archived: &Archived| names.iter().all(|name| segment::first_of(name) != Some(archived.first));
    let reaches = |archived: &Archived| since.is_none_or(|since| archived.newest >= since.as_millis());
    Ok(noted.into_iter().filter(|archived| first(archived) && reaches(archived)).collect())
}

/// Notes an archived segment.
///
/// # Errors
/// What the disk says.
pub fn add<S: Storage>(storage: &mut S, archived: &Archived) -> io::Result<()> {
    let mut all = noted(storage);
    all.retain(|other| other.segment != archived.segment);
    all.push(archived.clone());
    all.sort_by_key(|one| one.first);
    let mut text = Vec::new();
    for one in all {
        serde_json::to_writer(&mut text, &one)?;
        text.push(b'\n');
    }
    storage.replace(ARCHIVED, &text)
}

/// A segment that may be archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Its file, which is packed.
    pub segment: String,
    /// The position of its first record.
    pub first: u64,
    /// The position behind its last one.
    pub until: u64,
    /// When its last record was written.
    pub newest: Timestamp,
}

/// Finds what is due, the oldest first.
#[derive(Debug, Default)]
pub struct Finder {
    /// When the last record of a segment was written, by its first position.
    ages: HashMap<u64, Option<Timestamp>>,
}

impl Finder {
    /// The oldest segment behind `done` whose records are all older than `after`, in published tiles,
    /// and before `taken`, which is as far as others still have to read.
    ///
    /// # Errors
    /// What the disk says.
    pub fn due<S: Storage>(
        &mut self,
        storage: &S,
        done: u64,
        taken: u64,
        after: Duration,
        now: Timestamp,
    ) -> io::Result<Option<Due>> {
        let published = storage.read(CHECKPOINT).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let published = published.and_then(|text| note::unverified(&text)).map_or(0, |head| head.size);
        let names = super::segment_names(storage)?;
        for (name, next) in names.iter().zip(names.iter().skip(1)) {
            let (Some(first), Some(until)) = (segment::first_of(name), segment::first_of(next)) else {
                break;
            };
            if until <= done {
                continue;
            }
            // The others are younger, and are written, packed and exported later.
            if !segment::is_packed(name) || until > published || until > taken {
                break;
            }
            let newest = match self.ages.get(&first) {
                Some(known) => *known,
                None => {
                    let newest = segment::newest_of(storage, name)?;
                    self.ages.insert(first, newest);
                    newest
                }
            };
            let Some(newest) = newest.filter(|newest| now.since(*newest) >= after) else { break };
            return Ok(Some(Due { segment: name.clone(), first, until, newest }));
        }
        Ok(None)
    }
}

/// A log, with segments that were fetched from its archive; only to be read.
#[derive(Debug, Clone)]
pub struct WithArchive {
    log: Directory,
    fetched: Vec<PathBuf>,
}

impl WithArchive {
    /// The log in a directory, and folders with what was fetched: segments of this log, or a folder
    /// for each log as an archive has them.
    ///
    /// # Errors
    /// What the disk says.
    pub fn new(log: PathBuf, fetched: &[PathBuf]) -> io::Result<Self> {
        let log = Directory::at(log);
        let mut own = Vec::new();
        let newest = if fetched.is_empty() { None } else { super::segment_names(&log)?.pop() };
        let newest = newest.map(|name| segment::read_part(&log, &name, 0, 64 << 10)).transpose()?;
        let header = newest.and_then(|bytes| segment::header(&bytes));
        for folder in fetched {
            let named = header.as_ref().map(|header| folder.join(super::folder_of(&header.origin)));
            own.push(named.filter(|named| named.is_dir()).unwrap_or_else(|| folder.clone()));
        }
        Ok(Self { log, fetched: own })
    }

    /// What the log says of a file; of a segment that it does not have, what a folder says.
    fn any<T>(&self, name: &str, ask: impl Fn(&Directory) -> io::Result<T>) -> io::Result<T> {
        let missing = match ask(&self.log) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => error,
            found => return found,
        };
        let segment = segment::first_of(name).is_some();
        for folder in self.fetched.iter().filter(|_| segment) {
            match ask(&Directory::at(folder.clone())) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        Err(missing)
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "a log with its archive is only read"))
}

impl Storage for WithArchive {
    type File = fs::File;

    fn create(&mut self, _: &str) -> io::Result<fs::File> {
        read_only()
    }

    fn append(&mut self, _: &str) -> io::Result<fs::File> {
        read_only()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.log.list()?;
        for folder in &self.fetched {
            let fetched = Directory::at(folder.clone()).list()?;
            names.extend(fetched.into_iter().filter(|name| segment::first_of(name).is_some()));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn folder(&self, name: &str) -> io::Result<Vec<String>> {
        self.log.folder(name)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.any(name, |directory| directory.read(name))
    }

    fn read_from(&self, name: &str, offset: u64) -> io::Result<Vec<u8>> {
        self.any(name, |directory| directory.read_from(name, offset))
    }

    fn read_part(&self, name: &str, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        self.any(name, |directory| directory.read_part(name, offset, most))
    }

    fn truncate(&mut self, _: &str, _: u64) -> io::Result<()> {
        read_only()
    }

    fn replace(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        read_only()
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.any(name, |directory| directory.size(name))
    }

    fn discard(&mut self, _: &str) -> io::Result<()> {
        read_only()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{note::tests::signer, storage::faulty::FaultyDisk};

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Three segments of two records, of which each is an hour after the one before; all but the last
    /// are packed, and six records are published.
    fn disk() -> FaultyDisk {
        let mut disk = FaultyDisk::default();
        for segment in 0..3_u64 {
            let mut text = segment::Header::after("log", &super::super::merkle::Range::default()).line();
            for record in 0..2 {
                let time = (segment * 2 + record) * 3_600_000;
                text.extend_from_slice(format!("{{\"time\":{time}}}\n").as_bytes());
            }
            let name = segment::name(segment * 2);
            disk.replace(&name, &text).unwrap();
            if segment < 2 {
                segment::pack(&mut disk, &name).unwrap();
            }
        }
        disk.replace(CHECKPOINT, signer().sign(6, &[0; 32]).as_bytes()).unwrap();
        disk
    }

    fn due(disk: &FaultyDisk, done: u64, taken: u64, hours: u64) -> Option<u64> {
        let now = Timestamp::from_secs(hours * 3_600);
        Finder::default().due(disk, done, taken, HOUR, now).unwrap().map(|due| due.first)
    }

    #[test]
    fn the_oldest_segment_is_due_when_its_newest_record_is_old_enough() {
        let disk = disk();
        assert_eq!(due(&disk, 0, u64::MAX, 1), None);
        assert_eq!(due(&disk, 0, u64::MAX, 2), Some(0));
        assert_eq!(due(&disk, 0, u64::MAX, 100), Some(0));
        assert_eq!(due(&disk, 2, u64::MAX, 3), None);
        assert_eq!(due(&disk, 2, u64::MAX, 4), Some(2));
        assert_eq!(due(&disk, 4, u64::MAX, 100), None, "the segment that is written stays");
    }

    #[test]
    fn what_is_not_packed_not_published_or_not_exported_stays() {
        let disk = disk();
        assert_eq!(due(&disk, 0, 1, 100), None, "a sink has yet to read it");
        assert_eq!(due(&disk, 0, 2, 100), Some(0));
        let mut behind = disk.clone();
        behind.replace(CHECKPOINT, signer().sign(1, &[0; 32]).as_bytes()).unwrap();
        assert_eq!(due(&behind, 0, u64::MAX, 100), None);
        let mut plain = self::disk();
        let name = segment::name(0);
        let bytes = segment::read(&plain, &segment::packed(&name)).unwrap();
        plain.replace(&name, &bytes).unwrap();
        plain.discard(&segment::packed(&name)).unwrap();
        assert_eq!(due(&plain, 0, u64::MAX, 100), None);
    }

    #[test]
    fn what_is_noted_is_missing_only_while_it_is_not_there() {
        let mut disk = disk();
        let archived = |first: u64| Archived {
            segment: segment::packed(&segment::name(first)),
            first,
            until: first + 2,
            newest: (first + 1) * 3_600_000,
            sha256: String::new(),
            bytes: 1,
            url: format!("https://kept/{first}"),
        };
        for first in [2, 0, 2] {
            add(&mut disk, &archived(first)).unwrap();
        }
        assert_eq!(noted(&disk), [archived(0), archived(2)]);
        assert_eq!(missing(&disk, None).unwrap(), []);
        disk.discard(&archived(0).segment).unwrap();
        disk.discard(&archived(2).segment).unwrap();
        assert_eq!(missing(&disk, None).unwrap(), [archived(0), archived(2)]);
        assert_eq!(missing(&disk, Some(Timestamp::from_secs(2 * 3_600))).unwrap(), [archived(2)]);
    }

    #[test]
    fn a_note_that_is_not_of_its_form_is_none() {
        let mut disk = disk();
        let good = Archived {
            segment: segment::packed(&segment::name(8)),
            first: 8,
            until: 10,
            newest: 0,
            sha256: String::new(),
            bytes: 1,
            url: "https://kept/8".to_owned(),
        };
        let edited: [fn(&mut Archived); 5] = [
            |one| one.url.push_str("\u{1b}[2J"),
            |one| one.url.push('\u{202e}'),
            |one| one.segment = "../../etc/passwd".to_owned(),
            |one| one.first = 9,
            |one| one.until = 8,
        ];
        for edit in edited {
            let mut one = good.clone();
            edit(&mut one);
            let text = [serde_json::to_vec(&one).unwrap(), serde_json::to_vec(&good).unwrap()].join(&b'\n');
            disk.replace(ARCHIVED, &text).unwrap();
            assert_eq!(missing(&disk, None).unwrap(), std::slice::from_ref(&good), "{one:?}");
        }
        disk.replace(ARCHIVED, &[b"\xff{\n[\n\n".to_vec(), b"[".repeat(100_000)].concat()).unwrap();
        assert_eq!(missing(&disk, None).unwrap(), []);
    }

    #[test]
    fn fetched_segments_are_read_where_the_log_has_none_and_nothing_else_is_taken_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let (log, fetched) = (dir.path().join("log"), dir.path().join("fetched"));
        fs::create_dir_all(fetched.join("log")).unwrap();
        fs::create_dir(&log).unwrap();
        let header = segment::Header::after("log", &super::super::merkle::Range::default()).line();
        fs::write(log.join(segment::name(2)), &header).unwrap();
        for name in [segment::name(0), segment::name(2), "heads".to_owned(), "checkpoint".to_owned()] {
            fs::write(fetched.join("log").join(name), b"fetched").unwrap();
        }
        let whole = WithArchive::new(log, &[fetched]).unwrap();
        assert_eq!(whole.list().unwrap(), [segment::name(0), segment::name(2)]);
        assert_eq!(whole.read(&segment::name(0)).unwrap(), b"fetched");
        assert_eq!(whole.read(&segment::name(2)).unwrap(), header);
        assert!(whole.read("heads").is_err() && whole.clone().discard("heads").is_err());
    }
}
