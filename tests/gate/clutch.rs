//! A Clutch in front of the gate: whoever is behind it is named by its word alone, and may not answer
//! what was asked in their name.

use std::process::Command;

use amlgate::sandbox::Person;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    api::{self, token},
    approvals::{answer, call, call_with},
    sessions::Browser,
    world::{Changes, VERSION, World, fed, job, whole, workspace},
};

const POLICIES: &str = "version: 1
subjects:
  clutch: [{issuer: sandbox, subject: 'repo:contoso/vision:ref:refs/heads/main'}]
  platform: [{issuer: sandbox, group: platform}, {issuer: sandbox, group: model-review}]
  scientists: [{issuer: sandbox, group: data-science}]
allow:
  - {name: clutch and scientists work, who: [clutch, scientists], actions: [Microsoft.MachineLearningServices/*]}
  - {name: clutch asks, who: [clutch], actions: [amlgate/requests/write, amlgate/requests/read]}
  - {name: people ask and answer, who: [platform, scientists], actions: [amlgate/requests/*]}
require:
  - {name: jobs need a second person, actions: [Microsoft.MachineLearningServices/workspaces/jobs/write], approval: {by: [{subject: platform}]}}
";

const CLUTCH: &str = "clutch: {service: {issuer: sandbox, subject: 'repo:contoso/vision:ref:refs/heads/main'}, users: {issuer: sandbox, header: x-clutch-user}}\npolicies: policies/";

async fn world() -> World {
    let configuration = &[("policies: policies/", CLUTCH)];
    World::changed(Changes { policies: Some(POLICIES), configuration }).await
}

/// A call that is refused for want of an approval; its decision.
async fn refused(world: &World, by: &str, name: &str) -> String {
    let path = workspace(&format!("/jobs/{name}?{VERSION}"));
    let answer = world.caller(by).put(&path, &job()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    answer.header("x-amlgate-decision").to_owned()
}

/// Asks, in the names that body and headers say.
async fn asks(
    world: &World,
    by: &str,
    decision: &str,
    claimed: Option<&str>,
    headers: &[&str],
) -> crate::world::Answer {
    let mut builder = api::request(world, Method::POST, "/api/v1/requests")
        .header(header::AUTHORIZATION, format!("Bearer {}", token(world, by)))
        .header(header::CONTENT_TYPE, "application/json");
    for name in headers {
        builder = builder.header("x-clutch-user", *name);
    }
    let mut body = json!({"decision": decision, "reason": "to retrain"});
    if let Some(claimed) = claimed {
        body["claimed"] = json!(claimed);
    }
    api::ask(world, builder.body(whole(body.to_string())).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_clutch_names_is_shown_as_claimed_and_never_answers() {
    let world = world().await;
    let decision = refused(&world, "ci", "claimed").await;
    let asked = asks(&world, "ci", &decision, Some("Pat@sandbox.example"), &[]).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    let request = asked.json()["requests"][0].clone();
    let id = request["id"].as_str().unwrap().to_owned();
    // Who asked is the service: its claim is beside it, and gives nobody anything.
    assert!(request["requester"]["id"].as_str().unwrap().starts_with("sandbox:repo:contoso"), "{request}");
    let claimed = json!({"user": "Pat@sandbox.example", "issuer": "sandbox", "claim": "email"});
    assert_eq!(request["claimed"], claimed);
    // Pat, whom it names, may approve elsewhere and not here, however often she signs in.
    let own = answer(&world, "pat", &id, "approve").await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "{own:?}");
    assert!(own.text().contains("asked in your name"), "{own:?}");
    assert_eq!(answer(&world, "pat", &id, "deny").await.status, StatusCode::FORBIDDEN);
    let to_answer = "/api/v1/requests?show=to_answer";
    assert_eq!(call(&world, "pat", Method::GET, to_answer, None).await.json()["requests"], json!([]));
    // The service answers nothing either.
    assert_eq!(answer(&world, "ci", &id, "approve").await.status, StatusCode::FORBIDDEN);
    // Rita sees whose word it is, in the API, in the console and in a terminal.
    let listed = call(&world, "rita", Method::GET, to_answer, None).await.json();
    assert_eq!((&listed["requests"][0]["id"], &listed["requests"][0]["claimed"]), (&json!(id), &claimed));
    let mut rita = Browser::new(&world);
    rita.sign_in("rita").await;
    let page = rita.get(&format!("/requests/{id}")).await.text();
    assert!(page.contains("Pat@sandbox.example") && page.contains("nobody has proved it"), "{page}");
    assert!(rita.get("/requests").await.text().contains("Pat@sandbox.example (claimed)"));
    let nowhere = tempfile::tempdir().unwrap();
    let mut shown = Command::new(env!("CARGO_BIN_EXE_amlgate"));
    shown.args(["request", "show", &id, "--as", "-", "--gate", &format!("https://{}", world.host()), "--ca"]);
    shown.arg(world.sandbox.ca()).env("AMLGATE_HOME", nowhere.path()).env_remove("AMLGATE_GATE");
    let shown = tokio::task::block_in_place(|| fed(&mut shown, &token(&world, "rita")));
    let printed = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(printed.contains("claimed   Pat@sandbox.example"), "{printed} {shown:?}");
    let approved = answer(&world, "rita", &id, "approve").await;
    assert_eq!((approved.status, &approved.json()["state"]), (StatusCode::OK, &json!("approved")));
    let passed = world.caller("ci").put(&workspace(&format!("/jobs/claimed?{VERSION}")), &job()).await;
    assert!(passed.status.is_success(), "{passed:?}");
    let log = world.stop().await;
    for event in ["approval_asked", "approved"] {
        let [said] = log.events(event)[..] else { panic!("{event}") };
        assert_eq!(said["claimed"], "Pat@sandbox.example", "{said}");
        assert!(said["requester"].as_str().unwrap().starts_with("sandbox:repo:contoso"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_told_apart_from_the_claimed_user_does_not_answer() {
    let world = world().await;
    let decision = refused(&world, "ci", "unknown").await;
    let asked = asks(&world, "ci", &decision, None, &["somebody@sandbox.example"]).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    let id = asked.json()["requests"][0]["id"].as_str().unwrap().to_owned();
    let pat = Person::named("pat").unwrap();
    let nameless =
        world.sandbox.issuer.mint().token_with(pat, |claims| drop(claims.remove("email"))).unwrap();
    let path = format!("/api/v1/requests/{id}/approve");
    let refused = call_with(&world, &nameless, Method::POST, &path, Some(json!({}))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert!(refused.text().contains("your token does not say"), "{refused:?}");
    assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_asks_in_anybodys_name_and_the_service_never_without() {
    let world = world().await;
    let (service, sam) = (refused(&world, "ci", "x").await, refused(&world, "sam", "y").await);
    let pat = "pat@sandbox.example";
    let ruled = async |by: &str, decision: &str, claimed: Option<&str>, headers: &[&str]| {
        asks(&world, by, decision, claimed, headers).await.status.as_u16()
    };
    // A claim of somebody's who may make none is refused, and not passed over.
    assert_eq!(ruled("sam", &sam, Some(pat), &[]).await, 403);
    assert_eq!(ruled("sam", &sam, None, &[pat]).await, 403);
    assert_eq!(ruled("ci", &service, None, &[]).await, 400);
    assert_eq!(ruled("ci", &service, Some("  "), &[]).await, 400);
    assert_eq!(ruled("ci", &service, Some("a\u{7}"), &[]).await, 400);
    assert_eq!(ruled("ci", &service, Some(&"x".repeat(300)), &[]).await, 400);
    assert_eq!(ruled("ci", &service, None, &[""]).await, 400);
    assert_eq!(ruled("ci", &service, None, &[pat, pat]).await, 400);
    assert_eq!(ruled("ci", &service, Some("rita"), &[pat]).await, 400);
    assert_eq!(ruled("ci", &service, Some(pat), &[pat]).await, 201);
    assert_eq!(ruled("sam", &sam, None, &[]).await, 201);
    let log = world.stop().await;
    assert_eq!(log.events("approval_asked").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_the_service_that_would_wait_asks_for_nobody() {
    let world = world().await;
    let caller = world.caller("ci");
    let put = caller
        .request(Method::PUT, &workspace(&format!("/jobs/held?{VERSION}")))
        .header(header::CONTENT_TYPE, "application/json")
        .header("prefer", "wait=60");
    let answer = caller.send(put.body(whole(job().to_string())).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    let said = answer.json();
    assert!(said["error"]["message"].as_str().unwrap().contains("say in whose name you ask"), "{said}");
    assert_eq!(world.stop().await.events("approval_asked"), Vec::<&Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_configuration_nobody_asks_in_anybodys_name() {
    let world = World::changed(Changes { policies: Some(POLICIES), ..Changes::default() }).await;
    let decision = refused(&world, "ci", "off").await;
    let claimed = asks(&world, "ci", &decision, Some("pat@sandbox.example"), &[]).await;
    assert_eq!(claimed.status, StatusCode::FORBIDDEN, "{claimed:?}");
    let plain = asks(&world, "ci", &decision, None, &[]).await;
    assert_eq!((plain.status, &plain.json()["requests"][0]["claimed"]), (StatusCode::CREATED, &Value::Null));
}
