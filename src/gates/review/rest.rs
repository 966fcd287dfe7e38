//! A code host's REST API, asked as a user of the gate's own.
//!
//! Each answer is bounded in size and time, redirects are not followed, and whatever is not JSON of the form
//! that is expected is no answer.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::decide::{Step, Unreviewed, no};
use crate::{
    net::{Connector, Destination, FetchLimits},
    policy::review::CodeHost,
};

/// One answer is at most so large.
const ANSWER: usize = 4 << 20;
/// One answer takes at most so long.
const ANSWER_IN: Duration = Duration::from_secs(5);
/// What a page of a list holds.
pub(super) const PAGE: usize = 100;

/// Where it lies, and how the gate shows who it is.
#[derive(Clone)]
pub struct Rest {
    connector: Connector,
    to: Destination,
    /// The path below which the API lies, without a slash at its end.
    base: String,
    /// What is sent along with each question, the gate's own token among it.
    headers: HeaderMap,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.to, self.base)
    }
}

/// Why an answer is none.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Nobody answered, or only that they cannot now.
    Silent(String),
    /// There is nothing of that name, or the gate may not see it.
    Absent,
    /// The gate may not ask that.
    Refused(StatusCode),
    /// It is not of the form that is expected.
    Odd(String),
}

impl Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(why) | Self::Odd(why) => f.write_str(why),
            Self::Absent => f.write_str("it answered that there is no such thing"),
            Self::Refused(status) => write!(f, "it refused the gate's own token: {status}"),
        }
    }
}

impl NoAnswer {
    /// What the caller is told; the rest is for the log.
    pub(super) fn told(&self, host: &CodeHost, what: &str) -> Unreviewed {
        tracing::warn!(%host, what, why = %self, "a code host could not be asked");
        match self {
            Self::Silent(_) => no(Step::Asking, format!("{host} does not answer")),
            Self::Absent => no(Step::Reading, format!("{host} knows nothing of {what}")),
            Self::Refused(_) => no(Step::Reading, format!("{host} does not let the gate read {what}")),
            Self::Odd(_) => no(Step::Reading, format!("{host} gave no answer that can be read")),
        }
    }
}

impl Rest {
    /// An API, with what is sent along with each question.
    #[must_use]
    pub const fn new(connector: Connector, to: Destination, base: String, headers: HeaderMap) -> Self {
        Self { connector, to, base, headers }
    }

    /// What lies at a path.
    pub(super) async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, NoAnswer> {
        self.read(path, &self.ask(path).await?)
    }

    /// The answer to a question.
    pub(super) async fn post<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        question: &serde_json::Value,
    ) -> Result<T, NoAnswer> {
        let mut request = self.request(Method::POST, path, question.to_string().into())?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        self.read(path, &self.send(request).await?)
    }

    /// What lies at a path, and the cursor of the next page of it, if there is one.
    pub(super) async fn page<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
    ) -> Result<(T, Option<String>), NoAnswer> {
        let answer = self.ask(path).await?;
        let next = answer.headers().get(header::LINK).and_then(|link| cursor(link.to_str().ok()?));
        Ok((self.read(path, &answer)?, next))
    }

    /// A list whole, by pages with numbers; `None` if it is longer than `most` pages.
    pub(super) async fn all<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        most: usize,
    ) -> Result<Option<Vec<T>>, NoAnswer> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut all = Vec::new();
        for page in 1..=most {
            let of_page: Vec<T> = self.get(&format!("{path}{joint}per_page={PAGE}&page={page}")).await?;
            let is_last = of_page.len() < PAGE;
            all.extend(of_page);
            if is_last {
                return Ok(Some(all));
            }
        }
        Ok(None)
    }

    fn read<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        answer: &Response<Bytes>,
    ) -> Result<T, NoAnswer> {
        serde_json::from_slice(answer.body()).map_err(|_| {
            let (path, _) = path.split_once('?').unwrap_or((path, ""));
            NoAnswer::Odd(format!("`{}` answered `{path}` with something else than its API does", self.to))
        })
    }

    async fn ask(&self, path: &str) -> Result<Response<Bytes>, NoAnswer> {
        self.send(self.request(Method::GET, path, Bytes::new())?).await
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Bytes>, NoAnswer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .body(body)
            .map_err(|error| NoAnswer::Odd(error.to_string()))?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, NoAnswer> {
        let limits = FetchLimits { body: ANSWER, time: ANSWER_IN };
        let answer = self.connector.send(&self.to, request, limits).await;
        let answer = answer.map_err(|error| match error {
            crate::net::FetchError::TooLarge { .. } => NoAnswer::Odd(error.to_string()),
            crate::net::FetchError::Connect { .. }
            | crate::net::FetchError::Exchange { .. }
            | crate::net::FetchError::TimedOut { .. } => NoAnswer::Silent(error.to_string()),
        })?;
        let status = answer.status();
        match status {
            StatusCode::OK => Ok(answer),
            StatusCode::NOT_FOUND => Err(NoAnswer::Absent),
            // GitHub says 403 also to whoever asks too often.
            _ if status.is_server_error()
                || status == StatusCode::TOO_MANY_REQUESTS
                || (status == StatusCode::FORBIDDEN && is_too_often(answer.headers())) =>
            {
                Err(NoAnswer::Silent(format!("`{}` answered {status}", self.to)))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(NoAnswer::Refused(status)),
            _ => Err(NoAnswer::Odd(format!("`{}` answered {status}", self.to))),
        }
    }
}

fn is_too_often(headers: &HeaderMap) -> bool {
    let none_left = HeaderValue::from_static("0");
    headers.contains_key(header::RETRY_AFTER)
        || headers.get(HeaderName::from_static("x-ratelimit-remaining")) == Some(&none_left)
}

/// The cursor in the link to the next page (RFC 8288): only it is taken, and never the link.
fn cursor(link: &str) -> Option<String> {
    let next = link.split(',').find(|one| one.contains("rel=\"next\""))?;
    let (_, url) = next.split_once('<')?;
    let (url, _) = url.split_once('>')?;
    let (_, query) = url.split_once('?')?;
    let after = query.split('&').find_map(|pair| pair.strip_prefix("after="))?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~%=".contains(&b);
    (after.len() <= 1024 && after.bytes().all(plain)).then(|| after.to_owned())
}

/// A text as a segment of a path, or a value of a query.
pub(super) fn escaped(text: &str) -> impl Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_cursor_of_the_next_page_is_taken_from_a_link() {
        let link = "<https://api.github.com/repositories/1/activity?per_page=100&after=Y3Vyc29yOg%3D%3D&ref=x>; rel=\"next\", <https://x/?after=no>; rel=\"prev\"";
        assert_eq!(cursor(link).as_deref(), Some("Y3Vyc29yOg%3D%3D"));
        for odd in [
            "",
            "<https://x/?after=a>; rel=\"prev\"",
            "<https://x/?page=2>; rel=\"next\"",
            "<https://x/?after=a b>; rel=\"next\"",
            "<https://x/?after=a#b>; rel=\"next\"",
        ] {
            assert_eq!(cursor(odd), None, "{odd}");
        }
    }

    #[test]
    fn who_asks_too_often_is_not_refused_for_good() {
        let with = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
        };
        assert!(is_too_often(&with("retry-after", "60")));
        assert!(is_too_often(&with("x-ratelimit-remaining", "0")));
        assert!(!is_too_often(&with("x-ratelimit-remaining", "12")));
    }
}
