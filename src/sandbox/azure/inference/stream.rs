//! Server-sent events, one at a time, paced by the sandbox's clock.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::header;
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::watch;

use crate::{sandbox::azure::Shared, time::Timer};

/// How many streams are open; tests wait here for a hang-up to arrive.
#[derive(Debug, Clone)]
pub struct Live(watch::Sender<usize>);

impl Default for Live {
    /// None yet.
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Live {
    /// How many now.
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until so many are open.
    pub async fn wait_for(&self, count: usize) {
        let mut live = self.0.subscribe();
        // The sender lives in `self`.
        let _ = live.wait_for(|now| *now == count).await;
    }

    fn enter(&self) -> Guard {
        self.0.send_modify(|n| *n += 1);
        Guard(self.clone())
    }
}

struct Guard(Live);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

struct Events {
    left: Box<dyn Iterator<Item = String> + Send>,
    shared: Arc<Shared>,
    wait: Option<Timer>,
    done: bool,
    _open: Guard,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(wait) = &mut self.wait {
            std::task::ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        if self.done {
            return Poll::Ready(None);
        }
        let event = self.left.next();
        if event.is_none() {
            self.done = true;
        } else if !self.shared.stream_interval.is_zero() {
            self.wait = Some(self.shared.clock.sleep(self.shared.stream_interval));
        }
        let text = format!("data: {}\n\n", event.as_deref().unwrap_or("[DONE]"));
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

/// An event stream; after each event it waits for the interval of the settings.
pub fn events(shared: &Arc<Shared>, events: Box<dyn Iterator<Item = String> + Send>) -> Response {
    let body = Events {
        left: events,
        shared: Arc::clone(shared),
        wait: None,
        done: false,
        _open: shared.live.enter(),
    };
    ([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")], Body::new(body))
        .into_response()
}
