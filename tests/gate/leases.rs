//! Live streams of every kind end when what let them is over, and their neighbours go on (DECISIONS 25).

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use amlgate::{
    sandbox::{
        Person,
        azure::{UserToken, names},
    },
    time::{Clock as _, ManualClock, SystemClock},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    forward::{Tunnel, ask, basic, inside_with, jobs},
    world::{Changes, Log, World, whole},
};

/// Long enough for a machine that is busy with other tests; a cut takes half a second.
const SOON: Duration = Duration::from_secs(20);
const EXEC: &str = "/clusters/prod/api/v1/namespaces/ml/pods/p/exec?command=sh&stdin=true";
const UNTOUCHED: &str = "untouched.example";

/// A cluster's API server as far as a shell in a pod goes: agrees to SPDY, and says back what it hears.
async fn cluster() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|mut request: Request<hyper::body::Incoming>| async move {
                let asked = request.headers()[header::UPGRADE].clone();
                let upgraded = hyper::upgrade::on(&mut request);
                tokio::spawn(async move { echo(TokioIo::new(upgraded.await.unwrap())).await });
                Response::builder()
                    .status(StatusCode::SWITCHING_PROTOCOLS)
                    .header(header::CONNECTION, "Upgrade")
                    .header(header::UPGRADE, asked)
                    .body(Empty::<Bytes>::new())
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service).with_upgrades());
        }
    });
    address
}

/// A company's own proxy, by which a host of `passthrough` is reached; what is behind it echoes.
async fn company() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(format!("CONNECT {UNTOUCHED}:443 ").as_bytes()));
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

const POLICIES: &str = "version: 1
subjects:
  ones: [{issuer: sandbox, group: data-science}]
  others: [{issuer: entra, claims: {tid: TENANT}}]
