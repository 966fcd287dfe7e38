//! Logs and metrics: set up once at start, used everywhere through `tracing` and `metrics`.
//!
//! The audit record is not a log: it has its own writer. What is logged here helps an operator,
//! and may be lost.

use std::{io::IsTerminal, time::Duration};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::time::SharedClock;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// The shape of lines.
    pub format: LogFormat,
    /// A filter as in `RUST_LOG`, which wins over it; `info` by default.
    pub level: Option<String>,
}

/// Buckets of all latency histograms, in seconds: from what a hit costs to what a slow Azure takes.
const LATENCY_SECONDS: &[f64] = &[
    0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Starts logging to standard error. A second call changes nothing, so that tests may call it.
pub fn start_logs(settings: &TelemetrySettings) {
    let fallback = settings.level.clone().unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(fallback));
    let registry = tracing_subscriber::registry().with(filter);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = match settings.format {
        LogFormat::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(colour)
                    .with_target(false),
            )
            .try_init(),
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init()
        }
    };
    // Already started: the first caller's settings stand.
    drop(started);
}

/// Installs the process's metrics recorder and gives back what renders `/metrics`.
///
/// # Errors
/// If another recorder was installed before.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    builder()?.install_recorder()
}

/// Recorders as the gate has them.
pub(crate) fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCY_SECONDS)
}

/// How often samples are folded into their histograms: some tens of bytes for each request lie until
/// then.
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// Folds samples into histograms for as long as it is polled. Without it they pile up until somebody
/// asks for `/metrics`, and if nobody ever does, without end.
pub async fn fold(metrics: &PrometheusHandle, clock: &SharedClock) {
    loop {
        clock.sleep(FOLD_EVERY).await;
        metrics.run_upkeep();
    }
}

/// A recorder of its own, for a gate that shares its process with others (tests).
#[must_use]
pub fn detached_metrics() -> PrometheusHandle {
    PrometheusBuilder::new().build_recorder().handle()
}
