//! Plain `http://` by its absolute URL: for the hosts that routes name in plaintext, and no other.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    forward::{ask, basic, token},
    world::{Changes, World},
};

const HOST: &str = "tracking.example:5000";
const POLICIES: &str = "version: 1
subjects: {scientists: [{issuer: sandbox, group: data-science}]}
allow:
  - {name: tracking is read and written, who: [scientists], routes: [tracking], methods: [GET, POST], path: '/api/**'}
";

type Seen = Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>;

/// A tracking server that says back what it got.
async fn upstream() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request: Request<Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    kept.lock().unwrap().push((head, body.clone()));
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(body)))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, seen)
}

async fn world(more: &str) -> (World, Seen) {
    let (address, seen) = upstream().await;
    let route = format!(
        "  - {{name: tracking, upstream: \"http://{HOST}\", protocol: http, address: \"{address}\"}}\n  - name: storage"
    );
    let forward = format!("{more}    interception_ca:");
    let configuration = [("  - name: storage", route.as_str()), ("    interception_ca:", &forward)];
    let changes = Changes { configuration: &configuration, policies: Some(POLICIES) };
    (World::changed(changes).await, seen)
}

/// What the gate answers to these bytes.
async fn send(world: &World, text: &str) -> String {
    let mut stream = TcpStream::connect(world.server.forward().unwrap()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // What is refused may be cut off before it is read whole.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8(answer).unwrap()
}

fn get(url: &str, version: &str, lines: &str) -> String {
    format!("GET {url} HTTP/{version}\r\nConnection: close\r\n{lines}\r\n")
}

#[tokio::test]
async fn a_host_that_a_route_names_in_plaintext_is_judged_and_recorded_and_sees_no_token() {
    let (world, seen) = world("").await;
    let sam = basic(&token(&world, "sam"));
    let url = format!("http://{HOST}/api/runs?x=1");
    let post = format!(
        "POST {url} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nAuthorization: Bearer canary\r\nContent-Length: 5\r\n{sam}\r\nhello"
    );
    let answer = send(&world, &post).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    // As old clients ask: HTTP/1.0, no `Host`.
    let old = send(&world, &get(&url, "1.0", &sam)).await;
    assert!(old.contains(" 200 "), "{old}");
    {
        let seen = seen.lock().unwrap();
        let (head, body) = &seen[0];
        assert_eq!((head.uri.to_string().as_str(), &body[..]), ("/api/runs?x=1", &b"hello"[..]));
        assert_eq!(head.headers["host"], HOST);
        assert!(seen.iter().all(|(head, _)| {
            head.headers.keys().all(|name| name != "authorization" && !name.as_str().starts_with("proxy"))
        }));
    }
    // Rita is nobody there, and nobody writes elsewhere.
    let refused =
        send(&world, &get(&url, "1.1", &format!("Host: {HOST}\r\n{}", basic(&token(&world, "rita"))))).await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    let elsewhere = get(&format!("http://{HOST}/admin"), "1.1", &format!("Host: {HOST}\r\n{sam}"));
    assert!(send(&world, &elsewhere).await.starts_with("HTTP/1.1 403"));
    assert_eq!(seen.lock().unwrap().len(), 2);
    let log = world.stop().await;
    let mut callers: Vec<_> = log.requests().iter().map(|r| r["actor"]["user"]["uid"].to_string()).collect();
    callers.dedup();
    assert_eq!(callers, ["\"sandbox:user-sam\"", "\"sandbox:user-rita\"", "\"sandbox:user-sam\""]);
}

#[tokio::test]
async fn every_other_form_of_it_is_refused_with_its_reason() {
    let (world, seen) = world("").await;
    let sam = basic(&token(&world, "sam"));
    let host = |host: &str| format!("Host: {host}\r\n{sam}");
    for (request, status, says) in [
        (
            get("http://tracking.example/api/runs", "1.1", &host("tracking.example")),
            403,
            "no route of the gate",
        ),
        (
            get("http://other.example:5000/api/runs", "1.1", &host("other.example:5000")),
            403,
            "`other.example`",
        ),
        (get(&format!("http://{HOST}/api/runs"), "1.1", &format!("Host: {HOST}\r\n")), 407, "HTTPS_PROXY="),
        (get(&format!("http://{HOST}/api/runs"), "1.1", &host("other.example")), 400, ""),
        (
            get(&format!("http://{HOST}/api/runs"), "1.1", &format!("Metadata: true\r\n{}", host(HOST))),
            403,
            "identity",
        ),
        (get(&format!("https://{HOST}/api/runs"), "1.1", &host(HOST)), 400, "CONNECT"),
        (get(&format!("http://u@{HOST}/api/runs"), "1.1", &host(HOST)), 400, ""),
        (get("http://127.0.0.1:5000/api/runs", "1.1", &host("127.0.0.1:5000")), 403, "loopback"),
    ] {
        let answer = send(&world, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(says),
            "{request}{answer}"
        );
    }
    // Plaintext is asked for by its URL: there is no tunnel to it.
    let (status, ..) = ask(&world, HOST, "1.1", &sam).await;
    assert_eq!(status, 403);
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn with_inner_identities_the_requests_own_bearer_says_who_asks() {
    let (world, seen) = world("    identity: [inner]\n").await;
    let url = format!("http://{HOST}/api/runs");
    let bearer = format!("Host: {HOST}\r\nAuthorization: Bearer {}\r\n", token(&world, "sam"));
    let answer = send(&world, &get(&url, "1.1", &bearer)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(seen.lock().unwrap().iter().all(|(head, _)| !head.headers.contains_key("authorization")));
    let nobody = send(&world, &get(&url, "1.1", &format!("Host: {HOST}\r\n"))).await;
    assert!(nobody.starts_with("HTTP/1.1 401"), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_asks_for_plaintext_through_the_relay_and_its_word_ends_there() {
    let (world, seen) = world("").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, token(&world, "sam")).unwrap();
    let (address, word, _stop) = crate::client::relay(&world, amlgate::client::Source::File(file)).await;
    let basic = basic(&word);
    let request = format!(
        "POST http://{HOST}/api/runs HTTP/1.1\r\nHost: {HOST}\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nX-Kept: 1\r\nContent-Length: 5\r\n{basic}\r\nhello"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    let seen = seen.lock().unwrap();
    let headers = &seen[0].0.headers;
    assert!(headers.contains_key("x-kept") && !headers.contains_key("x-hop"), "{headers:?}");
    assert!(!format!("{headers:?}").contains(&word));
}
