//! Accepting connections: one thread with one runtime for each core, each with a socket and a handler
//! of its own.
//!
//! A connection stays on its core, so that nothing on a request's path is shared but read-only
//! snapshots. TLS is ended here and its certificate replaced while serving; HTTP/1.1 or HTTP/2 is
//! chosen by ALPN. Whoever is slow, idle or too many is let go by the numbers in
//! [`ListenSettings`]. Idle HTTP/1.1 connections are parked. What handles requests is a
//! [`Handler`]: nothing here knows the proxy.

mod admission;
mod connection;
mod core;
mod inside;
mod intercept;
mod io;
mod proxy_protocol;
mod sockets;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::admission::Admission;
pub use self::{
    inside::Inside,
    intercept::{InterceptError, Interceptor, domains, new_authority},
    sockets::{Sockets, bind, handed_over},
    tls::{Protocols, ServerTls, TlsError},
};
use crate::http::{Body, Connection};

/// What handles requests: one for each core.
pub trait Handler: Clone + 'static {
    /// What it remembers of a connection.
    type Memory: Default + 'static;

    /// Answers one request.
    fn handle(
        &self,
        connection: &Rc<Connection<Self::Memory>>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>>;

    /// A connection ended before it was a request: the peer, and the reason's word.
    fn rejected(&self, peer: IpAddr, why: &'static str);
}

/// How connections are accepted and kept.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    /// The beginning of its threads' names.
    pub name: &'static str,
    /// Threads, each with a runtime.
    pub cores: usize,
    /// TLS, if any.
    pub tls: Option<Arc<ServerTls>>,
    /// Peers that are believed when they say whom they speak for.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether those peers say so by the PROXY protocol.
    pub proxy_protocol: bool,
    /// Connections, all cores together.
    pub connections: usize,
    /// Connections of one peer that is no trusted proxy, all cores together.
    pub per_peer: usize,
    /// For the TLS handshake and the PROXY header.
    pub handshake: Duration,
    /// For a request's head, from its first byte; for a new connection's first byte too.
    pub head: Duration,
    /// Between requests; also for a peer that does not take what is sent to it.
    pub idle: Duration,
    /// How long what is under way has when the listener stops.
    pub drain: Duration,
    /// How often a connection is looked at; an idle one is parked when nothing happened in between.
    pub tick: Duration,
}

impl Default for ListenSettings {
    /// As `amlgate.yaml` without `limits` and `timeouts`; plaintext, one thread for each core.
    fn default() -> Self {
        Self {
            name: "gate",
            cores: thread::available_parallelism().map_or(1, usize::from),
            tls: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            connections: 10_000,
            per_peer: 1_024,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            idle: Duration::from_secs(120),
            drain: Duration::from_secs(30),
            tick: Duration::from_secs(1),
        }
    }
}

/// Threads that accept and serve. They go on until the token that they were started with is
/// cancelled and everything under way has ended or run out of time.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    admission: Arc<Admission>,
    parked: Arc<AtomicUsize>,
    cores: Vec<oneshot::Receiver<bool>>,
}

/// Starts a thread for each core. `factory` is called on each, inside its runtime, and makes its
/// handler, which need not be `Send`.
///
/// # Errors
/// If a thread or its runtime cannot be had.
pub fn start<F, H>(
    sockets: Sockets,
    settings: ListenSettings,
    stop: &CancellationToken,
    factory: F,
) -> std::io::Result<Listener>
where
    F: Fn(usize) -> H + Send + Sync + 'static,
    H: Handler,
{
    let address = sockets.address();
    let count = settings.cores.max(1);
    let admission = Admission::new(settings.connections, settings.per_peer);
    let parked = Arc::new(AtomicUsize::new(0));
    let mut listeners = sockets.into_listeners().into_iter();
    let (cores, inboxes) = core::Cores::new(count, Arc::clone(&admission), Arc::clone(&parked), settings);
    let factory = Arc::new(factory);
    let mut ends = Vec::with_capacity(count);
    for (number, inbox) in inboxes.into_iter().enumerate() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (done, end) = oneshot::channel();
        let (cores, factory, stop) = (Arc::clone(&cores), Arc::clone(&factory), stop.clone());
        let listener = listeners.next();
        let name = format!("{}-{number}", cores.settings().name);
        thread::Builder::new().name(name).spawn(move || {
            let clean =
                core::run(&runtime, core::Core { number, listener, inbox, cores, stop }, |n| factory(n));
            // Nobody may be waiting.
            let _ = done.send(clean);
        })?;
        ends.push(end);
    }
    Ok(Listener { address, admission, parked, cores: ends })
}

impl Listener {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.admission.open()
    }

    /// Connections that are parked.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Waits until all threads have ended; whether nothing had to be cut off.
    pub async fn ended(self) -> bool {
        let mut clean = true;
        for core in self.cores {
            // An error means that the thread is gone without a word.
            clean &= core.await.unwrap_or(false);
        }
        clean
    }
}
