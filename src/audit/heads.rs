//! The file of signed heads: appended to, thinned, and searched without being read whole.
//!
//! A head is signed every few seconds, and each vouches for everything before it: the newest says all
//! that the older ones say. So only the newest [`FINE`] stay as they are. Of those before them stay
//! what something is proven by: the head at the end of each segment, the last one of each key, and
//! one for every [`STRIDE`] records, out of which a later period can be shown to have grown.

use std::{collections::BTreeSet, io, io::ErrorKind};

use super::{
    note,
    recovery::split_heads,
    segment::{self, HEADS},
    storage::{LogFile, Storage},
};

/// So many of the newest heads stay as they are; the file is thinned when as many more have come.
pub(super) const FINE: usize = 1_024;
/// Of older heads one stays for every so many records.
const STRIDE: u64 = 1_024;
/// A head is shorter, in bytes: a search looks no further for the next one.
const LONGEST: usize = 4 << 10;
/// What is left of the file when a search reads it in one go, in bytes.
const PART: u64 = 32 << 10;

/// Where the file ends, for the one who writes it.
#[derive(Debug)]
pub(super) struct Heads {
    /// Bytes that are whole and durable.
    good: u64,
    /// Whether something may lie behind them that could not be cut off.
    torn: bool,
    /// Heads since the file was thinned.
    since: usize,
}

impl Heads {
    /// The file as it was found: its whole bytes, and how many heads they are.
    pub const fn found(good: u64, count: usize) -> Self {
        Self { good, torn: false, since: count }
    }

    /// Appends a head, durably. Half a head would hide the next one: it is cut off at once, or before
    /// the next one is written.
    ///
    /// # Errors
    /// What the disk says; the head does not count then.
    pub fn append<S: Storage>(&mut self, storage: &mut S, note: &str) -> io::Result<()> {
        if self.torn {
            storage.truncate(HEADS, self.good)?;
            self.torn = false;
        }
        let mut file = storage.append(HEADS)?;
        if let Err(error) = file.write(note.as_bytes()).and_then(|()| file.sync()) {
            self.torn = storage.truncate(HEADS, self.good).is_err();
            return Err(error);
        }
        self.good += note.len() as u64;
        self.since += 1;
        Ok(())
    }

    /// Leaves out what nothing is proven by any more, if much has come. At every moment one whole
    /// form of the file is there.
    ///
    /// # Errors
    /// What the disk says; the file is as it was then, and it is tried again with the next head.
    pub fn thin<S: Storage>(&mut self, storage: &mut S) -> io::Result<()> {
        if self.since < 2 * FINE || self.torn {
            return Ok(());
        }
        let bytes = storage.read(HEADS)?;
        let firsts =
            super::segment_names(storage)?.iter().filter_map(|name| segment::first_of(name)).collect();
        let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() as u64 == self.good);
        let Some(thinned) = text.and_then(|text| thinned(text, &firsts)) else {
            // Whoever changed it is found by whoever verifies: what is there must not go then.
            let why = "the file of signed heads is not as it was written: `amlgate audit verify` tells more";
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        };
        if let Err(error) = storage.replace(HEADS, thinned.as_bytes()) {
            // Either form is whole, but which one is there is not known.
            self.good = storage.size(HEADS).unwrap_or(self.good);
            return Err(error);
        }
        self.good = thinned.len() as u64;
        self.since = FINE;
        Ok(())
    }
}

/// The heads that stay; `None` if one of them is none.
fn thinned(heads: &str, firsts: &BTreeSet<u64>) -> Option<String> {
    let (notes, whole) = split_heads(heads);
    if whole != heads.len() {
        return None;
    }
    let mut kept = String::with_capacity(heads.len() / 2);
    let oldest = firsts.first().copied().unwrap_or_default();
    let mut before = None;
    for (number, text) in notes.iter().enumerate() {
        let size = note::unverified(text)?.size;
        let fine = notes.len() - number <= FINE;
        let begins = before != Some(size / STRIDE) || firsts.contains(&size);
        let last_of_key = notes.get(number + 1).is_none_or(|next| note::signer(next) != note::signer(text));
        if fine || last_of_key || (begins && size >= oldest) {
            kept.push_str(text);
            kept.push('\n');
        }
        before = Some(size / STRIDE);
    }
    Some(kept)
}

/// The note of the head that counts so many records, if there is one; nobody has checked it yet. Heads
/// count more and more, so the place is found by halves.
///
/// # Errors
/// What the disk says.
pub(super) fn of_size<S: Storage>(storage: &S, size: u64) -> io::Result<Option<String>> {
    // A head begins at `low`; the one that is looked for begins before `high`.
    let (mut low, mut high) = (0, length(storage)?);
    if high == 0 {
        return Ok(None);
    }
    while high - low > PART {
        let middle = low + (high - low) / 2;
        let part = storage.read_part(HEADS, middle - 2, LONGEST)?;
        match next_head(&part) {
            Some((at, found)) if found <= size && middle + at < high => low = middle + at,
            Some(_) | None => high = middle,
        }
    }
    let bytes = storage.read_part(HEADS, low, (high - low) as usize + LONGEST)?;
    let text = String::from_utf8_lossy(&bytes);
    let (notes, _) = split_heads(&text);
    let found = notes.into_iter().find(|text| note::unverified(text).is_some_and(|head| head.size == size));
    Ok(found.map(str::to_owned))
}

/// Where behind an empty line the next head begins in a part of the file, and what it counts.
fn next_head(part: &[u8]) -> Option<(u64, u64)> {
    for at in memchr::memmem::find_iter(part, b"\n\n") {
        let head = part.get(at + 2..)?;
        if head.starts_with("\u{2014} ".as_bytes()) {
            continue;
        }
        let mut lines = head.split(|byte| *byte == b'\n');
        let (_, size, _) = (lines.next()?, lines.next()?, lines.next()?);
        return Some((at as u64, std::str::from_utf8(size).ok()?.parse().ok()?));
    }
    None
}

