//! The log as an exporter reads it: in turns, each within its sink's limits, and without what is not
//! the sink's business.

use std::{collections::VecDeque, io, ops::Range, sync::Arc};

use super::{BatchLimits, Exported, Picks};
use crate::audit::{read::Reader, storage::Directory};

/// So many records are looked at in one turn, however few of them are picked.
const LOOKED_AT: usize = 10_000;

/// The log as it is read, with what was read too far.
pub(super) struct Tape {
    reader: Reader<Directory>,
    ahead: VecDeque<(u64, Vec<u8>)>,
}

/// What was read in one turn.
pub(super) struct Batch {
    /// Those that are handed over.
    pub records: Vec<Exported>,
    /// The position of the first that was looked at.
    pub first: Option<u64>,
    /// The position behind the last that was.
    pub through: u64,
}

impl Tape {
    /// Begins with the record at a position, or the oldest one behind it that is still there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn from(directory: Directory, position: u64) -> io::Result<Self> {
        Ok(Self { reader: Reader::from(directory, position)?, ahead: VecDeque::new() })
    }

    /// The next records of a range that are picked, within the limits.
    ///
    /// # Errors
    /// What the disk says.
    pub fn batch(
        &mut self,
        range: Range<u64>,
        limits: BatchLimits,
        picks: Option<&Picks>,
        origin: &Arc<str>,
    ) -> io::Result<Batch> {
        let mut batch = Batch { records: Vec::new(), first: None, through: range.start };
        let (mut bytes, mut looked) = (0, 0);
        while batch.records.len() < limits.records && looked < LOOKED_AT {
            if self.ahead.is_empty() {
                match self.reader.record()? {
                    Some(record) => self.ahead.push_back((record.position, record.line)),
                    None => break,
                }
            }
            let fits = |(position, line): &(u64, Vec<u8>)| {
                *position < range.end && (batch.records.is_empty() || bytes + line.len() <= limits.bytes)
            };
            if !self.ahead.front().is_some_and(fits) {
                break;
            }
            let Some((position, line)) = self.ahead.pop_front() else { break };
            if position < range.start {
                continue;
            }
            looked += 1;
            batch.first.get_or_insert(position);
            batch.through = position + 1;
            if picks.is_none_or(|picks| picks(&line)) {
                bytes += line.len();
                batch.records.push(Exported::new(origin, position, line));
            }
        }
        Ok(batch)
    }
}
