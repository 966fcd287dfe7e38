//! `kill -9` in a loop under load: what was acknowledged is there, and the log goes on and says so.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::*;
use crate::{audit::storage::Directory, time::SystemClock};

const NAME: &str =
    "audit::tests::killed::no_acknowledged_record_is_lost_when_the_process_is_killed_again_and_again";
const ROLE: &str = "AMLGATE_TEST_WRITES_IN";
const ROUNDS: u64 = 12;

/// Writes for ever, many at once, and prints the number of each record that is durable.
fn write(directory: &Path) {
    let from: u64 = std::env::var("AMLGATE_TEST_FROM").unwrap().parse().unwrap();
    let key = std::fs::read_to_string(directory.with_extension("key")).unwrap();
    let settings = JournalSettings {
        segment_bytes: 40_000,
        ..JournalSettings::new("amlgate-test", directory.to_owned(), SecretString::from(key))
    };
    let root = SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (journal, _) = Journal::open(&settings, mac, Arc::new(SystemClock)).unwrap();
    runtime.block_on(async {
        let heads = journal.clone();
        tokio::spawn(async move { heads.sign_heads(Duration::from_millis(5)).await });
        let tasks: Vec<_> = (0..32)
            .map(|task| {
                let journal = journal.clone();
                tokio::spawn(async move {
                    for number in (0..).map(|n| from + n * 32 + task) {
                        journal.happened(&event(number)).await.unwrap();
                        writeln!(std::io::stdout().lock(), "acknowledged {number}").unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn no_acknowledged_record_is_lost_when_the_process_is_killed_again_and_again() {
    if let Some(directory) = std::env::var_os(ROLE) {
        return write(Path::new(&directory));
    }
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("log");
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    std::fs::write(directory.with_extension("key"), pem).unwrap();
    let mut acknowledged = HashSet::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(ROLE, &directory)
            .env("AMLGATE_TEST_FROM", (round * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Killed in another place each time, as far as that can be chosen.
        let enough = 40 + 137 * round as usize % 400;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let number = |line: &str| line.rsplit_once("acknowledged ").and_then(|(_, n)| n.parse::<u64>().ok());
        let mut count = 0;
        while count < enough {
            let line = lines.next().expect("it ended by itself").unwrap();
            count += number(&line).map_or(0, |n| usize::from(acknowledged.insert(n)));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts too, but for the last line, which may be cut.
        let mut rest = lines.map_while(Result::ok).collect::<Vec<_>>();
        rest.pop();
        acknowledged.extend(rest.iter().filter_map(|line| number(line)));
        let there: HashSet<u64> = generations_of(&directory).into_iter().collect();
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
        let keys = std::fs::read_to_string(directory.join(PUBLIC_KEY)).unwrap();
        let keys = note::VerifierKeys::parse(&keys).unwrap();
        match verify::verify(&Directory::at(directory.clone()), "amlgate-test", &keys, &[]) {
            Ok(_) | Err(Broken::NoHead { .. }) => {}
            Err(broken) => panic!("round {round}: {broken}"),
        }
    }
    let recovered = events_of(&directory, "recovered");
    assert_eq!(recovered, ROUNDS as usize - 1, "each start behind a kill says so");
}

fn each_record(directory: &Path) -> impl Iterator<Item = serde_json::Value> {
    let mut reader = read::Reader::new(Directory::at(directory.to_owned()));
    std::iter::from_fn(move || reader.record().unwrap())
        .filter_map(|record| serde_json::from_slice(&record.line).ok())
}

fn generations_of(directory: &Path) -> Vec<u64> {
    each_record(directory).filter_map(|r| r.pointer("/unmapped/amlgate/generation")?.as_u64()).collect()
}

fn events_of(directory: &Path, event: &str) -> usize {
    each_record(directory).filter(|r| r["unmapped"]["amlgate"]["event"] == event).count()
}
