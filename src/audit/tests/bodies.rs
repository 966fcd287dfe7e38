//! Bodies beside the log: durable before what names them, sealed, and gone with the disk's failure.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Value, json};

use super::{
    requests::{caller, now, operation, request},
    *,
};
use crate::{
    audit::{bodies::BodySettings, storage::faulty::Half},
    azureml::{Inspected, Kind},
    gates::{Cleared, Gates},
    identity::Principal,
    policy::{FileSet, PolicySet, Standing, Surroundings, decide},
};

const BODY: &str = r#"{"command":"python train.py","password":"canary","note":"canary"}"#;

fn seal() -> Seal {
    Seal::new([&SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")]).unwrap()
}

fn kept() -> BodySettings {
    BodySettings::new(&seal(), 1 << 20, 8 << 20, None)
}

fn recording(disk: &FaultyDisk) -> Journal {
    let clock = Arc::new(ManualClock::starting_at(now()));
    let (journal, _) = open_at(disk, &settings(), clock).unwrap();
    journal.keep_bodies(kept());
    journal
}

/// A write whose bodies are recorded for thirty days, without what stands at `/note`.
fn cleared(body: Option<&str>) -> Cleared {
    let text = "version: 1\nallow:\n  - name: team works\n    who: [authenticated]\n    kinds: [write]\n    \
                record: {bodies: [request, response], redact: [/note], keep: 30d}\n";
    let files = FileSet::from_texts([("team.yaml", text)]);
    let set = PolicySet::compile(&files, &Surroundings::default()).unwrap_or_else(|p| panic!("{p:?}")).0;
    let mut request = request(Method::PUT, "/jobs/j1?api-version=2024-04-01");
    request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.body = body.map(|body| Arc::new(Inspected::parse(body.as_bytes()).unwrap()));
    let operation = operation(Kind::Write, "jobs/write");
    let azure = crate::policy::Azure::default();
    let permit =
        decide(&set, Principal::for_tests(caller()), operation, request, Standing::Entries, azure, now())
            .unwrap();
    Gates::new(Arc::new(ManualClock::starting_at(now()))).clear(permit).unwrap()
}

fn json() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// The bodies that a record names.
fn named(record: &Value) -> Vec<Value> {
    record["unmapped"]["amlgate"]["bodies"].as_array().cloned().unwrap_or_default()
}

/// What is kept of a body.
fn shown(disk: &FaultyDisk, body: &Value) -> Option<Value> {
    let digest = body["blob"].as_str()?;
    let name = disk.names().into_iter().find(|name| name.starts_with("bodies/") && name.ends_with(digest))?;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(&name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, disk.read(&name).unwrap()).unwrap();
    let opened =
        super::super::bodies::open(directory.path(), digest, &seal().blob_sealer(Purpose::Bodies)).unwrap();
    Some(serde_json::from_slice(&opened.body).unwrap())
}

#[tokio::test]
async fn a_judged_body_is_durable_with_its_intent_and_every_other_with_the_outcome() {
    let disk = FaultyDisk::default();
    let journal = recording(&disk);
    let mut recorded = journal.intend(cleared(Some(BODY)), Exchange::default()).await.unwrap();
    let found = disk.after_power_loss(Tear::Cut(0));
    let intent = &records(&found)[0];
    let [request] = &named(intent)[..] else { panic!("{intent}") };
    let expected = json!({"command": "python train.py", "password": "[redacted]", "note": "[redacted]"});
    assert_eq!(shown(&found, request), Some(expected));
    let until = now().plus(Duration::from_secs(30 * 86_400)).as_millis();
    assert_eq!(
        (&request["until"], &request["redacted"], &request["size"]),
        (&json!(until), &json!(2), &json!(BODY.len()))
    );
    // The answer comes in pieces.
    let taker = recorded.outcome().takes_response(&json()).unwrap();
    for piece in [&br#"{"id":"j1","#[..], br#""token":"canary"}"#] {
        taker.take(piece);
    }
    recorded.outcome().ended(Ending::Completed);
    drop(recorded);
    assert!(journal.close().await);
    let outcome = &records(&disk)[1];
    let [response] = &named(outcome)[..] else { panic!("the request's is not told twice: {outcome}") };
    assert_eq!(shown(&disk, response), Some(json!({"id": "j1", "token": "[redacted]"})));
    assert_eq!(
        story(&disk),
        ["intent", "completed", "stopped"],
        "what is sealed apart is closed with the rest"
    );
}

#[tokio::test]
async fn what_streams_in_is_recorded_with_the_outcome_and_bodies_that_did_not_come_are_not_told() {
    let disk = FaultyDisk::default();
    let journal = recording(&disk);
    let mut recorded = journal.intend(cleared(None), Exchange::default()).await.unwrap();
    recorded.outcome().takes_request().unwrap().take(BODY.as_bytes());
    recorded.outcome().ended(Ending::UpstreamFailed);
    drop(recorded);
    let silent = journal.intend(cleared(None), Exchange::default()).await.unwrap();
    drop(silent);
    assert!(journal.close().await);
    let all = records(&disk);
    assert!(named(&all[0]).is_empty());
    let told: Vec<_> = all.iter().flat_map(named).collect();
    assert_eq!((told.len(), &told[0]["side"]), (1, &json!("request")), "{told:#?}");
}

#[tokio::test]
async fn at_every_operation_what_an_acknowledged_intent_names_is_there() {
    let mut crashes = 0;
    for half in [Half::Nothing, Half::Everything] {
        for operation in 0.. {
            let disk = FaultyDisk::default();
            disk.loses_power_after(operation, half);
            let clock = Arc::new(ManualClock::starting_at(now()));
            let mut acknowledged = 0;
            if let Ok((journal, _)) = open_at(&disk, &settings(), clock) {
                journal.keep_bodies(kept());
                for _ in 0..3 {
                    let intent = journal.intend(cleared(Some(BODY)), Exchange::default()).await;
                    acknowledged += usize::from(intent.is_ok());
                }
                journal.close().await;
            }
            if !disk.is_off() {
                break;
            }
            crashes += 1;
            let found = disk.after_power_loss(Tear::Cut(0));
            let intents: Vec<_> = records(&found).iter().flat_map(named).collect();
            assert!(intents.len() >= acknowledged, "operation {operation}");
            assert!(
                intents.iter().all(|body| shown(&found, body).is_some()),
                "operation {operation}: {intents:#?}"
            );
        }
    }
    assert!(crashes > 15, "{crashes}");
}

#[tokio::test]
async fn without_a_place_for_its_body_a_write_does_not_go_on() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    // Nobody said how bodies are kept.
    assert!(journal.intend(cleared(Some(BODY)), Exchange::default()).await.is_err());
    journal.keep_bodies(kept());
    disk.suffer(Trouble::Space(0));
    assert!(journal.intend(cleared(Some(BODY)), Exchange::default()).await.is_err());
    disk.suffer(Trouble::None);
    drop(journal.intend(cleared(Some(BODY)), Exchange::default()).await.unwrap());
    assert!(journal.close().await);
    assert_eq!(story(&disk), ["record_resumed", "intent", "aborted", "stopped"]);
    verified(&disk).unwrap();
}

#[tokio::test]
async fn bodies_of_an_outcome_wait_for_a_disk_that_fails_as_the_outcome_does() {
    let disk = FaultyDisk::default();
    let journal = recording(&disk);
    let mut recorded = journal.intend(cleared(None), Exchange::default()).await.unwrap();
    disk.suffer(Trouble::Dead);
    recorded.outcome().takes_response(&json()).unwrap().take(b"{\"id\":\"j1\"}");
    recorded.outcome().ended(Ending::Completed);
    drop(recorded);
    assert!(journal.happened(&event(1)).await.is_err());
    disk.suffer(Trouble::None);
    assert!(journal.close().await);
    let outcome = records(&disk).into_iter().find(|record| !named(record).is_empty()).unwrap();
    assert_eq!(shown(&disk, &named(&outcome)[0]), Some(json!({"id": "j1"})));
}

#[test]
fn what_does_not_pass_in_the_clear_or_may_not_is_told_with_the_reason() {
    use super::super::bodies::{Bodies, Kept};
    let recording = crate::policy::Recording { request: true, response: true, ..Default::default() };
    let fresh = || Bodies::new(Arc::new(kept()), recording.clone());
    let reasons = |bodies: Bodies| -> Vec<&'static str> {
        let (notes, blobs) = bodies.kept(crate::policy::DecisionId::fresh(), now());
        assert!(blobs.is_empty());
        let reason = |kept| match kept {
            Kept::Not(reason) => reason,
            Kept::Blob { .. } => panic!("it is kept"),
        };
        notes.into_iter().map(|note| reason(note.kept)).collect()
    };
    let mut compressed = fresh();
    let mut headers = json();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    compressed.request(None, &headers).unwrap().take(b"...");
    assert_eq!(reasons(compressed), ["encoded"]);
    let mut upgraded = fresh();
    upgraded.refuse("upgraded");
    assert_eq!(reasons(upgraded), ["upgraded", "upgraded"]);
    let mut barred = fresh();
    barred.bar_response("holds_secrets");
    assert!(barred.response(None, &json()).is_none(), "nothing of it is copied");
    assert_eq!(reasons(barred), ["holds_secrets"]);
}

