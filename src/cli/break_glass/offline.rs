//! `amlgate break-glass codes`, and `--offline`: for when the identity provider is down.

use std::{
    io::{BufRead as _, IsTerminal as _, Read as _},
    process::ExitCode,
    time::Duration,
};

use http::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::whole;
use crate::{
    cli::{
        Output, exit, print_data, put,
        request::{
            At, path, print_one,
            shown::{list as items, text},
        },
    },
    time::{Clock as _, SystemClock},
};

/// The longest line that is read as a code, in bytes.
const MAX_CODE: u64 = 256;

/// `break-glass codes`.
#[derive(Debug, clap::Subcommand)]
pub enum Codes {
    /// Makes codes for you, in place of those that you have not used; each is shown once.
    Create(Create),
    /// Says how many you have left.
    List(List),
}

/// `break-glass codes create`.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// How many.
    #[arg(long, default_value_t = 5)]
    count: u32,
    #[command(flatten)]
    at: At,
}

/// `break-glass codes list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    at: At,
}

/// What a code brings.
#[derive(Deserialize)]
struct Opened {
    break_glass: Value,
    access_token: SecretString,
    expires_in: u64,
}

/// Runs `break-glass codes`.
pub fn codes(args: &Codes) -> Result<ExitCode, ExitCode> {
    match args {
        Codes::Create(args) => create(args),
        Codes::List(args) => list(args),
    }
}

fn create(args: &Create) -> Result<ExitCode, ExitCode> {
    let asked = json!({ "count": args.count });
    let made: Value = args.at.gate()?.call(&Method::POST, "/api/v1/break-glass/codes", Some(&asked))?;
    if args.at.output == Output::Table {
        for code in items(&made, "/codes") {
            put(format_args!("{}", text(code, "")));
        }
    } else {
        print_data(&made, args.at.output);
    }
    eprintln!(
        "amlgate: each is good once, until {}; write them down and seal them: nobody can show them again",
        text(&made, "/expires")
    );
    Ok(exit::DONE)
}

fn list(args: &List) -> Result<ExitCode, ExitCode> {
    let left: Value = args.at.gate()?.call(&Method::GET, "/api/v1/break-glass/codes", None)?;
    if args.at.output == Output::Table {
        let until = text(&left, "/expires");
        let until = if until.is_empty() { until } else { format!(" until {until}") };
        put(format_args!("{} left{until}", text(&left, "/left")));
    } else {
        print_data(&left, args.at.output);
    }
    Ok(exit::DONE)
}

/// Opens one with a code, and keeps the token that it brings as the session at the gate.
pub fn open(at: &At, asked: &Value) -> Result<Value, ExitCode> {
    let gate = at.bearing(code()?)?;
    let opened: Opened = gate.call(&Method::POST, "/api/v1/break-glass/offline", Some(asked))?;
    let expires = SystemClock.now().plus(Duration::from_secs(opened.expires_in));
    gate.keep(opened.access_token, expires)?;
    eprintln!(
        "amlgate: you are signed in at this gate while it is open, until {} at the latest; run `amlgate login` afterwards",
        expires.to_rfc3339()
    );
    Ok(opened.break_glass)
}

/// Says yes with a code.
pub fn confirm(at: &At, id: &str, said: &Value) -> Result<ExitCode, ExitCode> {
    let gate = at.bearing(code()?)?;
    let one: Value = gate.call(&Method::POST, &path("break-glass", id, "confirm-offline"), Some(said))?;
    print_one(&one, at.output, whole);
    Ok(exit::DONE)
}

/// The code on standard input, one line.
fn code() -> Result<SecretString, ExitCode> {
    let input = std::io::stdin();
    if input.is_terminal() {
        eprint!("amlgate: code: ");
    }
    let mut line = Zeroizing::new(String::new());
    let read = input.lock().take(MAX_CODE).read_line(&mut line);
    // However it is typed, it travels as one word.
    let code: Zeroizing<String> = line.split_whitespace().collect::<String>().into();
    match read {
        Ok(_) if !code.is_empty() => Ok(SecretString::from(code.as_str())),
        Ok(_) => {
            eprintln!("amlgate: there is no code on standard input");
            Err(exit::usage())
        }
        Err(error) => {
            eprintln!("amlgate: standard input cannot be read: {error}");
            Err(exit::usage())
        }
    }
}
