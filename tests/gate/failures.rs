//! What goes wrong behind the gate, and what its callers and its record learn of it.

use std::{fs, sync::Arc};

use amlgate::sandbox::Fault;
use amlgate::{
    config,
    sandbox::home::{Sandbox, SandboxSettings},
    server::{Cores, Server, StartError},
    time::{SharedClock, SystemClock},
};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;

use crate::world::{Changes, VERSION, World, job, whole, workspace};

fn jobs() -> String {
    workspace(&format!("/jobs?{VERSION}"))
}

fn ending(log: &crate::world::Log) -> String {
    let last = log.requests().into_iter().next_back().unwrap().clone();
    last["unmapped"]["amlgate"]["ending"].as_str().unwrap_or("").to_owned()
}

#[tokio::test]
async fn a_connection_that_azure_resets_is_a_502_in_azures_shape() {
    let world = World::new().await;
    let sam = world.caller("sam");
    world.sandbox.azure.observer().trap("/jobs/first", Some(Method::PUT), Fault::ResetAfterEffect);
    let answer = sam.put(&workspace(&format!("/jobs/first?{VERSION}")), &job()).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], "BadGateway");
    let puts = world.sandbox.azure.observer().seen_at("/jobs/first").len();
    assert_eq!(puts, 1, "what may have had its effect is not sent again");
    assert_eq!(ending(&world.stop().await), "upstream_failed");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_504() {
    let changes = [("policies: policies/", "timeouts: {upstream_head: 1s}\npolicies: policies/")];
    let world = World::changed(Changes { configuration: &changes, ..Changes::default() }).await;
    world.sandbox.azure.observer().trap("/jobs", None, Fault::Hang);
    let answer = world.caller("sam").get(&jobs()).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{answer:?}");
    assert_eq!(ending(&world.stop().await), "timed_out");
}

#[tokio::test]
async fn half_an_answer_is_never_passed_off_as_a_whole_one() {
    let world = World::new().await;
    let sam = world.caller("sam");
    // What is rewritten is read whole first, what streams breaks off where Azure did.
    world.sandbox.azure.observer().trap("/score", None, Fault::Truncate);
    let request = sam
        .request(Method::POST, "/endpoints/churn/score")
        .header("content-type", "application/json")
        .body(whole(r#"{"input_data":{"data":[[1,2,3]]}}"#))
        .unwrap();
    let response = sam.open(request).await;
    let broken = match response.status() {
        StatusCode::OK => response.into_body().collect().await.is_err(),
        other => other == StatusCode::BAD_GATEWAY,
    };
    assert!(broken);
    assert_eq!(ending(&world.stop().await), "upstream_failed");
}

#[tokio::test]
async fn azures_own_refusals_and_its_patience_are_passed_on() {
    let world = World::new().await;
    let sam = world.caller("sam");
    world.sandbox.azure.observer().trap("/jobs", None, Fault::throttle(17));
    let answer = sam.get(&jobs()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.header("retry-after"), "17");
    let missing = sam.get(&workspace(&format!("/jobs/none?{VERSION}"))).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND, "{missing:?}");
    assert!(!missing.text().contains("amlgate:"), "{missing:?}");
}

#[tokio::test]
async fn an_azure_that_is_gone_is_a_502_at_once() {
    let world = World::new().await;
    let token = {
        let sam = world.caller("sam");
        assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK);
        sam.request(Method::GET, "/").body(()).unwrap().headers()["authorization"]
            .to_str()
            .unwrap()
            .trim_start_matches("Bearer ")
            .to_owned()
    };
    let World { sandbox, server, dir, .. } = world;
    let amlgate::sandbox::home::Sandbox { issuer, azure, layout, .. } = sandbox;
    drop(azure);
    let ca = std::fs::read(dir.path().join("certs/ca.pem")).unwrap();
    let mut sender = crate::world::connected(&ca, server.reverse().unwrap()).await;
    let request = http::Request::builder()
        .uri(jobs())
        .header("host", format!("localhost:{}", server.reverse().unwrap().port()))
        .header("authorization", format!("Bearer {token}"))
        .body(whole(""))
        .unwrap();
    let answer = crate::world::Answer::of(sender.send_request(request).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
    server.stop().await;
    drop((issuer, layout));
}

#[tokio::test]
async fn a_token_endpoint_that_is_down_is_said_and_passes() {
    let world = World::new().await;
    for _ in 0..3 {
        let down = Fault::status(StatusCode::SERVICE_UNAVAILABLE, "down");
        world.sandbox.azure.observer().trap("/oauth2/v2.0/token", None, down);
    }
    let answer = world.caller("sam").get(&jobs()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert!(answer.text().contains("no token"), "{answer:?}");
    assert!(!answer.text().contains(amlgate::sandbox::azure::names::GATE_SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_with_bad_policies_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let sandbox =
        Sandbox::start(SandboxSettings::new(dir.path().to_owned(), Arc::clone(&clock))).await.unwrap();
    let policies = dir.path().join("policies/sandbox.yaml");
    let good = fs::read_to_string(&policies).unwrap();
    fs::write(&policies, "version: 1\nallow: [{name: a, who: [nobody-knows]}]\n").unwrap();
    let settings = || config::load(&sandbox.configuration()).unwrap();
    let record = settings().audit.directory;
    let refused = Server::start(settings(), Arc::clone(&clock), Cores::Fixed(1)).await;
    assert!(matches!(refused, Err(StartError::Policies(_))), "{refused:?}");
    assert!(!record.exists(), "a record was begun in {}", record.display());
    // A key that is none comes before the record too.
    fs::write(&policies, good).unwrap();
    let key = dir.path().join("certs/server.key");
    let whole = fs::read(&key).unwrap();
    fs::write(&key, "no key").unwrap();
    let refused = Server::start(settings(), Arc::clone(&clock), Cores::Fixed(1)).await;
    assert!(refused.is_err() && !record.exists(), "{refused:?}");
    // What holds opens it.
    fs::write(&key, whole).unwrap();
    let server = Server::start(settings(), clock, Cores::Fixed(1)).await.unwrap();
    assert!(record.exists() && server.stop().await);
}
