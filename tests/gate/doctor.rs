//! `amlgate doctor` against a world in which something is wrong.

use std::{
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use amlgate::{
    sandbox::{
        Person,
        azure::{UserToken, names},
        issuer::Forgery,
    },
    time::{Clock as _, ManualClock, SystemClock},
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    operations::ask,
    world::{Changes, VERSION, World, fed, workspace},
};

/// `doctor --as -`, with a token on standard input.
fn doctor_as(world: &World, token: &str) -> (Output, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amlgate"));
    command.args(["doctor", "--as", "-", "--output", "json", "--config"]).arg(world.sandbox.configuration());
    let output = fed(&mut command, token);
    let found = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, found)
}

/// A gate that acts for people at Resource Manager.
async fn acting() -> World {
    let person = format!(
        "credentials:\n  - name: person\n    tenant: {}\n    client_id: {}\n    on_behalf_of: {{client_secret: {{file: certs/gate-client.secret}}}}\n    address: \"{{azure}}\"\n    trust: {{ca: certs/ca.pem}}\n",
        names::TENANT,
        names::GATE_CLIENT
    );
    let configuration = [
        ("credentials:\n", person.as_str()),
        (
            "protocol: arm\n    credential: gate",
            "protocol: arm\n    credential: {default: person, read: gate}",
        ),
    ];
    World::changed(Changes { configuration: &configuration, ..Changes::default() }).await
}

fn signed_in(world: &World, name: &str, more: &Value) -> String {
    let more = more.as_object().unwrap().clone();
    let person = Person::named(name).unwrap();
    world.sandbox.azure.user_token_with(person, &UserToken::default(), |own| own.extend(more)).unwrap()
}

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

#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_told_what_they_are_to_the_gate_and_what_azure_sees_of_them() {
    let world = acting().await;
    let (output, found) = doctor_as(&world, &signed_in(&world, "sam", &json!({"acrs": ["c1"]})));
    assert_eq!(output.status.code(), Some(0), "{found:#?}");
    let you = part(&found, "you")["seen"].as_str().unwrap().to_owned();
    let sam = Person::named("sam").unwrap();
    for said in [sam.object_id, names::TENANT, "scp access", "acrs [\"c1\"]", "1 groups", "of `entra`"] {
        assert!(you.contains(said), "{said} in {you}");
    }
    let seen = part(&found, "credential person for you")["seen"].as_str().unwrap().to_owned();
    assert!(seen.contains(sam.object_id) && seen.contains("scopes user_impersonation"), "{seen}");
    let own = part(&found, "credential person")["seen"].as_str().unwrap().to_owned();
    assert!(own.contains("its own proof is taken") && own.contains("0 days old"), "{own}");
    assert!(part(&found, "clock")["seen"].as_str().unwrap().contains("this machine's clock is"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_consent_and_a_sign_in_that_is_not_enough_are_told_with_their_mend() {
    let world = acting().await;
    let sam = Person::named("sam").unwrap();
    world.sandbox.azure.demand_step_up(sam.object_id, "c1");
    let (_, found) = doctor_as(&world, &signed_in(&world, "sam", &json!({})));
    let said = part(&found, "credential person for you");
    assert_eq!(said["state"], "doubtful", "{said}");
    assert!(said["seen"].as_str().unwrap().contains("AADSTS50076"), "{said}");
    assert!(said["mend"].as_str().unwrap().contains("amlgate login"), "{said}");

    world.sandbox.azure.withdraw_consent("https://management.azure.com");
    let (output, found) = doctor_as(&world, &signed_in(&world, "rita", &json!({})));
    assert_eq!(output.status.code(), Some(1));
    let said = part(&found, "credential person for you");
    assert_eq!(said["state"], "broken", "{said}");
    assert!(said["why"].as_str().unwrap().contains("AADSTS65001"), "{said}");
    let mend = said["mend"].as_str().unwrap();
    assert!(mend.contains("`user_impersonation`") && mend.contains("admin-consent"), "{mend}");
    // The application's own token needs no such consent.
    assert_eq!(part(&found, "credential gate")["state"], "fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_acted_for_and_whose_token_is_no_good_are_told_so() {
    let world = acting().await;
    let mint = world.sandbox.issuer.mint();
    let sam = Person::named("sam").unwrap();
    let (_, found) = doctor_as(&world, &mint.token(sam).unwrap());
    assert_eq!(part(&found, "you")["state"], "fine");
    let said = part(&found, "credential person for you");
    assert!(said["why"].as_str().unwrap().contains("`sandbox` is no tenant of Entra"), "{said}");

    let forged = mint.forge(sam, Forgery::Altered).unwrap();
    let (output, found) = doctor_as(&world, &forged);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(part(&found, "you")["state"], "broken");
    assert_eq!(*part(&found, "credential person for you"), Value::Null, "nothing is tried with it");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!said.contains(forged.rsplit('.').next().unwrap()));

    let (output, _) = doctor_as(&world, "");
    assert_eq!(output.status.code(), Some(2), "without a token it is a question of usage");
}

#[tokio::test]
async fn a_clock_that_is_off_is_seen_in_readyz() {
    // The sandbox follows the gate's clock in all but the `Date` of its answers.
    let ahead = SystemClock.now().plus(Duration::from_secs(600));
    let world = World::at(Changes::default(), Arc::new(ManualClock::starting_at(ahead))).await;
    let listed = world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await;
    assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    let ready = ask(&world, "/readyz").await;
    assert_eq!(ready.status, StatusCode::OK, "somebody should look, but the gate serves");
    let ready = ready.json();
    let clock = ready["dependencies"].as_array().unwrap().iter().find(|d| d["name"] == "clock").unwrap();
    assert_eq!(clock["state"], "degraded", "{clock}");
    let detail = clock["detail"].as_str().unwrap();
    assert!(detail.contains(" s ahead of that of `") && detail.contains("NTP"), "{detail}");

    let world = World::new().await;
    assert_eq!(world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await.status, StatusCode::OK);
    let ready = ask(&world, "/readyz").await.json();
    let clock = ready["dependencies"].as_array().unwrap().iter().find(|d| d["name"] == "clock").unwrap();
    assert_eq!(clock["state"], "ready", "{clock}");
}