#[tokio::test]
async fn the_records_that_name_bodies_have_their_lines() {
    let disk = FaultyDisk::default();
    let journal = recording(&disk);
    let mut recorded = journal.intend(cleared(Some(BODY)), Exchange::default()).await.unwrap();
    recorded.outcome().answered(200, None);
    let encoded = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static("br"))]);
    recorded.outcome().takes_response(&encoded).unwrap().take(b"12345");
    recorded.outcome().ended(Ending::Completed);
    drop(recorded);
    assert!(journal.close().await);
    for (name, mut record) in ["intent_with_body", "outcome_without_body"].into_iter().zip(records(&disk)) {
        // A blob looks another way each time.
        if let Some(blob) = record.pointer_mut("/unmapped/amlgate/bodies/0/blob") {
            *blob = "0".repeat(64).into();
        }
        super::golden::is_golden(name, &serde_json::to_vec(&record).unwrap());
    }
}

/// What comes about in another thread, awaited.
async fn comes_about(what: impl Fn() -> bool) {
    let found = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("it comes about");
}

#[tokio::test]
async fn bodies_go_when_their_time_is_over_though_nothing_is_recorded_and_though_the_disk_is_full() {
    for full in [false, true] {
        let (disk, clock) = (FaultyDisk::default(), Arc::new(ManualClock::starting_at(now())));
        let (journal, _) = open_at(&disk, &settings(), Arc::clone(&clock)).unwrap();
        journal.keep_bodies(kept());
        let mut recorded = journal.intend(cleared(Some(BODY)), Exchange::default()).await.unwrap();
        recorded.outcome().ended(Ending::Completed);
        drop(recorded);
        journal.sign_head();
        comes_about(|| disk.names().iter().any(|name| name == crate::audit::tiles::CHECKPOINT)).await;
        let bodies = || disk.names().iter().filter(|name| name.starts_with("bodies/")).count();
        assert_eq!(bodies(), 1);
        clock.advance(Duration::from_secs(31 * 86_400));
        if full {
            disk.suffer(Trouble::Space(0));
            assert!(journal.happened(&event(1)).await.is_err());
        }
        journal.sign_head();
        comes_about(|| bodies() == 0).await;
        disk.suffer(Trouble::None);
        assert!(journal.close().await);
        assert!(story(&disk).contains(&"intent".to_owned()), "what names it stays");
    }
}
