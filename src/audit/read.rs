//! Reading a log record by record, while the gate writes it or after.
//!
//! A reader proves nothing: what it gives is vouched for only by [`verify`](super::verify).

use std::{collections::VecDeque, io};

use super::{segment, storage::Storage};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its position, from 0: its number in the log.
    pub position: u64,
    /// Its bytes: one line of canonical JSON, without the line's end.
    pub line: Vec<u8>,
}

/// Goes through a log in its order.
#[derive(Debug)]
pub struct Reader<S> {
    storage: S,
    /// The segment being read, and how many of its bytes were read; `None` if it is passed over.
    at: Option<(String, Option<u64>)>,
    next: u64,
    ready: VecDeque<Record>,
}

impl<S: Storage> Reader<S> {
    /// Begins with the oldest record.
    pub const fn new(storage: S) -> Self {
        Self { storage, at: None, next: 0, ready: VecDeque::new() }
    }

    /// Begins with the last `count` records.
    ///
    /// # Errors
    /// What the disk says.
    pub fn last(storage: S, count: usize) -> io::Result<Self> {
        let names = super::segment_names(&storage)?;
        let mut first = names.len();
        let mut found = 0;
        while let Some(name) = first.checked_sub(1).and_then(|before| names.get(before)) {
            if found >= count {
                break;
            }
            first -= 1;
            let lines = storage.read(name)?.iter().filter(|b| **b == b'\n').count();
            found += lines.saturating_sub(1);
        }
        let at = first.checked_sub(1).and_then(|before| names.get(before));
        let at = at.map(|name| (name.clone(), None));
        let mut reader = Self { storage, at, next: 0, ready: VecDeque::new() };
        for _ in count..found {
            reader.record()?;
        }
        Ok(reader)
    }

    /// The next record; `None` if there is none yet: asked again, it gives what came since.
    ///
    /// # Errors
    /// What the disk says.
    pub fn record(&mut self) -> io::Result<Option<Record>> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            // The names are read before the bytes: what a segment lacks then, it will never have.
            let names = super::segment_names(&self.storage)?;
            if self.more()? {
                continue;
            }
            let current = self.at.as_ref().map(|(name, _)| name);
            let Some(next) = names.into_iter().find(|name| current.is_none_or(|c| name > c)) else {
                return Ok(None);
            };
            self.next = segment::first_of(&next).unwrap_or_default();
            self.at = Some((next, Some(0)));
        }
    }

    /// Reads on in the segment; whether there was anything whole.
    fn more(&mut self) -> io::Result<bool> {
        let Some((name, Some(offset))) = &mut self.at else { return Ok(false) };
        let bytes = self.storage.read_from(name, *offset)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        let lines = bytes.get(..whole).unwrap_or_default().split_inclusive(|b| *b == b'\n');
        // The first line of a segment is its header.
        for line in lines.skip(usize::from(*offset == 0)) {
            let line = line.strip_suffix(b"\n").unwrap_or(line).to_vec();
            self.ready.push_back(Record { position: self.next, line });
            self.next += 1;
        }
        *offset = offset.saturating_add(whole as u64);
        Ok(whole > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::storage::faulty::FaultyDisk, *};

    fn disk() -> FaultyDisk {
        let mut disk = FaultyDisk::default();
        for (name, text) in [(0, "header\n{0}\n{1}\n"), (2, "header\n{2}\n{3}\n{4}\n"), (5, "header\n")] {
            disk.replace(&segment::name(name), text.as_bytes()).unwrap();
        }
        disk
    }

    fn all(reader: &mut Reader<FaultyDisk>) -> Vec<(u64, String)> {
        std::iter::from_fn(|| reader.record().unwrap())
            .map(|r| (r.position, String::from_utf8(r.line).unwrap()))
            .collect()
    }

    fn expected(from: u64, to: u64) -> Vec<(u64, String)> {
        (from..to).map(|n| (n, format!("{{{n}}}"))).collect()
    }

    #[test]
    fn records_come_in_their_order_across_segments() {
        assert_eq!(all(&mut Reader::new(disk())), expected(0, 5));
    }

    #[test]
    fn the_last_records_are_found_whichever_segment_they_are_in() {
        for count in 0..9 {
            let mut reader = Reader::last(disk(), count).unwrap();
            assert_eq!(all(&mut reader), expected(5_u64.saturating_sub(count as u64), 5), "{count}");
        }
    }

    #[test]
    fn a_reader_that_is_asked_again_gives_what_came_since_and_nothing_twice() {
        let disk = disk();
        let mut reader = Reader::last(disk.clone(), 1).unwrap();
        assert_eq!(all(&mut reader), expected(4, 5));
        disk.tamper(&segment::name(5), |bytes| bytes.extend_from_slice(b"{5}\n{6"));
        assert_eq!(all(&mut reader), expected(5, 6));
        disk.tamper(&segment::name(5), |bytes| bytes.extend_from_slice(b"}\n"));
        disk.clone().replace(&segment::name(7), b"header\n{7}\n").unwrap();
        assert_eq!(all(&mut reader), expected(6, 8));
        assert_eq!(all(&mut reader), []);
    }
}
