//! One request to a receiver over the gate's one connector, and what its answer means.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};

use super::Undelivered;
use crate::{
    net::{Connector, Destination, FetchLimits},
    time::{SharedClock, Timestamp},
};

/// A receiver is given so long for a batch, and its answer may be so large.
const LIMITS: FetchLimits = FetchLimits { body: 1 << 20, time: Duration::from_secs(30) };
/// A receiver's wish to wait is followed up to here.
const MOST_AFTER: Duration = Duration::from_secs(600);
/// So much of a receiver's words is repeated.
const SAID: usize = 200;

/// Where to post. Of some receivers the path is the secret: it is in no text of this.
#[derive(Clone)]
pub struct Receiver {
    connector: Connector,
    to: Destination,
    /// Path and query.
    target: String,
    clock: SharedClock,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver({})", self.to)
    }
}

impl Receiver {
    /// A receiver at a path of a destination.
    #[must_use]
    pub const fn new(connector: Connector, to: Destination, target: String, clock: SharedClock) -> Self {
        Self { connector, to, target, clock }
    }

    /// The same receiver at another path.
    #[must_use]
    pub fn at(&self, target: impl Into<String>) -> Self {
        Self { target: target.into(), ..self.clone() }
    }

    /// The instant of a request.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Time.
    #[must_use]
    pub const fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// Where it is, for people.
    #[must_use]
    pub fn name(&self) -> String {
        self.to.to_string()
    }

    /// Sends a request; whatever is answered is an answer.
    ///
    /// # Errors
    /// Words on why there is none.
    pub async fn ask(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, String> {
        let mut request = Request::builder().method(method).uri(&*self.target).body(body).unwrap_or_default();
        *request.headers_mut() = headers;
        self.connector.send(&self.to, request, LIMITS).await.map_err(|error| error.to_string())
    }

    /// Posts a batch; the answer, if it was taken.
    ///
    /// # Errors
    /// [`Undelivered`].
    pub async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Response<Bytes>, Undelivered> {
        let response = self.ask(Method::POST, headers, body).await.map_err(Undelivered::later)?;
        judged(response, self.now())
    }
}

/// What a status means for a batch: taken, refused for what is in it, or another time. That a token
/// or a path is wrong is no fault of a record.
///
/// # Errors
/// [`Undelivered`].
pub(super) fn judged(response: Response<Bytes>, now: Timestamp) -> Result<Response<Bytes>, Undelivered> {
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            Err(Undelivered::Refused { why: said(&response) })
        }
        _ => Err(Undelivered::Later { after: retry_after(response.headers(), now), why: said(&response) }),
    }
}

/// `Retry-After` (RFC 9110, 10.2.3), in either form.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let after = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = chrono::DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis();
            Timestamp::from_millis(u64::try_from(at).ok()?).since(now)
        }
    };
    Some(after.min(MOST_AFTER))
}

/// The status and the beginning of the body, on one line.
pub(super) fn said(response: &Response<Bytes>) -> String {
    let body = String::from_utf8_lossy(response.body());
    let words: String = body.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID).collect();
    let words = words.trim();
    if words.is_empty() { response.status().to_string() } else { format!("{}: {words}", response.status()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, after: &str) -> Response<Bytes> {
        let builder = Response::builder().status(status).header(header::RETRY_AFTER, after);
        builder.body(Bytes::from_static(b"why\nnot")).unwrap()
    }

    #[test]
    fn only_what_a_receiver_says_of_the_records_is_the_records_fault() {
        let now = Timestamp::from_secs(1_795_435_200);
        for status in [400, 413, 422] {
            let refused = judged(answer(status, ""), now).unwrap_err();
            assert!(matches!(&refused, Undelivered::Refused { why } if why.ends_with(": why not")));
        }
        for status in [301, 401, 403, 404, 408, 429, 500, 502, 503, 504] {
            assert!(matches!(judged(answer(status, ""), now), Err(Undelivered::Later { .. })), "{status}");
        }
        assert!(judged(answer(204, ""), now).is_ok());
    }

    #[test]
    fn a_wish_to_wait_is_read_in_both_forms_and_bounded() {
        let now = Timestamp::from_secs(1_795_435_200);
        let after = |text| match judged(answer(503, text), now) {
            Err(Undelivered::Later { after, .. }) => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Mon, 23 Nov 2026 12:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(after("Mon, 23 Nov 2026 11:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("99999999"), Some(MOST_AFTER));
        assert_eq!(after("soon"), None);
    }
}
