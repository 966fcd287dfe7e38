//! A gate that shows its record, before another gate's witness and a folder, over real sockets.

use std::{net::SocketAddr, path::Path};

use tokio_util::sync::CancellationToken;

use bytes::Bytes;
use http::{Request, header};

use super::{client::LIMITS, *};
use crate::{
    audit::{
        Journal, JournalSettings, PUBLIC_KEY,
        event::Event,
        note::VerifierKeys,
        witness::{self, vouchers},
    },
    net::{ConnectorSettings, Destination},
    secrets::{Purpose, Seal, SecretString},
    time::{ManualClock, Timestamp},
};

fn pem() -> String {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem()
}

fn clock() -> SharedClock {
    Arc::new(ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)))
}

/// Adds records to the log in a directory.
async fn grow(directory: &Path, pem: &str, count: u64) {
    let settings = JournalSettings::new("gate-a", directory.to_owned(), SecretString::from(pem.to_owned()));
    let root = SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let mac = Seal::new([&root]).unwrap().mac(Purpose::Thumbprint);
    let (journal, _) = Journal::open(&settings, mac, clock()).unwrap();
    for generation in 0..count {
        let files = Arc::default();
        journal.happened(&Event::PoliciesChanged { policies: [1; 32], generation, files }).await.unwrap();
    }
    assert!(journal.close().await);
}

/// Another gate's witness of the logs with these keys.
async fn other(cosigner: Cosigner, logs: VerifierKeys, directory: &Path) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let witness = Witness::new(cosigner, logs, directory.to_owned(), clock()).unwrap();
    let router = crate::admin::witness::router(Arc::new(witness));
    tokio::spawn(crate::admin::serve(listener, None, router, CancellationToken::new()));
    address
}

fn settings(name: &str, place: WitnessPlace) -> WitnessSettings {
    WitnessSettings { name: name.into(), every: Duration::from_secs(10), place }
}

/// The places of a log, as they are when its gate was just started.
fn shown(log: &Path, places: &[WitnessSettings]) -> Witnesses {
    let connector = Connector::new(ConnectorSettings::default()).unwrap();
    let places = places.iter().map(|found| {
        let to = match &found.place {
            WitnessPlace::Folder(folder) => To::Folder(folder.clone()),
            WitnessPlace::Witness { url, prefix, key, .. } => {
                let client = Client::new((url, prefix), key.clone(), None, None, &connector);
                To::Witness(Box::new(client.unwrap()))
            }
            WitnessPlace::Git(git) => {
                let clone = log.join("witnesses").join(format!("{}.git", found.name));
                To::Git(Box::new(Git::new(git, clone, None, &Outgoing::default(), &clock())))
            }
            WitnessPlace::Container(_) => unreachable!("it needs an Azure: `tests/gate/witnesses.rs`"),
        };
        Place::new(found, to)
    });
    Witnesses::new(log.to_owned(), places.collect(), clock())
}

fn cosigned(log: &Path) -> String {
    fs::read_to_string(log.join(COSIGNED)).unwrap()
}

#[tokio::test]
async fn another_gate_vouches_for_a_log_that_only_grew_and_for_no_fork_of_it() {
    let place = tempfile::tempdir().unwrap();
    let (log, folder) = (place.path().join("a"), place.path().join("kept"));
    let key = pem();
    grow(&log, &key, 300).await;
    let logs = VerifierKeys::parse(&fs::read_to_string(log.join(PUBLIC_KEY)).unwrap()).unwrap();
    let cosigner = Cosigner::from_pem("gate-b.example/witness", pem().as_bytes()).unwrap();
    let its = [cosigner.verifier()];
    let address = other(cosigner, logs.clone(), &place.path().join("witnessed")).await;
    let places = [
        settings(
            "gate-b",
            WitnessPlace::Witness {
                url: crate::config::values::base_url(&format!("http://{address}")).unwrap(),
                prefix: "witness".to_owned(),
                key: its[0].clone(),
                trust: None,
                address: None,
            },
        ),
        settings("folder", WitnessPlace::Folder(folder.clone())),
    ];
    let mut witnesses = shown(&log, &places);
    witnesses.show(true).await;
    let first = cosigned(&log);
    assert_eq!(vouchers(&first, &its).len(), 1);
    assert_eq!(logs.open(&first, 0).unwrap().0.size, 301);
    let kept = folder.join(format!("gate-a/{:020}.checkpoint", 301));
    assert_eq!(witness::vouchers(&fs::read_to_string(&kept).unwrap(), &its), []);

    // The log grows; a client that was started anew learns what the witness saw last.
    grow(&log, &key, 300).await;
    shown(&log, &places).show(true).await;
    let second = cosigned(&log);
    assert_eq!(logs.open(&second, 0).unwrap().0.size, 602);
    assert_eq!(vouchers(&second, &its).len(), 1);

    // The same gate with another past: neither place takes it.
    let fork = place.path().join("fork");
    grow(&fork, &key, 700).await;
    let mut forked = shown(&fork, &places);
    forked.show(true).await;
    assert!(forked.places[0].failing && !fork.join(COSIGNED).exists());
    fs::remove_dir_all(&fork).unwrap();
    grow(&fork, &key, 300).await;
    let mut forked = shown(&fork, &places);
    forked.show(true).await;
    assert!(forked.places.iter().all(|place| place.failing), "a head of that size is kept already");
}

