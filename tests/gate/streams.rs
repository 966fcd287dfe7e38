//! What flows: events, upgrades, large bodies; and who hangs up.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{Caller, Changes, Sent, World, whole};

const ENDLESS: u64 = 100_000_000;

/// A body of one piece again and again.
struct Repeated {
    piece: Bytes,
    left: usize,
}

impl Body for Repeated {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        Poll::Ready(left.map(|_| Ok(Frame::data(self.piece.clone()))))
    }
}

fn chat(caller: &Caller<'_>, words: u64) -> http::Request<Sent> {
    let body = json!({
        "model": "churn-chat", "stream": true, "max_tokens": words,
        "messages": [{"role": "user", "content": "hello"}],
    });
    caller
        .request(Method::POST, "/endpoints/churn/v1/chat/completions")
        .header("content-type", "application/json")
        .body(whole(body.to_string()))
        .unwrap()
}

fn endings(log: &crate::world::Log) -> Vec<String> {
    let ending = |r: &&serde_json::Value| r["unmapped"]["amlgate"]["ending"].as_str().map(ToOwned::to_owned);
    log.requests().iter().filter_map(ending).collect()
}

#[tokio::test]
async fn events_arrive_as_they_are_sent() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let response = sam.open(chat(&sam, 5)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = crate::world::Answer::of(response).await.text();
    assert_eq!(text.matches("data: {").count(), 5, "{text}");
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert_eq!(endings(&world.stop().await), ["completed"]);
}

#[tokio::test]
async fn a_caller_who_hangs_up_ends_the_stream_and_the_record_says_so() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let mut response = sam.open(chat(&sam, ENDLESS)).await;
    let first = response.frame().await.unwrap().unwrap();
    assert!(first.data_ref().unwrap().starts_with(b"data: {"));
    world.sandbox.azure.streams().wait_for(1).await;
    drop(response);
    world.sandbox.azure.streams().wait_for(0).await;
    assert_eq!(endings(&world.stop().await), ["client_gone"]);
}

#[tokio::test]
async fn a_stream_ends_when_the_policies_no_longer_allow_it() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let mut response = sam.open(chat(&sam, ENDLESS)).await;
    response.frame().await.unwrap().unwrap();
    let file = world.directory().join("policies/sandbox.yaml");
    std::fs::write(&file, "version: 1\nallow: []\n").unwrap();
    // Read on, as a caller does, until the gate ends it.
    let mut read = 0_u64;
    while let Some(Ok(frame)) = response.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len) as u64;
    }
    assert!(read > 0);
    world.sandbox.azure.streams().wait_for(0).await;
    assert_eq!(endings(&world.stop().await), ["cut"]);
}

#[tokio::test]
async fn a_broken_policy_file_changes_nothing() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let mut response = sam.open(chat(&sam, ENDLESS)).await;
    let file = world.directory().join("policies/sandbox.yaml");
    let mut generations = world.server.parts().policies.status().generation;
    std::fs::write(&file, "version: 1\nallow: [{name: x}]\n").unwrap();
    // The refusal is counted while the stream goes on.
    while world.server.parts().policies.status().problems.is_empty() {
        response.frame().await.unwrap().unwrap();
    }
    assert_eq!(world.server.parts().policies.status().generation, generations);
    let other = sam.get("/endpoints/churn/").await;
    assert_eq!(other.status, StatusCode::OK, "{other:?}");
    // Mended, it is taken up.
    std::fs::write(&file, "version: 1\nallow: []\n").unwrap();
    while let Some(Ok(_)) = response.frame().await {}
    generations += 1;
    assert_eq!(world.server.parts().policies.status().generation, generations);
    assert_eq!(sam.get("/endpoints/churn/").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_websocket_flows_both_ways_and_has_two_records() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let request = sam
        .request(Method::GET, "/endpoints/churn/ws")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(whole(""))
        .unwrap();
    let response = sam.open(request).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{response:?}");
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    // A masked text frame, "Hello" (RFC 6455, 5.7).
    stream.write_all(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]).await.unwrap();
    let mut echoed = [0; 7];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"\x81\x05Hello");
    // A close frame, masked with zeros.
    stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    drop(stream);
    assert_eq!(endings(&world.stop().await), ["established", "ended"]);
}

#[tokio::test]
async fn a_large_body_comes_back_byte_for_byte() {
    let world = World::new().await;
    let sam = world.caller("sam");
    let piece = Bytes::from((0..=255_u8).cycle().take(64 << 10).collect::<Vec<_>>());
    let count = 256_usize;
    let body = Repeated { piece: piece.clone(), left: count }.boxed();
    let request = sam
        .request(Method::POST, "/endpoints/churn/echo")
        .header("content-type", "application/octet-stream")
        .body(body)
        .unwrap();
    let mut response = sam.open(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut at = 0_usize;
    while let Some(frame) = response.frame().await {
        for byte in frame.unwrap().data_ref().unwrap() {
            assert_eq!(usize::from(*byte), at % 256);
            at += 1;
        }
    }
    assert_eq!(at, count * piece.len());
}

#[tokio::test]
async fn a_stop_waits_for_what_is_under_way_and_takes_nothing_new() {
    let changes = [("policies: policies/", "timeouts: {drain: 20s}\npolicies: policies/")];
    let world = World::changed(Changes { configuration: &changes, ..Changes::default() }).await;
    let sam = world.caller("sam");
    let mut response = sam.open(chat(&sam, 2_000)).await;
    response.frame().await.unwrap().unwrap();
    let address = world.server.reverse().unwrap();
    let World { sandbox, server, dir, .. } = world;
    let stopping = tokio::spawn(server.stop());
    let mut read = Vec::new();
    while let Some(frame) = response.frame().await {
        read.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    assert!(read.ends_with(b"data: [DONE]\n\n"), "the stream came to its own end");
    assert!(stopping.await.unwrap(), "nothing was cut off");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    drop((sandbox, dir));
}
