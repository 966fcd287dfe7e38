//! Where the console and the API are reached: at a listener of their own, and below the reserved path of
//! the reverse listener.
//!
//! There they are the same pages and the same calls, told apart by nothing but what stands before their
//! paths. They are served on the control runtime like the others, however the request came: the cores
//! serve callers of Azure. So many are under way at once and no more. Whatever else an upstream may
//! answer on that origin runs there in no browser (`proxy::answer`), because the session is in the same
//! cookie jar.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{Extensions, HeaderValue, Request, Response, Uri, header, uri::PathAndQuery},
    response::IntoResponse as _,
};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use super::{
    api::{Peer, Refused},
    serve::{PATIENCE, bounded},
};
use crate::http::{self, below_reserved};

/// Requests of people and their clients that are under way at the same time.
const MAX_REQUESTS: usize = 256;

/// Where they are.
#[derive(Debug, Clone, Default)]
pub struct Mount {
    /// What stands before every path: nothing at a listener of their own.
    pub base: &'static str,
    /// The origin by which browsers reach them: a POST that a page of another origin sent is refused.
    pub origin: Option<String>,
    /// The URL where browsers sign in, if not here.
    pub signs_in_at: Option<String>,
}

impl Mount {
    /// Where the pages are that a request asked for.
    pub(super) fn of(extensions: &Extensions) -> &'static str {
        extensions.get::<Arc<Self>>().map_or("", |mount| mount.base)
    }

    /// Whether a path of this origin is one of theirs.
    pub(super) fn holds(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.base);
        rest.is_some_and(|rest| matches!(rest.as_bytes().first(), None | Some(b'/' | b'?')))
    }
}

/// The console and the API below the reserved path of another listener.
#[derive(Debug, Clone)]
pub struct Mounted {
    router: Router,
    control: Handle,
    places: Arc<Semaphore>,
}

impl Mounted {
    /// Serves a router on a runtime.
    #[must_use]
    pub fn new(router: Router, control: Handle) -> Self {
        Self { router: bounded(router, PATIENCE), control, places: Arc::new(Semaphore::new(MAX_REQUESTS)) }
    }

    /// The answer to a request at or below the reserved path, by somebody at `peer`. It ends when nobody
    /// waits for it any more.
    pub async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<http::Body> {
        let Ok(_place) = self.places.try_acquire() else {
            return passed_on(Refused::unavailable("too many requests are under way").into_response());
        };
        let Some(mut request) = beneath(request) else {
            return passed_on(Refused::malformed("the path cannot be read").into_response());
        };
        request.extensions_mut().insert(Peer(peer));
        let answered = self.control.spawn(self.router.clone().oneshot(request.map(Body::new)));
        match AbortOnDropHandle::new(answered).await {
            Ok(Ok(response)) => passed_on(response),
            Ok(Err(never)) => match never {},
            Err(_) => passed_on(Refused::unavailable("the gate is stopping").into_response()),
        }
    }
}

/// The request without the reserved path, and with a `Host` also where HTTP/2 has none.
fn beneath<B>(mut request: Request<B>) -> Option<Request<B>> {
    let rest = below_reserved(request.uri().path_and_query()?.as_str())?;
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    if !request.headers().contains_key(header::HOST) {
        let host = HeaderValue::from_str(request.uri().authority()?.as_str()).ok()?;
        request.headers_mut().insert(header::HOST, host);
    }
    *request.uri_mut() = Uri::from(rest.parse::<PathAndQuery>().ok()?);
    Some(request)
}

fn passed_on(response: Response<Body>) -> Response<http::Body> {
    response.map(|body| http::Body::stream(body.map_err(Into::into)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_taken_off_and_the_host_is_there_by_whichever_version() {
        for (uri, path, host) in [
            ("/.amlgate", "/", None),
            ("/.amlgate?a=%2F", "/?a=%2F", None),
            ("/.amlgate/requests/new?decision=1", "/requests/new?decision=1", None),
            ("https://gate.example:8443/.amlgate/access", "/access", Some("gate.example:8443")),
        ] {
            let asked = Request::get(uri);
            let asked = if host.is_none() { asked.header(header::HOST, "gate.example") } else { asked };
            let beneath = beneath(asked.body(()).unwrap()).unwrap();
            assert_eq!(beneath.uri().to_string(), path);
            assert_eq!(beneath.headers()[header::HOST], host.unwrap_or("gate.example"));
        }
        assert!(beneath(Request::get("/.amlgates").body(()).unwrap()).is_none());
    }

    #[test]
    fn a_path_of_the_same_origin_is_not_yet_one_of_the_consoles() {
        let mount = Mount { base: http::RESERVED, ..Mount::default() };
        for (path, held) in [
            ("/.amlgate", true),
            ("/.amlgate/access?a", true),
            ("/.amlgatex", false),
            ("/subscriptions/1", false),
            ("/", false),
        ] {
            assert_eq!(mount.holds(path), held, "{path}");
        }
        assert!(Mount::default().holds("/access") && !Mount::default().holds("access"));
    }
}
