//! The composition root: settings become parts, parts become listeners; reload and drain.
//!
//! The data plane is one current-thread runtime per core, each with its own listener and pool. The
//! control plane (keys, tokens, policies, certificates, health) is the runtime that calls
//! [`Server::start`]. They share snapshots and the journal's queue, nothing else.

mod build;
pub mod checkup;
mod reload;
mod rotation;
mod secrets;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use reload::{Asked, Shown, Watch};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_local,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Health},
    audit::{Journal, OpenError, event::Event},
    config::Settings,
    credentials::CredentialError,
    http::{Body, Connection},
    identity::ConnectionMemo,
    listen::{self, Handler, ListenSettings, Listener, ServerTls, Sockets, TlsError},
    net::TrustError,
    proxy::{self, Core, GateParts, SharedParts},
    secrets::{SealError, SecretError},
    telemetry,
    time::SharedClock,
    upstream::Pools,
    yaml::Problem,
};

/// How often a head of the record is signed.
const HEAD_EVERY: Duration = Duration::from_secs(10);
/// How often idle things are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// Why the gate does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policies.
    #[error("the policies are refused")]
    Policies(Vec<Problem>),
    /// A secret.
    #[error("cannot read the secret for {what}")]
    Secret {
        /// What it is for.
        what: String,
        /// Why.
        source: SecretError,
    },
    /// A secret of a vault.
    #[error("cannot read the secret for {what} from its vault")]
    Vault {
        /// What it is for.
        what: String,
        /// Why.
        source: CredentialError,
    },
    /// A file.
    #[error("cannot read `{path}`")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sealing keys.
    #[error("the sealing keys cannot be used")]
    Seal(#[from] SealError),
    /// The server certificate.
    #[error("the certificate of `{listener}` cannot be used")]
    Tls {
        /// Which listener.
        listener: &'static str,
        /// Why.
        source: TlsError,
    },
    /// Roots.
    #[error("the roots of `{name}` cannot be used")]
    Trust {
        /// Whose.
        name: String,
        /// Why.
        source: TrustError,
    },
    /// The record.
    #[error("the record cannot be kept")]
    Journal(#[from] OpenError),
    /// The record takes no first event.
    #[error("the record takes nothing: is there space on the disk of `audit.directory`?")]
    Unrecorded,
    /// An address.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A thread or runtime.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A running gate.
#[derive(Debug)]
pub struct Server {
    reverse: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    health: Option<SocketAddr>,
    stop: CancellationToken,
    listener: Option<Listener>,
    parts: SharedParts,
    reload: mpsc::Sender<Asked>,
    drain: Duration,
}

/// How many cores serve requests.
#[derive(Debug, Clone, Copy, Default)]
pub enum Cores {
    /// As many as the machine has.
    #[default]
    All,
    /// So many.
    Fixed(usize),
}

impl Server {
    /// Builds every part, listens, and serves until [`Self::stop`]. Must be called on the control
    /// runtime, which keeps keys, tokens and policies fresh.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(settings: Settings, clock: SharedClock, cores: Cores) -> Result<Self, StartError> {
        // A second installation changes nothing: tests start several gates in one process.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let built = build::parts(&settings, Arc::clone(&clock)).await?;
        let parts = Arc::clone(&built.parts);
        let stop = CancellationToken::new();
        let started =
            Event::Started { configuration: settings.digest, policies: parts.policies.status().digest };
        parts.journal.happened(&started).await.map_err(|_| StartError::Unrecorded)?;
        parts.verifier.refresh_once().await;
        let (reload, asked) = mpsc::channel(1);
        let shared = Arc::new(ArcSwap::new(parts));
        let mut server = Self {
            reverse: None,
            admin: None,
            health: None,
            stop: stop.clone(),
            listener: None,
            parts: Arc::clone(&shared),
            reload,
            drain: settings.timeouts.drain,
        };
        if let Some(reverse) = &settings.reverse {
            let listen = ListenSettings {
                cores: match cores {
                    Cores::All => ListenSettings::default().cores,
                    Cores::Fixed(count) => count.max(1),
                },
                tls: built.reverse_tls.clone(),
                trusted_proxies: reverse.trusted_proxies.clone(),
                proxy_protocol: reverse.proxy_protocol,
                connections: settings.limits.connections,
                per_peer: settings.limits.connections_per_peer,
                handshake: settings.timeouts.handshake,
                head: settings.timeouts.head,
                idle: settings.timeouts.idle,
                drain: settings.timeouts.drain,
                ..ListenSettings::default()
            };
            server.listen(reverse.address, listen, &built.pools)?;
        }
        server.admin_listeners(&settings, built.admin_tls.clone(), &built.health).await?;
        let metrics = built.health.metrics.clone();
        let ticking = Arc::clone(&clock);
        tokio::spawn(
            stop.run_until_cancelled_owned(async move { telemetry::fold(&metrics, &ticking).await }),
        );
        let shown = [("reverse", built.reverse_tls), ("admin", built.admin_tls)];
        let shown =
            shown.into_iter().filter_map(|(name, tls)| tls.map(|tls| Shown::new(name, tls))).collect();
        let watch = Watch::new(shared, built.health, settings, built.secrets, shown, clock);
        server.background(watch, asked);
        Ok(server)
    }

    /// Where the reverse proxy listens.
    #[must_use]
    pub const fn reverse(&self) -> Option<SocketAddr> {
        self.reverse
    }

    /// Where the admin listener is.
    #[must_use]
    pub const fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where health is asked for.
    #[must_use]
    pub const fn health(&self) -> Option<SocketAddr> {
        self.health
    }

    /// The record.
    #[must_use]
    pub fn journal(&self) -> Journal {
        self.parts.load().journal.clone()
    }

    /// Looks at policies, certificates, secrets and the configuration now, as SIGHUP has it done,
    /// and waits until what changed is in force or refused.
    pub async fn reload(&self) {
        let (answer, looked) = oneshot::channel();
        if self.reload.send(answer).await.is_ok() {
            // Without an answer the gate is stopping, and nothing will be taken over.
            drop(looked.await);
        }
    }

    /// The shared parts, for tests and benches that look inside.
    #[must_use]
    pub fn parts(&self) -> Arc<GateParts> {
        self.parts.load_full()
    }

    /// Drains: no new requests, what is under way finishes within the drain time, the record is
    /// vouched for to its end. Whether all of that went well.
    pub async fn stop(self) -> bool {
        self.stop.cancel();
        let drained = async {
            match self.listener {
                Some(listener) => listener.ended().await,
                None => true,
            }
        };
        let drained = tokio::time::timeout(self.drain + Duration::from_secs(5), drained).await;
        self.parts.load_full().journal.close().await && drained.unwrap_or(false)
    }

    /// Starts the reverse proxy's cores, each with its own connections to upstreams.
    fn listen(
        &mut self,
        address: SocketAddr,
        settings: ListenSettings,
        connector: &crate::net::Connector,
    ) -> Result<(), StartError> {
        let failed = |source| StartError::Listen { address, source };
        let sockets = Sockets::bind(address, settings.cores).map_err(failed)?;
        let (parts, connector, stop) = (Arc::clone(&self.parts), connector.clone(), self.stop.clone());
        let listener = listen::start(sockets, settings, &self.stop, move |_| {
            let core = Core::new(Arc::clone(&parts), Pools::new(connector.clone()));
            let tidying = core.clone();
            spawn_local(stop.clone().run_until_cancelled_owned(async move {
                loop {
                    tokio::time::sleep(TIDY_EVERY).await;
                    tidying.tidy();
                }
            }));
            Reverse(core)
        })
        .map_err(StartError::Thread)?;
        self.reverse = Some(listener.address());
        self.listener = Some(listener);
        Ok(())
    }

    async fn admin_listeners(
        &mut self,
        settings: &Settings,
        tls: Option<Arc<ServerTls>>,
        health: &Arc<Health>,
    ) -> Result<(), StartError> {
        if let Some(admin) = &settings.admin {
            let router = admin::router(Arc::clone(health));
            self.admin = Some(self.serve_router(admin.address, tls, router).await?);
        }
        if let Some(address) = settings.health {
            let router = admin::router(Arc::clone(health));
            self.health = Some(self.serve_router(address, None, router).await?);
        }
        Ok(())
    }

    async fn serve_router(
        &self,
        address: SocketAddr,
        tls: Option<Arc<ServerTls>>,
        router: axum::Router,
    ) -> Result<SocketAddr, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let listener = listen::bind(address, false).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let acceptor = tls.map(|tls| {
            let acceptor: Arc<dyn Fn() -> tokio_rustls::TlsAcceptor + Send + Sync> =
                Arc::new(move || tls.acceptor());
            acceptor
        });
        tokio::spawn(admin::serve(listener, acceptor, router, self.stop.clone()));
        Ok(bound)
    }

    /// What goes on beside requests, on the control runtime.
    fn background(&self, watch: Watch, asked: mpsc::Receiver<Asked>) {
        let parts = self.parts.load_full();
        let until = self.stop.clone();
        let verifier = Arc::clone(&parts.verifier);
        tokio::spawn(
            until.clone().run_until_cancelled_owned(async move { verifier.refresh_forever().await }),
        );
        let journal = parts.journal.clone();
        tokio::spawn(
            until.clone().run_until_cancelled_owned(async move { journal.sign_heads(HEAD_EVERY).await }),
        );
        tokio::spawn(until.run_until_cancelled_owned(watch.run(asked)));
    }
}

/// Hands requests of a listener to one core's gate.
#[derive(Debug, Clone)]
struct Reverse(Core);

impl Handler for Reverse {
    type Memory = ConnectionMemo;

    async fn handle(
        &self,
        connection: &Rc<Connection<ConnectionMemo>>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        proxy::serve(&self.0.gate(), connection, request).await
    }

    fn rejected(&self, peer: IpAddr, why: &'static str) {
        self.0.gate().parts().journal.refused(peer, why);
    }
}
