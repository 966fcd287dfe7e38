//! The verbs on logs of a fleet.

mod elsewhere;

use std::sync::Arc;

use super::*;
use crate::{
    audit::{Journal, JournalSettings, event::Event, query::Bounds},
    secrets::{Purpose, Seal, SecretString},
    time::{ManualClock, Timestamp},
};

/// A log of `count` policy changes beside others in `fleet`.
fn log(fleet: &Path, name: &str, count: u64) -> PathBuf {
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    log_under(fleet, name, count, &pem)
}

/// The same, under a key that is known, and going on with what is there.
fn log_under(fleet: &Path, name: &str, count: u64, pem: &str) -> PathBuf {
    log_of(fleet, name, 0..count, pem)
}

/// The same with other numbers in it.
fn log_of(fleet: &Path, name: &str, numbers: std::ops::Range<u64>, pem: &str) -> PathBuf {
    let directory = fleet.join(name);
    let settings = JournalSettings::new(name, directory.clone(), SecretString::from(pem.to_owned()));
    let root = SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (journal, _) = Journal::open(&settings, mac, clock).unwrap();
        for generation in numbers {
            let event = Event::PoliciesChanged { policies: [1; 32], generation, files: Arc::default() };
            journal.happened(&event).await.unwrap();
        }
        assert!(journal.close().await);
    });
    directory
}

fn asked(directories: &[&PathBuf], keys: &[&PathBuf], heads: &[&PathBuf]) -> Verify {
    let owned = |paths: &[&PathBuf]| paths.iter().map(|p| (*p).clone()).collect();
    Verify {
        directories: owned(directories),
        keys: owned(keys),
        heads: owned(heads),
        ends: Vec::new(),
        witnesses: Vec::new(),
        required: None,
        kept: Vec::new(),
        archive: Vec::new(),
        proofs: Vec::new(),
        output: Output::Json,
    }
}

fn problems(args: &Verify) -> Vec<String> {
    verdicts(args).unwrap().0.into_iter().filter_map(|v| v.problem).collect()
}

#[test]
fn a_fleet_is_whole_only_with_every_log_that_has_a_key_or_a_head() {
    let fleet = tempfile::tempdir().unwrap();
    let (a, b) = (log(fleet.path(), "gate-a", 3), log(fleet.path(), "gate-b", 4));
    let keys = fleet.path().join("fleet.pub");
    let both = [&a, &b].map(|d| fs::read_to_string(d.join(PUBLIC_KEY)).unwrap()).concat();
    fs::write(&keys, format!("# the fleet\n{both}")).unwrap();

    let (found, _) = verdicts(&asked(&[&a, &b], &[&keys], &[])).unwrap();
    let vouched: Vec<_> = found.iter().map(|v| v.whole.as_ref().unwrap().vouched).collect();
    assert_eq!(vouched, [4, 5]);
    let missing = problems(&asked(&[&a], &[&keys], &[]));
    assert!(
        matches!(&missing[..], [one] if one.contains("neither its directory nor its signed end")),
        "{missing:?}"
    );
    let head = b.join("heads");
    assert_eq!(problems(&asked(&[&a], &[], &[&head])).len(), 1);
    assert!(problems(&asked(&[&a, &b], &[&keys], &[&head])).is_empty());
}

#[test]
fn a_log_under_another_name_or_given_twice_is_a_finding() {
    let fleet = tempfile::tempdir().unwrap();
    let a = log(fleet.path(), "gate-a", 3);
    assert_eq!(problems(&asked(&[&a, &a], &[], &[])).len(), 1);
    let b = log(fleet.path(), "gate-b", 3);
    let key_of_b = b.join(PUBLIC_KEY);
    assert_eq!(problems(&asked(&[&a], &[&key_of_b], &[])).len(), 2, "no key of a, no log of b");
    let empty = fleet.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(problems(&asked(&[&empty], &[], &[])).len(), 1);
    assert!(verdicts(&asked(&[&fleet.path().join("nowhere")], &[], &[])).is_err());
}

