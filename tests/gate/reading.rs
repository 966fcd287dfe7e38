//! The record over the API: who may read it, page by page and as it grows, and that reading is recorded.

use std::time::Duration;

use amlgate::audit::{note::VerifierKeys, query};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    api::{ask, request, token},
    forward::jobs,
    world::{Answer, Log, VERSION, World, job, whole, workspace},
};

async fn read(world: &World, by: &str, query: &str) -> Answer {
    let builder = request(world, Method::GET, &format!("/api/v1/audit{query}"))
        .header(header::AUTHORIZATION, format!("Bearer {}", token(world, by)));
    ask(world, builder.body(whole("")).unwrap()).await
}

fn positions(answer: &Answer) -> Vec<u64> {
    let answer = answer.json();
    let records = answer["records"].as_array().unwrap();
    records.iter().map(|record| record["position"].as_u64().unwrap()).collect()
}

/// Somebody was let in and waits: the place for the outcome's record is taken.
async fn waits(world: &World) {
    while world.server.journal().depth() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_auditor_reads_what_the_log_holds_and_that_is_recorded_before_it_is_given() {
    let world = World::new().await;
    let sam = world.caller("sam");
    assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK);
    let denied = sam.delete(&workspace(&format!("?{VERSION}"))).await;
    let decision = denied.header("x-amlgate-decision").to_owned();
    world.server.journal().sign_head();

    let found = read(&world, "alex", &format!("?decision={decision}")).await;
    assert_eq!(found.status, StatusCode::OK, "{found:?}");
    assert_eq!(found.header("cache-control"), "no-store");
    let said = found.json();
    assert_eq!((&said["log"], &said["more"]), (&json!("amlgate-sandbox"), &json!(false)));
    let records = said["records"].as_array().unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["record"]["unmapped"]["amlgate"]["denial"]["code"], "AuthorizationFailed");
    // The bytes are those of the leaf.
    let directory = world.directory().join("var/audit");
    let keys = std::fs::read_to_string(directory.join("audit.pub")).unwrap();
    let filter = query::Filter { decision: decision.parse().ok(), ..query::Filter::default() };
    let bounds = query::Bounds::records(9);
    let keys = VerifierKeys::parse(&keys).unwrap();
    let page = query::search(&directory, &keys, &filter, query::Look::Everywhere, 0, bounds).unwrap();
    assert!(found.text().contains(std::str::from_utf8(&page.found[0].line).unwrap()));

    let caller = read(&world, "alex", "?caller=sandbox:user-sam&phase=denial").await;
    assert_eq!(positions(&caller), positions(&found));
    assert!(positions(&read(&world, "alex", "?text=nobody-wrote-this").await).is_empty());
    let log = world.stop().await;
    let reads = log.events("record_read");
    let queries: Vec<_> = reads.iter().map(|read| read["query"].as_str().unwrap()).collect();
    assert_eq!(queries.len(), 3, "{queries:?}");
    assert_eq!(queries[1], "caller=sandbox:user-sam phase=denial from=0");
    assert_eq!((&reads[0]["records"], &reads[2]["records"]), (&json!(1), &json!(0)));
    assert_eq!(reads[0]["decision"], found.header("x-amlgate-decision"));
    let of_reads: Vec<&Value> =
        log.records.iter().filter(|r| r["unmapped"]["amlgate"]["event"] == "record_read").collect();
    assert_eq!(of_reads[0]["actor"]["user"]["uid"], "sandbox:user-alex");
}

#[tokio::test]
async fn whom_the_policies_do_not_let_reads_nothing_and_that_is_recorded_too() {
    let world = World::new().await;
    for somebody in ["sam", "rita", "ci"] {
        let answer = read(&world, somebody, "").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
        assert!(!answer.text().contains("class_uid"), "{answer:?}");
    }
    let nobody = ask(&world, request(&world, Method::GET, "/api/v1/audit").body(whole("")).unwrap()).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    for query in ["?everything=1", "?limit=100000", "?wait=3600", "?cursor=x", "?since=now"] {
        let answer = read(&world, "alex", query).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}: {answer:?}");
    }
    let log = world.stop().await;
    assert_eq!(log.events("record_read").len(), 0);
    let denials = log.requests().iter().filter(|r| r["unmapped"]["amlgate"]["phase"] == "denial").count();
    assert_eq!(denials, 3);
}

