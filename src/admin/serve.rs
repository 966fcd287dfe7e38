//! Serves a router on the control runtime, with or without TLS.

use std::{sync::Arc, time::Duration};

use axum::Router;
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

/// Connections at the same time: operators and scrapers are few.
const MAX_CONNECTIONS: usize = 256;
/// TLS handshake and request head.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let router = router.clone().layer(axum::Extension(super::api::Peer(peer)));
        let (acceptor, stop) = (acceptor.clone(), stop.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let _place = place;
            match acceptor {
                None => requests(stream, router).await,
                Some(acceptor) => {
                    if let Ok(Ok(stream)) = timeout(PATIENCE, acceptor().accept(stream)).await {
                        requests(stream, router).await;
                    }
                }
            }
        }));
    }
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
