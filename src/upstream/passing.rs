//! Answers on their way through: counted, watched, never collected.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::{forward::Connection, upload::Upload};
use crate::{
    audit::{Ending, OutcomeGuard, bodies::Taker},
    http::BodyError,
};

/// How often a stream is asked whether it may go on: a revocation cuts it within a second.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(500);

/// Judges a live stream: `Err` says why it ends.
pub trait Watch {
    /// Whether the stream may go on.
    ///
    /// # Errors
    /// The words for the log.
    fn may_go_on(&mut self) -> Result<(), String>;
}

/// An answer's body on its way to the caller. When it is dropped, its outcome is recorded: read to
/// the end, broken off by the upstream, cut, or left by the caller.
pub struct Passing {
    body: Incoming,
    outcome: OutcomeGuard,
    /// Copies what passes, where it is recorded.
    taker: Option<Taker>,
    /// The request's body, which may still be flowing; it ends with the answer.
    upload: Upload,
    connection: Option<Connection>,
    watch: Box<dyn Watch>,
    /// Made when the body first makes us wait: most answers never do.
    tick: Option<Pin<Box<Sleep>>>,
    /// When it was last asked whether it may go on.
    asked: Instant,
    idle_since: Instant,
    idle: Duration,
    done: bool,
}

impl Passing {
    /// Passes `body` on and records what becomes of it.
    #[must_use]
    pub fn new(
        body: Incoming,
        mut outcome: OutcomeGuard,
        upload: Upload,
        connection: Connection,
        watch: Box<dyn Watch>,
        idle: Duration,
        taker: Option<Taker>,
    ) -> Self {
        outcome.ended(Ending::ClientGone);
        let now = Instant::now();
        let mut passing = Self {
            body,
            outcome,
            taker,
            upload,
            connection: Some(connection),
            watch,
            tick: None,
            asked: now,
            idle_since: now,
            idle,
            done: false,
        };
        if passing.body.is_end_stream() {
            passing.complete();
        }
        passing
    }

    fn complete(&mut self) {
        self.done = true;
        self.outcome.ended(Ending::Completed);
        let whole = self.upload.answered(&mut self.outcome);
        if let Some(connection) = self.connection.take()
            && whole
        {
            connection.reuse();
        }
    }

    fn fail(
        &mut self,
        ending: Ending,
        why: impl Into<BodyError>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.done = true;
        self.outcome.ended(ending);
        Poll::Ready(Some(Err(why.into())))
    }

    /// Asks, at intervals, whether the stream may go on: also one that never makes us wait.
    fn ask(&mut self, cx: &mut Context<'_>) -> Result<(), (Ending, String)> {
        let now = Instant::now();
        if now >= self.asked + ASK_EVERY {
            self.asked = now;
            self.watch.may_go_on().map_err(|why| (Ending::Cut, why))?;
        }
        while let Some(tick) = self.tick.as_mut()
            && tick.as_mut().poll(cx).is_ready()
        {
            tick.as_mut().reset(now + ASK_EVERY);
            if self.idle_since.elapsed() > self.idle {
                return Err((Ending::TimedOut, "the upstream sends nothing any more".to_owned()));
            }
        }
        Ok(())
    }
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        if let Err((ending, why)) = this.ask(cx) {
            this.outcome.because(&why);
            return this.fail(ending, why);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            if this.tick.is_none() {
                let mut tick = Box::pin(tokio::time::sleep_until(Instant::now() + ASK_EVERY));
                // Registers the wake-up; it cannot be due yet.
                let _pending = tick.as_mut().poll(cx);
                this.tick = Some(tick);
            }
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => {
                this.idle_since = Instant::now();
                if let Some(data) = frame.data_ref() {
                    this.outcome.received(data.len() as u64);
                    if let Some(taker) = &this.taker {
                        taker.take(data);
                    }
                }
                if this.body.is_end_stream() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => this.fail(Ending::UpstreamFailed, error),
            None => {
                this.complete();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.outcome.sent(self.upload.sent());
    }
}

impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Passing({:?})", self.outcome)
    }
}
