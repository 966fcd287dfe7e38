//! `amlgate doctor`: does everything that the gate depends on answer?

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use super::{
    Output, exit, print_data, put, report,
    serve::refused,
    token::{self, Who},
};
use crate::{
    config,
    server::checkup::{self, Finding, Health},
    time::{SharedClock, SystemClock},
};

/// Tries each issuer, credential, upstream, certificate and the record, and names what fails.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(long, default_value = "amlgate.yaml")]
    config: PathBuf,
    /// Also try what the gate and Azure make of somebody: `me`, who is signed in on this machine, or
    /// `-`, the bearer of the token on standard input.
    #[arg(long = "as", value_name = "WHO")]
    who: Option<Who>,
    /// The gate's URL; the one that was signed in to last, if it is not given.
    #[arg(long, env = "AMLGATE_GATE", value_name = "URL")]
    gate: Option<String>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(problems) => return refused(&problems),
    };
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let clock: SharedClock = Arc::new(SystemClock);
    let me = match args.who.map(|who| token::bearer(who, args.gate.as_deref())).transpose() {
        Ok(me) => me,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&error, exit::FINDING),
    };
    let found = match runtime.block_on(checkup::check_up(&settings, &clock, me.as_ref())) {
        Ok(found) => found,
        Err(error) => return report(&error, exit::FINDING),
    };
    match args.output {
        Output::Table => found.iter().for_each(line),
        Output::Json | Output::Yaml => print_data(&found, args.output),
    }
    code(&found)
}

/// A finding for people.
fn line(finding: &Finding) {
    let (word, said, mend) = match &finding.state {
        Health::Fine { seen } => ("ok     ", seen, None),
        Health::Doubtful { seen, mend } => ("look   ", seen, Some(mend)),
        Health::Broken { why, mend, .. } => ("broken ", why, Some(mend)),
    };
    put(format_args!("{word} {}: {said}", finding.part));
    if let Some(mend) = mend {
        put(format_args!("        {mend}"));
    }
}

/// 0 if nothing is broken, 3 if all that is broken did not answer, else 1.
fn code(found: &[Finding]) -> ExitCode {
    let broken = || found.iter().filter(|f| matches!(f.state, Health::Broken { .. }));
    if broken().next().is_none() {
        exit::DONE
    } else if broken().all(|f| matches!(f.state, Health::Broken { unreachable: true, .. })) {
        exit::unreachable()
    } else {
        exit::FINDING
    }
}
