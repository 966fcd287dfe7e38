//! One attempt: what goes out, and what can go wrong.

use std::{
    fmt,
    pin::{Pin, pin},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request, uri::PathAndQuery,
};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until};

use super::{
    UpstreamTimeouts,
    passing::{ASK_EVERY, Watch},
    pool::{self, Pools, Sender},
    upload::{Upload, Waits},
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
    /// The upstream says that it has not looked at the request, or nothing of it was sent.
    #[error("`{to}` did not take the request")]
    Unprocessed {
        /// Where to.
        to: String,
        /// Why.
        source: hyper::Error,
    },
    /// The caller sends nothing more of the body.
    #[error("nothing came of the request's body for {} s", .limit.as_secs())]
    Stalled {
        /// The bound.
        limit: Duration,
    },
    /// What let it go on is over.
    #[error("{0}")]
    Cut(String),
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
/// was sent on it. Whoever waits is asked by `watching`, twice a second, whether they still may.
///
/// # Errors
/// [`Failure`].
pub async fn forward(
    pools: &Pools,
    attempt: &Attempt,
    sending: Sending,
    upload: &Upload,
    watching: Option<&Watching<'_>>,
    timeouts: &UpstreamTimeouts,
) -> Result<Answer, Failure> {
    let to = sending.to.clone();
    let upgrade = sending.upgrade.is_some();
    let connect = |source| Failure::Connect { to: to.to_string(), source };
    // A body that streams may be long: it has a connection of its own, and so has an upgrade.
    let protocols = if upgrade || sending.body.is_stream() { Protocols::Http1 } else { Protocols::Either };
    // Boxed, as whatever happens rarely: every request's future would have room for it.
    let taken =
        if upgrade { Box::pin(pools.fresh(&to, protocols)).await } else { pools.take(&to, protocols).await };
    let mut taken = taken.map_err(connect)?;
    let mut request = write(attempt, sending)?;
    let mut patience = Patience { upload, watching, watch: None, timeouts };
    loop {
        let head = patience.wait(pin!(pool::send(&mut taken, &to, request))).await;
        match head {
            Err(Ended::TooLate) => {
                return Err(Failure::TimedOut { to: to.to_string(), limit: timeouts.head });
            }
            Err(Ended::Stalled) => return Err(Failure::Stalled { limit: timeouts.body }),
            Err(Ended::Cut(why)) => return Err(Failure::Cut(why)),
            Ok(Ok(response)) => {
                let connection = Connection { sender: taken.sender, pools: pools.clone(), to };
                return Ok(Answer { response, connection });
            }
            Ok(Err((_, Some(unsent)))) if taken.reused => {
                taken = Box::pin(pools.fresh(&to, protocols)).await.map_err(connect)?;
                request = unsent;
            }
            Ok(Err(_)) if upload.waits() == Waits::Broke => return Err(Failure::Body),
            Ok(Err((source, unsent))) if unsent.is_some() || pool::is_unprocessed(&source) => {
                return Err(Failure::Unprocessed { to: to.to_string(), source });
            }
            Ok(Err((source, _))) => return Err(Failure::Broke { to: to.to_string(), source }),
        }
    }
}

/// Who says whether a request may go on that has no answer yet.
pub struct Watching<'a> {
    /// Makes the judge, if it comes to that.
    pub judge: &'a dyn Fn() -> Box<dyn Watch>,
    /// How long it is asked.
    pub until: Until,
}

impl fmt::Debug for Watching<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watching({:?})", self.until)
    }
}

/// How long a request may be called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until its body was sent: what writes cannot be unsaid then, and how it ended is to be known.
    Sent,
    /// Until its answer is there.
    Answered,
}

/// How long the head of an answer is waited for.
struct Patience<'a> {
    upload: &'a Upload,
    watching: Option<&'a Watching<'a>>,
    /// Made when the head is not there at once: most are.
    watch: Option<Box<dyn Watch>>,
    timeouts: &'a UpstreamTimeouts,
}

/// Why it is not waited for any more.
enum Ended {
    TooLate,
    Stalled,
    Cut(String),
}

impl Patience<'_> {
    async fn wait<T>(&mut self, mut head: Pin<&mut impl Future<Output = T>>) -> Result<T, Ended> {
        // The last time that a body streamed.
        let mut moved = Instant::now();
        let mut tick = pin!(sleep_until(self.next(moved, moved)));
        loop {
            tokio::select! {
                biased;
                head = &mut head => return Ok(head),
                () = &mut tick => {}
            }
            let now = Instant::now();
            let (since, limit, ended) = match self.upload.waits() {
                Waits::Caller(since) => (since, self.timeouts.body, Ended::Stalled),
                // A body that the upstream takes is no silence of the upstream's.
                Waits::Upstream(since) => (since, self.timeouts.head, Ended::TooLate),
                Waits::Ended | Waits::Broke | Waits::Stopped => (moved, self.timeouts.head, Ended::TooLate),
            };
            if now >= since + limit {
                return Err(ended);
            }
            if self.upload.is_open() {
                moved = now;
            }
            if let Some(watching) = self.watching.filter(|watching| self.asks(watching)) {
                let watch = self.watch.get_or_insert_with(|| (watching.judge)());
                watch.may_go_on().map_err(Ended::Cut)?;
            }
            tick.as_mut().reset(self.next(moved, now));
        }
    }

    fn asks(&self, watching: &Watching<'_>) -> bool {
        watching.until == Until::Answered || self.upload.is_open()
    }

    /// When to look next: soon while there is something to ask, else when the time is over.
    fn next(&self, moved: Instant, now: Instant) -> Instant {
        let over = moved + self.timeouts.head;
        if self.upload.is_open() {
            now + ASK_EVERY
        } else if self.watching.is_some_and(|watching| self.asks(watching)) {
            over.min(now + ASK_EVERY)
        } else {
            over
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
