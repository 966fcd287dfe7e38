//! Bodies that nobody waits for the end of: answered early, stalled, cut.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    time::{Interval, interval},
};

use crate::{
    peer::{Connection, Count, Peer, head},
    world::{Answer, Caller, Sent, VERSION, World, whole, workspace},
};

const SCORING: &str = "churn.westeurope.inference.ml.azure.com";
const REFUSAL: &[u8] =
    b"HTTP/1.1 413 Payload Too Large\r\ncontent-type: text/plain\r\ncontent-length: 8\r\n\r\ntoo long";

/// A long body that is there at once.
struct Endless {
    piece: Bytes,
    given: Count,
    left: usize,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let Some(left) = self.left.checked_sub(self.piece.len()) else { return Poll::Ready(None) };
        self.left = left;
        self.given.add(self.piece.len());
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }
}

/// So many bytes of body, and a count of those that were taken.
pub fn endless_of(left: usize) -> (Sent, Count) {
    let given = Count::new();
    let body = Endless { piece: Bytes::from(vec![b'x'; 16 << 10]), given: given.clone(), left };
    (body.boxed(), given)
}

fn endless(caller: &Caller<'_>) -> (Request<Sent>, Count) {
    let (body, given) = endless_of(usize::MAX);
    (upload(caller, body), given)
}

pub fn upload(caller: &Caller<'_>, body: Sent) -> Request<Sent> {
    let request = caller.request(Method::POST, "/endpoints/churn/echo");
    request.header("content-type", "application/octet-stream").body(body).unwrap()
}

/// What an upstream does once it has refused.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Closes, and resets whoever goes on sending.
    Closes,
    /// Takes the rest.
    Reads,
    /// Takes nothing.
    Sits,
}

async fn refuse(mut stream: Connection, then: Then, ended: Arc<Notify>) {
    let mut some = vec![0; 64 << 10];
    if !head(&mut stream).await.contains("/health") {
        stream.read_exact(&mut some).await.unwrap();
    }
    stream.write_all(REFUSAL).await.unwrap();
    match then {
        Then::Closes => drop(stream),
        Then::Reads => {
            while stream.read(&mut some).await.is_ok_and(|read| read > 0) {}
            ended.notify_one();
        }
        Then::Sits => std::future::pending().await,
    }
}

#[tokio::test]
async fn an_early_answer_reaches_the_caller_and_ends_the_upload() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for then in [Then::Closes, Then::Reads, Then::Sits] {
            let peer = Peer::new(SCORING, "http/1.1").await;
            let world = peer.as_endpoint(&[]).await;
            let ended = Arc::new(Notify::new());
            let told = Arc::clone(&ended);
            peer.serve(move |stream| refuse(stream, then, Arc::clone(&told)));
            let sam = world.caller("sam");
            let (request, given) = endless(&sam);
            let answer = if version == Version::HTTP_2 {
                let mut sender = world.connect_http2().await;
                let request = by_http2(&world, request);
                let answer = Answer::of(sender.send_request(request).await.unwrap()).await;
                // The connection goes on: only the stream ended.
                let next = sam.request(Method::GET, "/endpoints/churn/health").body(whole("")).unwrap();
                let next = sender.send_request(by_http2(&world, next)).await;
                assert!(next.is_ok(), "{then:?}: {next:?}");
                answer
            } else {
                let answer = sam.send(request).await;
                assert_eq!(answer.header("connection"), "close", "{then:?}: {answer:?}");
                answer
            };
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{version:?} {then:?}: {answer:?}");
            assert_eq!(answer.text(), "too long");
            if matches!(then, Then::Reads) {
                ended.notified().await;
            }
            given.standstill().await;
            let log = world.stop().await;
            let own = log.requests().into_iter().map(|r| &r["unmapped"]["amlgate"]);
            let upload = own.into_iter().find(|own| own["because"].is_string());
            let upload = upload.unwrap_or_else(|| panic!("{version:?} {then:?}: {:#?}", log.requests()));
            assert_eq!(upload["ending"], "completed");
            assert!(upload["because"].as_str().unwrap().contains("before it had the whole body"), "{upload}");
        }
    }
}

