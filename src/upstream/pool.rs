//! Connections to upstreams, one pool per core: the one used last is used first, so that the
//! others can end. What is pooled is keyed by everything that the connection's trust rests on.

use std::{cell::RefCell, collections::HashMap, fmt, io, rc::Rc, time::Duration};

use http::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{task::spawn_local, time::Instant};

use crate::{
    http::Body,
    net::{Connector, Destination, Protocols},
};

/// An idle connection is kept so long; Azure's front doors close theirs after four minutes.
const KEEP: Duration = Duration::from_secs(60);
/// At most so many idle ones to each destination.
const MAX_IDLE: usize = 256;
/// What hyper buffers of one connection, in each direction.
const BUFFER: usize = 128 << 10;

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

/// The pool of one core.
#[derive(Clone)]
pub struct Pools {
    connector: Connector,
    idle: Rc<RefCell<HashMap<Destination, Vec<Idle>>>>,
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pools({} destinations)", self.idle.borrow().len())
    }
}

/// A connection taken from the pool or dialled.
pub(super) struct Taken {
    pub sender: SendRequest<Body>,
    /// Whether it served before: then it may have been closed behind our back.
    pub reused: bool,
}

impl Pools {
    /// An empty pool whose connections `connector` dials.
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        Self { connector, idle: Rc::default() }
    }

    /// The most recently used idle connection, or a fresh one.
    pub(super) async fn take(&self, to: &Destination) -> io::Result<Taken> {
        let now = Instant::now();
        loop {
            let candidate = self.idle.borrow_mut().get_mut(to).and_then(Vec::pop);
            match candidate {
                Some(idle) if idle.sender.is_ready() && now.duration_since(idle.since) < KEEP => {
                    return Ok(Taken { sender: idle.sender, reused: true });
                }
                Some(_) => {}
                None => return self.fresh(to).await,
            }
        }
    }

    /// A fresh connection.
    pub(super) async fn fresh(&self, to: &Destination) -> io::Result<Taken> {
        let stream = self.connector.dial(to, Protocols::Http1).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        metrics::counter!("amlgate_upstream_connections_total").increment(1);
        spawn_local(async move {
            // An error here is told to the request that it concerns.
            drop(connection.with_upgrades().await);
        });
        Ok(Taken { sender, reused: false })
    }

    /// Gives a connection back once its answer was read to the end.
    pub(super) fn give_back(&self, to: &Destination, sender: SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(to.clone()).or_default();
        if list.len() < MAX_IDLE {
            list.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Drops what has been idle for too long.
    pub fn tidy(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, list| {
            list.retain(|i| !i.sender.is_closed() && now.duration_since(i.since) < KEEP);
            !list.is_empty()
        });
    }
}

/// Sends on a connection; what was not sent at all comes back.
pub(super) async fn send(
    taken: &mut Taken,
    request: Request<Body>,
) -> Result<http::Response<hyper::body::Incoming>, (hyper::Error, Option<Request<Body>>)> {
    if let Err(error) = taken.sender.ready().await {
        return Err((error, Some(request)));
    }
    taken.sender.try_send_request(request).await.map_err(|mut error| {
        let unsent = error.take_message();
        (error.into_error(), unsent)
    })
}
