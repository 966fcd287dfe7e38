//! Each kind of thing that lasts: how it is opened, how it is seen to flow, and how to end.

use std::{io, time::Duration};

use amlgate::sandbox::azure::names;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, request::Builder};
use http_body_util::{BodyExt as _, Channel, channel::Sender};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::upstream::{Line, PIECE, Upstream, event, logged, piece};
use crate::{
    forward::{Tunnel, ask, basic, inside_with, jobs},
    world::{Answer, Sent, World, whole},
};

/// Long enough for a machine that is busy with other tests; a cut takes half a second.
const SOON: Duration = Duration::from_secs(20);
pub const UNTOUCHED: &str = "untouched.example";
const ARM: &str = "management.azure.com";

/// Everything that lasts.
pub const KINDS: [&str; 17] = [
    // First: the connection waits for its first request only so long.
    "events of one of two streams on an HTTP/2 connection",
    "a shell in a pod",
    "a forwarded port over SPDY",
    "a forwarded port over WebSocket",
    "a watch, silent between events",
    "a pod's log, followed",
    "a websocket",
    "a websocket in a tunnel",
    "a tunnel that passes untouched",
    "events",
    "events in a tunnel",
    "a download",
    "an upload",
    "a read that waits for its answer",
    "a prediction that waits for its answer",
    "a write that waits for its answer",
    "a tunnel between two requests",
];

pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Something under way.
pub enum Live {
    /// It says back what it hears.
    Echo { stream: Box<dyn Duplex>, says: &'static [u8], hears: &'static [u8] },
    /// An answer without an end; some come on only when something happens.
    Endless { body: Incoming, content: Content, happens: Option<watch::Sender<usize>> },
    /// A body without an end, and what comes of it.
    Upload { body: Sender<Bytes, io::Error>, sent: usize, path: String, upstream: Upstream, answer: Awaited },
    /// A call that has no answer yet.
    Call { path: String, upstream: Upstream, answer: Awaited },
    /// Each request in it is one of its own.
    Kept(Tunnel),
}

type Awaited = JoinHandle<Result<Response<Incoming>, hyper::Error>>;

/// What an answer consists of, as far as it has come: no byte may be missing.
pub enum Content {
    /// Pieces.
    Pieces(usize),
    /// Events of a chat, each a word of three, and what came of the next one.
    Words(usize, String),
    /// Lines, each with its number: the last one's, what came of the next one, and how they are written.
    Lines(usize, String, Line),
}

impl Content {
    fn words() -> Self {
        Self::Words(0, String::new())
    }

    fn continues(&mut self, bytes: &[u8]) {
        match self {
            Self::Pieces(at) => {
                let pattern = [piece(), piece()].concat();
                for part in bytes.chunks(PIECE) {
                    let place = *at % 251;
                    assert!(part == &pattern[place..place + part.len()], "a byte is missing behind {at}");
                    *at += part.len();
                }
            }
            Self::Words(count, rest) => {
                rest.push_str(std::str::from_utf8(bytes).unwrap());
                let (events, next) = rest.rsplit_once("\n\n").unwrap_or(("", rest));
                for event in events.split("\n\n").filter(|event| !event.is_empty()) {
                    let word = ["\"You \"", "\"said: \"", "\"hello \""][*count % 3];
                    assert!(event.starts_with("data: {") && event.contains(word), "{word}, not {event}");
                    *count += 1;
                }
                *rest = next.to_owned();
            }
            Self::Lines(last, rest, line) => {
                rest.push_str(std::str::from_utf8(bytes).unwrap());
                let (lines, next) = rest.rsplit_once('\n').unwrap_or(("", rest));
                for found in lines.lines() {
                    *last += 1;
                    assert_eq!(found, line(*last).trim_end());
                }
                *rest = next.to_owned();
            }
        }
    }
}

impl Live {
    fn raw(stream: impl Duplex + 'static) -> Self {
        Self::Echo { stream: Box::new(stream), says: b"hello", hears: b"hello" }
    }

    /// A text frame, masked there and bare on its way back (RFC 6455, 5.7).
    fn websocket(stream: impl Duplex + 'static) -> Self {
        let says = &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        Self::Echo { stream: Box::new(stream), says, hears: b"\x81\x05Hello" }
    }

    fn endless(response: Response<Incoming>, content: Content) -> Self {
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        Self::Endless { body: response.into_body(), content, happens: None }
    }

    /// What comes a line at a time, as something happens upstream.
    fn lines(response: Response<Incoming>, line: Line, upstream: &Upstream) -> Self {
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        let content = Content::Lines(0, String::new(), line);
        Self::Endless { body: response.into_body(), content, happens: Some(upstream.happens.clone()) }
    }

