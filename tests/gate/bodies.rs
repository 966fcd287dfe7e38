//! Recorded bodies: only where an entry says so, without secrets, sealed, bounded, and with their own
//! right to read them.

use std::{fs, path::Path, sync::Arc};

use amlgate::{
    audit::storage::failing::Failure,
    time::Clock as _,
    time::{ManualClock, SystemClock},
};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    api, early,
    peer::{Connection, Peer, head},
    taint,
    world::{Changes, Log, VERSION, World, job, whole, workspace},
};

/// A token that is nobody's, in two parts so that no tool takes it for one.
fn token() -> String {
    ["eyJhbGciOiJSUzI1NiJ9", "eyJjYW5hcnkiOiJjYW5hcnkifQ", "Y2FuYXJ5LWNhbmFyeQ"].join(".")
}

/// What is recorded besides what the sandbox's policies say, in force.
pub async fn recording(world: &World, entry: &str) {
    let text = format!("version: 1\nrequire:\n  - name: bodies are recorded\n    {entry}\n");
    fs::write(world.directory().join("policies/recorded.yaml"), text).unwrap();
    world.server.reload().await;
    let status = world.server.parts().policies.status();
    assert!(status.problems.is_empty(), "{:?}", status.problems);
}

/// What the records of that phase say of bodies.
fn bodies(log: &Log, phase: &str) -> Vec<Value> {
    let own = log.requests().into_iter().map(|record| &record["unmapped"]["amlgate"]);
    let own = own.filter(|own| own["phase"] == phase);
    own.flat_map(|own| own["bodies"].as_array().cloned().unwrap_or_default()).collect()
}

fn of_side<'v>(bodies: &'v [Value], side: &str) -> &'v Value {
    bodies.iter().find(|body| body["side"] == side).unwrap_or_else(|| panic!("{side} in {bodies:#?}"))
}

/// `amlgate audit body`: its status and what it prints.
pub fn opened(directory: &Path, digest: &Value) -> (Option<i32>, Vec<u8>) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["audit", "body", digest.as_str().unwrap(), "--config"])
        .arg(directory.join("amlgate.yaml"))
        .output()
        .unwrap();
    (output.status.code(), output.stdout)
}

