//! Keeping one connection: HTTP/1.1 or HTTP/2 on it, how slow it may be, and parking.
//!
//! hyper holds 16 KiB of buffers for every HTTP/1.1 connection, busy or not. So a connection on
//! which nothing is in flight and nothing happened for a while is taken apart: its socket is kept,
//! and hyper is built anew when there is something to read. It is never parked behind a request
//! with a body, because bytes that are still to come might be that body's.

use std::{
    any::Any,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    task::spawn_local,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Handler, ListenSettings,
    io::{Io, Socket, Track, Unread},
};
use crate::http::{Body, BodyError, Connection, Upgraded, framing::MAX_HEAD};

/// HTTP/2: streams at once, and what may be buffered of each.
const MAX_STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const SEND_BUFFER: usize = 128 << 10;
/// HTTP/2: resets that a peer may provoke before the connection ends (CVE-2023-44487,
/// CVE-2025-8671).
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_RESETS: usize = 256;
/// HTTP/2: a silent peer is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(30);

/// What keeping needs.
pub(super) struct Keeping<'a, H: Handler> {
    pub settings: &'a ListenSettings,
    pub stop: &'a CancellationToken,
    pub parked: &'a AtomicUsize,
    pub connection: Rc<Connection<H::Memory>>,
    pub handler: H,
    /// What counts the connection as open.
    pub held: Rc<dyn Any>,
}

impl<H: Handler> Keeping<'_, H> {
    fn service(&self, track: &Rc<Track>) -> Requests<H> {
        Requests {
            handler: self.handler.clone(),
            connection: Rc::clone(&self.connection),
            track: Rc::clone(track),
        }
    }

    fn rejected(&self, why: &'static str) {
        self.handler.rejected(self.connection.peer.ip(), why);
    }
}

/// Why keeping came to an end, or to a pause.
enum Event {
    Done(hyper::Result<()>),
    Park,
    TooSlow(&'static str),
    Idle,
}

/// What the ticks of a connection have seen.
#[derive(Default)]
struct Ticks {
    activity: u64,
    /// Ticks without activity.
    quiet: u32,
    /// Ticks since a head began.
    head: u32,
}

/// Serves HTTP/1.1 until the connection ends.
pub(super) async fn keep_http1<H: Handler>(socket: Socket, keeping: Keeping<'_, H>) {
    let track = Rc::new(Track::default());
    let mut service = keeping.service(&track);
    let mut io = Io { socket, prefix: Bytes::new(), track: Rc::clone(&track) };
    let mut served = false;
    loop {
        let mut conn = http1::Builder::new()
            // Heads are timed here: hyper would start a timer for each request.
            .header_read_timeout(None)
            // Also what is buffered of an answer at most.
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(io), service);
        let event = {
            let mut tick = pin!(sleep(keeping.settings.tick));
            let mut ticks = Ticks::default();
            let mut stopping = false;
            poll_fn(|cx| {
                if let Poll::Ready(done) = Pin::new(&mut conn).poll(cx) {
                    return Poll::Ready(Event::Done(done));
                }
                while tick.as_mut().poll(cx).is_ready() {
                    again(tick.as_mut(), keeping.settings.tick);
                    if !stopping && keeping.stop.is_cancelled() {
                        stopping = true;
                        Pin::new(&mut conn).graceful_shutdown();
                        cx.waker().wake_by_ref();
                    }
                    if let Some(event) = looked_at(&track, &mut ticks, keeping.settings, served) {
                        return Poll::Ready(event);
                    }
                }
                Poll::Pending
            })
            .await
        };
        match event {
            Event::Done(Ok(())) => {
                let upgrade = keeping.connection.take_upgrade();
                if let Some(upgrade) = upgrade {
                    let parts = conn.into_parts();
                    let Io { socket, prefix, .. } = parts.io.into_inner();
                    let prefix = if parts.read_buf.is_empty() { prefix } else { parts.read_buf };
                    // Nobody waits any more: the connection is closed.
                    let _ = upgrade.send(Upgraded::new(Unread { socket, prefix }, Rc::clone(&keeping.held)));
                } else if track.had_body.get() {
                    conn.into_parts().io.into_inner().socket.linger().await;
                }
                return;
            }
            Event::Done(Err(error)) => return refused(&error, &keeping),
            Event::TooSlow(reason) => {
                return keeping.rejected(reason);
            }
            Event::Idle => return,
            Event::Park => {}
        }
        let parts = conn.into_parts();
        io = parts.io.into_inner();
        service = parts.service;
        if parts.read_buf.is_empty() {
            served = true;
            keeping.parked.fetch_add(1, Ordering::Relaxed);
            let wait = timeout(keeping.settings.idle, io.socket.readable(&mut io.prefix));
            let readable = tokio::select! {
                biased;
                () = keeping.stop.cancelled() => false,
                readable = wait => matches!(readable, Ok(Ok(()))),
            };
            keeping.parked.fetch_sub(1, Ordering::Relaxed);
            if !readable {
                return;
            }
        } else {
            io.prefix = parts.read_buf;
        }
    }
}

