//! `amlgate doctor` against a world in which something is wrong.

use std::process::{Command, Output};

use amlgate::sandbox::azure::names;
use serde_json::Value;

use crate::world::{Changes, World};

fn doctor(world: &World) -> (Output, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["doctor", "--output", "json", "--config"])
        .arg(world.sandbox.configuration())
        .output()
        .unwrap();
    let found = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, found)
}

fn part<'f>(found: &'f [Value], name: &str) -> &'f Value {
    found.iter().find(|f| f["part"].as_str().unwrap().starts_with(name)).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_in_order_is_found_in_order() {
    let world = World::new().await;
    let (output, found) = doctor(&world);
    assert_eq!(output.status.code(), Some(0), "{found:#?}");
    assert!(found.iter().all(|f| f["state"] == "fine"), "{found:#?}");
    for name in ["policies", "record", "issuer sandbox", "issuer entra", "credential gate", "route arm"] {
        assert_eq!(part(&found, name)["state"], "fine", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_told_by_whom_it_speaks_for_how_old_it_is_and_what_azure_lets_it_do() {
    let world = World::new().await;
    let (_, found) = doctor(&world);
    let seen = part(&found, "credential gate")["seen"].as_str().unwrap().to_owned();
    for said in [names::GATE_CLIENT, names::GATE_PRINCIPAL, names::TENANT, "gate-client.secret`, 0 days old"]
    {
        assert!(seen.contains(said), "{said} in {seen}");
    }
    let rights: Vec<_> =
        found.iter().filter(|f| f["part"].as_str().unwrap().starts_with("rights at ")).collect();
    assert!(!rights.is_empty() && rights.iter().all(|f| f["state"] == "fine"), "{rights:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_role_of_the_gate_is_named_with_the_command_that_assigns_it() {
    let world = World::new().await;
    world.sandbox.azure.unassign(names::GATE_PRINCIPAL);
    let (output, found) = doctor(&world);
    assert_eq!(output.status.code(), Some(1), "{found:#?}");
    let scope = format!("rights at {}", names::workspace_id(names::WORKSPACE));
    let rights = part(&found, &scope);
    assert_eq!(rights["state"], "broken", "{found:#?}");
    assert!(rights["why"].as_str().unwrap().contains("workspaces/read"), "{rights}");
    let mend = rights["mend"].as_str().unwrap();
    assert!(mend.contains("az role assignment create") && mend.contains(names::GATE_PRINCIPAL), "{mend}");

    world
        .sandbox
        .azure
        .assign(names::GATE_PRINCIPAL, "Reader", &names::workspace_id(names::WORKSPACE))
        .unwrap();
    let (_, found) = doctor(&world);
    let rights = part(&found, &scope);
    assert_eq!(rights["state"], "doubtful", "{rights}");
    let seen = rights["seen"].as_str().unwrap();
    assert!(seen.contains("actions that Azure does not let the gate do"), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_named_with_its_mend_and_not_shown() {
    let world = World::changed(Changes::default()).await;
    std::fs::write(world.directory().join("certs/gate-client.secret"), "canary-secret").unwrap();
    let (output, found) = doctor(&world);
    assert_eq!(output.status.code(), Some(1));
    let credential = part(&found, "credential gate");
    assert_eq!(credential["state"], "broken");
    assert!(credential["mend"].as_str().unwrap().contains("the client secret is wrong"), "{credential}");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!said.contains("canary") && !said.contains(names::GATE_SECRET), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_answer_is_told_from_what_is_wrong() {
    let world = World::new().await;
    let World { sandbox, server, dir, .. } = world;
    let configuration = sandbox.configuration();
    server.stop().await;
    drop(sandbox);
    let output = Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["doctor", "--config"])
        .arg(&configuration)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("broken  issuer sandbox") && said.contains("ok      record"), "{said}");
    drop(dir);
}
