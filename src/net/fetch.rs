//! One bounded request and its whole answer: keys, tokens, secrets. Not for callers' requests.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{Connector, Destination, Protocols};

/// How much and how long.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Bytes of the answer's body.
    pub body: usize,
    /// From dialling to the last byte.
    pub time: Duration,
}

impl Default for FetchLimits {
    /// A mebibyte, ten seconds.
    fn default() -> Self {
        Self { body: 1 << 20, time: Duration::from_secs(10) }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error("cannot connect to `{to}`: {source}")]
    Connect {
        /// Where to.
        to: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("`{to}` broke off: {source}")]
    Exchange {
        /// Where to.
        to: String,
        /// Why.
        source: hyper::Error,
    },
    /// The answer is larger than the bound, or broke off.
    #[error("the answer of `{to}` is larger than {limit} bytes, or broke off")]
    TooLarge {
        /// Where to.
        to: String,
        /// The bound.
        limit: usize,
    },
    /// It took too long.
    #[error("`{to}` took longer than {} s", .limit.as_secs())]
    TimedOut {
        /// Where to.
        to: String,
        /// The bound.
        limit: Duration,
    },
}

impl Connector {
    /// Sends one request over HTTP/1.1 on a connection of its own and reads the answer whole.
    /// The request's URI may be absolute; path and query go out, `Host` comes from `to`.
    /// Redirects are answers like others.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn send(
        &self,
        to: &Destination,
        request: Request<Bytes>,
        limits: FetchLimits,
    ) -> Result<Response<Bytes>, FetchError> {
        timeout(limits.time, self.exchange(to, request, limits.body))
            .await
            .unwrap_or_else(|_| Err(FetchError::TimedOut { to: to.to_string(), limit: limits.time }))
    }

    async fn exchange(
        &self,
        to: &Destination,
        request: Request<Bytes>,
        max_body: usize,
    ) -> Result<Response<Bytes>, FetchError> {
        let broke = |source| FetchError::Exchange { to: to.to_string(), source };
        let stream = self
            .dial(to, Protocols::Http1)
            .await
            .map_err(|source| FetchError::Connect { to: to.to_string(), source })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        let answer = async {
            let (mut head, body) = request.into_parts();
            if let Some(path) = head.uri.path_and_query().cloned() {
                head.uri = path.into();
            }
            if let Ok(host) = HeaderValue::try_from(to.authority()) {
                head.headers.insert(header::HOST, host);
            }
            let response =
                sender.send_request(Request::from_parts(head, Full::new(body))).await.map_err(broke)?;
            let (head, body) = response.into_parts();
            if let Some(skew) = &self.skew {
                skew.note(&to.host, &head.headers);
            }
            let body = Limited::new(body, max_body)
                .collect()
                .await
                .map_err(|_| FetchError::TooLarge { to: to.to_string(), limit: max_body })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        // The connection is driven here, so that it ends with the request and needs no task.
        tokio::pin!(answer);
        let mut connection = std::pin::pin!(connection);
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                done = &mut answer => return done,
                ended = &mut connection, if open => {
                    open = false;
                    if let Err(source) = ended {
                        return Err(broke(source));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn fetch(answer: &'static [u8], limits: FetchLimits) -> Result<Response<Bytes>, FetchError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let read = stream.read(&mut seen).await.unwrap();
            let text = String::from_utf8_lossy(&seen[..read]).into_owned();
            assert!(text.starts_with("GET /keys?a=b HTTP/1.1\r\n"), "{text}");
            assert!(text.contains(&format!("host: {address}\r\n")), "{text}");
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let uri: http::Uri = format!("http://{address}/keys?a=b").parse().unwrap();
        let to = Destination::of(&uri).unwrap();
        let connector = Connector::new(super::super::ConnectorSettings::default()).unwrap();
        connector.send(&to, Request::get(uri).body(Bytes::new()).unwrap(), limits).await
    }

    #[tokio::test]
    async fn the_whole_answer_comes_back() {
        let answer =
            fetch(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", FetchLimits::default()).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"ok"[..]));
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let answer = fetch(
            b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            FetchLimits::default(),
        );
        assert_eq!(answer.await.unwrap().status(), 302);
    }

    #[tokio::test]
    async fn an_answer_over_the_bound_is_an_error() {
        let limits = FetchLimits { body: 3, ..FetchLimits::default() };
        let error = fetch(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd", limits).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { limit: 3, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_cut_answer_is_an_error() {
        assert!(
            fetch(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcd", FetchLimits::default()).await.is_err()
        );
    }
}
