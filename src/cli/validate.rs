//! `amlgate validate`: is everything that the gate would start with in order?

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use super::{exit, put, serve::refused};
use crate::{
    config,
    policy::{PolicySet, Surroundings},
    yaml::{Place, Problem},
};

/// Checks configuration and policies without starting.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration.
    #[arg(long, default_value = "amlgate.yaml")]
    config: PathBuf,
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    match config::load(&args.config) {
        Err(found) => {
            problems.extend(found);
            if let Some((directory, issuers, routes)) = config::around_policies(&args.config) {
                let around = Surroundings { issuers: Some(issuers), routes: Some(routes) };
                match PolicySet::load(&directory, &around) {
                    Err(found) => problems.extend(found),
                    Ok((_, found)) => warnings.extend(found),
                }
            }
        }
        Ok(settings) => {
            let issuers: BTreeSet<_> = settings.issuers.iter().map(|i| i.name.to_string()).collect();
            let routes: BTreeSet<_> = settings.routes.iter().map(|r| r.name.to_string()).collect();
            let around = Surroundings { issuers: Some(issuers), routes: Some(routes) };
            warnings.extend(settings.warnings);
            match PolicySet::load(&settings.policies, &around) {
                Err(found) => problems.extend(found),
                Ok((set, found)) => {
                    warnings.extend(found);
                    let kept = settings.store.is_some();
                    let wanted = set.first_approval().filter(|_| !kept);
                    warnings.extend(wanted.map(|entry| {
                        let place = Place { line: entry.line, column: 1 };
                        let message = format!("nobody can give the approval that `{}` demands", entry.name);
                        let hint = "approvals are kept in a store: add `store: {sqlite: var/amlgate.db}` to the configuration";
                        Problem::warning(&entry.file, place, message).hint(hint)
                    }));
                    let (file, notified) = config::notified(&args.config);
                    let idle = notified.iter().filter(|name| set.approval(&name.value).is_none());
                    warnings.extend(idle.map(|name| {
                        let message = format!("no entry called `{}` demands an approval", name.value);
                        let hint = "the channel is told nothing of it: check the name";
                        Problem::warning(&file, Place::of(name), message).hint(hint)
                    }));
                    if problems.is_empty() {
                        let entries = set.entries().count();
                        put(format_args!(
                            "{}: valid; {}: {entries} entries",
                            args.config.display(),
                            settings.policies.display()
                        ));
                    }
                }
            }
        }
    }
    for warning in &warnings {
        eprintln!("{warning}");
    }
    if problems.is_empty() { exit::DONE } else { refused(&problems) }
}
