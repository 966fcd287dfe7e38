//! What changes while the gate runs: policies, certificates, secrets, the configuration; by content,
//! and at once when asked.
//!
//! Each change is taken whole or not at all, said in the log, and recorded. A request sees what was
//! in force when it came. What a listener is bound with takes a restart, and a change of it says so.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::{
    build, code_hosts::Hosting, hooks::Hooking, machines::Machines, opinions::Advising, reviews::Reviewing,
    rotation::Rotation, secrets, secrets::Secrets, shown, sinks::Renewal, statements::Stating,
};
use crate::{
    admin::{Health, hooks::Hooks},
    audit::event::Event,
    config::{self, Settings, settings},
    listen::{Interceptor, ServerTls},
    policy::live::Reload,
    proxy::{GateParts, SharedParts},
    time::SharedClock,
};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Somebody asks for a look at everything; answered when it was had.
pub(super) type Asked = oneshot::Sender<()>;

/// Looks at everything that may change. Lives on the control runtime.
pub(super) struct Watch {
    parts: SharedParts,
    health: Arc<Health>,
    in_force: Settings,
    secrets: Secrets,
    rotation: Rotation,
    sinks: Renewal,
    machines: Machines,
    advising: Advising,
    reviewing: Reviewing,
    stating: Stating,
    hooking: Hooking,
    hosting: Hosting,
    listeners: Vec<Shown>,
    authority: Option<Minting>,
    clock: SharedClock,
}

/// What runs with certificates and secrets that may be exchanged.
pub(super) struct Running {
    pub listeners: Vec<Shown>,
    pub interceptor: Option<Arc<Interceptor>>,
    pub sinks: Renewal,
    pub hooks: Arc<Hooks>,
}

/// The interception authority in use.
struct Minting {
    interceptor: Arc<Interceptor>,
    /// SHA-256 of its files; `None` before the first look.
    digest: Option<[u8; 32]>,
    refused: Option<[u8; 32]>,
}

/// A listener that shows a certificate, and the one that it shows.
pub(super) struct Shown {
    pub name: &'static str,
    pub tls: Arc<ServerTls>,
    /// SHA-256 of chain and key; `None` if nothing is known of them.
    digest: Option<[u8; 32]>,
    refused: Option<[u8; 32]>,
}

impl Shown {
    pub(super) const fn new(name: &'static str, tls: Arc<ServerTls>) -> Self {
        Self { name, tls, digest: None, refused: None }
    }

    fn settings<'s>(&self, settings: &'s Settings) -> Option<&'s settings::Tls> {
        match self.name {
            "reverse" => settings.reverse.as_ref()?.tls.as_ref(),
            "forward" => settings.forward.as_ref()?.tls.as_ref(),
            _ => settings.admin.as_ref()?.tls.as_ref(),
        }
    }
}

