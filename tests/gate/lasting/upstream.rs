//! What is behind the gate: shells, bodies without an end, and answers that come when they are told to.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::LazyLock};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Channel, Full, channel::Sender, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
};

/// A piece of a body without an end: the byte at each place says which place it is, up to 251.
pub const PIECE: usize = 251 * 64;

pub fn piece() -> Bytes {
    static MADE: LazyLock<Bytes> =
        LazyLock::new(|| (0..PIECE).map(|at| (at % 251) as u8).collect::<Vec<_>>().into());
    MADE.clone()
}

/// How a line of a body without an end is written, by its number.
pub type Line = fn(usize) -> String;

/// An event of a watch.
pub fn event(number: usize) -> String {
    let object = format!(r#"{{"kind":"Pod","metadata":{{"name":"p","resourceVersion":"{number}"}}}}"#);
    format!("{{\"type\":\"MODIFIED\",\"object\":{object}}}\n")
}

/// A line of a pod's log.
pub fn logged(number: usize) -> String {
    format!("step {number}\n")
}

type Body = BoxBody<Bytes, Infallible>;

/// An upstream, and what it has heard of.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    /// Bytes of each body that was sent here, by path; a call without one counts as none.
    pub heard: watch::Sender<BTreeMap<String, usize>>,
    /// Whether calls are answered.
    pub answers: watch::Sender<bool>,
    /// How much has happened in the cluster: each is a line of every watch and log, old ones first.
    pub happens: watch::Sender<usize>,
}

impl Upstream {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, answers, happens) = Default::default();
        let upstream = Self { address, heard, answers, happens };
        let served = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let own = served.clone();
                let service = service_fn(move |request| {
                    let own = own.clone();
                    async move { Ok::<_, Infallible>(own.answer(request).await) }
                });
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service).with_upgrades());
            }
        });
        upstream
    }

    /// Waits until it has heard so many bytes at a path.
    pub async fn hears(&self, path: &str, bytes: usize) {
        let mut heard = self.heard.subscribe();
        heard.wait_for(|heard| heard.get(path).is_some_and(|heard| *heard >= bytes)).await.unwrap();
    }

    async fn answer(self, mut request: Request<Incoming>) -> Response<Body> {
        if let Some(asked) = request.headers().get(header::UPGRADE).cloned() {
            // A cluster's API server as far as a shell in a pod goes: it says back what it hears.
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move { echo(TokioIo::new(upgraded.await.unwrap())).await });
            return Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, asked)
                .body(Full::default().boxed())
                .unwrap();
        }
        let path = request.uri().path().to_owned();
        if request.method() == Method::GET && path.starts_with("/download") {
            let (mut sender, body) = Channel::new(1);
            tokio::spawn(async move { while sender.send_data(piece()).await.is_ok() {} });
            return Response::new(body.boxed());
        }
        let query = request.uri().query().unwrap_or_default();
        let lines = match query.split('&').next() {
            Some("watch=true") => Some((event as Line, "application/json")),
            Some("follow=true") => Some((logged as Line, "text/plain")),
            _ => None,
        };
        if let Some((line, media)) = lines {
            let (sender, body) = Channel::new(1);
            tokio::spawn(tell(sender, line, self.happens.subscribe()));
            return Response::builder().header(header::CONTENT_TYPE, media).body(body.boxed()).unwrap();
        }
        self.heard.send_modify(|heard| *heard.entry(path.clone()).or_default() = 0);
        let (mut body, mut bytes) = (request.into_body(), 0);
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            self.heard.send_modify(|heard| *heard.entry(path.clone()).or_default() = bytes);
        }
        self.answers.subscribe().wait_for(|answers| *answers).await.unwrap();
        Response::new(Full::from(bytes.to_string()).boxed())
    }
}

/// Tells line by line what happens, until nobody listens.
async fn tell(mut sender: Sender<Bytes, Infallible>, line: Line, mut happens: watch::Receiver<usize>) {
    let mut told = 0;
    while happens.wait_for(|count| *count > told).await.is_ok() {
        told += 1;
        if sender.send_data(line(told).into()).await.is_err() {
            return;
        }
    }
}

/// A company's own proxy, by which a host of `passthrough` is reached; what is behind it echoes.
pub async fn company(host: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(format!("CONNECT {host}:443 ").as_bytes()));
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                echo(stream).await;
            });
        }
    });
    address
}

async fn echo(stream: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = tokio::io::split(stream);
    // The other side's end is an error for some of them.
    drop(tokio::io::copy(&mut read, &mut write).await);
}