fn shown(directory: &Path, body: &Value) -> String {
    let (status, body) = opened(directory, &body["blob"]);
    assert_eq!(status, Some(0));
    String::from_utf8(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judged_body_is_sealed_before_the_intent_goes_on_and_shown_without_what_is_redacted() {
    let world = World::new().await;
    recording(
        &world,
        "kinds: [write]\n    record: {bodies: [request, response], redact: [/properties/environmentVariables], keep: 30d}",
    )
    .await;
    let mut body = job();
    body["properties"]["environmentVariables"] = json!({"A": "canary"});
    body["properties"]["description"] = json!("trains the model");
    let made = world.caller("sam").put(&workspace(&format!("/jobs/kept?{VERSION}")), &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let log = world.stop().await;
    let intents = bodies(&log, "intent");
    let request = of_side(&intents, "request");
    assert_eq!(intents.len(), 1, "{intents:#?}");
    let passed = body.to_string();
    assert_eq!(request["size"], passed.len());
    assert_eq!((&request["redacted"], &request["cut"]), (&json!(1), &Value::Null));
    let found = shown(log.dir.path(), request);
    assert!(found.contains("trains the model") && !found.contains("canary"), "{found}");
    let outcomes = bodies(&log, "outcome");
    assert_eq!(outcomes.len(), 1, "the request's is in the intent: {outcomes:#?}");
    let answer = shown(log.dir.path(), of_side(&outcomes, "response"));
    assert!(answer.contains("/jobs/kept") && !answer.contains("canary"), "{answer}");
    // What lies beside the log tells nothing, and is named by its own digest.
    let mut files = Vec::new();
    taint::files(&log.dir.path().join("var/audit/bodies"), &mut files);
    assert_eq!(files.len(), 2);
    for (name, text) in files {
        assert!(!text.contains("trains the model") && !text.contains("jobs"), "{name}");
    }
    // A pack for an auditor names them, and has none of them.
    let pack = log.dir.path().join("pack");
    let evidence = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_amlgate"));
        let output = command.args(["audit", "evidence"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (pack, config) = (pack.to_str().unwrap(), log.dir.path().join("amlgate.yaml"));
    let config = config.to_str().unwrap();
    evidence(&[
        "--control",
        "CC6.1",
        "--from",
        "2020-01-01",
        "--to",
        "2100-01-01",
        "--out",
        pack,
        "--config",
        config,
    ]);
    let manifest: Value =
        serde_json::from_slice(&fs::read(format!("{pack}/manifest.json")).unwrap()).unwrap();
    let mut named = [request["blob"].clone(), of_side(&outcomes, "response")["blob"].clone()];
    named.sort_by_key(ToString::to_string);
    assert_eq!(manifest["bodies"], json!(named));
    evidence(&["verify", pack]);
    let (status, _) = opened(log.dir.path(), &"0".repeat(64).into());
    assert_eq!(status, Some(1), "one that was never kept is a finding");
}

#[tokio::test]
async fn nothing_is_kept_where_no_entry_says_so() {
    let world = World::new().await;
    recording(&world, "kinds: [delete]\n    record: {bodies: [request, response]}").await;
    world.caller("sam").put(&workspace(&format!("/jobs/plain?{VERSION}")), &job()).await;
    world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await;
    let log = world.stop().await;
    assert!(bodies(&log, "intent").is_empty() && bodies(&log, "outcome").is_empty());
    assert!(!log.dir.path().join("var/audit/bodies").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_streams_is_copied_as_it_passes_and_a_read_of_its_answer_alone() {
    let world = World::new().await;
    recording(&world, "record: {bodies: [request, response]}").await;
    let scored =
        world.caller("sam").post("/endpoints/churn/score", &json!({"input_data": {"data": [[1]]}})).await;
    assert_eq!(scored.status, StatusCode::OK, "{scored:?}");
    let log = world.stop().await;
    assert!(bodies(&log, "intent").is_empty(), "it was not read before it went on");
    let outcomes = bodies(&log, "outcome");
    let request = shown(log.dir.path(), of_side(&outcomes, "request"));
    assert_eq!(request, r#"{"input_data":{"data":[[1]]}}"#);
    let answer: Value = serde_json::from_str(&shown(log.dir.path(), of_side(&outcomes, "response"))).unwrap();
    assert_eq!(answer, scored.json());
}

/// Takes a body of `length` bytes and answers with a long text.
async fn takes(mut stream: Connection, length: usize) {
    let head = head(&mut stream).await;
    if !head.contains("/echo") {
        return;
    }
    let (mut some, mut read) = (vec![0; 64 << 10], 0);
    while read < length {
        let now = stream.read(&mut some).await.unwrap();
        assert!(now > 0, "the body broke off at {read}");
        read += some[..now].iter().filter(|byte| **byte == b'x').count();
    }
    let answer = "y".repeat(10_000);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
    stream.write_all((head + &answer).as_bytes()).await.unwrap();
    let _ = stream.read(&mut [0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_is_cut_and_passes_whole_and_where_places_are_named_nothing_of_it_is_kept() {
    const LENGTH: usize = 8 << 20;
    for (redact, cut) in [("", true), (", redact: [/a]", false)] {
        let peer = Peer::new("churn.westeurope.inference.ml.azure.com", "http/1.1").await;
        let limits = [("policies: policies/", "limits: {recorded_body: 4KiB}\npolicies: policies/")];
        let world = peer.as_endpoint(&limits).await;
        peer.serve(|stream| takes(stream, LENGTH));
        recording(&world, &format!("record: {{bodies: [request, response]{redact}}}")).await;
        let sam = world.caller("sam");
        let (body, _) = early::endless_of(LENGTH);
        let answer = sam.send(early::upload(&sam, body)).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 10_000));
        let log = world.stop().await;
        let outcomes = bodies(&log, "outcome");
        let (request, response) = (of_side(&outcomes, "request"), of_side(&outcomes, "response"));
        assert_eq!((&request["size"], &response["size"]), (&json!(LENGTH), &json!(10_000)));
        assert_eq!(request["tag"].as_str().unwrap().len(), 64);
        if cut {
            assert_eq!((&request["cut"], &request["kept"]), (&json!("limit"), &json!(4_096)));
            assert_eq!(shown(log.dir.path(), request), "x".repeat(4_096));
            assert_eq!(shown(log.dir.path(), response), "y".repeat(4_096));
        } else {
            assert_eq!((&request["blob"], &request["reason"]), (&Value::Null, &json!("too_large")));
            assert_eq!(response["reason"], "too_large");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_tokens_are_in_no_recorded_body() {
    taint::logged();
    let world = World::new().await;
    recording(
        &world,
        "record: {bodies: [request, response], redact: [/properties/description, /named/*/here]}",
    )
    .await;
    let sam = world.caller("sam");
    let own = sam.request(Method::GET, "/").body(()).unwrap().headers()[header::AUTHORIZATION].clone();
    let own = own.to_str().unwrap().trim_start_matches("Bearer ").to_owned();
    let mut body = job();
    body["properties"]["description"] = json!("canary");
    body["properties"]["command"] = json!(format!("curl -H 'Authorization: Bearer {own}' {}", token()));
    body["properties"]["environmentVariables"] =
        json!({"DB_PASSWORD": "canary", "API_TOKEN": "canary", "KEEP": "this"});
    body["properties"]["tags"] = json!({
        "url": "https://s.example/c?sv=1&sig=canary%2fcanary&se=1",
        "encoded": "https%3A%2F%2Fs.example%2Fc%3Fsig%3Dcanary",
        "database": "postgres://sam:canary@db/x",
        "bus": "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=canary",
        "nested": "{\"connectionString\": \"Server=x;Password=a canary\"}",
        "option": "train --api-key canary",
    });
    assert!(sam.put(&workspace(&format!("/jobs/tidy?{VERSION}")), &body).await.status.is_success());
    // What streams, as a document and as a form.
    let named =
        json!({"named": [{"here": "canary"}], "secret": {"deep": "canary"}, "token": token(), "n": 1});
    sam.post("/endpoints/churn/score", &named).await;
    let keys = workspace(&format!("/onlineEndpoints/churn/listKeys?{VERSION}"));
    let keys = sam.send(sam.request(Method::POST, &keys).body(whole("")).unwrap()).await;
    assert_eq!(keys.status, StatusCode::OK, "{keys:?}");
    let log = world.stop().await;
    let all = [bodies(&log, "intent"), bodies(&log, "outcome")].concat();
    assert!(all.iter().any(|body| body["reason"] == "holds_secrets"), "{all:#?}");
    let shown: Vec<String> =
        all.iter().filter(|body| body["blob"].is_string()).map(|body| shown(log.dir.path(), body)).collect();
    assert!(shown.len() >= 3, "{all:#?}");
    let everything = shown.join("\n");
    assert!(everything.contains("\"KEEP\":\"this\"") && everything.contains("\"n\":1"), "{everything}");
    for canary in ["canary", "eyJ", own.split('.').nth(1).unwrap(), "amlgh1."] {
        assert!(!everything.contains(canary), "{canary} in {everything}");
    }
    let mut written = Vec::new();
    taint::files(&log.dir.path().join("var"), &mut written);
    written.push(("log".to_owned(), taint::logged()));
    for (place, text) in written {
        assert!(!text.contains("canary"), "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_read_bodies_reads_one_through_the_gate_and_that_is_recorded() {
    let world = World::new().await;
    recording(&world, "kinds: [write]\n    record: {bodies: [request]}").await;
    let made = world.caller("sam").put(&workspace(&format!("/jobs/read?{VERSION}")), &job()).await;
    let of = made.header("x-amlgate-decision").to_owned();
    let folder = world.directory().join("var/audit/bodies/kept");
    let digest = fs::read_dir(folder).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let ask = |who: &'static str, path: String| {
        let bearer = format!("Bearer {}", api::token(&world, who));
        let asked = api::request(&world, Method::GET, &path).header(header::AUTHORIZATION, bearer);
        api::ask(&world, asked.body(whole("")).unwrap())
    };
    let path = format!("/api/v1/audit/bodies/{digest}");
    let read = ask("alex", path.clone()).await;
    assert_eq!(read.status, StatusCode::OK, "{read:?}");
    assert_eq!(read.json()["properties"]["command"], "python train.py");
    assert_eq!(
        (read.header("x-amlgate-body-of"), read.header("x-amlgate-body-side")),
        (of.as_str(), "request")
    );
    assert_eq!(
        (read.header("cache-control"), read.header("content-type")),
        ("no-store", "application/octet-stream")
    );
    // Who may read the record may not read bodies by that.
    let refused = ask("pat", path.clone()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert_eq!(
        ask("alex", format!("/api/v1/audit/bodies/{}", "0".repeat(64))).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        ask("alex", "/api/v1/audit/bodies/..%2fheads".to_owned()).await.status,
        StatusCode::BAD_REQUEST
    );
    let log = world.stop().await;
    let [event] = log.events("body_read")[..] else { panic!("one was read: {:#?}", log.records) };
    assert_eq!(
        (&event["blob"], &event["of"], &event["side"]),
        (&json!(digest), &json!(of), &json!("request"))
    );
    assert_eq!(event["decision"], read.header("x-amlgate-decision"));
    let denied =
        log.records.iter().find(|record| record["metadata"]["uid"] == refused.header("x-amlgate-decision"));
    assert_eq!(denied.unwrap()["api"]["operation"], "amlgate/audit/bodies/read");
}

#[tokio::test]
async fn what_a_full_disk_does_not_take_of_a_body_is_not_sent() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let (world, disk) = World::on_a_failing_disk(Changes::default(), Arc::new(clock)).await;
    recording(&world, "kinds: [write]\n    record: {bodies: [request]}").await;
    // The log has space, but bodies cannot be put beside it.
    fs::write(world.directory().join("var/audit/bodies"), "in the way").unwrap();
    let refused = world.caller("sam").put(&workspace(&format!("/jobs/refused?{VERSION}")), &job()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    assert!(world.sandbox.azure.observer().seen_at("/jobs/refused").is_empty());
    fs::remove_file(world.directory().join("var/audit/bodies")).unwrap();
    let made = world.caller("sam").put(&workspace(&format!("/jobs/made?{VERSION}")), &job()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    disk.fails(Failure::Full);
    let refused = world.caller("sam").put(&workspace(&format!("/jobs/refused?{VERSION}")), &job()).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    disk.fails(Failure::None);
    let log = world.stop().await;
    assert_eq!(bodies(&log, "intent").len(), 1);
    assert_eq!(log.events("record_resumed").len(), 2);
}

#[tokio::test]
async fn bodies_go_when_their_time_is_over_and_what_names_them_stays() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let world = World::at(Changes::default(), Arc::new(clock.clone())).await;
    recording(&world, "kinds: [write]\n    record: {bodies: [request], keep: 1h}").await;
    let made = world.caller("sam").put(&workspace(&format!("/jobs/brief?{VERSION}")), &job()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let folder = world.directory().join("var/audit/bodies");
    let count = || fs::read_dir(&folder).unwrap().count();
    assert_eq!(count(), 1);
    // Within the hour it is there; two hours later the next head finds its time over.
    clock.advance(std::time::Duration::from_secs(7_300));
    let gone = async {
        while count() > 0 {
            world.server.journal().refused("192.0.2.1".parse().unwrap(), "no token");
            world.server.journal().sign_head();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.expect("it goes");
    let log = world.stop().await;
    assert_eq!(bodies(&log, "intent").len(), 1, "the leaf still names it");
}
