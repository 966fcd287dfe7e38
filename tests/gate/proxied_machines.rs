//! Machines with certificates and bound tokens behind `HTTPS_PROXY`: who asked for the tunnel is who
//! calls in it, for as long as what they showed stands.

use std::fs;

use amlgate::sandbox::{azure::names, mesh::Machine};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    forward::trusting,
    machines::{client, data, der, token, workload},
    possession::Holder,
    world::{Answer, Changes, Sent, World, whole},
};

const CA: &str = "    interception_ca: {certificate: certs/interception-ca.pem";

async fn world() -> World {
    let with = format!(
        "    tls: {{certificate: certs/server.pem, private_key: {{file: certs/server.key}}, client_ca: certs/mesh-ca.pem}}\n    identity: [proxy_authorization, certificate]\n{CA}"
    );
    World::changed(Changes { configuration: &[(CA, &with)], ..Changes::default() }).await
}

fn scoring() -> String {
    format!("{}.{}.inference.ml.azure.com", names::ENDPOINT, names::REGION)
}

/// Asks for a tunnel over the proxy's own TLS: the status, and the connection.
async fn ask(
    world: &World,
    machine: Option<&Machine>,
    host: &str,
    lines: &str,
) -> (u16, TlsStream<TcpStream>) {
    let stream = TcpStream::connect(world.server.forward().unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(client(world, machine, b"http/1.1"));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let asked = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n{lines}\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), stream)
}

/// A tunnel to the scoring endpoint.
async fn tunnel(world: &World, machine: Option<&Machine>, lines: &str) -> SendRequest<Sent> {
    let host = scoring();
    let (status, stream) = ask(world, machine, &host, lines).await;
    assert_eq!(status, 200);
    let name = ServerName::try_from(host).unwrap();
    let stream = trusting(world, b"http/1.1").connect(name, stream).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn scores(tunnel: &mut SendRequest<Sent>) -> StatusCode {
    let request = Request::post("/score")
        .header(header::HOST, scoring())
        .header(header::CONTENT_TYPE, "application/json")
        // What an SDK sends to Azure is no identity here.
        .header(header::AUTHORIZATION, "Bearer of.azures.own");
    Answer::of(tunnel.send_request(request.body(data()).unwrap()).await.unwrap()).await.status
}

#[tokio::test]
async fn a_certificate_on_the_proxys_port_is_who_calls_in_the_tunnel_until_it_is_revoked() {
    let world = world().await;
    let (ci, neighbour) = (workload(&world, "ci"), workload(&world, "ci"));
    let mut first = tunnel(&world, Some(&ci), "").await;
    let mut second = tunnel(&world, Some(&neighbour), "").await;
    assert_eq!(scores(&mut first).await, StatusCode::OK);
    assert_eq!(scores(&mut second).await, StatusCode::OK);
    assert_eq!(
        scores(&mut tunnel(&world, Some(&workload(&world, "other")), "").await).await,
        StatusCode::FORBIDDEN
    );
    // Without one the tunnel is there, and says so.
    assert_eq!(scores(&mut tunnel(&world, None, "").await).await, StatusCode::UNAUTHORIZED);
    let body = json!({
        "model": "churn-chat", "stream": true, "max_tokens": 100_000_000_u64,
        "messages": [{"role": "user", "content": "hello"}],
    });
    let chat = Request::post("/v1/chat/completions")
        .header(header::HOST, scoring())
        .header(header::CONTENT_TYPE, "application/json")
        .body(whole(body.to_string()))
        .unwrap();
    let mut streaming = tunnel(&world, Some(&ci), "").await;
    let mut stream = streaming.send_request(chat).await.unwrap();
    stream.frame().await.unwrap().unwrap();

    let list = world.sandbox.mesh().unwrap().revoked(&[&ci], time::Duration::days(1)).unwrap();
    fs::write(world.directory().join("certs/mesh.crl"), list).unwrap();
    world.server.reload().await;
    assert_eq!(scores(&mut first).await, StatusCode::UNAUTHORIZED);
    assert_eq!(scores(&mut second).await, StatusCode::OK);
    while let Some(Ok(_)) = stream.frame().await {}
    world.sandbox.azure.streams().wait_for(0).await;
    drop((first, second, streaming));
    let log = world.stop().await;
    let own = &log.requests()[0]["unmapped"]["amlgate"];
    assert_eq!(log.requests()[0]["actor"]["user"]["uid"], "mesh:spiffe://sandbox.example/ci");
    assert_eq!(own["proof"], "certificate");
    assert!(log.requests().iter().any(|r| r["unmapped"]["amlgate"]["ending"] == "cut"));
}

#[tokio::test]
async fn the_login_host_is_answered_for_a_machine_and_for_nobody_else() {
    let world = world().await;
    let host = "login.microsoftonline.com";
    assert_eq!(ask(&world, Some(&workload(&world, "ci")), host, "").await.0, 200);
    assert_eq!(ask(&world, None, host, "").await.0, 407);
}

#[tokio::test]
async fn a_token_for_a_tunnel_counts_with_what_it_is_bound_to() {
    let world = world().await;
    let ci = workload(&world, "ci");
    let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &der(&ci)));
    let bound = token(&world, "ci", &json!({"cnf": {"x5t#S256": thumbprint}}));
    let lines = format!("Proxy-Authorization: Bearer {bound}\r\n");
    assert_eq!(scores(&mut tunnel(&world, Some(&ci), &lines).await).await, StatusCode::OK);
    assert_eq!(scores(&mut tunnel(&world, None, &lines).await).await, StatusCode::UNAUTHORIZED);
    let other = workload(&world, "other");
    assert_eq!(scores(&mut tunnel(&world, Some(&other), &lines).await).await, StatusCode::UNAUTHORIZED);

    let holder = Holder::new();
    let bound = holder.bound(&world);
    let to = |host: String| json!({"htm": "CONNECT", "htu": format!("https://{host}:443")});
    let lines = |scheme: &str, host: String| {
        let proof = holder.proof(&world, &bound, json!({}), to(host));
        format!("Proxy-Authorization: {scheme} {bound}\r\nDPoP: {proof}\r\n")
    };
    // Once proven, for all that follows in the tunnel.
    let mut proven = tunnel(&world, None, &lines("DPoP", scoring())).await;
    assert_eq!(scores(&mut proven).await, StatusCode::OK);
    assert_eq!(scores(&mut proven).await, StatusCode::OK);
    let elsewhere = lines("DPoP", "management.azure.com".to_owned());
    for lines in [lines("Bearer", scoring()), elsewhere, format!("Proxy-Authorization: DPoP {bound}\r\n")] {
        assert_eq!(
            scores(&mut tunnel(&world, None, &lines).await).await,
            StatusCode::UNAUTHORIZED,
            "{lines}"
        );
    }
}
