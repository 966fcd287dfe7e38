//! Hooks: who knows the path is heard and believed in nothing; a stranger learns nothing.

use std::{sync::Arc, time::Duration};

use amlgate::time::{Clock as _, ManualClock, SystemClock};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use crate::{
    api::{ask, request},
    machines::{client, connected, workload},
    reviews::{
        built,
        stand_in::{Gerrit, SHA, TOKEN},
    },
    world::{Answer, Changes, VERSION, World, job, keep, whole, workspace},
};

const SECRET: &str = "hook-canary-0123456789abcdef0123456789abcdef";

const POLICIES: &str = "version: 1
subjects:
  everybody: [{issuer: sandbox, group: data-science}, {issuer: sandbox, kind: machine}]
allow:
  - {name: they work, who: [everybody], actions: [Microsoft.MachineLearningServices/*]}
require:
  - name: jobs come from reviewed code
    actions: [Microsoft.MachineLearningServices/workspaces/jobs/write]
    review: {gerrit: main, project: ml/vision, branch: main, commit: caller.sha, hold: 60s}
";

/// A gate that is told by a Gerrit what happens to `main` of `ml/vision`.
async fn world(gerrit: &Gerrit, from: &str, on_reverse: bool) -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemClock.now());
    gerrit.now(|g| g.clock = Some(clock.clone()));
    let block = format!(
        "gerrit:\n  - {{name: main, url: \"http://{}/r/\", user: amlgate, token: {{file: gerrit.token}}, watch: [{{project: ml/vision, branch: main}}], poll: 1h, hook: {{path_secret: {{file: gerrit.hook}}, from: [{from}]}}}}\npeople: {{canonical: entra, links: [{{gerrit: main, external_id: azure-oauth}}]}}\npolicies: policies/",
        gerrit.address
    );
    let mut configuration = vec![("policies: policies/", block.as_str())];
    if on_reverse {
        configuration.push(("  admin: {", "  admin: {on_reverse: true, "));
    }
    let changes = Changes { policies: Some(POLICIES), configuration: &configuration };
    let files = [("gerrit.token", TOKEN), ("gerrit.hook", SECRET)];
    (World::having_at(&files, changes, Arc::new(clock.clone())).await, clock)
}

/// An event as the webhooks plugin posts it.
fn event(kind: &str, number: u64, at: u64) -> Value {
    json!({
        "type": kind, "eventCreatedOn": at, "project": {"name": "ml/vision"}, "refName": "refs/heads/main",
        "change": {"project": "ml/vision", "branch": "main", "number": number, "status": "MERGED"},
        "patchSet": {"number": 1, "revision": "e".repeat(40)}, "newRev": "e".repeat(40),
    })
}

async fn posts(world: &World, path: &str, body: impl Into<Bytes>) -> Answer {
    let builder =
        request(world, Method::POST, path).header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    ask(world, builder.body(whole(body)).unwrap()).await
}

async fn tells(world: &World, event: &Value) -> StatusCode {
    posts(world, &format!("/hooks/gerrit/main/{SECRET}"), event.to_string()).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hook_tells_is_looked_up_at_once_and_only_what_gerrit_says_is_kept() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit, "127.0.0.0/8", false).await;
    gerrit.is_asked().await;
    let parts = world.server.parts();
    let mut changes = parts.gates.merges().changes();
    gerrit.now(|g| g.merges(7, clock.now(), clock.now()));
    // The event names another change, which is none.
    assert_eq!(tells(&world, &event("change-merged", 666, 1)).await, StatusCode::ACCEPTED);
    let looked = async {
        while tokio::time::timeout(Duration::from_millis(50), changes.changed()).await.is_err() {
            clock.advance(Duration::from_millis(250));
        }
    };
    let began = clock.now();
    tokio::time::timeout(Duration::from_secs(60), looked).await.unwrap();
    assert!(clock.now().since(began) < Duration::from_secs(600), "long before anybody would have asked");
    let kept = parts
        .gates
        .merges()
        .since("main", "ml/vision", "main", began.minus(Duration::from_secs(3_600)), 10)
        .await;
    let numbers: Vec<_> = kept.unwrap().iter().map(|(_, merge)| merge.number).collect();
    assert_eq!(numbers, [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_learn_nothing_and_what_cannot_be_read_is_said_to_who_may_know() {
    let gerrit = Gerrit::start().await;
    let (world, _) = world(&gerrit, "127.0.0.0/8", false).await;
    let told = event("change-merged", 1, 1).to_string();
    let good = format!("/hooks/gerrit/main/{SECRET}");
    for path in [
        format!("/hooks/gerrit/main/{}", SECRET.to_uppercase()),
        format!("/hooks/gerrit/main/{}", &SECRET[1..]),
        format!("/hooks/gerrit/other/{SECRET}"),
        format!("/hooks/gerrit/main/{}", "x".repeat(4_000)),
    ] {
        let answer = posts(&world, &path, told.clone()).await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::NOT_FOUND, ""), "{path}");
    }
    let again = event("change-merged", 1, 1).to_string();
    assert_eq!(posts(&world, &good, told).await.status, StatusCode::ACCEPTED);
    assert_eq!(
        posts(&world, &good, again).await.status,
        StatusCode::ACCEPTED,
        "once is enough, twice no harm"
    );
    let odd = posts(&world, &good, "{}").await;
    assert_eq!(odd.status, StatusCode::BAD_REQUEST);
    assert!(odd.text().contains("no event of Gerrit's webhooks plugin: missing field `type`"), "{odd:?}");
    let huge = posts(&world, &good, vec![b' '; (256 << 10) + 1]).await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    let read = ask(&world, request(&world, Method::GET, &good).body(whole("")).unwrap()).await;
    assert_eq!(read.status, StatusCode::METHOD_NOT_ALLOWED);
    // More than a Gerrit has to say.
    let mut slowed = None;
    for at in 2..200 {
        let answer = posts(&world, &good, event("ref-updated", 1, at).to_string()).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            slowed = Some(answer);
            break;
        }
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{at}");
    }
    assert_eq!(slowed.unwrap().header("retry-after"), "1");
    let log = world.stop().await;
    let all = format!("{:?}", log.records);
    assert!(all.contains("the path of a hook is not known"), "who tries paths is in the record");
    assert!(!all.contains(SECRET), "the secret is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_secret_is_taken_over_and_who_comes_from_elsewhere_is_a_stranger() {
    let gerrit = Gerrit::start().await;
    let (world, _) = world(&gerrit, "10.0.0.0/8, 127.0.0.1", true).await;
    assert_eq!(tells(&world, &event("comment-added", 1, 1)).await, StatusCode::ACCEPTED);
    // Where the console is a path of the reverse listener, hooks are, too.
    let path = format!("/.amlgate/hooks/gerrit/main/{SECRET}");
    let told = world.nobody().post(&path, &event("comment-added", 1, 2)).await;
    assert_eq!(told.status, StatusCode::ACCEPTED, "{told:?}");
    let renewed = SECRET.replace("0123", "9876");
    keep(&world.dir.path().join("gerrit.hook"), &renewed);
    world.server.reload().await;
    assert_eq!(tells(&world, &event("comment-added", 1, 3)).await, StatusCode::NOT_FOUND);
    let path = format!("/hooks/gerrit/main/{renewed}");
    assert_eq!(
        posts(&world, &path, event("comment-added", 1, 4).to_string()).await.status,
        StatusCode::ACCEPTED
    );
    // A secret that anybody could guess opens nothing, and closes nothing.
    keep(&world.dir.path().join("gerrit.hook"), "guess me");
    world.server.reload().await;
    assert_eq!(
        posts(&world, &path, event("comment-added", 1, 5).to_string()).await.status,
        StatusCode::ACCEPTED
    );
    let file = world.sandbox.configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    keep(&world.dir.path().join("gerrit.hook"), &renewed);
    std::fs::write(&file, text.replace("from: [10.0.0.0/8, 127.0.0.1]", "from: [10.0.0.0/8]")).unwrap();
    world.server.reload().await;
    assert_eq!(
        posts(&world, &path, event("comment-added", 1, 6).to_string()).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_certificate_is_demanded_nobody_is_heard_without_one() {
    let gerrit = Gerrit::start().await;
    let block = format!(
        "gerrit:\n  - {{name: main, url: \"http://{}/r/\", user: amlgate, token: {{file: gerrit.token}}, hook: {{path_secret: {{file: gerrit.hook}}, client_certificate: true}}}}\npolicies: policies/",
        gerrit.address
    );
    let tls = "  admin: {tls: {certificate: certs/server.pem, private_key: {file: certs/server.key}, client_ca: certs/mesh-ca.pem}, on_reverse: true, ";
    let configuration = [("policies: policies/", block.as_str()), ("  admin: {", tls)];
    let changes = Changes { configuration: &configuration, ..Changes::default() };
    let world = World::having(&[("gerrit.token", TOKEN), ("gerrit.hook", SECRET)], changes).await;
    let machine = workload(&world, "gerrit");
    for (shown, expected) in [(None, StatusCode::NOT_FOUND), (Some(&machine), StatusCode::ACCEPTED)] {
        let stream = tokio::net::TcpStream::connect(world.server.admin().unwrap()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let config = client(&world, shown, b"http/1.1");
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
        let path = format!("/hooks/gerrit/main/{SECRET}");
        let told = request(&world, Method::POST, &path).body(whole(event("change-merged", 1, 1).to_string()));
        let answer = connected(stream).await.send_request(told.unwrap()).await.unwrap();
        assert_eq!(answer.status(), expected, "{}", shown.is_some());
    }
    // The reverse listener asks callers for their certificates, and vouches for no hook.
    let told = world.nobody().post(&format!("/.amlgate/hooks/gerrit/main/{SECRET}"), &event("x", 1, 1)).await;
    assert_eq!(told.status, StatusCode::NOT_FOUND, "{told:?}");
}

/// Submits a job from a commit, with how long to wait for its review.
async fn submits(world: &World, name: &str, prefer: Option<&str>) -> Answer {
    let token = built(world, SHA);
    let caller = world.bearing(&token);
    let target = workspace(&format!("/jobs/{name}?{VERSION}"));
    let mut request = caller.request(Method::PUT, &target).header(header::CONTENT_TYPE, "application/json");
    if let Some(prefer) = prefer {
        request = request.header("prefer", prefer);
    }
    caller.send(request.body(whole(job().to_string())).unwrap()).await
}

fn refused(answer: &Answer) -> String {
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (StatusCode::FORBIDDEN, Some("ReviewRequired")),
        "{answer:?}"
    );
    answer.json()["error"]["message"].as_str().unwrap().to_owned()
}

/// Waits until Gerrit was asked about the commit of a call so often.
async fn asked_about_it(gerrit: &Gerrit, times: usize) {
    let mut asked = 0;
    while asked < times {
        gerrit.is_asked().await;
        asked += gerrit.asked().iter().filter(|(_, path)| path.contains("commit%3A")).count();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_the_review_of_its_code_and_goes_on_when_a_hook_tells_of_it() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit, "127.0.0.1", false).await;
    gerrit.is_asked().await;
    gerrit.now(|g| g.change["status"] = "NEW".into());
    gerrit.asked();
    let call = submits(&world, "held", None);
    let told = async {
        // Once when it came, and once more when it had begun to listen.
        asked_about_it(&gerrit, 2).await;
        gerrit.now(|g| g.change["status"] = "MERGED".into());
        assert_eq!(tells(&world, &event("change-merged", 42, 1)).await, StatusCode::ACCEPTED);
    };
    let began = clock.now();
    let mut call = Box::pin(async { tokio::join!(call, told).0 });
    let answer = loop {
        match tokio::time::timeout(Duration::from_millis(50), &mut call).await {
            Ok(answer) => break answer,
            // Hints come no faster than the clock moves.
            Err(_) => clock.advance(Duration::from_millis(50)),
        }
    };
    assert!(clock.now().since(began) < Duration::from_secs(9), "before it is asked about anyhow");
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_no_longer_than_its_entry_or_its_caller_wants_and_never_for_what_time_does_not_mend() {
    let gerrit = Gerrit::start().await;
    let (world, clock) = world(&gerrit, "127.0.0.1", false).await;
    gerrit.is_asked().await;
    gerrit.now(|g| g.change["status"] = "NEW".into());
    let moved = async |prefer: Option<&'static str>, name: &'static str| {
        let began = clock.now();
        let mut call = Box::pin(submits(&world, name, prefer));
        loop {
            match tokio::time::timeout(Duration::from_millis(50), &mut call).await {
                Ok(answer) => return (refused(&answer), clock.now().since(began)),
                Err(_) => clock.advance(Duration::from_secs(5)),
            }
        }
    };
    let (said, waited) = moved(None, "entry").await;
    assert!(said.contains("change 42 is not merged"), "{said}");
    assert!((60..90).contains(&waited.as_secs()), "{waited:?}");
    let (_, waited) = moved(Some("wait=10"), "caller").await;
    assert!((10..30).contains(&waited.as_secs()), "{waited:?}");
    // Who does not want to wait is told at once, and so is whose token names no commit.
    let answer = submits(&world, "at-once", Some("wait=0")).await;
    assert!(refused(&answer).contains("change 42 is not merged"), "{answer:?}");
    let person = world.sandbox.issuer.token("sam").unwrap();
    let answer = world.bearing(&person).put(&workspace(&format!("/jobs/x?{VERSION}")), &job()).await;
    assert!(refused(&answer).contains("no claim `sha`"), "{answer:?}");
    // And while it waits, what Gerrit says is the truth: nothing is waved through.
    gerrit.now(|g| g.change["status"] = "ABANDONED".into());
    let (said, _) = moved(Some("wait=10"), "abandoned").await;
    assert!(said.contains("change 42 is not merged"), "{said}");
    assert_eq!(world.sandbox.azure.observer().seen_at("/jobs/").len(), 0, "nothing was sent");
}