#[tokio::test]
async fn the_witness_answers_as_the_protocol_says() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("a");
    grow(&log, &pem(), 3).await;
    let logs = VerifierKeys::parse(&fs::read_to_string(log.join(PUBLIC_KEY)).unwrap()).unwrap();
    let cosigner = Cosigner::from_pem("gate-b.example/witness", pem().as_bytes()).unwrap();
    let address = other(cosigner, logs, &place.path().join("witnessed")).await;
    let connector = Connector::new(ConnectorSettings::default()).unwrap();
    let to = Destination::of(&format!("http://{address}").parse().unwrap()).unwrap();
    let asked = async |request: Request<Bytes>| {
        let answer = connector.send(&to, request, LIMITS).await.unwrap();
        let kind = answer.headers().get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap().to_owned());
        (
            answer.status().as_u16(),
            kind.unwrap_or_default(),
            String::from_utf8_lossy(answer.body()).into_owned(),
        )
    };
    let add = |body: String| Request::post("/witness/add-checkpoint").body(Bytes::from(body)).unwrap();
    let checkpoint = fs::read_to_string(log.join(CHECKPOINT)).unwrap();
    let (status, _, line) = asked(add(format!("old 0\n\n{checkpoint}"))).await;
    assert!(status == 200 && line.starts_with("\u{2014} gate-b.example/witness "), "{line}");
    let (status, kind, size) = asked(add(format!("old 0\n\n{checkpoint}"))).await;
    assert_eq!((status, &*kind, &*size), (409, "text/x.tlog.size", "4\n"));
    assert_eq!(asked(add(format!("old 4\n\n{checkpoint}"))).await.0, 200, "the same again");
    assert_eq!(asked(add(format!("old 5\n\n{checkpoint}"))).await.0, 400);
    assert_eq!(asked(add("nonsense".to_owned())).await.0, 400);
    assert_eq!(asked(add(format!("old 4\n\n{}", checkpoint.replace("gate-a", "gate-x")))).await.0, 404);
    assert_eq!(asked(add(format!("old 4\n\n{}", checkpoint.replacen("\n4\n", "\n5\n", 1)))).await.0, 403);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"gate-a");
    let newest = format!("/witness/{}/checkpoint", note::hex(hash.as_ref()));
    let (status, _, note) = asked(Request::get(newest).body(Bytes::new()).unwrap()).await;
    assert_eq!((status, note), (200, format!("{checkpoint}{line}")));
    let escape = Request::get("/witness/..%2f..%2fa%2faudit.pub/checkpoint").body(Bytes::new()).unwrap();
    assert_eq!(asked(escape).await.0, 404);
}

/// Runs git in a folder; what it printed.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("git");
    command.args(arguments).current_dir(folder).env_remove("GIT_DIR");
    let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    let done = command.envs(who.map(|name| (name, "somebody"))).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn repository(place: &Path) -> (PathBuf, WitnessSettings) {
    let remote = place.join("remote.git");
    fs::create_dir_all(&remote).unwrap();
    git(&remote, &["init", "--quiet", "--bare", "."]);
    let settings = settings(
        "kept",
        WitnessPlace::Git(crate::config::settings::GitSettings {
            remote: remote.to_str().unwrap().to_owned(),
            branch: "heads".to_owned(),
            token: None,
            trust: None,
        }),
    );
    (remote, settings)
}

/// The heads in the history of a repository, oldest first.
fn history(remote: &Path) -> Vec<u64> {
    let commits = git(remote, &["rev-list", "--reverse", "heads", "--", "gate-a/checkpoint"]);
    let of = |commit: &str| note::unverified(&git(remote, &["show", &format!("{commit}:gate-a/checkpoint")]));
    commits.lines().filter_map(of).map(|head| head.size).collect()
}

