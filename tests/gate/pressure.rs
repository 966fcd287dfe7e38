//! Back-pressure: whoever takes nothing holds up whoever sends, and nobody else.

use http::{Method, Request, StatusCode, Version};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    early::{by_http2, endless_of, upload},
    peer::{Connection, Count, Peer, head},
    world::{Answer, Sent, World, whole},
};

const SCORING: &str = "churn.westeurope.inference.ml.azure.com";
/// More than all buffers on the way: the gate's, and the systems' of four sockets.
const ALL: usize = 160 << 20;
const HELD: u64 = 96 << 20;

/// Sends a long answer as fast as it is taken.
async fn floods(mut stream: Connection, sent: Count) {
    if head(&mut stream).await.contains("/health") {
        return healthy(stream).await;
    }
    let length = format!("HTTP/1.1 200 OK\r\ncontent-length: {ALL}\r\n\r\n");
    stream.write_all(length.as_bytes()).await.unwrap();
    let piece = vec![b'x'; 64 << 10];
    for _ in 0..ALL / piece.len() {
        if stream.write_all(&piece).await.is_err() {
            return;
        }
        sent.add(piece.len());
    }
    stream.flush().await.unwrap();
    // The gate ends it, or keeps it for the next.
    let _ = stream.read(&mut [0]).await;
}

async fn healthy(mut stream: Connection) {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    let _ = stream.read(&mut [0]).await;
}

fn health(world: &World, version: Version) -> Request<Sent> {
    let request =
        world.caller("sam").request(Method::GET, "/endpoints/churn/health").body(whole("")).unwrap();
    if version == Version::HTTP_2 { by_http2(world, request) } else { request }
}

#[tokio::test]
async fn a_slow_reader_holds_up_the_upstream_and_no_neighbour_on_its_connection() {
    let peer = Peer::new(SCORING, "http/1.1").await;
    let world = peer.as_endpoint(&[]).await;
    let sent = Count::new();
    let counted = sent.clone();
    peer.serve(move |stream| floods(stream, counted.clone()));
    let mut sender = world.connect_http2().await;
    let request = world.caller("sam").request(Method::GET, "/endpoints/churn/flood").body(whole("")).unwrap();
    let mut response = sender.send_request(by_http2(&world, request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let held = sent.standstill().await;
    assert!(held < HELD, "{held} bytes were taken of an answer that nobody reads");
    let neighbour = Answer::of(sender.send_request(health(&world, Version::HTTP_2)).await.unwrap()).await;
    assert_eq!(neighbour.text(), "ok");
    // Read at last, it is all there.
    let mut read = 0;
    while let Some(frame) = response.frame().await {
        read += frame.unwrap().data_ref().map_or(0, bytes::Bytes::len);
    }
    assert_eq!(read, ALL);
}

/// Takes a long body only when it is told to, and answers how long it was.
async fn slow(mut stream: Connection, go: std::sync::Arc<tokio::sync::Notify>) {
    if head(&mut stream).await.contains("/health") {
        return healthy(stream).await;
    }
    go.notified().await;
    let (mut some, mut end, mut read) = (vec![0; 256 << 10], Vec::new(), 0);
    while !end.ends_with(b"0\r\n\r\n") {
        let now = stream.read(&mut some).await.unwrap();
        read += some[..now].iter().filter(|byte| **byte == b'x').count();
        end.extend_from_slice(&some[..now]);
        end.drain(..end.len().saturating_sub(5));
    }
    let read = read.to_string();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{read}", read.len());
    stream.write_all(answer.as_bytes()).await.unwrap();
    let _ = stream.read(&mut [0]).await;
}

#[tokio::test]
async fn a_slow_upstream_holds_up_the_caller_and_no_neighbour_on_its_connection() {
    let peer = Peer::new(SCORING, "http/1.1").await;
    let world = peer.as_endpoint(&[]).await;
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = std::sync::Arc::clone(&go);
    peer.serve(move |stream| slow(stream, std::sync::Arc::clone(&told)));
    let sam = world.caller("sam");
    let mut sender = world.connect_http2().await;
    let (body, given) = endless_of(ALL);
    let answer = sender.send_request(by_http2(&world, upload(&sam, body)));
    let answer = tokio::spawn(async move { Answer::of(answer.await.unwrap()).await });
    given.reaches(1).await;
    let held = given.standstill().await;
    assert!(held < HELD, "{held} bytes were taken of a body that nobody reads");
    let neighbour = Answer::of(sender.send_request(health(&world, Version::HTTP_2)).await.unwrap()).await;
    assert_eq!(neighbour.text(), "ok");
    go.notify_one();
    assert_eq!(answer.await.unwrap().text(), ALL.to_string());
}

/// Sends an endless answer over HTTP/2, as far as the windows go.
async fn floods_by_http2(stream: Connection, sent: Count) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let sent = sent.clone();
        tokio::spawn(async move {
            let flood = request.uri().path().contains("/jobs/flood");
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            if !flood {
                body.send_data("ok".into(), true).unwrap();
                return;
            }
            let piece = bytes::Bytes::from(vec![b'x'; 64 << 10]);
            for n in 1..=ALL / piece.len() {
                body.reserve_capacity(piece.len());
                while body.capacity() < piece.len() {
                    if !matches!(std::future::poll_fn(|cx| body.poll_capacity(cx)).await, Some(Ok(_))) {
                        return;
                    }
                }
                if body.send_data(piece.clone(), n == ALL / piece.len()).is_err() {
                    return;
                }
                sent.add(piece.len());
            }
        });
    }
}

#[tokio::test]
async fn an_answer_over_http2_is_held_within_its_window_and_its_neighbours_flow() {
    let peer = Peer::new("management.azure.com", "h2").await;
    let world = peer.as_arm(&[]).await;
    let sent = Count::new();
    let counted = sent.clone();
    peer.serve(move |stream| floods_by_http2(stream, counted.clone()));
    let sam = world.caller("sam");
    let target = crate::world::workspace("/jobs/flood?api-version=2025-12-01");
    let mut sender = world.connect().await;
    let request = sam.request(Method::GET, &target).body(whole("")).unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    let held = sent.standstill().await;
    assert!(held < HELD, "{held} bytes were taken of an answer that nobody reads");
    let other = sam.get(&crate::world::workspace("/jobs/other?api-version=2025-12-01")).await;
    assert_eq!(other.text(), "ok", "{other:?}");
    let mut read = 0;
    while let Some(frame) = response.frame().await {
        read += frame.unwrap().data_ref().map_or(0, bytes::Bytes::len);
    }
    assert_eq!(read, ALL);
}
