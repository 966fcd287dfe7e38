//! The record, elsewhere: what is recorded arrives at each sink, and no sink holds up a request; what
//! a sink is reached with is exchanged under a running gate.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, net::TcpListener, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::{Changes, VERSION, World, job, keep, workspace};

const AUDIT: &str = "reads: required}";

#[tokio::test(flavor = "multi_thread")]
async fn every_record_arrives_in_azure_monitor_and_in_a_file() {
    let sinks = r#"reads: required, sinks: [
  {name: sentinel, azure_monitor: {endpoint: "https://gate-1.westeurope-1.ingest.monitor.azure.com", rule: dcr-1, credential: gate}, address: "{azure}", trust: {ca: certs/ca.pem}},
  {name: file, file: {path: var/export.ndjson, format: ecs}}]}"#;
    let world = World::changed(Changes { configuration: &[(AUDIT, sinks)], ..Changes::default() }).await;
    let sam = world.caller("sam");
    let listed = sam.get(&workspace(&format!("/jobs?{VERSION}"))).await;
    assert_eq!(listed.status, StatusCode::OK);
    let submitted = sam.put(&workspace(&format!("/jobs/exported?{VERSION}")), &job()).await;
    assert_eq!(submitted.status, StatusCode::CREATED);
    let refused = sam.delete(&workspace(&format!("?{VERSION}"))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let World { sandbox, server, dir, .. } = world;
    assert!(server.stop().await);
    let storage = amlgate::audit::storage::Directory::at(dir.path().join("var/audit"));
    let mut reader = amlgate::audit::read::Reader::new(storage);
    let written: Vec<Value> = std::iter::from_fn(|| reader.record().unwrap())
        .map(|record| serde_json::from_slice(&record.line).unwrap())
        .collect();
    let rows = sandbox.azure.rows("Custom-AmlGateAudit_CL");
    assert_eq!(rows.iter().map(|row| row["Raw"].clone()).collect::<Vec<_>>(), written);
    let denial = rows.iter().find(|row| row["Decision"] == "deny").unwrap();
    assert_eq!(denial["DecisionId"], refused.header("x-amlgate-decision"));
    assert_eq!(denial["ReasonCodes"][0], "AuthorizationFailed");
    assert_eq!(denial["WorkspaceName"], "vision");
    let file = std::fs::read_to_string(dir.path().join("var/export.ndjson")).unwrap();
    let actions: Vec<String> = file
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["event"]["action"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(actions.len(), written.len());
    assert_eq!((actions[0].as_str(), actions[actions.len() - 1].as_str()), ("started", "stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_holds_up_no_request_and_is_shown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 16];
            stream.read_exact(&mut some).await.unwrap();
            tell.send(some).unwrap();
            held.push(stream);
        }
    });
    let sinks = format!("reads: required, sinks: [{{name: slow, otlp: {{url: \"http://{address}\"}}}}]}}");
    let world = World::changed(Changes { configuration: &[(AUDIT, &sinks)], ..Changes::default() }).await;
    assert!(asked.recv().await.unwrap().starts_with(b"POST /v1/logs"));
    let begun = Instant::now();
    for number in 0..50 {
        let submitted =
            world.caller("sam").put(&workspace(&format!("/jobs/slow-{number}?{VERSION}")), &job()).await;
        assert_eq!(submitted.status, StatusCode::CREATED);
    }
    // The receiver is given thirty seconds; nobody waited for it.
    assert!(begun.elapsed().as_secs() < 25, "{:?}", begun.elapsed());
    assert_eq!(world.server.parts().sinks[0].next(), 0);
    // Each of them is an intent and an outcome.
    let lag = async || {
        let text = crate::operations::ask(&world, "/metrics").await.text();
        let line = text.lines().find_map(|l| l.strip_prefix("amlgate_sink_lag_records{sink=\"slow\"} "));
        line.map_or(0.0, |lag| lag.parse::<f64>().unwrap())
    };
    let grown = async { while lag().await < 100.0 {} };
    tokio::time::timeout(Duration::from_secs(20), grown).await.expect("how far it is behind is a metric");
    silent.abort();
    assert!(world.server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tries_each_sink() {
    let sinks = r#"reads: required, sinks: [
  {name: sentinel, azure_monitor: {endpoint: "https://gate-1.westeurope-1.ingest.monitor.azure.com", rule: dcr-1, credential: gate}, address: "{azure}", trust: {ca: certs/ca.pem}},
  {name: file, file: {path: var/export.ndjson}},
  {name: nobody, otlp: {url: "http://127.0.0.1:9"}}]}"#;
    let world = World::changed(Changes { configuration: &[(AUDIT, sinks)], ..Changes::default() }).await;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["doctor", "--output", "json", "--config"])
        .arg(world.sandbox.configuration())
        .output()
        .unwrap();
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let state =
        |name: &str| found.iter().find(|f| f["part"] == format!("sink {name}")).unwrap()["state"].clone();
    assert_eq!(
        (state("sentinel"), state("file"), state("nobody")),
        ("fine".into(), "fine".into(), "broken".into()),
        "{found:#?}"
    );
    assert_eq!(output.status.code(), Some(3));
}

/// An HTTP Event Collector that takes whatever comes with one of its tokens.
struct Collector {
    url: String,
    tokens: Arc<Mutex<Vec<&'static str>>>,
    /// Each event with the token that it came with.
    taken: watch::Receiver<Vec<(String, Value)>>,
    _stop: DropGuard,
}