impl Watch {
    pub(super) fn new(
        parts: SharedParts,
        health: Arc<Health>,
        settings: Settings,
        secrets: Secrets,
        running: Running,
        clock: SharedClock,
    ) -> Self {
        let rotation = Rotation::default();
        let Running { listeners, interceptor, sinks, hooks } = running;
        let authority = interceptor.map(|interceptor| Minting { interceptor, digest: None, refused: None });
        let machines = Machines::default();
        Self {
            authority,
            parts,
            health,
            in_force: settings,
            secrets,
            rotation,
            sinks,
            machines,
            advising: Advising::default(),
            reviewing: Reviewing::default(),
            stating: Stating::default(),
            hooking: Hooking::of(hooks),
            hosting: Hosting::default(),
            listeners,
            clock,
        }
    }

    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Asked>) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        self.certificates().await;
        self.authority().await;
        self.machines().await;
        loop {
            let signalled = async {
                match &mut hangup {
                    Some(hangup) => drop(hangup.recv().await),
                    None => std::future::pending().await,
                }
            };
            let answer = tokio::select! {
                () = self.clock.sleep(LOOK_EVERY) => None,
                () = signalled => {
                    tracing::info!("asked to reload");
                    self.secrets.expire();
                    None
                }
                Some(answer) = asked.recv() => {
                    self.secrets.expire();
                    Some(answer)
                }
            };
            self.look(answer.is_some()).await;
            if let Some(answer) = answer {
                // Whoever asked may have gone.
                answer.send(()).ok();
            }
        }
    }

    async fn look(&mut self, asked: bool) {
        let parts = self.parts.load_full();
        let reload = parts.policies.reload().await;
        told(&parts, reload).await;
        self.configuration().await;
        self.certificates().await;
        self.authority().await;
        self.described();
        self.machines().await;
        let parts = self.parts.load_full();
        self.rotation.look(&parts, &self.in_force, &mut self.secrets, self.clock.now(), asked).await;
        self.sinks.look(&parts, &mut self.secrets, asked).await;
        self.advising.look(&parts.gates, &self.in_force, &mut self.secrets, &self.clock).await;
        self.reviewing.look(&parts.gates, &self.in_force, &mut self.secrets, &self.clock).await;
        self.stating.look(&parts, &self.in_force, &mut self.secrets).await;
        self.hooking.look(&self.in_force, &mut self.secrets).await;
        self.hosting.look(&parts.gates, &self.in_force, &mut self.secrets, &self.clock).await;
        parts.gates.tidy();
    }

    /// Takes over a changed configuration, but for what a restart takes.
    async fn configuration(&mut self) {
        let path = self.in_force.file.clone();
        let Ok(text) = std::fs::read(&path) else { return };
        let digest = config::digest(&text);
        if digest == self.in_force.digest {
            return;
        }
        let parts = self.parts.load_full();
        // Said once for each content.
        self.in_force.digest = digest;
        let fresh = match config::load(&path) {
            Ok(fresh) => fresh,
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(%problem, "the configuration is refused; the old one stays in force");
                }
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                return refused(&parts, "configuration", &first, problems.len() as u64).await;
            }
        };
        let reshaped = match build::reshaped(&parts, &fresh, &mut self.secrets).await {
            Ok(reshaped) => reshaped,
            Err(error) => {
                let problem = super::checkup::causes(&error);
                return refused(&parts, "configuration", &problem, 1).await;
            }
        };
        for what in restart(&self.in_force, &fresh) {
            tracing::warn!(what, "this part of the new configuration takes a restart");
        }
        parts.verifier.reconfigure(fresh.issuers.clone());
        // Issuers that came or were changed vouch for nobody until their files are read.
        self.machines.forget();
        self.machines.look(&parts, &fresh).await;
        told(&parts, parts.policies.surrounded_by(fresh.surroundings()).await).await;
        self.health.follow(shown::dependencies(&fresh, &parts), shown::discovery(&fresh));
        self.parts.store(Arc::new(reshaped));
        self.in_force = fresh;
        tracing::info!("the new configuration is in force");
        record(&parts, &Event::Reloaded { what: "configuration", digest }).await;
    }

    /// Judges callers' certificates by the authorities and revocation lists as they stand now.
    async fn machines(&mut self) {
        let parts = self.parts.load_full();
        self.machines.look(&parts, &self.in_force).await;
    }

    /// Shows new connections the certificates as they stand now.
    async fn certificates(&mut self) {
        for shown in &mut self.listeners {
            let Some(tls) = shown.settings(&self.in_force) else { continue };
            let Ok((chain, key)) = self.secrets.pair(tls).await else { continue };
            let Ok(clients) = secrets::bundle(tls) else { continue };
            let key = key.expose_secret().as_bytes();
            let asked = clients.as_deref().unwrap_or_default();
            let digest = config::digest(&[&chain, b"\0".as_slice(), key, b"\0", asked].concat());
            let before = shown.digest.replace(digest);
            if before.is_none_or(|before| before == digest) {
                continue;
            }
            shown.digest = before;
            if shown.refused == Some(digest) {
                continue;
            }
            let parts = self.parts.load_full();
            match shown.tls.replace(&chain, key, clients.as_deref()) {
                Ok(()) => {
                    tracing::info!(listener = shown.name, "new connections are shown the new certificate");
                    (shown.digest, shown.refused) = (Some(digest), None);
                    let event = Event::Reloaded { what: "certificates", digest: config::digest(&chain) };
                    record(&parts, &event).await;
                }
                Err(error) => {
                    // Said once for each content.
                    shown.refused = Some(digest);
                    refused(&parts, "certificates", &error.to_string(), 1).await;
                }
            }
        }
    }

    /// Mints leaves from the interception authority as it stands now.
    async fn authority(&mut self) {
        let (Some(minting), Some(forward)) = (&mut self.authority, &self.in_force.forward) else { return };
        let Ok((certificate, key)) = self.secrets.authority(forward).await else { return };
        let key = key.expose_secret();
        let digest = config::digest(&[certificate.as_bytes(), b"\0", key.as_bytes()].concat());
        let before = *minting.digest.get_or_insert(digest);
        if before == digest || minting.refused == Some(digest) {
            return;
        }
        let parts = self.parts.load_full();
        match minting.interceptor.replace(&certificate, key) {
            Ok(()) => {
                tracing::info!("leaves are minted from the new interception authority");
                (minting.digest, minting.refused) = (Some(digest), None);
                let digest = config::digest(certificate.as_bytes());
                record(&parts, &Event::Reloaded { what: "interception authority", digest }).await;
            }
            Err(error) => {
                minting.refused = Some(digest);
                refused(&parts, "interception authority", &error.to_string(), 1).await;
            }
        }
    }
}

