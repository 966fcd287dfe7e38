//! `amlgate lineage`: which reviewed code a model came from, and whether that is proven.

mod chain;
mod diff;
mod source;
#[cfg(test)]
mod tests;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use self::source::Trusted;
use super::exit;

/// Shows where the models came from of which statements are in a file, or does what the verb says.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// A file of DSSE envelopes with in-toto statements: one as JSON, or one a line.
    #[arg(value_name = "FILE", required = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    trusted: Trusted,
}

/// What else is done with statements.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Checks statements in files: who signed them, and what they say. Needs no network.
    Verify(verify::Args),
    /// Says in what two models differ: code, environment, data and metrics.
    Diff(diff::Args),
}

/// What others wrote, on one line: none of it may look like a line of the program's own.
fn flat(text: &str) -> String {
    text.replace('\n', "\\u000a")
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    match (&args.verb, &args.file) {
        (Some(Verb::Verify(args)), _) => verify::run(args),
        (Some(Verb::Diff(args)), _) => diff::run(args),
        (None, Some(file)) => chain::run(file, &args.trusted),
        (None, None) => exit::usage(),
    }
}
