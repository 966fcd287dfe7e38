//! The composition root: settings become parts, parts become listeners; reload and drain.
//!
//! The data plane is one current-thread runtime per core, each with its own listener and pool. The
//! control plane (keys, tokens, policies, certificates, health) is the runtime that calls
//! [`Server::start`]. They share snapshots and the journal's queue, nothing else.

mod api;
mod approvals;
mod archive;
pub mod asking;
mod blobs;
mod break_glass;
mod build;
pub mod checkup;
mod code_hosts;
mod complaint;
mod custody;
mod error;
mod groups;
mod hooks;
pub mod keeping;
mod machines;
mod merges;
mod metadata;
mod opinions;
pub mod reconcile;
mod registrations;
mod reload;
mod reverse;
mod reviews;
mod rotation;
mod secrets;
mod shown;
mod sinks;
mod statements;
mod triggers;
mod witnesses;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
pub use error::StartError;
use reload::{Asked, Running, Shown, Watch};
use reverse::{Own, Reverse};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinSet, spawn_local},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Health},
    audit::{self, Journal, JournalSettings, Recovery, event::Event, query},
    config::Settings,
    listen::{self, Handler, Inside, Interceptor, ListenSettings, Listener, ServerTls, Sockets},
    net::Connector,
    proxy::{
        Core, GateParts, SharedParts,
        forward::{Forward, Strangers},
    },
    secrets::Mac,
    telemetry,
    time::SharedClock,
    upstream::Pools,
};

/// How often a head of the record is signed.
const HEAD_EVERY: Duration = Duration::from_secs(10);
/// How often the index of the record is brought up to date.
const INDEX_EVERY: Duration = Duration::from_secs(60);
/// How long sinks and witnesses are given for the last records and their head.
const EXPORTS_END: Duration = Duration::from_secs(5);
/// How often idle things are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// How the journal is opened.
pub type OpenJournal = Box<
    dyn FnOnce(&JournalSettings, Mac, SharedClock) -> Result<(Journal, Recovery), audit::OpenError> + Send,
>;

