//! `amlgate request` and `amlgate grant`: just-in-time access, over the gate's own API.

pub(super) mod shown;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, thread, time::Duration};

use http::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Output, can_i::Gate, exit, print_data, token::Who};

/// How often whoever watches looks.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The most pages of a list that are read.
const MOST_PAGES: usize = 50;

/// Asks for approvals, and answers those who ask.
#[derive(Debug, clap::Subcommand)]
pub enum Requests {
    /// Asks for the approvals for want of which a call of yours was refused.
    Create(Create),
    /// Lists requests.
    List(List),
    /// Shows a request: who asks for what, why, and who answered.
    Show(One),
    /// Says yes to a request.
    Approve(Answered),
    /// Says no to a request.
    Deny(Answered),
    /// Takes back a request of yours.
    Withdraw(One),
    /// Waits until a request is decided, or shows those that come for you to answer.
    Watch(Watch),
}

/// Lists and takes back what was approved.
#[derive(Debug, clap::Subcommand)]
pub enum Grants {
    /// Lists grants.
    List(ListGrants),
    /// Takes a grant back: nothing more goes on by it, and what lives by it is cut.
    Revoke(One),
}

/// Which gate is asked, by whom, and how the answer is printed.
#[derive(Debug, clap::Args)]
pub struct At {
    /// The gate to ask; the one that was signed in to last, if it is not given.
    #[arg(long, env = "AMLGATE_GATE", value_name = "URL")]
    gate: Option<String>,
    /// Who asks: `me`, who is signed in on this machine, or `-`, the bearer of the token on standard
    /// input.
    #[arg(long = "as", value_name = "WHO", default_value = "me")]
    who: Who,
    /// An authority to believe besides the system's, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Output,
}

impl At {
    /// The gate, asked with what was read elsewhere than where tokens are.
    pub(super) fn bearing(&self, token: SecretString) -> Result<Gate, ExitCode> {
        Gate::bearing(token, self.gate.as_deref(), self.ca.as_ref())
    }

    pub(super) fn gate(&self) -> Result<Gate, ExitCode> {
        Gate::of(self.who, self.gate.as_deref(), self.ca.as_ref())
    }
}

/// `request create`.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// The decision that refused the call, as the refusal names it.
    decision: String,
    /// Why.
    #[arg(long, value_name = "WORDS")]
    reason: Option<String>,
    /// The ticket.
    #[arg(long)]
    ticket: Option<String>,
    /// Wait until it is decided.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    at: At,
}

/// Whose requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Whose {
    /// Your own.
    #[default]
    Mine,
    /// Those that you may answer.
    ToAnswer,
    /// All of them.
    All,
}

impl Whose {
    const fn word(self) -> &'static str {
        match self {
            Self::Mine => "mine",
            Self::ToAnswer => "to_answer",
            Self::All => "all",
        }
    }
}

/// `request list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Whose.
    #[arg(long, value_enum, default_value_t)]
    show: Whose,
    /// Only those that have come so far: pending, approved, denied, expired, withdrawn.
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    at: At,
}

/// `grant list`.
#[derive(Debug, clap::Args)]
pub struct ListGrants {
    /// Others', too.
    #[arg(long)]
    all: bool,
    /// Only active, revoked or expired ones.
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    at: At,
}

/// One request, or one grant.
#[derive(Debug, clap::Args)]
pub struct One {
    /// Its id.
    id: String,
    #[command(flatten)]
    at: At,
}

/// `request approve`, `request deny`.
#[derive(Debug, clap::Args)]
pub struct Answered {
    /// The request's id.
    id: String,
    /// What you say to it, for who asked and for the record.
    #[arg(long, value_name = "WORDS")]
    note: Option<String>,
    #[command(flatten)]
    at: At,
}

/// `request watch`.
#[derive(Debug, clap::Args)]
pub struct Watch {
    /// The request to wait for; those that come for you to answer, if it is not given.
    id: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Runs `request`.
#[must_use]
pub fn requests(args: &Requests) -> ExitCode {
    let done = match args {
        Requests::Create(args) => create(args),
        Requests::List(args) => list(args),
        Requests::Show(args) => show(args),
        Requests::Approve(args) => answer(args, "approve"),
        Requests::Deny(args) => answer(args, "deny"),
        Requests::Withdraw(args) => withdraw(args),
        Requests::Watch(args) => watch(args),
    };
    done.unwrap_or_else(|code| code)
}

/// Runs `grant`.
#[must_use]
pub fn grants(args: &Grants) -> ExitCode {
    let done = match args {
        Grants::List(args) => list_grants(args),
        Grants::Revoke(args) => revoke(args),
    };
    done.unwrap_or_else(|code| code)
}

/// A page of requests, or of grants.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(alias = "grants")]
    requests: Vec<Value>,
    next: Option<String>,
}

/// A path of the API with an id in it, whatever somebody typed as one.
pub(super) fn path(base: &str, id: &str, verb: &str) -> String {
    let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
    let end = if verb.is_empty() { String::new() } else { format!("/{verb}") };
    format!("/api/v1/{base}/{id}{end}")
}

/// Everything of a list, page by page.
fn all(gate: &Gate, base: &str, show: &str, state: Option<&str>) -> Result<Vec<Value>, ExitCode> {
    let (mut found, mut cursor): (_, Option<String>) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("show", show);
        for (key, value) in [("state", state), ("cursor", cursor.as_deref())] {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        let page: Page = gate.call(&Method::GET, &format!("/api/v1/{base}?{}", query.finish()), None)?;
        found.extend(page.requests);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(found);
        }
    }
    eprintln!("amlgate: there are more: --state leaves some out");
    Ok(found)
}

