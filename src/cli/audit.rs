//! `amlgate audit`: is the record whole, and what does it say?

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::Value;

use super::{Output, exit, report};
use crate::audit::{
    PUBLIC_KEY,
    note::{self, VerifierKeys},
    read::{Reader, Record},
    storage::Directory,
    verify::{self, Broken, Whole},
};

/// Reads and verifies the record.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Checks that nothing was changed, dropped, added or moved, up to the newest signed head.
    Verify(Verify),
    /// Prints the records that fit.
    Query(Query),
    /// Prints the last records.
    Tail(Tail),
}

/// `audit verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Directories of logs, one for each gate.
    #[arg(required = true)]
    directories: Vec<PathBuf>,
    /// Verifier keys, kept where the gate cannot write, oldest first; every log that has one must be
    /// there. `audit.pub` beside each log by default; repeatable.
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// A signed head that was kept elsewhere: its log must reach and fit it; repeatable.
    #[arg(long = "head", value_name = "FILE")]
    heads: Vec<PathBuf>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// `audit query`: what is given must all fit.
#[derive(Debug, clap::Args)]
pub struct Query {
    /// The directory of a log.
    directory: PathBuf,
    /// The caller, as `issuer:subject`, or a part of it.
    #[arg(long)]
    caller: Option<String>,
    /// A decision's id: `x-amlgate-decision`.
    #[arg(long)]
    decision: Option<String>,
    /// An Azure action, or a part of it; case does not count.
    #[arg(long)]
    action: Option<String>,
    /// A resource's id, or a part of it; case does not count.
    #[arg(long)]
    resource: Option<String>,
    /// `intent`, `outcome` or `denial`.
    #[arg(long)]
    phase: Option<String>,
    /// A denial's code, such as `AuthorizationFailed`.
    #[arg(long)]
    code: Option<String>,
    /// Not before: RFC 3339.
    #[arg(long)]
    since: Option<chrono::DateTime<chrono::Utc>>,
    /// Before: RFC 3339.
    #[arg(long)]
    until: Option<chrono::DateTime<chrono::Utc>>,
    /// At most so many.
    #[arg(long, short = 'n')]
    limit: Option<usize>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// `audit tail`.
#[derive(Debug, clap::Args)]
pub struct Tail {
    /// The directory of a log.
    directory: PathBuf,
    /// How many.
    #[arg(short = 'n', default_value_t = 20)]
    count: usize,
    /// Goes on with what comes.
    #[arg(long, short)]
    follow: bool,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the verb.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    match args {
        Args::Verify(args) => verify_all(&args),
        Args::Query(args) => query(&args),
        Args::Tail(args) => tail(&args),
    }
}

/// What became of one log.
#[derive(Debug, serde::Serialize)]
struct Verdict {
    /// The directory, or the name of a log that is missing.
    log: String,
    #[serde(flatten)]
    whole: Option<Whole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

fn verify_all(args: &Verify) -> ExitCode {
    let (verdicts, code) = match verdicts(args) {
        Ok(found) => found,
        Err(error) => return report(&*error, exit::unreachable()),
    };
    for verdict in &verdicts {
        if let Some(problem) = &verdict.problem {
            eprintln!("amlgate: {}: not whole: {problem}", verdict.log);
        }
    }
    if args.keys.is_empty() {
        eprintln!(
            "amlgate: the keys are those beside the logs: whoever can write there can write both; \
             give `--key` a copy that is kept elsewhere"
        );
    }
    match args.output {
        Output::Table => verdicts.iter().filter_map(|v| v.whole.as_ref()).for_each(print_whole),
        Output::Json | Output::Yaml => super::print_data(&verdicts, args.output),
    }
    code
}

fn print_whole(whole: &Whole) {
    println!("{}: whole: {} records under {} signed heads", whole.origin, whole.vouched, whole.heads);
    if whole.beyond > 0 {
        println!(
            "  the last {} records are newer than the newest head: nothing vouches for them yet",
            whole.beyond
        );
    }
    if whole.torn_bytes > 0 {
        println!(
            "  {} bytes behind them are an unfinished write: nothing was acknowledged from it",
            whole.torn_bytes
        );
    }
}

type Failure = Box<dyn std::error::Error>;

/// Verifies each log with its keys and heads, and misses what should be there.
fn verdicts(args: &Verify) -> Result<(Vec<Verdict>, ExitCode), Failure> {
    let mut given = VerifierKeys::default();
    for path in &args.keys {
        given.extend(VerifierKeys::parse(&text(path)?)?);
    }
    let mut heads = Vec::new();
    for path in &args.heads {
        heads.push(format!("{}\n", text(path)?.trim_end_matches('\n')));
    }
    let mut verdicts = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for directory in &args.directories {
        let storage = Directory::at(directory.clone());
        let log = directory.display().to_string();
        let mut verdict = Verdict { log, whole: None, problem: None };
        match verify::claimed_origin(&storage).map_err(unreadable(directory))? {
            None => verdict.problem = Some("there is no segment of a log".to_owned()),
            Some(origin) if seen.contains(&origin) => {
                verdict.problem =
                    Some(format!("`{origin}` is the name of another of these logs: one is a copy or forged"));
            }
            Some(origin) => {
                let keys = if args.keys.is_empty() {
                    VerifierKeys::parse(&text(&directory.join(PUBLIC_KEY))?)?
                } else {
                    given.clone()
                };
                let heads: Vec<String> =
                    heads.iter().filter(|h| note::claimed_origin(h) == origin).cloned().collect();
                match verify::verify(&storage, &origin, &keys.of(&origin), &heads) {
                    Ok(whole) => verdict.whole = Some(whole),
                    Err(broken @ Broken::Io(_)) => return Err(unreadable(directory)(broken).into()),
                    Err(broken) => verdict.problem = Some(with_causes(&broken)),
                }
                seen.push(origin);
            }
        }
        verdicts.push(verdict);
    }
    // A fleet is whole only if each log that is known of is there.
    let known = given.origins().into_iter().chain(heads.iter().map(|h| note::claimed_origin(h)));
    for origin in known.map(str::to_owned).collect::<Vec<_>>() {
        if !seen.contains(&origin) {
            let problem =
                Some("there is a key or a head of it, but its directory is not among those given".to_owned());
            verdicts.push(Verdict { log: origin.clone(), whole: None, problem });
            seen.push(origin);
        }
    }
    let code = if verdicts.iter().all(|v| v.whole.is_some()) { exit::DONE } else { exit::FINDING };
    Ok((verdicts, code))
}

fn text(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
        .map_err(|e| io::Error::new(e.kind(), format!("cannot read `{}`: {e}", path.display())))
}

fn unreadable(directory: &Path) -> impl Fn(Broken) -> String {
    move |broken| format!("cannot read the log in `{}`: {}", directory.display(), with_causes(&broken))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn query(args: &Query) -> ExitCode {
    let holds = |part: &Option<String>, value: Option<&str>| {
        part.as_ref().is_none_or(|part| {
            value.is_some_and(|v| v.to_ascii_lowercase().contains(&part.to_ascii_lowercase()))
        })
    };
    let is =
        |wanted: &Option<String>, value: Option<&str>| wanted.as_ref().is_none_or(|w| Some(&**w) == value);
    let any = |list: &str, key: &str, part: &Option<String>, line: &Line| {
        let items = line.value.pointer(list).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(|item| item.get(key).and_then(Value::as_str)).any(|v| holds(part, Some(v)))
    };
    let fits = |line: &Line| {
        holds(&args.caller, line.text("/actor/user/uid"))
            && is(&args.decision, line.text("/unmapped/amlgate/decision"))
            && (holds(&args.action, line.text("/api/operation"))
                || any("/unmapped/amlgate/acts", "action", &args.action, line))
            && (args.resource.is_none() || any("/resources", "uid", &args.resource, line))
            && is(&args.phase, line.text("/unmapped/amlgate/phase"))
            && is(&args.code, line.text("/unmapped/amlgate/denial/code"))
            && args.since.is_none_or(|s| line.time().is_some_and(|t| t >= s))
            && args.until.is_none_or(|u| line.time().is_some_and(|t| t < u))
    };
    let mut left = args.limit.unwrap_or(usize::MAX);
    let printed = each(&args.directory, Reader::new, |line| {
        if left == 0 {
            return Ok(false);
        }
        if fits(line) {
            left -= 1;
            line.print(args.output)?;
        }
        Ok(true)
    });
    if printed == exit::DONE && left == args.limit.unwrap_or(usize::MAX) {
        eprintln!("amlgate: no record fits");
    }
    printed
}

fn tail(args: &Tail) -> ExitCode {
    let opened = (|| -> io::Result<()> {
        let mut reader = Reader::last(Directory::at(args.directory.clone()), args.count)?;
        loop {
            while let Some(record) = reader.record()? {
                if let Some(line) = Line::of(record) {
                    line.print(args.output)?;
                }
            }
            if !args.follow {
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    })();
    finished(opened, &args.directory)
}

/// How often `tail --follow` looks for what came.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(250);

/// Reads records until `work` has seen enough.
fn each(
    directory: &Path,
    reader: impl FnOnce(Directory) -> Reader<Directory>,
    mut work: impl FnMut(&Line) -> io::Result<bool>,
) -> ExitCode {
    let mut reader = reader(Directory::at(directory.to_owned()));
    let done = (|| {
        while let Some(record) = reader.record()? {
            if let Some(line) = Line::of(record)
                && !work(&line)?
            {
                break;
            }
        }
        Ok(())
    })();
    finished(done, directory)
}

fn finished(done: io::Result<()>, directory: &Path) -> ExitCode {
    match done {
        Ok(()) => exit::DONE,
        // The reader of what is printed has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::DONE,
        Err(error) => {
            eprintln!("amlgate: cannot read the log in `{}`: {error}", directory.display());
            exit::unreachable()
        }
    }
}

/// A record, as it stands and as it reads.
struct Line {
    record: Record,
    value: Value,
}

impl Line {
    /// A line that is no JSON is the unfinished end, or tampering, which `verify` names.
    fn of(record: Record) -> Option<Self> {
        Some(Self { value: serde_json::from_slice(&record.line).ok()?, record })
    }

    fn print(&self, output: Output) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match output {
            Output::Table => writeln!(out, "{}", self.row()),
            Output::Json => out.write_all(&self.record.line).and_then(|()| out.write_all(b"\n")),
            Output::Yaml => {
                writeln!(out, "---\n# position {}\n{}", self.record.position, super::to_yaml(&self.value))
            }
        }
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer).and_then(Value::as_str)
    }

    fn time(&self) -> Option<chrono::DateTime<chrono::Utc>> {
        chrono::DateTime::from_timestamp_millis(self.value.get("time")?.as_i64()?)
    }

    /// One row for a person: when, who, what came of it, what, on which resource.
    fn row(&self) -> String {
        let time = self.time().map_or_else(String::new, |t| t.format("%Y-%m-%d %H:%M:%S").to_string());
        if let Some(event) = self.text("/unmapped/amlgate/event") {
            let more = ["reason", "problem", "what"]
                .iter()
                .find_map(|k| self.text(&format!("/unmapped/amlgate/{k}")));
            return format!("{time}  {:<28} {:<12} {}", "-", event, more.unwrap_or_default());
        }
        let phase = self.text("/unmapped/amlgate/phase").unwrap_or_default();
        let result = match phase {
            "denial" => self.text("/unmapped/amlgate/denial/code").unwrap_or("denied").to_owned(),
            "intent" => "intent".to_owned(),
            _ => {
                let status = self.value.pointer("/http_response/code").and_then(Value::as_u64);
                let ending = self.text("/unmapped/amlgate/ending").unwrap_or_default();
                match status {
                    Some(status) if ending == "completed" => status.to_string(),
                    Some(status) => format!("{status} {ending}"),
                    None => ending.to_owned(),
                }
            }
        };
        let method = self.text("/http_request/http_method").unwrap_or_default();
        let what =
            self.text("/api/operation").or_else(|| self.text("/http_request/url/path")).unwrap_or_default();
        let on = self.text("/resources/0/name").unwrap_or_default();
        let who = self.text("/actor/user/uid").unwrap_or_default();
        format!("{time}  {who:<28} {result:<28} {method:<6} {what}  {on}")
    }
}

#[cfg(test)]
mod tests;