/// A running gate.
#[derive(Debug)]
pub struct Server {
    reverse: Option<SocketAddr>,
    forward: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    health: Option<SocketAddr>,
    stop: CancellationToken,
    listeners: Vec<Listener>,
    /// Sockets that somebody else opened and nobody here has taken.
    handed: Vec<std::net::TcpListener>,
    parts: SharedParts,
    reload: mpsc::Sender<Asked>,
    drain: Duration,
    log: PathBuf,
    /// Sinks and witnesses.
    exporters: JoinSet<()>,
    /// Told when nothing is started any more by what was merged.
    triggers: Option<oneshot::Receiver<()>>,
    /// Told when nothing more is recorded.
    recorded: CancellationToken,
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
        Self::start_on(settings, clock, cores, Box::new(Journal::open)).await
    }

    /// As [`Self::start`], with a journal on any storage: for tests of what the gate does when its disk
    /// fails.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_on(
        settings: Settings,
        clock: SharedClock,
        cores: Cores,
        open: OpenJournal,
    ) -> Result<Self, StartError> {
        // A second installation changes nothing: tests start several gates in one process.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let built = build::parts(&settings, Arc::clone(&clock), open).await?;
        let parts = Arc::clone(&built.parts);
        let stop = CancellationToken::new();
        let started = Event::Started {
            configuration: settings.digest,
            policies: parts.policies.status().digest,
            files: Arc::clone(parts.policies.current().files()),
        };
        parts.journal.happened(&started).await.map_err(|_| StartError::Unrecorded)?;
        parts.verifier.refresh_once().await;
        let (reload, asked) = mpsc::channel(1);
        let shared = Arc::new(ArcSwap::new(parts));
        let api = Arc::new(api::of(&shared, &settings, &built.health, &built.hooks));
        let mut server = Self {
            reverse: None,
            forward: None,
            admin: None,
            health: None,
            stop: stop.clone(),
            listeners: Vec::new(),
            handed: listen::handed_over(),
            parts: Arc::clone(&shared),
            reload,
            drain: settings.timeouts.drain,
            log: settings.audit.directory.clone(),
            exporters: JoinSet::new(),
            triggers: None,
            recorded: CancellationToken::new(),
        };
        for exporter in built.exporters {
            server.exporters.spawn(exporter.run(server.recorded.clone()));
        }
        if let Some(witnesses) = built.witnesses {
            server.exporters.spawn(witnesses.run(HEAD_EVERY, server.recorded.clone()));
        }
        if let Some(reverse) = &settings.reverse {
            let listen = ListenSettings {
                tls: built.reverse_tls.clone(),
                trusted_proxies: reverse.trusted_proxies.clone(),
                proxy_protocol: reverse.proxy_protocol,
                ..listen_settings(&settings, cores)
            };
            let own = Own::of(&settings, &api);
            server.reverse = Some(server.listen_reverse(reverse.address, listen, &built.pools, own)?);
        }
        if let (Some(forward), Some(interceptor)) = (&settings.forward, &built.interceptor) {
            let listen = ListenSettings {
                name: "forward",
                tls: built.forward_tls.clone(),
                ..listen_settings(&settings, cores)
            };
            let address = server.listen_forward(
                forward.address,
                listen,
                &built.pools,
                Arc::clone(interceptor),
                &clock,
            )?;
            server.forward = Some(address);
        }
        server
            .admin_listeners(&settings, built.admin_tls.clone(), &built.health, &api, built.witness)
            .await?;
        let metrics = built.health.metrics.clone();
        let ticking = Arc::clone(&clock);
        tokio::spawn(
            stop.run_until_cancelled_owned(async move { telemetry::fold(&metrics, &ticking).await }),
        );
        if server.parts.load().store.is_some() {
            let started = triggers::start(&shared, &built.pools, &server.stop).map_err(StartError::Thread)?;
            server.triggers = Some(started);
        }
        let shown =
            [("reverse", built.reverse_tls), ("forward", built.forward_tls), ("admin", built.admin_tls)];
        let shown =
            shown.into_iter().filter_map(|(name, tls)| tls.map(|tls| Shown::new(name, tls))).collect();
        let running = Running {
            listeners: shown,
            interceptor: built.interceptor,
            sinks: built.renewal,
            hooks: built.hooks,
        };
        let watch = Watch::new(shared, built.health, settings, built.secrets, running, clock);
        if let Some(archive) = built.archive {
            tokio::spawn(server.stop.clone().run_until_cancelled_owned(archive.run()));
        }
        server.background(watch, asked);
        Ok(server)
    }

    /// Where the reverse proxy listens.
    #[must_use]
    pub const fn reverse(&self) -> Option<SocketAddr> {
        self.reverse
    }

    /// Where the forward proxy listens.
    #[must_use]
    pub const fn forward(&self) -> Option<SocketAddr> {
        self.forward
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
    pub async fn stop(mut self) -> bool {
        self.stop.cancel();
        let drained = async {
            let mut clean = true;
            for listener in self.listeners {
                clean &= listener.ended().await;
            }
            if let Some(triggers) = self.triggers {
                // An error is of one that ended otherwise: it has nothing under way either.
                clean &= triggers.await.is_ok();
            }
            clean
        };
        let drained = tokio::time::timeout(self.drain + Duration::from_secs(5), drained).await;
        let closed = self.parts.load_full().journal.close().await;
        // What sinks do not take in this time they get after the next start.
        self.recorded.cancel();
        let exported = async { while self.exporters.join_next().await.is_some() {} };
        drop(tokio::time::timeout(EXPORTS_END, exported).await);
        closed && drained.unwrap_or(false)
    }

    /// Starts the reverse proxy's cores, each with its own connections to upstreams.
    fn listen_reverse(
        &mut self,
        address: SocketAddr,
        settings: ListenSettings,
        connector: &Connector,
        own: Option<Own>,
    ) -> Result<SocketAddr, StartError> {
        let (parts, connector, stop) = (Arc::clone(&self.parts), connector.clone(), self.stop.clone());
        self.listen(address, settings, move |_| Reverse {
            core: core(&parts, &connector, &stop),
            own: own.clone(),
        })
    }

    /// Starts the forward proxy's cores.
    fn listen_forward(
        &mut self,
        address: SocketAddr,
        settings: ListenSettings,
        connector: &Connector,
        interceptor: Arc<Interceptor>,
        clock: &SharedClock,
    ) -> Result<SocketAddr, StartError> {
        let (parts, connector, stop) = (Arc::clone(&self.parts), connector.clone(), self.stop.clone());
        let (within, clock) = (settings.clone(), Arc::clone(clock));
        let strangers = Strangers::default();
        self.listen(address, settings, move |_| {
            let (interceptor, clock) = (Arc::clone(&interceptor), Arc::clone(&clock));
            let inside = Inside::new(within.clone(), interceptor, stop.clone(), clock);
            Forward::new(core(&parts, &connector, &stop), inside, connector.clone(), strangers.clone())
        })
    }

    fn listen<H: Handler>(
        &mut self,
        address: SocketAddr,
        settings: ListenSettings,
        factory: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Result<SocketAddr, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let sockets = Sockets::at(address, settings.cores, &mut self.handed).map_err(failed)?;
        let listener = listen::start(sockets, settings, &self.stop, factory).map_err(StartError::Thread)?;
        let bound = listener.address();
        self.listeners.push(listener);
        Ok(bound)
    }

    async fn admin_listeners(
        &mut self,
        settings: &Settings,
        tls: Option<Arc<ServerTls>>,
        health: &Arc<Health>,
        api: &Arc<admin::api::Api>,
        witness: Option<Arc<admin::witness::Witness>>,
    ) -> Result<(), StartError> {
        if let Some(admin) = &settings.admin {
            let mount = admin::Mount {
                base: "",
                origin: admin.public_url.as_ref().map(|url| url.to_text()),
                signs_in_at: settings.admin_url().filter(|_| admin.on_reverse),
            };
            let mut router =
                admin::router(Arc::clone(health)).merge(admin::api::router(Arc::clone(api), mount));
            if let Some(witness) = witness {
                router = router.merge(admin::witness::router(witness));
            }
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
        let current = Arc::clone(&self.parts);
        tokio::spawn(until.clone().run_until_cancelled_owned(async move {
            // Another configuration puts others in their place.
            loop {
                current.load_full().rights.renew_soon().await;
            }
        }));
        let current = Arc::clone(&self.parts);
        tokio::spawn(until.clone().run_until_cancelled_owned(async move {
            loop {
                current.load_full().groups.renew_soon().await;
            }
        }));
        let (gates, policies) = (Arc::clone(&parts.gates), Arc::clone(&parts.policies));
        tokio::spawn(until.clone().run_until_cancelled_owned(async move {
            loop {
                gates.reviews().mirror().keep(|| Arc::clone(policies.peek().gerrit_groups())).await;
            }
        }));
        if parts.store.is_some() {
            let (gates, journal) = (Arc::clone(&parts.gates), parts.journal.clone());
            let clock = Arc::clone(&parts.clock);
            tokio::spawn(until.clone().run_until_cancelled_owned(async move {
                tokio::join!(
                    approvals::follow(&gates, &journal, &clock),
                    break_glass::follow(&gates, &journal, &clock),
                    merges::follow(&gates, &clock),
                    registrations::follow(&gates, &journal, &clock),
                );
            }));
        }
        if parts.store.is_some() {
            let current = Arc::clone(&self.parts);
            tokio::spawn(until.clone().run_until_cancelled_owned(statements::owed::follow(current)));
        }
        if let Some(store) = parts.store.clone() {
            let verifier = Arc::clone(&parts.verifier);
            let clock = Arc::clone(&parts.clock);
            tokio::spawn(
                until
                    .clone()
                    .run_until_cancelled_owned(async move { api::follow(&store, &verifier, &clock).await }),
            );
        }
        let log = self.log.clone();
        let clock = Arc::clone(&parts.clock);
        tokio::spawn(until.clone().run_until_cancelled_owned(async move {
            loop {
                clock.sleep(INDEX_EVERY).await;
                index(log.clone()).await;
            }
        }));
        let journal = parts.journal.clone();
        tokio::spawn(
            until.clone().run_until_cancelled_owned(async move { journal.sign_heads(HEAD_EVERY).await }),
        );
        tokio::spawn(until.run_until_cancelled_owned(watch.run(asked)));
    }
}

/// Adds what was written to the index of the record. Nothing waits for it, and whoever searches adds
/// what it lacks.
async fn index(log: PathBuf) {
    let refreshed = tokio::task::spawn_blocking(move || query::refresh(&log)).await;
    if let Ok(Err(error)) = refreshed {
        tracing::warn!(%error, "the index of the record cannot be kept: searches take longer");
    }
}

fn listen_settings(settings: &Settings, cores: Cores) -> ListenSettings {
    ListenSettings {
        cores: match cores {
            Cores::All => ListenSettings::default().cores,
            Cores::Fixed(count) => count.max(1),
        },
        connections: settings.limits.connections,
        per_peer: settings.limits.connections_per_peer,
        handshake: settings.timeouts.handshake,
        head: settings.timeouts.head,
        idle: settings.timeouts.idle,
        drain: settings.timeouts.drain,
        ..ListenSettings::default()
    }
}

/// One core's gate, its idle connections looked through at intervals.
fn core(parts: &SharedParts, connector: &Connector, stop: &CancellationToken) -> Core {
    let core = Core::new(Arc::clone(parts), Pools::new(connector.clone()));
    let tidying = core.clone();
    spawn_local(stop.clone().run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            tidying.tidy();
        }
    }));
    core
}
