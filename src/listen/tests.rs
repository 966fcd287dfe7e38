//! The listener over real sockets. Nothing sleeps: tests wait for what the peer sees.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{Connection, Handler, ListenSettings, Listener, Protocols, ServerTls, Sockets, start};
use crate::http::Body;

/// Answers who asks, how often on this connection, and with what body; `/wait` waits for the gong,
/// `/upgrade` repeats bytes.
#[derive(Clone)]
struct Echo {
    core: usize,
    seen: Seen,
}

/// What the cores have seen.
#[derive(Clone, Default)]
struct Seen {
    gong: Arc<Notify>,
    cores: Arc<Mutex<Vec<usize>>>,
    refused: Arc<Mutex<Vec<(IpAddr, &'static str)>>>,
}

impl Handler for Echo {
    type Memory = u32;

    async fn handle(&self, connection: &Rc<Connection<u32>>, request: Request<Incoming>) -> Response<Body> {
        *connection.memory.borrow_mut() += 1;
        let asked = *connection.memory.borrow();
        if asked == 1 {
            self.seen.cores.lock().unwrap().push(self.core);
        }
        match request.uri().path() {
            "/wait" => self.seen.gong.notified().await,
            "/upgrade" => {
                let upgraded = connection.upgraded();
                connection.tasks().spawn_local(async move {
                    let mut stream = upgraded.await.unwrap();
                    let mut word = [0; 5];
                    stream.read_exact(&mut word).await.unwrap();
                    stream.write_all(&word).await.unwrap();
                    stream.shutdown().await.unwrap();
                });
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
                response.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
                return response;
            }
            _ => {}
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let text = format!("{asked} {} {}", connection.peer, String::from_utf8_lossy(&body));
        Response::new(Body::full(text))
    }

    fn rejected(&self, peer: IpAddr, why: &'static str) {
        self.seen.refused.lock().unwrap().push((peer, why));
    }
}

struct Bench {
    listener: Listener,
    stop: CancellationToken,
    seen: Seen,
}

impl Bench {
    fn start(settings: ListenSettings) -> Self {
        let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap(), settings.cores).unwrap();
        Self::on(sockets, settings)
    }

    fn on(sockets: Sockets, settings: ListenSettings) -> Self {
        let settings = ListenSettings { tick: Duration::from_millis(2), ..settings };
        let (seen, stop) = (Seen::default(), CancellationToken::new());
        let on_core = seen.clone();
        let listener =
            start(sockets, settings, &stop, move |core| Echo { core, seen: on_core.clone() }).unwrap();
        Self { listener, stop, seen }
    }

    fn refused(&self) -> Vec<&'static str> {
        self.seen.refused.lock().unwrap().iter().map(|(_, why)| *why).collect()
    }

    fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    async fn until(&self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            tokio::task::yield_now().await;
        }
    }
}

fn one_core() -> ListenSettings {
    ListenSettings { cores: 1, ..ListenSettings::default() }
}

async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

/// Reads one answer: a head and as many bytes as it announces.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        text.push(stream.read_u8().await.unwrap());
        if text.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8(text).unwrap();
    let length = head
        .lines()
        .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
        .map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    format!("{head}{}", String::from_utf8(body).unwrap())
}

