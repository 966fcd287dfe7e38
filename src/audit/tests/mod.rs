//! The journal against a disk that fails, and the verifier against an editor.

mod bodies;
mod crashes;
mod golden;
mod heads;
mod killed;
mod mutations;
mod recalled;
mod records;
mod requests;
mod tiled;

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    event::Event,
    storage::faulty::{FaultyDisk, Tear, Trouble},
    verify::{Broken, Whole},
    *,
};
use crate::{
    audit::storage::Storage,
    secrets::{Purpose, Seal, SecretString},
    time::{ManualClock, Timestamp},
};

fn settings() -> JournalSettings {
    static KEY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let pem = KEY.get_or_init(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem());
    JournalSettings::new("amlgate-test", "unused".into(), SecretString::from(pem.clone()))
}

fn open(disk: &FaultyDisk, settings: &JournalSettings) -> (Journal, Recovery) {
    try_open(disk, settings).unwrap()
}

fn try_open(disk: &FaultyDisk, settings: &JournalSettings) -> Result<(Journal, Recovery), OpenError> {
    open_at(disk, settings, Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000))))
}

fn open_at(
    disk: &FaultyDisk,
    settings: &JournalSettings,
    clock: Arc<ManualClock>,
) -> Result<(Journal, Recovery), OpenError> {
    use base64::Engine as _;
    let root = SecretString::from(base64::engine::general_purpose::STANDARD.encode([1; 32]));
    let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
    Journal::open_on(disk.clone(), settings, mac, clock, None)
}

fn key(disk: &FaultyDisk) -> note::VerifierKeys {
    let text = String::from_utf8(disk.read(segment::PUBLIC_KEY).unwrap()).unwrap();
    note::VerifierKeys::parse(&text).unwrap()
}

fn verified_by(disk: &FaultyDisk, keys: &note::VerifierKeys, further: &[String]) -> Result<Whole, Broken> {
    verify::verify(disk, "amlgate-test", keys, further)
}

fn verified(disk: &FaultyDisk) -> Result<Whole, Broken> {
    verified_by(disk, &key(disk), &[])
}

fn event(number: u64) -> Event {
    Event::PoliciesChanged { policies: [7; 32], generation: number, files: Arc::default() }
}

/// All records of a log, in their order.
fn records(disk: &FaultyDisk) -> Vec<serde_json::Value> {
    let mut reader = read::Reader::new(disk.clone());
    std::iter::from_fn(|| reader.record().unwrap())
        .map(|record| serde_json::from_slice(&record.line).unwrap())
        .collect()
}

/// `phase` and `ending` of the records of requests, and `event` of the others.
fn story(disk: &FaultyDisk) -> Vec<String> {
    let word = |own: &serde_json::Value, key: &str| own[key].as_str().map(str::to_owned);
    let tell = |record: serde_json::Value| {
        let own = &record["unmapped"]["amlgate"];
        word(own, "ending").or_else(|| word(own, "phase")).or_else(|| word(own, "event")).unwrap()
    };
    records(disk).into_iter().map(tell).collect()
}

/// The generations in a log, in their order.
fn generations(disk: &FaultyDisk) -> Vec<u64> {
    let mut found = Vec::new();
    for name in &segment_names(disk).unwrap() {
        let bytes = segment::read(disk, name).unwrap();
        let (_, leaves, _) = segment::split(&bytes).unwrap();
        for leaf in leaves {
            let value: serde_json::Value = serde_json::from_slice(leaf).unwrap();
            found.extend(value.pointer("/unmapped/amlgate/generation").and_then(serde_json::Value::as_u64));
        }
    }
    found
}

