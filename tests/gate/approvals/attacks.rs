//! Who wants more from approvals than is theirs: each door, and what comes of trying it.

use std::time::Duration;

use amlgate::time::Clock as _;
use http::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::time::timeout;

use super::{agent_and_human, answer, ask, call, call_with, code, refused, target, world};
use crate::{
    api,
    world::{Answer, World, job, whole},
};

const SOON: Duration = Duration::from_secs(60);

/// An id of the form of all, of nothing.
const NOBODYS: &str = "01938000-0000-7000-8000-000000000000";

/// What an answer tells, without the decision, which is another each time.
fn told(answer: &Answer) -> (StatusCode, String) {
    (answer.status, answer.text().replace(answer.header("x-amlgate-decision"), ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn answering_tells_nobody_which_requests_of_others_there_are_or_how_far_they_have_come() {
    let (world, _) = world("").await;
    let id = ask(&world, "sam", &refused(&world.caller("sam"), "hidden").await).await;
    for state in ["pending", "denied"] {
        for verb in ["approve", "deny", "withdraw"] {
            let (theirs, nobodys) =
                (answer(&world, "rita", &id, verb).await, answer(&world, "rita", NOBODYS, verb).await);
            assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{state} {verb}: {theirs:?}");
            assert_eq!(told(&theirs), told(&nobodys), "{state} {verb}");
        }
        let own = call(&world, "sam", Method::GET, &format!("/api/v1/requests/{id}"), None).await;
        assert_eq!(own.json()["state"], json!(state), "nothing came of it");
        if state == "pending" {
            assert_eq!(answer(&world, "pat", &id, "deny").await.status, StatusCode::OK);
        }
    }
    let log = world.stop().await;
    let tried =
        log.requests().into_iter().filter(|record| record["unmapped"]["amlgate"]["phase"] == "denial");
    assert!(tried.filter(|record| record["actor"]["user"]["uid"] == "sandbox:user-rita").count() >= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_takes_back_nothing_that_its_human_asked_for() {
    let (world, _) = world("").await;
    let (agent, human) = agent_and_human(&world);
    let refusal = world.bearing(&human).put(&target("own"), &job()).await;
    let body = json!({"decision": refusal.header("x-amlgate-decision")});
    let stolen = call_with(&world, &agent, Method::POST, "/api/v1/requests", Some(body.clone())).await;
    assert_eq!(stolen.status, StatusCode::NOT_FOUND, "an agent asks for what it did: {stolen:?}");
    let asked = call_with(&world, &human, Method::POST, "/api/v1/requests", Some(body)).await;
    let path = format!("/api/v1/requests/{}", asked.json()["requests"][0]["id"].as_str().unwrap());
    let withdraw = format!("{path}/withdraw");
    let by_agent = call_with(&world, &agent, Method::POST, &withdraw, Some(json!({}))).await;
    assert_eq!(by_agent.status, StatusCode::FORBIDDEN, "{by_agent:?}");
    let seen = call_with(&world, &agent, Method::GET, &path, None).await.json();
    assert_eq!((&seen["state"], &seen["can"]), (&json!("pending"), &json!([])), "{seen}");
    let by_human = call_with(&world, &human, Method::POST, &withdraw, Some(json!({}))).await;
    assert_eq!(by_human.status, StatusCode::OK, "{by_human:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_who_hangs_up_leaves_no_grant_of_which_the_record_knows_nothing() {
    let (world, _) = world("").await;
    let parts = world.server.parts();
    for n in 0..12 {
        let id = ask(&world, "sam", &refused(&world.caller("sam"), &format!("gone-{n}")).await).await;
        let path = format!("/api/v1/requests/{id}/approve");
        let request = api::request(&world, Method::POST, &path)
            .header(header::AUTHORIZATION, format!("Bearer {}", api::token(&world, "pat")))
            .header(header::CONTENT_TYPE, "application/json");
        let request = request.body(whole("{}")).unwrap();
        let stream = tokio::net::TcpStream::connect(world.server.admin().unwrap()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let approving = tokio::spawn(async move { drop(sender.send_request(request).await) });
        let decided = async {
            while parts.gates.approvals().request(&id).await.unwrap().unwrap().decided.is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, decided).await.unwrap();
        connection.abort();
        drop((connection.await, approving.await));
    }
    let passed = world.caller("sam").put(&target("gone-11"), &job()).await;
    assert!(passed.status.is_success(), "{passed:?}");
    let log = world.stop().await;
    assert_eq!((log.events("approved").len(), log.events("grant_given").len()), (12, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_twice_or_would_deceive_whoever_decides_is_refused_and_nobody_is_asked() {
    let (world, _) = world(", hold: 100s").await;
    let caller = world.caller("sam");
    let long = "x".repeat(1_025);
    for (header, words) in [
        ("x-amlgate-reason", &[&b"routine"[..], b"and everything else"][..]),
        ("x-amlgate-reason", &["safe \u{202e}tluaf ym".as_bytes()]),
        ("x-amlgate-reason", &[b"latin-1: \xe9"]),
        ("x-amlgate-reason", &[long.as_bytes()]),
        ("x-amlgate-ticket", &[b"CHG0000001", b"CHG0000002"]),
        ("x-amlgate-ticket", &[&long.as_bytes()[..129]]),
        ("x-amlgate-ticket", &["CHG\u{200b}0000001".as_bytes()]),
    ] {
        let mut request =
            caller.request(Method::PUT, &target("twice")).header(header::CONTENT_TYPE, "application/json");
        for words in words {
            request = request.header(header, *words);
        }
        let answer = caller.send(request.body(whole(job().to_string())).unwrap()).await;
        assert_eq!(code(&answer), "ApprovalRequired", "{answer:?}");
        assert!(answer.text().contains("nobody was asked"), "{answer:?}");
    }
    let decision = {
        let request = caller.request(Method::PUT, &target("twice")).header("prefer", "wait=0");
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let answer = caller.send(request.body(whole(job().to_string())).unwrap()).await;
        answer.header("x-amlgate-decision").to_owned()
    };
    for text in ["a\u{202e}b", "a\u{200b}b", "a\u{0}b", "a\u{1b}[2Jb"] {
        for body in [
            json!({"decision": decision, "reason": text}),
            json!({"decision": decision, "reason": "r", "ticket": text}),
        ] {
            let answer = call(&world, "sam", Method::POST, "/api/v1/requests", Some(body)).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{text:?}: {answer:?}");
        }
    }
    let twice = format!("{{\"decision\":\"{decision}\",\"reason\":\"a\",\"reason\":\"b\"}}");
    let request = api::request(&world, Method::POST, "/api/v1/requests")
        .header(header::AUTHORIZATION, format!("Bearer {}", api::token(&world, "sam")))
        .header(header::CONTENT_TYPE, "application/json");
    let answer = api::ask(&world, request.body(whole(twice)).unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    let all = call(&world, "pat", Method::GET, "/api/v1/requests?show=all", None).await.json();
    assert_eq!(all["requests"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_id_is_nothing_and_a_list_is_shown_to_whoever_says_who_they_are() {
    let (world, _) = world("").await;
    let long = "a".repeat(4_000);
    for id in
        ["%00", "%ff", "..%2fgrants", "%27%20OR%201=1--", &long, &NOBODYS.to_uppercase(), "{", "%7Bid%7D"]
    {
        for (method, path) in [
            (Method::GET, format!("/api/v1/requests/{id}")),
            (Method::POST, format!("/api/v1/requests/{id}/approve")),
            (Method::POST, format!("/api/v1/grants/{id}/revoke")),
        ] {
            let body = (method == Method::POST).then(|| json!({}));
            let answer = call(&world, "pat", method, &path, body).await;
            assert!(answer.status.is_client_error(), "{path}: {answer:?}");
        }
    }
    for decision in ["\u{0}", "", "x", &long] {
        let body = json!({"decision": decision});
        let answer = call(&world, "sam", Method::POST, "/api/v1/requests", Some(body)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
    }
    for list in ["requests", "grants"] {
        for (query, status) in [
            ("show=mine&show=all", StatusCode::BAD_REQUEST),
            ("limit=1&l%69mit=2", StatusCode::BAD_REQUEST),
            ("limit=201", StatusCode::BAD_REQUEST),
            ("limit=-1", StatusCode::BAD_REQUEST),
            ("cursor=18446744073709551615.zz", StatusCode::OK),
            ("cursor=1.%27", StatusCode::BAD_REQUEST),
            ("state=%27", StatusCode::BAD_REQUEST),
            ("show=all", StatusCode::FORBIDDEN),
        ] {
            let path = format!("/api/v1/{list}?{query}");
            let answer = call(&world, "sam", Method::GET, &path, None).await;
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            assert!(!answer.header("x-amlgate-decision").is_empty(), "{path} was judged: {answer:?}");
            let nobody = api::request(&world, Method::GET, &path).body(whole("")).unwrap();
            let nobody = api::ask(&world, nobody).await;
            assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{path}: {nobody:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_over_between_the_page_and_the_answer_gives_nothing() {
    let (world, clock) = world("").await;
    let id = ask(&world, "sam", &refused(&world.caller("sam"), "late").await).await;
    let page = call(&world, "pat", Method::GET, &format!("/api/v1/requests/{id}"), None).await.json();
    assert_eq!(page["can"], json!(["approve", "deny"]), "{page}");
    for (state, count) in [("pending", 1), ("denied", 0)] {
        let path = format!("/api/v1/requests?show=to_answer&state={state}");
        let listed = call(&world, "pat", Method::GET, &path, None).await.json();
        assert_eq!(listed["requests"].as_array().unwrap().len(), count, "{listed}");
    }
    clock.advance(Duration::from_secs(86_400));
    let late = answer(&world, "pat", &id, "approve").await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{late:?}");
    assert!(late.text().contains("expired"), "{late:?}");
    let grants = call(&world, "sam", Method::GET, "/api/v1/grants", None).await.json();
    assert_eq!(grants["grants"], json!([]));
    refused(&world.caller("sam"), "late").await;
}

/// A token of sam's for a minute.
fn short(world: &World, clock: &amlgate::time::ManualClock) -> String {
    let soon = clock.now().as_secs() + 60;
    let sam = amlgate::sandbox::Person::named("sam").unwrap();
    let mint = world.sandbox.issuer.mint();
    mint.token_with(sam, |claims| drop(claims.insert("exp".into(), soon.into()))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_whose_token_expires_does_not_go_on_though_it_is_approved_then() {
    let (world, clock) = world(", hold: 100s").await;
    let token = short(&world, &clock);
    let request = world
        .bearing(&token)
        .request(Method::PUT, &target("expires"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(whole(job().to_string()))
        .unwrap();
    let mut connection = world.connect().await;
    let held = tokio::spawn(async move { Answer::of(connection.send_request(request).await.unwrap()).await });
    let id = timeout(SOON, async {
        loop {
            let listed =
                call(&world, "pat", Method::GET, "/api/v1/requests?show=to_answer", None).await.json();
            if let Some(id) = listed["requests"][0]["id"].as_str() {
                return id.to_owned();
            }
        }
    });
    let id = id.await.unwrap();
    // It waits only when that it was asked is on disk; what is being written then has its own deadline.
    let asked = "/api/v1/audit?action=approval_asked&wait=30";
    let asked = timeout(SOON, call(&world, "pat", Method::GET, asked, None)).await.unwrap().json();
    assert!(!asked["records"].as_array().expect("a page").is_empty(), "{asked}");
    clock.advance(Duration::from_secs(61));
    assert_eq!(answer(&world, "pat", &id, "approve").await.status, StatusCode::OK);
    let refused = timeout(SOON, held).await.unwrap().unwrap();
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert!(refused.text().contains("your token has expired"), "{refused:?}");
    let grants = call(&world, "sam", Method::GET, "/api/v1/grants", None).await.json();
    assert_eq!(grants["grants"][0]["used"], json!(0), "{grants}");
}
