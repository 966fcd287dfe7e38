//! Sealed codes: work goes on though the identity provider is gone, for exactly whom a code is of, for
//! as long as the glass is broken.

use std::{fs, sync::Arc, time::Duration};

use amlgate::time::ManualClock;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{code, readyz, told, world};
use crate::{
    api,
    approvals::{call, call_with},
    world::{Answer, VERSION, World, job, whole, workspace},
};

const WRONG: &str = "0000-0000-0000-0000-0000-0000-0000-0000";

fn because() -> Value {
    json!({"reason": "the identity provider is down"})
}

/// A call that shows a code.
async fn shown(world: &World, code: &str, path: &str, body: Value) -> Answer {
    let request = api::request(world, Method::POST, &format!("/api/v1/break-glass/{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {code}"))
        .header(header::CONTENT_TYPE, "application/json");
    api::ask(world, request.body(whole(body.to_string())).unwrap()).await
}

async fn offline(world: &World, code: &str, body: Value) -> Answer {
    shown(world, code, "offline", body).await
}

async fn codes(world: &World, by: &str, count: u32) -> Vec<String> {
    let body = json!({ "count": count });
    let made = call(world, by, Method::POST, "/api/v1/break-glass/codes", Some(body)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let made = made.json();
    made["codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect()
}

/// How many somebody has left.
async fn left(world: &World, by: &str) -> Value {
    call(world, by, Method::GET, "/api/v1/break-glass/codes", None).await.json()["left"].take()
}

/// Breaks the glass with a code of somebody's; its id, and the token that it brought.
pub async fn opened(world: &World, by: &str) -> (String, String) {
    let own = codes(world, by, 1).await.remove(0);
    let opened = offline(world, &own, because()).await;
    assert_eq!(opened.status, StatusCode::CREATED, "{opened:?}");
    let opened = opened.json();
    assert_eq!(
        (&opened["break_glass"]["state"], &opened["break_glass"]["offline"]),
        (&json!("open"), &json!(true))
    );
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&opened["break_glass"]["id"]), text(&opened["access_token"]))
}

/// The same gate, whose people's issuer answers nobody any more.
async fn without_issuer(world: World, clock: &ManualClock) -> World {
    let file = world.sandbox.configuration();
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("    oidc: {issuer:").unwrap();
    let (line, rest) = rest.split_once("    address: \"").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    fs::write(&file, format!("{before}    oidc: {{issuer:{line}    address: \"127.0.0.1:9\"{after}"))
        .unwrap();
    let world = world.started_anew(Arc::new(clock.clone())).await;
    let token = world.sandbox.issuer.token("sam").unwrap();
    let refused = call_with(&world, &token, Method::GET, "/api/v1/break-glass", None).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "nobody can sign in: {refused:?}");
    world
}

