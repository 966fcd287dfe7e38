//! A disk that fails under the record: what cannot be recorded is not done, everybody is told, and the
//! gate goes on by itself when the disk does.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use amlgate::{
    audit::{
        Condition,
        storage::failing::{FailingDirectory, Failure},
    },
    time::{Clock as _, ManualClock, SystemClock},
};
use http::{Method, StatusCode, header};
use serde_json::json;

use crate::{
    api, operations, taint,
    world::{Answer, Changes, Log, VERSION, World, job, whole, workspace},
};

const BEST_EFFORT: Changes<'_> =
    Changes { configuration: &[("reads: required", "reads: best_effort")], policies: None };

fn job_at(name: &str) -> String {
    workspace(&format!("/jobs/{name}?{VERSION}"))
}

/// Waits for another thread.
async fn until(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("it comes to that");
}

async fn counted(world: &World, name: &str) -> u64 {
    let text = operations::ask(world, "/metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |count| count.parse().unwrap())
}

/// The decisions of the records of that phase.
fn decisions(log: &Log, phase: &str) -> BTreeSet<String> {
    let own = log.requests().into_iter().map(|record| &record["unmapped"]["amlgate"]);
    own.filter(|own| own["phase"] == phase).map(|own| own["decision"].as_str().unwrap().to_owned()).collect()
}

fn decision(answer: &Answer) -> String {
    answer.header("x-amlgate-decision").to_owned()
}

fn is_verified(log: &Log) {
    let verified = std::process::Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["audit", "verify"])
        .arg(log.dir.path().join("var/audit"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

fn is_refused(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "RecordUnavailable");
    let told = error["message"].as_str().unwrap();
    assert!(told.starts_with("amlgate: ") && told.contains("cannot be recorded now"), "{told}");
    assert!(!told.contains("os error"), "what is wrong with the disk is the operator's business: {told}");
}

/// A gate, and what it acknowledged.
struct Outage {
    world: World,
    disk: FailingDirectory,
    clock: ManualClock,
    acknowledged: Vec<String>,
    refused: Vec<String>,
}

impl Outage {
    async fn of(changes: Changes<'_>) -> Self {
        taint::logged();
        let clock = ManualClock::starting_at(SystemClock.now());
        let (world, disk) = World::on_a_failing_disk(changes, Arc::new(clock.clone())).await;
        Self { world, disk, clock, acknowledged: Vec::new(), refused: Vec::new() }
    }

    async fn put(&mut self, name: &str) -> Answer {
        let answer = self.world.caller("sam").put(&job_at(name), &job()).await;
        let kept = if answer.status.is_success() { &mut self.acknowledged } else { &mut self.refused };
        kept.push(decision(&answer));
        answer
    }

    async fn get(&self) -> Answer {
        self.world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await
    }

    fn is_healthy(&self) -> bool {
        self.world.server.journal().condition() == Condition::Healthy
    }

    /// The time comes when a head is signed.
    async fn next_head(&self, healthy: bool) {
        self.clock.advance(Duration::from_secs(10));
        until(|| self.is_healthy() == healthy).await;
    }

    /// Everything that was acknowledged is recorded whole, and nothing of what was refused was done.
    async fn stop(self) -> Log {
        let seen = self.world.sandbox.azure.observer().seen_at("/jobs/refused").len();
        assert_eq!(seen, 0, "what is not recorded is not sent");
        let log = self.world.stop().await;
        is_verified(&log);
        let (intents, outcomes) = (decisions(&log, "intent"), decisions(&log, "outcome"));
        for acknowledged in &self.acknowledged {
            assert!(intents.contains(acknowledged) && outcomes.contains(acknowledged), "{acknowledged}");
        }
        assert!(self.refused.iter().all(|refused| !intents.contains(refused)));
        log
    }
}

async fn writes_are_refused_loudly_until_the_disk_is_mended(failure: Failure, why: &str) {
    let mut outage = Outage::of(Changes::default()).await;
    assert_eq!(outage.put("before").await.status, StatusCode::CREATED);
    let failures = counted(&outage.world, "amlgate_journal_failures_total").await;
    let refusals = counted(&outage.world, "amlgate_journal_refused_total").await;

    outage.disk.fails(failure);
    if failure == Failure::Forbidden {
        // What is open stays open, and what is written there is there; no head can vouch for it.
        outage.next_head(false).await;
    }
    is_refused(&outage.put("refused-1").await);
    is_refused(&outage.put("refused-2").await);
    is_refused(&outage.world.caller("sam").delete(&job_at("before")).await);
    is_refused(&outage.get().await);
    let revoked = json!({"principal": "sandbox:user-rita", "reason": "a lost laptop"});
    let revoked = api::revoke(&outage.world, "pat", revoked).await;
    assert_eq!(revoked.status, StatusCode::SERVICE_UNAVAILABLE, "{revoked:?}");

    let ready = operations::ask(&outage.world, "/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let dependencies = ready.json()["dependencies"].clone();
    let journal = dependencies.as_array().unwrap().iter().find(|d| d["name"] == "journal").unwrap().clone();
    assert_eq!(journal["state"], "unready");
    let detail = journal["detail"].as_str().unwrap();
    assert!(detail.contains(why) && detail.contains("mend the disk"), "{detail}");
    assert!(counted(&outage.world, "amlgate_journal_failures_total").await > failures);
    assert!(counted(&outage.world, "amlgate_journal_refused_total").await >= refusals + 4);
    let logged = taint::logged();
    assert!(logged.contains("records cannot be made durable") && logged.contains(why), "it is logged");

    // Nobody writes, because nobody is sent here: the gate finds by itself that the disk is good again.
    outage.disk.fails(Failure::None);
    outage.next_head(true).await;
    assert_eq!(operations::ask(&outage.world, "/readyz").await.status, StatusCode::OK);
    assert_eq!(outage.put("after").await.status, StatusCode::CREATED);
    assert_eq!(outage.get().await.status, StatusCode::OK);

    // And again, without a head between: the next write finds it.
    if failure != Failure::Forbidden {
        outage.disk.fails(failure);
        is_refused(&outage.put("refused-3").await);
        outage.disk.fails(Failure::None);
        assert_eq!(outage.put("after-2").await.status, StatusCode::CREATED);
    }
    let log = outage.stop().await;
    let resumed = log.events("record_resumed");
    assert_eq!(resumed.len(), if failure == Failure::Forbidden { 1 } else { 2 }, "{resumed:#?}");
    assert!(resumed[0]["problem"].as_str().unwrap().contains(why), "{resumed:#?}");
    assert!(resumed[0]["refused"].as_u64().unwrap() >= 4, "{resumed:#?}");
    assert_eq!(resumed[0]["unrecorded_reads"], 0);
    assert!(log.events("recovered").is_empty(), "nothing was left behind");
}

#[tokio::test]
async fn on_a_full_disk_writes_are_refused_loudly_until_there_is_space() {
    writes_are_refused_loudly_until_the_disk_is_mended(Failure::Full, "No space left on device").await;
}

#[tokio::test]
async fn on_a_read_only_disk_writes_are_refused_loudly_until_it_is_writable() {
    writes_are_refused_loudly_until_the_disk_is_mended(Failure::ReadOnly, "Read-only file system").await;
}

#[tokio::test]
async fn on_a_disk_that_does_not_sync_writes_are_refused_loudly_until_it_does() {
    writes_are_refused_loudly_until_the_disk_is_mended(Failure::Unsynced, "Input/output error").await;
}

#[tokio::test]
async fn without_permission_to_its_files_writes_are_refused_loudly_until_it_is_given() {
    writes_are_refused_loudly_until_the_disk_is_mended(Failure::Forbidden, "Permission denied").await;
}

#[tokio::test]
async fn with_best_effort_reads_go_on_through_an_outage_and_writes_do_not() {
    let mut outage = Outage::of(BEST_EFFORT).await;
    assert_eq!(outage.put("before").await.status, StatusCode::CREATED);
    outage.disk.fails(Failure::Full);
    is_refused(&outage.put("refused").await);
    let read = outage.get().await;
    assert_eq!(read.status, StatusCode::OK, "{read:?}");
    let ready = operations::ask(&outage.world, "/readyz").await;
    assert_eq!(ready.status, StatusCode::OK, "whoever lets reads go on wants them sent here");
    assert!(ready.text().contains("writes are refused, and reads go on"), "{ready:?}");
    outage.disk.fails(Failure::None);
    outage.next_head(true).await;
    let log = outage.stop().await;
    assert!(decisions(&log, "outcome").contains(&decision(&read)), "its record waited for the disk");
    assert_eq!(log.events("record_resumed")[0]["refused"], 1);
}

#[tokio::test]
async fn a_refusal_has_the_shape_of_the_protocol_that_is_spoken() {
    let outage = Outage::of(Changes::default()).await;
    outage.disk.fails(Failure::ReadOnly);
    is_refused(&outage.world.caller("sam").delete(&job_at("refused")).await);
    let sam = outage.world.caller("sam");
    let scored = sam.post("/endpoints/churn/score", &json!({"input_data": {"data": [[1, 2, 3]]}})).await;
    assert_eq!(scored.status, StatusCode::SERVICE_UNAVAILABLE, "{scored:?}");
    assert_eq!(scored.header("content-type"), "application/problem+json");
    assert!(scored.json()["detail"].as_str().unwrap().contains("cannot be recorded now"), "{scored:?}");
    let target = format!("/mlflow/v2.0{}/api/2.0/mlflow/runs/create", workspace(""));
    let mut mlflow = sam.request(Method::POST, &target).header(header::CONTENT_TYPE, "application/json");
    mlflow.headers_mut().unwrap().insert(header::HOST, outage.world.data_plane());
    let mlflow = sam.send(mlflow.body(whole(r#"{"experiment_id":"1"}"#)).unwrap()).await;
    assert_eq!(mlflow.status, StatusCode::SERVICE_UNAVAILABLE, "{mlflow:?}");
    assert!(mlflow.json()["error_code"].is_string(), "{mlflow:?}");
    outage.disk.fails(Failure::None);
    outage.next_head(true).await;
    outage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_comes_and_goes_no_acknowledged_write_is_lost_and_none_is_sent_unrecorded() {
    let (world, disk) = World::on_a_failing_disk(Changes::default(), Arc::new(SystemClock)).await;
    let acknowledged = Mutex::new(BTreeSet::new());
    let refused = Mutex::new(0);
    let done = tokio_util::sync::CancellationToken::new();
    let come_and_go = async {
        let failures = [Failure::Full, Failure::ReadOnly, Failure::Unsynced];
        for failure in failures.into_iter().cycle() {
            for now in [failure, Failure::None] {
                disk.fails(now);
                let before = acknowledged.lock().unwrap().len() + *refused.lock().unwrap();
                // Some writes meet each state.
                while acknowledged.lock().unwrap().len() + *refused.lock().unwrap() < before + 3 {
                    if done.is_cancelled() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    let write = |writer: u32| {
        let (world, acknowledged, refused) = (&world, &acknowledged, &refused);
        async move {
            for number in 0..15 {
                let answer = world.caller("sam").put(&job_at(&format!("w{writer}-{number}")), &job()).await;
                match answer.status {
                    StatusCode::CREATED => drop(acknowledged.lock().unwrap().insert(decision(&answer))),
                    _ => {
                        is_refused(&answer);
                        *refused.lock().unwrap() += 1;
                    }
                }
            }
        }
    };
    let writing = async {
        tokio::join!(write(0), write(1), write(2), write(3), write(4), write(5), write(6), write(7));
        done.cancel();
    };
    tokio::join!(writing, come_and_go);
    disk.fails(Failure::None);
    let (acknowledged, refused) = (acknowledged.into_inner().unwrap(), refused.into_inner().unwrap());
    assert!(acknowledged.len() > 10 && refused > 10, "{} and {refused}", acknowledged.len());
    let sent = world.sandbox.azure.observer().seen_at("/jobs/w").len();
    assert_eq!(sent, acknowledged.len(), "Azure saw what was acknowledged and nothing else");
    let log = world.stop().await;
    is_verified(&log);
    assert_eq!(decisions(&log, "intent"), acknowledged);
    assert_eq!(decisions(&log, "outcome"), acknowledged);
    assert!(!log.events("record_resumed").is_empty());
}
