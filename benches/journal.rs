//! How many records share one sync, with 1, 16 and 256 writers that each wait for their own.
//!
//! `cargo bench --bench journal`. On the disk of the machine's temporary directory (`TMPDIR`), and on
//! one whose sync takes two milliseconds, as that of a cloud's disk does: a temporary directory in
//! memory syncs for nothing, and then nothing needs to be shared.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a bench that cannot go on should say so and stop"
)]

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use amlgate::{
    audit::{
        Journal, JournalSettings,
        event::Event,
        storage::{Directory, LogFile, Storage},
    },
    secrets::{Purpose, Seal},
    time::SystemClock,
};

const LASTING: Duration = Duration::from_secs(3);

/// A directory that counts its syncs, each of which takes at least so long.
#[derive(Clone)]
struct Counted {
    inner: Directory,
    syncs: Arc<AtomicU64>,
    sync: Duration,
}

struct CountedFile {
    inner: fs::File,
    syncs: Arc<AtomicU64>,
    sync: Duration,
}

impl LogFile for CountedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        LogFile::write(&mut self.inner, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let start = Instant::now();
        LogFile::sync(&mut self.inner)?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        thread::sleep(self.sync.saturating_sub(start.elapsed()));
        Ok(())
    }
}

impl Counted {
    fn file(&self, inner: fs::File) -> CountedFile {
        CountedFile { inner, syncs: Arc::clone(&self.syncs), sync: self.sync }
    }
}

impl Storage for Counted {
    type File = CountedFile;

    fn create(&mut self, name: &str) -> io::Result<CountedFile> {
        let file = self.inner.create(name)?;
        Ok(self.file(file))
    }

    fn append(&mut self, name: &str) -> io::Result<CountedFile> {
        let file = self.inner.append(name)?;
        Ok(self.file(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn folder(&self, name: &str) -> io::Result<Vec<String>> {
        self.inner.folder(name)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.inner.read(name)
    }

    fn read_from(&self, name: &str, offset: u64) -> io::Result<Vec<u8>> {
        self.inner.read_from(name, offset)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.inner.truncate(name, length)
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.inner.replace(name, bytes)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.inner.put(name, bytes)
    }

    fn settle(&mut self) -> io::Result<()> {
        self.inner.settle()
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.inner.size(name)
    }

    fn discard(&mut self, name: &str) -> io::Result<()> {
        self.inner.discard(name)
    }
}

fn open(directory: PathBuf, sync: Duration) -> (Journal, Arc<AtomicU64>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let settings = JournalSettings::new("bench", directory.clone(), key.into());
    let seal = Seal::new(&["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into()]).unwrap();
    let syncs = Arc::new(AtomicU64::new(0));
    let storage = Counted { inner: Directory::at(directory), syncs: Arc::clone(&syncs), sync };
    let thumbprint = seal.mac(Purpose::Thumbprint);
    let (journal, _) = Journal::open_on(storage, &settings, thumbprint, Arc::new(SystemClock), None).unwrap();
    (journal, syncs)
}

/// Records, syncs, and the time that a record waits, in microseconds.
async fn measured(writers: usize, sync: Duration) -> (u64, u64, f64) {
    let directory = tempfile::tempdir().unwrap();
    let (journal, syncs) = open(directory.path().to_owned(), sync);
    let before = syncs.load(Ordering::Relaxed);
    let until = Instant::now() + LASTING;
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let journal = journal.clone();
            tokio::spawn(async move {
                let event = Event::ReloadRefused {
                    what: "policies",
                    problem: "p.yaml:1:1: of the usual length".to_owned(),
                    count: 1,
                };
                let mut written = 0_u64;
                while Instant::now() < until {
                    journal.happened(&event).await.unwrap();
                    written += 1;
                }
                written
            })
        })
        .collect();
    let mut records = 0;
    for task in tasks {
        records += task.await.unwrap();
    }
    let syncs = syncs.load(Ordering::Relaxed) - before;
    assert!(journal.close().await);
    (records, syncs, LASTING.as_secs_f64() * 1e6 * writers as f64 / records as f64)
}

fn main() {
    // `cargo test --benches` only asks whether it builds and starts.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (disk, sync) in [("as it is", Duration::ZERO), ("2 ms a sync", Duration::from_millis(2))] {
        for writers in [1, 16, 256, 1_000] {
            let (records, syncs, waits) = runtime.block_on(measured(writers, sync));
            println!(
                "disk {disk}, {writers} writers: {:.1} records per sync, {:.0} records/s, each waits {waits:.0} us",
                records as f64 / syncs as f64,
                records as f64 / LASTING.as_secs_f64()
            );
        }
    }
}
