//! Clutch's own opinion: asked where an entry says so, and never more than a no.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use amlgate::time::{Clock as _, ManualClock, SystemClock};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    api,
    world::{Answer, Changes, VERSION, World, job, workspace},
};

const POLICIES: &str = "version: 1
subjects:
  scientists: [{issuer: sandbox, group: data-science}]
  machines: [{issuer: sandbox, kind: machine}]
allow:
  - {name: they work, who: [scientists, machines], actions: [Microsoft.MachineLearningServices/*]}
require:
  - {name: writes as Clutch says, kinds: [write, action], opinion: clutch}
";

const TOKEN: &str = "service-token-canary";

/// What a Clutch was asked, and what it says to it.
#[derive(Clone)]
struct Clutch {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    says: Arc<Mutex<Says>>,
}

#[derive(Clone, Copy)]
enum Says {
    Allow,
    Deny,
    /// No to one action type alone.
    DenyType(&'static str),
    Status(u16),
    Body(&'static str),
    Nothing,
}

impl Clutch {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clutch = Self { address, asked: Arc::default(), says: Arc::new(Mutex::new(Says::Allow)) };
        let serving = clutch.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let clutch = serving.clone();
                let service = service_fn(move |request| {
                    let clutch = clutch.clone();
                    async move { Ok::<_, Infallible>(clutch.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        clutch
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let question: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (status, answer) =
            if (head.method.as_str(), head.uri.path()) != ("POST", "/clutch/v1/authz/check") {
                (404, "{}".to_owned())
            } else {
                let token =
                    head.headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
                self.asked.lock().unwrap().push((token, question.clone()));
                let says = *self.says.lock().unwrap();
                let decision = |decision: &str| (200, json!({"decision": decision}).to_string());
                match says {
                    Says::Allow => decision("ALLOW"),
                    Says::Deny => decision("DENY"),
                    Says::DenyType(named) => {
                        decision(if question["action_type"] == named { "DENY" } else { "ALLOW" })
                    }
                    Says::Status(status) => (status, json!({"decision": "ALLOW"}).to_string()),
                    Says::Body(body) => (200, body.to_owned()),
                    Says::Nothing => std::future::pending().await,
                }
            };
        Response::builder().status(status).body(Full::new(answer.into())).unwrap()
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    async fn world(&self) -> (World, ManualClock) {
        let clock = ManualClock::starting_at(SystemClock.now());
        let block = format!(
            "clutch: {{users: {{issuer: sandbox}}, check: {{url: \"http://{}/clutch/\", token: {{file: clutch.token}}}}}}\npolicies: policies/",
            self.address
        );
        let configuration = &[("policies: policies/", block.as_str())];
        let changes = Changes { policies: Some(POLICIES), configuration };
        let files = &[("clutch.token", TOKEN)];
        (World::having_at(files, changes, Arc::new(clock.clone())).await, clock)
    }
}

async fn submits(world: &World, by: &str, name: &str) -> Answer {
    world.caller(by).put(&workspace(&format!("/jobs/{name}?{VERSION}")), &job()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn clutch_is_asked_in_its_own_words_and_its_yes_lets_the_call_go_on() {
    let clutch = Clutch::start().await;
    let (world, _) = clutch.world().await;
    // What no entry asks about is not asked.
    assert_eq!(world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await.status, StatusCode::OK);
    assert_eq!(clutch.asked(), vec![]);
    assert_eq!(submits(&world, "sam", "one").await.status, StatusCode::CREATED);
    let asked = clutch.asked();
    let question = |action_type: &str| {
        json!({
            "subject": {"user": "sam@sandbox.example", "groups": ["data-science"]},
            "method": "/azureml.v1.JobsAPI/Write",
            "action_type": action_type,
            "resource": workspace("/jobs/one"),
        })
    };
    let wanted = ["CREATE", "UPDATE"].map(|one| (format!("Token {TOKEN}"), question(one)));
    assert_eq!(asked, wanted);
    // Somebody of whom Clutch knows nothing is not taken for one of its users.
    assert_eq!(submits(&world, "ci", "two").await.status, StatusCode::CREATED);
    let (_, question) = clutch.asked().remove(0);
    assert_eq!(question["subject"]["user"], "sandbox:repo:contoso/vision:ref:refs/heads/main");
    let log = world.stop().await;
    let text = format!("{:?}", log.records);
    assert!(!text.contains(TOKEN), "the record holds the token");
    let obliged = log.requests().into_iter().any(|r| r["unmapped"]["amlgate"]["obligations"] != Value::Null);
    assert!(obliged, "the record says whose word was wanted");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_no_yes_is_a_no_and_nothing_is_sent() {
    let clutch = Clutch::start().await;
    let (world, clock) = clutch.world().await;
    let cases = [
        (Says::Deny, "Clutch denies `/azureml.v1.JobsAPI/Write`"),
        (Says::DenyType("UPDATE"), "Clutch denies `/azureml.v1.JobsAPI/Write`"),
        (Says::Status(403), "there is none"),
        (Says::Status(500), "there is none"),
        (Says::Body("{\"decision\":\"UNSPECIFIED\"}"), "neither ALLOW nor DENY"),
        (Says::Body("{}"), "neither ALLOW nor DENY"),
        (Says::Body("ALLOW"), "neither ALLOW nor DENY"),
    ];
    for (number, (says, expected)) in cases.into_iter().enumerate() {
        clutch.says(says);
        let answer = submits(&world, "sam", &format!("no-{number}")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "RequestDisallowedByPolicy");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("`writes as Clutch says`") && message.contains(expected), "{message}");
        assert!(!message.contains(TOKEN), "{message}");
    }
    // Who says nothing is waited for no longer than two seconds.
    clutch.says(Says::Nothing);
    clutch.asked();
    let waits = submits(&world, "sam", "silent");
    let passes = async {
        while clutch.asked.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(2));
    };
    let (silent, ()) = tokio::join!(waits, passes);
    assert_eq!(silent.status, StatusCode::FORBIDDEN, "{silent:?}");
    assert!(silent.text().contains("longer than 2 s"), "{silent:?}");
    assert_eq!(world.sandbox.azure.observer().seen_at("/jobs/").len(), 0);
    let log = world.stop().await;
    assert_eq!(log.requests().iter().filter(|r| r["action_id"] == 2).count(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_for_a_moment_and_a_yes_grants_nothing() {
    let clutch = Clutch::start().await;
    let (world, clock) = clutch.world().await;
    assert_eq!(submits(&world, "sam", "again").await.status, StatusCode::CREATED);
    assert_eq!(clutch.asked().len(), 2);
    clutch.says(Says::Deny);
    clock.advance(Duration::from_secs(4));
    let known = submits(&world, "sam", "again").await;
    assert!(known.status.is_success(), "{known:?}");
    assert_eq!(clutch.asked(), vec![]);
    assert_eq!(submits(&world, "sam", "other").await.status, StatusCode::FORBIDDEN);
    clock.advance(Duration::from_secs(1));
    assert_eq!(submits(&world, "sam", "again").await.status, StatusCode::FORBIDDEN);
    // Rita may do nothing here, whatever Clutch lets her.
    clutch.says(Says::Allow);
    clutch.asked();
    let rita = submits(&world, "rita", "again").await;
    assert_eq!(rita.json()["error"]["code"], "AuthorizationFailed", "{rita:?}");
    assert_eq!(clutch.asked(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_wants_a_word_nobody_gives_denies() {
    let world = World::changed(Changes { policies: Some(POLICIES), ..Changes::default() }).await;
    let answer = submits(&world, "sam", "nobody").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert!(answer.text().contains("this gate has no `clutch.check`"), "{answer:?}");
    assert_eq!(world.caller("sam").get(&workspace(&format!("/jobs?{VERSION}"))).await.status, StatusCode::OK);
    let whoami =
        api::call(&world, http::Method::GET, "/api/v1/whoami", &api::token(&world, "sam"), None).await;
    assert_eq!(whoami.status, StatusCode::FORBIDDEN, "no entry allows it: {whoami:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_token_is_used_without_a_restart() {
    let clutch = Clutch::start().await;
    let (world, _) = clutch.world().await;
    assert_eq!(submits(&world, "sam", "first").await.status, StatusCode::CREATED);
    clutch.asked();
    std::fs::write(world.dir.path().join("clutch.token"), "renewed").unwrap();
    world.server.reload().await;
    assert_eq!(submits(&world, "sam", "second").await.status, StatusCode::CREATED);
    assert_eq!(clutch.asked()[0].0, "Token renewed");
}
