//! Break-glass through the gate and its API: what only an emergency opens, for whom, until when, and
//! what the record says of it.

pub mod offline;

use std::{sync::Arc, time::Duration};

use amlgate::{
    sandbox::{
        Person,
        azure::{UserToken, names},
    },
    time::{Clock as _, ManualClock, SystemClock},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    api,
    approvals::{call, call_with},
    world::{Answer, Changes, Log, VERSION, World, job, whole, workspace},
};

const POLICIES: &str = "version: 1
subjects:
  on-call: [{issuer: sandbox, group: data-science}, {issuer: entra, agent: {client_id: 11111111-1111-4111-8111-111111111111}}]
  platform: [{issuer: sandbox, group: platform}]
  security: [{issuer: sandbox, group: model-review}]
  copilots: [{issuer: entra, agent: {client_id: 11111111-1111-4111-8111-111111111111}}]
allow:
  - {name: people work, who: [on-call, platform], actions: [Microsoft.MachineLearningServices/*]}
  - {name: all call it, who: [authenticated], actions: [amlgate/break-glass/*, amlgate/can-i/read]}
  - {name: agents call it, who: [copilots], actions: [amlgate/break-glass/*]}
deny:
  - {name: jobs are frozen, actions: [Microsoft.MachineLearningServices/workspaces/jobs/write], unless: {break_glass: true}}
  - {name: nothing is deleted, kinds: [delete]}
  - {name: it keeps itself from nobody, actions: [amlgate/break-glass/*], unless: {break_glass: true}}
";

async fn world(rules: &str) -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemClock.now());
    let rules = format!("break_glass: {rules}\npolicies: policies/");
    let configuration = [("policies: policies/", rules.as_str())];
    let changes = Changes { policies: Some(POLICIES), configuration: &configuration };
    (World::at(changes, Arc::new(clock.clone())).await, clock)
}

const ALONE: &str = "{who: [on-call], max: 30m, review_by: 2h}";

async fn open(world: &World, by: &str, body: Value) -> Answer {
    call(world, by, Method::POST, "/api/v1/break-glass", Some(body)).await
}

/// Breaks the glass; its id.
pub async fn opened(world: &World, by: &str) -> String {
    let answer = open(world, by, json!({"reason": "the region is down"})).await;
    assert_eq!((answer.status, &answer.json()["state"]), (StatusCode::CREATED, &json!("open")), "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

pub async fn told(world: &World, by: &str, id: &str, verb: &str, body: Value) -> Answer {
    call(world, by, Method::POST, &format!("/api/v1/break-glass/{id}/{verb}"), Some(body)).await
}

async fn put(world: &World, by: &str, name: &str) -> Answer {
    world.caller(by).put(&workspace(&format!("/jobs/{name}?{VERSION}")), &job()).await
}

async fn readyz(world: &World) -> String {
    api::ask(world, api::request(world, Method::GET, "/readyz").body(whole("")).unwrap()).await.text()
}

fn code(answer: &Answer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// The gate's own part of the records of a call.
fn of_call<'l>(log: &'l Log, answer: &Answer) -> Vec<&'l Value> {
    let own = log.requests().into_iter().map(|record| &record["unmapped"]["amlgate"]);
    own.filter(|own| own["decision"] == answer.header("x-amlgate-decision")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_passes_while_the_glass_is_broken_and_is_recorded_whole() {
    let (world, _) = world(ALONE).await;
    let denied = put(&world, "sam", "before").await;
    assert_eq!(code(&denied), "RequestDisallowedByPolicy", "{denied:?}");
    assert!(denied.text().contains("`amlgate break-glass open --reason WORDS`"), "{denied:?}");
    let id = opened(&world, "sam").await;
    let passed = put(&world, "sam", "urgent").await;
    assert!(passed.status.is_success(), "{passed:?}");
    let question = json!({
        "action": "Microsoft.MachineLearningServices/workspaces/jobs/write",
        "scope": names::workspace_id(names::WORKSPACE) + "/jobs/x",
    });
    let can = call(&world, "sam", Method::POST, "/api/v1/can-i", Some(question.clone())).await;
    assert_eq!(can.json()["decision"], "allow", "{can:?}");
    // Nothing else is lifted, and nobody else goes through.
    let deleted = world.caller("sam").delete(&workspace(&format!("/jobs/urgent?{VERSION}"))).await;
    assert_eq!(code(&deleted), "RequestDisallowedByPolicy", "{deleted:?}");
    assert_eq!(code(&put(&world, "pat", "theirs").await), "RequestDisallowedByPolicy");
    let ready = readyz(&world).await;
    assert!(ready.contains("sandbox:user-sam broke the glass until"), "{ready}");
    let closed = told(&world, "sam", &id, "close", json!({})).await;
    assert_eq!((closed.status, &closed.json()["state"]), (StatusCode::OK, &json!("over")), "{closed:?}");
    let after = put(&world, "sam", "after").await;
    assert_eq!(code(&after), "RequestDisallowedByPolicy", "{after:?}");
    let can = call(&world, "sam", Method::POST, "/api/v1/can-i", Some(question)).await;
    assert_eq!(can.json()["decision"], "deny", "{can:?}");
    let log = world.stop().await;
    for (event, count) in [("break_glass_opened", 1), ("break_glass_closed", 1)] {
        assert_eq!(log.events(event).len(), count, "{event}");
    }
    let opened = log.events("break_glass_opened")[0];
    assert_eq!((&opened["reason"], &opened["break_glass"]), (&json!("the region is down"), &json!(id)));
    let records = of_call(&log, &passed);
    assert_eq!(records.len(), 2, "intent and outcome: {records:#?}");
    for record in &records {
        assert_eq!(record["break_glass"]["id"], json!(id));
        assert_eq!(record["break_glass"]["lifted"][0]["name"], "jobs are frozen");
    }
    let sides: Vec<_> =
        records.iter().flat_map(|own| own["bodies"].as_array().cloned().unwrap_or_default()).collect();
    for side in ["request", "response"] {
        assert!(sides.iter().any(|body| body["side"] == side && body["blob"].is_string()), "{sides:#?}");
    }
    let refused = of_call(&log, &deleted);
    assert_eq!(refused[0]["break_glass"], json!({"id": id}), "a denial under it names it, too");
    for answer in [&denied, &after] {
        assert_eq!(of_call(&log, answer)[0]["break_glass"], Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_person_whom_the_configuration_names_breaks_it_and_says_why() {
    let (world, _) = world(ALONE).await;
    for body in [
        json!({}),
        json!({"reason": "  "}),
        json!({"reason": "x", "seconds": 1_801}),
        json!({"reason": "x".repeat(2_000)}),
        json!({"reason": "\u{202e}txet neddih"}),
    ] {
        let answer = open(&world, "sam", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    }
    let stranger = open(&world, "pat", json!({"reason": "I can call it, too"})).await;
    assert_eq!(stranger.status, StatusCode::FORBIDDEN, "{stranger:?}");
    assert!(stranger.text().contains("none of those whom `break_glass.who` names"), "{stranger:?}");
    // Software that acts for somebody on call, and is named itself.
    let sam = Person::named("sam").unwrap();
    let agent = world.sandbox.azure.user_token_with(sam, &UserToken::default(), |claims| {
        claims.insert("azp".to_owned(), json!("11111111-1111-4111-8111-111111111111"));
        claims.insert("xms_act_fct".to_owned(), json!("3 9 11"));
        claims.insert("xms_sub_fct".to_owned(), json!("1 2"));
        claims.insert("xms_par_app_azp".to_owned(), json!("30cf4c22-9985-4ef7-8756-91cc888176bd"));
    });
    let body = json!({"reason": "the human would want it"});
    let software = call_with(&world, &agent.unwrap(), Method::POST, "/api/v1/break-glass", Some(body)).await;
    assert_eq!(software.status, StatusCode::FORBIDDEN, "{software:?}");
    assert!(software.text().contains("no software"), "{software:?}");
    assert_eq!(code(&put(&world, "sam", "still").await), "RequestDisallowedByPolicy");
    let log = world.stop().await;
    let why: Vec<_> = log.events("break_glass_refused").iter().map(|own| own["why"].clone()).collect();
    assert_eq!(
        why,
        ["no_reason", "no_reason", "too_long", "no_reason", "no_reason", "not_named", "not_a_person"]
    );
    assert!(log.events("break_glass_opened").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_id_is_no_break_glass_and_a_page_is_asked_for_once() {
    let (world, _) = world(ALONE).await;
    let get = async |path: &str| call(&world, "sam", Method::GET, path, None).await;
    for id in ["x", "x.y", &"0".repeat(4_000), "01A22C7F-AEB5-702B-A1A1-DC388CE0B4D7"] {
        let read = get(&format!("/api/v1/break-glass/{id}")).await;
        assert_eq!(read.status, StatusCode::NOT_FOUND, "{id}: {read:?}");
        let closed = told(&world, "sam", id, "close", json!({})).await;
        assert_eq!(closed.status, StatusCode::NOT_FOUND, "{id}: {closed:?}");
    }
    for id in ["%FF", "%00", "..%2fgrants"] {
        let garbled = get(&format!("/api/v1/break-glass/{id}")).await;
        assert_eq!(garbled.status, StatusCode::BAD_REQUEST, "{id}: {garbled:?}");
        assert_eq!(garbled.header("content-type"), "application/problem+json", "{id}");
    }
    for query in ["cursor=1.a&cursor=2.b", "cursor=x", "cursor=", "show=all"] {
        let page = get(&format!("/api/v1/break-glass?{query}")).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{query}: {page:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_comes_only_when_another_human_has_closed_the_review_of_the_last() {
    let (world, clock) = world(ALONE).await;
    let id = opened(&world, "sam").await;
    let again = async || open(&world, "sam", json!({"reason": "once more"})).await;
    assert_eq!(again().await.status, StatusCode::CONFLICT, "one at a time");
    clock.advance(Duration::from_secs(1_800));
    assert_eq!(code(&put(&world, "sam", "late").await), "RequestDisallowedByPolicy", "its time is over");
    let refused = again().await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    assert!(refused.text().contains(&format!("break-glass {id} is over")), "{refused:?}");
    let note = json!({"note": "three jobs, all as it said"});
    let own = told(&world, "sam", &id, "review", note.clone()).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "{own:?}");
    let wordless = told(&world, "pat", &id, "review", json!({})).await;
    assert_eq!(wordless.status, StatusCode::BAD_REQUEST, "{wordless:?}");
    clock.advance(Duration::from_secs(7_200));
    assert_eq!(again().await.status, StatusCode::CONFLICT);
    let ready = readyz(&world).await;
    assert!(ready.contains(&format!("the review of break-glass {id} is overdue")), "{ready}");
    let reviewed = told(&world, "pat", &id, "review", note).await;
    assert_eq!((reviewed.status, &reviewed.json()["state"]), (StatusCode::OK, &json!("reviewed")));
    let next = opened(&world, "sam").await;
    assert_ne!(next, id);
    let listed = call(&world, "pat", Method::GET, "/api/v1/break-glass", None).await.json();
    let states: Vec<_> = listed["break_glass"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["open", "reviewed"]);
    let log = world.stop().await;
    for (event, count) in [
        ("break_glass_opened", 2),
        ("break_glass_expired", 1),
        ("break_glass_review_overdue", 1),
        ("break_glass_reviewed", 1),
        ("break_glass_refused", 3),
    ] {
        assert_eq!(log.events(event).len(), count, "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_another_must_say_yes_it_opens_when_they_have_and_outlives_the_gate() {
    let (world, clock) = world("{who: [on-call], by: [{subject: security}]}").await;
    let asked = open(&world, "sam", json!({"reason": "the region is down", "seconds": 600})).await;
    assert_eq!((asked.status, &asked.json()["state"]), (StatusCode::CREATED, &json!("asked")), "{asked:?}");
    let id = asked.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(code(&put(&world, "sam", "early").await), "RequestDisallowedByPolicy");
    for by in ["sam", "pat"] {
        let answer = told(&world, by, &id, "confirm", json!({})).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{by}: {answer:?}");
    }
    let confirmed = told(&world, "rita", &id, "confirm", json!({"note": "I see it, too"})).await;
    assert_eq!(
        (confirmed.status, &confirmed.json()["state"]),
        (StatusCode::OK, &json!("open")),
        "{confirmed:?}"
    );
    let world = world.started_anew(Arc::new(clock.clone())).await;
    assert!(put(&world, "sam", "urgent").await.status.is_success());
    clock.advance(Duration::from_secs(600));
    assert_eq!(code(&put(&world, "sam", "late").await), "RequestDisallowedByPolicy");
    let unknown = told(&world, "rita", "none", "close", json!({})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{unknown:?}");
    let log = world.stop().await;
    assert_eq!((log.events("break_glass_asked").len(), log.events("break_glass_opened").len()), (1, 1));
    let by = &log.events("break_glass_opened")[0]["by"];
    assert_eq!(by, "sandbox:user-rita");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_breaks_a_glass_of_which_the_configuration_says_nothing() {
    let changes = Changes { policies: Some(POLICIES), ..Changes::default() };
    let world = World::changed(changes).await;
    let answer = open(&world, "sam", json!({"reason": "the region is down"})).await;
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED, "{answer:?}");
    let nobody =
        api::ask(&world, api::request(&world, Method::GET, "/api/v1/break-glass").body(whole("")).unwrap());
    assert_eq!(nobody.await.status, StatusCode::UNAUTHORIZED);
}
