//! The record's heads, elsewhere: in a container where blobs cannot be changed, and in a repository.

use std::{fs, path::Path, process::Command};

use amlgate::sandbox::azure::names;
use http::StatusCode;
use serde_json::Value;

use crate::world::{Changes, VERSION, World, job, started_again, workspace};

const AUDIT: &str = "reads: required}";

fn places(remote: &Path) -> String {
    let container =
        format!("https://{}.blob.core.windows.net/{}/heads", names::ACCOUNT, names::IMMUTABLE_CONTAINER);
    format!(
        r#"reads: required, witnesses: [
  {{name: blobs, container: "{container}", credential: gate, every: 10s, address: "{{azure}}", trust: {{ca: certs/ca.pem}}}},
  {{name: repository, every: 10s, git: {{remote: "{}"}}}}]}}"#,
        remote.display()
    )
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    let done = command.args(arguments).current_dir(folder).env_remove("GIT_DIR").output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn amlgate(arguments: &[&str], more: &[&Path]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_amlgate")).args(arguments).args(more).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_head_of_a_gate_is_in_the_container_and_in_the_repository_and_the_record_fits_them() {
    let elsewhere = tempfile::tempdir().unwrap();
    let remote = elsewhere.path().join("heads.git");
    fs::create_dir(&remote).unwrap();
    git(&remote, &["init", "--quiet", "--bare", "."]);
    let audit = places(&remote);
    let world = World::changed(Changes { configuration: &[(AUDIT, &audit)], ..Changes::default() }).await;
    let found = amlgate(&["doctor", "--output", "json", "--config"], &[&world.sandbox.configuration()]);
    let found: Vec<Value> = serde_json::from_slice(&found.stdout).unwrap();
    for (witness, seen) in [("blobs", "is immutable"), ("repository", "the repository answers")] {
        let finding = found.iter().find(|f| f["part"] == format!("witness {witness}")).unwrap();
        assert_eq!(finding["state"], "fine", "{finding}");
        assert!(finding["seen"].as_str().unwrap().contains(seen), "{finding}");
    }
    let submitted = world.caller("sam").put(&workspace(&format!("/jobs/shown?{VERSION}")), &job()).await;
    assert_eq!(submitted.status, StatusCode::CREATED);
    let World { sandbox, server, dir, .. } = world;
    assert!(server.stop().await);

    let log = dir.path().join("var/audit");
    let checkpoint = fs::read_to_string(log.join("checkpoint")).unwrap();
    let size: u64 = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    let origin = checkpoint.lines().next().unwrap();
    let name = format!("heads/{origin}/{size:020}.checkpoint");
    let blob = sandbox.azure.blob(&format!("{}/{name}", names::IMMUTABLE_CONTAINER)).unwrap();
    assert_eq!(blob, checkpoint.as_bytes());
    assert_eq!(git(&remote, &["show", &format!("heads:{origin}/checkpoint")]), checkpoint);

    // An auditor has a clone and what was fetched from the container.
    let (clone, fetched) = (elsewhere.path().join("clone"), elsewhere.path().join("fetched"));
    git(elsewhere.path(), &["clone", "--quiet", "--branch", "heads", remote.to_str().unwrap(), "clone"]);
    fs::create_dir(&fetched).unwrap();
    fs::write(fetched.join("newest.checkpoint"), &blob).unwrap();
    let verify = ["audit", "verify", "--output", "json", "--kept", clone.to_str().unwrap(), "--kept"];
    let whole = amlgate(&verify, &[&fetched, &log]);
    assert_eq!(whole.status.code(), Some(0), "{}", String::from_utf8_lossy(&whole.stderr));
    let whole: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!(whole[0]["kept"].as_array().unwrap().len(), 2, "{whole}");

    // A record whose end was cut off, with the heads beside it, no longer reaches what was kept.
    let cut = elsewhere.path().join("cut");
    fs::create_dir(&cut).unwrap();
    fs::copy(log.join("audit.pub"), cut.join("audit.pub")).unwrap();
    let segment = fs::read_to_string(log.join("00000000000000000000.log")).unwrap();
    let kept: Vec<_> = segment.lines().take(3).collect();
    fs::write(cut.join("00000000000000000000.log"), kept.join("\n") + "\n").unwrap();
    let found = amlgate(&verify, &[&fetched, &cut]);
    assert_eq!(found.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&found.stderr).contains("the end was cut off"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_container_is_never_overwritten() {
    let elsewhere = tempfile::tempdir().unwrap();
    let remote = elsewhere.path().join("heads.git");
    fs::create_dir(&remote).unwrap();
    git(&remote, &["init", "--quiet", "--bare", "."]);
    let audit = places(&remote);
    let world = World::changed(Changes { configuration: &[(AUDIT, &audit)], ..Changes::default() }).await;
    let World { sandbox, server, dir, .. } = world;
    assert!(server.stop().await);
    let before = sandbox.azure.blobs(&format!("{}/heads/", names::IMMUTABLE_CONTAINER));
    let [(name, head)] = &before[..] else { panic!("{before:?}") };
    // The same gate begins its record anew: the head of that size is there, and is another's.
    fs::remove_dir_all(dir.path().join("var/audit")).unwrap();
    let server = started_again(&sandbox, std::sync::Arc::new(amlgate::time::SystemClock)).await;
    assert!(server.stop().await);
    assert_eq!(sandbox.azure.blob(name).as_ref(), Some(head));
    let history = git(&remote, &["log", "--format=%s", "heads"]);
    assert_eq!(history.lines().count(), 1, "no head of the other record was taken: {history}");
}
