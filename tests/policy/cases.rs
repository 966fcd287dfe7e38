//! The cases beside the shipped policies, through the code behind `amlgate policy test`.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use amlgate::policy::{PolicySet, Surroundings, cases, described::Door};

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
        let outcomes =
            cases::run(&set, &file, &std::fs::read_to_string(&path).unwrap(), &Door::of_azure).unwrap();
        assert!(!outcomes.is_empty(), "{file}");
        for outcome in outcomes {
            assert!(outcome.failure.is_none(), "{}", outcome.failure.unwrap());
        }
    }
}

#[test]
fn every_entry_of_the_shipped_policies_counts_in_some_case() {
    let (code, out, err) =
        amlgate(&["policy", "test", "--coverage", "--policies", shipped().to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(!out.contains("counts in no case"), "{out}");
    assert!(out.ends_with("cases hold\n"), "{out}");
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

const RECORDED: &str = r#"{"amlgate_segment":1,"first":0,"origin":"amlgate-0","range":[]}
{"actor":{"app_uid":"app","idp":{"name":"corp"},"session":{"expiration_time":1795438800000},"user":{"groups":[{"uid":"g"}],"type_id":1,"uid":"corp:ann"}},"api":{"operation":"Microsoft.MachineLearningServices/workspaces/jobs/write","service":{"name":"arm"}},"http_request":{"http_method":"PUT","url":{"hostname":"gate","path":"/x"}},"resources":[{"name":"a","uid":"/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/a"}],"src_endpoint":{"ip":"10.1.2.3","port":1},"time":1795435200000,"unmapped":{"amlgate":{"decision":"018f0000-0000-7000-8000-000000000001","kind":"write","operation":"Jobs_CreateOrUpdate","phase":"intent","protocol":"arm"}}}
{"actor":{"idp":{"name":"corp"},"user":{"type_id":4,"uid":"corp:ci"}},"api":{"operation":"Microsoft.MachineLearningServices/workspaces/read","service":{"name":"arm"}},"duration":5,"http_request":{"http_method":"GET","url":{"hostname":"gate","path":"/x"}},"resources":[{"name":"a","uid":"/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/a"}],"src_endpoint":{"ip":"10.1.2.3","port":1},"time":1795435200000,"unmapped":{"amlgate":{"decision":"018f0000-0000-7000-8000-000000000002","kind":"read","operation":"Workspaces_Get","phase":"denial","protocol":"arm","denial":{"code":"AuthorizationFailed"}}}}
{"actor":{"idp":{"name":"corp"},"user":{"type_id":1,"uid":"corp:ann"}},"time":1795435200001,"unmapped":{"amlgate":{"decision":"018f0000-0000-7000-8000-000000000003","phase":"denial","denial":{"code":"UnknownOperation"}}}}
"#;

#[test]
fn replay_names_each_decision_that_other_policies_would_change_and_guesses_none() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let policies = dir.path().join("policies");
    std::fs::create_dir_all(&log).unwrap();
    std::fs::create_dir_all(&policies).unwrap();
    std::fs::write(log.join("00000000000000000000.log"), RECORDED).unwrap();
    let replay = |text: &str| {
        std::fs::write(policies.join("p.yaml"), text).unwrap();
        let arguments = ["policy", "replay", "--output", "json", "--policies", policies.to_str().unwrap()];
        let (code, out, err) = amlgate(&[&arguments[..], &[log.to_str().unwrap()]].concat());
        (code, serde_json::from_str::<serde_json::Value>(&out).unwrap_or_else(|_| panic!("{out}{err}")))
    };
    let same = "version: 1\nsubjects: {team: [{issuer: corp, group: g}]}\nallow: [{name: team works, who: [team], kinds: [write]}]\n";
    let (code, report) = replay(same);
    assert_eq!((code, &report["unchanged"], &report["unnamed"]), (Some(0), &2.into(), &1.into()), "{report}");
    let narrower = format!("{same}deny: [{{name: frozen, kinds: [write]}}]\n");
    let (code, report) = replay(&narrower);
    assert_eq!((code, report["changes"].as_array().unwrap().len()), (Some(1), 1), "{report}");
    let change = &report["changes"][0];
    assert_eq!(change["decision"], "018f0000-0000-7000-8000-000000000001");
    assert_eq!(
        (&change["was"], &change["would"]["be"]),
        (&"allow".into(), &"RequestDisallowedByPolicy".into())
    );
    assert!(change["would"]["by"][0].as_str().unwrap().starts_with("`frozen` ("), "{change}");
    let by_claim =
        same.replace("kinds: [write]}]", "kinds: [write]}, {name: ci reads, who: [ci], kinds: [read]}]");
    let by_claim = by_claim.replace("{team:", "{ci: [{issuer: corp, claims: {ref: main}}], team:");
    let (code, report) = replay(&by_claim);
    assert_eq!(code, Some(1), "{report}");
    let undecidable = &report["changes"][0];
    assert_eq!(undecidable["decision"], "018f0000-0000-7000-8000-000000000002", "{report}");
    assert!(undecidable["undecidable"][0].as_str().unwrap().contains("entry `ci reads`"), "{undecidable}");
}

#[test]
fn why_explains_a_decision_of_the_record() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("00000000000000000000.log"), RECORDED).unwrap();
    let why = |decision: &str| {
        let log = dir.path().to_str().unwrap();
        let policies = shipped().to_str().unwrap();
        amlgate(&["policy", "why", "--policies", policies, "--log", log, "--decision", decision])
    };
    let (code, out, err) = why("018f0000-0000-7000-8000-000000000001");
    assert_eq!(code, Some(1), "{err}");
    assert!(out.starts_with("Jobs_CreateOrUpdate: "), "{out}");
    assert!(out.contains("denied, AuthorizationFailed"), "{out}");
    let (code, _, err) = why("018f0000-0000-7000-8000-000000000009");
    assert_eq!(code, Some(1));
    assert!(err.contains("holds no decision"), "{err}");
    let (code, _, err) = amlgate(&["policy", "why", "--policies", shipped().to_str().unwrap()]);
    assert_eq!(code, Some(2), "{err}");
}

#[test]
fn all_cases_of_the_files_that_are_given_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("other.test.yaml");
    let case = |name: &str, url: &str| {
        format!(
            "  - {{name: {name}, as: {{issuer: corp}}, request: {{method: GET, url: '{url}'}}, expect: {{decision: allow}}}}\n"
        )
    };
    let cases = [case("a", "http://x"), case("b", "https://management.azure.com/subscriptions/s")].concat();
    std::fs::write(&file, format!("version: 1\ncases:\n{cases}")).unwrap();
    let policies = shipped().to_str().unwrap();
    let (code, out, err) = amlgate(&["policy", "test", "--policies", policies, file.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(out.contains("0 cases hold, 2 do not"), "{out}");
    assert!(err.contains("other.test.yaml:3:") && err.contains("other.test.yaml:4:"), "{err}");
}

/// What was found may not have been told: that is no success, and no crash either.
#[test]
fn a_reader_that_has_seen_enough_ends_the_program_quietly() {
    for arguments in [
        &["version"][..],
        &["completion", "bash"],
        &["policy", "schema"],
        &["policy", "test", "--policies", "policies"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_amlgate"));
        let output = command.args(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && !said.contains("panicked"), "{arguments:?}: {output:?}");
        assert_ne!(output.status.code(), Some(101), "{arguments:?}");
    }
}
