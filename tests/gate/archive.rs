//! Old segments of the record in a container: uploaded, read back, recorded, and only then gone from
//! the disk; every proof still fits.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use amlgate::{
    sandbox::{Fault, azure::names, home::Sandbox},
    server::Server,
    time::{Clock as _, ManualClock, SystemClock},
};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::world::{Changes, VERSION, World, job, started_again, workspace};

const AUDIT: &str = "reads: required}";

fn archived() -> String {
    let container =
        format!("https://{}.blob.core.windows.net/{}", names::ACCOUNT, names::IMMUTABLE_CONTAINER);
    format!(
        r#"reads: required, archive: {{container: "{container}", credential: gate, after: 1h, address: "{{azure}}", trust: {{ca: certs/ca.pem}}}}}}"#
    )
}

/// A gate with some runs behind it, of which each left a segment.
struct Old {
    sandbox: Sandbox,
    server: Server,
    dir: tempfile::TempDir,
    clock: ManualClock,
}

async fn started(sandbox: &Sandbox, clock: &ManualClock) -> Server {
    started_again(sandbox, Arc::new(clock.clone())).await
}

impl Old {
    async fn gate() -> Self {
        let clock = ManualClock::starting_at(SystemClock.now());
        let audit = archived();
        let changes = Changes { configuration: &[(AUDIT, &audit)], ..Changes::default() };
        let world = World::at(changes, Arc::new(clock.clone())).await;
        let submitted = world.caller("sam").put(&workspace(&format!("/jobs/old?{VERSION}")), &job()).await;
        assert_eq!(submitted.status, StatusCode::CREATED);
        let World { sandbox, mut server, dir, .. } = world;
        for _ in 0..2 {
            assert!(server.stop().await);
            server = started(&sandbox, &clock).await;
        }
        Self { sandbox, server, dir, clock }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("var/audit")
    }

    /// Lets time pass until something is so; the gate looks by its own clock, and what it does is seen
    /// at Azure or on the disk a little later.
    async fn pass_until(&self, what: &str, so: impl Fn() -> bool) {
        let observer = self.sandbox.azure.observer();
        // What was written an hour ago is old.
        self.clock.advance(Duration::from_secs(3_700));
        for _ in 0..1_000 {
            if so() {
                return;
            }
            let before = observer.seen().len();
            self.clock.advance(Duration::from_secs(11));
            let something = observer.wait_for(|seen| seen.len() > before);
            drop(tokio::time::timeout(Duration::from_millis(50), something).await);
        }
        panic!("{what}");
    }

    fn segments(&self) -> Vec<String> {
        let log = amlgate::audit::storage::Directory::at(self.log());
        amlgate::audit::segment_names(&log).unwrap()
    }

    fn blobs(&self) -> Vec<(String, bytes::Bytes)> {
        let all = self.sandbox.azure.blobs(&format!("{}/", names::IMMUTABLE_CONTAINER));
        all.into_iter().filter(|(name, _)| name.ends_with(".log.gz")).collect()
    }
}

/// A blob's name without its container.
fn below(name: &str) -> &str {
    name.split_once('/').unwrap().1
}

fn amlgate(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_amlgate")).args(arguments).args(paths).output().unwrap()
}

