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
}

/// At most `limit` records of a log that fit, from a position on.
///
/// # Errors
/// [`QueryError`]: also if a record that fits is not the one that was vouched for.
pub fn search(
    directory: &Path,
    keys: &VerifierKeys,
    filter: &Filter,
    look: Look,
    from: u64,
    limit: usize,
) -> Result<Page, QueryError> {
    let storage = Directory::at(directory.to_owned());
    let names = crate::audit::segment_names(&storage)?;
    let mut vouchers = Vouchers::new(directory, keys, &names);
    let mut page = Page::default();
    for (at, name) in names.iter().enumerate() {
        let ended = names.get(at + 1);
        if ended.is_some_and(|next| first_of(next) <= from) {
            continue;
        }
        let first = page.found.len();
        let full = match look {
            Look::Everywhere => everywhere(&storage, name, filter, from, limit, &mut page)?,
            Look::Indexed if ended.is_some() && is_elsewhen(directory, name, filter) => false,
            Look::Indexed => {
                let (index, _) = Index::refreshed(directory, &storage, name, ended.is_some())?;
                indexed(&storage, name, &index, filter, from, limit, &mut page)?
            }
        };
        if let Some(found) = page.found.get_mut(first..).filter(|found| !found.is_empty()) {
            vouchers.vouch(name, found)?;
        }
        if full {
            break;
        }
    }
    Ok(page)
}

/// Whether nothing in a finished segment is of the time that is looked for, by its index.
fn is_elsewhen(directory: &Path, name: &str, filter: &Filter) -> bool {
    let Some(cover) = Index::cover(directory, name).filter(|cover| cover.ended) else { return false };
    filter.since.is_some_and(|since| cover.until < since.as_millis())
        || filter.until.is_some_and(|until| cover.from >= until.as_millis())
}

/// Takes a record into the page if it fits; whether the page is full already.
fn take(page: &mut Page, filter: &Filter, position: u64, line: &[u8], limit: usize) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return false };
    if !filter.fits(line, &value) {
        return false;
    }
    if page.found.len() >= limit {
        page.next = Some(position);
        return true;
    }
    page.found.push(Found { position, line: line.to_vec(), value, vouched: false });
    false
}

fn indexed(
    storage: &Directory,
    name: &str,
    index: &Index,
    filter: &Filter,
    from: u64,
    limit: usize,
    page: &mut Page,
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
        if take(page, filter, first + number, &line, limit) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn everywhere(
    storage: &Directory,
    name: &str,
    filter: &Filter,
    from: u64,
    limit: usize,
    page: &mut Page,
) -> Result<bool, QueryError> {
    let bytes = segment::read(storage, name)?;
    let lines = bytes.split_inclusive(|b| *b == b'\n').skip(1);
    for (position, line) in (first_of(name)..).zip(lines) {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        if position >= from && take(page, filter, position, line, limit) {
            return Ok(true);
        }
    }
    Ok(false)
}
