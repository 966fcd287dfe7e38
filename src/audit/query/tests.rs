//! The index against the log that it is of, and against those who change either.

use std::{fs, path::PathBuf, sync::Arc};

use super::*;
use crate::{
    audit::{Journal, JournalSettings, PUBLIC_KEY, event::Event, note::VerifierKeys, segment_names},
    secrets::{Purpose, Seal, SecretString},
    time::{ManualClock, Timestamp},
};

const START: u64 = 1_800_000_000;

struct Log {
    dir: tempfile::TempDir,
    keys: VerifierKeys,
}

impl Log {
    /// A log of many segments, one record a minute: one event in five is of another kind.
    async fn of(records: u64) -> Self {
        Self::kept(records, false).await
    }

    async fn kept(records: u64, pack: bool) -> Self {
        use base64::Engine as _;
        let dir = tempfile::tempdir().unwrap();
        let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        let mut settings = JournalSettings::new("log", dir.path().to_owned(), SecretString::from(pem));
        settings.segment_bytes = 20_000;
        settings.pack = pack;
        let root = SecretString::from(base64::engine::general_purpose::STANDARD.encode([1; 32]));
        let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
        let clock = ManualClock::starting_at(Timestamp::from_secs(START));
        let (journal, _) = Journal::open(&settings, mac, Arc::new(clock.clone())).unwrap();
        for number in 0..records {
            let event = match number % 5 {
                0 => Event::Exporter { sink: format!("sink-{}", number % 3), problem: None, behind: number },
                _ => Event::PoliciesChanged { policies: [7; 32], generation: number, files: Arc::default() },
            };
            journal.happened(&event).await.unwrap();
            clock.advance(std::time::Duration::from_secs(60));
        }
        assert!(journal.close().await);
        let keys = VerifierKeys::parse(&fs::read_to_string(dir.path().join(PUBLIC_KEY)).unwrap()).unwrap();
        Self { dir, keys }
    }

    fn ask(&self, filter: &Filter, look: Look) -> Result<Page, QueryError> {
        search(self.dir.path(), &self.keys, filter, look, 0, Bounds::records(usize::MAX))
    }

    fn segments(&self) -> Vec<String> {
        segment_names(&crate::audit::storage::Directory::at(self.dir.path().to_owned())).unwrap()
    }

    fn segment(&self, number: usize) -> PathBuf {
        self.dir.path().join(&self.segments()[number])
    }
}

fn positions(page: &Page) -> Vec<u64> {
    page.found.iter().map(|found| found.position).collect()
}

fn filters() -> Vec<Filter> {
    let at = |minute: u64| Some(Timestamp::from_secs(START + 60 * minute));
    vec![
        Filter::default(),
        Filter { action: Some("RECOVERED".into()), ..Filter::default() },
        Filter { action: Some("nothing".into()), ..Filter::default() },
        Filter { since: at(100), until: at(130), ..Filter::default() },
        Filter { since: at(299), ..Filter::default() },
        Filter { until: at(1), ..Filter::default() },
        Filter { text: Some("SINK-2".into()), since: at(50), ..Filter::default() },
        Filter { caller: Some("corp:ann".into()), ..Filter::default() },
        Filter { phase: Some("denial".into()), ..Filter::default() },
    ]
}

#[tokio::test]
async fn the_index_finds_what_reading_everything_finds_and_heads_vouch_for_it() {
    for pack in [false, true] {
        found_as_by_reading(&Log::kept(300, pack).await);
    }
}

