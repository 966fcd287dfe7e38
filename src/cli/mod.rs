//! The verbs: one file each. Standard output holds data only; messages go to standard error.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub mod audit;
pub mod break_glass;
pub mod can_i;
pub mod certs;
pub mod doctor;
pub mod env;
pub mod import;
pub mod init;
pub mod lineage;
pub mod login;
pub mod policy;
pub mod relay;
pub mod request;
pub mod run;
pub mod sandbox;
pub mod serve;
pub mod store;
pub mod token;
pub mod validate;

/// The exit codes that every verb uses.
pub mod exit {
    use std::process::ExitCode;

    /// It is done.
    pub const DONE: ExitCode = ExitCode::SUCCESS;
    /// A finding: invalid, denied, verification failed.
    pub const FINDING: ExitCode = ExitCode::FAILURE;

    /// The arguments make no sense together.
    #[must_use]
    pub fn usage() -> ExitCode {
        ExitCode::from(2)
    }

    /// Something could not be reached.
    #[must_use]
    pub fn unreachable() -> ExitCode {
        ExitCode::from(3)
    }
}

/// The front door to Azure Machine Learning.
#[derive(Debug, Parser)]
#[command(name = "amlgate", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Reads and verifies the record.
    #[command(subcommand)]
    Audit(audit::Args),
    /// Does in an emergency what is forbidden otherwise, loudly, and looks after that.
    #[command(subcommand)]
    BreakGlass(break_glass::BreakGlass),
    /// Says whether the bearer of the token on standard input may do something, and why.
    CanI(can_i::Args),
    /// Makes or renews the gate's certificates and keys.
    #[command(subcommand)]
    Certs(certs::Args),
    /// Tries each issuer, credential, upstream, certificate and the record, and names what fails.
    Doctor(doctor::Args),
    /// Translates what other systems allow into policies.
    #[command(subcommand)]
    Import(import::Args),
    /// Writes a configuration, policies and certificates for one workspace.
    Init(init::Args),
    /// Tests and explains policies.
    #[command(subcommand)]
    Policy(policy::Args),
    /// Prints the variables that lead a shell through the relay.
    Env(env::Args),
    /// Lists and takes back what was approved.
    #[command(subcommand)]
    Grant(request::Grants),
    /// Shows, checks, lists and compares where models came from, by signed statements.
    Lineage(lineage::Args),
    /// Signs in to a gate.
    Login(login::Login),
    /// Forgets the tokens of a gate.
    Logout(login::Logout),
    /// Adds the signed-in person's token to every tunnel, on this machine's loopback.
    Relay(relay::Args),
    /// Asks for approvals, and answers those who ask.
    #[command(subcommand)]
    Request(request::Requests),
    /// Runs a command whose requests go through the gate.
    Run(run::Args),
    /// Prints the signed-in person's token, or says what a gate would make of one.
    Token(token::Args),
    /// Says who is signed in.
    Whoami(login::Whoami),
    /// Runs the gate with a development issuer and a simulated Azure on this machine's loopback.
    Sandbox(sandbox::Args),
    /// Runs the gate.
    Serve(serve::Args),
    /// Checks configuration and policies without starting.
    Validate(validate::Args),
    /// Looks after the gate's state: sessions, revocations, grants.
    #[command(subcommand)]
    Store(store::Args),
    /// Prints the version.
    Version,
    /// Prints a completion script for a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Parses the arguments and runs the verb.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Audit(args) => audit::run(args),
        Verb::BreakGlass(args) => break_glass::run(&args),
        Verb::CanI(args) => can_i::run(&args),
        Verb::Certs(args) => certs::run(args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Import(args) => import::run(&args),
        Verb::Init(args) => init::run(&args),
        Verb::Policy(args) => policy::run(&args),
        Verb::Env(args) => env::run(&args),
        Verb::Grant(args) => request::grants(&args),
        Verb::Lineage(args) => lineage::run(&args),
        Verb::Login(args) => login::login(&args),
        Verb::Logout(args) => login::logout(&args),
        Verb::Relay(args) => relay::run(&args),
        Verb::Request(args) => request::requests(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Token(args) => token::run(&args),
        Verb::Whoami(args) => login::whoami(&args),
        Verb::Sandbox(args) => sandbox::run(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Validate(args) => validate::run(&args),
        Verb::Store(args) => store::run(&args),
        Verb::Version => {
            put(format_args!("amlgate {}", env!("CARGO_PKG_VERSION")));
            exit::DONE
        }
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "amlgate", &mut script);
            put_whole(format_args!("{}", String::from_utf8_lossy(&script)));
            exit::DONE
        }
    }
}

/// Prints an error with its causes, one a line, and gives back the exit code.
pub fn report(error: &dyn std::error::Error, code: ExitCode) -> ExitCode {
    let mut said = plain(&error.to_string());
    eprintln!("amlgate: {said}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = plain(&error.to_string());
        // Some errors end with their cause's own words.
        if !said.ends_with(&text) {
            eprintln!("  because: {text}");
            said = text;
        }
        cause = error.source();
    }
    code
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// Prints a line of data, as [`put_whole`] does.
///
/// Much of it was written by others, and none of it may speak to the terminal.
pub fn put(line: std::fmt::Arguments<'_>) {
    put_whole(format_args!("{}\n", plain(&line.to_string())));
}

/// A text without what a terminal obeys instead of showing it: that is spelled out as in JSON.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || (c.is_control() && !matches!(c, '\n' | '\t')) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Prints data as it is. A reader that has seen enough ends the program without a complaint, and with
/// the status that the signal for it has in shells: what was found may not have been told.
pub fn put_whole(data: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    const SIGPIPE: i32 = 128 + 13;
    match std::io::stdout().lock().write_fmt(data) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(SIGPIPE),
        Err(error) => {
            eprintln!("amlgate: cannot print: {error}");
            std::process::exit(3)
        }
    }
}

/// Prints data for programs.
pub fn print_data<T: serde::Serialize>(data: &T, output: Output) {
    let value = serde_json::to_value(data).unwrap_or_default();
    match output {
        Output::Yaml => put(format_args!("{}", to_yaml(&value))),
        Output::Json | Output::Table => put(format_args!("{value:#}")),
    }
}

/// YAML of a JSON value.
#[must_use]
pub fn to_yaml(value: &serde_json::Value) -> String {
    serde_yaml::to_string(value).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_wrote_speaks_to_the_terminal() {
        let hostile = "a\u{1b}[2Jb\rc\u{9b}1md\u{7}e\u{202e}f\u{0}";
        assert_eq!(plain(hostile), r"a\u001b[2Jb\u000dc\u009b1md\u0007e\u202ef\u0000");
        // In JSON it is the same string.
        let json = serde_json::to_string("\u{9b}\u{202e}\u{1b}x").unwrap();
        let read: String = serde_json::from_str(&plain(&json)).unwrap();
        assert_eq!(read, "\u{9b}\u{202e}\u{1b}x");
        assert_eq!(plain("é 漢 line\n\tline"), "é 漢 line\n\tline");
    }
}
