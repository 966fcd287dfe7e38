//! One core's share of a listener.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    fmt, io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::spawn_local,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::ServerTls;
use crate::http::Body;

/// The largest head, on HTTP/1 and HTTP/2: a token of 48 KiB and everything else.
const MAX_HEAD: usize = 96 << 10;
const MAX_HEADERS: usize = 100;
/// Streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;

/// What handles requests. One for each core, cheap to clone.
pub trait Handler: Clone + 'static {
    /// What it remembers of a connection.
    type Memory: Default + 'static;

    /// Answers one request.
    fn handle(
        &self,
        connection: &Rc<Connection<Self::Memory>>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>>;

    /// A connection ended before it was a request: the peer, and why.
    fn rejected(&self, peer: IpAddr, why: &'static str);
}

/// One connection.
pub struct Connection<M> {
    /// Who dialled.
    pub peer: SocketAddr,
    /// Whether TLS was terminated here.
    pub secure: bool,
    /// What the handler remembers.
    pub memory: RefCell<M>,
}

impl<M> fmt::Debug for Connection<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.peer)
    }
}

/// Bounds of a listener, shared by its cores.
#[derive(Debug, Clone)]
pub struct ListenLimits {
    /// TLS handshake.
    pub handshake: Duration,
    /// Request head, and the idle time between requests.
    pub head: Duration,
    /// Idle connections.
    pub idle: Duration,
    /// How long a drain waits.
    pub drain: Duration,
    /// Connections, all cores together.
    pub connections: usize,
    /// Connections of one peer, all cores together.
    pub per_peer: usize,
    /// Who has how many.
    pub counts: Arc<Counts>,
}

/// Connections by peer.
#[derive(Debug, Default)]
pub struct Counts {
    by_peer: Mutex<HashMap<IpAddr, usize>>,
}

/// One counted connection.
struct Seat {
    counts: Arc<Counts>,
    peer: IpAddr,
}

impl Counts {
    fn take(self: &Arc<Self>, peer: IpAddr, limits: &ListenLimits) -> Option<Seat> {
        let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = by_peer.values().sum();
        let of_peer = by_peer.entry(peer).or_default();
        if all >= limits.connections || *of_peer >= limits.per_peer {
            return None;
        }
        *of_peer += 1;
        Some(Seat { counts: Arc::clone(self), peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_peer = self.counts.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                by_peer.remove(&self.peer);
            }
        }
    }
}

/// Listens on an address; `shared` lets several cores listen on the same one.
///
/// # Errors
/// What the system says.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1_024)?;
    Ok(socket.into())
}

/// Runs tasks on the core that they were made on.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

/// Accepts until `stop`, then drains: open connections finish what is under way.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    limits: ListenLimits,
    handler: H,
    stop: CancellationToken,
) {
    let tracker = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: connections that end give some back.
                tracing::warn!(%error, "cannot accept");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(seat) = limits.counts.take(peer.ip(), &limits) else {
            handler.rejected(peer.ip(), "too_many_connections");
            continue;
        };
        let (tls, limits, handler, stop) = (tls.clone(), limits.clone(), handler.clone(), stop.clone());
        tracker.spawn_local(async move {
            let _seat = seat;
            connection(stream, peer, tls, &limits, handler, stop).await;
        });
    }
    drop(listener);
    tracker.close();
    if timeout(limits.drain, tracker.wait()).await.is_err() {
        tracing::warn!(open = tracker.len(), "connections were cut at the end of the drain");
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerTls>>,
    limits: &ListenLimits,
    handler: H,
    stop: CancellationToken,
) {
    // Without it small answers wait for the peer's acknowledgement.
    drop(stream.set_nodelay(true));
    match tls {
        None => requests(stream, peer, false, false, limits, handler, stop).await,
        Some(tls) => match timeout(limits.handshake, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => {
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                requests(stream, peer, true, h2, limits, handler, stop).await;
            }
            Ok(Err(_)) => handler.rejected(peer.ip(), "tls_handshake"),
            Err(_) => handler.rejected(peer.ip(), "tls_handshake_timeout"),
        },
    }
}

async fn requests<H: Handler, S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    secure: bool,
    h2: bool,
    limits: &ListenLimits,
    handler: H,
    stop: CancellationToken,
) {
    let connection = Rc::new(Connection { peer, secure, memory: RefCell::default() });
    let rejected = handler.clone();
    let served = Rc::new(Cell::new(false));
    let service = {
        let served = Rc::clone(&served);
        service_fn(move |request| {
            served.set(true);
            let (handler, connection) = (handler.clone(), Rc::clone(&connection));
            async move { Ok::<_, Infallible>(handler.handle(&connection, request).await) }
        })
    };
    let io = TokioIo::new(stream);
    let ended = if h2 {
        let serving = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(Some(20))
            .max_local_error_reset_streams(Some(128))
            .keep_alive_interval(Some(limits.idle))
            .keep_alive_timeout(Duration::from_secs(20))
            .serve_connection(io, service);
        tokio::pin!(serving);
        tokio::select! {
            ended = serving.as_mut() => ended,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    } else {
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head.max(limits.idle))
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(io, service)
            .with_upgrades();
        tokio::pin!(serving);
        tokio::select! {
            ended = serving.as_mut() => ended,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        }
    };
    if let Err(error) = ended {
        // What hyper's parser refuses is answered by hyper and counted here.
        let why = match () {
            () if error.is_parse_too_large() => "head_too_large",
            () if error.is_parse() => "malformed_request",
            () if error.is_timeout() && !served.get() => "head_timeout",
            () => return,
        };
        rejected.rejected(peer.ip(), why);
    }
}
