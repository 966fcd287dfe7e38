//! Calls that wait for people and go on by themselves (DECISIONS 23).

use std::time::Duration;

use amlgate::time::ManualClock;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::timeout};

use super::{answer, call, code, configured, refused, target, world};
use crate::world::{Answer, Sent, World, job, whole};

/// Long enough for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(60);

fn put(world: &World, name: &str, headers: &[(&str, &str)]) -> Request<Sent> {
    let sam = world.caller("sam");
    let mut builder =
        sam.request(Method::PUT, &target(name)).header(header::CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(whole(job().to_string())).unwrap()
}

/// Sends a call of sam's that waits; the id of the request that it made.
async fn waits(world: &World, name: &str, headers: &[(&str, &str)]) -> (JoinHandle<Answer>, String) {
    let mut connection = world.connect().await;
    let request = put(world, name, headers);
    let call = tokio::spawn(async move { Answer::of(connection.send_request(request).await.unwrap()).await });
    let id = timeout(SOON, async {
        loop {
            if let Some(id) = pending(world, name).await {
                return id;
            }
            assert!(!call.is_finished(), "it does not wait");
        }
    });
    let id = id.await.unwrap();
    (call, id)
}

async fn pending(world: &World, name: &str) -> Option<String> {
    let listed = call(world, "pat", Method::GET, "/api/v1/requests?show=to_answer", None).await.json();
    let all = listed["requests"].as_array().unwrap().clone();
    let resource = format!("/jobs/{name}");
    let own = |request: &&Value| request["what"]["resources"][0].as_str().unwrap().ends_with(&resource);
    all.iter().find(own).map(|request| request["id"].as_str().unwrap().to_owned())
}

async fn came(call: JoinHandle<Answer>) -> Answer {
    timeout(SOON, call).await.unwrap().unwrap()
}

/// What came of it, half a second going by between one look of others at the gate and the next.
async fn came_in_time(world: &World, clock: &ManualClock, mut held: JoinHandle<Answer>) -> Answer {
    loop {
        clock.advance(Duration::from_millis(500));
        let look = call(world, "pat", Method::GET, "/api/v1/requests", None);
        tokio::select! {
            done = &mut held => return done.unwrap(),
            answer = look => assert_eq!(answer.status, StatusCode::OK, "{answer:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_goes_on_by_itself_when_another_approves_it() {
    let (world, _) = world(", hold: 100s").await;
    let (held, id) = waits(&world, "held", &[]).await;
    assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::OK);
    let passed = came(held).await;
    assert!(passed.status.is_success(), "{passed:?}");
    let log = world.stop().await;
    assert_eq!((log.events("approval_asked").len(), log.events("grant_used").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_is_refused_when_another_says_no_with_what_they_say() {
    let (world, _) = world(", hold: 100s").await;
    let (held, id) = waits(&world, "held", &[]).await;
    let body = json!({"note": "not before the release"});
    let denied = call(&world, "pat", Method::POST, &format!("/api/v1/requests/{id}/deny"), Some(body)).await;
    assert_eq!(denied.status, StatusCode::OK, "{denied:?}");
    let refused = came(held).await;
    assert_eq!((refused.status, code(&refused).as_str()), (StatusCode::FORBIDDEN, "ApprovalRequired"));
    assert!(refused.text().contains("was denied: not before the release"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_as_long_as_its_caller_wants_and_is_then_told_which_request_waits() {
    let (world, clock) = world("").await;
    let (held, id) = waits(&world, "patient", &[("prefer", "respond-async, wait=30")]).await;
    let told = came_in_time(&world, &clock, held).await;
    assert_eq!(code(&told), "ApprovalPending", "{told:?}");
    assert!(told.text().contains(&id), "{told:?}");
    // Sent again, it joins the same request, and goes on with it.
    let mut connection = world.connect().await;
    let request = put(&world, "patient", &[("prefer", "wait=30")]);
    let held = tokio::spawn(async move { Answer::of(connection.send_request(request).await.unwrap()).await });
    assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::OK);
    let passed = came(held).await;
    assert!(passed.status.is_success(), "{passed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_brings_the_words_that_asking_takes() {
    let ask = ", hold: 100s, ask: {reason: required, ticket: 'CHG[0-9]{7}'}";
    let (world, _) = world(ask).await;
    let caller = world.caller("sam");
    let (reason, ticket) = ("x-amlgate-reason", "x-amlgate-ticket");
    let wordless = caller.send(put(&world, "wordless", &[])).await;
    assert_eq!(code(&wordless), "ApprovalRequired", "{wordless:?}");
    for words in [&[(reason, "to retrain")][..], &[(reason, "to retrain"), (ticket, "CHG1")]] {
        let refused = caller.send(put(&world, "wrong", words)).await;
        assert_eq!(code(&refused), "ApprovalRequired", "{refused:?}");
        assert!(refused.text().contains("wants a ticket of the form"), "{refused:?}");
    }
    assert_eq!(pending(&world, "wrong").await, None);
    let words = [(reason, "to retrain"), (ticket, "CHG0000001")];
    let (held, id) = waits(&world, "worded", &words).await;
    let seen = call(&world, "pat", Method::GET, &format!("/api/v1/requests/{id}"), None).await.json();
    assert_eq!((&seen["reason"], &seen["ticket"]), (&json!("to retrain"), &json!("CHG0000001")), "{seen}");
    assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::OK);
    let passed = came(held).await;
    assert!(passed.status.is_success(), "{passed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_a_caller_prefers_the_first_counts_and_what_is_no_time_counts_for_nothing() {
    let (world, _) = world(", hold: 100s").await;
    let caller = world.caller("sam");
    let twice = [("prefer", "wait=0"), ("prefer", "wait=100, respond-async")];
    let refused = caller.send(put(&world, "twice", &twice)).await;
    assert_eq!(code(&refused), "ApprovalRequired", "{refused:?}");
    assert_eq!(pending(&world, "twice").await, None);
    let (held, id) = waits(&world, "odd", &[("prefer", "wait=-1"), ("prefer", "wait=0")]).await;
    assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::OK);
    let passed = came(held).await;
    assert!(passed.status.is_success(), "{passed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_much_waits_for_people_as_the_configuration_says_now() {
    let few = "limits: {held_calls_per_person: 1, pending_approvals_per_person: 1}\npolicies: policies/";
    let (world, _) = configured(", hold: 100s", &[("policies: policies/", few)]).await;
    let (first, one) = waits(&world, "first", &[]).await;
    let decision = refused(&world.caller("sam"), "second").await;
    assert_eq!(pending(&world, "second").await, None, "nobody was asked");
    let body = json!({"decision": decision});
    let asked = call(&world, "sam", Method::POST, "/api/v1/requests", Some(body)).await;
    assert_eq!(asked.status, StatusCode::CONFLICT, "{asked:?}");
    assert!(asked.text().contains("no more than 1 requests of yours may wait"), "{asked:?}");
    let file = world.sandbox.configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("_per_person: 1", "_per_person: 2")).unwrap();
    world.server.reload().await;
    let (second, two) = waits(&world, "second", &[]).await;
    for (id, held) in [(one, first), (two, second)] {
        assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::OK);
        let passed = came(held).await;
        assert!(passed.status.is_success(), "{passed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_does_not_want_to_wait_is_refused_at_once() {
    let (world, _) = world(", hold: 100s").await;
    let caller = world.caller("sam");
    let answer = caller.send(put(&world, "hasty", &[("prefer", "wait=0")])).await;
    assert_eq!(code(&answer), "ApprovalRequired", "{answer:?}");
    assert_eq!(pending(&world, "hasty").await, None, "nobody was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_ends_when_its_caller_is_revoked_or_the_policies_no_longer_allow_it() {
    let (world, clock) = world(", hold: 100s").await;
    let (held, _) = waits(&world, "edited", &[]).await;
    let file = world.directory().join("policies/sandbox.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}deny:\n  - {{name: no more jobs, kinds: [write]}}\n")).unwrap();
    world.server.reload().await;
    let refused = came_in_time(&world, &clock, held).await;
    assert_eq!(code(&refused), "RequestDisallowedByPolicy", "{refused:?}");
    std::fs::write(&file, text).unwrap();
    world.server.reload().await;
    let (held, _) = waits(&world, "revoked", &[]).await;
    let what = json!({"principal": "sandbox:user-sam", "reason": "left"});
    let made = call(&world, "pat", Method::POST, "/api/v1/revocations", Some(what)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let refused = came_in_time(&world, &clock, held).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert!(refused.text().contains("it was revoked"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_sends_nothing_and_the_request_stays_for_the_next_try() {
    let (world, _) = world(", hold: 100s").await;
    let mut connection = world.connect().await;
    let request = put(&world, "gone", &[]);
    let held = tokio::spawn(async move { drop(connection.send_request(request).await) });
    let id = timeout(SOON, async {
        loop {
            if let Some(id) = pending(&world, "gone").await {
                return id;
            }
        }
    })
    .await
    .unwrap();
    held.abort();
    assert!(held.await.unwrap_err().is_cancelled());
    let parts = world.server.parts();
    let gone = timeout(SOON, async {
        while parts.gates.approvals().calls_waiting() > 0 {
            tokio::task::yield_now().await;
        }
    });
    gone.await.unwrap();
    assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::OK);
    let grants = call(&world, "sam", Method::GET, "/api/v1/grants", None).await.json();
    assert_eq!(grants["grants"][0]["used"], json!(0), "{grants}");
    let passed = world.caller("sam").put(&target("gone"), &job()).await;
    assert!(passed.status.is_success(), "{passed:?}");
}
