//! What becomes of a body that a refused request still sends.
//!
//! hyper closes an HTTP/1 connection whose body was not read when the answer is out. A caller who is
//! still sending then meets a reset in place of the answer and never learns why it was refused, and
//! one who keeps connections for later finds this one gone (RFC 9112 section 9.6). So a small rest is
//! read and thrown away before the answer, and where more remains the answer says that it closes.

use std::time::Duration;

use http::{HeaderValue, Response, Version, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use crate::{http::Body, time::SharedClock};

/// No more than this is thrown away.
const MOST: usize = 1 << 20;

/// Nor for longer than this.
const LONGEST: Duration = Duration::from_secs(2);

/// Whether the caller is sending a body that must be read before the connection serves again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// No body, or one of HTTP/2, where a stream ends without its connection.
    Nothing,
    /// It waits for `100 Continue`, which reading would send.
    Waits,
    /// It sends.
    Sends,
}

impl Reading {
    pub fn of(head: &Parts, body: &Incoming) -> Self {
        if body.is_end_stream() || head.version > Version::HTTP_11 {
            Self::Nothing
        } else if head.headers.contains_key(header::EXPECT) {
            Self::Waits
        } else {
            Self::Sends
        }
    }
}

/// Reads what is left of a refused request, or says in the answer that the connection ends.
pub(super) async fn finish(
    reading: Reading,
    unread: Option<Incoming>,
    clock: &SharedClock,
    response: &mut Response<Body>,
) {
    let whole = match (reading, unread) {
        (Reading::Nothing, _) => return,
        (Reading::Sends, Some(body)) => tokio::select! {
            whole = read(body) => whole,
            () = clock.sleep(LONGEST) => false,
        },
        // A judged body was read to its end; what else was taken and refused was not.
        (Reading::Sends, None) => response.status().is_client_error() && !is_of_body(response),
        (Reading::Waits, _) => false,
    };
    if !whole {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Whether the refusal is of the body itself, whose reading then stopped on the way.
fn is_of_body(response: &Response<Body>) -> bool {
    matches!(response.status().as_u16(), 400 | 408 | 413 | 415)
}

/// Whether the body ended before the bound.
async fn read(mut body: Incoming) -> bool {
    let mut left = MOST;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let read = frame.data_ref().map_or(0, bytes::Bytes::len);
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}