/// Prints some, for people row by row.
pub(super) fn print(found: &[Value], output: Output, row: impl Fn(&Value) -> String, none: &str) {
    if output != Output::Table {
        return print_data(&found, output);
    }
    if found.is_empty() {
        eprintln!("amlgate: {none}");
    }
    for one in found {
        super::put(format_args!("{}", row(one)));
    }
}

/// Prints one.
pub(super) fn print_one(one: &Value, output: Output, whole: impl Fn(&Value) -> String) {
    if output == Output::Table {
        super::put(format_args!("{}", whole(one)));
    } else {
        print_data(one, output);
    }
}

fn create(args: &Create) -> Result<ExitCode, ExitCode> {
    let mut asked = json!({"decision": args.decision});
    if let Some(asked) = asked.as_object_mut() {
        for (key, value) in [("reason", &args.reason), ("ticket", &args.ticket)] {
            if let Some(value) = value {
                asked.insert(key.to_owned(), json!(value));
            }
        }
    }
    let made: Page = args.at.gate()?.call(&Method::POST, "/api/v1/requests", Some(&asked))?;
    if args.wait {
        let mut code = exit::DONE;
        for one in &made.requests {
            let id = one.get("id").and_then(Value::as_str).unwrap_or_default();
            eprintln!("amlgate: request {id} waits for {}", shown::open(one));
            let ended = decided(&args.at, id)?;
            if ended != exit::DONE {
                code = ended;
            }
        }
        return Ok(code);
    }
    print(&made.requests, args.at.output, shown::request_row, "nothing is asked for");
    Ok(exit::DONE)
}

fn list(args: &List) -> Result<ExitCode, ExitCode> {
    let found = all(&args.at.gate()?, "requests", args.show.word(), args.state.as_deref())?;
    let none = match args.show {
        Whose::Mine => "you have asked for nothing",
        Whose::ToAnswer => "nobody waits for your answer",
        Whose::All => "nobody has asked for anything",
    };
    print(&found, args.at.output, shown::request_row, none);
    Ok(exit::DONE)
}

fn show(args: &One) -> Result<ExitCode, ExitCode> {
    let one: Value = args.at.gate()?.call(&Method::GET, &path("requests", &args.id, ""), None)?;
    print_one(&one, args.at.output, shown::request);
    Ok(exit::DONE)
}

fn answer(args: &Answered, verb: &str) -> Result<ExitCode, ExitCode> {
    let said = args.note.as_ref().map_or_else(|| json!({}), |note| json!({ "note": note }));
    let one: Value = args.at.gate()?.call(&Method::POST, &path("requests", &args.id, verb), Some(&said))?;
    print_one(&one, args.at.output, shown::request);
    Ok(exit::DONE)
}

fn withdraw(args: &One) -> Result<ExitCode, ExitCode> {
    let path = path("requests", &args.id, "withdraw");
    let one: Value = args.at.gate()?.call(&Method::POST, &path, Some(&json!({})))?;
    print_one(&one, args.at.output, shown::request);
    Ok(exit::DONE)
}

fn watch(args: &Watch) -> Result<ExitCode, ExitCode> {
    if let Some(id) = &args.id {
        return decided(&args.at, id);
    }
    let mut gate = args.at.gate()?;
    let mut seen = BTreeSet::new();
    loop {
        for one in all(&gate, "requests", Whose::ToAnswer.word(), None)? {
            let id = one.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            if seen.insert(id) {
                print(std::slice::from_ref(&one), args.at.output, shown::request_row, "");
            }
        }
        thread::sleep(LOOK_EVERY);
        renew(&mut gate, &args.at)?;
    }
}

/// Waits until a request is decided, and prints it; a finding if it was not approved.
fn decided(at: &At, id: &str) -> Result<ExitCode, ExitCode> {
    let mut gate = at.gate()?;
    loop {
        let one: Value = gate.call(&Method::GET, &path("requests", id, ""), None)?;
        match one.get("state").and_then(Value::as_str) {
            Some("pending") => {}
            state => {
                print_one(&one, at.output, shown::request);
                return Ok(if state == Some("approved") { exit::DONE } else { exit::FINDING });
            }
        }
        thread::sleep(LOOK_EVERY);
        renew(&mut gate, at)?;
    }
}

/// The session's token is renewed in time; one from standard input is read once.
fn renew(gate: &mut Gate, at: &At) -> Result<(), ExitCode> {
    if at.who == Who::Me {
        *gate = at.gate()?;
    }
    Ok(())
}

fn list_grants(args: &ListGrants) -> Result<ExitCode, ExitCode> {
    let show = if args.all { "all" } else { "mine" };
    let found = all(&args.at.gate()?, "grants", show, args.state.as_deref())?;
    print(&found, args.at.output, shown::grant_row, "nothing was granted");
    Ok(exit::DONE)
}

fn revoke(args: &One) -> Result<ExitCode, ExitCode> {
    let path = path("grants", &args.id, "revoke");
    let one: Value = args.at.gate()?.call(&Method::POST, &path, Some(&json!({})))?;
    print_one(&one, args.at.output, shown::grant_row);
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_typed_as_an_id_is_one_segment() {
        assert_eq!(path("requests", "r-1", "approve"), "/api/v1/requests/r-1/approve");
        assert_eq!(path("requests", "../grants?x#", ""), "/api/v1/requests/..%2Fgrants%3Fx%23");
    }
}