type Collecting = (Arc<Mutex<Vec<&'static str>>>, watch::Sender<Vec<(String, Value)>>);

async fn collect(
    State((tokens, taken)): State<Collecting>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let authorization = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
    let token = authorization.strip_prefix("Splunk ").unwrap_or_default();
    if !tokens.lock().unwrap().contains(&token) {
        return StatusCode::FORBIDDEN;
    }
    if uri.path() == "/services/collector/event" {
        let events = serde_json::Deserializer::from_slice(&body).into_iter::<Value>();
        let events: Vec<_> =
            events.map(|event| (token.to_owned(), event.unwrap()["event"].clone())).collect();
        taken.send_modify(|taken| taken.extend(events));
    }
    StatusCode::OK
}

impl Collector {
    async fn start(tokens: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tokens = Arc::new(Mutex::new(tokens.to_vec()));
        let (tell, taken) = watch::channel(Vec::new());
        let router = axum::Router::new().fallback(collect).with_state((Arc::clone(&tokens), tell));
        let stop = CancellationToken::new();
        tokio::spawn(amlgate::admin::serve(listener, None, router, stop.clone()));
        Self { url, tokens, taken, _stop: stop.drop_guard() }
    }

    fn takes(&self, tokens: &[&'static str]) {
        *self.tokens.lock().unwrap() = tokens.to_vec();
    }

    async fn until(&mut self, reached: impl FnMut(&Vec<(String, Value)>) -> bool) {
        self.taken.wait_for(reached).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_sink_is_exchanged_without_a_restart_once_the_receiver_takes_it() {
    let mut collector = Collector::start(&["first"]).await;
    let sinks = format!(
        "reads: required, sinks: [{{name: hec, splunk_hec: {{url: \"{}\", token: {{file: hec.token}}}}}}]}}",
        collector.url
    );
    let configuration = [(AUDIT, sinks.as_str())];
    let changes = Changes { configuration: &configuration, ..Changes::default() };
    let world = World::having(&[("hec.token", "first")], changes).await;
    collector.until(|taken| !taken.is_empty()).await;

    // The receiver does not know it yet: the old one stays in use.
    let file = world.directory().join("hec.token");
    keep(&file, "second");
    world.server.reload().await;
    let sam = world.caller("sam");
    assert_eq!(sam.get(&workspace(&format!("/jobs?{VERSION}"))).await.status, StatusCode::OK);
    let listed = |event: &Value| event["api"]["operation"].as_str().is_some_and(|a| a.ends_with("jobs/read"));
    collector.until(|taken| taken.iter().any(|(token, event)| token == "first" && listed(event))).await;

    collector.takes(&["first", "second"]);
    world.server.reload().await;
    collector.takes(&["second"]);
    let refused = sam.delete(&workspace(&format!("?{VERSION}"))).await;
    let decision = refused.header("x-amlgate-decision").to_owned();
    let is_denial = |event: &Value| event["unmapped"]["amlgate"]["decision"] == *decision;
    collector.until(|taken| taken.iter().any(|(token, event)| token == "second" && is_denial(event))).await;

    let log = world.stop().await;
    let refused = log.events("reload_refused");
    assert_eq!((refused.len(), &refused[0]["what"]), (1, &"sinks".into()), "{refused:?}");
    let changed = log.events("exporter_changed");
    assert_eq!((changed.len(), &changed[0]["sink"]), (1, &"hec".into()), "{changed:?}");
    assert!(changed[0]["places"][0].as_str().unwrap().contains("hec.token"));
    let taken: Vec<_> = collector.taken.borrow().iter().map(|(_, event)| event.clone()).collect();
    assert_eq!(taken, log.records, "all of it arrived, once and in order");
    assert!(!log.records.iter().any(|record| record.to_string().contains("second")), "no secret is in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_for_its_trust_goes_on_at_once_with_another() {
    let sinks = r#"reads: required, sinks: [
  {name: sentinel, azure_monitor: {endpoint: "https://gate-1.westeurope-1.ingest.monitor.azure.com", rule: dcr-1, credential: gate}, address: "{azure}", trust: {ca: certs/gate-client.pem}}]}"#;
    let world = World::changed(Changes { configuration: &[(AUDIT, sinks)], ..Changes::default() }).await;
    let mut written = world.server.journal().durable();
    // That it fails is the second record.
    written.wait_for(|durable| *durable >= 2).await.unwrap();
    assert!(world.server.parts().sinks[0].failing().is_some());
    let authority = fs::read(world.sandbox.ca()).unwrap();
    fs::write(world.directory().join("certs/gate-client.pem"), authority).unwrap();
    world.server.reload().await;
    written.wait_for(|durable| *durable >= 4).await.unwrap();
    let World { sandbox, server, dir, .. } = world;
    assert!(server.stop().await);
    let rows = sandbox.azure.rows("Custom-AmlGateAudit_CL");
    let events: Vec<_> = rows.iter().map(|row| row["Raw"]["unmapped"]["amlgate"]["event"].clone()).collect();
    assert_eq!(
        events,
        ["started", "exporter_failing", "exporter_changed", "exporter_recovered", "stopped"],
        "{rows:#?}"
    );
    drop(dir);
}
