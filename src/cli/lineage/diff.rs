//! `lineage diff`: in what two models differ, as far as their statements hold it.

use std::process::ExitCode;

use super::{
    super::{Output, exit, print_data, put},
    flat,
    source::{Source, Trusted},
};
use crate::lineage::{Chain, differences};

/// `lineage diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model, or a file with its statement.
    #[arg(value_name = "MODEL|FILE")]
    pub(super) first: String,
    /// Another.
    #[arg(value_name = "MODEL|FILE")]
    pub(super) second: String,
    #[command(flatten)]
    pub(super) trusted: Trusted,
}

/// Runs the verb.
pub fn run(args: &Args) -> ExitCode {
    let source = Source::new(&args.trusted);
    // The first that is told: nothing is compared that is not signed.
    let chain = |what: &str| -> Result<Option<Chain>, ExitCode> {
        Ok(source.chains(what)?.0.into_iter().map(|(chain, _)| chain).next())
    };
    let (first, second) = match (chain(&args.first), chain(&args.second)) {
        (Ok(Some(first)), Ok(Some(second))) => (first, second),
        (Err(code), _) | (_, Err(code)) => return code,
        (Ok(_), Ok(_)) => return exit::FINDING,
    };
    let found = differences(&first, &second);
    if args.trusted.output() != Output::Table {
        print_data(&found, args.trusted.output());
        return exit::DONE;
    }
    put(format_args!("- {}\n+ {}", first.model, second.model));
    let width = found.iter().map(|one| one.what.chars().count()).max().unwrap_or_default();
    for one in &found {
        for (sign, value) in [('-', &one.first), ('+', &one.second)] {
            if let Some(value) = value {
                put(format_args!("{sign} {:<width$}  {}", flat(&one.what), flat(value)));
            }
        }
    }
    if found.is_empty() {
        eprintln!("amlgate: the same code, environment, data and metrics");
    }
    exit::DONE
}
