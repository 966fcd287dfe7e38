//! Azure tells of models and runs: a model that came in past the gate is told of, and nothing else.

use std::{sync::Arc, time::Duration};

use amlgate::{
    store::StatementRow,
    time::{Clock as _, ManualClock, SharedClock, SystemClock, Timestamp},
};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    api::{ask, request},
    world::{Answer, Changes, VERSION, World, whole, workspace},
};

const SECRET: &str = "azure-canary-0123456789abcdef0123456789abcdef";

async fn world() -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemClock.now());
    let block = "azure_events:\n  - {name: vision, path_secret: {file: azure.hook}, from: [127.0.0.1], grace: 10m}\npolicies: policies/";
    let changes = Changes { configuration: &[("policies: policies/", block)], ..Changes::default() };
    (World::having_at(&[("azure.hook", SECRET)], changes, Arc::new(clock.clone())).await, clock)
}

fn hook() -> String {
    format!("/hooks/azure/vision/{SECRET}")
}

async fn posts(world: &World, body: &Value) -> Answer {
    let builder = request(world, Method::POST, &hook()).header(header::CONTENT_TYPE, "application/json");
    ask(world, builder.body(whole(body.to_string())).unwrap()).await
}

/// What Event Grid posts when a model was registered.
fn registered(name: &str, id: &str, at: Timestamp) -> Value {
    json!({
        "topic": workspace(""), "subject": format!("models/{name}:1"), "id": id, "eventTime": at.to_rfc3339(),
        "eventType": "Microsoft.MachineLearningServices.ModelRegistered", "dataVersion": "2", "metadataVersion": "1",
        "data": {"ModelName": name, "ModelVersion": "1", "ModelTags": {}, "ModelProperties": {}},
    })
}

/// Registers a model, of whose code nobody asks here.
async fn registers(world: &World, name: &str) {
    let body =
        json!({"properties": {"modelUri": "azureml://datastores/d/paths/m", "modelType": "custom_model"}});
    let target = workspace(&format!("/models/{name}/versions/1?{VERSION}"));
    let answer = world.caller("sam").put(&target, &body).await;
    assert!(answer.status.is_success(), "{answer:?}");
}

