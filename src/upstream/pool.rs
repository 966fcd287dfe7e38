//! Connections to upstreams, one pool per core: of HTTP/1.1 the one used last is used first, so that
//! the others can end; one of HTTP/2 is shared. What is pooled is keyed by everything that the
//! connection's trust rests on.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    error::Error,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use http::{HeaderValue, Request, Uri, header, uri};
use hyper::{
    client::conn::{TrySendError, http1, http2},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{task::spawn_local, time::Instant};

use crate::{
    http::{Body, framing::MAX_HEAD},
    net::{Connector, Destination, Protocols, Scheme, Stream},
};

/// An idle connection is kept so long; Azure's front doors close theirs after four minutes.
const KEEP: Duration = Duration::from_secs(60);
/// At most so many idle ones to each destination.
const MAX_IDLE: usize = 256;
/// What hyper buffers of one connection, in each direction. A little less than the 64 KiB that one
/// packet may have: exactly as much would be sent as a packet and a crumb, and each wakes its reader.
const BUFFER: usize = 63 << 10;
/// HTTP/2: streams at once on one connection, or fewer if the upstream says so; then another is
/// dialled.
const MAX_STREAMS: usize = 100;
/// HTTP/2: what may be under way towards us of one answer, and of all (DECISIONS 19).
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// HTTP/2: a silent peer is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(10);

struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
}

/// A connection that several requests share.
#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<Body>,
    /// Asked for what the upstream allows; gone when the connection has ended.
    connection: Rc<RefCell<Option<Http2>>>,
    streams: Rc<Cell<usize>>,
    used: Rc<Cell<Instant>>,
}

type Http2 = http2::Connection<TokioIo<Stream>, Body, Local>;

impl Shared {
    fn has_room(&self) -> bool {
        let allowed = self.connection.borrow().as_ref().map(Http2::current_max_send_streams);
        // As many as the upstream allows would wait for it to notice that one has ended.
        self.streams.get() < allowed.unwrap_or(0).min(MAX_STREAMS)
    }
}

#[derive(Default)]
struct Kept {
    idle: HashMap<Destination, Vec<Idle>>,
    shared: HashMap<Destination, Vec<Shared>>,
    /// Those that were offered HTTP/2 and chose HTTP/1.1.
    without_http2: HashSet<Destination>,
}

/// The pool of one core.
#[derive(Clone)]
pub struct Pools {
    connector: Connector,
    kept: Rc<RefCell<Kept>>,
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.borrow();
        write!(f, "Pools({} destinations)", kept.idle.len() + kept.shared.len())
    }
}

/// Sends on one connection.
pub(super) enum Sender {
    /// A connection of its own.
    Http1(http1::SendRequest<Body>),
    /// A stream of a shared one.
    Http2(Place),
}

/// A stream of a shared connection: counted as long as it lives.
pub(super) struct Place(Shared);

impl Place {
    fn of(shared: &Shared) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        shared.used.set(Instant::now());
        Self(shared.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.used.set(Instant::now());
    }
}

/// Runs what HTTP/2 does beside requests on the core of its connection.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(async move {
            future.await;
        });
    }
}

/// A connection taken from the pool or dialled.
pub(super) struct Taken {
    pub sender: Sender,
    /// Whether it served before: then it may have been closed behind our back.
    pub reused: bool,
}