#[test]
fn a_changed_record_fails_with_its_segment_and_position() {
    let fleet = tempfile::tempdir().unwrap();
    let a = log(fleet.path(), "gate-a", 5);
    let segment = a.join("00000000000000000000.log");
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replace("\"generation\":2", "\"generation\":9")).unwrap();
    let found = problems(&asked(&[&a], &[], &[]));
    assert!(found[0].contains("00000000000000000000.log") && found[0].contains("position 2"), "{found:?}");
    assert_eq!(run(Args::Verify(asked(&[&a], &[], &[]))), exit::FINDING);
}

#[test]
fn a_query_fits_what_is_asked_and_a_missing_log_is_unreachable() {
    let fleet = tempfile::tempdir().unwrap();
    let a = log(fleet.path(), "gate-a", 5);
    let keys = VerifierKeys::parse(&fs::read_to_string(a.join(PUBLIC_KEY)).unwrap()).unwrap();
    let filter = crate::audit::query::Filter { action: Some("policies".into()), ..Default::default() };
    let page =
        crate::audit::query::search(&a, &keys, &filter, Default::default(), 0, Bounds::records(3)).unwrap();
    let seen: Vec<_> = page
        .found
        .into_iter()
        .map(|f| {
            Line { record: crate::audit::read::Record { position: f.position, line: f.line }, value: f.value }
                .row()
        })
        .collect();
    assert_eq!((page.next, seen.len()), (Some(3), 3));
    assert!(
        seen[0].contains("policies_changed") && seen[0].starts_with("2027-01-15 08:00:00"),
        "{}",
        seen[0]
    );
    let nowhere = fleet.path().join("nowhere");
    assert!(
        crate::audit::query::search(&nowhere, &keys, &filter, Default::default(), 0, Bounds::records(3))
            .is_err()
    );
    let tail = Tail { directory: nowhere, count: 3, follow: false, output: Output::Table };
    assert_eq!(run(Args::Tail(tail)), exit::unreachable());
}

/// What the verb does is what its command line says.
fn amlgate(line: &[&str]) -> ExitCode {
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        args: Args,
    }
    run(<Line as clap::Parser>::try_parse_from([&["audit"], line].concat()).unwrap().args)
}

#[test]
fn a_log_that_was_ended_need_not_be_there_and_is_not_gone_on_with() {
    let fleet = tempfile::tempdir().unwrap();
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let (a, b) = (log(fleet.path(), "gate-a", 3), log_under(fleet.path(), "gate-b", 4, &pem));
    let (key, keys, end) = (fleet.path().join("b.key"), fleet.path().join("fleet.pub"), b.join("end"));
    let both = [&a, &b].map(|d| fs::read_to_string(d.join(PUBLIC_KEY)).unwrap()).concat();
    fs::write(&keys, both).unwrap();
    fs::write(&key, &pem).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    assert_eq!(amlgate(&["end", &path(&b), "--signing-key", &path(&key)]), exit::DONE);
    // Its directory alone, or its end alone: both say that it is all there.
    assert!(problems(&asked(&[&a, &b], &[&keys], &[])).is_empty());
    let ended = Verify { ends: vec![end.clone()], ..asked(&[&a], &[&keys], &[]) };
    assert!(problems(&ended).is_empty());
    assert_eq!(
        problems(&Verify { ends: vec![end.clone()], ..asked(&[&a], &[&a.join(PUBLIC_KEY)], &[]) }).len(),
        1
    );
    // Nobody goes on with it, and whoever does all the same is found.
    assert_ne!(amlgate(&["end", &path(&b), "--signing-key", &path(&key)]), exit::DONE);
    let kept = fs::read(&end).unwrap();
    fs::remove_file(&end).unwrap();
    log_under(fleet.path(), "gate-b", 1, &pem);
    fs::write(&end, kept).unwrap();
    let found = problems(&asked(&[&b], &[], &[]));
    assert!(found[0].contains("the log was ended at 7 records"), "{found:?}");
}

