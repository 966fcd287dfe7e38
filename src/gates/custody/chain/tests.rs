use serde_json::json;

use super::*;
use crate::gates::custody::submit::Known;

const WORKSPACE: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w";
const DECISION_ID: &str = "0197b6b0-0000-7000-8000-000000000001";
/// 2026-11-30T10:00:00Z.
const SENT_AT: u64 = 1_796_032_800;

fn id() -> ResourceId {
    ResourceId::parse(&format!("{WORKSPACE}/jobs/train-1")).unwrap()
}

fn tied() -> Tie {
    Tie { commit: "c0ffee".repeat(7)[..40].to_owned(), known: Known::Token, repository: None }
}

fn submission() -> Submission {
    Submission {
        decision: DECISION_ID.to_owned(),
        made: Timestamp::from_secs(SENT_AT),
        sent: Sent {
            from: Ok(tied()),
            principal: "github:ci".to_owned(),
            code: Some("azureml:code:1".to_owned()),
            environment: Some(format!("azureml:{WORKSPACE}/environments/sklearn/versions/1")),
            placed: vec!["elsewhere".to_owned()],
            body: "00".repeat(32),
        },
    }
}

fn job() -> Value {
    json!({
        "systemData": {"createdAt": "2026-11-30T10:00:01.5Z"},
        "properties": {
            "status": "Completed",
            "codeId": format!("{WORKSPACE}/codes/code/versions/1"),
            "environmentId": format!("{}/environments/sklearn/versions/1", WORKSPACE.to_uppercase()),
            "outputs": {"Model": {"jobOutputType": "mlflow_model"}, "elsewhere": {}},
            "properties": {"amlgate.decision": DECISION_ID, "azureml.git.dirty": "False"},
        },
    })
}

/// The chain of a job that differs at one place.
fn with(pointer: &str, value: Value) -> Result<Tie, Break> {
    let mut job = job();
    *job.pointer_mut(pointer).unwrap() = value;
    chain(&id(), &job, Some(&submission()), None)
}

fn kept(change: impl FnOnce(&mut Submission)) -> Result<Tie, Break> {
    let mut kept = submission();
    change(&mut kept);
    chain(&id(), &job(), Some(&kept), None)
}

#[test]
fn a_job_that_is_what_was_sent_has_the_commit_of_its_submission() {
    assert_eq!(chain(&id(), &job(), Some(&submission()), None), Ok(tied()));
    let output: Arc<str> = "model".into();
    assert_eq!(chain(&id(), &job(), Some(&submission()), Some(&output)), Ok(tied()));
}

#[test]
fn a_job_that_the_gate_did_not_send_has_none() {
    assert_eq!(chain(&id(), &job(), None, None), Err(Break::Unknown));
    assert_eq!(with("/properties/properties/amlgate.decision", json!("another")), Err(Break::Unknown));
    assert_eq!(with("/properties/properties", json!({})), Err(Break::Unknown));
    assert_eq!(with("/properties/properties", Value::Null), Err(Break::Unknown));
    assert_eq!(kept(|kept| kept.decision = "another".to_owned()), Err(Break::Unknown));
}

#[test]
fn a_job_that_has_not_completed_has_made_nothing() {
    for status in ["Running", "Failed", "Canceled", "NotResponding", ""] {
        assert_eq!(with("/properties/status", json!(status)), Err(Break::NotCompleted(status.to_owned())));
    }
    assert!(matches!(with("/properties/status", Value::Null), Err(Break::NotCompleted(_))));
}

#[test]
fn other_code_or_another_environment_is_another_job() {
    for (pointer, value) in [
        ("/properties/codeId", json!(format!("{WORKSPACE}/codes/code/versions/2"))),
        ("/properties/codeId", Value::Null),
        ("/properties/environmentId", json!(format!("{WORKSPACE}/environments/other/versions/1"))),
        ("/properties/environmentId", Value::Null),
    ] {
        assert!(matches!(with(pointer, value), Err(Break::Changed(_))), "{pointer}");
    }
    assert!(matches!(kept(|kept| kept.sent.code = None), Err(Break::Changed(_))), "it came without code");
    assert_eq!(kept(|kept| kept.sent.environment = None), Ok(tied()), "Azure chose");
}

#[test]
fn a_job_of_another_time_is_another_of_the_same_name() {
    for (created, stands) in [
        ("2026-11-30T09:59:00Z", true),
        ("2026-11-30T09:58:59Z", false),
        ("2026-11-30T10:10:00+00:00", true),
        ("2026-11-30T10:10:01Z", false),
        ("2026-11-30T11:00:30+01:00", true),
        ("yesterday", false),
    ] {
        let found = with("/systemData/createdAt", json!(created));
        assert_eq!(found.is_ok(), stands, "{created}: {found:?}");
    }
    assert!(matches!(with("/systemData", Value::Null), Err(Break::Changed(_))));
}

#[test]
fn what_is_none_of_its_outputs_it_did_not_make() {
    for output in ["other", "elsewhere", "ELSEWHERE"] {
        let found = chain(&id(), &job(), Some(&submission()), Some(&output.into()));
        assert!(matches!(found, Err(Break::NotItsOutput(_))), "{output}: {found:?}");
    }
}

#[test]
fn a_dirty_tree_is_no_commit_whoever_says_so_and_when() {
    assert_eq!(with("/properties/properties/azureml.git.dirty", json!("True")), Err(Break::Dirty));
    assert!(matches!(with("/properties/properties/azureml.git.dirty", json!("?")), Err(Break::Changed(_))));
    let untied = kept(|kept| kept.sent.from = Err("it was submitted from a tree with changes".to_owned()));
    assert!(matches!(&untied, Err(Break::Untied(why)) if why.contains("a tree with changes")), "{untied:?}");
}

#[test]
fn what_a_job_says_is_kept_as_it_was_sent_and_read_again() {
    let job = json!({
        "codeId": "azureml:code:1",
        "EnvironmentId": "azureml:sklearn:1",
        "outputs": {"a": {"uri": "azureml://datastores/x/paths/y"}, "b": {"uri": null}, "c": {}},
    });
    for from in [Ok(tied()), Err("dirty".to_owned())] {
        let sent = Sent::of(&job, from, "github:ci".to_owned(), "ff".to_owned());
        assert_eq!((sent.code.as_deref(), &*sent.placed), (Some("azureml:code:1"), &["a".to_owned()][..]));
        assert_eq!(sent.environment.as_deref(), Some("azureml:sklearn:1"));
        let text = serde_json::to_string(&sent).unwrap();
        assert_eq!(serde_json::from_str::<Sent>(&text).unwrap(), sent);
    }
}

#[test]
fn what_registers_itself_from_elsewhere_is_found_in_children_too() {
    let elsewhere = json!({"outputs": {"m": {"assetName": "m", "uri": "azureml://datastores/x/paths/y"}}});
    assert_eq!(registers_elsewhere(&elsewhere), Some("m"));
    assert_eq!(registers_elsewhere(&json!({"jobs": {"a": {"jobs": {"b": elsewhere}}}})), Some("m"));
    for own in [json!({"assetName": "m"}), json!({"uri": "x"}), json!({"assetName": "m", "uri": null})] {
        assert_eq!(registers_elsewhere(&json!({"outputs": {"m": own}})), None);
    }
}