#[tokio::test]
async fn pages_hold_every_record_once_and_a_cursor_goes_on_with_what_came_since() {
    let world = World::new().await;
    let sam = world.caller("sam");
    for _ in 0..12 {
        assert_eq!(sam.get(&jobs()).await.status, StatusCode::OK);
    }
    let (mut query, mut seen) = ("?limit=5&caller=user-sam".to_owned(), Vec::new());
    let cursor = loop {
        let answer = read(&world, "alex", &query).await;
        let page = positions(&answer);
        assert!(page.len() <= 5, "{answer:?}");
        seen.extend(page);
        let cursor = answer.json()["next"].as_str().unwrap().to_owned();
        if answer.json()["more"] == false {
            break cursor;
        }
        query = format!("?limit=5&caller=user-sam&cursor={cursor}");
    };
    assert_eq!(seen.len(), 12);
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    let put = sam.put(&workspace(&format!("/jobs/later?{VERSION}")), &job()).await;
    assert_eq!(put.status, StatusCode::CREATED);
    let later = read(&world, "alex", &format!("?caller=user-sam&phase=intent&cursor={cursor}")).await;
    assert_eq!(positions(&later).len(), 1, "{later:?}");
    // What is recorded meanwhile comes along: the outcome of the read before.
    let last = positions(&read(&world, "alex", "?last=2").await);
    assert!((2..=3).contains(&last.len()), "{last:?}");
}

#[tokio::test]
async fn whoever_waits_gets_what_comes_and_not_the_records_of_the_own_waiting() {
    let world = World::new().await;
    let cursor = read(&world, "alex", "?last=0").await.json()["next"].as_str().unwrap().to_owned();
    let sam = world.caller("sam");
    let query = format!("?wait=30&cursor={cursor}");
    let waiting = read(&world, "alex", &query);
    let acting = async {
        waits(&world).await;
        let denied = sam.delete(&workspace(&format!("?{VERSION}"))).await;
        denied.header("x-amlgate-decision").to_owned()
    };
    let (told, decision) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(waiting, acting) })
            .await
            .expect("what comes ends the wait");
    assert_eq!(told.status, StatusCode::OK, "{told:?}");
    assert!(told.text().contains(&decision), "{told:?}");
    // Nothing but the reads themselves: the wait lasts as long as it was asked for.
    let cursor = told.json()["next"].as_str().unwrap().to_owned();
    let quiet = read(&world, "alex", &format!("?wait=1&cursor={cursor}")).await;
    let only_reads = quiet.json()["records"]
        .as_array()
        .unwrap()
        .iter()
        .all(|entry| entry["record"]["api"]["operation"] == "amlgate/audit/read");
    assert!(only_reads, "{quiet:?}");
    assert_ne!(quiet.json()["next"], cursor);
}

#[tokio::test]
async fn whoever_is_revoked_while_waiting_is_given_nothing() {
    let world = World::new().await;
    let alex = token(&world, "alex");
    let waiting = async {
        let builder = request(&world, Method::GET, "/api/v1/audit?wait=30&text=revoked-by-a-test")
            .header(header::AUTHORIZATION, format!("Bearer {alex}"));
        ask(&world, builder.body(whole("")).unwrap()).await
    };
    let acting = async {
        waits(&world).await;
        let revoked = json!({"principal": "sandbox:user-alex", "reason": "a test"});
        let builder = request(&world, Method::POST, "/api/v1/revocations")
            .header(header::AUTHORIZATION, format!("Bearer {}", token(&world, "pat")))
            .header(header::CONTENT_TYPE, "application/json");
        let made = ask(&world, builder.body(whole(revoked.to_string())).unwrap()).await;
        assert_eq!(made.status, StatusCode::CREATED);
        let told =
            world.caller("sam").request(Method::GET, &jobs()).header(header::USER_AGENT, "revoked-by-a-test");
        world.caller("sam").send(told.body(whole("")).unwrap()).await;
    };
    let (told, ()) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(waiting, acting) })
        .await
        .expect("the wait ends");
    assert_eq!(told.status, StatusCode::UNAUTHORIZED, "{told:?}");
    assert!(!told.text().contains("user-sam"));
}

#[tokio::test]
async fn a_log_that_was_changed_is_not_given() {
    let world = World::new().await;
    world.caller("sam").delete(&workspace(&format!("?{VERSION}"))).await;
    world.server.journal().sign_head();
    assert_eq!(read(&world, "alex", "?phase=denial").await.status, StatusCode::OK);
    let segment = world.directory().join("var/audit/00000000000000000000.log");
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replace("user-sam", "user-pat")).unwrap();
    let answer = read(&world, "alex", "?phase=denial").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{answer:?}");
    assert_eq!(answer.json()["title"], "RecordNotWhole");
    assert!(answer.text().contains("audit verify"), "{answer:?}");
}

