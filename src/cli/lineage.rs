//! `amlgate lineage`: which reviewed code a model came from, and whether that is proven.

mod chain;
mod diff;
mod list;
mod source;
#[cfg(test)]
mod tests;
mod verify;

use std::process::ExitCode;

use self::source::Trusted;
use super::exit;

/// Shows where a model came from, by its signed statements, or does what the verb says.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The model: its id (`azureml://...`), or `M:V` with --workspace or --registry, of which the gate is
    /// asked; or a file of DSSE envelopes with in-toto statements, one as JSON or one a line.
    #[arg(value_name = "MODEL|FILE", required = true)]
    what: Option<String>,
    #[command(flatten)]
    trusted: Trusted,
}

/// What else is done with statements.
#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Checks statements of models, or in files: who signed them, and what they say. Files need no
    /// network.
    Verify(verify::Args),
    /// Lists what was stated of models: with --verified and --before, what can be rolled back to.
    List(list::Args),
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
    match (&args.verb, &args.what) {
        (Some(Verb::Verify(args)), _) => verify::run(args),
        (Some(Verb::List(args)), _) => list::run(args),
        (Some(Verb::Diff(args)), _) => diff::run(args),
        (None, Some(what)) => chain::run(what, &args.trusted),
        (None, None) => exit::usage(),
    }
}