#[tokio::test]
async fn a_closed_log_is_whole_and_vouched_for_to_its_end() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    for i in 0..10 {
        journal.happened(&event(i)).await.unwrap();
    }
    assert!(journal.close().await);
    let whole = verified(&disk).unwrap();
    assert_eq!((whole.vouched, whole.beyond), (11, 0));
    assert_eq!(generations(&disk), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_log_goes_on_after_a_restart_across_segments() {
    let disk = FaultyDisk::default();
    let small = JournalSettings { segment_bytes: 2_000, ..settings() };
    for start in 0..5 {
        let (journal, _) = open(&disk, &small);
        for i in 0..10 {
            journal.happened(&event(start * 10 + i)).await.unwrap();
        }
        journal.close().await;
    }
    assert!(disk.list().unwrap().len() > 8);
    assert_eq!(verified(&disk).unwrap().vouched, 55);
    assert_eq!(generations(&disk), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_torn_end_is_cut_off_and_said() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    journal.happened(&event(0)).await.unwrap();
    disk.tamper(&segment::name(0), |bytes| bytes.extend_from_slice(b"{\"half\":"));
    let found = disk.after_power_loss(Tear::Cut(usize::MAX));
    let (journal, recovery) = open(&found, &settings());
    assert_eq!(recovery.torn_bytes, 8);
    journal.close().await;
    let log = String::from_utf8(found.read(&segment::name(1)).unwrap()).unwrap();
    assert!(log.contains("\"event\":\"recovered\"") && log.contains("\"torn_bytes\":8"), "{log}");
    verified(&found).unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_without_a_restart() {
    for trouble in
        [Trouble::Space(100), Trouble::Space(0), Trouble::ShortWrites, Trouble::OneSync, Trouble::Dead]
    {
        let disk = FaultyDisk::default();
        let (journal, _) = open(&disk, &settings());
        journal.happened(&event(0)).await.unwrap();
        disk.suffer(trouble);
        assert!(journal.happened(&event(1)).await.is_err(), "{trouble:?}");
        assert!(matches!(journal.condition(), Condition::Failing { .. }), "{trouble:?}");
        disk.suffer(Trouble::None);
        journal.happened(&event(2)).await.unwrap();
        assert_eq!(journal.condition(), Condition::Healthy, "{trouble:?}");
        assert!(journal.close().await);
        assert_eq!(generations(&disk), [0, 2], "{trouble:?}: what was refused is not there");
        verified(&disk).unwrap();
    }
}

#[tokio::test]
async fn a_record_nobody_waits_for_survives_a_failing_disk() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    journal.happened(&event(0)).await.unwrap();
    disk.suffer(Trouble::Dead);
    journal.refused("192.0.2.1".parse().unwrap(), "no token");
    journal.sign_head();
    assert!(journal.happened(&event(1)).await.is_err());
    disk.suffer(Trouble::None);
    assert!(journal.close().await);
    let log: Vec<_> = disk.list().unwrap().iter().flat_map(|n| disk.read(n).unwrap()).collect();
    assert!(String::from_utf8_lossy(&log).contains("\"reason\":\"no token\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_their_syncs() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    let tasks: Vec<_> = (0..256)
        .map(|i| {
            let journal = journal.clone();
            tokio::spawn(async move { journal.happened(&event(i)).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(disk.syncs() <= 257, "never more than one sync a record");
    let mut found = generations(&disk);
    found.sort_unstable();
    assert_eq!(found, (0..256).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_log_shorter_than_its_newest_head_is_not_gone_on_with() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    journal.happened(&event(0)).await.unwrap();
    journal.close().await;
    disk.tamper(&segment::name(0), |bytes| {
        let cut = bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
        bytes.truncate(cut);
    });
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1)));
    use base64::Engine as _;
    let root = SecretString::from(base64::engine::general_purpose::STANDARD.encode([1; 32]));
    let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
    let error = Journal::open_on(disk.clone(), &settings(), mac, clock, None).unwrap_err();
    assert!(error.to_string().contains("records were lost or removed"), "{error}");
    assert!(matches!(verified(&disk), Err(Broken::Missing { .. })));
}

#[tokio::test]
async fn a_head_kept_elsewhere_finds_a_log_that_was_begun_anew() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    for i in 0..5 {
        journal.happened(&event(i)).await.unwrap();
    }
    journal.close().await;
    let kept = String::from_utf8(disk.read(segment::HEADS).unwrap()).unwrap();
    let kept = kept.trim_end_matches('\n').to_owned() + "\n";
    verified_by(&disk, &key(&disk), std::slice::from_ref(&kept)).unwrap();

    let forged = FaultyDisk::default();
    let (journal, _) = open(&forged, &settings());
    for i in 0..9 {
        journal.happened(&event(i + 100)).await.unwrap();
    }
    journal.close().await;
    verified(&forged).unwrap();
    assert!(matches!(verified_by(&forged, &key(&forged), &[kept]), Err(Broken::Changed { .. })));
}

fn sample() -> FaultyDisk {
    static SAMPLE: std::sync::OnceLock<FaultyDisk> = std::sync::OnceLock::new();
    SAMPLE
        .get_or_init(|| {
            let disk = FaultyDisk::default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let small = JournalSettings { segment_bytes: 1_500, pack: false, ..settings() };
                let (journal, _) = open(&disk, &small);
                for i in 0..20 {
                    journal.happened(&event(i)).await.unwrap();
                    if i % 5 == 0 {
                        journal.sign_head();
                    }
                }
                assert!(journal.close().await);
            });
            disk
        })
        .after_power_loss(Tear::Cut(usize::MAX))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn every_edit_of_a_vouched_log_is_found(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), edit in 0..6_u8, with in any::<u8>()) {
        let disk = sample();
        let names: Vec<_> = disk.list().unwrap().into_iter().filter(|n| segment::first_of(n).is_some()).collect();
        let name = which.get(&names).clone();
        let original = disk.read(&name).unwrap();
        let last = Some(&name) == names.last();
        disk.tamper(&name, |bytes| {
            let place = at.index(bytes.len());
            let lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            let line = 1 + at.index(lines.len() - 1);
            match edit {
                0 => bytes[place] ^= with | 1,
                1 => drop(bytes.remove(place)),
                2 => bytes.insert(place, with),
                3 => bytes.truncate(place),
                4 => *bytes = lines.iter().enumerate().filter(|(i, _)| *i != line).flat_map(|(_, l)| l.clone()).collect(),
                _ => {
                    let mut lines = lines;
                    let other = 1 + usize::from(with) % (lines.len() - 1);
                    lines.swap(line, other);
                    *bytes = lines.concat();
                }
            }
        });
        let changed = disk.read(&name).unwrap();
        // A newline taken from, or something added behind, the last line of the last segment is a torn end.
        let harmless = changed == original || (last && changed.len() >= original.len() && changed.starts_with(&original));
        if !harmless {
            prop_assert!(verified(&disk).is_err(), "{} edit {}", name, edit);
        }
    }

    #[test]
    fn every_edit_of_the_signed_heads_is_found_or_vouches_for_less(at in any::<prop::sample::Index>(), with in 1..=255_u8) {
        let disk = sample();
        let before = verified(&disk).unwrap();
        disk.tamper(segment::HEADS, |bytes| {
            let place = at.index(bytes.len());
            bytes[place] ^= with;
        });
        if let Ok(after) = verified(&disk) {
            // Only separators and unused bits of base64 can be touched without breaking a signature.
            prop_assert!(after.vouched <= before.vouched);
        }
    }
}

#[test]
fn the_record_that_was_changed_is_named() {
    let names = segment_names(&sample()).unwrap();
    for name in &names {
        let first = segment::first_of(name).unwrap();
        let whole = sample().read(name).unwrap();
        let lines: Vec<_> = whole.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        for line in 1..lines.len() {
            let disk = sample();
            let mut changed = lines.clone();
            let time = changed[line].windows(6).position(|w| w == b"\"time\"").unwrap();
            changed[line][time + 8] ^= 1;
            disk.tamper(name, |bytes| *bytes = changed.concat());
            let expected = first + line as u64 - 1;
            match verified(&disk) {
                Err(Broken::Record { name: found, position }) => {
                    assert_eq!((&found, position), (name, expected))
                }
                other => panic!("{name} {line}: {other:?}"),
            }
            // Whoever changes the index too hides the place, not the change.
            disk.tamper(&segment::index_of(name), |bytes| bytes.fill(7));
            assert!(verified(&disk).is_err(), "{name} {line}");
            disk.remove(&segment::index_of(name));
            assert!(matches!(verified(&disk), Err(Broken::Changed { .. })), "{name} {line}");
        }
    }
}

#[test]
fn an_index_says_where_each_record_is() {
    let disk = sample();
    for name in segment_names(&disk).unwrap() {
        let (log, index) = (disk.read(&name).unwrap(), disk.read(&segment::index_of(&name)).unwrap());
        let (_, leaves, _) = segment::split(&log).unwrap();
        assert_eq!(index.len(), leaves.len() * 40);
        for (entry, leaf) in index.chunks_exact(40).zip(leaves) {
            let offset = u64::from_le_bytes(entry[..8].try_into().unwrap()) as usize;
            assert!(log[offset..].starts_with(leaf));
        }
    }
}

#[test]
fn a_whole_segment_that_is_gone_is_found() {
    let names: Vec<_> =
        sample().list().unwrap().into_iter().filter(|n| segment::first_of(n).is_some()).collect();
    for gone in &names {
        let disk = sample();
        let mut rest = FaultyDisk::default();
        for name in disk.list().unwrap().iter().filter(|n| *n != gone) {
            rest.replace(name, &disk.read(name).unwrap()).unwrap();
        }
        assert!(verified_by(&rest, &key(&disk), &[]).is_err(), "{gone}");
    }
}

#[tokio::test]
async fn heads_are_signed_at_their_interval() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    journal.happened(&event(0)).await.unwrap();
    journal.sign_head();
    // A head is signed behind the batch that it came with: before the next one is durable.
    journal.happened(&event(1)).await.unwrap();
    journal.happened(&event(2)).await.unwrap();
    let whole = verified(&disk).unwrap();
    assert!(whole.vouched >= 1 && whole.vouched + whole.beyond == 3, "{whole:?}");
}