#[test]
fn a_pack_of_evidence_is_made_and_checked_and_one_that_was_changed_is_a_finding() {
    let fleet = tempfile::tempdir().unwrap();
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let a = log_under(fleet.path(), "gate-a", 3, &pem);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let key = fleet.path().join("a.key");
    fs::write(&key, &pem).unwrap();
    let (pack, keys) = (fleet.path().join("pack"), path(&a.join(PUBLIC_KEY)));
    let make = |more: &[&str]| {
        let (log, key, out) = (path(&a), path(&key), path(&pack));
        let line = ["evidence", "--log", &log, "--signing-key", &key, "--out", &out];
        amlgate(&[&line[..], more].concat())
    };
    let period = ["--from", "2027-01-01", "--to", "2027-02-01T00:00:00Z"];
    assert_eq!(make(&["--from", "2027-02-01", "--to", "2027-02-01"]), exit::usage());
    assert_eq!(make(&[&period[..], &["--control", "cc6", "--control", "A.8.15"]].concat()), exit::DONE);
    assert_ne!(make(&period), exit::DONE, "what is there is not overwritten");
    let verify = |pack: &Path| amlgate(&["evidence", "verify", &path(pack), "--key", &keys]);
    assert_eq!(verify(&pack), exit::DONE);
    let manifest = pack.join("manifest.json");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap() + " ").unwrap();
    assert_eq!(verify(&pack), exit::FINDING);
    assert_eq!(verify(&fleet.path().join("nowhere")), exit::unreachable());
}

#[test]
fn what_is_proven_is_checked_without_the_log() {
    let fleet = tempfile::tempdir().unwrap();
    let a = log(fleet.path(), "gate-a", 300);
    let storage = Directory::at(a.clone());
    let proof = fleet.path().join("a.tlog-proof");
    let line = Reader::from(storage, 257).unwrap().record().unwrap().unwrap().line;
    let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    for id in ["257", value["metadata"]["uid"].as_str().unwrap()] {
        fs::write(&proof, prove::tests::proven(&a, id)).unwrap();
        let keys = a.join(PUBLIC_KEY);
        assert_eq!(amlgate(&["verify", "--proof", &path(&proof), "--key", &path(&keys)]), exit::DONE);
        let other = log(fleet.path(), "gate-b", 1).join(PUBLIC_KEY);
        assert_eq!(amlgate(&["verify", "--proof", &path(&proof), "--key", &path(&other)]), exit::FINDING);
        fs::remove_dir_all(fleet.path().join("gate-b")).unwrap();
    }
    assert_eq!(amlgate(&["prove", &path(&a), "no-such-id"]), exit::FINDING);
    assert_eq!(amlgate(&["prove", &path(&a), "100000"]), exit::FINDING);
}

#[test]
fn a_log_is_whole_only_with_as_many_witnesses_as_are_required() {
    use crate::audit::{COSIGNED, tiles::CHECKPOINT, witness::Cosigner};
    let fleet = tempfile::tempdir().unwrap();
    let a = log(fleet.path(), "gate-a", 5);
    let pem = || rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let [one, two] = ["one", "two"].map(|name| Cosigner::from_pem(name, pem().as_bytes()).unwrap());
    let keys = fleet.path().join("witnesses.pub");
    fs::write(&keys, format!("{}\n{}\n", one.verifier(), two.verifier())).unwrap();
    let checkpoint = fs::read_to_string(a.join(CHECKPOINT)).unwrap();
    let text = format!("{}\n", checkpoint.split_once("\n\n").unwrap().0);
    let asked = |required| {
        let witnesses = vec![keys.clone()];
        problems(&Verify { witnesses, required: Some(required), ..asked(&[&a], &[], &[]) })
    };
    assert_eq!(asked(1).len(), 1, "nobody vouched yet");
    let line = one.cosign(&text, Timestamp::from_secs(1_800_000_000));
    fs::write(a.join(COSIGNED), format!("{checkpoint}{line}{line}")).unwrap();
    assert!(asked(1).is_empty());
    assert_eq!(asked(2).len(), 1, "one is not two, however often it signs");
    let more = two.cosign(&text, Timestamp::from_secs(1_800_000_000));
    fs::write(a.join(COSIGNED), format!("{checkpoint}{line}{more}")).unwrap();
    assert!(asked(2).is_empty());
    // A log that somebody wrote anew does not reach what was witnessed.
    let kept = fs::read(a.join(COSIGNED)).unwrap();
    fs::remove_dir_all(&a).unwrap();
    log(fleet.path(), "gate-a", 2);
    fs::write(a.join(COSIGNED), kept).unwrap();
    assert_eq!(asked(1).len(), 1);
}
