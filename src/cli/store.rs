//! `amlgate store`: looks after the gate's state.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use super::{Output, exit, print_data, put, report, serve::refused};
use crate::{
    config,
    server::{self, StartError},
    store::{OpenError, Store},
    time::{SharedClock, SystemClock},
};

/// Looks after the gate's state: sessions, revocations, grants.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Copies it into a new file, while the gate goes on.
    Backup {
        /// The file, which must not be there.
        to: PathBuf,
        /// The configuration.
        #[arg(long, default_value = "amlgate.yaml")]
        config: PathBuf,
    },
    /// Brings it to this program's version, as the gate does when it starts.
    Migrate {
        /// The configuration.
        #[arg(long, default_value = "amlgate.yaml")]
        config: PathBuf,
    },
    /// Looks whether it answers, at which version it is, and whether it is damaged.
    Check {
        /// The configuration.
        #[arg(long, default_value = "amlgate.yaml")]
        config: PathBuf,
        /// How to print.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let (Args::Backup { config, .. } | Args::Migrate { config } | Args::Check { config, .. }) = args;
    let settings = match config::load(config) {
        Ok(settings) => settings,
        Err(problems) => return refused(&problems),
    };
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&error, exit::FINDING),
    };
    runtime.block_on(async {
        let clock: SharedClock = Arc::new(SystemClock);
        match server::keeping::store(&settings, &clock).await {
            Err(error) => report(&error, exit::FINDING),
            Ok(None) => {
                eprintln!("amlgate: `{}` names no `store`", config.display());
                exit::FINDING
            }
            Ok(Some(store)) => match act(args, &store).await {
                Ok(code) => code,
                Err(error @ OpenError::Unreachable(_)) => {
                    report(&StartError::Store(error), exit::unreachable())
                }
                Err(error) => report(&StartError::Store(error), exit::FINDING),
            },
        }
    })
}

async fn act(args: &Args, store: &Store) -> Result<ExitCode, OpenError> {
    match args {
        Args::Backup { to, .. } => {
            store.backup(to).await?;
            eprintln!("amlgate: {} is copied to `{}`", store.name(), to.display());
            Ok(exit::DONE)
        }
        Args::Migrate { .. } => {
            store.prepare().await?;
            let found = store.check().await?;
            eprintln!("amlgate: {} is at version {}", store.name(), found.version.unwrap_or_default());
            Ok(exit::DONE)
        }
        Args::Check { output, .. } => {
            let found = store.check().await?;
            match output {
                Output::Json | Output::Yaml => print_data(&found, *output),
                Output::Table => {
                    let version = found.version.map_or_else(|| "none yet".to_owned(), |v| v.to_string());
                    put(format_args!(
                        "{}: version {version}, this program's is {}",
                        found.store, found.known
                    ));
                    found.damage.iter().for_each(|line| put(format_args!("damaged: {line}")));
                }
            }
            let newer = found.version.is_some_and(|version| version > found.known);
            Ok(if newer || !found.damage.is_empty() { exit::FINDING } else { exit::DONE })
        }
    }
}
