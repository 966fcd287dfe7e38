//! `amlgate env`: the variables that lead a shell, or one client in it, through the relay.

use std::process::ExitCode;

use super::{
    exit,
    login::{ClientError, connector, runtime},
    put,
    relay::{NoRelay, Running},
    report,
    run::no_proxy,
};
use crate::{
    client::{Environment, Files, Sessions, Shell, Tool},
    net::Trust,
};

/// Prints the variables that lead a shell through the relay.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For which shell.
    #[arg(long, value_enum, default_value_t)]
    shell: Shell,
    /// Only what one client reads, and in comments what else it needs.
    #[arg(long, value_enum, value_name = "NAME")]
    client: Option<Tool>,
    /// Print what takes the variables back, and remove the files that they name.
    #[arg(long, conflicts_with = "client")]
    uninstall: bool,
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let done = if args.uninstall { uninstalled(args.shell) } else { prepared(args) };
    match done {
        Ok(code) => code,
        Err(error) => report(&error, error.code()),
    }
}

fn prepared(args: &Args) -> Result<ExitCode, NoRelay> {
    let sessions = Sessions::of_user()?;
    let files = Files::below(sessions.folder());
    let running = Running::find(sessions.folder());
    let mut text = String::new();
    if let Some(found) = &running {
        refresh(found, &files)?;
        let environment = Environment::through(found.address, &found.word, &files, &no_proxy());
        let environment =
            args.client.map_or_else(|| environment.clone(), |tool| environment.clone().of(tool));
        text.push_str(&environment.lines(args.shell));
    } else {
        eprintln!("amlgate: no relay runs: start one with `amlgate relay`, or use `amlgate run -- COMMAND`");
    }
    if let Some(tool) = args.client {
        let signed_in = || sessions.find(None).ok().map(|(gate, _)| gate);
        let gate = running.as_ref().map(|found| found.gate.clone()).or_else(signed_in);
        let gate = gate.unwrap_or_else(|| "https://GATE".to_owned());
        for line in tool.says(&gate, &files.authorities.display().to_string()) {
            text.push_str("# ");
            text.push_str(&line);
            text.push('\n');
        }
    }
    if !text.is_empty() {
        put(format_args!("{}", text.trim_end()));
    }
    Ok(if running.is_some() { exit::DONE } else { exit::FINDING })
}

/// The bundle as the gate says now; a gate that does not answer leaves it as it is.
fn refresh(running: &Running, files: &Files) -> Result<(), NoRelay> {
    let known = std::fs::read_to_string(&files.authorities).unwrap_or_default();
    let connector = connector()?;
    let trust = running.trust.as_deref().map(|pem| Trust::new(Some(pem.as_bytes()))).transpose();
    let trust = trust.map_err(ClientError::from)?;
    let renewed = runtime()?.block_on(files.renew(&connector, &running.gate, trust, &known));
    renewed.map_err(|source| NoRelay::File { path: files.bundle.clone(), source })?;
    Ok(())
}

fn uninstalled(shell: Shell) -> Result<ExitCode, NoRelay> {
    let sessions = Sessions::of_user()?;
    let files = Files::below(sessions.folder());
    files.remove().map_err(|source| NoRelay::File { path: files.bundle.clone(), source })?;
    if Running::find(sessions.folder()).is_none() {
        // One that is left over from a relay that was ended by force.
        drop(std::fs::remove_file(Running::file(sessions.folder())));
        if !sessions.clear()? && sessions.find(None).is_ok() {
            eprintln!("amlgate: you are signed in still: `amlgate logout` forgets the tokens");
        }
    } else {
        eprintln!("amlgate: a relay runs still: Ctrl-C ends it");
    }
    put(format_args!("{}", Environment::removal(shell, &no_proxy()).trim_end()));
    Ok(exit::DONE)
}
