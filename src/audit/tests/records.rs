//! What a record says, and what it never says.

use http::{HeaderValue, Method, header};
use serde_json::{Value, json};

use super::{
    requests::{WORKSPACE, caller, judged, now, operation, request},
    *,
};
use crate::{
    azureml::{Allocation, Effect, Effects, Kind, SecretClass, Secrets},
    identity::Groups,
};

/// The records of a request that is made, answered with 201 and ended.
pub(super) async fn told(target: &str, change: impl FnOnce(&mut crate::policy::RequestFacts)) -> Vec<Value> {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    let mut request = request(Method::PUT, target);
    change(&mut request);
    let mut operation = operation(Kind::Write, "jobs/write");
    operation.effects = Effects::NONE.with(Effect::AllocateCompute);
    operation.secrets = Secrets::NONE.with(SecretClass::RunToken);
    operation.facts.allocates = Some(Box::new(Allocation {
        nodes: Some(4),
        skus: Some(vec!["Standard_NC6".into()]),
        gpus: None,
        hours: Some(1.5),
    }));
    let mut cleared = judged(operation.clone(), request.clone(), caller());
    if cleared.is_err() {
        operation.secrets = Secrets::NONE;
        cleared = judged(operation, request, caller());
    }
    let exchange = Exchange { credential: Some("vision".into()), upgrade: false };
    let mut recorded = journal.intend(cleared.unwrap(), exchange).await.unwrap();
    recorded.outcome().sent(10);
    recorded.outcome().answered(201, Some("azure-correlation"));
    recorded.outcome().received(20);
    recorded.outcome().ended(Ending::Completed);
    drop(recorded);
    journal.close().await;
    let mut found = records(&disk);
    found.pop();
    found
}

#[tokio::test]
async fn an_outcome_says_who_did_what_to_which_why_and_with_what_result() {
    let all = told("/jobs/j1?api-version=2024-04-01&$skipToken=abc", |r| {
        let headers = &mut r.headers;
        headers.insert("x-ms-client-request-id", HeaderValue::from_static("client-1"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("azure-ai-ml/1.0"));
    })
    .await;
    let mut outcome = all[1].clone();
    let decision = outcome["unmapped"]["amlgate"]["decision"].clone();
    let digest = outcome["unmapped"]["amlgate"]["policy_digest"].clone();
    assert_eq!(outcome["metadata"]["uid"], decision);
    assert_eq!(digest.as_str().unwrap().len(), 64);
    let version = outcome["actor"]["authorizations"][0]["policy"]["version"].take();
    assert!(digest.as_str().unwrap().starts_with(version.as_str().unwrap()));
    let thumbprint = outcome["actor"]["session"]["credential_uid"].take();
    assert_eq!(thumbprint.as_str().unwrap().len(), 32);
    assert_ne!(thumbprint, "09".repeat(16), "keyed, not the digest itself");
    assert_eq!(
        outcome,
        json!({
            "action_id": 1, "activity_id": 3, "category_uid": 6, "class_uid": 6003, "type_uid": 600_303,
            "actor": {
                "app_uid": "app-1",
                "authorizations": [{"decision": "allow", "policy": {"name": "team works", "uid": "team.yaml:5", "version": null}}],
                "idp": {"name": "corp"},
                "session": {"credential_uid": null, "expiration_time": now().as_millis() + 3_600_000},
                "user": {"domain": "tid", "groups": [{"uid": "g1"}, {"uid": "g2"}], "name": "Ann", "type_id": 1, "uid": "corp:tid/oid-ann"},
            },
            "api": {
                "operation": "Microsoft.MachineLearningServices/workspaces/jobs/write",
                "request": {"uid": "client-1"}, "response": {"code": 201}, "service": {"name": "arm"}, "version": "2024-04-01",
            },
            "cloud": {"account": {"uid": "s1"}, "provider": "Azure"},
            "disposition_id": 1, "duration": 0,
            "http_request": {
                "args": "api-version=2024-04-01&$skipToken", "body_length": 10, "http_method": "PUT",
                "url": {"hostname": "gate", "path": "/jobs/j1"}, "user_agent": "azure-ai-ml/1.0",
            },
            "http_response": {"body_length": 20, "code": 201, "latency": 0},
            "metadata": {
                "correlation_uid": "azure-correlation",
                "product": {"name": "amlgate", "vendor_name": "amlgate", "version": env!("CARGO_PKG_VERSION")},
                "profiles": ["cloud", "security_control"], "uid": decision, "version": "1.5.0",
            },
            "resources": [{"name": "vision", "uid": WORKSPACE}],
            "severity_id": 1, "src_endpoint": {"ip": "10.1.2.3", "port": 4000}, "status_code": "completed", "status_id": 1,
            "time": now().as_millis(),
            "unmapped": {"amlgate": {
                "allocates": {"minutes": 90, "nodes": 4, "skus": ["Standard_NC6"]},
                "credential": "vision", "decision": decision, "effects": ["allocate_compute"], "ending": "completed",
                "form": "amlgate-1", "kind": "write", "mode": "reverse", "operation": "Jobs_Test", "phase": "outcome",
                "policy_digest": digest, "proof": "bearer", "protocol": "arm",
            }},
        })
    );
    let intent = &all[0];
    assert_eq!(intent["unmapped"]["amlgate"]["phase"], "intent");
    assert_eq!((intent.get("http_response"), &intent["status_id"]), (None, &json!(0)));
    assert_eq!(intent["actor"]["user"], outcome["actor"]["user"]);
}

#[tokio::test]
async fn a_denial_says_its_code_cause_and_what_is_missing() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    let denied = judged(operation(Kind::Delete, "models/delete"), request(Method::DELETE, "/m"), caller())
        .unwrap_err();
    journal.denied(&denied).await.unwrap();
    assert!(journal.close().await);
    let record = &records(&disk)[0];
    assert_eq!(
        (&record["action_id"], &record["disposition_id"], &record["status_id"]),
        (&json!(2), &json!(2), &json!(2))
    );
    assert_eq!(record["status_code"], "AuthorizationFailed");
    let own = &record["unmapped"]["amlgate"];
    assert_eq!((&own["phase"], &own["denial"]["code"]), (&json!("denial"), &json!("AuthorizationFailed")));
    assert!(own["denial"]["missing"].to_string().contains("models/delete"), "{own}");
}

