//! The record, elsewhere: what is recorded arrives at each sink, and no sink holds up a request.

use std::time::Instant;

use http::StatusCode;
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::world::{Changes, VERSION, World, job, workspace};

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
