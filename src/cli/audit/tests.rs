//! The verbs on logs of a fleet.

use std::sync::Arc;

use super::*;
use crate::{
    audit::{Journal, JournalSettings, event::Event},
    secrets::{Purpose, Seal, SecretString},
    time::{ManualClock, Timestamp},
};

/// A log of `count` policy changes beside others in `fleet`.
fn log(fleet: &Path, name: &str, count: u64) -> PathBuf {
    let directory = fleet.join(name);
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let settings = JournalSettings::new(name, directory.clone(), SecretString::from(pem));
    let root = SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
    let clock = Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (journal, _) = Journal::open(&settings, mac, clock).unwrap();
        for generation in 0..count {
            journal.happened(&Event::PoliciesChanged { policies: [1; 32], generation }).await.unwrap();
        }
        assert!(journal.close().await);
    });
    directory
}

fn asked(directories: &[&PathBuf], keys: &[&PathBuf], heads: &[&PathBuf]) -> Verify {
    let owned = |paths: &[&PathBuf]| paths.iter().map(|p| (*p).clone()).collect();
    Verify { directories: owned(directories), keys: owned(keys), heads: owned(heads), output: Output::Json }
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
    assert!(matches!(&missing[..], [one] if one.contains("not among those given")), "{missing:?}");
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
    let mut seen = Vec::new();
    let done = each(&a, Reader::new, |line| {
        seen.push(line.row());
        Ok(seen.len() < 3)
    });
    assert_eq!((done, seen.len()), (exit::DONE, 3));
    assert!(
        seen[0].contains("policies_changed") && seen[0].starts_with("2027-01-15 08:00:00"),
        "{}",
        seen[0]
    );
    let nowhere = fleet.path().join("nowhere");
    assert_eq!(each(&nowhere, Reader::new, |_| Ok(true)), exit::unreachable());
    let tail = Tail { directory: nowhere, count: 3, follow: false, output: Output::Table };
    assert_eq!(run(Args::Tail(tail)), exit::unreachable());
}