#[tokio::test]
async fn every_head_that_was_shown_is_in_the_history_of_the_repository() {
    let place = tempfile::tempdir().unwrap();
    let (remote, kept) = repository(place.path());
    let (log, key) = (place.path().join("a"), pem());
    let mut sizes = Vec::new();
    for round in 1..=3 {
        grow(&log, &key, 10).await;
        // Each time another process; a clone that was thrown away is made anew.
        let mut witnesses = shown(&log, std::slice::from_ref(&kept));
        witnesses.show(true).await;
        assert!(!witnesses.places[0].failing);
        sizes.push(11 * round);
        assert_eq!(history(&remote), sizes);
        if round == 2 {
            fs::remove_dir_all(log.join("witnesses")).unwrap();
        }
    }
    let checkpoint = fs::read_to_string(log.join(CHECKPOINT)).unwrap();
    assert_eq!(git(&remote, &["show", "heads:gate-a/checkpoint"]), checkpoint);
    // What is there is not pushed again.
    shown(&log, std::slice::from_ref(&kept)).show(true).await;
    assert_eq!(history(&remote), sizes);
}

#[tokio::test]
async fn a_repository_takes_no_fork_and_no_log_that_was_cut_and_its_own_history_may_not_be_rewritten() {
    let place = tempfile::tempdir().unwrap();
    let (remote, kept) = repository(place.path());
    let (log, fork, key) = (place.path().join("a"), place.path().join("fork"), pem());
    grow(&log, &key, 20).await;
    let mut witnesses = shown(&log, std::slice::from_ref(&kept));
    witnesses.show(true).await;
    // Another past, longer and shorter, from a gate that never showed anything.
    for count in [5, 30] {
        drop(fs::remove_dir_all(&fork));
        grow(&fork, &key, count).await;
        let mut forked = shown(&fork, std::slice::from_ref(&kept));
        forked.show(true).await;
        assert!(forked.places[0].failing, "{count}");
    }
    assert_eq!(history(&remote), [21]);
    // The head that it took disappears from the remote.
    let tree = git(&remote, &["mktree"]);
    let other = git(&remote, &["commit-tree", tree.trim(), "-m", "nothing"]);
    git(&remote, &["update-ref", "refs/heads/heads", other.trim()]);
    grow(&log, &key, 1).await;
    witnesses.show(true).await;
    assert!(witnesses.places[0].failing, "a rewritten history is found");
    assert_eq!(history(&remote), Vec::<u64>::new());
    git(&remote, &["update-ref", "-d", "refs/heads/heads"]);
    witnesses.show(true).await;
    assert!(witnesses.places[0].failing, "a branch that is gone is found");
}

#[tokio::test]
async fn two_gates_push_to_one_branch_and_neither_loses_a_head() {
    let place = tempfile::tempdir().unwrap();
    let (remote, kept) = repository(place.path());
    let logs = [place.path().join("a"), place.path().join("b")];
    let mut gates = Vec::new();
    for log in &logs {
        grow(log, &pem(), 4).await;
        gates.push(shown(log, std::slice::from_ref(&kept)));
    }
    // The second has another name.
    let note = fs::read_to_string(logs[1].join(CHECKPOINT)).unwrap().replacen("gate-a", "gate-b", 1);
    fs::write(logs[1].join(CHECKPOINT), note).unwrap();
    let [first, second] = &mut gates[..] else { unreachable!() };
    tokio::join!(first.show(true), second.show(true));
    assert!(gates.iter().all(|gate| !gate.places[0].failing));
    for name in ["gate-a", "gate-b"] {
        let kept = git(&remote, &["show", &format!("heads:{name}/checkpoint")]);
        assert!(kept.starts_with(name), "{kept}");
    }
    assert_eq!(git(&remote, &["rev-list", "--count", "heads"]).trim(), "2");
}

#[tokio::test]
async fn other_references_of_the_remote_are_not_the_branch_and_are_not_read_without_end() {
    let place = tempfile::tempdir().unwrap();
    let (remote, kept) = repository(place.path());
    let log = place.path().join("a");
    grow(&log, &pem(), 4).await;
    let tree = git(&remote, &["mktree"]);
    let other = git(&remote, &["commit-tree", tree.trim(), "-m", "nothing"]);
    let with = |count: usize| {
        let lines = (0..count).map(|n| format!("{} refs/a/{n:06}/refs/heads/heads\n", other.trim()));
        fs::write(remote.join("packed-refs"), lines.collect::<String>()).unwrap();
    };
    with(3);
    let mut witnesses = shown(&log, std::slice::from_ref(&kept));
    witnesses.show(true).await;
    assert!(!witnesses.places[0].failing, "there is no such branch yet");
    assert_eq!(history(&remote), [5]);
    with(30_000);
    grow(&log, &pem(), 1).await;
    shown(&log, std::slice::from_ref(&kept)).show(true).await;
    assert_eq!(history(&remote), [5], "nothing is pushed to where so much is said");
    with(0);
}
