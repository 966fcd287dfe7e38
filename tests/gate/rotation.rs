//! What is exchanged under a running gate: secrets, certificates, the configuration.

use std::{fs, sync::Arc, time::Duration};

use amlgate::{
    sandbox::azure::names,
    time::{Clock as _, ManualClock, SharedClock, SystemClock},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    operations::ask,
    world::{Changes, VERSION, World, workspace},
};

const FILE: &str = "    client_secret: {file: certs/gate-client.secret}\n";
/// The gate's secret lies in a vault, which the machine's own identity opens.
const VAULT: &str = "    client_secret:
      key_vault: {vault: https://VAULT.vault.azure.net, secret: gate-client-secret, credential: machine, address: \"{azure}\", trust: {ca: certs/ca.pem}}
";
const MACHINE: &str = "credentials:
  - name: machine
    managed_identity: {endpoint: \"http://{identity}\"}
";

async fn with_vault() -> World {
    with_vault_at(Arc::new(SystemClock)).await
}

async fn with_vault_at(clock: SharedClock) -> World {
    let vault = VAULT.replace("VAULT", names::VAULT);
    let configuration = [(FILE, vault.as_str()), ("credentials:\n", MACHINE)];
    World::at(Changes { configuration: &configuration, ..Changes::default() }, clock).await
}

/// Entra knows these secrets of the gate's application, and forgets the tokens that others brought.
fn entra_knows(world: &World, secrets: &[&str]) {
    let mut app = world.sandbox.azure.app(names::GATE_CLIENT).unwrap();
    app.secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
    world.sandbox.azure.register(app);
}

/// What `/readyz` says of a credential.
async fn readiness(world: &World, part: &str) -> Value {
    let answer = ask(world, "/readyz").await.json();
    answer["dependencies"].as_array().unwrap().iter().find(|d| d["name"] == part).unwrap().clone()
}

async fn lists_jobs(world: &World) -> StatusCode {
    world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await.status
}

#[tokio::test]
async fn a_secret_in_a_vault_is_opened_by_another_credential_and_exchanged_without_a_restart() {
    let world = with_vault().await;
    assert_eq!(lists_jobs(&world).await, StatusCode::OK);

    entra_knows(&world, &[names::GATE_SECRET, "second"]);
    world.sandbox.azure.set_vault_secret("gate-client-secret", "second");
    world.server.reload().await;
    // The first is worth nothing any more, and Azure wants another token than the cached one.
    entra_knows(&world, &["second"]);
    world.sandbox.azure.challenge(names::GATE_PRINCIPAL);
    assert_eq!(lists_jobs(&world).await, StatusCode::OK);
    assert_eq!(readiness(&world, "credential gate").await["state"], "ready");

    let log = world.stop().await;
    let changed = log.events("credential_changed");
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!(changed[0]["credential"], "gate");
    let place = changed[0]["place"].as_str().unwrap();
    assert!(place.contains("`gate-client-secret` in `") && place.contains("version "), "{place}");
    assert!(log.records.iter().all(|r| !r.to_string().contains("second")), "no secret is in the record");
}

#[tokio::test]
async fn another_version_in_a_vault_is_found_without_being_told_and_taken_once_it_works() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let world = with_vault_at(Arc::new(clock.clone())).await;
    assert_eq!(lists_jobs(&world).await, StatusCode::OK);
    // Entra does not know it yet: it is tried, and the one before stays in use.
    world.sandbox.azure.set_vault_secret("gate-client-secret", "second-of-them");
    let observer = world.sandbox.azure.observer();
    let tried = |times: usize| {
        move |seen: &[amlgate::sandbox::Seen]| {
            let with = |s: &&amlgate::sandbox::Seen| s.body.windows(14).any(|w| w == b"second-of-them");
            seen.iter().filter(with).filter(|s| s.status.is_some()).count() >= times
        }
    };
    // The gate looks by its own clock; it may be looking just now, and then looks a round later.
    let later = async |times: usize| {
        let asked = observer.wait_for(tried(times));
        tokio::pin!(asked);
        loop {
            clock.advance(Duration::from_secs(61));
            if tokio::time::timeout(Duration::from_secs(2), &mut asked).await.is_ok() {
                break;
            }
        }
    };
    later(1).await;
    assert_eq!(lists_jobs(&world).await, StatusCode::OK);

    entra_knows(&world, &[names::GATE_SECRET, "second-of-them"]);
    later(2).await;
    // A look that is under way ends before this.
    world.server.reload().await;
    entra_knows(&world, &["second-of-them"]);
    world.sandbox.azure.challenge(names::GATE_PRINCIPAL);
    assert_eq!(lists_jobs(&world).await, StatusCode::OK, "the first is worth nothing any more");
    let log = world.stop().await;
    assert_eq!(log.events("credential_changed").len(), 1);
    assert_eq!(log.events("reload_refused").len(), 1);
}

#[tokio::test]
async fn a_new_secret_that_does_not_work_leaves_the_old_one_in_use_and_is_taken_once_it_works() {
    let world = World::new().await;
    let file = world.directory().join("certs/gate-client.secret");
    fs::write(&file, "not-known-yet").unwrap();
    world.server.reload().await;
    assert_eq!(lists_jobs(&world).await, StatusCode::OK, "the old secret is in use");
    let said = readiness(&world, "credential gate").await;
    assert_eq!(said["state"], "degraded");
    let detail = said["detail"].as_str().unwrap();
    assert!(detail.contains("the old one is in use") && detail.contains("AADSTS7000215"), "{detail}");
    assert!(!detail.contains("not-known-yet"));
    // Looking again says nothing new.
    world.server.reload().await;

    entra_knows(&world, &["not-known-yet"]);
    world.server.reload().await;
    assert_eq!(readiness(&world, "credential gate").await["state"], "ready");
    world.sandbox.azure.challenge(names::GATE_PRINCIPAL);
    assert_eq!(lists_jobs(&world).await, StatusCode::OK);
    let log = world.stop().await;
    assert_eq!(log.events("reload_refused").len(), 1, "a failure is recorded once");
    assert_eq!(log.events("credential_changed").len(), 1);
}

#[tokio::test]
async fn a_new_secret_that_is_taken_back_leaves_no_trace_of_trouble() {
    let world = World::new().await;
    let file = world.directory().join("certs/gate-client.secret");
    let old = fs::read(&file).unwrap();
    fs::write(&file, "wrong").unwrap();
    world.server.reload().await;
    fs::write(&file, old).unwrap();
    world.server.reload().await;
    assert_eq!(readiness(&world, "credential gate").await["state"], "ready");
    world.stop().await;
}

#[tokio::test]
async fn a_vault_that_is_down_costs_nothing_while_the_gate_runs() {
    let world = with_vault().await;
    world.sandbox.azure.unassign(names::MACHINE_PRINCIPAL);
    world.server.reload().await;
    assert_eq!(lists_jobs(&world).await, StatusCode::OK);
    assert_eq!(readiness(&world, "credential gate").await["state"], "ready");
    let log = world.stop().await;
    assert!(log.events("credential_changed").is_empty());
}

#[tokio::test]
async fn a_changed_configuration_is_in_force_for_the_next_request_and_a_broken_one_is_not() {
    let world = World::new().await;
    let file = world.sandbox.configuration();
    let before = fs::read_to_string(&file).unwrap();
    let sam = world.caller("sam");
    assert_eq!(sam.get("/endpoints/churn/").await.status, StatusCode::OK);
    assert_eq!(sam.get("/scoring/churn/").await.status, StatusCode::NOT_FOUND);

    let moved = before.replace("paths: [/endpoints/churn]", "paths: [/scoring/churn]");
    assert_ne!(moved, before);
    fs::write(&file, &moved).unwrap();
    world.server.reload().await;
    assert_eq!(sam.get("/scoring/churn/").await.status, StatusCode::OK);
    assert_eq!(sam.get("/endpoints/churn/").await.status, StatusCode::NOT_FOUND);

    fs::write(&file, moved.replace("paths: [/scoring/churn]", "paths: [scoring]")).unwrap();
    world.server.reload().await;
    assert_eq!(sam.get("/scoring/churn/").await.status, StatusCode::OK, "the last good one stays");
    let log = world.stop().await;
    assert_eq!(log.events("reloaded").len(), 1);
    let refused = log.events("reload_refused");
    assert_eq!(refused.len(), 1);
    assert!(refused[0]["problem"].as_str().unwrap().contains("amlgate.yaml:"), "{refused:?}");
}

/// Who may make clusters may not read operations: polling rests on what the gate sealed alone.
const MAKERS: &str = "version: 1
subjects: {platform: [{issuer: sandbox, group: platform}]}
allow:
  - name: clusters are made
    who: [platform]
    actions: [Microsoft.MachineLearningServices/workspaces/computes/write]
";

#[tokio::test]
async fn what_the_old_sealing_key_signed_is_good_until_that_key_goes() {
    let world = World::changed(Changes { policies: Some(MAKERS), ..Changes::default() }).await;
    let pat = world.caller("pat");
    let body = json!({
        "location": "westeurope",
        "properties": {"computeType": "AmlCompute", "properties": {
            "vmSize": "STANDARD_DS3_V2", "vmPriority": "Dedicated",
            "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 2}
        }}
    });
    let made = pat.put(&workspace(&format!("/computes/sealed?{VERSION}")), &body).await;
    assert!(made.status.is_success(), "{made:?}");
    let poll = made.header("azure-asyncoperation").to_owned();
    let poll = poll.strip_prefix(world.sandbox.layout.gate.as_str()).unwrap();
    assert_eq!(pat.get(poll).await.status, StatusCode::OK);

    let file = world.sandbox.configuration();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(world.directory().join("certs/next.key"), "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=")
        .unwrap();
    for (keys, expected) in [
        ("seal: [{file: certs/next.key}, {file: certs/seal.key}]", StatusCode::OK),
        ("seal: [{file: certs/next.key}]", StatusCode::FORBIDDEN),
    ] {
        let changed = text.replace("seal: [{file: certs/seal.key}]", keys);
        assert_ne!(changed, text);
        fs::write(&file, changed).unwrap();
        world.server.reload().await;
        assert_eq!(pat.get(poll).await.status, expected, "{keys}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_gate_whose_clock_stands_starts_serves_reloads_and_stops() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let world = World::at(Changes::default(), Arc::new(clock)).await;
    assert_eq!(lists_jobs(&world).await, StatusCode::OK);
    fs::write(world.directory().join("policies/sandbox.yaml"), "version: 1\nallow: []\n").unwrap();
    world.server.reload().await;
    assert_eq!(lists_jobs(&world).await, StatusCode::FORBIDDEN);
    let fetched = world.sandbox.issuer.observer().seen();
    assert_eq!(fetched.len(), 2, "the discovery document and the keys, once: {fetched:?}");
    let log = world.stop().await;
    assert_eq!(log.events("policies_changed").len(), 1);
}