/// The newest notes, oldest first; nobody has checked them yet.
///
/// # Errors
/// What the disk says.
pub(super) fn newest<S: Storage>(storage: &S) -> io::Result<Vec<String>> {
    let length = length(storage)?;
    if length == 0 {
        return Ok(Vec::new());
    }
    let from = length.saturating_sub(PART);
    let part = storage.read_part(HEADS, from.saturating_sub(2), PART as usize + 2)?;
    let begin = if from == 0 { Some(0) } else { next_head(&part).map(|(at, _)| at as usize + 2) };
    let text = String::from_utf8_lossy(begin.and_then(|at| part.get(at..)).unwrap_or_default());
    Ok(split_heads(&text).0.into_iter().map(str::to_owned).collect())
}

fn length<S: Storage>(storage: &S) -> io::Result<u64> {
    match storage.size(HEADS) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        size => size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{
        note::{Signer, tests::signer},
        storage::faulty::{FaultyDisk, Trouble},
    };

    /// As many notes as there are sizes.
    fn text(signer: &Signer, sizes: impl IntoIterator<Item = u64>) -> String {
        sizes.into_iter().map(|size| format!("{}\n", signer.sign(size, &[9; 32]))).collect()
    }

    fn sizes(text: &str) -> Vec<u64> {
        split_heads(text).0.iter().map(|text| note::unverified(text).unwrap().size).collect()
    }

    #[test]
    fn the_newest_heads_stay_and_of_the_others_those_that_something_is_proven_by() {
        let (old, new) = (signer(), signer());
        let all = text(&old, (1..=700).map(|n| n * 10)) + &text(&new, (701..=4_000).map(|n| n * 10));
        let firsts = [0, 9_990, 30_000].into();
        let kept = thinned(&all, &firsts).unwrap();
        let found = sizes(&kept);
        let fine = 40_000 - FINE as u64 * 10;
        assert!((fine / 10 + 1..=4_000).all(|n| found.contains(&(n * 10))), "the newest are all there");
        assert!([7_000, 9_990, 30_000].iter().all(|size| found.contains(size)), "{found:?}");
        assert!(found.len() < FINE + 40, "{}", found.len());
        assert!(found.windows(2).all(|two| two[0] < two[1] && two[1] - two[0] <= STRIDE + 10), "{found:?}");
        // What stayed stays, and goes with the records that it is about.
        assert_eq!(thinned(&kept, &firsts).unwrap(), kept);
        let later = sizes(&thinned(&kept, &[30_000].into()).unwrap());
        assert_eq!(later[..2], [7_000, fine + 10], "the last of the old key, and the newest ones");
        // What is no head makes nothing go.
        assert_eq!(thinned(&all.replacen("\n20\n", "\nx\n", 1), &firsts), None);
        assert_eq!(thinned(&all[..all.len() - 1], &firsts), None);
    }

    #[test]
    fn a_head_is_found_by_its_size_wherever_it_lies_and_read_in_few_parts() {
        let signer = signer();
        for count in [0, 1, 2, 100, 127, 128, 129, 5_000] {
            let mut disk = FaultyDisk::default();
            disk.replace(HEADS, text(&signer, (1..=count).map(|n| n * 3)).as_bytes()).unwrap();
            for size in (0..=count * 3 + 4).step_by(if count > 1_000 { 7 } else { 1 }) {
                let found = of_size(&disk, size).unwrap();
                let expected = (size > 0 && size % 3 == 0 && size <= count * 3).then_some(size);
                assert_eq!(
                    found.map(|text| note::unverified(&text).unwrap().size),
                    expected,
                    "{size} of {count}"
                );
            }
            let last = newest(&disk).unwrap().pop().map(|text| note::unverified(&text).unwrap().size);
            assert_eq!(last, (count > 0).then_some(count * 3));
        }
        assert_eq!(
            (of_size(&FaultyDisk::default(), 7).unwrap(), newest(&FaultyDisk::default()).unwrap().len()),
            (None, 0)
        );
    }

    #[test]
    fn a_search_in_what_is_not_a_file_of_heads_ends_and_finds_nothing() {
        for rubbish in ["\n\n".repeat(60_000), "x".repeat(200_000), "a\n1\nb\n\n".repeat(30_000)] {
            let mut disk = FaultyDisk::default();
            disk.replace(HEADS, rubbish.as_bytes()).unwrap();
            assert_eq!(of_size(&disk, 7).unwrap(), None);
            newest(&disk).unwrap();
        }
    }

    #[test]
    fn half_a_head_that_could_not_be_cut_off_is_cut_off_before_the_next() {
        let (signer, mut disk, mut heads) = (signer(), FaultyDisk::default(), Heads::found(0, 0));
        let note = |size| format!("{}\n", signer.sign(size, &[9; 32]));
        heads.append(&mut disk, &note(1)).unwrap();
        disk.suffer(Trouble::ShortWrites);
        // The disk dies before the half can be cut off.
        disk.loses_power_after(2, crate::audit::storage::faulty::Half::Nothing);
        assert!(heads.append(&mut disk, &note(2)).is_err());
        let mut disk = disk.after_kill();
        assert!(heads.torn && disk.size(HEADS).unwrap() > heads.good);
        heads.append(&mut disk, &note(3)).unwrap();
        assert_eq!(sizes(&String::from_utf8(disk.read(HEADS).unwrap()).unwrap()), [1, 3]);
    }
}