#[tokio::test]
async fn refusals_before_identity_become_one_record_for_each_peer_and_reason() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    for _ in 0..1_000 {
        journal.refused("192.0.2.7".parse().unwrap(), "token expired");
    }
    journal.refused("192.0.2.7".parse().unwrap(), "no token");
    assert!(journal.close().await);
    let found = records(&disk);
    let mut counts: Vec<_> =
        found.iter().filter_map(|r| r["unmapped"]["amlgate"]["count"].as_u64()).collect();
    counts.sort_unstable();
    assert_eq!((found.len(), counts), (3, vec![1, 1_000]));
}

/// Secrets wherever a caller can put one, in forms that an honest client sends.
#[tokio::test]
async fn no_secret_that_a_caller_sends_is_in_the_record() {
    let secret = "S3CR3Tcanary";
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    for target in [
        format!("/x?sig={secret}&se=2027&sv=1"),
        format!("/x?access_token={secret}"),
        format!("/x?code={secret}&state={secret}"),
        format!("/x?api-version={secret}%20{secret}"),
        format!("/x?{}", "eyJ".to_owned() + &secret.repeat(20)),
        format!("/x?https%3A%2F%2Fa%2F%3Fsig%3D{secret}=1"),
    ] {
        let mut request = request(Method::PUT, &target);
        for name in [
            "authorization",
            "cookie",
            "x-ms-authorization-auxiliary",
            "x-azureml-token",
            "proxy-authorization",
        ] {
            request.headers.insert(name, HeaderValue::from_str(&format!("Bearer {secret}")).unwrap());
        }
        for name in ["x-ms-client-request-id", "x-ms-correlation-request-id"] {
            request.headers.insert(name, HeaderValue::from_str(&format!("https://x/?sig={secret}")).unwrap());
        }
        let cleared = judged(operation(Kind::Write, "jobs/write"), request, caller()).unwrap();
        drop(journal.intend(cleared, Exchange::default()).await.unwrap());
    }
    journal.close().await;
    for name in disk.list().unwrap() {
        let text = String::from_utf8_lossy(&disk.read(&name).unwrap()).into_owned();
        assert!(!text.contains(secret) && !text.contains("sig="), "{name}: {text}");
    }
}

#[tokio::test]
async fn every_record_is_canonical_and_bounded_whatever_is_sent() {
    let hostile = "\u{202e}\"\\\u{0}é".repeat(3_000);
    let mut who = caller();
    who.id.subject = hostile.as_str().into();
    who.display = Some(hostile.as_str().into());
    who.tenant = Some(hostile.as_str().into());
    who.client = Some(hostile.as_str().into());
    who.groups = Groups::Known(
        std::iter::once("g1".to_owned())
            .chain((0..500).map(|n| format!("{hostile}{n}")))
            .map(Into::into)
            .collect(),
    );
    who.roles = (0..500).map(|_| hostile.as_str().into()).collect();
    let query: Vec<String> = (0..300).map(|n| format!("k{n}{}=v", "x".repeat(20))).collect();
    let target = format!("/{}?{}", "%E2%80%AEa".repeat(800), query.join("&"));
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk, &settings());
    let mut op = operation(Kind::Write, "jobs/write");
    op.acts = (0..200).flat_map(|_| op.acts.clone()).collect();
    op.facts.allocates = Some(Box::new(Allocation {
        nodes: Some(u64::MAX),
        skus: Some(vec![hostile.clone(); 100]),
        gpus: None,
        hours: Some(f64::INFINITY),
    }));
    let mut facts = request(Method::PUT, &target);
    facts.headers.insert(header::USER_AGENT, HeaderValue::from_str(&"u".repeat(9_000)).unwrap());
    let exchange = Exchange { credential: Some(hostile.as_str().into()), upgrade: false };
    drop(journal.intend(judged(op.clone(), facts.clone(), who.clone()).unwrap(), exchange).await.unwrap());
    op.acts[0].action = crate::azureml::Action::new("Microsoft.Other/x/write");
    journal.denied(&judged(op, facts, who).unwrap_err()).await.unwrap();
    assert!(journal.close().await);
    let mut reader = read::Reader::new(disk);
    let mut seen = 0;
    while let Some(record) = reader.record().unwrap() {
        assert!(record.line.len() <= MAX_RECORD, "{}", record.line.len());
        let value: Value = serde_json::from_slice(&record.line).unwrap();
        assert_eq!(serde_json::to_vec(&value).unwrap(), record.line);
        let text = String::from_utf8(record.line).unwrap();
        assert!(!text.contains('\u{202e}') && !text.contains('\u{0}'));
        if let Some(shortened) = value["unmapped"]["amlgate"].get("shortened") {
            assert!(shortened.as_str().unwrap().contains("32 KiB"));
            assert_eq!(value["unmapped"]["amlgate"]["groups_count"], 501);
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}
