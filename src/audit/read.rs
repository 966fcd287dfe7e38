//! Reading a log record by record, while the gate writes it or after.
//!
//! A reader proves nothing: what it gives is vouched for only by [`verify`](super::verify).

use std::{collections::VecDeque, io};

use super::{segment, storage::Storage};

/// So many bytes are read at a time: more than the longest line has.
const PART: usize = 1 << 20;

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

    /// Begins with the record at `position`, or the oldest one behind it that is still there. The index
    /// beside the segment shortens the way; without it the segment is read from its beginning.
    ///
    /// # Errors
    /// What the disk says.
    pub fn from(storage: S, position: u64) -> io::Result<Self> {
        let names = super::segment_names(&storage)?;
        let name = names.into_iter().rfind(|n| segment::first_of(n).is_some_and(|first| first <= position));
        let Some(name) = name else { return Ok(Self::new(storage)) };
        let first = segment::first_of(&name).unwrap_or_default();
        let offset = offset_of(&storage, &name, position.saturating_sub(first)).unwrap_or_default();
        let next = if offset == 0 { first } else { position };
        let mut reader = Self { storage, at: Some((name, Some(offset))), next, ready: VecDeque::new() };
        while reader.next_position() < position {
            if reader.record()?.is_none() {
                break;
            }
        }
        Ok(reader)
    }

    /// The position of the record that comes next.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.ready.front().map_or(self.next, |record| record.position)
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
            let lines = memchr::memchr_iter(b'\n', &segment::read(&storage, name)?).count();
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
            let current = self.at.as_ref().and_then(|(name, _)| segment::first_of(name));
            let Some(next) = names.into_iter().find(|name| segment::first_of(name) > current) else {
                return Ok(None);
            };
            self.next = segment::first_of(&next).unwrap_or_default();
            self.at = Some((next, Some(0)));
        }
    }

    /// Reads on in the segment; whether there was anything whole.
    fn more(&mut self) -> io::Result<bool> {
        let Some((name, Some(offset))) = &mut self.at else { return Ok(false) };
        let bytes = match segment::read_part(&self.storage, name, *offset, PART) {
            // Its records were retired meanwhile: what is there begins behind them.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            read => read?,
        };
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
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

/// Where the record with that number in its segment begins, by the index: nothing vouches for that,
/// so it counts only if a line ends there.
fn offset_of<S: Storage>(storage: &S, name: &str, number: u64) -> Option<u64> {
    let index = storage.read_part(&segment::index_of(name), number.checked_mul(40)?, 8).ok()?;
    let offset = index.first_chunk::<8>().map(|at| u64::from_le_bytes(*at)).filter(|at| *at > 0)?;
    let before = segment::read_part(storage, name, offset - 1, 1).ok()?;
    before.starts_with(b"\n").then_some(offset)
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
    fn reading_begins_at_any_position_with_or_without_an_index() {
        let indexed = disk();
        // The second record of the middle segment, by a good index and by one that lies.
        for lie in [0, 3] {
            let mut index = segment::index_entry(7, &[0; 32]).to_vec();
            index.extend(segment::index_entry(11 + lie, &[0; 32]));
            indexed.clone().replace(&segment::index_of(&segment::name(2)), &index).unwrap();
            for position in 0..8 {
                let mut reader = Reader::from(indexed.clone(), position).unwrap();
                assert_eq!(all(&mut reader), expected(position.min(5), 5), "{position}");
                assert_eq!(all(&mut Reader::from(disk(), position).unwrap()), expected(position.min(5), 5));
            }
        }
    }

    #[test]
    fn the_last_records_are_found_whichever_segment_they_are_in() {
        for count in 0..9 {
            let mut reader = Reader::last(disk(), count).unwrap();
            assert_eq!(all(&mut reader), expected(5_u64.saturating_sub(count as u64), 5), "{count}");
        }
    }

    #[test]
    fn a_reader_begins_at_any_position_and_behind_what_is_no_longer_there() {
        for position in 0..7 {
            let mut reader = Reader::from(disk(), position).unwrap();
            assert_eq!(all(&mut reader), expected(position.min(5), 5), "{position}");
        }
        let mut cut = FaultyDisk::default();
        cut.replace(&segment::name(2), b"header\n{2}\n").unwrap();
        assert_eq!(all(&mut Reader::from(cut, 0).unwrap()), expected(2, 3));
    }

    #[test]
    fn a_segment_of_many_parts_is_read_whole() {
        let mut disk = FaultyDisk::default();
        let line = format!("{{{}}}\n", "x".repeat(30_000));
        disk.replace(&segment::name(0), format!("header\n{}", line.repeat(100)).as_bytes()).unwrap();
        let mut reader = Reader::from(disk, 40).unwrap();
        let positions: Vec<_> = std::iter::from_fn(|| reader.record().unwrap()).map(|r| r.position).collect();
        assert_eq!(positions, (40..100).collect::<Vec<_>>());
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