/// Waits until nothing that was told waits any more. The clock moves on only while nobody is at work: what
/// is not recorded in time is told of again.
async fn until_settled(world: &World, clock: &ManualClock) {
    let store = world.server.parts().store.clone().unwrap();
    let end = Timestamp::from_secs(100_000_000_000);
    let settled = async {
        while !store.due_registrations(end, 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut settled = std::pin::pin!(settled);
    while tokio::time::timeout(Duration::from_secs(5), &mut settled).await.is_err() {
        clock.advance(Duration::from_secs(60));
    }
}

fn stated(name: &str, made: Timestamp) -> StatementRow {
    let id = format!("azureml:/{}", workspace(&format!("/models/{name}/versions/1")));
    let id = id.replace("/providers/Microsoft.MachineLearningServices", "");
    StatementRow {
        id: "ab".repeat(32),
        model: id.to_ascii_lowercase(),
        tail: String::new(),
        named: id,
        digest: "sha256:00".into(),
        decision: "d".into(),
        made,
        provenance: "{}".into(),
        summary: "{}".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_nobody_stated_is_told_of_once_when_its_time_is_over_even_by_a_gate_that_starts_anew() {
    let (world, clock) = world().await;
    for name in ["rogue", "known"] {
        registers(&world, name).await;
    }
    let began = clock.now();
    let told = json!([
        registered("rogue", "e1", began),
        registered("known", "e2", began),
        registered("invented", "e3", began)
    ]);
    assert_eq!(posts(&world, &told).await.status, StatusCode::ACCEPTED);
    // Event Grid repeats itself, alone and among others.
    assert_eq!(posts(&world, &json!([registered("rogue", "e1", began)])).await.status, StatusCode::ACCEPTED);
    let store = world.server.parts().store.clone().unwrap();
    assert!(store.keep_statement(stated("known", began)).await.unwrap());
    // Nobody is told of what may still be stated.
    clock.advance(Duration::from_secs(9 * 60));
    let shared: SharedClock = Arc::new(clock.clone());
    let world = world.started_anew(shared).await;
    // Twice, so that whoever looks at intervals has begun to wait in between.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        clock.advance(Duration::from_secs(60));
    }
    until_settled(&world, &clock).await;
    assert_eq!(posts(&world, &registered("rogue", "e1", began)).await.status, StatusCode::ACCEPTED);
    until_settled(&world, &clock).await;
    let log = world.stop().await;
    let own = |record: &Value| record["unmapped"]["amlgate"].clone();
    let is_alarm = |record: &&Value| own(record)["event"] == "unstated_model";
    let alarms: Vec<_> = log.records.iter().filter(is_alarm).collect();
    let [alarm] = &alarms[..] else { panic!("{alarms:?}") };
    assert!(alarm["time"].as_u64().unwrap() >= began.as_millis() + 600_000, "{alarm}");
    let alarm = own(alarm);
    assert!(alarm["model"].as_str().unwrap().ends_with("/models/rogue/versions/1"), "{alarm}");
    assert_eq!((alarm["hook"].as_str(), alarm["seen"].as_str()), (Some("vision"), Some("yes")));
    assert_eq!(alarm["registered"], began.as_millis());
    assert!(!format!("{:?}", log.records).contains(SECRET), "the secret is in no record");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_handshakes_are_answered_and_the_end_of_a_run_has_others_look() {
    let (world, _) = world().await;
    let validation = json!([{
        "id": "v", "topic": workspace(""), "subject": "", "eventTime": "2026-11-26T18:41:00.9584103Z",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "dataVersion": "1", "metadataVersion": "1",
        "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6", "validationUrl": "https://example.com/"},
    }]);
    // Twice, as whoever tries again does.
    for _ in 0..2 {
        let answer = posts(&world, &validation).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.json(), json!({"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}));
    }
    let asks = async |path: &str, origin: Option<&str>| {
        let mut builder = request(&world, Method::OPTIONS, path);
        if let Some(origin) = origin {
            builder = builder.header("webhook-request-origin", origin);
        }
        ask(&world, builder.body(whole("")).unwrap()).await
    };
    let allowed = asks(&hook(), Some("eventgrid.azure.net")).await;
    assert_eq!(
        (allowed.status, allowed.header("webhook-allowed-origin")),
        (StatusCode::OK, "eventgrid.azure.net")
    );
    assert_eq!(allowed.header("webhook-allowed-rate"), "600");
    assert_eq!(asks(&hook(), None).await.status, StatusCode::BAD_REQUEST);
    for path in [format!("{}x", hook()), hook().replace("vision", "other")] {
        let stranger = asks(&path, Some("eventgrid.azure.net")).await;
        assert_eq!((stranger.status, stranger.text().as_str()), (StatusCode::NOT_FOUND, ""));
    }
    let mut hints = world.server.parts().gates.registrations().hints();
    hints.borrow_and_update();
    let completed = json!({
        "source": workspace(""), "subject": "experiments/e/runs/r", "id": "r", "specversion": "1.0",
        "time": "2026-11-26T18:41:00Z", "type": "Microsoft.MachineLearningServices.RunCompleted",
        "data": {"experimentName": "e", "runId": "r", "runStatus": "Completed"},
    });
    assert_eq!(posts(&world, &completed).await.status, StatusCode::ACCEPTED);
    hints.changed().await.unwrap();
    let odd = posts(&world, &json!([{"id": "x"}])).await;
    assert_eq!(odd.status, StatusCode::BAD_REQUEST);
    assert!(odd.text().contains("no events of Event Grid"), "{odd:?}");
}
