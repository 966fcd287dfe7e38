//! What reached a server of the sandbox, and what goes wrong on purpose.
//!
//! One layer in front of every router: it records the request as it arrives and applies at most one
//! fault that was put in its way. Tests wait for events here instead of sleeping.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;

use super::serve::Connection;
use crate::time::SharedClock;

/// How much of a request body is remembered.
const REMEMBERED: usize = 1024 * 1024;

/// How many requests are remembered; the oldest go first.
const KEPT: usize = 10_000;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its position among all requests to this server, from 0.
    pub number: usize,
    /// The method.
    pub method: Method,
    /// The version of HTTP that it came by.
    pub version: http::Version,
    /// The authority that it named (`Host` or `:authority`), with port if any.
    pub host: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// The headers, credentials included: it is a sandbox.
    pub headers: HeaderMap,
    /// The body's first megabyte, as far as it has arrived.
    pub body: Bytes,
    /// Whether the body has arrived whole.
    pub body_ended: bool,
    /// What came behind the body.
    pub trailers: HeaderMap,
    /// The answer's status, once it was given; a hung or reset request has none.
    pub status: Option<StatusCode>,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers this instead of the truth; the request has no effect.
    Answer {
        /// The status.
        status: StatusCode,
        /// Headers besides `content-type: application/json`.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// Has no effect and never answers, until the client goes away.
    Hang,
    /// Has its effect, then never answers.
    HangAfterEffect,
    /// Has no effect; the connection is reset.
    Reset,
    /// Has its effect, then the connection is reset instead of the answer.
    ResetAfterEffect,
    /// Announces the whole answer, sends half of it, and breaks off.
    Truncate,
    /// Answers the truth after this time on the sandbox's clock.
    Delay(Duration),
}

impl Fault {
    /// 429 with `Retry-After` in seconds, as ARM throttles.
    #[must_use]
    pub fn throttle(retry_after: u64) -> Self {
        Self::Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            headers: vec![("retry-after", retry_after.to_string())],
            body: r#"{"error":{"code":"SubscriptionRequestsThrottled","message":"Number of requests for subscription exceeded the limit. Please try again later."}}"#.to_owned(),
        }
    }

    /// This status with an ARM error body of that code.
    #[must_use]
    pub fn status(status: StatusCode, code: &str) -> Self {
        let body = serde_json::json!({"error": {"code": code, "message": "a fault of the sandbox"}});
        Self::Answer { status, headers: Vec::new(), body: body.to_string() }
    }
}

#[derive(Debug, Clone)]
struct Trap {
    part: String,
    method: Option<Method>,
    fault: Fault,
}

#[derive(Debug, Default)]
struct Log {
    seen: VecDeque<Seen>,
    /// How many were forgotten: the number of the first that is remembered.
    forgotten: usize,
    traps: Vec<Trap>,
}

/// The record of one server and the faults put before it.
#[derive(Debug, Clone)]
pub struct Observer {
    log: Arc<Mutex<Log>>,
    changed: watch::Sender<u64>,
    clock: SharedClock,
}

impl Observer {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { log: Arc::default(), changed: watch::Sender::new(0), clock }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Log) -> T) -> T {
        let out = f(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
        out
    }