/// What a tick finds.
fn looked_at(track: &Track, ticks: &mut Ticks, settings: &ListenSettings, served: bool) -> Option<Event> {
    let activity = track.activity.get();
    ticks.quiet = if activity == ticks.activity { ticks.quiet.saturating_add(1) } else { 0 };
    ticks.activity = activity;
    let lasted = |ticks: u32, limit: Duration| settings.tick.saturating_mul(ticks) >= limit;
    if track.in_flight.get() > 0 || track.blocked.get() {
        ticks.head = 0;
        // What is sent is not taken. A long wait for the upstream is no fault of the peer's.
        return (track.blocked.get() && lasted(ticks.quiet, settings.idle))
            .then_some(Event::TooSlow("slow_reader"));
    }
    if track.heard.get() {
        ticks.head = ticks.head.saturating_add(1);
        return lasted(ticks.head, settings.head).then_some(Event::TooSlow("slow_head"));
    }
    ticks.head = 0;
    let first = !served && track.requests.get() == 0;
    if lasted(ticks.quiet, if first { settings.head } else { settings.idle }) {
        return Some(if first { Event::TooSlow("silent") } else { Event::Idle });
    }
    (!first && ticks.quiet > 0 && !track.had_body.get()).then_some(Event::Park)
}

/// Serves HTTP/2 until the connection ends.
pub(super) async fn keep_http2<H: Handler>(socket: Socket, keeping: Keeping<'_, H>) {
    let track = Rc::new(Track::default());
    let service = keeping.service(&track);
    let io = Io { socket, prefix: Bytes::new(), track: Rc::clone(&track) };
    let mut conn = pin!(
        http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_AFTER)
            .serve_connection(TokioIo::new(io), service)
    );
    let settings = keeping.settings;
    let mut tick = pin!(sleep(settings.tick));
    let (mut quiet, mut requests, mut stopping) = (0_u32, 0, false);
    let event = poll_fn(|cx| {
        if let Poll::Ready(done) = conn.as_mut().poll(cx) {
            return Poll::Ready(Event::Done(done));
        }
        while tick.as_mut().poll(cx).is_ready() {
            again(tick.as_mut(), settings.tick);
            let busy = track.in_flight.get() > 0 || track.requests.get() != requests;
            requests = track.requests.get();
            quiet = if busy { 0 } else { quiet.saturating_add(1) };
            let lasted = settings.tick.saturating_mul(quiet);
            if requests == 0 && lasted >= settings.head {
                return Poll::Ready(Event::TooSlow("silent"));
            }
            if !stopping && (keeping.stop.is_cancelled() || lasted >= settings.idle) {
                stopping = true;
                conn.as_mut().graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            // It was asked to go and does not.
            if stopping && lasted >= settings.idle.saturating_mul(2) {
                return Poll::Ready(Event::Idle);
            }
        }
        Poll::Pending
    })
    .await;
    match event {
        Event::Done(Err(error)) => refused(&error, &keeping),
        Event::TooSlow(reason) => keeping.rejected(reason),
        Event::Done(Ok(())) | Event::Idle | Event::Park => {}
    }
}

/// What hyper's parser refused is said; that a peer went away, or a body was cut, is not.
fn refused<H: Handler>(error: &hyper::Error, keeping: &Keeping<'_, H>) {
    let reason = if error.is_parse_too_large() {
        "large_head"
    } else if error.is_parse() {
        "unreadable_head"
    } else {
        return;
    };
    keeping.rejected(reason);
}

fn again(tick: Pin<&mut Sleep>, after: Duration) {
    tick.reset(Instant::now() + after);
}

/// Runs HTTP/2 streams on the core that they came to.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(async move {
            future.await;
        });
    }
}

/// The handler as hyper calls it; requests are counted until their answers are done.
struct Requests<H: Handler> {
    handler: H,
    connection: Rc<Connection<H::Memory>>,
    track: Rc<Track>,
}

/// A request under way.
struct Busy(Rc<Track>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
        self.0.heard.set(false);
        self.0.note();
    }
}

impl<H: Handler> Service<Request<Incoming>> for Requests<H> {
    type Response = Response<Tracked>;
    type Error = Infallible;
    // Boxed for each request: hyper keeps room for it as long as the connection lives.
    type Future = Pin<Box<dyn Future<Output = Result<Response<Tracked>, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let track = &self.track;
        track.in_flight.set(track.in_flight.get() + 1);
        track.requests.set(track.requests.get().wrapping_add(1));
        track.heard.set(false);
        track.had_body.set(!request.body().is_end_stream());
        let busy = Busy(Rc::clone(track));
        let (handler, connection) = (self.handler.clone(), Rc::clone(&self.connection));
        Box::pin(async move {
            let response = handler.handle(&connection, request).await;
            Ok(response.map(|body| Tracked { body, _busy: busy }))
        })
    }
}

/// An answer's body: while it is there the request is under way.
struct Tracked {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
