//! A model that was let in because its code was reviewed is stated: signed, kept, recorded, and named in
//! the model's own tags, whatever happens in between.

mod deployed;

use amlgate::{
    lineage::{Basis, Chain, ModelId, checked},
    store::{OwedRow, StatementRow},
    time::Timestamp,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{
    custody::{Door, POLICIES, doors, named, sent, shown, submits, trained},
    reviews::{
        built,
        stand_in::{BO, Gerrit, SHA},
        world,
    },
    world::{VERSION, World, job, workspace},
};
use amlgate::sandbox::Fault;

fn model(name: &str) -> ModelId {
    ModelId::parse(&workspace(&format!("/models/{name}"))).unwrap()
}

/// What is owed, whenever it is due.
async fn owed(world: &World) -> Vec<OwedRow> {
    let store = world.server.parts().store.clone().unwrap();
    store.owed(Timestamp::from_secs(u64::from(u32::MAX)), 99).await.unwrap()
}

/// Waits until what is owed is as it should be.
async fn until(world: &World, reached: impl Fn(&[OwedRow]) -> bool) -> Vec<OwedRow> {
    let looked = async {
        loop {
            let found = owed(world).await;
            if reached(&found) {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looked).await.expect("it comes to that")
}

async fn statements(world: &World, name: &str) -> Vec<StatementRow> {
    let store = world.server.parts().store.clone().unwrap();
    store.statements_of(model(name).folded(), 9).await.unwrap()
}

/// Waits until a version's tags name its statement; both.
async fn stated(world: &World, name: &str) -> (StatementRow, Value) {
    let part = format!("/models/{name}?");
    let marks = |seen: &amlgate::sandbox::Seen| {
        seen.method == Method::PUT
            && seen.target.contains(&part)
            && seen.status.is_some()
            && String::from_utf8_lossy(&seen.body).contains("amlgate.statement")
    };
    let marked = world.sandbox.azure.observer().wait_for(|seen| seen.iter().any(marks));
    tokio::time::timeout(Duration::from_secs(60), marked).await.expect("it is stated");
    let [row] = &statements(world, name).await[..] else { panic!("`{name}` has one statement") };
    let azure = world.caller("sam").get(&workspace(&format!("/models/{name}?{VERSION}"))).await.json();
    (row.clone(), azure["properties"].clone())
}

/// Logs a metric of a job's run, as its own code does.
async fn measures(world: &World, job: &str) {
    let path = format!("/mlflow/v2.0{}", workspace("/api/2.0/mlflow/runs/log-metric"));
    let body = json!({"run_id": job, "key": "auc", "value": 0.93, "timestamp": 1, "step": 0});
    let door = Door { name: "metrics", method: Method::POST, on_data_plane: true, path, body };
    let answer = sent(world, &world.caller("sam"), &door).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_stated_whichever_door_it_came_through() {
    let gerrit = Gerrit::start().await;
    let (world, _) = world(&gerrit, POLICIES).await;
    let (token, sam) = (built(&world, SHA), world.caller("sam"));
    let mut body = job();
    body["properties"]["inputs"] = json!({"train": {"jobInputType": "uri_folder", "uri": "azureml:churn:7"}});
    trained(&world, &world.bearing(&token), "train", &body).await;
    measures(&world, "train").await;
    named(&world, &sam).await;
    let made = [
        "by-arm/versions/1",
        "by-mferp/versions/1",
        "by-registry/versions/1",
        "by-mlflow/versions/1",
        "by-mlflow/versions/2",
    ];
    let mut decisions = Vec::new();
    for (door, name) in doors("train").iter().zip(made) {
        let answer = sent(&world, &sam, door).await;
        assert!(answer.status.is_success(), "{}: {answer:?}", door.name);
        let decision = answer.header("x-amlgate-decision").to_owned();
        let (row, properties) = stated(&world, name).await;
        assert_eq!(row.decision, decision, "{}", door.name);
        assert_eq!(properties["tags"]["amlgate.statement"], row.id);
        assert_eq!(properties["properties"]["amlgate.statement"], row.id);
        let keys = world.server.parts().statements.clone().unwrap().keys();
        checked(&row.summary, &keys).unwrap();
        let chain = Chain::of(&checked(&row.provenance, &keys).unwrap()).unwrap();
        assert_eq!((&*chain.commit.id, chain.commit.basis), (SHA, Basis::Witnessed));
        assert!(chain.job.ends_with("/jobs/train"), "{}", chain.job);
        assert_eq!(
            (&*chain.entry, &*chain.project, &*chain.branch),
            ("models come from reviewed code", "ml/vision", "main")
        );
        assert!(chain.approvers[0].starts_with(&BO.to_string()), "{:?}", chain.approvers);
        assert_eq!(chain.data["train"].id, "azureml:churn:7");
        assert_eq!(chain.metrics["auc"], "0.93");
        assert!(chain.environment.is_some() && chain.started.is_some());
        assert!(chain.gate.starts_with("https://localhost:"), "{}", chain.gate);
        decisions.push(decision);
    }
    until(&world, <[OwedRow]>::is_empty).await;
    let log = world.stop().await;
    let recorded: Vec<_> =
        log.events("model_stated").iter().map(|own| own["decision"].as_str().unwrap().to_owned()).collect();
    assert_eq!(recorded, decisions, "each is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_azure_does_not_take_in_is_not_stated() {
    let gerrit = Gerrit::start().await;
    let (world, _) = world(&gerrit, POLICIES).await;
    let (token, sam) = (built(&world, SHA), world.caller("sam"));
    for name in ["first", "second"] {
        trained(&world, &world.bearing(&token), name, &job()).await;
    }
    assert!(sent(&world, &sam, &doors("first")[0]).await.status.is_success());
    let (row, _) = stated(&world, "by-arm/versions/1").await;
    let taken = sent(&world, &sam, &doors("second")[0]).await;
    assert_eq!(taken.status, StatusCode::CONFLICT, "{taken:?}");
    until(&world, <[OwedRow]>::is_empty).await;
    assert_eq!(statements(&world, "by-arm/versions/1").await, [row]);
    assert_eq!(world.stop().await.events("model_stated").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_registration_and_its_answer_loses_no_statement() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit, POLICIES).await;
    let (token, sam) = (built(&world, SHA), world.caller("sam"));
    trained(&world, &world.bearing(&token), "train", &job()).await;
    let azure = world.sandbox.azure.observer();
    azure.trap("/models/by-arm/versions/1", Some(Method::PUT), Fault::ResetAfterEffect);
    let unheard = sent(&world, &sam, &doors("train")[0]).await;
    assert_eq!(unheard.status, StatusCode::BAD_GATEWAY, "{unheard:?}");
    let decision = unheard.header("x-amlgate-decision").to_owned();
    // One that never reached it is looked for in vain.
    azure.trap("/models/by-mferp/versions/1", Some(Method::PUT), Fault::Reset);
    let lost = sent(&world, &sam, &doors("train")[1]).await;
    assert_eq!(lost.status, StatusCode::BAD_GATEWAY, "{lost:?}");
    let left = until(&world, |owed| owed.len() == 2).await;
    assert!(left.iter().all(|row| !row.answered), "{left:?}");
    drop(sam);
    let world = world.started_anew(std::sync::Arc::new(clock.clone())).await;
    assert_eq!(statements(&world, "by-arm/versions/1").await, []);
    clock.advance(Duration::from_secs(121));
    let (row, properties) = stated(&world, "by-arm/versions/1").await;
    assert_eq!((&row.decision, &properties["tags"]["amlgate.statement"]), (&decision, &json!(row.id)));
    until(&world, |owed| owed.len() == 1).await;
    clock.advance(Duration::from_secs(3_600));
    until(&world, <[OwedRow]>::is_empty).await;
    assert_eq!(statements(&world, "by-mferp/versions/1").await, []);
    assert_eq!(world.stop().await.events("model_stated").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_its_job_registers_is_stated_when_the_job_has_ended() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit, POLICIES).await;
    let token = built(&world, SHA);
    let ci = world.bearing(&token);
    let mut registers = job();
    registers["properties"]["outputs"] = json!({"m": {"jobOutputType": "mlflow_model", "assetName": "auto"}});
    let mut fails = registers.clone();
    fails["properties"]["command"] = json!("exit 1");
    let answer = submits(&ci, "train", &registers).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let decision = answer.header("x-amlgate-decision").to_owned();
    assert_eq!(submits(&ci, "breaks", &fails).await.status, StatusCode::CREATED);
    until(&world, |owed| owed.len() == 2 && owed.iter().all(|row| row.answered)).await;
    assert_eq!(statements(&world, "auto/versions/1").await, []);
    for name in ["train", "breaks"] {
        while !matches!(
            shown(&world, name).await["properties"]["status"].as_str(),
            Some("Completed" | "Failed")
        ) {}
    }
    // Somebody says that jobs have ended.
    world.server.parts().gates.custody().hurry().await;
    let (row, _) = stated(&world, "auto/versions/1").await;
    assert_eq!(row.decision, decision);
    // Whoever changes the job later registers nothing.
    let changed = submits(&world.bearing(&built(&world, SHA)), "train", &registers).await;
    assert!(changed.status.is_success(), "{changed:?}");
    clock.advance(Duration::from_secs(600));
    until(&world, <[OwedRow]>::is_empty).await;
    assert_eq!(statements(&world, "auto/versions/1").await, [row]);
    assert_eq!(world.stop().await.events("model_stated").len(), 1);
}