    /// It is under way.
    pub async fn flows(&mut self, what: &str) {
        match self {
            Self::Echo { stream, says, hears } => {
                stream.write_all(says).await.unwrap();
                let mut heard = vec![0; hears.len()];
                let read = timeout(SOON, stream.read_exact(&mut heard)).await.unwrap();
                read.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(heard, *hears, "{what}");
            }
            Self::Endless { body, content, happens } => {
                if let Some(happens) = happens {
                    happens.send_modify(|count| *count += 1);
                }
                let frame = timeout(SOON, body.frame()).await.unwrap();
                let frame = frame.unwrap_or_else(|| panic!("{what} is at its end"));
                let frame = frame.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                content.continues(&frame.into_data().unwrap());
            }
            Self::Upload { body, sent, path, upstream, .. } => {
                body.send_data(piece()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                *sent += PIECE;
                timeout(SOON, upstream.hears(path, *sent)).await.unwrap_or_else(|_| panic!("{what}"));
            }
            Self::Call { path, upstream, answer } => {
                timeout(SOON, upstream.hears(path, 0)).await.unwrap_or_else(|_| panic!("{what}"));
                assert!(!answer.is_finished(), "{what}");
            }
            Self::Kept(tunnel) => {
                let answer = tunnel.get(&jobs()).await;
                assert_eq!(answer.status, StatusCode::OK, "{what}: {answer:?}");
            }
        }
    }

    /// It comes to an end that is none of its own.
    pub async fn ends(&mut self, what: &str) {
        let ended = timeout(SOON, async {
            match self {
                Self::Echo { stream, .. } => {
                    let mut rest = Vec::new();
                    // A reset is an end too.
                    drop(stream.read_to_end(&mut rest).await);
                    assert!(rest.is_empty(), "{what}: {rest:?}");
                }
                Self::Endless { body, content, .. } => loop {
                    match body.frame().await {
                        Some(Ok(frame)) => content.continues(&frame.into_data().unwrap()),
                        Some(Err(_)) => break,
                        None => panic!("{what} ends as if it were whole"),
                    }
                },
                Self::Upload { body, answer, .. } => {
                    while body.send_data(piece()).await.is_ok() {}
                    // Whoever is in the midst of sending may not come to read why.
                    if let Ok(answer) = answer.await.unwrap() {
                        says_why(what, &Answer::of(answer).await);
                    }
                }
                Self::Call { answer, .. } => {
                    says_why(what, &Answer::of(answer.await.unwrap().unwrap()).await)
                }
                Self::Kept(tunnel) => {
                    let status = tunnel.get(&jobs()).await.status;
                    assert!(matches!(status.as_u16(), 401 | 403), "{what}: {status}");
                }
            }
        });
        assert!(ended.await.is_ok(), "{what} goes on");
    }

    /// It comes to its own end, whole; what has none is left.
    pub async fn finishes(self, what: &str) {
        let (answer, bytes) = match self {
            Self::Upload { body, answer, sent, .. } => {
                drop(body);
                (answer, sent)
            }
            Self::Call { answer, .. } => (answer, 0),
            Self::Echo { .. } | Self::Endless { .. } | Self::Kept(_) => return,
        };
        let answer = Answer::of(timeout(SOON, answer).await.unwrap().unwrap().unwrap()).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, bytes.to_string()), "{what}");
    }
}

fn says_why(what: &str, answer: &Answer) {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what}: {answer:?}");
    assert!(answer.text().contains("was cut off"), "{what}: {answer:?}");
}

/// What one person opens: `name` tells the two apart, `shared` is a connection of both.
pub struct Opener<'w> {
    pub world: &'w World,
    pub upstream: &'w Upstream,
    pub name: &'static str,
    pub token: &'w str,
    pub shared: SendRequest<Sent>,
}

