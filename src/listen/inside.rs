//! Requests inside a tunnel: TLS is ended with a certificate for the tunnel's host, and what comes
//! out of it is served like any other connection.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
};

use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Handler, Interceptor, ListenSettings,
    connection::{self, Keeping},
    io::Socket,
};
use crate::{
    http::{Connection, Upgraded},
    time::SharedClock,
};

/// How tunnels of a listener are served: one for each core.
#[derive(Debug)]
pub struct Inside {
    settings: ListenSettings,
    interceptor: Arc<Interceptor>,
    stop: CancellationToken,
    parked: AtomicUsize,
    clock: SharedClock,
}

impl Inside {
    /// Serves by the numbers of `settings`, until `stop`.
    #[must_use]
    pub fn new(
        settings: ListenSettings,
        interceptor: Arc<Interceptor>,
        stop: CancellationToken,
        clock: SharedClock,
    ) -> Self {
        Self { settings, interceptor, stop, parked: AtomicUsize::new(0), clock }
    }

    /// Ends TLS for `host` inside a tunnel that was accepted, and serves until it ends.
    ///
    /// # Errors
    /// The reason's word, if it never came to a request: what came is no TLS, or names another host.
    pub async fn serve<H: Handler>(
        &self,
        tunnel: Upgraded,
        host: &Arc<str>,
        peer: SocketAddr,
        tasks: TaskTracker,
        handler: H,
    ) -> Result<(), &'static str> {
        let limit = self.settings.handshake;
        let greeting = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tunnel);
        let greeting = timeout(limit, greeting).await.map_err(|_| "slow_handshake")?;
        let greeting = greeting.map_err(|_| "not_tls")?;
        // Some servers choose by this name what they serve: it may not differ from what was judged.
        if greeting.client_hello().server_name().is_none_or(|name| !name.eq_ignore_ascii_case(host)) {
            return Err("server_name");
        }
        let config = self.interceptor.leaf(host, self.clock.now()).map_err(|error| {
            tracing::error!(%error, "a tunnel cannot be served");
            "no_leaf"
        })?;
        let stream = timeout(limit, greeting.into_stream(config)).await.map_err(|_| "slow_handshake")?;
        let stream = stream.map_err(|_| "tls_handshake")?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let keeping = Keeping {
            settings: &self.settings,
            stop: &self.stop,
            parked: &self.parked,
            connection: Rc::new(Connection::new(peer, true, tasks)),
            handler,
            // The tunnel itself counts as open.
            held: Rc::new(()),
        };
        let socket = Socket::Inner(Box::new(stream));
        if http2 {
            connection::keep_http2(socket, keeping).await;
        } else {
            connection::keep_http1(socket, keeping).await;
        }
        Ok(())
    }
}
