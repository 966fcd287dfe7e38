//! `identity: [inner]`: a tunnel is dug for nobody, and the first request in it says whose it is.

use std::{sync::Arc, time::Duration};

use amlgate::time::{Clock as _, ManualClock, SystemClock};
use http::{Request, StatusCode, header};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{
    forward::{Tunnel, ask, jobs, token, trusting},
    world::{Changes, World},
};

const ARM: &str = "management.azure.com";
const INNER: &[(&str, &str)] = &[("    interception_ca:", "    identity: [inner]\n    interception_ca:")];

async fn world(clock: ManualClock) -> World {
    World::at(Changes { configuration: INNER, ..Changes::default() }, Arc::new(clock)).await
}

async fn dug(world: &World) -> (u16, String, TcpStream) {
    ask(world, &format!("{ARM}:443"), "1.1", &format!("Host: {ARM}:443\r\n")).await
}

async fn inside(world: &World) -> TlsStream<TcpStream> {
    let (status, head, stream) = dug(world).await;
    assert_eq!(status, 200, "{head}");
    trusting(world, b"http/1.1").connect(ServerName::try_from(ARM).unwrap(), stream).await.unwrap()
}

fn bearing(world: &World, name: &str) -> http::request::Builder {
    Request::get(jobs()).header(header::AUTHORIZATION, format!("Bearer {}", token(world, name)))
}

#[tokio::test]
async fn the_bearer_inside_says_whose_the_tunnel_is_and_goes_no_further() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let world = world(clock.clone()).await;
    let mut sam = Tunnel::over(inside(&world).await, ARM).await;
    assert_eq!(sam.send(bearing(&world, "sam"), "").await.status, StatusCode::OK);
    // Once it is somebody's it may be quiet.
    clock.advance(Duration::from_secs(30));
    assert_eq!(sam.send(bearing(&world, "sam"), "").await.status, StatusCode::OK);
    // Each request says so anew: what another token may not, it may not here.
    assert_eq!(sam.get(&jobs()).await.status, StatusCode::UNAUTHORIZED);
    let seen = world.sandbox.azure.observer().seen_at("/jobs");
    let ours = token(&world, "sam");
    assert!(seen.iter().all(|request| !format!("{request:?}").contains(&ours)));
    drop(sam);
    let log = world.stop().await;
    // Who is not known has no record of their own, but counts among the refusals of their peer.
    let known: Vec<_> = log.requests().iter().filter_map(|r| r["actor"]["user"]["uid"].as_str()).collect();
    assert!(known.len() >= 2 && known.iter().all(|user| *user == "sandbox:user-sam"), "{known:?}");
}

#[tokio::test]
async fn one_request_that_does_not_say_it_ends_the_tunnel() {
    let world = world(ManualClock::starting_at(SystemClock.now())).await;
    let mut stream = inside(&world).await;
    let request = format!("GET {} HTTP/1.1\r\nHost: {ARM}\r\n\r\n", jobs());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // It comes to an end without the client's asking for one.
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("AuthenticationFailed"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
}

#[tokio::test]
async fn nobodys_tunnels_are_few_and_short() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let world = world(clock.clone()).await;
    let mut waiting = Vec::new();
    for _ in 0..64 {
        waiting.push(inside(&world).await);
    }
    let (status, head, _) = dug(&world).await;
    assert_eq!(status, 407, "{head}");
    // Who becomes known makes room.
    let mut known = Tunnel::over(waiting.pop().unwrap(), ARM).await;
    assert_eq!(known.send(bearing(&world, "sam"), "").await.status, StatusCode::OK);
    waiting.push(inside(&world).await);
    assert_eq!(dug(&world).await.0, 407);
    // Patience ends for all others, and for them alone.
    clock.advance(Duration::from_secs(11));
    for mut stream in waiting {
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
        assert!(rest.is_empty());
    }
    assert_eq!(known.send(bearing(&world, "sam"), "").await.status, StatusCode::OK);
    assert_eq!(dug(&world).await.0, 200);
}
