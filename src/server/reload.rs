//! What changes while the gate runs: policies, certificates, issuers; by content, and at SIGHUP.
//!
//! Each change is taken whole or not at all, said in the log, and recorded. Addresses, routes,
//! credentials and keys of the record take a restart, and a change of them says so.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};

use super::build::{self, Vault};
use crate::{
    audit::event::Event,
    config::{self, Settings},
    listen::ServerTls,
    policy::live::Reload,
    proxy::GateParts,
    time::SharedClock,
};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn watch(
    parts: Arc<GateParts>,
    settings: Settings,
    tls: Option<Arc<ServerTls>>,
    clock: SharedClock,
) {
    let mut hangup = signal(SignalKind::hangup()).ok();
    let mut in_force = settings;
    let mut shown = certificate(&in_force, &parts).await;
    loop {
        let asked = async {
            match &mut hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = clock.sleep(LOOK_EVERY) => {}
            () = asked => tracing::info!("asked to reload"),
        }
        let reload = parts.policies.reload().await;
        told(&parts, reload).await;
        configuration(&parts, &mut in_force).await;
        let current = certificate(&in_force, &parts).await;
        if current != shown
            && let (Some(tls), Some((chain, key))) = (&tls, &current)
        {
            match tls.replace(chain, key.as_bytes()) {
                Ok(()) => {
                    tracing::info!("new connections are shown the new certificate");
                    shown = current;
                }
                Err(error) => refused(&parts, "certificates", &error.to_string(), 1).await,
            }
        }
        parts.gates.tidy();
    }
}

async fn told(parts: &GateParts, reload: Reload) {
    match reload {
        Reload::Unchanged => {}
        Reload::Replaced { .. } => {
            let status = parts.policies.status();
            tracing::info!(generation = status.generation, "other policies are in force");
            let event = Event::PoliciesChanged { policies: status.digest, generation: status.generation };
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

async fn refused(parts: &GateParts, what: &'static str, problem: &str, count: u64) {
    tracing::error!(what, problem, "a change is not taken over");
    metrics::counter!("amlgate_reloads_refused_total", "what" => what).increment(1);
    let event = Event::ReloadRefused { what, problem: problem.to_owned(), count };
    record(parts, &event).await;
}

/// A change that cannot be recorded was made all the same: the journal is loud about itself.
async fn record(parts: &GateParts, event: &Event) {
    if parts.journal.happened(event).await.is_err() {
        tracing::error!(?event, "a change could not be recorded");
    }
}

/// Takes over what of a changed configuration can be taken over.
async fn configuration(parts: &GateParts, in_force: &mut Settings) {
    let path = in_force.file.clone();
    let Ok(text) = std::fs::read(&path) else { return };
    let digest = config::digest(&text);
    if digest == in_force.digest {
        return;
    }
    match config::load(&path) {
        Ok(fresh) => {
            parts.verifier.reconfigure(fresh.issuers.clone());
            told(parts, parts.policies.surrounded_by(build::surroundings(&fresh)).await).await;
            tracing::info!("issuers of the new configuration are in force; the rest of it takes a restart");
            in_force.issuers.clone_from(&fresh.issuers);
            in_force.reverse = fresh.reverse;
            in_force.digest = digest;
        }
        Err(problems) => {
            // Said once for each content.
            in_force.digest = digest;
            for problem in &problems {
                tracing::error!(%problem, "the configuration is refused; the old one stays in force");
            }
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            refused(parts, "configuration", &first, problems.len() as u64).await;
        }
    }
}

/// The certificate and key of the reverse listener as they stand in their files now.
async fn certificate(settings: &Settings, parts: &GateParts) -> Option<(Vec<u8>, String)> {
    let tls = settings.reverse.as_ref()?.tls.as_ref()?;
    let vault = Vault { credentials: &parts.credentials, settings };
    let (chain, key) = build::pair(tls, &vault).await.ok()?;
    Some((chain, key.expose_secret().to_owned()))
}
