//! The verifier against the sandbox's issuer: real TLS, discovery, rotation.

use std::{sync::Arc, time::Duration};

use amlgate::{
    identity::{
        ConnectionMemo, Groups, HttpKeySource, IssuerSettings, PrincipalKind, Reason, RememberedSettings,
        Verifier,
    },
    net::{Connector, ConnectorSettings},
    sandbox::{
        SandboxCa,
        issuer::{self, DevelopmentIssuer, Forgery},
    },
    time::{Clock, ManualClock, SharedClock, SystemClock},
};

struct World {
    clock: ManualClock,
    issuer: DevelopmentIssuer,
    verifier: Arc<Verifier>,
}

async fn world(trusted: bool) -> World {
    let clock = ManualClock::starting_at(SystemClock.now());
    let shared: SharedClock = Arc::new(clock.clone());
    let ca = Arc::new(SandboxCa::generate().unwrap());
    let issuer = DevelopmentIssuer::start(issuer::IssuerSettings::new(Arc::clone(&shared), Arc::clone(&ca)))
        .await
        .unwrap();
    let mut settings = IssuerSettings::oidc("dev", &issuer.url(), &["amlgate"]).unwrap();
    settings.address = Some(issuer.address());
    settings.trust = trusted.then(|| ca.certificate_pem().as_bytes().into());
    assert_eq!(amlgate::identity::problems(std::slice::from_ref(&settings)), []);
    let source = HttpKeySource::new(Connector::new(ConnectorSettings::default()).unwrap());
    let verifier = Verifier::new(vec![settings], RememberedSettings::default(), Arc::new(source), shared);
    verifier.refresh_once().await;
    World { clock, issuer, verifier: Arc::new(verifier) }
}

#[tokio::test]
async fn everybody_of_the_sandbox_is_known_by_subject_and_groups() {
    let world = world(true).await;
    for person in amlgate::sandbox::PEOPLE {
        let token = world.issuer.mint().token(person).unwrap();
        let principal = world.verifier.authenticate(&token).await.unwrap();
        let claims = world.issuer.mint().claims(person);
        assert_eq!(claims["sub"], *principal.id.subject);
        let Groups::Known(groups) = &principal.groups else { panic!("known groups") };
        let listed = claims.get("groups").and_then(|g| g.as_array().cloned()).unwrap_or_default();
        assert_eq!(groups.len(), listed.len(), "{principal:?}");
        let machine = principal.kind == PrincipalKind::Machine;
        assert_eq!(machine, person.name == "ci", "{}", person.name);
    }
}

#[tokio::test]
async fn forgeries_of_the_sandbox_are_refused() {
    let world = world(true).await;
    let person = &amlgate::sandbox::PEOPLE[0];
    for (how, reason) in [
        (Forgery::ForeignKey, Reason::Signature),
        (Forgery::Altered, Reason::Signature),
        (Forgery::Unsigned, Reason::Algorithm),
    ] {
        let token = world.issuer.mint().forge(person, how).unwrap();
        assert_eq!(world.verifier.authenticate(&token).await.unwrap_err().reason(), reason);
    }
}

#[tokio::test]
async fn a_rotation_is_picked_up_and_a_withdrawn_key_stops_working() {
    let world = world(true).await;
    let verifier = Arc::clone(&world.verifier);
    let task = tokio::spawn(async move { verifier.refresh_forever().await });
    let alice = &amlgate::sandbox::PEOPLE[0];
    let old = world.issuer.mint().token(alice).unwrap();
    world.verifier.authenticate(&old).await.unwrap();

    world.issuer.rotate().unwrap();
    world.clock.advance(amlgate::identity::ASK_EVERY);
    let new = world.issuer.mint().token(alice).unwrap();
    let principal = world.verifier.authenticate(&new).await.unwrap();
    assert_eq!(principal.kind, PrincipalKind::Person);
    assert!(world.verifier.remembered(&old).is_some(), "the old key is still published");

    let header = http::HeaderValue::from_str(&format!("Bearer {old}")).unwrap();
    let mut memo = ConnectionMemo::default();
    assert!(world.verifier.recall(&mut memo, &header).is_some());
    world.issuer.keys().withdraw_old();
    world.verifier.refresh_once().await;
    assert!(world.verifier.recall(&mut memo, &header).is_none());
    world.clock.advance(Duration::from_secs(11));
    assert_eq!(world.verifier.authenticate(&old).await.unwrap_err().reason(), Reason::Key);
    assert!(world.verifier.authenticate(&new).await.is_ok());
    task.abort();
}

#[tokio::test]
async fn an_issuer_whose_certificate_is_not_trusted_gives_no_keys() {
    let world = world(false).await;
    let [status] = world.verifier.status().try_into().unwrap();
    assert!(!status.usable, "{status:?}");
    assert!(status.last_error.unwrap().contains("connect"), "the cause is said");
    let token = world.issuer.mint().token(&amlgate::sandbox::PEOPLE[0]).unwrap();
    assert!(world.verifier.authenticate(&token).await.unwrap_err().is_outage());
}
