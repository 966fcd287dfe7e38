//! A gate that shows its record, before another gate's witness and a folder, over real sockets.

use std::{net::SocketAddr, path::Path};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    audit::{
        Journal, JournalSettings, PUBLIC_KEY,
        event::Event,
        note::VerifierKeys,
        witness::{self, vouchers},
    },
    net::ConnectorSettings,
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

fn shown(log: &Path, places: &[WitnessSettings]) -> Witnesses {
    let connector = Connector::new(ConnectorSettings::default()).unwrap();
    Witnesses::new(log.to_owned(), places, connector, clock()).unwrap().unwrap()
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
        WitnessSettings {
            name: "gate-b".into(),
            place: WitnessPlace::Witness {
                url: crate::config::values::base_url(&format!("http://{address}")).unwrap(),
                prefix: "witness".to_owned(),
                key: its[0].clone(),
                trust: None,
                address: None,
            },
        },
        WitnessSettings { name: "folder".into(), place: WitnessPlace::Folder(folder.clone()) },
    ];
    let mut witnesses = shown(&log, &places);
    witnesses.show().await;
    let first = cosigned(&log);
    assert_eq!(vouchers(&first, &its).len(), 1);
    assert_eq!(logs.open(&first, 0).unwrap().0.size, 301);
    let kept = folder.join(format!("gate-a/{:020}.checkpoint", 301));
    assert_eq!(witness::vouchers(&fs::read_to_string(&kept).unwrap(), &its), []);

    // The log grows; a client that was started anew learns what the witness saw last.
    grow(&log, &key, 300).await;
    shown(&log, &places).show().await;
    let second = cosigned(&log);
    assert_eq!(logs.open(&second, 0).unwrap().0.size, 602);
    assert_eq!(vouchers(&second, &its).len(), 1);

    // The same gate with another past: neither place takes it.
    let fork = place.path().join("fork");
    grow(&fork, &key, 700).await;
    let mut forked = shown(&fork, &places);
    forked.show().await;
    assert!(forked.places[0].failing && !fork.join(COSIGNED).exists());
    fs::remove_dir_all(&fork).unwrap();
    grow(&fork, &key, 300).await;
    let mut forked = shown(&fork, &places);
    forked.show().await;
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
