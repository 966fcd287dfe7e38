//! `audit reconcile`: what was done in Azure around the gate?

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use super::super::{Output, exit, print_data, put, report, serve::refused};
use crate::{
    azureml::ResourceId,
    config,
    server::reconcile::{Asked, ReconcileError, Reconciled, reconcile},
    time::{Clock as _, SharedClock, SystemClock, Timestamp},
};

/// `audit reconcile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(long, default_value = "amlgate.yaml")]
    config: PathBuf,
    /// An ARM id at and below which every write must have a record; repeatable. What the policies
    /// allow something at by default.
    #[arg(long = "scope", value_name = "ID")]
    scopes: Vec<String>,
    /// The directory of a log; repeatable: all of a fleet's. `audit.directory` by default.
    #[arg(long = "log", value_name = "DIR")]
    logs: Vec<PathBuf>,
    /// From when on: RFC 3339; a day ago by default. Azure keeps 90 days.
    #[arg(long)]
    since: Option<chrono::DateTime<chrono::Utc>>,
    /// Until when: RFC 3339; now by default. Azure's log is some minutes behind.
    #[arg(long)]
    until: Option<chrono::DateTime<chrono::Utc>>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the verb.
pub fn run(args: &Args) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(problems) => return refused(&problems),
    };
    let mut scopes = Vec::new();
    for text in &args.scopes {
        match ResourceId::parse(text) {
            Some(id) => scopes.push(id),
            None => {
                eprintln!("amlgate: `{text}` is not an ARM id: write `/subscriptions/...`");
                return exit::usage();
            }
        }
    }
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let clock: SharedClock = Arc::new(SystemClock);
    let now = SystemClock.now();
    let time = |at: chrono::DateTime<chrono::Utc>| {
        Timestamp::from_millis(u64::try_from(at.timestamp_millis()).unwrap_or_default())
    };
    let until = args.until.map_or(now, time);
    let asked = Asked {
        scopes,
        since: args.since.map_or_else(|| until.minus(std::time::Duration::from_secs(86_400)), time),
        until,
        logs: if args.logs.is_empty() { vec![settings.audit.directory.clone()] } else { args.logs.clone() },
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&error, exit::FINDING),
    };
    match runtime.block_on(reconcile(&settings, &clock, &asked)) {
        Ok(found) => {
            match args.output {
                Output::Table => print(&found),
                Output::Json | Output::Yaml => print_data(&found, args.output),
            }
            if found.around.is_empty() { exit::DONE } else { exit::FINDING }
        }
        Err(error @ (ReconcileError::Azure(_) | ReconcileError::Answer(_))) => {
            report(&error, exit::unreachable())
        }
        Err(error) => report(&error, exit::FINDING),
    }
}

fn print(found: &Reconciled) {
    for one in &found.around {
        put(format_args!(
            "{}  {}  {}  {}  ({}; correlation {})",
            one.time,
            one.caller,
            one.action,
            one.resource,
            one.why.words(),
            one.correlation
        ));
    }
    eprintln!(
        "amlgate: {} operations in Azure's log, {} of them around the gate",
        found.operations,
        found.around.len()
    );
}
