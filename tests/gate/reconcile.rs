//! `audit reconcile`: whoever goes around the gate is found in Azure's own log.

use std::process::{Command, Output};

use amlgate::sandbox::azure::names;
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;

use crate::world::{VERSION, World, job, workspace};

fn reconciled(world: &World, more: &[&str]) -> (Output, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["audit", "reconcile", "--output", "json", "--config"])
        .arg(world.sandbox.configuration())
        .args(more)
        .output()
        .unwrap();
    let found = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, found)
}

/// Does it as the gate's own identity, but not through the gate.
async fn directly(world: &World, method: &str, target: &str, body: &Value, correlation: &str) {
    let token = world
        .sandbox
        .azure
        .machine_token(names::GATE_CLIENT, names::GATE_PRINCIPAL, "https://management.azure.com")
        .unwrap();
    let connector = amlgate::net::Connector::new(amlgate::net::ConnectorSettings::default()).unwrap();
    let ca = std::fs::read(world.sandbox.ca()).unwrap();
    let to = amlgate::net::Destination::https("management.azure.com", 443)
        .at(Some(world.sandbox.layout.azure_address))
        .trusting(Some(amlgate::net::Trust::new(Some(&ca)).unwrap()));
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("x-ms-correlation-request-id", correlation)
        .body(Bytes::from(body.to_string()))
        .unwrap();
    let answer = connector.send(&to, request, amlgate::net::FetchLimits::default()).await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_through_the_gate_is_in_the_record_and_what_goes_around_it_is_named() {
    let world = World::new().await;
    let sam = world.caller("sam");
    for number in 0..5 {
        let submitted = sam.put(&workspace(&format!("/jobs/through-{number}?{VERSION}")), &job()).await;
        assert_eq!(submitted.status, StatusCode::CREATED);
    }
    // The outcome of the last is written when its answer was read.
    let mut written = world.server.journal().durable();
    written.wait_for(|durable| *durable >= 11).await.unwrap();
    let (output, found) = reconciled(&world, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    // The simulated Azure has three events on a page.
    assert_eq!((found["operations"].as_u64(), found["around"].as_array().unwrap().len()), (Some(5), 0));

    let around = workspace(&format!("/jobs/around?{VERSION}"));
    directly(&world, "PUT", &around, &job(), "0d9b7a3e-0000-4000-8000-000000000001").await;
    let (output, found) = reconciled(&world, &[]);
    assert_eq!(output.status.code(), Some(1));
    let [one] = &found["around"].as_array().unwrap()[..] else { panic!("{found:#}") };
    assert_eq!(one["resource"], workspace("/jobs/around"));
    assert_eq!(one["action"], "Microsoft.MachineLearningServices/workspaces/jobs/write");
    assert_eq!((&one["why"], &one["caller"]), (&"no_record".into(), &names::GATE_PRINCIPAL.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrowed_correlation_id_hides_nothing() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let submitted = sam.put(&workspace(&format!("/jobs/mine?{VERSION}")), &job()).await;
    assert_eq!(submitted.status, StatusCode::CREATED);
    let correlation = submitted.header("x-ms-correlation-request-id").to_owned();
    assert!(!correlation.is_empty(), "{submitted:?}");
    world.server.journal().durable().wait_for(|durable| *durable >= 3).await.unwrap();
    let other = workspace(&format!("/jobs/other?{VERSION}"));
    directly(&world, "PUT", &other, &job(), &correlation).await;
    let again = workspace(&format!("/jobs/mine?{VERSION}"));
    directly(&world, "DELETE", &again, &Value::Null, &correlation).await;
    let (output, found) = reconciled(&world, &["--scope", &workspace("")]);
    assert_eq!(output.status.code(), Some(1));
    let why: Vec<_> =
        found["around"].as_array().unwrap().iter().map(|one| one["why"].as_str().unwrap()).collect();
    assert_eq!(why, ["other_record", "other_record"], "{found:#}");
    // Elsewhere nothing happened.
    let elsewhere = format!("/subscriptions/{}/resourceGroups/other", names::SUBSCRIPTION);
    let (output, _) = reconciled(&world, &["--scope", &elsewhere]);
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_event_grid_announces_and_the_record_does_not_have_is_named() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let model = serde_json::json!({"properties": {
        "modelUri": "azureml://datastores/workspaceblobstore/paths/model", "modelType": "custom_model",
    }});
    let registered = sam.put(&workspace(&format!("/models/churn/versions/9?{VERSION}")), &model).await;
    assert!(registered.status.is_success(), "{registered:?}");
    world.server.journal().durable().wait_for(|durable| *durable >= 3).await.unwrap();
    let event = |id: &str, version: &str, workspace: String| {
        serde_json::json!({
            "topic": workspace, "subject": format!("models/churn:{version}"), "id": id,
            "eventType": "Microsoft.MachineLearningServices.ModelRegistered",
            "eventTime": amlgate::time::Clock::now(&amlgate::time::SystemClock).to_rfc3339(),
            "data": {"ModelName": "churn", "ModelVersion": version, "ModelTags": {}, "ModelProperties": {}},
            "dataVersion": "", "metadataVersion": "1",
        })
    };
    let elsewhere = format!(
        "/subscriptions/{}/resourceGroups/other/providers/Microsoft.MachineLearningServices/workspaces/w",
        names::SUBSCRIPTION
    );
    let through = event("1", "9", workspace(""));
    let around = event("2", "10", workspace(""));
    let file = world.directory().join("events.json");
    let events = ["--events", file.to_str().unwrap()];
    std::fs::write(&file, serde_json::json!([through, event("3", "10", elsewhere)]).to_string()).unwrap();
    let (output, found) = reconciled(&world, &events);
    assert_eq!(output.status.code(), Some(0), "{found:#} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(found["announced"], 1, "what is not guarded is not compared");
    std::fs::write(&file, format!("{through}\n{around}\n")).unwrap();
    let (output, found) = reconciled(&world, &events);
    assert_eq!(output.status.code(), Some(1));
    let [one] = &found["unrecorded"].as_array().unwrap()[..] else { panic!("{found:#}") };
    assert_eq!((&one["name"], &one["why"]), (&"churn:10".into(), &"no_record".into()));
}
