//! The search itself: the index says where, the log says what, the tree says whether it may be believed.

use std::path::Path;

use serde_json::Value;

use super::{Filter, QueryError, first_of, index::Index, vouch::Vouchers};
use crate::audit::{note::VerifierKeys, segment, storage::Directory};

/// Where is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Look {
    /// Where the index says.
    #[default]
    Indexed,
    /// In every record of the log.
    Everywhere,
}

/// A record that fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its number in the log.
    pub position: u64,
    /// Its bytes.
    pub line: Vec<u8>,
    /// What they say.
    pub value: Value,
    /// Whether a signed head vouches for it; the newest records have none yet.
    pub vouched: bool,
}

/// A part of the answer, in the log's order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The records.
    pub found: Vec<Found>,
    /// Go on at this position for more; `None` if there is no more.
    pub next: Option<u64>,
    /// Everything before this position was looked at.
    pub until: u64,
}

/// A page that is being filled.
struct Filling {
    page: Page,
    bounds: Bounds,
    /// Bytes of the records in it.
    bytes: usize,
    /// Bytes that were looked at.
    looked: u64,
}

/// Where one page of the answer ends, so that whoever asks cannot keep the gate busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// At most so many records.
    pub records: usize,
    /// With at most so many bytes, unless the first alone has more.
    pub bytes: usize,
    /// After so many bytes of the log and its index were looked at, whatever was found in them.
    pub looked: u64,
}

impl Bounds {
    /// Nothing but the number of records.
    #[must_use]
    pub const fn records(records: usize) -> Self {
        Self { records, bytes: usize::MAX, looked: u64::MAX }
    }
}

/// A page of the records of a log that fit, from a position on.
///
/// # Errors
/// [`QueryError`]: also if a record that fits is not the one that was vouched for.
pub fn search(
    directory: &Path,
    keys: &VerifierKeys,
    filter: &Filter,
    look: Look,
    from: u64,
    bounds: Bounds,
) -> Result<Page, QueryError> {
    let storage = Directory::at(directory.to_owned());
    let names = crate::audit::segment_names(&storage)?;
    let vouchers = Vouchers::new(directory, keys, &names);
    let page = Page { until: from, ..Page::default() };
    let mut filling = Filling { page, bounds, bytes: 0, looked: 0 };
    for (at, name) in names.iter().enumerate() {
        let ended = names.get(at + 1);
        if ended.is_some_and(|next| first_of(next) <= from) {
            continue;
        }
        let begin = from.max(first_of(name));
        if filling.looked >= bounds.looked {
            filling.page.next = Some(begin);
            break;
        }
        let first = filling.page.found.len();
        let full = match look {
            Look::Everywhere => everywhere(&storage, name, filter, begin, &mut filling)?,
            Look::Indexed if ended.is_some() && is_elsewhen(directory, name, filter) => false,
            Look::Indexed => {
                let (index, _) = Index::refreshed(directory, &storage, name, ended.is_some())?;
                indexed(&storage, name, &index, filter, begin, &mut filling)?
            }
        };
        if let Some(found) = filling.page.found.get_mut(first..).filter(|found| !found.is_empty()) {
            vouchers.vouch(name, found)?;
        }
        if full {
            break;
        }
        let until = filling.page.until;
        filling.page.until = ended.map_or(until, |next| until.max(first_of(next)));
    }
    let mut page = filling.page;
    page.until = page.next.unwrap_or(page.until);
    Ok(page)
}

/// Whether nothing in a finished segment is of the time that is looked for, by its index.
fn is_elsewhen(directory: &Path, name: &str, filter: &Filter) -> bool {
    let Some(cover) = Index::cover(directory, name).filter(|cover| cover.ended) else { return false };
    filter.since.is_some_and(|since| cover.until < since.as_millis())
        || filter.until.is_some_and(|until| cover.from >= until.as_millis())
}

impl Filling {
    /// Takes a record in if it fits; whether the page ends here.
    fn take(&mut self, filter: &Filter, position: u64, line: &[u8]) -> bool {
        let Self { page, bounds, bytes, looked } = self;
        // At least one is looked at, so that whoever asks again gets on.
        let first = *looked == 0;
        *looked = looked.saturating_add(line.len() as u64);
        if !first && *looked > bounds.looked {
            page.next = Some(position);
            return true;
        }
        let Ok(value) = serde_json::from_slice::<Value>(line) else { return false };
        if !filter.fits(line, &value) {
            return false;
        }
        let with = bytes.saturating_add(line.len());
        if page.found.len() >= bounds.records || (!page.found.is_empty() && with > bounds.bytes) {
            page.next = Some(position);
            return true;
        }
        *bytes = with;
        page.found.push(Found { position, line: line.to_vec(), value, vouched: false });
        false
    }
}

fn indexed(
    storage: &Directory,
    name: &str,
    index: &Index,
    filter: &Filter,
    from: u64,
    filling: &mut Filling,
) -> Result<bool, QueryError> {
    let first = first_of(name);
    // A packed segment is read once, if there may be anything in it.
    let mut whole = None;
    for (number, offset, length) in index.candidates(filter, from.saturating_sub(first)) {
        let line = if segment::is_packed(name) {
            let whole: &Vec<u8> = match &mut whole {
                Some(whole) => whole,
                none => none.insert(segment::read(storage, name)?),
            };
            let line = usize::try_from(offset).ok().and_then(|at| whole.get(at..)?.get(..length));
            line.unwrap_or_default().to_vec()
        } else {
            segment::read_part(storage, name, offset, length)?
        };
        if filling.take(filter, first + number, &line) {
            return Ok(true);
        }
    }
    // What was read beside the records themselves counts once they are behind.
    let packed = whole.map_or(0, |whole| whole.len() as u64);
    filling.looked = filling.looked.saturating_add(index.bytes()).saturating_add(packed);
    filling.page.until = filling.page.until.max(first + index.cover.records);
    Ok(false)
}

fn everywhere(
    storage: &Directory,
    name: &str,
    filter: &Filter,
    from: u64,
    filling: &mut Filling,
) -> Result<bool, QueryError> {
    let bytes = segment::read(storage, name)?;
    let lines = bytes.split_inclusive(|b| *b == b'\n').skip(1);
    for (position, line) in (first_of(name)..).zip(lines) {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        if position < from {
            continue;
        }
        if filling.take(filter, position, line) {
            return Ok(true);
        }
        filling.page.until = position + 1;
    }
    Ok(false)
}
