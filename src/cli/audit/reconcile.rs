//! `audit reconcile`: what was done in Azure around the gate?

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use super::super::{Output, exit, print_data, put, report, serve::refused};
use crate::{
    audit::reconcile::events::{self, Unknown},
    azureml::ResourceId,
    config,
    server::reconcile::{Asked, Heard, ReconcileError, Reconciled, heard, reconcile},
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
    /// What Event Grid announced, exported: compared in the place of Azure's activity log.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "until"])]
    events: Option<PathBuf>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// The largest export that is read.
const MAX_EVENTS: u64 = 256 << 20;

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
    if let Some(path) = &args.events {
        return announced(path, &settings, &asked, args.output);
    }
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

/// Compares an export of Event Grid's.
fn announced(path: &Path, settings: &config::Settings, asked: &Asked, output: Output) -> ExitCode {
    let failed = |why: String| {
        eprintln!("amlgate: `{}`: {why}", path.display());
        exit::FINDING
    };
    let mut text = String::new();
    let file = fs::File::open(path).and_then(|file| file.take(MAX_EVENTS + 1).read_to_string(&mut text));
    let events = match file {
        Err(error) => return failed(error.to_string()),
        Ok(read) if read as u64 > MAX_EVENTS => {
            return failed(format!("it has more than {} MiB: give it in parts", MAX_EVENTS >> 20));
        }
        Ok(_) => match events::parse(&text) {
            Ok(events) => events,
            Err(why) => return failed(why),
        },
    };
    match heard(settings, asked, events) {
        Ok(found) => {
            match output {
                Output::Table => print_heard(&found),
                Output::Json | Output::Yaml => print_data(&found, output),
            }
            if found.unrecorded.is_empty() { exit::DONE } else { exit::FINDING }
        }
        Err(error) => report(&error, exit::FINDING),
    }
}

fn print_heard(found: &Heard) {
    for one in &found.unrecorded {
        let kind = match one.kind {
            events::Kind::ModelRegistered => "model registered",
            events::Kind::ModelDeployed => "model deployed",
            events::Kind::RunCompleted => "run completed",
        };
        let why = match one.why {
            Unknown::NoRecord => "no record has it".to_owned(),
            Unknown::PerhapsByJob => format!("no record has it; perhaps by {}", one.jobs.join(", ")),
        };
        put(format_args!("{}  {kind}  {}  {}  ({why})", one.time, one.name, one.workspace));
    }
    eprintln!(
        "amlgate: {} announcements, {} of them without a record",
        found.announced,
        found.unrecorded.len()
    );
}
