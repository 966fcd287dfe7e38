use std::sync::Arc;

use super::*;
use crate::{
    identity::{Groups, PrincipalId},
    time::Timestamp,
};

const COMMIT: &str = "b2b5f7c8fb8f96312d629d4d4f379f34f5b9b651";
const OTHER: &str = "6cf21d63b85d71ee66c3f0d1c9a0d8d2c0ffee00";

fn caller(kind: PrincipalKind, claims: &Value) -> Caller {
    Caller {
        id: PrincipalId { issuer: "github".into(), subject: "repo:contoso/vision".into() },
        kind,
        tenant: None,
        client: None,
        display: None,
        groups: Groups::Known(Arc::new([])),
        roles: Arc::new([]),
        claims: Arc::new(claims.as_object().unwrap().clone()),
        expires: Timestamp::from_secs(2_000_000_000),
        from_pull_request: false,
        subjects_at_issue: None,
        reviewers: None,
        human: None,
        token_digest: [0; 32],
    }
}

fn ci() -> Caller {
    caller(PrincipalKind::Machine, &json!({"sha": COMMIT, "repository_id": "42"}))
}

fn person() -> Caller {
    caller(PrincipalKind::Person, &json!({}))
}

fn job(written: Value) -> Value {
    json!({"jobType": "Command", "properties": written})
}

fn why(caller: &Caller, written: Value) -> String {
    tie(caller, &job(written)).unwrap_err()
}

#[test]
fn the_token_of_a_ci_job_says_its_commit() {
    let github = tie(&ci(), &job(json!({}))).unwrap();
    assert_eq!((&*github.commit, github.known), (COMMIT, Known::Token));
    assert_eq!(github.repository, Some(("repository_id".into(), "42".into())));
    let gitlab = caller(PrincipalKind::Machine, &json!({"sha": COMMIT.to_uppercase(), "project_id": 7}));
    let gitlab = tie(&gitlab, &job(Value::Null)).unwrap();
    assert_eq!((&*gitlab.commit, gitlab.repository), (COMMIT, Some(("project_id".into(), "7".into()))));
    let both = json!({"mlflow.source.git.commit": COMMIT, "azureml.git.dirty": "False"});
    assert_eq!(tie(&ci(), &job(both)).unwrap().known, Known::Token);
}

#[test]
fn a_claim_against_the_token_is_a_lie() {
    let said = why(&ci(), json!({"mlflow.source.git.commit": OTHER}));
    assert!(said.contains(OTHER) && said.contains(COMMIT), "{said}");
}

#[test]
fn whoever_is_no_ci_job_only_claims_a_commit() {
    let clean = json!({"mlflow.source.git.commit": COMMIT, "azureml.git.dirty": "False"});
    let claimed = tie(&person(), &job(clean.clone())).unwrap();
    assert_eq!((&*claimed.commit, claimed.known, claimed.repository), (COMMIT, Known::Claimed, None));
    let named = caller(PrincipalKind::Person, &json!({"sha": OTHER, "repository_id": "42"}));
    assert_eq!(tie(&named, &job(clean.clone())).unwrap().commit, COMMIT, "a person's claims are a person's");
    let without = caller(PrincipalKind::Machine, &json!({"sha": OTHER}));
    assert_eq!(tie(&without, &job(clean)).unwrap().known, Known::Claimed, "it is of no repository");
}

#[test]
fn changes_that_are_in_no_commit_are_from_no_commit() {
    for dirty in [json!("True"), json!("true"), json!(true)] {
        let written = json!({"mlflow.source.git.commit": COMMIT, "azureml.git.dirty": dirty});
        for caller in [ci(), person()] {
            assert!(why(&caller, written.clone()).contains("changes that are in no commit"), "{dirty}");
        }
    }
    let two = json!({"mlflow.source.git.commit": COMMIT, "azureml.git.dirty": "False", "mlflow.source.git.dirty": "True"});
    assert!(why(&ci(), two).contains("changes"));
    assert!(why(&ci(), json!({"Azureml.Git.Dirty": "perhaps"})).contains("neither"));
    let unsaid = why(&person(), json!({"azureml.git.commit": COMMIT}));
    assert!(unsaid.contains("azureml.git.dirty"), "{unsaid}");
}

