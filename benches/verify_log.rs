//! How many records a second `audit verify` checks, on one core: leaves, tree, heads and tiles.
//!
//! `cargo bench --bench verify_log`. The log is written by the journal in the machine's temporary
//! directory (`TMPDIR`), its records as long as those of requests; what is measured is reading it
//! back from the page cache, packed and not.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench that cannot go on should say so and stop"
)]

use std::{path::Path, sync::Arc, time::Instant};

use amlgate::{
    audit::{
        Journal, JournalSettings, PUBLIC_KEY, event::Event, note::VerifierKeys, storage::Directory, verify,
    },
    secrets::{Purpose, Seal},
    time::SystemClock,
};

const RECORDS: u64 = 200_000;
const WRITERS: u64 = 1_000;

async fn write(directory: &Path, pack: bool) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let settings =
        JournalSettings { pack, ..JournalSettings::new("bench", directory.to_owned(), key.into()) };
    let seal = Seal::new(&["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into()]).unwrap();
    let (journal, _) =
        Journal::open(&settings, seal.mac(Purpose::Thumbprint), Arc::new(SystemClock)).unwrap();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|_| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let problem = "of the length that a request's record has: ".repeat(16);
                for count in 0..RECORDS / WRITERS {
                    let event = Event::ReloadRefused { what: "policies", problem: problem.clone(), count };
                    journal.happened(&event).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(journal.close().await);
}

fn main() {
    // `cargo test --benches` only asks whether it builds and starts.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for pack in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        runtime.block_on(write(directory.path(), pack));
        let keys = std::fs::read_to_string(directory.path().join(PUBLIC_KEY)).unwrap();
        let keys = VerifierKeys::parse(&keys).unwrap();
        let log = Directory::at(directory.path().to_owned());
        for _ in 0..3 {
            let start = Instant::now();
            let whole = verify::verify(&log, "bench", &keys, &[]).unwrap();
            let took = start.elapsed().as_secs_f64();
            assert!(whole.vouched > RECORDS && whole.beyond == 0);
            println!(
                "{}: {:.0} records/s under {} heads, {} tiles",
                if pack { "packed" } else { "as written" },
                whole.vouched as f64 / took,
                whole.heads,
                whole.tiles
            );
        }
    }
}