allow:
  - {name: ones, who: [ones], actions: [kubernetes/core/pods/exec/create, Microsoft.MachineLearningServices/*]}
  - {name: others, who: [others], actions: [kubernetes/core/pods/exec/create, Microsoft.MachineLearningServices/*]}
";

/// Who is affected (a person of the sandbox's issuer, for ten minutes), and the neighbour (of Entra's).
struct Streams {
    world: World,
    clock: ManualClock,
    live: Vec<(&'static str, Live, Live)>,
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A stream that says back what it hears.
struct Live {
    stream: Box<dyn Duplex>,
    says: &'static [u8],
    hears: &'static [u8],
}

impl Live {
    fn raw(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), says: b"hello", hears: b"hello" }
    }

    /// A text frame, masked there and bare on its way back (RFC 6455, 5.7).
    fn websocket(stream: impl Duplex + 'static) -> Self {
        let says = &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        Self { stream: Box::new(stream), says, hears: b"\x81\x05Hello" }
    }

    async fn flows(&mut self, what: &str) {
        self.stream.write_all(self.says).await.unwrap();
        let mut heard = vec![0; self.hears.len()];
        timeout(SOON, self.stream.read_exact(&mut heard))
            .await
            .unwrap()
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(heard, self.hears, "{what}");
    }

    async fn ends(&mut self, what: &str) {
        let mut rest = Vec::new();
        let ended = timeout(SOON, self.stream.read_to_end(&mut rest)).await;
        // A reset is an end too.
        assert!(ended.is_ok(), "{what} goes on");
        assert!(rest.is_empty(), "{what}: {rest:?}");
    }
}

impl Streams {
    async fn open() -> Self {
        let (cluster, company) = (cluster().await, company().await);
        let route = format!(
            "  - name: cluster\n    upstream: http://{cluster}\n    paths: [/clusters/prod]\n    protocol: kubernetes\n    credential: gate\n  - name: storage"
        );
        let outgoing = format!("outgoing: {{proxy: \"http://{company}\"}}\npolicies: policies/");
        let passthrough = format!("    passthrough: [{UNTOUCHED}]\n    interception_ca:");
        let configuration = [
            ("  - name: storage", route.as_str()),
            ("policies: policies/", &outgoing),
            ("    interception_ca:", &passthrough),
        ];
        let policies = POLICIES.replace("TENANT", names::TENANT);
        let changes = Changes { configuration: &configuration, policies: Some(&policies) };
        let clock = ManualClock::starting_at(SystemClock.now());
        let world = World::at(changes, Arc::new(clock.clone())).await;
        let soon = clock.now().as_secs() + 600;
        let sam = Person::named("sam").unwrap();
        let mint = world.sandbox.issuer.mint();
        let affected = mint.token_with(sam, |claims| drop(claims.insert("exp".into(), soon.into()))).unwrap();
        let rita = Person::named("rita").unwrap();
        let neighbour = world.sandbox.azure.user_token(rita, &UserToken::default()).unwrap();
        let mut live = Vec::new();
        for kind in ["exec", "websocket", "inner websocket", "tunnel"] {
            let mut both = Vec::new();
            for token in [&affected, &neighbour] {
                let mut stream = opened(&world, kind, token).await;
                stream.flows(kind).await;
                both.push(stream);
            }
            let (neighbour, affected) = (both.pop().unwrap(), both.pop().unwrap());
            live.push((kind, affected, neighbour));
        }
        Self { world, clock, live }
    }

    /// Each affected one ends, and its neighbour loses nothing; what was recorded.
    async fn judged(mut self) -> Log {
        for (kind, affected, neighbour) in &mut self.live {
            affected.ends(kind).await;
            neighbour.flows(kind).await;
        }
        drop(self.live);
        self.world.stop().await
    }
}

async fn opened(world: &World, kind: &str, token: &str) -> Live {
    let upgrade = |request: http::request::Builder, protocol: &str| {
        request
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, protocol)
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(whole(""))
            .unwrap()
    };
    let switched = async |response: Response<hyper::body::Incoming>| {
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{kind}: {response:?}");
        TokioIo::new(hyper::upgrade::on(response).await.unwrap())
    };
    let caller = world.bearing(token);
    match kind {
        "exec" => {
            let request = upgrade(caller.request(Method::POST, EXEC), "SPDY/3.1");
            Live::raw(switched(caller.open(request).await).await)
        }
        "websocket" => {
            let request = upgrade(caller.request(Method::GET, "/endpoints/churn/ws"), "websocket");
            Live::websocket(switched(caller.open(request).await).await)
        }
        "inner websocket" => {
            let host = format!("{}.{}.inference.ml.azure.com", names::ENDPOINT, names::REGION);
            let stream = inside_with(world, token, &host, b"http/1.1").await;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection.with_upgrades());
            let request = upgrade(Request::get("/ws").header(header::HOST, host), "websocket");
            Live::websocket(switched(sender.send_request(request).await.unwrap()).await)
        }
        "tunnel" => {
            let (status, head, stream): (u16, String, TcpStream) =
                ask(world, &format!("{UNTOUCHED}:443"), "1.1", &basic(token)).await;
            assert_eq!(status, 200, "{head}");
            Live::raw(stream)
        }
        other => panic!("{other}"),
    }
}

/// How many streams were cut, tunnels among them.
fn cuts(log: &Log) -> usize {
    log.requests().iter().filter(|r| r["unmapped"]["amlgate"]["ending"] == "cut").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_policies_ends_the_streams_that_it_forbids_and_no_other() {
    let mut streams = Streams::open().await;
    let file = streams.world.directory().join("policies/sandbox.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let kept: String =
        text.lines().filter(|l| !l.contains("name: ones")).fold(String::new(), |all, l| all + l + "\n");
    fs::write(&file, kept).unwrap();
    streams.world.server.reload().await;
    // No policy speaks of a tunnel that passes untouched: who may come to the gate at all may dig it.
    let (kind, mut dug, mut neighbour) = streams.live.pop().unwrap();
    dug.flows(kind).await;
    neighbour.flows(kind).await;
    drop((dug, neighbour));
    assert_eq!(cuts(&streams.judged().await), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_token_that_opened_it() {
    let streams = Streams::open().await;
    streams.clock.advance(Duration::from_secs(700));
    let log = streams.judged().await;
    assert_eq!(cuts(&log), 4);
    let tunnels: Vec<_> = log.events("tunnel_ended").iter().map(|e| e["ending"].clone()).collect();
    assert!(tunnels.contains(&"cut".into()) && tunnels.len() == 2, "{tunnels:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_an_issuer_that_is_removed_end_with_it() {
    let streams = Streams::open().await;
    let file = streams.world.sandbox.configuration();
    let text = fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once("  - name: sandbox ").unwrap();
    let (_, after) = rest.split_once("  - name: entra ").unwrap();
    // Nobody signs in at an issuer that is gone.
    let before = before.replace(", sign_in: {issuer: sandbox}", "");
    fs::write(&file, format!("{before}  - name: entra {after}")).unwrap();
    streams.world.server.reload().await;
    let log = streams.judged().await;
    assert_eq!(cuts(&log), 4);
    let ended = log.events("tunnel_ended");
    assert_eq!(ended.iter().filter(|e| e["ending"] == "cut").count(), 1, "{ended:?}");
}

/// What binds a tunnel to its caller is not its beginning: each request in it is asked whose it is.
#[tokio::test]
async fn a_tunnel_is_its_callers_for_as_long_as_the_token_lives_and_no_longer() {
    let clock = ManualClock::starting_at(SystemClock.now());
    let world = World::at(Changes::default(), Arc::new(clock.clone())).await;
    let soon = clock.now().as_secs() + 600;
    let sam = Person::named("sam").unwrap();
    let mint = world.sandbox.issuer.mint();
    let token = mint.token_with(sam, |claims| drop(claims.insert("exp".into(), soon.into()))).unwrap();
    let rita = format!("Bearer {}", mint.token(Person::named("rita").unwrap()).unwrap());
    let mut tunnel = Tunnel::with(&world, &token, "management.azure.com").await;
    assert_eq!(tunnel.get(&jobs()).await.status, StatusCode::OK);
    clock.advance(Duration::from_secs(700));
    assert_eq!(tunnel.get(&jobs()).await.status, StatusCode::UNAUTHORIZED);
    // Nobody else's token inside opens it again, and none inside makes another of its caller.
    let other = Request::get(jobs()).header(header::AUTHORIZATION, &rita);
    assert_eq!(tunnel.send(other, "").await.status, StatusCode::UNAUTHORIZED);
    let mut fresh = Tunnel::with(&world, &crate::forward::token(&world, "sam"), "management.azure.com").await;
    let other = Request::get(jobs()).header(header::AUTHORIZATION, &rita);
    assert_eq!(fresh.send(other, "").await.status, StatusCode::OK);
    drop((tunnel, fresh));
    let log = world.stop().await;
    assert!(log.requests().iter().all(|r| r["actor"]["user"]["uid"] != "sandbox:user-rita"));
}
