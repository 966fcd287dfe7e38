//! The cases beside the shipped policies, through the code behind `amlgate policy test`.

use std::{path::Path, process::Command, sync::Arc};

use amlgate::policy::{PolicySet, Surroundings, cases};

fn shipped() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policies"))
}

#[test]
fn the_cases_of_the_shipped_policies_hold() {
    let (set, _) = PolicySet::load(shipped(), &Surroundings::default()).unwrap();
    let files = cases::files(shipped()).unwrap();
    assert!(files.len() >= 2, "{files:?}");
    for path in files {
        let file: Arc<str> = path.display().to_string().into();
        let outcomes = cases::run(&set, &file, &std::fs::read_to_string(&path).unwrap(), &|_| None).unwrap();
        assert!(!outcomes.is_empty(), "{file}");
        for outcome in outcomes {
            assert!(outcome.failure.is_none(), "{}", outcome.failure.unwrap());
        }
    }
}

fn amlgate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_amlgate")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_case_that_does_not_hold_is_named_by_its_place_and_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "p.yaml",
        "version: 1\nsubjects: {team: [{issuer: corp, group: g}]}\nallow: [{name: team reads, who: [team], role: Reader}]\n",
    );
    write(
        "p.test.yaml",
        "version: 1\ncases:\n  - name: strangers read\n    as: {issuer: corp}\n    request: {method: GET, url: 'https://management.azure.com/subscriptions/s'}\n    expect: {decision: allow}\n",
    );
    let policies = dir.path().to_str().unwrap();
    let (code, out, err) = amlgate(&["policy", "test", "--policies", policies]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("p.test.yaml:6:24: case `strangers read`: `allow` is expected"), "{err}");
}

#[test]
fn why_names_the_changes_that_turn_a_denial() {
    let dir = tempfile::tempdir().unwrap();
    let caller = dir.path().join("ann.json");
    std::fs::write(&caller, r#"{"issuer":"corp","groups":["6f9619ff-8b86-d011-b42d-00cf4fc964ff"]}"#)
        .unwrap();
    let url = "https://management.azure.com/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/vision?api-version=2025-12-01";
    let policies = shipped().to_str().unwrap();
    let (code, out, err) = amlgate(&[
        "policy",
        "why",
        "--policies",
        policies,
        "--as",
        caller.to_str().unwrap(),
        "--output",
        "json",
        "DELETE",
        url,
    ]);
    assert_eq!(code, Some(1), "{err}");
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["decision"], "deny");
    let flips = said["flips"].to_string();
    assert!(flips.contains("leave a selector of `the workspace is not deleted through the gate`"), "{flips}");
    assert!(flips.contains("grant `Microsoft.MachineLearningServices/workspaces/delete`"), "{flips}");
}

#[test]
fn the_schema_is_json_and_show_names_every_entry() {
    let (code, out, _) = amlgate(&["policy", "schema"]);
    assert_eq!(code, Some(0));
    assert!(serde_json::from_str::<serde_json::Value>(&out).unwrap()["properties"]["allow"].is_object());
    let (code, out, _) =
        amlgate(&["policy", "show", "--expanded", "--policies", shipped().to_str().unwrap()]);
    assert_eq!(code, Some(0));
    let (set, _) = PolicySet::load(shipped(), &Surroundings::default()).unwrap();
    for (_, entry) in set.entries() {
        assert!(out.contains(&*entry.name), "{}", entry.name);
    }
}
