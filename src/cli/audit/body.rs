//! `amlgate audit body`: a body that was recorded, opened with the gate's own sealing keys.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use super::super::{exit, put_whole, report, serve::refused};
use crate::{
    audit::bodies::{self, BodyError, Opened},
    config::{self, Settings},
    server,
    time::{SharedClock, SystemClock},
};

/// `audit body`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The digest by which the record names it: `blob` of one of its `bodies`.
    digest: String,
    /// The configuration: it names the log and the keys that seal.
    #[arg(long, default_value = "amlgate.yaml")]
    config: PathBuf,
    /// The directory of the log instead: of another gate of the fleet, or a copy.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(problems) => return refused(&problems),
    };
    let opened = match opened(args, &settings) {
        Ok(opened) => opened,
        Err(error) => return report(&*error, exit::unreachable()),
    };
    match opened {
        Ok(Opened { decision, side, body }) => {
            eprintln!(
                "amlgate: the body of the {} of decision {decision}, {} bytes",
                side.name(),
                body.len()
            );
            print(&body)
        }
        Err(error) => {
            let code = match &error {
                BodyError::Digest(_) => exit::usage(),
                BodyError::Io(_) => exit::unreachable(),
                BodyError::Missing | BodyError::Changed | BodyError::Sealed => exit::FINDING,
            };
            report(&error, code)
        }
    }
}

fn opened(args: &Args, settings: &Settings) -> Result<Result<Opened, BodyError>, Box<dyn std::error::Error>> {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let clock: SharedClock = Arc::new(SystemClock);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let keys = runtime.block_on(server::keeping::body_keys(settings, &clock))?;
    let directory = args.log.as_deref().unwrap_or(&settings.audit.directory);
    Ok(bodies::open(directory, &args.digest, &keys))
}

/// As it is; to a terminal without what would speak to it.
fn print(body: &[u8]) -> ExitCode {
    if io::stdout().is_terminal() {
        let text = String::from_utf8_lossy(body);
        let plain = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
        put_whole(format_args!("{}\n", text.chars().filter(plain).collect::<String>()));
        return exit::DONE;
    }
    match io::stdout().lock().write_all(body) {
        Ok(()) => exit::DONE,
        Err(error) => report(&error, exit::unreachable()),
    }
}
