//! The floor of the forward proxy: a bare hyper interceptor, one thread, that ends TLS in each tunnel,
//! keeps connections upstream, and checks nothing and records nothing.

use std::{cell::RefCell, net::SocketAddr, path::Path, rc::Rc, sync::Arc};

use amlgate::{
    listen::Interceptor,
    time::{Clock as _, SystemClock},
};
use bytes::Bytes;
use http_body_util::{Either, Empty};
use hyper::{
    Method, Request, Response, body::Incoming, client::conn::http1 as client, server::conn::http1 as server,
    service::service_fn, upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::ServerName};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    task::{LocalSet, spawn_local},
};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

type Sender = client::SendRequest<Incoming>;

struct Shared {
    interceptor: Interceptor,
    upstream: SocketAddr,
    tls: TlsConnector,
    idle: RefCell<Vec<Sender>>,
}

/// Serves on this thread, for ever.
pub fn run(listen: &str, upstream: SocketAddr, authority: &Path, key: &Path, trust: &Path) {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let shared = Rc::new(Shared {
        interceptor: Interceptor::new(&read(authority), &read(key)).unwrap(),
        upstream,
        tls: TlsConnector::from(Arc::new(trusting(trust))),
        idle: RefCell::default(),
    });
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(listen).await.unwrap();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            spawn_local(asked(socket, Rc::clone(&shared)));
        }
    });
}

/// A client that believes the authorities of a file and resumes nothing.
pub fn trusting(trust: &Path) -> ClientConfig {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(trust).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config
}

async fn asked(socket: TcpStream, shared: Rc<Shared>) {
    socket.set_nodelay(true).unwrap();
    let service = service_fn(|mut request: Request<Incoming>| {
        let shared = Rc::clone(&shared);
        async move {
            assert_eq!(request.method(), Method::CONNECT);
            let host: Arc<str> = request.uri().host().unwrap().into();
            let upgraded = hyper::upgrade::on(&mut request);
            spawn_local(async move { intercepted(upgraded.await.unwrap(), host, shared).await });
            Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let served = server::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades();
    let _ended = served.await;
}

async fn intercepted(tunnel: Upgraded, host: Arc<str>, shared: Rc<Shared>) {
    let greeting = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), TokioIo::new(tunnel));
    let Ok(greeting) = greeting.await else { return };
    let leaf = shared.interceptor.leaf(&host, SystemClock.now()).unwrap();
    let Ok(stream) = greeting.into_stream(leaf).await else { return };
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, host) = (Rc::clone(&shared), Arc::clone(&host));
        async move {
            let mut sender = dialled(&shared, &host).await;
            let answer = sender.send_request(request).await?;
            // Its body is small and has come by the time that the next request does.
            shared.idle.borrow_mut().push(sender);
            Ok::<_, hyper::Error>(answer.map(Either::<Incoming, Empty<Bytes>>::Left))
        }
    });
    let _ended = server::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn dialled(shared: &Shared, host: &str) -> Sender {
    loop {
        let Some(mut sender) = shared.idle.borrow_mut().pop() else { break };
        if sender.ready().await.is_ok() {
            return sender;
        }
    }
    let stream = TcpStream::connect(shared.upstream).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = shared.tls.connect(name, stream).await.unwrap();
    let (sender, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
    spawn_local(connection);
    sender
}
