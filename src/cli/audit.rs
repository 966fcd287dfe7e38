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
    note::VerifierKey,
    segment_names,
    storage::{Directory, Storage as _},
    verify::{self, Whole},
};

/// Reads and verifies the record.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Checks that nothing was changed, dropped, added or moved, up to the newest signed head.
    Verify {
        /// Directories of logs.
        #[arg(required = true)]
        directories: Vec<PathBuf>,
        /// The verifier key, kept where the gate cannot write; `audit.pub` of the log by default.
        #[arg(long)]
        key: Option<PathBuf>,
        /// A signed head that was kept elsewhere: the log must reach and fit it; repeatable.
        #[arg(long = "head")]
        heads: Vec<PathBuf>,
        /// How to print.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Prints the records that fit.
    Query {
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
        /// `intent`, `outcome` or `denial`.
        #[arg(long)]
        phase: Option<String>,
        /// A denial's code, such as `AuthorizationFailed`.
        #[arg(long)]
        code: Option<String>,
        /// Not before: RFC 3339.
        #[arg(long)]
        since: Option<chrono::DateTime<chrono::Utc>>,
        /// How to print.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Prints the last records.
    Tail {
        /// The directory of a log.
        directory: PathBuf,
        /// How many.
        #[arg(short = 'n', default_value_t = 20)]
        count: usize,
        /// How to print.
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
}

/// Runs the verb.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    match args {
        Args::Verify { directories, key, heads, output } => {
            verify_all(&directories, key.as_deref(), &heads, output)
        }
        Args::Query { directory, caller, decision, action, phase, code, since, output } => {
            let holds = |part: &Option<String>, value: Option<&str>| {
                part.as_ref().is_none_or(|part| {
                    value.is_some_and(|v| v.to_ascii_lowercase().contains(&part.to_ascii_lowercase()))
                })
            };
            let fits = |line: &Line| {
                holds(&caller, line.text("/actor/user/uid"))
                    && decision.as_deref().is_none_or(|d| line.text("/unmapped/amlgate/decision") == Some(d))
                    && holds(&action, line.text("/api/operation"))
                    && phase.as_deref().is_none_or(|p| line.text("/unmapped/amlgate/phase") == Some(p))
                    && code.as_deref().is_none_or(|c| line.text("/unmapped/amlgate/denial/code") == Some(c))
                    && since.is_none_or(|s| line.time().is_some_and(|t| t >= s))
            };
            print(&directory, output, |lines| lines.into_iter().filter(fits).collect())
        }
        Args::Tail { directory, count, output } => print(&directory, output, |lines| {
            let skip = lines.len().saturating_sub(count);
            lines.into_iter().skip(skip).collect()
        }),
    }
}

fn verify_all(directories: &[PathBuf], key: Option<&Path>, heads: &[PathBuf], output: Output) -> ExitCode {
    let mut code = exit::DONE;
    let mut found: Vec<Whole> = Vec::new();
    for directory in directories {
        match verify_one(directory, key, heads) {
            Ok(whole) => found.push(whole),
            Err(error) => {
                eprintln!("{}: not whole", directory.display());
                code = report(&*error, exit::FINDING);
            }
        }
    }
    match output {
        Output::Table => {
            for whole in &found {
                println!(
                    "{}: whole: {} records under {} signed heads",
                    whole.origin, whole.vouched, whole.heads
                );
                if whole.beyond > 0 {
                    println!(
                        "  {} records are newer than the newest head: nothing vouches for them yet",
                        whole.beyond
                    );
                }
            }
        }
        Output::Json | Output::Yaml => super::print_data(&found, output),
    }
    code
}

fn verify_one(
    directory: &Path,
    key: Option<&Path>,
    heads: &[PathBuf],
) -> Result<Whole, Box<dyn std::error::Error>> {
    let key_file = key.map_or_else(|| directory.join("audit.pub"), Path::to_owned);
    let read = |path: &Path| {
        fs::read_to_string(path)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot read `{}`: {e}", path.display())))
    };
    let key = VerifierKey::parse(&read(&key_file)?)?;
    let heads = heads
        .iter()
        .map(|path| read(path).map(|text| format!("{}\n", text.trim_end_matches('\n'))))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(verify::verify(&Directory::at(directory.to_owned()), &key, &heads)?)
}

/// A record, as it stands and as it reads.
struct Line {
    raw: Vec<u8>,
    value: Value,
}

impl Line {
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

fn print(directory: &Path, output: Output, choose: impl FnOnce(Vec<Line>) -> Vec<Line>) -> ExitCode {
    let lines = match read(directory) {
        Ok(lines) => choose(lines),
        Err(error) => {
            eprintln!("amlgate: cannot read the log in `{}`: {error}", directory.display());
            return exit::FINDING;
        }
    };
    let mut out = io::stdout().lock();
    for line in &lines {
        let written = match output {
            Output::Table => writeln!(out, "{}", line.row()),
            Output::Json => out.write_all(&line.raw).and_then(|()| out.write_all(b"\n")),
            Output::Yaml => writeln!(out, "---\n{}", super::to_yaml(&line.value)),
        };
        if written.is_err() {
            break; // The reader has seen enough.
        }
    }
    if lines.is_empty() { exit::FINDING } else { exit::DONE }
}

fn read(directory: &Path) -> io::Result<Vec<Line>> {
    let storage = Directory::at(directory.to_owned());
    let mut lines = Vec::new();
    for name in segment_names(&storage)? {
        let bytes = storage.read(&name)?;
        for raw in bytes.split(|b| *b == b'\n').skip(1).filter(|l| !l.is_empty()) {
            // A line that is no JSON is the unfinished end, or tampering that `verify` names.
            if let Ok(value) = serde_json::from_slice(raw) {
                lines.push(Line { raw: raw.to_vec(), value });
            }
        }
    }
    Ok(lines)
}
