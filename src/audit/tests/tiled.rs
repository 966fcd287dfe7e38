//! What is done behind the heads: tiles, packed segments, retention, and the change of keys.

use std::time::Duration;

use super::*;
use crate::audit::{
    merkle, proof,
    storage::Storage as _,
    tiles::{CHECKPOINT, Tiled},
};

fn small() -> JournalSettings {
    JournalSettings { segment_bytes: 20_000, ..settings() }
}

async fn filled(disk: &FaultyDisk, settings: &JournalSettings, numbers: std::ops::Range<u64>) {
    let (journal, _) = open(disk, settings);
    for number in numbers {
        journal.happened(&event(number)).await.unwrap();
    }
    assert!(journal.close().await);
}

#[tokio::test]
async fn a_closed_log_has_tiles_for_its_last_head_and_full_segments_are_packed() {
    let disk = FaultyDisk::default();
    filled(&disk, &small(), 0..600).await;
    let whole = verified(&disk).unwrap();
    // 601 records: two whole tiles, the rest, the level above, and the bundles.
    assert!(whole.vouched == 601 && whole.tiles >= 7, "{whole:?}");
    let segments = segment_names(&disk).unwrap();
    let packed = segments.iter().filter(|name| segment::is_packed(name)).count();
    assert!(packed > 5 && packed == segments.len() - 1, "{segments:?}");
    assert_eq!(generations(&disk), (0..600).collect::<Vec<_>>());
    // The gate goes on, and the tiles with it.
    filled(&disk, &small(), 600..700).await;
    let whole = verified(&disk).unwrap();
    assert!(whole.vouched == 702 && whole.tiles >= 7, "{whole:?}");
    assert!(disk.names().iter().any(|n| n == "tile/entries/002.p/190"), "{:?}", disk.names());
}

#[tokio::test]
async fn closing_waits_for_the_last_head_and_not_for_ever_for_tiles() {
    let (disk, clock) = (FaultyDisk::default(), Arc::new(ManualClock::starting_at(Timestamp::from_secs(1))));
    let (journal, _) = open_at(&disk, &settings(), Arc::clone(&clock)).unwrap();
    journal.happened(&event(0)).await.unwrap();
    disk.suffer(Trouble::Tiles);
    let close = journal.close();
    tokio::pin!(close);
    let closed = loop {
        tokio::select! {
            biased;
            closed = &mut close => break closed,
            passed = tokio::task::spawn_blocking(|| {}) => passed.unwrap(),
        }
        // The writer has ended; then only tiles are waited for.
        if journal.condition() != Condition::Healthy {
            clock.advance(Duration::from_secs(5));
        }
    };
    let left = disk.after_kill();
    disk.suffer(Trouble::None);
    assert!(closed, "everything is recorded and vouched for");
    let whole = verified(&left).unwrap();
    assert_eq!((whole.vouched, whole.tiles), (2, 0), "{whole:?}");
    // The next start goes on with them.
    filled(&left, &small(), 1..2).await;
    let whole = verified(&left).unwrap();
    assert!(whole.vouched == 4 && whole.tiles > 0, "{whole:?}");
}

#[tokio::test]
async fn a_log_of_the_first_journal_is_taken_over_as_it_is() {
    let disk = FaultyDisk::default();
    filled(&disk, &JournalSettings { pack: false, ..small() }, 0..300).await;
    // What the first journal left: segments, their indices, heads and the key.
    disk.clone().discard("tile").unwrap();
    disk.remove(CHECKPOINT);
    let before: Vec<_> = segment_names(&disk).unwrap().iter().map(|n| disk.read(n).unwrap()).collect();
    assert_eq!(verified(&disk).unwrap().tiles, 0);
    filled(&disk, &small(), 300..310).await;
    assert_eq!(verified(&disk).unwrap().vouched, 312);
    assert!(verified(&disk).unwrap().tiles >= 4);
    let after: Vec<_> =
        segment_names(&disk).unwrap().iter().map(|n| segment::read(&disk, n).unwrap()).collect();
    assert!(before.iter().zip(&after).all(|(before, after)| before == after));
}

