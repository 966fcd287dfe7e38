//! Serves a router on the control runtime, with or without TLS.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::RequestBodyDeadlineLayer;

/// Connections at the same time: operators and scrapers are few.
const MAX_CONNECTIONS: usize = 256;
/// TLS handshake, request head, and body: each whole.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Who dialled showed a certificate that the listener's `client_ca` vouches for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Certified;

/// Serves until `stop`. `acceptor` gives the TLS that new connections are shown.
pub async fn serve(
    listener: TcpListener,
    acceptor: Option<Arc<dyn Fn() -> TlsAcceptor + Send + Sync>>,
    router: Router,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let router = bounded(router.clone(), PATIENCE).layer(Extension(super::api::Peer(peer)));
        let (acceptor, stop) = (acceptor.clone(), stop.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let _place = place;
            match acceptor {
                None => requests(stream, router).await,
                Some(acceptor) => {
                    if let Ok(Ok(stream)) = timeout(PATIENCE, acceptor().accept(stream)).await {
                        // The handshake fails where a certificate is shown that nobody vouches for.
                        let certified = stream.get_ref().1.peer_certificates().is_some();
                        let router = if certified { router.layer(Extension(Certified)) } else { router };
                        requests(stream, router).await;
                    }
                }
            }
        }));
    }
}

/// Whoever sends a body bit by bit holds one of few connections, and perhaps a place in the journal's
/// queue: not for longer than this.
pub(super) fn bounded(router: Router, patience: Duration) -> Router {
    router.layer(RequestBodyDeadlineLayer::new(patience))
}

async fn requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use axum::{
        body::{Body, Bytes},
        http::{Request, StatusCode},
        routing::post,
    };
    use http_body::Frame;
    use tower::ServiceExt as _;

    use super::*;

    /// A body whose sender keeps quiet.
    struct Silent;

    impl http_body::Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_not_waited_for_for_ever() {
        let router = Router::new().route("/", post(|_: Bytes| async {}));
        let asked = |body, patience| {
            bounded(router.clone(), patience).oneshot(Request::post("/").body(body).unwrap())
        };
        let whole = asked(Body::from("whole"), PATIENCE).await.unwrap();
        assert_eq!(whole.status(), StatusCode::OK);
        let silent = asked(Body::new(Silent), Duration::from_millis(1)).await.unwrap();
        assert!(silent.status().is_client_error(), "{}", silent.status());
    }
}
