//! `amlgate serve`: runs the gate.

use std::{path::PathBuf, pin::pin, process::ExitCode, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{exit, report};
use crate::{
    config,
    server::{Cores, Server, StartError},
    telemetry,
    time::SystemClock,
    yaml::Problem,
};

/// Runs the gate.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(long, default_value = "amlgate.yaml")]
    config: PathBuf,
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(problems) => return refused(&problems),
    };
    telemetry::start_logs(&settings.telemetry);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&error, exit::FINDING),
    };
    let code = runtime.block_on(async {
        let mut stop = Stop::listen();
        let mut starting = pin!(Server::start(settings, Arc::new(SystemClock), Cores::All));
        let mut asked = false;
        let started = loop {
            tokio::select! {
                started = &mut starting => break started,
                () = stop.asked() => {
                    if asked {
                        return exit::FINDING;
                    }
                    asked = true;
                    tracing::warn!("ends as soon as it has started; once more ends it at once");
                }
            }
        };
        let server = match started {
            Ok(server) => server,
            Err(StartError::Policies(problems)) => return refused(&problems),
            Err(error) => return report(&error, exit::FINDING),
        };
        announce(&server);
        drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
        if !asked {
            stop.asked().await;
        }
        tracing::info!("draining");
        drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
        if server.stop().await {
            tracing::info!("stopped; the record is vouched for to its end");
            exit::DONE
        } else {
            tracing::error!("stopped, but not everything could be finished or recorded");
            exit::FINDING
        }
    });
    // What reads beside (the index of the record, what is due to be archived) is not waited for: it
    // changes nothing that the next start would miss.
    runtime.shutdown_background();
    code
}

/// Says where the gate listens.
pub fn announce(server: &Server) {
    for (what, address) in
        [("reverse", server.reverse()), ("admin", server.admin()), ("health", server.health())]
    {
        if let Some(address) = address {
            tracing::info!(%address, "listening: {what}");
        }
    }
}

/// SIGTERM and Ctrl-C, heard from when this is made on: one that comes while a program starts ends it
/// in order as soon as it has started.
pub struct Stop {
    signals: [Option<Signal>; 2],
}

impl Stop {
    /// Listens from here on; within a runtime.
    #[must_use]
    pub fn listen() -> Self {
        Self { signals: [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).ok()) }
    }

    /// Waits for the first.
    pub async fn asked(&mut self) {
        let [terminate, interrupt] = &mut self.signals;
        tokio::select! {
            () = heard(terminate) => {}
            () = heard(interrupt) => {}
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Prints every problem, one after another.
pub fn refused(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    let plural = if problems.len() == 1 { "" } else { "s" };
    eprintln!("amlgate: {} problem{plural}", problems.len());
    exit::FINDING
}