/// Whether the peer closed.
async fn closed(stream: &mut TcpStream) -> bool {
    stream.read_u8().await.is_err()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn an_idle_connection_is_parked_and_serves_on() {
    let bench = Bench::start(one_core());
    let mut stream = bench.connect().await;
    assert!(ask(&mut stream, GET).await.contains("\r\n\r\n1 127.0.0.1"));
    for asked in 2..5 {
        bench.until(|b| b.listener.parked() == 1).await;
        assert!(ask(&mut stream, GET).await.contains(&format!("\r\n\r\n{asked} 127.0.0.1")));
    }
}

#[tokio::test]
async fn a_head_in_pieces_after_parking_is_read_whole() {
    let bench = Bench::start(one_core());
    let mut stream = bench.connect().await;
    ask(&mut stream, GET).await;
    bench.until(|b| b.listener.parked() == 1).await;
    stream.write_all(b"GET /x HT").await.unwrap();
    bench.until(|b| b.listener.parked() == 0).await;
    assert!(ask(&mut stream, "TP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_connection_is_not_parked_behind_a_request_with_a_body() {
    let bench = Bench::start(one_core());
    let (mut with_body, mut without) = (bench.connect().await, bench.connect().await);
    ask(&mut with_body, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await;
    ask(&mut without, GET).await;
    // The second was quiet for as short as the first.
    bench.until(|b| b.listener.parked() == 1).await;
    for _ in 0..3 {
        ask(&mut without, GET).await;
        bench.until(|b| b.listener.parked() == 1).await;
    }
    assert_eq!(bench.listener.parked(), 1);
    ask(&mut with_body, GET).await;
    bench.until(|b| b.listener.parked() == 2).await;
}

#[tokio::test]
async fn pipelined_requests_are_all_answered_in_order() {
    let bench = Bench::start(one_core());
    let mut stream = bench.connect().await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    stream.write_all(format!("{post}{GET}{GET}").as_bytes()).await.unwrap();
    for asked in 1..4 {
        assert!(answer(&mut stream).await.contains(&format!("\r\n\r\n{asked} ")));
    }
}

#[tokio::test]
async fn http_1_0_clients_are_served_and_closed() {
    let bench = Bench::start(one_core());
    let mut stream = bench.connect().await;
    assert!(ask(&mut stream, "GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.contains("1 127.0.0.1"));
    assert!(closed(&mut stream).await);
}

#[tokio::test]
async fn expectations_are_answered_when_the_body_is_wanted() {
    let bench = Bench::start(one_core());
    let mut stream = bench.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    assert!(ask(&mut stream, head).await.starts_with("HTTP/1.1 100"));
    assert!(ask(&mut stream, "abc").await.ends_with(" abc"));
}

#[tokio::test]
async fn whoever_is_silent_or_slow_is_let_go() {
    let settings = ListenSettings { head: Duration::from_millis(20), ..one_core() };
    let bench = Bench::start(settings);
    let (mut silent, mut slow) = (bench.connect().await, bench.connect().await);
    slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    assert!(closed(&mut silent).await && closed(&mut slow).await);
    bench.until(|b| b.refused().len() == 2).await;
    let mut reasons = bench.refused();
    reasons.sort_unstable();
    assert_eq!(reasons, ["silent", "slow_head"]);
}

#[tokio::test]
async fn an_idle_connection_ends_after_its_time_parked_or_not() {
    let bench = Bench::start(ListenSettings { idle: Duration::from_millis(20), ..one_core() });
    let (mut parked, mut behind_body) = (bench.connect().await, bench.connect().await);
    ask(&mut parked, GET).await;
    ask(&mut behind_body, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na").await;
    assert!(closed(&mut parked).await && closed(&mut behind_body).await);
    bench.until(|b| b.listener.open() == 0).await;
    assert!(bench.refused().is_empty());
}

#[tokio::test]
async fn what_the_parser_refuses_is_said() {
    let bench = Bench::start(one_core());
    let mut stream = bench.connect().await;
    assert!(ask(&mut stream, "GET / HTTP/1.1\r\nHost : a\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let mut stream = bench.connect().await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(100 << 10));
    assert!(ask(&mut stream, &long).await.starts_with("HTTP/1.1 431"));
    bench.until(|b| b.refused().len() == 2).await;
    let reasons = bench.refused();
    assert_eq!(reasons, ["unreadable_head", "large_head"]);
}

#[tokio::test]
async fn one_peer_has_only_so_many_connections() {
    let bench = Bench::start(ListenSettings { per_peer: 2, ..one_core() });
    let (mut one, mut two) = (bench.connect().await, bench.connect().await);
    ask(&mut one, GET).await;
    ask(&mut two, GET).await;
    let mut three = bench.connect().await;
    assert!(closed(&mut three).await);
    assert_eq!(bench.refused()[0], "too_many_connections_of_peer");
    drop(one);
    bench.until(|b| b.listener.open() == 1).await;
    assert!(ask(&mut bench.connect().await, GET).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_upgraded_connection_leaves_http_with_what_was_read_behind() {
    let bench = Bench::start(one_core());
    let mut stream = bench.connect().await;
    let head = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhel";
    assert!(ask(&mut stream, head).await.starts_with("HTTP/1.1 101"));
    stream.write_all(b"lo").await.unwrap();
    let mut word = String::new();
    stream.read_to_string(&mut word).await.unwrap();
    assert_eq!(word, "hello");
}

#[tokio::test]
async fn a_trusted_peer_says_whom_it_speaks_for() {
    let trusted = ["127.0.0.0/8".parse().unwrap()];
    let settings =
        ListenSettings { proxy_protocol: true, trusted_proxies: trusted.to_vec(), per_peer: 1, ..one_core() };
    let bench = Bench::start(settings);
    let line = "PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n";
    let (mut one, mut two) = (bench.connect().await, bench.connect().await);
    for stream in [&mut one, &mut two] {
        assert!(ask(stream, &format!("{line}{GET}")).await.contains("1 198.51.100.7:4711"));
    }
    let mut without = bench.connect().await;
    without.write_all(GET.as_bytes()).await.unwrap();
    assert!(closed(&mut without).await);
    bench.until(|b| b.refused().contains(&"proxy_header")).await;
}

#[tokio::test]
async fn stopping_lets_what_is_under_way_end_and_closes_the_rest() {
    let bench = Bench::start(ListenSettings { cores: 2, ..ListenSettings::default() });
    let (mut idle, mut busy) = (bench.connect().await, bench.connect().await);
    ask(&mut idle, GET).await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    bench.until(|b| b.listener.parked() == 1).await;
    bench.stop.cancel();
    assert!(closed(&mut idle).await);
    bench.seen.gong.notify_one();
    assert!(answer(&mut busy).await.starts_with("HTTP/1.1 200"));
    assert!(closed(&mut busy).await);
    assert!(bench.listener.ended().await);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let bench = Bench::start(ListenSettings { drain: Duration::from_millis(20), ..one_core() });
    let mut busy = bench.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    bench.until(|b| b.listener.open() == 1).await;
    bench.stop.cancel();
    assert!(closed(&mut busy).await);
    assert!(!bench.listener.ended().await);
}

#[tokio::test]
async fn one_socket_for_all_cores_serves_from_each() {
    let std = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets = Sockets::inherited(std).unwrap();
    let bench = Bench::on(sockets, ListenSettings { cores: 2, ..ListenSettings::default() });
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut stream = bench.connect().await;
        ask(&mut stream, GET).await;
        open.push(stream);
    }
    let on_second = bench.seen.cores.lock().unwrap().iter().filter(|c| **c == 1).count();
    assert!((2..=4).contains(&on_second), "{on_second} of 6");
}

struct Pair {
    chain: String,
    key: String,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(["gate.example".to_owned()]).unwrap();
    Pair { chain: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

fn client(trusting: &Pair, protocols: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusting.chain.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn handshake(
    bench: &Bench,
    client: &TlsConnector,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    client.connect("gate.example".try_into().unwrap(), bench.connect().await).await
}

#[tokio::test]
async fn a_replaced_certificate_serves_new_handshakes_and_old_connections_go_on() {
    let (first, second) = (pair(), pair());
    let certificate =
        Arc::new(ServerTls::new(first.chain.as_bytes(), first.key.as_bytes(), Protocols::Either).unwrap());
    let bench = Bench::start(ListenSettings { tls: Some(Arc::clone(&certificate)), ..one_core() });
    let stream = handshake(&bench, &client(&first, &["h2", "http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut get = async || {
        let request = Request::get("https://gate.example/").body(Full::<Bytes>::default()).unwrap();
        let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    };
    assert!(get().await.starts_with("1 127.0.0.1"));
    certificate.replace(second.chain.as_bytes(), second.key.as_bytes(), None).unwrap();
    assert!(handshake(&bench, &client(&first, &[])).await.is_err());
    assert!(handshake(&bench, &client(&second, &[])).await.is_ok());
    assert!(get().await.starts_with("2 127.0.0.1"));
    bench.until(|b| b.refused().contains(&"tls_handshake")).await;
}

#[tokio::test]
async fn a_client_that_offers_only_http_1_0_is_served() {
    let made = pair();
    let certificate =
        Arc::new(ServerTls::new(made.chain.as_bytes(), made.key.as_bytes(), Protocols::Either).unwrap());
    let bench = Bench::start(ListenSettings { tls: Some(certificate), ..one_core() });
    let mut stream = handshake(&bench, &client(&made, &["http/1.0"])).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\nhost: gate.example\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.0 200") || text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn a_tls_connection_is_parked_and_serves_on() {
    let made = pair();
    let certificate =
        Arc::new(ServerTls::new(made.chain.as_bytes(), made.key.as_bytes(), Protocols::Either).unwrap());
    let bench = Bench::start(ListenSettings { tls: Some(certificate), ..one_core() });
    let mut stream = handshake(&bench, &client(&made, &["http/1.1"])).await.unwrap();
    for asked in 1..4 {
        stream.write_all(GET.as_bytes()).await.unwrap();
        let mut text = vec![0; 4096];
        let mut filled = 0;
        while !String::from_utf8_lossy(&text[..filled]).contains("127.0.0.1") {
            filled += stream.read(&mut text[filled..]).await.unwrap();
        }
        assert!(String::from_utf8_lossy(&text[..filled]).contains(&format!("\r\n\r\n{asked} ")));
        bench.until(|b| b.listener.parked() == 1).await;
    }
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_let_go() {
    let made = pair();
    let certificate =
        Arc::new(ServerTls::new(made.chain.as_bytes(), made.key.as_bytes(), Protocols::Either).unwrap());
    let handshake = Duration::from_millis(20);
    let bench = Bench::start(ListenSettings { tls: Some(certificate), handshake, ..one_core() });
    let mut stream = bench.connect().await;
    assert!(closed(&mut stream).await);
    bench.until(|b| b.refused().contains(&"slow_handshake")).await;
}