impl Pools {
    /// An empty pool whose connections `connector` dials.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        Self { connector, kept: Rc::default() }
    }

    /// A connection that is there, or a fresh one, in a box: that happens rarely, and every request's
    /// future would have room for it. HTTP/2 is used where it may be and the upstream speaks it.
    pub(super) async fn take(&self, to: &Destination, protocols: Protocols) -> io::Result<Taken> {
        if protocols == Protocols::Either && to.scheme == Scheme::Https {
            if let Some(stream) = self.stream(to) {
                return Ok(Taken { sender: Sender::Http2(stream), reused: true });
            }
            if !self.kept.borrow().without_http2.contains(to) {
                return Box::pin(self.fresh(to, Protocols::Either)).await;
            }
        }
        match self.idle(to) {
            Some(sender) => Ok(Taken { sender: Sender::Http1(sender), reused: true }),
            None => Box::pin(self.fresh(to, Protocols::Http1)).await,
        }
    }

    /// A place on an open HTTP/2 connection.
    fn stream(&self, to: &Destination) -> Option<Place> {
        let mut kept = self.kept.borrow_mut();
        let list = kept.shared.get_mut(to)?;
        list.retain(|shared| !shared.sender.is_closed());
        list.iter().find(|shared| shared.has_room()).map(Place::of)
    }

    /// The most recently used idle HTTP/1.1 connection.
    fn idle(&self, to: &Destination) -> Option<http1::SendRequest<Body>> {
        let now = Instant::now();
        let mut kept = self.kept.borrow_mut();
        let list = kept.idle.get_mut(to)?;
        while let Some(idle) = list.pop() {
            if idle.sender.is_ready() && now.duration_since(idle.since) < KEEP {
                return Some(idle.sender);
            }
        }
        None
    }

    /// A fresh connection.
    pub(super) async fn fresh(&self, to: &Destination, protocols: Protocols) -> io::Result<Taken> {
        let stream = self.connector.dial(to, protocols).await?;
        metrics::counter!("amlgate_upstream_connections_total").increment(1);
        let sender = if stream.is_http2() {
            let handshake = http2::Builder::new(Local)
                .timer(TokioTimer::new())
                // Until the upstream has said how many it allows.
                .initial_max_send_streams(1)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
                .max_send_buf_size(BUFFER)
                .keep_alive_interval(PING_AFTER)
                .keep_alive_timeout(PING_WAIT)
                .handshake(TokioIo::new(stream));
            let (sender, connection) = handshake.await.map_err(io::Error::other)?;
            let connection = Rc::new(RefCell::new(Some(connection)));
            let own = Rc::clone(&connection);
            spawn_local(async move {
                poll_fn(|cx| match own.borrow_mut().as_mut() {
                    // An error here is told to the requests that it concerns.
                    Some(connection) => Pin::new(connection).poll(cx).map(drop),
                    None => Poll::Ready(()),
                })
                .await;
                // What is still to be sent on it learns from this that it will not be.
                let ended = own.borrow_mut().take();
                drop(ended);
            });
            let used = Rc::new(Cell::new(Instant::now()));
            let shared = Shared { sender, connection, streams: Rc::default(), used };
            let stream = Place::of(&shared);
            self.kept.borrow_mut().shared.entry(to.clone()).or_default().push(shared);
            Sender::Http2(stream)
        } else {
            if protocols == Protocols::Either {
                self.kept.borrow_mut().without_http2.insert(to.clone());
            }
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(BUFFER)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(io::Error::other)?;
            spawn_local(async move {
                // An error here is told to the request that it concerns.
                drop(connection.with_upgrades().await);
            });
            Sender::Http1(sender)
        };
        Ok(Taken { sender, reused: false })
    }

    /// Gives a connection back once its answer was read to the end.
    pub(super) fn give_back(&self, to: &Destination, sender: Sender) {
        let Sender::Http1(sender) = sender else { return };
        if sender.is_closed() {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        let list = kept.idle.entry(to.clone()).or_default();
        if list.len() < MAX_IDLE {
            list.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Drops what has been idle for too long.
    pub fn tidy(&self) {
        let now = Instant::now();
        let kept = &mut *self.kept.borrow_mut();
        kept.idle.retain(|_, list| {
            list.retain(|i| !i.sender.is_closed() && now.duration_since(i.since) < KEEP);
            !list.is_empty()
        });
        kept.shared.retain(|_, list| {
            list.retain(|s| {
                let busy = s.streams.get() > 0 || now.duration_since(s.used.get()) < KEEP;
                !s.sender.is_closed() && busy
            });
            !list.is_empty()
        });
        // Whoever had no HTTP/2 may have it by now.
        kept.without_http2.clear();
    }
}

/// Why a request has no answer, and the request if nothing of it was sent.
type Unsent = (hyper::Error, Option<Request<Body>>);

/// Whether the upstream says that it has not looked at a request: it refused the stream, or the
/// stream is above the last one that its GOAWAY names (RFC 9113, 6.8 and 8.7).
///
/// To streams at or below that one h2 tells an error of the socket instead when it closes.
pub(super) fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (refused || error.is_go_away());
        }
        cause = error.source();
    }
    false
}

/// Sends on a connection; what was not sent at all comes back.
pub(super) async fn send(
    taken: &mut Taken,
    to: &Destination,
    request: Request<Body>,
) -> Result<http::Response<hyper::body::Incoming>, Unsent> {
    let came_back = |mut error: TrySendError<Request<Body>>| {
        let unsent = error.take_message();
        (error.into_error(), unsent)
    };
    match &mut taken.sender {
        Sender::Http1(sender) => {
            if let Err(error) = sender.ready().await {
                return Err((error, Some(request)));
            }
            sender.try_send_request(request).await.map_err(came_back)
        }
        Sender::Http2(Place(shared)) => {
            if let Err(error) = shared.sender.ready().await {
                return Err((error, Some(request)));
            }
            let sent = shared.sender.try_send_request(for_http2(request, to)).await.map_err(came_back);
            sent.map_err(|(error, unsent)| (error, unsent.map(|request| for_http1(request, to))))
        }
    }
}

/// The authority moves into the target (RFC 9113, 8.3.1).
fn for_http2(mut request: Request<Body>, to: &Destination) -> Request<Body> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(uri::Scheme::HTTPS);
    parts.authority = to.authority().parse().ok();
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request.headers_mut().remove(header::HOST);
    request
}

/// And back.
fn for_http1(mut request: Request<Body>, to: &Destination) -> Request<Body> {
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    if let Ok(host) = HeaderValue::try_from(to.authority()) {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}