#[tokio::test]
async fn tiles_that_were_changed_or_lost_are_found_and_built_anew() {
    let whole = FaultyDisk::default();
    filled(&whole, &small(), 0..300).await;
    for name in whole.names().iter().filter(|n| n.starts_with("tile/")) {
        let disk = whole.after_kill();
        disk.tamper(name, |bytes| *bytes.last_mut().unwrap() ^= 1);
        let changed = verified(&disk).map(|_| ());
        disk.remove(name);
        let lost = verified(&disk).map(|_| ());
        assert!(matches!(changed, Err(Broken::Tile { .. })), "{name}: {changed:?}");
        // Of an older head the unfinished tiles may be gone.
        let current = !name.contains(".p/") || name.ends_with("/45") || name.starts_with("tile/1/");
        assert_eq!(matches!(lost, Err(Broken::Tile { .. })), current, "{name}: {lost:?}");
        // As the error says.
        disk.clone().discard("tile").unwrap();
        disk.remove(CHECKPOINT);
        filled(&disk, &small(), 300..301).await;
        verified(&disk).unwrap();
    }
}

#[tokio::test]
async fn the_key_that_is_replaced_vouches_for_the_new_one() {
    let (old, new) = (settings(), {
        let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        JournalSettings::new("amlgate-test", "unused".into(), SecretString::from(pem))
    });
    let vouched = JournalSettings { previous_key: Some(old.signing_key.clone()), ..new.clone() };
    for (new, follows) in [(vouched, true), (new.clone(), false)] {
        let disk = FaultyDisk::default();
        filled(&disk, &old, 0..5).await;
        let first = key(&disk);
        filled(&disk, &new, 5..10).await;
        filled(&disk, &new, 10..15).await;
        // Who has both keys needs no voucher; who has only the first follows the record.
        assert_eq!(verified(&disk).unwrap().vouched, 19);
        assert_eq!(verified_by(&disk, &first, &[]).is_ok(), follows);
        assert_eq!(story(&disk).iter().filter(|e| *e == "signing_key_changed").count(), 1);
    }
    // A key that vouches for another must be the one that signed.
    let disk = FaultyDisk::default();
    filled(&disk, &old, 0..5).await;
    let stranger = JournalSettings { previous_key: Some(new.signing_key.clone()), ..new.clone() };
    assert!(matches!(try_open(&disk, &stranger), Err(OpenError::PreviousKey(_))));
}

/// A log whose old segments are removed after an hour; gives the clock too.
async fn aged(disk: &FaultyDisk) -> (Journal, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)));
    let retain = Retention { age: Some(Duration::from_secs(3_600)), bytes: None };
    let (journal, _) = open_at(disk, &JournalSettings { retain, ..small() }, Arc::clone(&clock)).unwrap();
    (journal, clock)
}

#[tokio::test]
async fn records_are_removed_only_after_a_vouched_record_says_so_and_old_proofs_still_fit() {
    let disk = FaultyDisk::default();
    let (journal, clock) = aged(&disk).await;
    for number in 0..300 {
        journal.happened(&event(number)).await.unwrap();
    }
    assert!(journal.close().await);
    let (kept, leaf) = {
        let mut reader = read::Reader::from(disk.clone(), 7).unwrap();
        let head = disk.read(CHECKPOINT).unwrap();
        (String::from_utf8(head).unwrap(), reader.record().unwrap().unwrap().line)
    };
    let before = key(&disk).open(&kept, 0).unwrap().0;
    let path = proof::inclusion(&mut Tiled::new(&disk, before.size), 7, before.size).unwrap();

    clock.advance(Duration::from_secs(7_200));
    let (journal, _) = {
        let retain = Retention { age: Some(Duration::from_secs(3_600)), bytes: None };
        open_at(&disk, &JournalSettings { retain, ..small() }, clock).unwrap()
    };
    // One head shows what is too old, the next vouches for the record of it.
    for number in 300..320 {
        journal.happened(&event(number)).await.unwrap();
        journal.sign_head();
    }
    while story(&disk).iter().all(|e| e != "records_retired") {
        journal.happened(&event(0)).await.unwrap();
        journal.sign_head();
    }
    assert!(journal.close().await);
    let whole = verified(&disk).unwrap();
    assert!(whole.retired > 200 && whole.tiles > 0, "{whole:?}");
    assert!(!disk.names().contains(&"tile/entries/000".to_owned()) || whole.retired < 256);
    // An auditor's old head is still reached, and the old proof still fits.
    verified_by(&disk, &key(&disk), &[kept]).unwrap();
    assert!(proof::includes(before.size, &before.root, 7, &merkle::leaf(&leaf), &path));
    let mut tiled = Tiled::new(&disk, whole.vouched);
    let grown = proof::consistency(&mut tiled, before.size, whole.vouched).unwrap();
    let now = key(&disk).open(&String::from_utf8(disk.read(CHECKPOINT).unwrap()).unwrap(), 0).unwrap().0;
    assert!(proof::extends(before.size, &before.root, now.size, &now.root, &grown));
    // Whoever removes more than the record says is found.
    disk.remove(segment_names(&disk).unwrap().first().unwrap());
    assert!(verified(&disk).is_err());
}

