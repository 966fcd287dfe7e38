//! What the gate says of itself: its dependencies, its health, and how it is reached.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use super::{break_glass, keeping};
use crate::{
    admin::{Dependency, Health, State},
    audit::{Condition, Reads},
    config::{Settings, settings::Forward},
    identity::IssuerKind,
    proxy::GateParts,
    telemetry,
};

/// What is to be done about a disk that fails.
const NO_RESTART: &str = "mend the disk of `audit.directory`, and the gate goes on by itself within seconds";

/// What the gate needs under a configuration.
pub(super) fn dependencies(settings: &Settings, parts: &GateParts) -> Vec<Dependency> {
    let mut dependencies = Vec::new();
    let journal = parts.journal.clone();
    dependencies.push(Dependency::new("journal", move || match (journal.condition(), journal.reads()) {
        (Condition::Healthy, _) => State::Ready,
        (Condition::Failing { why }, Reads::Required) => State::Unready {
            detail: format!("nothing can be recorded, so that every request is refused: {why}; {NO_RESTART}"),
        },
        // Whoever lets reads go on wants them to come here.
        (Condition::Failing { why }, Reads::BestEffort) => State::Degraded {
            detail: format!(
                "nothing can be recorded, so that writes are refused, and reads go on that may be in no record: {why}; {NO_RESTART}"
            ),
        },
    }));
    dependencies.extend(parts.store.as_ref().map(keeping::dependency));
    if settings.break_glass.is_some() {
        dependencies.push(break_glass::dependency(&parts.gates, &parts.clock));
    }
    for sink in parts.sinks.iter().map(Arc::clone) {
        dependencies.push(Dependency::new(format!("sink {}", sink.name), move || match sink.failing() {
            None => State::Ready,
            Some(why) => State::Degraded { detail: why.to_string() },
        }));
    }
    let policies = Arc::clone(&parts.policies);
    dependencies.push(Dependency::new("policies", move || match policies.status().problems.first() {
        None => State::Ready,
        Some(problem) => {
            State::Degraded { detail: format!("the last good policies are in force: {problem}") }
        }
    }));
    if let Some(skew) = parts.credentials.skew() {
        dependencies.push(Dependency::new("clock", move || match skew.nearest() {
            Some(skew) if skew.is_doubtful() => {
                State::Degraded { detail: format!("{skew}: set it by NTP, because tokens are judged by it") }
            }
            Some(_) | None => State::Ready,
        }));
    }
    for issuer in &settings.issuers {
        if let IssuerKind::Certificate(_) = issuer.kind {
            dependencies.push(vouching(Arc::clone(&issuer.name), parts));
            continue;
        }
        let (verifier, name) = (Arc::clone(&parts.verifier), Arc::clone(&issuer.name));
        dependencies.push(Dependency::new(format!("issuer {name}"), move || {
            let forms: Vec<_> = verifier.status().into_iter().filter(|s| s.name == name).collect();
            let error = forms.iter().find_map(|f| f.last_error.clone());
            match (forms.iter().any(|f| f.usable), error) {
                (true, None) => State::Ready,
                (true, Some(detail)) => State::Degraded { detail },
                (false, detail) => {
                    State::Unready { detail: detail.unwrap_or_else(|| "no keys yet".to_owned()) }
                }
            }
        }));
    }
    for credential in &settings.credentials {
        let (credentials, name) = (parts.credentials.clone(), Arc::clone(&credential.name));
        dependencies.push(Dependency::new(format!("credential {name}"), move || {
            let status = credentials.status().into_iter().find(|s| s.name == name);
            match status.map(|s| (s.failure, s.refused)) {
                None | Some((None, None)) => State::Ready,
                Some((Some(error), _)) => State::Degraded { detail: error.to_string() },
                Some((None, Some(error))) => State::Degraded {
                    detail: format!("its newer secret does not work, the old one is in use: {error}"),
                },
            }
        }));
    }
    dependencies
}

/// Whether an issuer's certificates can be verified, and its lists have not lapsed.
fn vouching(name: Arc<str>, parts: &GateParts) -> Dependency {
    let (verifier, clock) = (Arc::clone(&parts.verifier), Arc::clone(&parts.clock));
    Dependency::new(format!("issuer {name}"), move || {
        let status = verifier.certificates().status().into_iter().find(|s| s.name == name);
        let now = clock.now();
        match status.map(|s| (s.usable, s.expires, s.renew)) {
            None | Some((false, ..)) => State::Unready { detail: "its authorities are not read".to_owned() },
            Some((true, Some(ends), _)) if ends <= now => {
                State::Degraded { detail: "a certificate of its authorities has expired".to_owned() }
            }
            Some((true, _, Some(renew))) if renew <= now => {
                State::Degraded { detail: "a revocation list has lapsed".to_owned() }
            }
            Some(_) => State::Ready,
        }
    })
}

fn metrics() -> PrometheusHandle {
    // One recorder for the process; further gates in it (tests) share it.
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER
        .get_or_init(|| telemetry::start_metrics().unwrap_or_else(|_| telemetry::detached_metrics()))
        .clone()
}

/// Its health, whose metrics are the process's.
pub(super) fn health(settings: &Settings, parts: &GateParts) -> Health {
    Health {
        dependencies: ArcSwap::from_pointee(dependencies(settings, parts)),
        draining: CancellationToken::new(),
        metrics: metrics(),
        discovery: ArcSwap::from_pointee(discovery(settings)),
    }
}

/// What `/.well-known/amlgate` says.
pub(super) fn discovery(settings: &Settings) -> serde_json::Value {
    let reverse = settings.reverse.as_ref().map(|r| r.public_url.to_text());
    serde_json::json!({
        "version": 1,
        "reverse": reverse,
        "forward": settings.forward.as_ref().map(|f| forward(f, reverse.as_deref())),
        "api": settings.admin_url(),
        "issuers": settings.logins,
        "dpop_signing_alg_values_supported": proofs(settings),
    })
}

/// The algorithms of the proofs that a tunnel may be asked for with; none where they must hold a nonce,
/// which only a request inside could be told.
fn proofs(settings: &Settings) -> Vec<&'static str> {
    if settings.issuers.iter().any(|issuer| issuer.dpop_nonce) {
        return Vec::new();
    }
    crate::identity::dpop::ALGORITHMS.iter().map(|algorithm| algorithm.name()).collect()
}

/// Where the forward proxy is, and whom its clients trust. It is known by the name of the reverse
/// proxy beside it, unless it listens on one address only.
fn forward(forward: &Forward, reverse: Option<&str>) -> serde_json::Value {
    let public = reverse.and_then(|url| url.parse::<http::Uri>().ok());
    let host = public.as_ref().and_then(http::Uri::host).filter(|_| !forward.address.ip().is_loopback());
    let port = forward.address.port();
    let address = host.map_or_else(|| forward.address.to_string(), |host| format!("{host}:{port}"));
    let authorities = std::iter::once(&forward.authority).chain(&forward.also_trust);
    let ca: String = authorities.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    serde_json::json!({"address": address, "tls": forward.tls.is_some(), "ca": ca})
}
