//! Exporters against receivers over real sockets: order, restarts, refusals, waits.

mod delivery;
mod receivers;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{body::Bytes, extract::State, response::Response as Answer};
use http::{HeaderMap, Uri};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    audit::{Journal, JournalSettings, event::Event},
    net::{Connector, ConnectorSettings, Destination},
    secrets::{Purpose, Seal, SecretString},
    time::{Clock as _, ManualClock, SharedClock, Timestamp},
};

/// A gate's journal, and what exporters of it need.
struct Gate {
    dir: tempfile::TempDir,
    journal: Journal,
    clock: ManualClock,
}

fn key() -> SecretString {
    static KEY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let pem = KEY.get_or_init(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem());
    SecretString::from(pem.clone())
}

impl Gate {
    fn start() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    fn over(dir: tempfile::TempDir) -> Self {
        use base64::Engine as _;
        let root = SecretString::from(base64::engine::general_purpose::STANDARD.encode([1; 32]));
        let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
        let clock = ManualClock::starting_at(Timestamp::from_secs(1_800_000_000));
        let mut settings = JournalSettings::new("log", dir.path().to_owned(), key());
        settings.segment_bytes = 8_000;
        let (journal, _) = Journal::open(&settings, mac, Arc::new(clock.clone())).unwrap();
        Self { dir, journal, clock }
    }

    async fn record(&self, numbers: std::ops::Range<u64>) {
        for generation in numbers {
            let event = Event::PoliciesChanged { policies: [7; 32], generation, files: Arc::default() };
            self.journal.happened(&event).await.unwrap();
        }
    }

    fn shared_clock(&self) -> SharedClock {
        Arc::new(self.clock.clone())
    }

    fn exporter(&self, sink: impl Sink + 'static, start: Start) -> Exporter {
        let settings = ExporterSettings {
            name: "siem".into(),
            origin: "log".into(),
            directory: self.dir.path().to_owned(),
            start,
        };
        Exporter::open(settings, Box::new(sink), self.journal.clone(), self.shared_clock()).unwrap()
    }

    /// Runs an exporter; told to stop, it exports what is left.
    fn run(&self, sink: impl Sink + 'static) -> Running {
        let stop = CancellationToken::new();
        let exporter = self.exporter(sink, Start::Beginning);
        let status = exporter.status();
        Running { task: tokio::spawn(exporter.run(stop.clone())), stop, status }
    }

    fn receiver(&self, stand_in: &StandIn, target: &str) -> Receiver {
        let uri: Uri = format!("http://{}{target}", stand_in.address).parse().unwrap();
        let to = Destination::of(&uri).unwrap();
        Receiver::new(connector(), to, target.to_owned(), self.shared_clock())
    }

    /// Lets time pass in small steps until something comes.
    async fn pass_until<T>(&self, mut came: impl FnMut() -> Option<T>) -> T {
        loop {
            if let Some(came) = came() {
                return came;
            }
            self.clock.advance(Duration::from_millis(50));
            // Other tasks and the sockets have their turn; no time is waited for.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        }
    }

    /// Waits until the log has so many records.
    async fn recorded(&self, count: u64) {
        self.journal.durable().wait_for(|durable| *durable >= count).await.unwrap();
    }

    fn dead(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("sinks/siem.dead")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `event` of each record of the log's own part.
    fn events(&self) -> Vec<String> {
        let mut reader =
            crate::audit::read::Reader::new(crate::audit::storage::Directory::at(self.dir.path().to_owned()));
        std::iter::from_fn(|| reader.record().unwrap())
            .map(|record| serde_json::from_slice::<Value>(&record.line).unwrap())
            .map(|record| record["unmapped"]["amlgate"]["event"].as_str().unwrap().to_owned())
            .collect()
    }
}

struct Running {
    task: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
    status: Arc<SinkStatus>,
}

impl Running {
    async fn finish(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// As a crash would.
    async fn abort(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

fn connector() -> Connector {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Connector::new(ConnectorSettings::default()).unwrap()
}

/// What a receiver got.
#[derive(Debug)]
struct Got {
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The positions of a batch of CloudEvents, or of one.
    fn positions(&self) -> Vec<u64> {
        let body = self.json();
        let events = body.as_array().map_or(std::slice::from_ref(&body), Vec::as_slice);
        events.iter().map(|event| event["id"].as_str().unwrap().parse().unwrap()).collect()
    }
}

type Script = Box<dyn FnMut(&Got) -> Option<Answer> + Send>;

/// A receiver that answers as its script says; without an answer it keeps the request waiting.
struct StandIn {
    address: SocketAddr,
    got: mpsc::UnboundedReceiver<Got>,
    _stop: DropGuard,
}

impl StandIn {
    async fn start(script: impl FnMut(&Got) -> Option<Answer> + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, got) = mpsc::unbounded_channel();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let router = axum::Router::new().fallback(serve).with_state((script, tell));
        let stop = CancellationToken::new();
        tokio::spawn(crate::admin::serve(listener, None, router, stop.clone()));
        Self { address, got, _stop: stop.drop_guard() }
    }

    /// One that takes everything.
    async fn taking() -> Self {
        Self::start(|_| Some(answer(200, ""))).await
    }

    async fn next(&mut self) -> Got {
        self.got.recv().await.unwrap()
    }

    /// Positions until the last is `end`.
    async fn until(&mut self, end: u64) -> Vec<u64> {
        let mut positions = Vec::new();
        while positions.last() != Some(&end) {
            positions.extend(self.next().await.positions());
        }
        positions
    }
}

async fn serve(
    State((script, tell)): State<(Arc<Mutex<Script>>, mpsc::UnboundedSender<Got>)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let got = Got { target: uri.to_string(), headers, body: body.to_vec() };
    let answer = (script.lock().unwrap())(&got);
    // The test may have seen enough.
    drop(tell.send(got));
    match answer {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

fn answer(status: u16, body: &str) -> Answer {
    Answer::builder().status(status).body(body.to_owned().into()).unwrap()
}

/// Answers, one after the other; the last one for ever.
fn answers(all: impl IntoIterator<Item = (u16, &'static str)>) -> impl FnMut(&Got) -> Option<Answer> + Send {
    let mut all: VecDeque<_> = all.into_iter().collect();
    move |_| {
        let (status, body) = if all.len() > 1 { all.pop_front().unwrap() } else { all[0] };
        Some(answer(status, body))
    }
}