fn verified(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_segments_are_in_the_container_before_they_are_gone_and_every_proof_still_fits() {
    let old = Old::gate().await;
    let log = old.log();
    let before = old.segments();
    assert_eq!(before.len(), 3);
    let elsewhere = tempfile::tempdir().unwrap();
    let (head, proof) = (elsewhere.path().join("head"), elsewhere.path().join("proof"));
    fs::copy(log.join("checkpoint"), &head).unwrap();
    fs::write(&proof, amlgate(&["audit", "prove"], &[&log, Path::new("1")]).stdout).unwrap();
    let whole: Vec<_> = {
        let mut reader =
            amlgate::audit::read::Reader::new(amlgate::audit::storage::Directory::at(log.clone()));
        std::iter::from_fn(|| reader.record().unwrap()).map(|record| record.line).collect()
    };

    // The upload breaks off behind its block: it is gone on with, and the block is not sent again.
    let observer = old.sandbox.azure.observer();
    observer.trap("comp=blocklist", Some(Method::PUT), Fault::Reset);
    old.pass_until("both old segments are gone", || old.segments().len() == 1).await;
    let blobs = old.blobs();
    assert_eq!(blobs.len(), 2);
    let first = format!("{}?", blobs[0].0);
    let blocks = |kind: &str| {
        let seen = observer.seen();
        let puts = seen.iter().filter(|s| s.method == Method::PUT && s.target.contains(&first));
        puts.filter(|s| s.target.contains(kind)).count()
    };
    assert_eq!((blocks("comp=block&"), blocks("comp=blocklist")), (1, 2), "{:?}", observer.seen());

    let records = {
        let mut reader =
            amlgate::audit::read::Reader::new(amlgate::audit::storage::Directory::at(log.clone()));
        std::iter::from_fn(|| reader.record().unwrap()).collect::<Vec<_>>()
    };
    let said: Vec<Value> = records
        .iter()
        .map(|record| serde_json::from_slice::<Value>(&record.line).unwrap()["unmapped"]["amlgate"].clone())
        .filter(|own| own["event"] == "records_archived")
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0]["url"].as_str().unwrap().ends_with(below(&blobs[0].0)), "{said:?}");
    let gone = records[0].position;
    assert_eq!(said[1]["before"], gone);

    // What is on the disk says plainly what is not there.
    let json = ["audit", "verify", "--output", "json"];
    let found = verified(&amlgate(&json, &[&log]));
    assert_eq!((&found["archived"], &found["retired"]), (&gone.into(), &0.into()), "{found}");
    assert!(found["tiles"].as_u64().unwrap() > 0);
    let told = amlgate(&["audit", "verify"], &[&log]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("are archived, as the record says"), "{told:?}");
    let told = amlgate(&["audit", "prove"], &[&log, Path::new("1")]);
    let why = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.status.code() == Some(1)
            && why.contains("archived: fetch `https://")
            && why.contains("--archive"),
        "{why}"
    );

    // With what was fetched, it is whole from its beginning.
    let fetched = elsewhere.path().join("fetched");
    for (name, bytes) in &blobs {
        let path = fetched.join(below(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let with = ["--archive", fetched.to_str().unwrap()];
    let found = verified(&amlgate(&[&json[..], &with].concat(), &[&log]));
    assert_eq!((&found["archived"], &found["retired"]), (&0.into(), &0.into()));
    let proven = amlgate(&[&["audit", "prove"][..], &with].concat(), &[&log, Path::new("1")]);
    assert_eq!(proven.status.code(), Some(0), "{}", String::from_utf8_lossy(&proven.stderr));
    let proof_of_it =
        amlgate::audit::proved::Inclusion::parse_all(std::str::from_utf8(&proven.stdout).unwrap());
    assert_eq!(proof_of_it.unwrap()[0].leaf, whole[1]);
    let key = log.join("audit.pub");
    fs::write(elsewhere.path().join("new"), &proven.stdout).unwrap();
    for proof in [&proof, &elsewhere.path().join("new")] {
        let checked = amlgate(&["audit", "verify", "--key"], &[&key, Path::new("--proof"), proof]);
        assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    let grown = amlgate(&["audit", "prove", "--since"], &[&head, &log]);
    assert_eq!(grown.status.code(), Some(0), "{}", String::from_utf8_lossy(&grown.stderr));

    // A segment that was changed in the archive is found.
    let changed = fetched.join(below(&blobs[0].0));
    fs::copy(fetched.join(below(&blobs[1].0)), changed).unwrap();
    assert_eq!(amlgate(&[&json[..], &with].concat(), &[&log]).status.code(), Some(1));
    assert!(old.server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_stays_while_the_container_holds_another_of_its_name() {
    let old = Old::gate().await;
    old.pass_until("both old segments are gone", || old.segments().len() == 1).await;
    let before = old.blobs();
    // The gate begins its record anew, and its segments have the names of those that are archived.
    let Old { sandbox, server, dir, clock } = old;
    assert!(server.stop().await);
    fs::remove_dir_all(dir.path().join("var/audit")).unwrap();
    let mut server = started(&sandbox, &clock).await;
    for _ in 0..2 {
        assert!(server.stop().await);
        server = started(&sandbox, &clock).await;
    }
    let old = Old { sandbox, server, dir, clock };
    let observer = old.sandbox.azure.observer();
    let reads = |old: &Old| {
        let seen = observer.seen();
        let gets = seen.iter().filter(|s| s.method == Method::GET && s.target.contains(".log.gz"));
        (gets.count(), old.segments().len())
    };
    let (already, _) = reads(&old);
    old.pass_until("it was looked for three times", || reads(&old).0 >= already + 3).await;
    assert_eq!(old.segments().len(), 3, "nothing is removed");
    assert_eq!(old.blobs(), before, "nothing is overwritten");
    assert!(old.server.stop().await);
}
