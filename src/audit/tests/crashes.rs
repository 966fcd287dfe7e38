//! The power fails during each operation, and the log goes on.

use super::*;
use crate::audit::{
    storage::{Storage as _, faulty::Half},
    tiles::CHECKPOINT,
};

const TEARS: &[Tear] = &[
    Tear::Cut(0),
    Tear::Cut(1),
    Tear::Cut(300),
    Tear::Cut(usize::MAX),
    Tear::Zeroes(0, 1),
    Tear::Zeroes(100, 512),
    Tear::Zeroes(40, usize::MAX),
];

fn small() -> JournalSettings {
    JournalSettings { segment_bytes: 1_200, ..settings() }
}

/// Opens, records the numbers from `first` on with heads and segments between, and closes; gives
/// back what was acknowledged. `None` if the journal could not even be opened.
async fn run(disk: &FaultyDisk, first: u64) -> Option<Vec<u64>> {
    let mut acknowledged = Vec::new();
    let (journal, _) = try_open(disk, &small()).ok()?;
    for number in first..first + 5 {
        if journal.happened(&event(number)).await.is_ok() {
            acknowledged.push(number);
        }
        if number % 2 == 0 {
            journal.sign_head();
        }
    }
    journal.close().await;
    Some(acknowledged)
}

/// What was acknowledged is there, in its order, and the log goes on and is whole.
async fn goes_on(found: &FaultyDisk, acknowledged: &[u64], how: &str) {
    let more = run(found, 100).await.unwrap_or_else(|| panic!("{how}: cannot be opened"));
    assert_eq!(more, [100, 101, 102, 103, 104], "{how}");
    let there = generations(found);
    let mut rest = there.iter();
    for number in acknowledged.iter().chain(&more) {
        assert!(rest.any(|n| n == number), "{how}: {number} was acknowledged, found {there:?}");
    }
    let whole = verified(found).unwrap_or_else(|e| panic!("{how}: {e}"));
    assert_eq!((whole.beyond, whole.torn_bytes), (0, 0), "{how}");
}

#[tokio::test]
async fn at_every_operation_and_tear_what_was_acknowledged_is_recovered() {
    let mut crashes = 0;
    for half in [Half::Nothing, Half::Everything] {
        for operation in 0.. {
            let disk = FaultyDisk::default();
            disk.loses_power_after(operation, half);
            let acknowledged = run(&disk, 0).await.unwrap_or_default();
            if !disk.is_off() {
                break;
            }
            crashes += 1;
            for tear in TEARS {
                let how = format!("operation {operation}, {half:?} of it, {tear:?}");
                goes_on(&disk.after_power_loss(*tear), &acknowledged, &how).await;
            }
        }
    }
    assert!(crashes > 50, "{crashes}");
}

#[tokio::test]
async fn a_crash_during_the_recovery_from_a_crash_loses_nothing_either() {
    for operation in (0..40).step_by(3) {
        let disk = FaultyDisk::default();
        disk.loses_power_after(operation, Half::Nothing);
        let acknowledged = run(&disk, 0).await.unwrap_or_default();
        for tear in [Tear::Cut(0), Tear::Cut(300), Tear::Zeroes(100, 512)] {
            for second in 0..8 {
                for half in [Half::Nothing, Half::Everything] {
                    let found = disk.after_power_loss(tear);
                    found.loses_power_after(second, half);
                    let more = run(&found, 50).await.unwrap_or_default();
                    let acknowledged: Vec<u64> = acknowledged.iter().copied().chain(more).collect();
                    let how = format!("operation {operation}, {tear:?}, then {second}, {half:?} of it");
                    goes_on(&found.after_power_loss(Tear::Cut(0)), &acknowledged, &how).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn what_a_killed_process_wrote_and_a_later_head_counts_survives_a_power_loss() {
    for operation in 0..40 {
        let disk = FaultyDisk::default();
        disk.loses_power_after(operation, Half::Nothing);
        let mut acknowledged = run(&disk, 0).await.unwrap_or_default();
        // The process died, the machine did not: unsynced records are there, and are gone on behind.
        let killed = disk.after_kill();
        acknowledged.extend(run(&killed, 50).await.unwrap());
        let found = killed.after_power_loss(Tear::Cut(0));
        goes_on(&found, &acknowledged, &format!("operation {operation}")).await;
    }
}

#[tokio::test]
async fn tiles_that_were_being_built_when_the_power_failed_are_built_again() {
    let mut torn = 0;
    for operation in (500..).step_by(3) {
        let disk = FaultyDisk::default();
        disk.loses_power_after(operation, Half::Nothing);
        let Some((journal, _)) = try_open(&disk, &settings()).ok() else { continue };
        let mut acknowledged = Vec::new();
        for number in 0..300 {
            if journal.happened(&event(number)).await.is_ok() {
                acknowledged.push(number);
            }
        }
        journal.close().await;
        if !disk.is_off() {
            break;
        }
        for tear in [Tear::Cut(0), Tear::Cut(300), Tear::Zeroes(40, usize::MAX)] {
            let found = disk.after_power_loss(tear);
            torn += u64::from(found.size("tile/0/000").is_ok() && found.size(CHECKPOINT).is_err());
            goes_on(&found, &acknowledged, &format!("operation {operation}, {tear:?}")).await;
        }
    }
    assert!(torn > 3, "{torn}");
}

#[tokio::test]
async fn nothing_is_cut_off_while_a_head_counts_it() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    for number in 0..5 {
        journal.happened(&event(number)).await.unwrap();
    }
    journal.close().await;
    // A bit of an old record rots: what is behind it must not be taken for an unfinished end.
    disk.tamper(&segment::name(0), |bytes| {
        let second = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(1).unwrap().0;
        bytes[second + 1] = 0;
    });
    let before = disk.read(&segment::name(0)).unwrap();
    let error = try_open(&disk, &settings()).unwrap_err();
    assert!(error.to_string().contains("records were lost or removed"), "{error}");
    assert_eq!(disk.read(&segment::name(0)).unwrap(), before);
}

#[tokio::test]
async fn a_segment_that_a_failing_disk_left_without_a_record_is_begun_anew_after_a_restart() {
    for space in [0, 20, 200, 400] {
        let disk = FaultyDisk::default();
        let (journal, _) = open(&disk, &settings());
        disk.suffer(Trouble::Space(space));
        assert!(journal.happened(&event(0)).await.is_err());
        let found = disk.after_kill();
        goes_on(&found, &[], &format!("space {space}")).await;
    }
}