/// As HTTP/2 wants its targets.
pub fn by_http2(world: &World, request: Request<Sent>) -> Request<Sent> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove("host");
    parts.uri = format!("https://{}{}", world.host(), parts.uri.path()).parse().unwrap();
    Request::from_parts(parts, body)
}

/// A body that comes bit by bit: so many, and then it ends, or not.
struct Trickle {
    every: Interval,
    left: usize,
    ends: bool,
}

impl Body for Trickle {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let Some(left) = self.left.checked_sub(1) else {
            return if self.ends { Poll::Ready(None) } else { Poll::Pending };
        };
        std::task::ready!(self.every.poll_tick(cx));
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"bit")))))
    }
}

fn trickle(left: usize, ends: bool) -> Sent {
    Trickle { every: interval(Duration::from_millis(250)), left, ends }.boxed()
}

/// Takes whole bodies and then answers.
async fn patient(mut stream: Connection, taken: Count) {
    head(&mut stream).await;
    let (mut some, mut end) = (vec![0; 64 << 10], Vec::new());
    while !end.ends_with(b"0\r\n\r\n") {
        match stream.read(&mut some).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                taken.add(read);
                end.extend_from_slice(&some[..read]);
                end.drain(..end.len().saturating_sub(5));
            }
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ntaken").await.unwrap();
}

/// A gate before such an upstream.
async fn before_a_patient_one(timeouts: &str) -> World {
    let peer = Peer::new(SCORING, "http/1.1").await;
    let timeouts = format!("timeouts: {{{timeouts}}}\npolicies: policies/");
    let world = peer.as_endpoint(&[("policies: policies/", &timeouts)]).await;
    peer.serve(|stream| patient(stream, Count::new()));
    world
}

#[tokio::test]
async fn a_body_may_take_longer_than_an_answer_as_long_as_it_comes() {
    let world = before_a_patient_one("upstream_head: 1s").await;
    let sam = world.caller("sam");
    let answer = sam.send(upload(&sam, trickle(9, true))).await;
    assert_eq!((answer.status, &*answer.text()), (StatusCode::OK, "taken"), "{answer:?}");
}

#[tokio::test]
async fn a_body_that_stops_is_a_408_whether_it_streams_or_is_judged() {
    let world = before_a_patient_one("idle: 1s").await;
    let sam = world.caller("sam");
    let answer = sam.send(upload(&sam, trickle(2, false))).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{answer:?}");
    let judged = sam.request(Method::PUT, &workspace(&format!("/jobs/first?{VERSION}")));
    let judged = judged.header("content-type", "application/json").body(trickle(2, false)).unwrap();
    let answer = sam.send(judged).await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], "RequestTimeout");
    let log = world.stop().await;
    let own: Vec<_> = log.requests().into_iter().map(|r| &r["unmapped"]["amlgate"]).collect();
    let said = |what: &str, text: &str| own.iter().any(|own| own[what].to_string().contains(text));
    assert!(said("because", "the caller sent nothing more of the body"), "{own:#?}");
    assert!(said("denial", "nothing more came of the body"), "{own:#?}");
}

#[tokio::test]
async fn an_upload_is_cut_when_the_policies_no_longer_allow_it() {
    let world = before_a_patient_one("idle: 60s").await;
    let sam = world.caller("sam");
    let (request, given) = endless(&sam);
    let mut sender = world.connect().await;
    let sending = tokio::spawn(async move { sender.send_request(request).await.map(|r| r.status()) });
    given.reaches(1 << 20).await;
    let file = world.directory().join("policies/sandbox.yaml");
    std::fs::write(&file, "version: 1\nallow: []\n").unwrap();
    assert_eq!(sending.await.unwrap().unwrap(), StatusCode::FORBIDDEN);
    given.standstill().await;
    let log = world.stop().await;
    let last = &log.requests().into_iter().next_back().unwrap()["unmapped"]["amlgate"];
    assert_eq!(last["ending"], "cut", "{last}");
    assert!(last["because"].as_str().unwrap().contains("no longer allow it"), "{last}");
}
