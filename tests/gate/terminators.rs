//! Certificates that a terminator in front of the gate passes on, and such headers from anybody else.

use amlgate::sandbox::mesh::{Machine, MeshCa, Wanted};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;

use crate::{
    machines::{client, connected, data, der, refused, revoke, score, tls, token, workload},
    world::{Answer, Changes, World},
};

fn rfc9440(machine: &Machine) -> String {
    format!(":{}:", STANDARD.encode(der(machine)))
}

fn xfcc(machine: &Machine) -> String {
    let pem = percent_encoding::utf8_percent_encode(&machine.certificate, percent_encoding::NON_ALPHANUMERIC);
    format!("By=spiffe://sandbox.example/ingress;Hash=00;Cert=\"{pem}\"")
}

/// A request with these lines, on a connection with this machine's certificate or none.
async fn with(world: &World, machine: Option<&Machine>, lines: &[(&str, &str)]) -> Answer {
    let mut sender = connected(tls(world, &client(world, machine, b"http/1.1")).await).await;
    let mut request = score(world);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    Answer::of(sender.send_request(request.body(data()).unwrap()).await.unwrap()).await
}

const PUBLIC: &str = "    public_url: ";

async fn behind(trusted: &str) -> World {
    let with = format!("    trusted_proxies: [{trusted}]\n{PUBLIC}");
    World::changed(Changes { configuration: &[(PUBLIC, &with)], ..Changes::default() }).await
}

#[tokio::test]
async fn a_certificate_in_a_header_counts_from_a_terminator_alone_and_never_goes_on() {
    let world = behind("10.9.9.9, 127.0.0.1").await;
    let ci = workload(&world, "ci");
    let lines = [("client-cert", rfc9440(&ci)), ("x-forwarded-client-cert", xfcc(&ci))];
    for (name, value) in &lines {
        let answer = with(&world, None, &[(name, value)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
    }
    // Beside a good token it is nothing, and what endpoints get holds none of it.
    let token = format!("Bearer {}", token(&world, "ci", &json!({})));
    let mut all: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let others =
        [("client-cert-chain", ":AAAA:"), ("ssl-client-cert", "x"), ("dpop", "a.b.c"), ("x-kept", "1")];
    all.extend(others.iter().copied());
    all.push(("authorization", &token));
    assert_eq!(with(&world, None, &all).await.status, StatusCode::OK);
    let seen = world.sandbox.azure.observer().seen_at("/score");
    assert_eq!(seen.len(), 1);
    assert!(seen[0].headers.contains_key("x-kept"));
    for (name, _) in &all {
        if !["x-kept", "authorization"].contains(name) {
            assert!(!seen[0].headers.contains_key(*name), "{name}");
        }
    }
    assert_eq!(refused(&world.stop().await), ["no_credentials"]);
}

#[tokio::test]
async fn a_terminator_that_is_known_by_its_address_passes_certificates_on() {
    let entry = "{peer: 127.0.0.1, certificate_header: client_cert, authenticated_by: network}";
    let world = behind(entry).await;
    let mesh = world.sandbox.mesh().unwrap();
    let (ci, own) = (workload(&world, "ci"), rfc9440(&workload(&world, "ci")));
    let lines = [("client-cert", own.as_str())];
    assert_eq!(with(&world, None, &lines).await.status, StatusCode::OK);
    // The terminator's own certificate is not the caller's.
    assert_eq!(with(&world, Some(&ci), &[]).await.status, StatusCode::UNAUTHORIZED);
    let others = rfc9440(&MeshCa::generate().unwrap().machine(&Wanted::workload("ci")).unwrap());
    let wrong = Wanted { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Wanted::workload("ci") };
    let wrong = rfc9440(&mesh.machine(&wrong).unwrap());
    let large = format!(":{}:", STANDARD.encode([0; 11_000]));
    for lines in [
        &[("client-cert", own.as_str()), ("client-cert", own.as_str())][..],
        &[("client-cert", others.as_str())],
        &[("client-cert", wrong.as_str())],
        &[("client-cert", large.as_str())],
        &[("client-cert", "MII")],
        &[("client-cert-chain", own.as_str())],
        // The other form's is no header of this terminator's.
        &[("x-forwarded-client-cert", &xfcc(&ci))],
    ] {
        let answer = with(&world, None, lines).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
    }
    revoke(&world, &[&ci]).await;
    assert_eq!(with(&world, None, &[("client-cert", &rfc9440(&ci))]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(with(&world, None, &lines).await.status, StatusCode::OK);
    assert_eq!(
        refused(&world.stop().await),
        [
            "certificate_authority",
            "certificate_header",
            "certificate_malformed",
            "certificate_purpose",
            "certificate_revoked",
            "no_credentials"
        ]
    );
}

#[tokio::test]
async fn a_terminator_that_is_known_by_its_certificate_is_believed_on_that_connection_alone() {
    let entry = "{peer: 127.0.0.0/8, certificate_header: xfcc, authenticated_by: {issuer: mesh, subject: \"spiffe://sandbox.example/ingress\"}}";
    let world = behind(entry).await;
    let (ingress, ci) = (workload(&world, "ingress"), workload(&world, "ci"));
    let value = xfcc(&ci);
    let lines = [("x-forwarded-client-cert", value.as_str())];
    assert_eq!(with(&world, Some(&ingress), &lines).await.status, StatusCode::OK);
    // Nobody else: neither without a certificate nor with one of another machine.
    assert_eq!(with(&world, None, &lines).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(with(&world, Some(&workload(&world, "other")), &lines).await.status, StatusCode::FORBIDDEN);
    let two = format!("{value},{value}");
    let answer = with(&world, Some(&ingress), &[("x-forwarded-client-cert", &two)]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.text().contains("SANITIZE_SET"), "{answer:?}");
    // Once it is revoked its word counts for nothing.
    revoke(&world, &[&ingress]).await;
    assert_eq!(with(&world, Some(&ingress), &lines).await.status, StatusCode::UNAUTHORIZED);
    let log = world.stop().await;
    let users: Vec<_> = log.requests().iter().map(|r| r["actor"]["user"]["uid"].clone()).collect();
    assert!(users.contains(&json!("mesh:spiffe://sandbox.example/ci")));
    assert!(!users.contains(&json!("mesh:spiffe://sandbox.example/ingress")));
}
