//! A hundred thousand edits of a log, each of which verification finds.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    thread,
};

use super::*;
use crate::audit::{
    merkle::Range,
    note::{Head, NoteError, tests::signer},
    segment::HEADS,
    tiles::CHECKPOINT,
};

const EDITS: u64 = 100_000;

/// A generator of numbers that anybody can repeat (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below.max(1) as u64) as usize
    }
}

/// Opens each note once: what a signature is worth does not change between two edits.
#[derive(Default)]
struct Opened(RefCell<HashMap<(String, usize), Reading>>);

type Reading = Result<(Head, usize), NoteError>;

impl Opened {
    fn open(&self, keys: &note::VerifierKeys, note: &str, oldest: usize) -> Reading {
        let mut known = self.0.borrow_mut();
        known.entry((note.to_owned(), oldest)).or_insert_with(|| keys.open(note, oldest)).clone()
    }

    fn verify(&self, sample: &Sample, files: &Files) -> Result<Whole, Broken> {
        let kept = std::slice::from_ref(&sample.kept);
        let open = |keys: &note::VerifierKeys, note: &str, oldest| self.open(keys, note, oldest);
        verify::verify_opening(&disk(files), "amlgate-test", &sample.keys, kept, &open)
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn disk(files: &Files) -> FaultyDisk {
    let mut disk = FaultyDisk::default();
    for (name, bytes) in files {
        disk.replace(name, bytes).unwrap();
    }
    disk
}

/// A log of three segments with tiles and heads, the head that an auditor kept of it, its keys, and a
/// second log under the same key that shares its first records: a fork.
struct Sample {
    files: Files,
    kept: String,
    keys: note::VerifierKeys,
    fork: Files,
    fork_head: String,
}

fn sampled(pack: bool) -> Sample {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let small = JournalSettings { segment_bytes: 3_000, pack, ..settings() };
    let write = |numbers: &[u64]| {
        let disk = FaultyDisk::default();
        runtime.block_on(async {
            let (journal, _) = open(&disk, &small);
            for number in numbers {
                journal.happened(&event(*number)).await.unwrap();
            }
            assert!(journal.close().await);
        });
        let files: Files = disk.names().into_iter().map(|n| (n.clone(), disk.read(&n).unwrap())).collect();
        let head = String::from_utf8(files[CHECKPOINT].clone()).unwrap();
        (files, head, key(&disk))
    };
    let (files, kept, keys) = write(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let (fork, fork_head, _) = write(&[0, 1, 2, 3, 4, 5, 99, 7, 8, 9, 10, 11]);
    Sample { files, kept, keys, fork, fork_head }
}

/// One edit; says what was done.
fn edit(sample: &Sample, dice: &mut Dice) -> (Files, String) {
    let mut files = sample.files.clone();
    // The index vouches for nothing, and nothing depends on it.
    let names: Vec<_> = files.keys().filter(|n| !n.ends_with(".idx") && *n != "audit.pub").cloned().collect();
    let name = names[dice.roll(names.len())].clone();
    let bytes = files.get_mut(&name).unwrap();
    let (at, kind) = (dice.roll(bytes.len()), dice.roll(9));
    match kind {
        0 | 1 => bytes[at] ^= 1 << dice.roll(8),
        2 => drop(bytes.remove(at)),
        3 => bytes.truncate(at),
        4 => bytes.insert(at, b"0a{}\n\" "[dice.roll(7)]),
        // A part of one place at another.
        5 => {
            let from = dice.roll(bytes.len());
            let part = bytes[from..].iter().take(1 + dice.roll(64)).copied().collect::<Vec<_>>();
            drop(bytes.splice(at..at, part));
        }
        // Records, or heads: dropped, swapped, twice, or of the fork.
        6 | 7 => {
            let mut lines: Vec<_> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            let (one, other) = (dice.roll(lines.len()), dice.roll(lines.len()));
            match dice.roll(3) {
                0 => drop(lines.remove(one)),
                1 => lines.swap(one, other),
                _ => lines.insert(one, lines[other].clone()),
            }
            *bytes = lines.concat();
        }
        _ => {
            if dice.roll(4) == 0 {
                files.remove(&name);
            } else if let Some(theirs) = sample.fork.get(&name) {
                files.insert(name.clone(), theirs.clone());
            }
        }
    }
    (files, format!("{name}, edit {kind} at {at}"))
}

/// What an edit may leave: the same, more behind the last record than was vouched for, or other bytes
/// of the separators and signatures of heads that say the same.
fn is_harmless(sample: &Sample, files: &Files, opened: &Opened) -> bool {
    let last = sample.files.keys().rfind(|n| segment::first_of(n).is_some()).unwrap();
    let differ = |name: &String| files.get(name) != sample.files.get(name);
    sample.files.keys().filter(|name| differ(name)).all(|name| {
        let Some(found) = files.get(name) else {
            // Without them less is vouched for by the log itself, and all of it by the head that was kept.
            // Of an older head the unfinished tiles may be gone.
            let older = name.contains(".p/") && !name.ends_with("/12");
            return older || name == HEADS || name == CHECKPOINT;
        };
        match name.as_str() {
            // A torn end, or records that nobody vouched for.
            name if name == last => found.starts_with(&sample.files[last]),
            // Fewer heads vouch for less, and the kept head for all of it.
            HEADS => heads_say_the_same(found, sample, opened),
            CHECKPOINT => {
                let says = |bytes: &[u8]| {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    opened.open(&sample.keys, &text, 0).map(|(head, _)| head)
                };
                says(found).is_ok() && says(found) == says(&sample.files[CHECKPOINT])
            }
            _ => false,
        }
    })
}

fn heads_say_the_same(found: &[u8], sample: &Sample, opened: &Opened) -> bool {
    let sizes = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let notes = recovery::split_heads(&text).0;
        let heads = notes.iter().map(|n| opened.open(&sample.keys, n, 0).map(|(head, _)| head.size));
        heads.collect::<Result<Vec<_>, _>>()
    };
    let (Ok(found), Ok(whole)) = (sizes(found), sizes(&sample.files[HEADS])) else { return false };
    found.is_sorted_by(|a, b| a < b) && found.iter().all(|size| whole.contains(size))
}

#[test]
fn a_hundred_thousand_edits_of_a_log_are_each_found() {
    let sample = sampled(false);
    let whole = disk(&sample.files);
    assert!(verified_by(&whole, &sample.keys, std::slice::from_ref(&sample.kept)).is_ok());
    let (found, harmless) = thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let sample = &sample;
                scope.spawn(move || {
                    let (mut dice, mut found, mut harmless) = (Dice(worker), 0_u64, 0_u64);
                    let opened = Opened::default();
                    while found < EDITS / 4 {
                        let (files, what) = edit(sample, &mut dice);
                        if is_harmless(sample, &files, &opened) {
                            harmless += 1;
                            continue;
                        }
                        let verdict = opened.verify(sample, &files);
                        assert!(verdict.is_err(), "{what} was not found: {verdict:?}");
                        found += 1;
                    }
                    (found, harmless)
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    });
    assert!(found >= EDITS && harmless < found / 5, "{found} found, {harmless} changed nothing");
}

#[test]
fn every_edit_of_a_packed_segment_is_found_or_leaves_what_it_holds() {
    let sample = sampled(true);
    let packed: Vec<_> = sample.files.keys().filter(|name| segment::is_packed(name)).collect();
    assert!(!packed.is_empty());
    let (opened, mut found, mut edits) = (Opened::default(), 0, 0);
    for name in packed {
        let bytes = &sample.files[name];
        let records = segment::read(&disk(&sample.files), name).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let without = [&bytes[..at], &bytes[at + 1..]].concat();
            // Another member behind, as one who knows how they are packed would add it.
            let again = [&bytes[..at], &bytes[..]].concat();
            for edit in [flipped, without, bytes[..at].to_vec(), again] {
                let mut files = sample.files.clone();
                files.insert(name.clone(), edit);
                let same = segment::read(&disk(&files), name).is_ok_and(|read| read == records);
                let verdict = opened.verify(&sample, &files);
                assert!(verdict.is_err() || same, "{name} at {at}: {verdict:?}");
                (edits, found) = (edits + 1, found + u64::from(verdict.is_err()));
            }
        }
    }
    assert!(found > edits * 9 / 10, "{found} of {edits}");
}

#[test]
fn a_fork_and_a_replayed_checkpoint_are_found_by_a_head_that_was_kept() {
    let sample = sampled(false);
    // The fork is whole in itself, and the head of either finds the other.
    let fork = disk(&sample.fork);
    verified_by(&fork, &sample.keys, std::slice::from_ref(&sample.fork_head)).unwrap();
    for (log, head) in [(&sample.fork, &sample.kept), (&sample.files, &sample.fork_head)] {
        assert!(verified_by(&disk(log), &sample.keys, std::slice::from_ref(head)).is_err());
    }
    // An old state of the log is whole in itself too, and the newer head misses the rest.
    let old = {
        let mut files = sample.files.clone();
        let last = files.keys().rfind(|n| segment::first_of(n).is_some()).unwrap().clone();
        files.remove(&last);
        files.remove(CHECKPOINT);
        files.retain(|name, _| !name.starts_with("tile/"));
        let heads = String::from_utf8(files[HEADS].clone()).unwrap();
        let notes = recovery::split_heads(&heads).0;
        files.insert(
            HEADS.to_owned(),
            notes[..notes.len() - 1].iter().map(|n| format!("{n}\n")).collect::<String>().into_bytes(),
        );
        files
    };
    verified_by(&disk(&old), &sample.keys, &[]).unwrap();
    assert!(matches!(
        verified_by(&disk(&old), &sample.keys, std::slice::from_ref(&sample.kept)),
        Err(Broken::Missing { .. })
    ));
    // A head of a stranger's key says nothing.
    let mut range = Range::default();
    range.push([0; 32]);
    let strange = signer().sign(1, &range.root());
    assert!(verified_by(&disk(&sample.files), &sample.keys, &[strange]).is_err());
}
