//! An interception authority is exchanged under clients that never meet a leaf which they do not believe.

use std::{fs, sync::Arc};

use amlgate::{
    cli::certs::{Step, rotate_interception},
    client::Files,
    net::{Connector, ConnectorSettings, Trust},
};
use http::StatusCode;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio_rustls::TlsConnector;

use crate::{
    forward::{Tunnel, ask, basic, jobs, token},
    world::World,
};

const ARM: &str = "management.azure.com";

/// What the gate says to clients that they should believe.
async fn told(world: &World) -> String {
    world.nobody().get("/.well-known/amlgate").await.json()["forward"]["ca"].as_str().unwrap().to_owned()
}

/// Whether who believes these authorities believes what is shown in a tunnel.
async fn believes(world: &World, authorities: &str) -> bool {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let (status, head, stream) = ask(world, &format!("{ARM}:443"), "1.1", &basic(&token(world, "sam"))).await;
    assert_eq!(status, 200, "{head}");
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(ARM).unwrap(), stream).await.is_ok()
}

#[tokio::test]
async fn a_rotation_loses_no_connection_and_no_client_that_followed_it() {
    let world = World::new().await;
    let certs = world.directory().join("certs");
    let first = told(&world).await;
    let mut open = Tunnel::with(&world, &token(&world, "sam"), ARM).await;
    assert_eq!(open.get(&jobs()).await.status, StatusCode::OK);

    // The next one is made for the same hosts, and handed to clients.
    let domains = amlgate::config::upstream_hosts(&world.sandbox.configuration());
    let domains: Vec<String> = domains.into_iter().collect();
    rotate_interception(&certs, &domains, Step::Announce).unwrap();
    let file = world.sandbox.configuration();
    let text = fs::read_to_string(&file).unwrap();
    let also = "interception_ca: {also_trust: [certs/interception-ca.other.pem], certificate:";
    fs::write(&file, text.replace("interception_ca: {certificate:", also)).unwrap();
    world.server.reload().await;
    let both = told(&world).await;
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(both.starts_with(&first));
    let next = both.strip_prefix(&first).unwrap();
    assert!(believes(&world, &first).await, "leaves are the first one's still");
    assert!(!believes(&world, next).await);

    // The files change places; the configuration stays as it is.
    rotate_interception(&certs, &domains, Step::Switch).unwrap();
    world.server.reload().await;
    assert!(believes(&world, next).await);
    assert!(believes(&world, &both).await, "who followed notices nothing");
    assert!(!believes(&world, &first).await);
    let after = told(&world).await;
    assert_eq!(
        after.matches("BEGIN CERTIFICATE").count(),
        2,
        "both are believed for as long as both are shown"
    );
    assert_ne!(after, both, "the new one comes first");
    assert_eq!(open.get(&jobs()).await.status, StatusCode::OK, "an open tunnel goes on");
    drop(open);
    let log = world.stop().await;
    let reloads: Vec<_> = log.events("reloaded").iter().map(|e| e["what"].clone()).collect();
    assert!(reloads.contains(&"interception authority".into()), "{reloads:?}");
    assert!(log.events("reload_refused").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_bundle_follows_the_gates_authorities() {
    let world = World::new().await;
    let home = tempfile::tempdir().unwrap();
    let files = Files::below(home.path());
    let first = told(&world).await;
    files.write(&first, &[]).unwrap();
    let gate = format!("https://{}", world.host());
    let trust = fs::read_to_string(world.directory().join("certs/ca.pem")).unwrap();
    let connector = Connector::new(ConnectorSettings::default()).unwrap();
    let renew = async |known: &str| {
        let roots = Trust::new(Some(trust.as_bytes())).unwrap();
        files.renew(&connector, &gate, Some(roots), known).await.unwrap()
    };
    assert_eq!(renew(&first).await, None, "nothing has changed");

    let certs = world.directory().join("certs");
    rotate_interception(&certs, &[ARM.to_owned()], Step::Announce).unwrap();
    rotate_interception(&certs, &[ARM.to_owned()], Step::Switch).unwrap();
    world.server.reload().await;
    let second = renew(&first).await.expect("the gate names another one");
    assert_ne!(second, first);
    assert_eq!(fs::read_to_string(&files.authorities).unwrap(), second);
    let bundle = fs::read_to_string(&files.bundle).unwrap();
    assert!(bundle.ends_with(&second) && !bundle.contains(&first));
    assert!(believes(&world, &second).await);
    // A gate that is away takes nothing from anybody.
    world.stop().await;
    assert_eq!(renew(&second).await, None);
    assert_eq!(fs::read_to_string(&files.bundle).unwrap(), bundle);
}