#[tokio::test]
async fn a_log_whose_beginning_somebody_cut_off_is_found() {
    let disk = FaultyDisk::default();
    filled(&disk, &small(), 0..300).await;
    disk.remove(segment_names(&disk).unwrap().first().unwrap());
    let found = verified(&disk);
    assert!(matches!(found, Err(Broken::Beheaded { allowed: 0, .. })), "{found:?}");
}

#[tokio::test]
async fn the_oldest_go_when_there_are_more_bytes_than_are_to_be_kept() {
    let disk = FaultyDisk::default();
    let retain = Retention { age: None, bytes: Some(30_000) };
    let settings = JournalSettings { retain, pack: false, ..small() };
    filled(&disk, &settings, 0..200).await;
    let kept = String::from_utf8(disk.read(CHECKPOINT).unwrap()).unwrap();
    let before = key(&disk).open(&kept, 0).unwrap().0;
    let leaf = read::Reader::from(disk.clone(), 7).unwrap().record().unwrap().unwrap().line;
    let path = proof::inclusion(&mut Tiled::new(&disk, before.size), 7, before.size).unwrap();
    let (journal, _) = open(&disk, &settings);
    while story(&disk).iter().all(|e| e != "records_retired") {
        journal.happened(&event(0)).await.unwrap();
        journal.sign_head();
    }
    journal.close().await;
    let whole = verified_by(&disk, &key(&disk), &[kept]).unwrap();
    assert!(whole.retired > 100, "{whole:?}");
    assert!(proof::includes(before.size, &before.root, 7, &merkle::leaf(&leaf), &path));
    let mut tiled = Tiled::new(&disk, whole.vouched);
    let anew = proof::inclusion(&mut tiled, 7, whole.vouched).unwrap();
    let now = key(&disk).open(&String::from_utf8(disk.read(CHECKPOINT).unwrap()).unwrap(), 0).unwrap().0;
    assert!(proof::includes(now.size, &now.root, 7, &merkle::leaf(&leaf), &anew), "of a record that is gone");
}

#[tokio::test]
async fn records_that_wait_for_a_disk_that_hangs_are_bounded_by_their_bytes() {
    let disk = FaultyDisk::default();
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)));
    let settings = JournalSettings { queued_bytes: 64 << 10, ..settings() };
    let (journal, _) = open_at(&disk, &settings, Arc::clone(&clock)).unwrap();
    disk.suffer(Trouble::Hangs);
    let large = || Event::ReloadRefused { what: "policies", problem: "x".repeat(900), count: 1 };
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.happened(&large()).await.is_ok() })
        })
        .collect();
    tokio::task::yield_now().await;
    while journal.depth() < 32 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(journal.depth() <= 64, "{} records of two KiB in 64", journal.depth());
    disk.suffer(Trouble::None);
    let mut written = 0;
    for task in waiting {
        written += u32::from(task.await.unwrap());
    }
    assert_eq!(written, 100, "those that had no place yet got one");
    journal.close().await;
    verified(&disk).unwrap();
}
