//! `amlgate run`: a command whose requests go through the gate.

use std::{ffi::OsString, process::ExitCode};

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{
    exit,
    relay::{Listening, NoRelay, Whose, follow, listen, terminated},
    report,
};
use crate::client::{Environment, Files};

/// Runs a command whose requests go through the gate.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    whose: Whose,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Relay(#[from] NoRelay),
    #[error("`{command}` cannot be started")]
    Command { command: String, source: std::io::Error },
}

/// Runs `run`; its exit code is the command's.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(ran(args)),
        Err(error) => Err(NoRelay::Runtime(error).into()),
    };
    match outcome {
        Ok(code) => code,
        Err(RunError::Relay(error)) => report(&error, error.code()),
        // What shells answer for a command that is not there.
        Err(error @ RunError::Command { .. }) => report(&error, ExitCode::from(127)),
    }
}

async fn ran(args: &Args) -> Result<ExitCode, RunError> {
    let Listening { relay, address, gate, authorities, trust, connector, folder } =
        listen(&args.whose, 0).await?;
    let files = Files::below(&folder);
    files.keep(&authorities).map_err(|source| NoRelay::File { path: files.bundle.clone(), source })?;
    let environment = Environment::through(address, relay.word(), &files, &no_proxy());
    let Some((program, arguments)) = args.command.split_first() else { return Ok(exit::usage()) };
    let broken = |source| RunError::Command { command: program.to_string_lossy().into_owned(), source };
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter());
    let mut child = command.spawn().map_err(broken)?;
    let stop = CancellationToken::new();
    let relaying = tokio::spawn(relay.serve(stop.clone()));
    let following = tokio::spawn(follow(connector, gate, trust, authorities, files));
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.map_err(broken)?,
            // The terminal sends Ctrl-C to the command itself, which may have other plans than to end;
            // a request to end reaches this process alone.
            _ = tokio::signal::ctrl_c() => {}
            () = terminated() => terminate(&child),
        }
    };
    stop.cancel();
    following.abort();
    drop(relaying.await);
    Ok(code(status))
}

#[cfg(unix)]
fn terminate(child: &tokio::process::Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // It may have ended by itself.
        let _ended = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
}

#[cfg(not(unix))]
fn terminate(_: &tokio::process::Child) {}

/// The command's own code; 128 and the signal's number for one that a signal ended, as shells say it.
fn code(status: std::process::ExitStatus) -> ExitCode {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// What is not proxied already.
pub(super) fn no_proxy() -> String {
    ["NO_PROXY", "no_proxy"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
}
