//! Keys of endpoints that nobody sees, and operations that take their time.

use amlgate::sandbox::{azure::names, issuer::Forgery};
use http::{Method, StatusCode};
use serde_json::json;

use crate::world::{VERSION, World, whole, workspace};

fn endpoint(rest: &str) -> String {
    workspace(&format!("/onlineEndpoints/{}{rest}?{VERSION}", names::ENDPOINT))
}

#[tokio::test]
async fn list_keys_gives_handles_that_score_for_their_owner_only() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let answer = sam.post(&endpoint("/listKeys"), &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let handle = answer.json()["primaryKey"].as_str().unwrap().to_owned();
    let id = workspace(&format!("/onlineEndpoints/{}", names::ENDPOINT));
    let keys = world.sandbox.azure.secret_of(&id).unwrap();
    for name in ["primaryKey", "secondaryKey"] {
        let real = keys[name].as_str().unwrap();
        assert!(real.len() > 8 && !answer.text().contains(real), "{answer:?}");
    }
    // An SDK sends the handle where the key would stand.
    let input = json!({"input_data": {"data": [[1, 2, 3]]}});
    let scored = world.bearing(&handle).post("/endpoints/churn/score", &input).await;
    assert_eq!(scored.status, StatusCode::OK, "{scored:?}");
    assert!(scored.json()["predictions"][0].is_number());
    // It is no token for anything else, and a changed one is nothing.
    let elsewhere = world.bearing(&handle).get(&workspace(&format!("/jobs?{VERSION}"))).await;
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED, "{elsewhere:?}");
    let mut changed = handle.clone().into_bytes();
    let last = changed.len() - 5;
    changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    let refused = world.bearing(&changed).post("/endpoints/churn/score", &input).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused:?}");
    let log = world.stop().await;
    let text = serde_json::to_string(&log.records).unwrap();
    for name in ["primaryKey", "secondaryKey"] {
        assert!(!text.contains(keys[name].as_str().unwrap()));
    }
    assert!(!text.contains(&handle));
    let scored = log.requests().into_iter().rfind(|r| r["http_response"]["code"] == 200).unwrap();
    assert_eq!(scored["actor"]["user"]["uid"], "sandbox:user-sam");
}

#[tokio::test]
async fn who_may_not_list_keys_gets_none() {
    let world = World::new().await;
    for name in ["rita", "alex"] {
        let answer = world.caller(name).post(&endpoint("/listKeys"), &json!({})).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    }
    let forged = world.forged("sam", Forgery::Altered).post(&endpoint("/listKeys"), &json!({})).await;
    assert_eq!(forged.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_key_that_the_endpoint_refuses_is_the_gates_business_and_said_with_a_time() {
    let world = World::new().await;
    let ci = world.caller("ci");
    let input = json!({"input_data": {"data": [[1, 2, 3]]}});
    assert_eq!(ci.post("/endpoints/churn/score", &input).await.status, StatusCode::OK);
    let id = workspace(&format!("/onlineEndpoints/{}", names::ENDPOINT));
    let before = world.sandbox.azure.secret_of(&id).unwrap();
    let pat = world.caller("pat");
    let again = pat.post(&endpoint("/regenerateKeys"), &json!({"keyType": "Primary"})).await;
    assert!(again.status.is_success(), "{again:?}");
    assert_ne!(world.sandbox.azure.secret_of(&id).unwrap(), before);
    // A key that is younger than ten seconds is not fetched anew: what the caller gets is a time.
    let stale = ci.post("/endpoints/churn/score", &input).await;
    assert_eq!(stale.status, StatusCode::SERVICE_UNAVAILABLE, "{stale:?}");
    assert_eq!(stale.header("retry-after"), "10");
    assert!(stale.text().contains("the endpoint refuses the key"), "{stale:?}");
}

#[tokio::test]
async fn a_long_operation_is_polled_through_the_gate_by_who_began_it() {
    let world = World::new().await;
    let pat = world.caller("pat");
    let target = workspace(&format!("/computes/gpu?{VERSION}"));
    let body = json!({
        "location": "westeurope",
        "properties": {"computeType": "AmlCompute", "properties": {
            "vmSize": "STANDARD_DS3_V2", "vmPriority": "Dedicated",
            "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 2}
        }}
    });
    let answer = pat.put(&target, &body).await;
    assert!(matches!(answer.status.as_u16(), 201 | 202), "{answer:?}");
    let gate = &world.sandbox.layout.gate;
    let poll = answer.header("azure-asyncoperation").to_owned();
    let poll = poll.strip_prefix(gate.as_str()).unwrap_or_else(|| panic!("{poll} leads to {gate}"));
    let state = pat.get(poll).await;
    assert_eq!(state.status, StatusCode::OK, "{state:?}");
    assert!(state.json()["status"].is_string(), "{state:?}");
    // Who did not begin it and may not read operations may not poll it either.
    let ci = world.caller("ci").get(poll).await;
    assert_eq!(ci.status, StatusCode::FORBIDDEN, "{ci:?}");
    // Nor may the address of another operation be made up.
    let made_up = poll.replace("operations/", "operations/x").replace("amlgate-op=", "amlgate-op=x");
    let refused = world.caller("ci").get(&made_up).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
}

#[tokio::test]
async fn a_challenge_of_azure_is_answered_once_and_the_caller_never_meets_it() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let jobs = workspace(&format!("/jobs?{VERSION}"));
    assert_eq!(sam.get(&jobs).await.status, StatusCode::OK);
    world.sandbox.azure.challenge(names::GATE_PRINCIPAL);
    let answer = sam.get(&jobs).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let tries = world.sandbox.azure.observer().seen_at("/jobs").len();
    assert_eq!(tries, 3, "the first, the challenged one, and one again");
    assert_eq!(sam.get(&jobs).await.status, StatusCode::OK);
    assert_eq!(world.sandbox.azure.observer().seen_at("/jobs").len(), 4);
}

#[tokio::test]
async fn what_azure_refuses_the_gate_is_said_to_be_the_gates() {
    let world = World::new().await;
    world.sandbox.azure.unassign(names::GATE_PRINCIPAL);
    let answer = world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert!(answer.text().contains("the gate's own identity"), "{answer:?}");
    assert!(!answer.text().contains(names::GATE_PRINCIPAL), "{answer:?}");
}

#[tokio::test]
async fn a_head_request_has_no_body_and_its_length() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let request = sam.request(Method::HEAD, "/endpoints/churn/").body(whole("")).unwrap();
    let answer = sam.send(request).await;
    assert!(answer.body.is_empty(), "{answer:?}");
}
