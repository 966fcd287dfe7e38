//! One attempt: what goes out, and what can go wrong.

use std::{cell::Cell, fmt, rc::Rc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request, uri::PathAndQuery,
};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{
    UpstreamTimeouts,
    pool::{self, Pools, Sender},
};
use crate::{
    credentials::Attempt,
    http::{Body, Target, headers},
    net::{Destination, Protocols},
};

/// What is sent, besides the attempt's token.
pub struct Sending {
    /// Where to.
    pub to: Destination,
    /// The method.
    pub method: Method,
    /// Path and query, as judged.
    pub target: Target,
    /// What the caller wrote: where it is the same, it is not written and parsed anew.
    pub written: Option<PathAndQuery>,
    /// The headers that go on.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Bytes of the body that were sent so far.
    pub sent: Rc<Cell<u64>>,
    /// The protocol that the caller asks to upgrade to.
    pub upgrade: Option<HeaderValue>,
    /// Whether the caller's second bearer is to be replaced.
    pub ml_token: bool,
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} to {}", self.method, self.target.path(), self.to)
    }
}

/// What the upstream answered, its body still to come.
pub struct Answer {
    /// Head and body.
    pub response: Response<Incoming>,
    /// The connection, to be given back when the body was read.
    pub connection: Connection,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({})", self.response.status())
    }
}

/// The connection that an answer comes on.
pub struct Connection {
    sender: Sender,
    pools: Pools,
    to: Destination,
}

impl Connection {
    /// The answer was read to its end: the connection may serve again.
    pub fn reuse(self) {
        self.pools.give_back(&self.to, self.sender);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.to)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection: nothing was sent.
    #[error("cannot connect to `{to}`")]
    Connect {
        /// Where to.
        to: String,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke; whether the request was acted on is not known.
    #[error("`{to}` broke off before it answered")]
    Broke {
        /// Where to.
        to: String,
        /// Why.
        source: hyper::Error,
    },
    /// The caller's body broke off.
    #[error("the request's body broke off")]
    Body,
    /// It took too long; whether the request was acted on is not known.
    #[error("`{to}` did not answer within {} s", .limit.as_secs())]
    TimedOut {
        /// Where to.
        to: String,
        /// The bound.
        limit: Duration,
    },
    /// The request cannot be written.
    #[error("the request cannot be written")]
    Unwritable(#[from] http::Error),
}

/// Sends an attempt and waits for the head of its answer.
///
/// A connection that was closed while it was idle is replaced once, because nothing of the request
/// was sent on it.
///
/// # Errors
/// [`Failure`].
pub async fn forward(
    pools: &Pools,
    attempt: &Attempt,
    sending: Sending,
    timeouts: UpstreamTimeouts,
) -> Result<Answer, Failure> {
    let to = sending.to.clone();
    let upgrade = sending.upgrade.is_some();
    let connect = |source| Failure::Connect { to: to.to_string(), source };
    // A body that streams may be long: it has a connection of its own, and so has an upgrade.
    let protocols = if upgrade || sending.body.is_stream() { Protocols::Http1 } else { Protocols::Either };
    let taken = if upgrade { pools.fresh(&to, protocols).await } else { pools.take(&to, protocols).await };
    let mut taken = taken.map_err(connect)?;
    let mut request = write(attempt, sending)?;
    loop {
        let head = timeout(timeouts.head, pool::send(&mut taken, &to, request)).await;
        match head {
            Err(_) => return Err(Failure::TimedOut { to: to.to_string(), limit: timeouts.head }),
            Ok(Ok(response)) => {
                let connection = Connection { sender: taken.sender, pools: pools.clone(), to };
                return Ok(Answer { response, connection });
            }
            Ok(Err((_, Some(unsent)))) if taken.reused => {
                taken = pools.fresh(&to, protocols).await.map_err(connect)?;
                request = unsent;
            }
            Ok(Err((source, _))) if source.is_user() => return Err(Failure::Body),
            Ok(Err((source, _))) => return Err(Failure::Broke { to: to.to_string(), source }),
        }
    }
}

/// The request as it goes out: re-framed, with the gate's own host and token.
fn write(attempt: &Attempt, sending: Sending) -> Result<Request<Body>, http::Error> {
    let uri = match sending.written.filter(|written| sending.target.is_written(written.as_str())) {
        Some(written) => Uri::from(written),
        None => Uri::try_from(sending.target.path_and_query())?,
    };
    let mut request: request::Builder = Request::builder().method(sending.method).uri(uri);
    if let Some(map) = request.headers_mut() {
        *map = sending.headers;
        map.insert(header::HOST, headers::value(&sending.to.authority()));
        if let Some(token) = attempt.authorization() {
            map.insert(header::AUTHORIZATION, token.clone());
        }
        if sending.ml_token
            && let Some(token) = attempt.ml_token()
        {
            map.insert("x-azureml-token", token);
        }
        if let Some(protocol) = sending.upgrade {
            map.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            map.insert(header::UPGRADE, protocol);
        }
    }
    request.body(sending.body)
}

impl Answer {
    /// Whether the upstream changed the protocol.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.response.status() == StatusCode::SWITCHING_PROTOCOLS
    }
}