/// Lets time go by, until the gate has looked at its store again.
async fn later(world: &World, clock: &ManualClock, time: Duration, token: &str) {
    clock.advance(time);
    let looked = async {
        loop {
            let answer = call_with(world, token, Method::GET, "/api/v1/break-glass", None).await;
            if answer.status != StatusCode::SERVICE_UNAVAILABLE {
                return;
            }
            clock.advance(Duration::from_millis(500));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looked).await.expect("it looks twice a second");
}

async fn put_with(world: &World, token: &str, name: &str) -> Answer {
    world.bearing(token).put(&workspace(&format!("/jobs/{name}?{VERSION}")), &job()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_breaks_the_glass_and_says_who_its_holder_is_until_it_is_closed() {
    let (world, clock) = world("{who: [on-call], max: 30m}").await;
    let replaced = codes(&world, "sam", 1).await.remove(0);
    let codes = codes(&world, "sam", 2).await;
    assert_eq!(left(&world, "sam").await, 2, "the set before counts no more");
    for stranger in ["pat", "rita"] {
        let path = "/api/v1/break-glass/codes";
        let refused = call(&world, stranger, Method::POST, path, Some(json!({}))).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    }
    let world = without_issuer(world, &clock).await;
    for odd in [&*replaced, WRONG] {
        let answer = offline(&world, odd, because()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
    }
    let wordless = offline(&world, &codes[0], json!({})).await;
    assert_eq!(wordless.status, StatusCode::BAD_REQUEST, "{wordless:?}");
    let opened = offline(&world, &codes[0], because()).await;
    assert_eq!(opened.status, StatusCode::CREATED, "what opened nothing is not spent: {opened:?}");
    let opened = opened.json();
    let id = opened["break_glass"]["id"].as_str().unwrap().to_owned();
    assert_eq!((&opened["break_glass"]["state"], &opened["expires_in"]), (&json!("open"), &json!(1_800)));
    assert_eq!(opened["break_glass"]["opener"]["id"], "sandbox:user-sam");
    let token = opened["access_token"].as_str().unwrap().to_owned();
    let passed = put_with(&world, &token, "urgent").await;
    assert!(passed.status.is_success(), "{passed:?}");
    // Nothing else is lifted for it.
    let deleted = world.bearing(&token).delete(&workspace(&format!("/jobs/urgent?{VERSION}"))).await;
    assert_eq!(code(&deleted), "RequestDisallowedByPolicy", "{deleted:?}");
    // A code is no token, and a token of a code is not exchanged and makes no codes.
    assert_eq!(put_with(&world, &codes[1], "odd").await.status, StatusCode::UNAUTHORIZED);
    let more = call_with(&world, &token, Method::POST, "/api/v1/break-glass/codes", Some(json!({}))).await;
    assert_eq!(more.status, StatusCode::BAD_REQUEST, "{more:?}");
    // Of a quarter of an hour each other token of the gate would live; this one lives with its glass.
    later(&world, &clock, Duration::from_secs(1_200), &token).await;
    assert!(put_with(&world, &token, "later").await.status.is_success());
    let spent = offline(&world, &codes[0], because()).await;
    assert_eq!(spent.status, StatusCode::UNAUTHORIZED, "each is good once: {spent:?}");
    let close = format!("/api/v1/break-glass/{id}/close");
    let closed = call_with(&world, &token, Method::POST, &close, Some(json!({})));
    assert_eq!(closed.await.status, StatusCode::OK);
    let over = put_with(&world, &token, "over").await;
    assert_eq!(over.status, StatusCode::UNAUTHORIZED, "with its glass it ends: {over:?}");
    let next = offline(&world, &codes[1], because()).await;
    assert_eq!(next.status, StatusCode::CONFLICT, "the review comes first: {next:?}");
    let dir = world.directory();
    let log = world.stop().await;
    for (event, count) in [
        ("break_glass_codes_made", 2),
        ("break_glass_code_used", 1),
        ("break_glass_opened", 1),
        ("break_glass_closed", 1),
    ] {
        assert_eq!(log.events(event).len(), count, "{event}");
    }
    let why: Vec<_> = log.events("break_glass_code_refused").iter().map(|own| own["why"].clone()).collect();
    assert_eq!(
        why,
        ["not_accepted", "no_reason", "not_accepted", "not_reviewed"],
        "the second guess is counted"
    );
    // Nothing of a code, or of what it brought, lies anywhere.
    let text = log.records.iter().map(Value::to_string).collect::<String>();
    for file in ["var/amlgate.db", "var/amlgate.db-wal"] {
        let store = fs::read(dir.join(file)).unwrap_or_default();
        let held = |text: &str| store.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!codes.iter().any(|code| held(code) || held(&code.replace('-', ""))), "{file}");
        assert!(!held("data-science"), "{file}: what their token said is sealed");
    }
    assert!(codes.iter().all(|code| !text.contains(code.as_str())) && !text.contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_code_ends_when_its_holder_is_revoked() {
    let (world, _) = world("{who: [on-call], max: 30m}").await;
    let (_, token) = opened(&world, "sam").await;
    assert!(put_with(&world, &token, "urgent").await.status.is_success());
    let own = codes(&world, "sam", 1).await.remove(0);
    let revoked = json!({"principal": "sandbox:user-sam", "reason": "left"});
    let policies = world.directory().join("policies/sandbox.yaml");
    let text = fs::read_to_string(&policies).unwrap();
    let more = "allow:\n  - {name: operators revoke, who: [platform], actions: [amlgate/revocations/*]}\n";
    fs::write(&policies, text.replacen("allow:\n", more, 1)).unwrap();
    world.server.reload().await;
    let made = api::revoke(&world, "pat", revoked).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let refused = put_with(&world, &token, "revoked").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused:?}");
    let again = offline(&world, &own, because()).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "nor do their other codes count: {again:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_code_ends_with_the_time_of_its_glass() {
    let (world, clock) = world("{who: [on-call], max: 30m}").await;
    let (_, token) = opened(&world, "sam").await;
    later(&world, &clock, Duration::from_secs(1_795), &token).await;
    assert!(put_with(&world, &token, "in-time").await.status.is_success());
    later(&world, &clock, Duration::from_secs(10), &token).await;
    let late = put_with(&world, &token, "late").await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED, "{late:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_too_old_opens_nothing() {
    let (world, clock) = world("{who: [on-call]}").await;
    let own = codes(&world, "sam", 2).await;
    clock.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(left(&world, "sam").await, 0);
    let old = offline(&world, &own[0], because()).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED, "{old:?}");
    let log = world.stop().await;
    assert!(log.events("break_glass_opened").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_another_gives_their_yes_and_guesses_are_slowed_down() {
    let (world, clock) = world("{who: [on-call], by: [{subject: security}]}").await;
    let own = codes(&world, "sam", 2).await;
    let other = codes(&world, "rita", 2).await;
    let world = without_issuer(world, &clock).await;
    let alone = offline(&world, &other[0], because()).await;
    assert_eq!(alone.status, StatusCode::FORBIDDEN, "who confirms opens nothing: {alone:?}");
    let asked = offline(&world, &own[0], because()).await.json();
    assert_eq!(asked["break_glass"]["state"], "asked", "{asked}");
    let (id, token) = (asked["break_glass"]["id"].as_str().unwrap(), asked["access_token"].as_str().unwrap());
    let early = put_with(&world, token, "early").await;
    assert_eq!(early.status, StatusCode::UNAUTHORIZED, "it says nothing before it is open: {early:?}");
    let confirm = format!("{id}/confirm-offline");
    let self_made = shown(&world, &own[1], &confirm, json!({})).await;
    assert_eq!(self_made.status, StatusCode::FORBIDDEN, "nobody confirms their own: {self_made:?}");
    later(&world, &clock, Duration::from_secs(60), token).await;
    let confirmed = shown(&world, &other[0], &confirm, json!({"note": "I see it, too"})).await;
    assert_eq!(
        (confirmed.status, &confirmed.json()["state"]),
        (StatusCode::OK, &json!("open")),
        "its code was given back: {confirmed:?}"
    );
    assert!(confirmed.json()["access_token"].is_null(), "whoever confirms is nobody afterwards");
    assert!(put_with(&world, token, "urgent").await.status.is_success());
    assert!(readyz(&world).await.contains("broke the glass until"));
    // Who lost what the first code brought comes back to the same with another.
    let again = offline(&world, &own[1], because()).await.json();
    assert_eq!(again["break_glass"]["id"], id, "{again}");
    for n in 2..8 {
        let answer = offline(&world, WRONG, json!({})).await;
        let wanted = if n < 5 { StatusCode::UNAUTHORIZED } else { StatusCode::TOO_MANY_REQUESTS };
        assert_eq!(answer.status, wanted, "{n}: {answer:?}");
    }
    let held_up = offline(&world, &other[1], because()).await;
    assert_eq!(held_up.status, StatusCode::TOO_MANY_REQUESTS, "{held_up:?}");
    assert_eq!(held_up.header("retry-after"), "60");
    let closed = told(&world, "sam", id, "close", json!({})).await;
    assert_eq!(closed.status, StatusCode::SERVICE_UNAVAILABLE, "its issuer is down: {closed:?}");
    let log = world.stop().await;
    assert_eq!(log.events("break_glass_code_used").len(), 3);
    assert_eq!(log.events("break_glass_opened")[0]["by"], "sandbox:user-rita");
}
