//! A request's body on its way out: counted, timed, and ended when nobody wants the rest of it.
//!
//! An upstream may answer before it has the whole body. The answer is what the caller asked for, so
//! that it is passed on at once; when its last byte was, whatever the caller still sends has no
//! reader any more. The body then breaks off and takes the upstream's connection with it, which is
//! in the midst of a request and can serve no other.

use std::{
    cell::{Cell, RefCell},
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    audit::{OutcomeGuard, bodies::Taker},
    http::{
        BodyError,
        headers::{self, Told},
    },
};

/// What the record says of a request that was answered before its body ended.
const EARLY: &str = "the upstream answered before it had the whole body, and the rest was not sent";

/// Whom a body waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// Nobody: there is none, or it went out whole.
    Ended,
    /// The caller, since then.
    Caller(Instant),
    /// The upstream, which does not take what is there, since then.
    Upstream(Instant),
    /// Nobody: it came to no good end at the caller.
    Broke,
    /// Nobody: its rest is not wanted.
    Stopped,
}

struct Flow {
    sent: Cell<u64>,
    waits: Cell<Waits>,
    /// Whoever waits for the caller's next frame.
    waiting: RefCell<Option<Waker>>,
}

/// What the one who sends a request knows of its body. When it is dropped the body ends: there is
/// nobody any more whom the rest would concern.
pub struct Upload(Rc<Flow>);

impl Upload {
    /// Of a request whose body is at hand and so long, or has none.
    #[must_use]
    pub fn of(length: u64) -> Self {
        Self(Rc::new(Flow {
            sent: Cell::new(length),
            waits: Cell::new(Waits::Ended),
            waiting: RefCell::default(),
        }))
    }

    /// Of a request whose body streams, and the body as it is to be sent; trailers go on as far as
    /// headers of these names would. What goes out is given to the taker, if there is one.
    #[must_use]
    pub fn streaming(body: Incoming, told: Told, taker: Option<Taker>) -> (Self, Counted) {
        let upload = Self::of(0);
        upload.0.waits.set(Waits::Caller(Instant::now()));
        let counted = Counted { body, flow: Rc::clone(&upload.0), told, taker };
        (upload, counted)
    }

    /// Bytes of the body that were sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0.sent.get()
    }

    /// Whether it went out to its end, as far as there is one.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.waits.get() == Waits::Ended
    }

    /// Whether more of it is to be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.0.waits.get(), Waits::Caller(_) | Waits::Upstream(_))
    }

    pub(super) fn waits(&self) -> Waits {
        self.0.waits.get()
    }

    /// The answer has ended: whether the body had gone out whole by then, so that the connection may
    /// serve again. If not, the body ends here, and the record says so.
    pub fn answered(&self, outcome: &mut OutcomeGuard) -> bool {
        let whole = self.is_whole();
        if !whole && self.waits() != Waits::Broke {
            outcome.because(EARLY);
            self.0.stop();
        }
        whole
    }
}

impl Flow {
    fn stop(&self) {
        self.waits.set(Waits::Stopped);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_open() {
            self.0.stop();
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({} bytes, {:?})", self.sent(), self.0.waits.get())
    }
}

/// A streaming body as it is sent.
pub struct Counted {
    body: Incoming,
    flow: Rc<Flow>,
    told: Told,
    /// Copies what passes, where it is recorded.
    taker: Option<Taker>,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counted({} bytes, {:?})", self.flow.sent.get(), self.flow.waits.get())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // The connection is gone, and nobody is there who would send the rest.
        if matches!(self.flow.waits.get(), Waits::Caller(_) | Waits::Upstream(_)) {
            self.flow.waits.set(Waits::Stopped);
        }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.flow.waits.get() == Waits::Stopped {
            return Poll::Ready(Some(Err("the rest of the body is not wanted".into())));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() {
            if !matches!(self.flow.waits.get(), Waits::Caller(_)) {
                self.flow.waits.set(Waits::Caller(Instant::now()));
            }
            self.flow.waiting.replace(Some(cx.waker().clone()));
        }
        match ready!(polled) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.flow.sent.set(self.flow.sent.get() + data.len() as u64);
                    if let Some(taker) = &self.taker {
                        taker.take(data);
                    }
                }
                let ended = self.body.is_end_stream();
                self.flow.waits.set(if ended { Waits::Ended } else { Waits::Upstream(Instant::now()) });
                match frame.into_trailers() {
                    Err(data) => Poll::Ready(Some(Ok(data))),
                    Ok(mut trailers) => {
                        // Nothing comes behind them.
                        self.flow.waits.set(Waits::Ended);
                        let kept = headers::keep_trailers(&mut trailers, self.told);
                        Poll::Ready(kept.then(|| Ok(Frame::trailers(trailers))))
                    }
                }
            }
            Some(Err(error)) => {
                self.flow.waits.set(Waits::Broke);
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.flow.waits.set(Waits::Ended);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