fn found_as_by_reading(log: &Log) {
    assert!(log.segments().len() > 4, "{:?}", log.segments());
    for round in ["made", "kept", "made again"] {
        for filter in filters() {
            let (indexed, everywhere) =
                (log.ask(&filter, Look::Indexed).unwrap(), log.ask(&filter, Look::Everywhere).unwrap());
            assert_eq!(indexed, everywhere, "{round}: {filter:?}");
            assert!(indexed.found.iter().all(|found| found.vouched), "{filter:?}");
        }
        match round {
            // The index of what nothing is added to any more was kept by the searches.
            "made" => assert_eq!(refresh(log.dir.path()).unwrap(), 1),
            _ => drop(fs::remove_dir_all(log.dir.path().join(FOLDER))),
        }
    }
    let day = Filter {
        since: Some(Timestamp::from_secs(START + 6_000)),
        until: Some(Timestamp::from_secs(START + 6_300)),
        ..Filter::default()
    };
    assert_eq!(positions(&log.ask(&day, Look::Indexed).unwrap()), (100..105).collect::<Vec<_>>());
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_overlap() {
    let log = Log::of(100).await;
    let filter = Filter { action: Some("policies".into()), ..Filter::default() };
    let (mut from, mut seen) = (Some(0), Vec::new());
    while let Some(position) = from {
        let page =
            search(log.dir.path(), &log.keys, &filter, Look::Indexed, position, Bounds::records(7)).unwrap();
        assert!(page.found.len() <= 7);
        seen.extend(positions(&page));
        from = page.next;
    }
    assert_eq!(seen, positions(&log.ask(&filter, Look::Everywhere).unwrap()));
}

#[tokio::test]
async fn a_page_ends_where_its_bounds_say_and_the_next_goes_on_there() {
    for (pack, look) in [(false, Look::Indexed), (true, Look::Indexed), (false, Look::Everywhere)] {
        let log = Log::kept(150, pack).await;
        for filter in [Filter::default(), Filter { text: Some("sink-2".into()), ..Filter::default() }] {
            let all = log.ask(&filter, Look::Everywhere).unwrap();
            for bounds in [
                Bounds { records: 9, bytes: 1, looked: u64::MAX },
                Bounds { records: 9, bytes: 3_000, looked: 5_000 },
                Bounds { records: 9, bytes: usize::MAX, looked: 1 },
                Bounds { records: usize::MAX, bytes: usize::MAX, looked: 30_000 },
            ] {
                let (mut from, mut seen, mut pages) = (Some(0), Vec::new(), 0);
                while let Some(position) = from {
                    let page = search(log.dir.path(), &log.keys, &filter, look, position, bounds).unwrap();
                    let bytes: usize = page.found.iter().map(|found| found.line.len()).sum();
                    assert!(page.found.len() <= bounds.records);
                    assert!(page.found.len() <= 1 || bytes <= bounds.bytes, "{bounds:?}");
                    assert!(page.next.is_none_or(|next| next > position && next == page.until));
                    pages += 1;
                    seen.extend(positions(&page));
                    (from, pages) = (page.next, pages);
                    if from.is_none() {
                        assert_eq!(page.until, 151, "the event of the end is the last");
                    }
                }
                assert_eq!(seen, positions(&all), "{bounds:?} {look:?}");
                assert!(pages > 1, "{bounds:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_record_that_was_changed_is_not_shown() {
    let log = Log::of(120).await;
    let filter = Filter { action: Some("policies".into()), ..Filter::default() };
    log.ask(&filter, Look::Indexed).unwrap();
    let path = log.segment(1);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"generation\":", "\"generetion\":", 1)).unwrap();
    for look in [Look::Indexed, Look::Everywhere] {
        let error = log.ask(&filter, look).unwrap_err();
        assert!(matches!(error, QueryError::Broken { .. }), "{error}");
    }
    // With a leaf index that fits the change the heads still do not.
    let leaves = path.with_extension("idx");
    fs::remove_file(&leaves).unwrap();
    assert!(log.ask(&filter, Look::Indexed).is_err());
}

#[tokio::test]
async fn an_index_that_lies_shows_nothing_that_is_not_in_the_log() {
    let log = Log::of(60).await;
    assert!(refresh(log.dir.path()).unwrap() > 0);
    let filter = Filter { action: Some("recovered".into()), ..Filter::default() };
    let right = log.ask(&filter, Look::Everywhere).unwrap();
    let folder = log.dir.path().join(FOLDER);
    fs::create_dir_all(&folder).unwrap();
    for name in log.segments() {
        fs::write(folder.join(name.replace(".log", ".rows")), "{\"amlgate_index\":1,\"bytes\":9").unwrap();
    }
    assert_eq!(log.ask(&filter, Look::Indexed).unwrap(), right, "what cannot be read is made anew");
    // One that is of the right form and names others sends whoever believes it to the wrong places; what
    // is found there does not fit, and whoever reads everything is not misled.
    for (name, other) in
        [("policies_changed", "exporter_recover"), ("exporter_recovered", "policies_changedXX")]
    {
        assert_eq!(name.len(), other.len());
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            let at = memchr::memmem::find(&bytes, name.as_bytes());
            if let Some(at) = at {
                bytes[at..at + name.len()].copy_from_slice(other.as_bytes());
                fs::write(&path, bytes).unwrap();
            }
        }
    }
    for action in ["recover", "policies"] {
        let filter = Filter { action: Some(action.into()), ..Filter::default() };
        let (misled, whole) =
            (log.ask(&filter, Look::Indexed).unwrap(), log.ask(&filter, Look::Everywhere).unwrap());
        assert!(misled.found.iter().all(|found| whole.found.contains(found)), "{action}");
        assert!(misled.found.len() < whole.found.len(), "{action}: the index did lie");
    }
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(log.ask(&filter, Look::Indexed).unwrap(), right, "made anew it says what is there");
}

#[tokio::test]
async fn records_behind_the_newest_head_are_marked_and_those_of_others_keys_are_too() {
    let log = Log::of(150).await;
    let heads = log.dir.path().join("heads");
    let text = fs::read_to_string(&heads).unwrap();
    let notes: Vec<&str> = text.split_inclusive("\n\n").collect();
    // A note has an empty line inside.
    fs::write(&heads, notes[..notes.len() - 2].concat()).unwrap();
    let page = log.ask(&Filter::default(), Look::Indexed).unwrap();
    let vouched = page.found.iter().filter(|found| found.vouched).count();
    assert!(vouched > 0 && vouched < page.found.len(), "{vouched}");
    let nobody = search(
        log.dir.path(),
        &VerifierKeys::default(),
        &Filter::default(),
        Look::Indexed,
        0,
        Bounds::records(9),
    )
    .unwrap();
    assert!(nobody.found.iter().all(|found| !found.vouched));
}
