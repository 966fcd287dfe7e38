//! Callers with certificates: on the gate's own TLS, and passed on by a terminator.

use std::{fs, sync::Arc, time::Duration};

use amlgate::{
    sandbox::{
        Person,
        mesh::{Machine, MeshCa, Wanted},
    },
    time::{Clock as _, ManualClock, SystemClock},
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::world::{Answer, Changes, Log, Sent, World, whole};

const CHURN: &str = "/endpoints/churn/score";

/// How a client connects that shows this machine's certificate, if any.
pub fn client(world: &World, machine: Option<&Machine>, protocol: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&fs::read(world.sandbox.ca()).unwrap()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match machine {
        None => builder.with_no_client_auth(),
        Some(machine) => {
            let chain = vec![CertificateDer::from_pem_slice(machine.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(machine.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

pub async fn tls(world: &World, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(world.server.reverse().unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await.unwrap()
}

pub async fn connect(world: &World, machine: &Machine) -> SendRequest<Sent> {
    connected(tls(world, &client(world, Some(machine), b"http/1.1")).await).await
}

pub async fn connected(stream: TlsStream<TcpStream>) -> SendRequest<Sent> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

pub fn score(world: &World) -> http::request::Builder {
    Request::post(CHURN).header(header::HOST, world.host()).header(header::CONTENT_TYPE, "application/json")
}

pub fn data() -> Sent {
    whole(json!({"input_data": {"data": [[1, 2, 3]]}}).to_string())
}

async fn scored(world: &World, sender: &mut SendRequest<Sent>) -> Answer {
    Answer::of(sender.send_request(score(world).body(data()).unwrap()).await.unwrap()).await
}

async fn scores(world: &World, machine: &Machine) -> Answer {
    scored(world, &mut connect(world, machine).await).await
}

pub fn workload(world: &World, path: &str) -> Machine {
    world.sandbox.mesh().unwrap().machine(&Wanted::workload(path)).unwrap()
}

pub fn der(machine: &Machine) -> Vec<u8> {
    CertificateDer::from_pem_slice(machine.certificate.as_bytes()).unwrap().to_vec()
}

pub fn refused(log: &Log) -> Vec<String> {
    let mut reasons: Vec<_> =
        log.events("refused").iter().map(|own| own["reason"].as_str().unwrap().to_owned()).collect();
    reasons.sort();
    // A head of the record may have come between two of a kind.
    reasons.dedup();
    reasons
}

/// The list that revokes these, in force.
pub async fn revoke(world: &World, machines: &[&Machine]) {
    let list = world.sandbox.mesh().unwrap().revoked(machines, time::Duration::days(30)).unwrap();
    fs::write(world.directory().join("certs/mesh.crl"), list).unwrap();
    world.server.reload().await;
}

#[tokio::test]
async fn a_machine_is_known_by_its_certificate_whatever_it_speaks() {
    let world = World::new().await;
    let ci = workload(&world, "ci");
    let answer = scores(&world, &ci).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let stream = tls(&world, &client(&world, Some(&ci), b"h2")).await;
    let (mut http2, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("https://{}{CHURN}", world.host()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(data())
        .unwrap();
    assert_eq!(http2.send_request(request).await.unwrap().status(), StatusCode::OK);
    // Another machine of the same authority is somebody else.
    assert_eq!(scores(&world, &workload(&world, "other")).await.status, StatusCode::FORBIDDEN);
    // Who shows none is asked for a token as ever.
    assert_eq!(world.nobody().get("/endpoints/churn/").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.caller("sam").get("/endpoints/churn/").await.status, StatusCode::OK);
    drop(http2);
    let log = world.stop().await;
    let first = log.requests()[0];
    assert_eq!(first["actor"]["user"]["uid"], "mesh:spiffe://sandbox.example/ci");
    assert_eq!(first["actor"]["user"]["type_id"], 4);
    let own = &first["unmapped"]["amlgate"];
    assert_eq!(own["proof"], "certificate");
    let fingerprint: String =
        digest(&SHA256, &der(&ci)).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(own["certificate"], fingerprint.as_str());
    let sams = log.requests().into_iter().find(|r| r["actor"]["user"]["uid"] == "sandbox:user-sam").unwrap();
    assert_eq!(sams["unmapped"]["amlgate"]["proof"], "bearer");
    assert!(sams["unmapped"]["amlgate"]["certificate"].is_null());
}

#[tokio::test]
async fn a_certificate_that_does_not_stand_ends_the_handshake() {
    let world = World::new().await;
    let mesh = world.sandbox.mesh().unwrap();
    let ci = Wanted::workload("ci");
    let others = MeshCa::generate().unwrap().machine(&ci).unwrap();
    let expired = mesh.machine(&Wanted {
        since: time::Duration::days(2),
        until: -time::Duration::days(1),
        ..ci.clone()
    });
    let server = mesh.machine(&Wanted { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..ci });
    for machine in [others, expired.unwrap(), server.unwrap()] {
        // TLS 1.3 tells the client only when it reads.
        let mut sender = connect(&world, &machine).await;
        assert!(sender.send_request(score(&world).body(data()).unwrap()).await.is_err());
    }
    let reasons = refused(&world.stop().await);
    assert_eq!(reasons, ["certificate_authority", "certificate_expired", "certificate_purpose"]);
}

#[tokio::test]
async fn a_certificate_names_its_holder_once_and_in_the_trust_domain() {
    let world = World::new().await;
    let mesh = world.sandbox.mesh().unwrap();
    let named = |uris: &[&str], dns: &[&str]| {
        let text = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        mesh.machine(&Wanted { uris: text(uris), dns: text(dns), ..Wanted::workload("ci") }).unwrap()
    };
    let ci = "spiffe://sandbox.example/ci";
    for machine in [
        named(&[ci, "spiffe://sandbox.example/other"], &[]),
        named(&[ci, "https://sandbox.example/ci"], &[]),
        named(&["spiffe://elsewhere.example/ci"], &[]),
        named(&["spiffe://sandbox.example"], &[]),
        named(&["spiffe://sandbox.example/a/../ci"], &[]),
        named(&[], &["ci.sandbox.example"]),
    ] {
        let answer = scores(&world, &machine).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"amlgate\", error=\"invalid_token\"");
    }
    // Other kinds of names beside it are no matter.
    assert_eq!(scores(&world, &named(&[ci], &["ci.sandbox.example"])).await.status, StatusCode::OK);
    let log = world.stop().await;
    assert_eq!(refused(&log), ["certificate_name"]);
    let counts = log.events("refused").into_iter().filter_map(|own| own["count"].as_u64());
    assert_eq!(counts.sum::<u64>(), 6);
}

#[tokio::test]
async fn a_dns_name_is_an_identity_where_the_issuer_says_so_and_accept_confines_it() {
    let spiffe = "spiffe: {trust_domain: sandbox.example}, crl: [certs/mesh.crl]}";
    let accept = "san: dns}\n    accept: {claims: {uri: \"spiffe://sandbox.example/ci\"}}";
    let subject = "subject: \"spiffe://sandbox.example/ci\"";
    let world = World::changed(Changes { configuration: &[(spiffe, accept)], ..Changes::default() }).await;
    let file = world.directory().join("policies/sandbox.yaml");
    let policies = fs::read_to_string(&file).unwrap();
    assert!(policies.contains(subject));
    fs::write(&file, policies.replace(subject, "claims: {dns: ci.sandbox.example}")).unwrap();
    world.server.reload().await;
    let mesh = world.sandbox.mesh().unwrap();
    let named = |path: &str, dns: &[&str]| {
        let dns = dns.iter().map(|one| (*one).to_owned()).collect();
        mesh.machine(&Wanted { dns, ..Wanted::workload(path) }).unwrap()
    };
    assert_eq!(scores(&world, &named("ci", &["ci.sandbox.example"])).await.status, StatusCode::OK);
    for machine in
        [named("ci", &["ci.sandbox.example", "b.sandbox.example"]), named("other", &["ci.sandbox.example"])]
    {
        assert_eq!(scores(&world, &machine).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(refused(&world.stop().await), ["certificate_name", "certificate_not_accepted"]);
}

fn chat(world: &World) -> Request<Sent> {
    let body = json!({
        "model": "churn-chat", "stream": true, "max_tokens": 100_000_000_u64,
        "messages": [{"role": "user", "content": "hello"}],
    });
    Request::post("/endpoints/churn/v1/chat/completions")
        .header(header::HOST, world.host())
        .header(header::CONTENT_TYPE, "application/json")
        .body(whole(body.to_string()))
        .unwrap()
}

#[tokio::test]
async fn a_revoked_certificate_counts_on_no_open_connection_and_in_no_resumed_session() {
    let world = World::new().await;
    let (ci, neighbour) = (workload(&world, "ci"), workload(&world, "ci"));
    let config = client(&world, Some(&ci), b"http/1.1");
    let mut open = connected(tls(&world, &config).await).await;
    assert_eq!(scored(&world, &mut open).await.status, StatusCode::OK);
    // A resumed session shows no certificate: the ticket has it.
    let resumed = tls(&world, &config).await;
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let mut resumed = connected(resumed).await;
    assert_eq!(scored(&world, &mut resumed).await.status, StatusCode::OK);
    let mut cut = connect(&world, &ci).await.send_request(chat(&world)).await.unwrap();
    let mut flows = connect(&world, &neighbour).await.send_request(chat(&world)).await.unwrap();
    for stream in [&mut cut, &mut flows] {
        assert_eq!(stream.status(), StatusCode::OK);
        stream.frame().await.unwrap().unwrap();
    }

    revoke(&world, &[&ci]).await;
    let answer = scored(&world, &mut open).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.text().contains("the client certificate is revoked"), "{answer:?}");
    let again = tls(&world, &config).await;
    assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(scored(&world, &mut connected(again).await).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(scores(&world, &ci).await.status, StatusCode::UNAUTHORIZED);
    // Its stream ends; the neighbour's goes on.
    while let Some(Ok(_)) = cut.frame().await {}
    world.sandbox.azure.streams().wait_for(1).await;
    flows.frame().await.unwrap().unwrap();
    assert_eq!(scores(&world, &neighbour).await.status, StatusCode::OK);
    drop(flows);
    world.sandbox.azure.streams().wait_for(0).await;

    let log = world.stop().await;
    assert_eq!(refused(&log), ["certificate_revoked"]);
    let cut: Vec<_> =
        log.requests().into_iter().filter(|r| r["unmapped"]["amlgate"]["ending"] == "cut").collect();
    assert_eq!(cut.len(), 1);
    assert_eq!(cut[0]["unmapped"]["amlgate"]["because"], "the client certificate is revoked");
    let reloaded = log.events("reloaded");
    assert!(reloaded.iter().any(|own| own["what"] == "client authorities"), "{reloaded:?}");
}

async fn timed(changes: Changes<'_>) -> (World, ManualClock) {
    let clock = ManualClock::starting_at(SystemClock.now());
    (World::at(changes, Arc::new(clock.clone())).await, clock)
}

#[tokio::test]
async fn a_certificate_that_expires_ends_its_requests_and_its_streams() {
    let (world, clock) = timed(Changes::default()).await;
    let wanted = Wanted { until: time::Duration::hours(1), ..Wanted::workload("ci") };
    let ci = world.sandbox.mesh().unwrap().machine(&wanted).unwrap();
    let mut open = connect(&world, &ci).await;
    assert_eq!(scored(&world, &mut open).await.status, StatusCode::OK);
    let mut stream = connect(&world, &ci).await.send_request(chat(&world)).await.unwrap();
    stream.frame().await.unwrap().unwrap();
    clock.advance(Duration::from_secs(2 * 3_600));
    assert_eq!(scored(&world, &mut open).await.status, StatusCode::UNAUTHORIZED);
    while let Some(Ok(_)) = stream.frame().await {}
    world.sandbox.azure.streams().wait_for(0).await;
    let log = world.stop().await;
    assert_eq!(refused(&log), ["certificate_expired"]);
    let cut = log.requests().into_iter().filter(|r| r["unmapped"]["amlgate"]["ending"] == "cut").count();
    assert_eq!(cut, 1, "the stream, and nothing else");
}

#[tokio::test]
async fn a_list_that_was_not_renewed_lets_nobody_in_unless_that_is_configured() {
    for (crl, before, after) in [
        ("crl: [certs/mesh.crl]}", StatusCode::OK, StatusCode::UNAUTHORIZED),
        ("crl: [certs/mesh.crl], crl_lapsed: accept}", StatusCode::OK, StatusCode::OK),
    ] {
        let changes = [("crl: [certs/mesh.crl]}", crl)];
        let (world, clock) = timed(Changes { configuration: &changes, ..Changes::default() }).await;
        let ci = workload(&world, "ci");
        let list = world.sandbox.mesh().unwrap().revoked(&[], time::Duration::hours(2)).unwrap();
        fs::write(world.directory().join("certs/mesh.crl"), list).unwrap();
        world.server.reload().await;
        let mut open = connect(&world, &ci).await;
        assert_eq!(scored(&world, &mut open).await.status, before);
        clock.advance(Duration::from_secs(3 * 3_600));
        assert_eq!(scored(&world, &mut open).await.status, after, "{crl}");
        // The new list mends it on the same connection.
        revoke(&world, &[]).await;
        assert_eq!(scored(&world, &mut open).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn other_authorities_take_over_without_a_restart_and_a_broken_bundle_changes_nothing() {
    let world = World::new().await;
    let ci = workload(&world, "ci");
    let mut open = connect(&world, &ci).await;
    assert_eq!(scored(&world, &mut open).await.status, StatusCode::OK);
    let bundle = world.directory().join("certs/mesh-ca.pem");
    fs::write(&bundle, "no certificate").unwrap();
    world.server.reload().await;
    assert_eq!(scored(&world, &mut open).await.status, StatusCode::OK);

    let next = MeshCa::generate().unwrap();
    fs::write(&bundle, next.certificate_pem()).unwrap();
    let list = next.revoked(&[], time::Duration::days(1)).unwrap();
    fs::write(world.directory().join("certs/mesh.crl"), list).unwrap();
    world.server.reload().await;
    assert_eq!(scored(&world, &mut open).await.status, StatusCode::UNAUTHORIZED);
    let machine = next.machine(&Wanted::workload("ci")).unwrap();
    assert_eq!(scores(&world, &machine).await.status, StatusCode::OK);
    drop(open);
    let log = world.stop().await;
    assert_eq!(refused(&log), ["certificate_authority"]);
    let refusals = log.events("reload_refused");
    assert!(refusals.iter().any(|own| own["what"] == "client authorities"), "{refusals:?}");
}

/// A token of `name` with other claims.
pub fn token(world: &World, name: &str, claims: &Value) -> String {
    let put = |all: &mut serde_json::Map<String, Value>| all.extend(claims.as_object().unwrap().clone());
    world.sandbox.issuer.mint().token_with(Person::named(name).unwrap(), put).unwrap()
}

async fn bearing(world: &World, sender: &mut SendRequest<Sent>, token: &str) -> Answer {
    let request = score(world).header(header::AUTHORIZATION, format!("Bearer {token}"));
    Answer::of(sender.send_request(request.body(data()).unwrap()).await.unwrap()).await
}

#[tokio::test]
async fn a_token_beside_a_certificate_is_bound_to_it_or_names_the_same_caller() {
    let world = World::new().await;
    let (ci, other) = (workload(&world, "ci"), workload(&world, "other"));
    let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &der(&ci)));
    let bound = token(&world, "ci", &json!({"cnf": {"x5t#S256": thumbprint}}));
    let mut open = connect(&world, &ci).await;
    assert_eq!(bearing(&world, &mut open, &bound).await.status, StatusCode::OK);
    // Again, from the connection's memory.
    assert_eq!(bearing(&world, &mut open, &bound).await.status, StatusCode::OK);
    // Of another principal, and not bound.
    let sams = token(&world, "sam", &json!({}));
    assert_eq!(bearing(&world, &mut open, &sams).await.status, StatusCode::UNAUTHORIZED);
    // The same workload's token of another kind.
    let same = json!({"sub": "spiffe://sandbox.example/ci"});
    assert_eq!(bearing(&world, &mut open, &token(&world, "ci", &same)).await.status, StatusCode::OK);
    // With another certificate, and without any.
    let mut others = connect(&world, &other).await;
    assert_eq!(bearing(&world, &mut others, &bound).await.status, StatusCode::UNAUTHORIZED);
    let mut none = world.connect().await;
    let answer = bearing(&world, &mut none, &bound).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.text().contains("bound to a client certificate"), "{answer:?}");
    // Bound to what the gate cannot check.
    let strange = token(&world, "ci", &json!({"cnf": {"kid": "x"}}));
    assert_eq!(bearing(&world, &mut none, &strange).await.status, StatusCode::UNAUTHORIZED);
    // What a token is bound to is revoked with the certificate.
    revoke(&world, &[&ci]).await;
    assert_eq!(bearing(&world, &mut open, &bound).await.status, StatusCode::UNAUTHORIZED);
    drop((open, others, none));
    let log = world.stop().await;
    assert_eq!(
        refused(&log),
        [
            "bound",
            "bound_to_another_certificate",
            "bound_without_certificate",
            "certificate_of_another",
            "certificate_revoked"
        ]
    );
    let proofs: Vec<_> = log.requests().iter().map(|r| r["unmapped"]["amlgate"]["proof"].clone()).collect();
    assert!(proofs.contains(&json!("certificate_bound_token")) && proofs.contains(&json!("bearer")));
    let secrets: Vec<_> = log.records.iter().filter(|r| r.to_string().contains(&bound)).collect();
    assert!(secrets.is_empty());
}

#[tokio::test]
async fn a_handle_is_bound_as_its_caller_was() {
    let world = World::new().await;
    let ci = workload(&world, "ci");
    let mut open = connect(&world, &ci).await;
    let keys = crate::world::workspace(&format!("/onlineEndpoints/churn/listKeys?{}", crate::world::VERSION));
    let request = Request::post(keys).header(header::HOST, world.host()).body(whole("")).unwrap();
    let answer = Answer::of(open.send_request(request).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let handle = answer.json()["primaryKey"].as_str().unwrap().to_owned();
    assert_eq!(bearing(&world, &mut open, &handle).await.status, StatusCode::OK);
    let stolen = bearing(&world, &mut world.connect().await, &handle).await;
    assert_eq!(stolen.status, StatusCode::UNAUTHORIZED, "{stolen:?}");
}

#[tokio::test]
async fn the_method_and_the_rest_are_judged_as_for_any_caller() {
    let world = World::new().await;
    let ci = workload(&world, "ci");
    let request = Request::builder()
        .method(Method::DELETE)
        .uri(crate::world::workspace(&format!("?{}", crate::world::VERSION)))
        .header(header::HOST, world.host());
    let mut sender = connect(&world, &ci).await;
    let answer = Answer::of(sender.send_request(request.body(whole("")).unwrap()).await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.json()["error"]["code"], "AuthorizationFailed");
}
