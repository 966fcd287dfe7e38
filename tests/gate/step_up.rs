//! `require: step_up`: who must sign in again is told how, in the way that their client understands.

use amlgate::sandbox::{Person, azure::UserToken};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::world::{Answer, Changes, VERSION, World, workspace};

const POLICIES: &str = r"
version: 1
allow:
  - {name: all read, who: [authenticated], kinds: [read]}
require:
  - {name: proven lately, routes: [arm], step_up: {acrs: c1, max_age: 1h}}
";

async fn world() -> World {
    World::changed(Changes { policies: Some(POLICIES), ..Changes::default() }).await
}

/// Rita's token of the simulated Entra with these claims besides.
fn entra(world: &World, claims: &Value) -> String {
    let rita = Person::named("rita").unwrap();
    let more = claims.as_object().unwrap().clone();
    world.sandbox.azure.user_token_with(rita, &UserToken::default(), |token| token.extend(more)).unwrap()
}

async fn read(world: &World, token: &str) -> Answer {
    world.bearing(token).get(&workspace(&format!("?{VERSION}"))).await
}

#[tokio::test]
async fn a_person_of_entra_gets_a_claims_challenge_and_passes_with_what_it_asks_for() {
    let world = world().await;
    let answer = read(&world, &entra(&world, &json!({}))).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], "StepUpRequired");
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("Bearer realm=\"\", authorization_uri=\"https://login."), "{challenge}");
    assert!(challenge.contains("error=\"insufficient_claims\"") && challenge.ends_with("max_age=\"3600\""));
    let claims = challenge.split_once("claims=\"").unwrap().1.split_once('"').unwrap().0;
    let claims: Value = serde_json::from_slice(&STANDARD.decode(claims).unwrap()).unwrap();
    assert_eq!(
        claims,
        json!({"access_token": {"acrs": {"essential": true, "value": "c1"}, "auth_time": {"essential": true}}})
    );
    let now = chrono::Utc::now().timestamp();
    for (claims, status) in [
        (json!({"acrs": ["c1"]}), 401),
        (json!({"acrs": ["c1"], "auth_time": now - 4_000}), 401),
        (json!({"acrs": ["c2"], "auth_time": now}), 401),
        (json!({"acrs": ["c1"], "auth_time": now}), 200),
    ] {
        let answer = read(&world, &entra(&world, &claims)).await;
        assert_eq!(answer.status, status, "{claims} {answer:?}");
    }
    let log = world.stop().await;
    let requests = log.requests();
    let codes: Vec<_> =
        requests.iter().filter_map(|r| r["unmapped"]["amlgate"]["denial"]["code"].as_str()).collect();
    assert_eq!(codes, ["StepUpRequired"; 4]);
}

#[tokio::test]
async fn people_of_another_issuer_are_asked_as_rfc_9470_says() {
    let world = world().await;
    let answer = world.caller("sam").get(&workspace(&format!("?{VERSION}"))).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer realm=\"amlgate\", error=\"insufficient_user_authentication\", error_description=\"another \
         sign-in is needed\", acr_values=\"c1\", max_age=\"3600\""
    );
    let sam = Person::named("sam").unwrap();
    let now = chrono::Utc::now().timestamp();
    let token = world.sandbox.issuer.mint().token_with(sam, |claims| {
        claims.insert("acr".to_owned(), json!("c1"));
        claims.insert("auth_time".to_owned(), json!(now));
    });
    assert_eq!(read(&world, &token.unwrap()).await.status, 200);
}

#[tokio::test]
async fn the_answer_has_the_shape_of_the_protocol() {
    let policies = POLICIES.replace("[arm]", "[data-plane]");
    let world = World::changed(Changes { policies: Some(&policies), ..Changes::default() }).await;
    let target = format!("/mlflow/v2.0{}/api/2.0/mlflow/experiments/search", workspace(""));
    let answer = world.caller("sam").post(&target, &json!({"max_results": 1})).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error_code"].as_str()),
        (401, Some("UNAUTHENTICATED"))
    );
    assert!(answer.header("www-authenticate").contains("insufficient_user_authentication"));
}
