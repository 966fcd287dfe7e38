//! A small HTTP server on loopback: TLS or plain, HTTP/1.1 and HTTP/2, upgrades, and connections
//! that can be cut hard for the tests' sake.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::SandboxError;

/// The connection of a request, as an extension of the request.
#[derive(Debug, Clone)]
pub struct Connection {
    reset: CancellationToken,
}

impl Connection {
    /// Cuts the connection with a TCP reset; what was not sent yet is lost.
    pub fn reset(&self) {
        self.reset.cancel();
    }
}

/// A running server; stops when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Server {
    /// Serves `router` on `ip` (loopback only) and `port` (0: any free one).
    ///
    /// # Errors
    /// [`SandboxError::NotLoopback`] or [`SandboxError::Listen`].
    pub async fn start(
        ip: IpAddr,
        port: u16,
        tls: Option<Arc<rustls::ServerConfig>>,
        router: Router,
    ) -> Result<Self, SandboxError> {
        if !ip.is_loopback() {
            return Err(SandboxError::NotLoopback(ip));
        }
        let address = SocketAddr::new(ip, port);
        let failed = |source| SandboxError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(
            listener,
            tls.map(TlsAcceptor::from),
            router,
            stop.clone(),
        )));
        Ok(Self { address, stop })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router, stop: CancellationToken) {
    loop {
        // An error here is a connection that is gone already, or no file descriptors: the next
        // accept says more.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let connection = Connection { reset: CancellationToken::new() };
        let (router, tls) = (router.clone(), tls.clone());
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(async move { serve(stream, tls, router, connection).await }),
        );
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, connection: Connection) {
    // A second handle on the socket: with a linger of zero, closing it sends a reset.
    let Ok((stream, twin)) = stream
        .into_std()
        .and_then(|s| Ok((s.try_clone()?, s)))
        .and_then(|(a, b)| Ok((TcpStream::from_std(a)?, b)))
    else {
        return;
    };
    let _ = stream.set_nodelay(true);
    let reset = connection.reset.clone();
    let served = async {
        match tls {
            None => converse(stream, router, connection).await,
            // A failed handshake is the client's to notice.
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    converse(stream, router, connection).await;
                }
            }
        }
    };
    if reset.run_until_cancelled(served).await.is_none() {
        let _ = socket2::SockRef::from(&twin).set_linger(Some(std::time::Duration::ZERO));
    }
}

async fn converse<S>(stream: S, router: Router, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(connection.clone());
        request
    });
    // An error is a client that went away or spoke nonsense; the conversation is over either way.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service))
        .await;
}