impl Watch {
    /// Hands clients the authorities as their files stand now: one that is exchanged must be believed
    /// before its first leaf is shown.
    fn described(&self) {
        let discovery = shown::discovery(&self.in_force);
        let text = discovery.to_string();
        let parts = self.parts.load_full();
        if parts.well_known == text.as_bytes() {
            return;
        }
        self.health.describe(discovery);
        self.parts.store(Arc::new(GateParts { well_known: text.into(), ..GateParts::clone(&parts) }));
        tracing::info!("what the gate says of itself has changed: clients are told of other authorities");
    }
}

/// The parts of a configuration that were changed and take a restart.
fn restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let address = |s: &Settings| {
        let reverse = s.reverse.as_ref().map(|r| (r.address, r.tls.is_some(), r.proxy_protocol));
        let admin = s.admin.as_ref().map(|a| (a.address, a.tls.is_some(), a.on_reverse));
        let forward = s.forward.as_ref().map(|f| (f.address, f.tls.is_some()));
        (reverse, forward, admin, s.health)
    };
    let changed = [
        ("listen", address(old) != address(new)),
        ("audit", old.audit != new.audit),
        ("notify", old.notify != new.notify),
        ("store", old.store != new.store),
        ("cloud", old.cloud != new.cloud),
        ("outgoing", old.outgoing != new.outgoing),
        (
            "limits.connections",
            (old.limits.connections, old.limits.connections_per_peer, old.limits.remembered_tokens)
                != (new.limits.connections, new.limits.connections_per_peer, new.limits.remembered_tokens),
        ),
        ("timeouts", old.timeouts != new.timeouts),
        ("telemetry", old.telemetry != new.telemetry),
    ];
    changed.into_iter().filter_map(|(what, changed)| changed.then_some(what)).collect()
}

async fn told(parts: &GateParts, reload: Reload) {
    match reload {
        Reload::Unchanged => {}
        Reload::Replaced { .. } => {
            let status = parts.policies.status();
            tracing::info!(generation = status.generation, "other policies are in force");
            let files = Arc::clone(parts.policies.current().files());
            let event =
                Event::PoliciesChanged { policies: status.digest, generation: status.generation, files };
            record(parts, &event).await;
        }
        Reload::Refused(problems) => {
            for problem in &problems {
                tracing::error!(%problem, "the policies are refused; the last good ones stay in force");
            }
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            refused(parts, "policies", &first, problems.len() as u64).await;
        }
    }
}

pub(super) async fn refused(parts: &GateParts, what: &'static str, problem: &str, count: u64) {
    tracing::error!(what, problem, "a change is not taken over");
    metrics::counter!("amlgate_reloads_refused_total", "what" => what).increment(1);
    let event = Event::ReloadRefused { what, problem: problem.to_owned(), count };
    record(parts, &event).await;
}

/// A change that cannot be recorded was made all the same: the journal is loud about itself.
pub(super) async fn record(parts: &GateParts, event: &Event) {
    if parts.journal.happened(event).await.is_err() {
        tracing::error!(?event, "a change could not be recorded");
    }
}