/// `audit query` on the log of a gate that has ended.
fn queried(log: &Log, arguments: &[&str]) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["audit", "query"])
        .arg(log.dir.path().join("var/audit"))
        .args(arguments)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn an_auditor_finds_by_person_action_resource_decision_text_and_time_on_the_disk() {
    let world = World::new().await;
    let (sam, rita) = (world.caller("sam"), world.caller("rita"));
    for caller in [&sam, &rita] {
        caller.get(&jobs()).await;
    }
    let denied = sam.delete(&workspace(&format!("?{VERSION}"))).await;
    let put = sam.request(Method::PUT, &workspace(&format!("/jobs/mine?{VERSION}")));
    let put = put.header(header::CONTENT_TYPE, "application/json").header(header::USER_AGENT, "needle/1");
    assert_eq!(sam.send(put.body(whole(job().to_string())).unwrap()).await.status, StatusCode::CREATED);
    let log = world.stop().await;
    let decision = denied.header("x-amlgate-decision").to_owned();
    let (own, user) =
        (|r: &Value| r["unmapped"]["amlgate"].clone(), |r: &Value| r["actor"]["user"]["uid"].clone());
    let of_job = |r: &Value| r["resources"].to_string().contains("/jobs/mine");
    type Fits<'f> = &'f dyn Fn(&Value) -> bool;
    let questions: [(&[&str], Fits<'_>); 8] = [
        (&["--person", "user-rita"], &|r| user(r) == "sandbox:user-rita"),
        (&["--action", "workspaces/DELETE"], &|r| own(r)["decision"] == *decision),
        (&["--decision", &decision], &|r| own(r)["decision"] == *decision),
        (&["--code", "AuthorizationFailed"], &|r| own(r)["denial"]["code"] == "AuthorizationFailed"),
        (&["--resource", "/jobs/mine", "--phase", "intent"], &|r| of_job(r) && own(r)["phase"] == "intent"),
        (&["--text", "NEEDLE/1"], &|r| r["http_request"]["user_agent"] == "needle/1"),
        (&["--since", "2999-01-01T00:00:00Z"], &|_| false),
        (&["--until", "2999-01-01T00:00:00Z"], &|_| true),
    ];
    for (question, fits) in questions {
        let expected: Vec<Value> = log.records.iter().filter(|record| fits(record)).cloned().collect();
        for scan in [&[][..], &["--scan"]] {
            let json = queried(&log, &[question, &["-o", "json"], scan].concat());
            let found: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(found, expected, "{question:?} {scan:?}");
        }
        assert_eq!(expected.is_empty(), question[0] == "--since", "{question:?}");
        assert_eq!(queried(&log, question).lines().count(), expected.len(), "{question:?}");
    }
    let row = queried(&log, &["--decision", &decision]);
    for told in ["sandbox:user-sam", "AuthorizationFailed", "DELETE", "workspaces/delete"] {
        assert!(row.contains(told), "{told} in {row}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_the_log_on_the_disk_sees_each_record_as_it_comes() {
    use tokio::io::AsyncBufReadExt as _;
    let world = World::new().await;
    let mut tail = tokio::process::Command::new(env!("CARGO_BIN_EXE_amlgate"))
        .args(["audit", "tail", "--follow", "-n", "100", "-o", "json"])
        .arg(world.directory().join("var/audit"))
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut seen: Vec<Value> = Vec::new();
    // What comes after the first line came while it was followed.
    let first = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap().unwrap();
    seen.push(serde_json::from_str(&first.unwrap()).unwrap());
    for name in ["one", "two"] {
        let put = world.caller("sam").put(&workspace(&format!("/jobs/{name}?{VERSION}")), &job()).await;
        let decision = put.header("x-amlgate-decision").to_owned();
        let is_outcome = |record: &Value| {
            let own = &record["unmapped"]["amlgate"];
            own["decision"] == *decision && own["phase"] == "outcome"
        };
        while !seen.last().is_some_and(is_outcome) {
            let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await.unwrap();
            seen.push(serde_json::from_str(&line.unwrap().unwrap()).unwrap());
        }
    }
    tail.kill().await.unwrap();
    let log = world.stop().await;
    assert_eq!(seen, log.records[..seen.len()], "each once, and in order");
}