    /// The requests so far in the order of arrival, the last ten thousand of them.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.seen.iter().cloned().collect()
    }

    /// How many requests there were, those that are no longer remembered included.
    #[must_use]
    pub fn count(&self) -> usize {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.forgotten + log.seen.len()
    }

    /// The requests so far whose `host + target` contains `part`.
    #[must_use]
    pub fn seen_at(&self, part: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|s| format!("{}{}", s.host, s.target).contains(part));
        seen
    }

    /// Waits until `wanted` holds for the requests so far, and gives them back.
    pub async fn wait_for(&self, wanted: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut changed = self.changed.subscribe();
        loop {
            let seen = self.seen();
            if wanted(&seen) || changed.changed().await.is_err() {
                return seen;
            }
        }
    }

    /// Puts `fault` in the way of the next request whose `host + target` contains `part` (and whose
    /// method is `method`, if one is given). Traps for one request spring in the order they were set.
    pub fn trap(&self, part: &str, method: Option<Method>, fault: Fault) {
        self.with(|log| log.traps.push(Trap { part: part.to_owned(), method, fault }));
    }

    /// Takes away the faults that have not struck.
    pub fn disarm(&self) {
        self.with(|log| log.traps.clear());
    }

    fn arrive(&self, request: &Request) -> (usize, Option<Fault>) {
        let host = request
            .uri()
            .authority()
            .map(ToString::to_string)
            .or_else(|| {
                request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).map(ToOwned::to_owned)
            })
            .unwrap_or_default();
        let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let whole = format!("{host}{target}");
        self.with(|log| {
            let trap = log.traps.iter().position(|t| {
                whole.contains(&t.part) && t.method.as_ref().is_none_or(|m| m == request.method())
            });
            let number = log.forgotten + log.seen.len();
            if log.seen.len() == KEPT {
                log.seen.pop_front();
                log.forgotten += 1;
            }
            log.seen.push_back(Seen {
                number,
                method: request.method().clone(),
                version: request.version(),
                host,
                target,
                headers: request.headers().clone(),
                body: Bytes::new(),
                body_ended: false,
                trailers: HeaderMap::new(),
                status: None,
            });
            (number, trap.map(|at| log.traps.remove(at).fault))
        })
    }

    fn amend(&self, number: usize, f: impl FnOnce(&mut Seen)) {
        self.with(|log| {
            let at = number.checked_sub(log.forgotten);
            if let Some(seen) = at.and_then(|at| log.seen.get_mut(at)) {
                f(seen);
            }
        });
    }
}

/// The layer: see the module.
pub async fn layer(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let (number, fault) = observer.arrive(&request);
    let connection = request.extensions().get::<Connection>().cloned();
    let reset = async || {
        if let Some(connection) = &connection {
            connection.reset();
        }
        std::future::pending::<Response>().await
    };
    let truth = async || {
        let (head, body) = request.into_parts();
        let heard = Heard { inner: body, observer: observer.clone(), number };
        next.run(Request::from_parts(head, Body::new(heard))).await
    };
    let response = match fault {
        None => truth().await,
        Some(Fault::Answer { status, headers, body }) => answer(status, &headers, body),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::HangAfterEffect) => {
            truth().await;
            std::future::pending().await
        }
        Some(Fault::Reset) => reset().await,
        Some(Fault::ResetAfterEffect) => {
            truth().await;
            reset().await
        }
        Some(Fault::Truncate) => truncated(truth().await).await,
        Some(Fault::Delay(by)) => {
            observer.clock.sleep(by).await;
            truth().await
        }
    };
    observer.amend(number, |seen| seen.status = Some(response.status()));
    response
}

fn answer(status: StatusCode, headers: &[(&'static str, String)], body: String) -> Response {
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

async fn truncated(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let whole = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let half = whole.slice(..whole.len() / 2);
    Response::from_parts(head, Body::new(Half { half: Some(half) }))
}

/// A body that breaks off with an error.
struct Half {
    half: Option<Bytes>,
}

impl HttpBody for Half {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(match self.half.take() {
            Some(half) => Ok(Frame::data(half)),
            None => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
        }))
    }
}

/// A request body that is remembered as it passes.
struct Heard {
    inner: Body,
    observer: Observer,
    number: usize,
}

impl HttpBody for Heard {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.observer.amend(self.number, |seen| seen.body_ended = true),
            Poll::Ready(Some(Ok(frame))) => {
                let last = self.inner.is_end_stream();
                if let Some(data) = frame.data_ref() {
                    self.observer.amend(self.number, |seen| {
                        let room = REMEMBERED.saturating_sub(seen.body.len()).min(data.len());
                        if room > 0 {
                            seen.body = [seen.body.as_ref(), &data.slice(..room)].concat().into();
                        }
                        seen.body_ended = last;
                    });
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.observer.amend(self.number, |seen| seen.trailers = trailers.clone());
                }
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