impl Opener<'_> {
    pub async fn open(&self, kind: &str) -> Live {
        let Self { world, upstream, name, token, .. } = *self;
        let caller = world.bearing(token);
        let endpoint = format!("{}.{}.inference.ml.azure.com", names::ENDPOINT, names::REGION);
        match kind {
            "a shell in a pod" => {
                let path = "/clusters/prod/api/v1/namespaces/ml/pods/p/exec?command=sh&stdin=true";
                let request = upgrade(caller.request(Method::POST, path), "SPDY/3.1");
                Live::raw(switched(caller.open(request).await).await)
            }
            "a forwarded port over SPDY" => {
                let path = "/clusters/prod/api/v1/namespaces/ml/pods/p/portforward";
                let request = upgrade(caller.request(Method::POST, path), "SPDY/3.1");
                Live::raw(switched(caller.open(request).await).await)
            }
            "a forwarded port over WebSocket" => {
                let path = "/clusters/prod/api/v1/namespaces/ml/pods/p/portforward?ports=8080";
                let request = caller.request(Method::GET, path);
                let streams = "SPDY/3.1+portforward.k8s.io";
                let request = upgrade(request.header("sec-websocket-protocol", streams), "websocket");
                Live::raw(switched(caller.open(request).await).await)
            }
            "a watch, silent between events" => {
                let path = "/clusters/prod/api/v1/namespaces/ml/pods?watch=true&allowWatchBookmarks=true";
                let request = caller.request(Method::GET, path).body(whole("")).unwrap();
                Live::lines(caller.open(request).await, event, upstream)
            }
            "a pod's log, followed" => {
                let path = "/clusters/prod/api/v1/namespaces/ml/pods/p/log?follow=true";
                let request = caller.request(Method::GET, path).body(whole("")).unwrap();
                Live::lines(caller.open(request).await, logged, upstream)
            }
            "a websocket" => {
                let request = upgrade(caller.request(Method::GET, "/endpoints/churn/ws"), "websocket");
                Live::websocket(switched(caller.open(request).await).await)
            }
            "a websocket in a tunnel" => {
                let request = upgrade(Request::get("/ws").header(header::HOST, &endpoint), "websocket");
                Live::websocket(switched(self.inside(&endpoint, request).await).await)
            }
            "a tunnel that passes untouched" => {
                let (status, head, stream) =
                    ask(world, &format!("{UNTOUCHED}:443"), "1.1", &basic(token)).await;
                assert_eq!(status, 200, "{head}");
                Live::raw(stream)
            }
            "events" => {
                let request = chat(caller.request(Method::POST, "/endpoints/churn/v1/chat/completions"));
                Live::endless(caller.open(request).await, Content::words())
            }
            "events in a tunnel" => {
                let request = chat(Request::post("/v1/chat/completions").header(header::HOST, &endpoint));
                Live::endless(self.inside(&endpoint, request).await, Content::words())
            }
            "events of one of two streams on an HTTP/2 connection" => {
                let url = format!("https://{}/endpoints/churn/v1/chat/completions", world.host());
                let bearer = format!("Bearer {token}");
                let request = chat(Request::post(url).header(header::AUTHORIZATION, bearer));
                let answer = self.shared.clone().send_request(request).await.unwrap();
                Live::endless(answer, Content::words())
            }
            "a download" => {
                let request = caller.request(Method::GET, "/depot/download").body(whole("")).unwrap();
                Live::endless(caller.open(request).await, Content::Pieces(0))
            }
            "an upload" => {
                let (body, channel) = Channel::new(1);
                let path = format!("/upload/{name}");
                let request = caller.request(Method::PUT, &format!("/depot{path}"));
                let answer = self.sends(request.body(channel.boxed()).unwrap()).await;
                Live::Upload { body, sent: 0, path, upstream: upstream.clone(), answer }
            }
            "a read that waits for its answer" => self.call(Method::GET, "/depot", "/read").await,
            "a prediction that waits for its answer" => self.call(Method::POST, "/model", "/score").await,
            "a write that waits for its answer" => self.call(Method::POST, "/depot", "/write").await,
            "a tunnel between two requests" => Live::Kept(Tunnel::with(world, token, ARM).await),
            other => panic!("{other}"),
        }
    }

    async fn call(&self, method: Method, route: &str, path: &str) -> Live {
        let path = format!("{path}/{}", self.name);
        let request = self.world.bearing(self.token).request(method, &format!("{route}{path}"));
        let answer = self.sends(request.body(whole("")).unwrap()).await;
        Live::Call { path, upstream: self.upstream.clone(), answer }
    }

    async fn sends(&self, request: Request<Sent>) -> Awaited {
        let mut connection = self.world.connect().await;
        tokio::spawn(async move { connection.send_request(request).await })
    }

    /// What a request in a tunnel of its own is answered.
    async fn inside(&self, host: &str, request: Request<Sent>) -> Response<Incoming> {
        let stream = inside_with(self.world, self.token, host, b"http/1.1").await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }
}

fn upgrade(request: Builder, protocol: &str) -> Request<Sent> {
    request
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, protocol)
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(whole(""))
        .unwrap()
}

async fn switched(response: Response<Incoming>) -> impl Duplex {
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{response:?}");
    TokioIo::new(hyper::upgrade::on(response).await.unwrap())
}

fn chat(request: Builder) -> Request<Sent> {
    let body = json!({
        "model": "churn-chat", "stream": true, "max_tokens": 100_000_000,
        "messages": [{"role": "user", "content": "hello"}],
    });
    request.header(header::CONTENT_TYPE, "application/json").body(whole(body.to_string())).unwrap()
}