#[test]
fn half_a_commit_is_none() {
    for half in ["b2b5f7c", "main", "", &format!("{COMMIT}0"), &"g".repeat(40)] {
        let written = json!({"mlflow.source.git.commit": half, "azureml.git.dirty": "False"});
        assert!(why(&person(), written).contains("no whole commit"), "{half}");
        let caller = caller(PrincipalKind::Machine, &json!({"sha": half, "repository_id": "42"}));
        assert!(why(&caller, json!({})).contains("no whole commit"), "{half}");
    }
    assert!(why(&person(), json!({"azureml.git.commit": 7})).contains("no whole commit"));
    let two = json!({"mlflow.source.git.commit": COMMIT, "azureml.git.commit": OTHER, "azureml.git.dirty": "False"});
    assert!(why(&person(), two).contains("two commits"));
    assert!(why(&person(), json!({})).contains("neither"));
    let sha256 = json!({"azureml.git.commit": "AB".repeat(32), "azureml.git.dirty": "False"});
    assert_eq!(tie(&person(), &job(sha256)).unwrap().commit, "ab".repeat(32));
}

#[test]
fn what_a_pull_request_started_has_no_commit() {
    let caller = Caller { from_pull_request: true, ..ci() };
    assert!(why(&caller, json!({})).contains("pull request"));
}

fn sent(body: &Value, stamp: Stamp<'_>) -> Value {
    let body = Inspected::parse(body.to_string().as_bytes()).unwrap();
    stamped(&body, stamp).unwrap().value().clone()
}

#[test]
fn the_stamp_stands_beside_what_the_client_wrote_and_nobody_else_writes_it() {
    let tie = tie(&ci(), &job(json!({}))).unwrap();
    let stamp = Stamp { decision: Some("d1"), tie: Some(&tie) };
    let forged = json!({"properties": {"Properties": {
        "mlflow.source.git.commit": COMMIT, "AMLGATE.Decision": "forged", "amlgate.approved": "yes", "amlgates": "mine",
    }}});
    assert_eq!(
        sent(&forged, stamp),
        json!({"properties": {"Properties": {
            "mlflow.source.git.commit": COMMIT, "amlgates": "mine",
            "amlgate.decision": "d1", "amlgate.commit": COMMIT, "amlgate.commit_known_by": "token",
        }}})
    );
    let there_already = Stamp { decision: None, tie: None };
    assert_eq!(sent(&forged, there_already)["properties"]["Properties"].as_object().unwrap().len(), 2);
    let untied = Stamp { decision: Some("d1"), tie: None };
    for body in [json!({"properties": {}}), json!({"properties": {"properties": null}})] {
        let expected = json!({"properties": {"properties": {"amlgate.decision": "d1"}}});
        assert_eq!(sent(&body, untied), expected);
    }
}

#[test]
fn a_body_without_a_place_for_the_stamp_is_refused() {
    for body in [json!({"properties": {"properties": "x"}}), json!({"properties": []}), json!([])] {
        let body = Inspected::parse(body.to_string().as_bytes()).unwrap();
        let refused = stamped(&body, Stamp { decision: Some("d1"), tie: None }).unwrap_err();
        assert!(refused.to_string().contains("must be an object"), "{refused}");
    }
}

#[test]
fn a_trigger_started_a_job_by_the_merge_that_the_gate_read_of() {
    let merge = json!({"sha": COMMIT, "gerrit": {"server": "main", "project": "ml/vision"}});
    let trigger = Caller { client: Some("trigger:train".into()), ..caller(PrincipalKind::Agent, &merge) };
    let started = tie(&trigger, &job(json!({}))).unwrap();
    assert_eq!((&*started.commit, started.known), (COMMIT, Known::Trigger));
    assert_eq!(started.repository, Some(("gerrit".into(), "main/ml/vision".into())));
    let other = json!({"mlflow.source.git.commit": OTHER, "azureml.git.dirty": "False"});
    assert!(why(&trigger, other).contains("it was started because"));
    // The same words of anybody else say nothing.
    for (kind, client) in [
        (PrincipalKind::Agent, "train"),
        (PrincipalKind::Person, "trigger:train"),
        (PrincipalKind::AutonomousAgent, "trigger:train"),
    ] {
        let other = Caller { client: Some(client.into()), ..caller(kind, &merge) };
        assert!(tie(&other, &job(json!({}))).is_err(), "{kind:?} {client}");
    }
}
