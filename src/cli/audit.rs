//! `amlgate audit`: is the record whole, and what does it say?

mod body;
mod evidence;
mod kept;
mod line;
mod prove;
mod query;
mod reconcile;
mod witnessed;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use self::{kept::Kept, line::Line};
use super::{Output, exit, put, report};
use crate::audit::{
    PUBLIC_KEY,
    archive::{ARCHIVED, WithArchive},
    note::{self, VerifierKeys},
    read::Reader,
    storage::Directory,
    verify::{self, Broken, Whole},
    witness::WitnessKey,
};

/// Reads and verifies the record.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Checks that nothing was changed, dropped, added or moved, up to the newest signed head.
    Verify(Verify),
    /// Prints a proof of a record, or that the log grew out of a head that was kept.
    Prove(prove::Prove),
    /// Signs that a log ends, when its gate is given up; no gate goes on with it.
    End(prove::End),
    /// Prints the records that fit.
    Query(query::Args),
    /// Prints a body that was recorded, by its digest in the record.
    Body(body::Args),
    /// Names what was done in Azure, by its own activity log, that the record does not have.
    Reconcile(reconcile::Args),
    /// Makes a signed pack of records, proofs and policies for an auditor, or checks one.
    Evidence(evidence::Args),
    /// Prints the last records.
    Tail(Tail),
}

/// `audit verify`.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// Directories of logs, one for each gate.
    #[arg(required_unless_present = "proofs")]
    directories: Vec<PathBuf>,
    /// Verifier keys, kept where the gate cannot write, oldest first; every log that has one must be
    /// there. `audit.pub` beside each log by default; repeatable.
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// A signed head that was kept elsewhere: its log must reach and fit it; repeatable.
    #[arg(long = "head", value_name = "FILE")]
    heads: Vec<PathBuf>,
    /// Verifier keys of witnesses, a line each; repeatable.
    #[arg(long = "witness", value_name = "FILE", requires = "required")]
    witnesses: Vec<PathBuf>,
    /// How many of the witnesses must vouch for a head that the log reaches and fits.
    #[arg(long = "require", value_name = "N", requires = "witnesses")]
    required: Option<usize>,
    /// Where heads are kept: a witness's folder, what was fetched from a container, or a clone of a git
    /// repository, whose whole history counts. Each log must have heads there, and fit them all;
    /// repeatable.
    #[arg(long, value_name = "DIR")]
    kept: Vec<PathBuf>,
    /// A folder with segments that were fetched from an archive: they are verified with the log;
    /// repeatable.
    #[arg(long, value_name = "DIR", requires = "directories")]
    archive: Vec<PathBuf>,
    /// What `audit end` printed for a log: it need not be among the directories any longer; repeatable.
    #[arg(long = "end", value_name = "FILE")]
    ends: Vec<PathBuf>,
    /// What `audit prove` printed: checked under the keys, without the log; repeatable.
    #[arg(long = "proof", value_name = "FILE", requires = "keys")]
    proofs: Vec<PathBuf>,
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
        Args::Prove(args) => prove::prove(&args),
        Args::End(args) => prove::end(&args),
        Args::Query(args) => query::run(&args),
        Args::Body(args) => body::run(&args),
        Args::Reconcile(args) => reconcile::run(&args),
        Args::Evidence(args) => evidence::run(&args),
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
    /// How many records there are, by the signed end of a log that need not be there.
    #[serde(skip_serializing_if = "Option::is_none", rename = "ended_with")]
    ended: Option<u64>,
    /// What witnesses vouch for.
    #[serde(skip_serializing_if = "Option::is_none")]
    witnessed: Option<String>,
    /// What is kept elsewhere and fits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept: Vec<String>,
    /// What a proof proves.
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<String>,
}

impl Verdict {
    fn of(log: String) -> Self {
        Self { log, whole: None, problem: None, ended: None, witnessed: None, kept: Vec::new(), proven: None }
    }

    fn is_good(&self) -> bool {
        self.problem.is_none()
    }
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
    if args.keys.is_empty() && !args.directories.is_empty() {
        eprintln!(
            "amlgate: the keys are those beside the logs: whoever can write there can write both; \
             give `--key` a copy that is kept elsewhere"
        );
    }
    match args.output {
        Output::Table => verdicts.iter().for_each(print_verdict),
        Output::Json | Output::Yaml => super::print_data(&verdicts, args.output),
    }
    code
}

fn print_verdict(verdict: &Verdict) {
    if let Some(proven) = &verdict.proven {
        put(format_args!("{proven}"));
    }
    if let (Some(end), None) = (verdict.ended, &verdict.whole) {
        put(format_args!("{}: ended with {end} records: its log was not looked for", verdict.log));
    }
    let Some(whole) = &verdict.whole else { return };
    let heads = if whole.heads == 1 { "head" } else { "heads" };
    put(format_args!(
        "{}: whole: {} records under {} signed {heads}",
        whole.origin, whole.vouched, whole.heads
    ));
    if whole.tiles > 0 {
        put(format_args!("  {} tiles are what the records make of them", whole.tiles));
    }
    if whole.retired > 0 {
        put(format_args!("  the first {} records were removed, as the record says", whole.retired));
    }
    if whole.archived > whole.retired {
        put(format_args!(
            "  {} records from position {} on are archived, as the record says, and were not looked at: \
             `{ARCHIVED}` in its directory says where, `--archive` takes what was fetched",
            whole.archived - whole.retired,
            whole.retired
        ));
    }
    if let Some(witnessed) = &verdict.witnessed {
        put(format_args!("  {witnessed}"));
    }
    for kept in &verdict.kept {
        put(format_args!("  {kept}"));
    }
    if whole.ended {
        put(format_args!("  the log was ended there"));
    }
    if whole.beyond > 0 {
        put(format_args!(
            "  the last {} records are newer than the newest head: nothing vouches for them yet",
            whole.beyond
        ));
    }
    if whole.torn_bytes > 0 {
        put(format_args!(
            "  {} bytes behind them are an unfinished write: nothing was acknowledged from it",
            whole.torn_bytes
        ));
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
    let mut ends = Vec::new();
    for path in &args.ends {
        let end = format!("{}\n", text(path)?.trim_end_matches('\n'));
        if !note::is_end(&end) {
            return Err(
                format!("`{}` is not a signed end: `amlgate audit end` prints one", path.display()).into()
            );
        }
        ends.push(end);
    }
    let mut witnesses = Vec::new();
    for path in &args.witnesses {
        for line in text(path)?.lines().filter(|l| !l.trim().is_empty()) {
            witnesses.push(WitnessKey::parse(line)?);
        }
    }
    let kept = args.kept.iter().map(|path| Kept::at(path)).collect::<Result<Vec<_>, _>>()?;
    let mut verdicts = Vec::new();
    match prove::check(&args.proofs, &given, &heads) {
        Ok(said) => verdicts.extend(
            said.into_iter()
                .map(|proven| Verdict { proven: Some(proven), ..Verdict::of("proof".to_owned()) }),
        ),
        Err(error) => {
            verdicts.push(Verdict { problem: Some(error.to_string()), ..Verdict::of("proof".to_owned()) })
        }
    }
    // With proofs alone nothing is asked of any log.
    if args.directories.is_empty() {
        let good = verdicts.iter().all(Verdict::is_good);
        return Ok((verdicts, if good { exit::DONE } else { exit::FINDING }));
    }
    let mut seen: Vec<String> = Vec::new();
    for directory in &args.directories {
        let storage = WithArchive::new(directory.clone(), &args.archive)
            .map_err(|error| format!("cannot read the log in `{}`: {error}", directory.display()))?;
        let log = directory.display().to_string();
        let mut verdict = Verdict::of(log);
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
                let mut heads: Vec<String> = heads
                    .iter()
                    .chain(&ends)
                    .filter(|h| note::claimed_origin(h) == origin)
                    .cloned()
                    .collect();
                if let Some(required) = args.required {
                    match witnessed::newest(directory, &origin, &heads, &witnesses, required.max(1)) {
                        Ok(vouched) => {
                            heads.push(vouched.note);
                            verdict.witnessed = Some(vouched.said);
                        }
                        Err(problem) => verdict.problem = Some(problem),
                    }
                }
                for kept in &kept {
                    match kept.of(&origin) {
                        Ok((there, said)) => {
                            heads.extend(there);
                            verdict.kept.push(said);
                        }
                        Err(problem) => verdict.problem = Some(problem),
                    }
                }
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
    let known = known.chain(ends.iter().map(|e| note::claimed_origin(e)));
    for origin in known.map(str::to_owned).collect::<Vec<_>>() {
        if !seen.contains(&origin) {
            let mut verdict = Verdict::of(origin.clone());
            // Whoever ended it vouched that there is nothing to look for behind that.
            let end = ends.iter().filter(|e| note::claimed_origin(e) == origin);
            match end.map(|end| given.of(&origin).open(end, 0)).next() {
                Some(Ok((head, _))) => verdict.ended = Some(head.size),
                Some(Err(error)) => verdict.problem = Some(format!("its signed end is not good: {error}")),
                None => {
                    verdict.problem = Some(
                        "there is a key or a head of it, but neither its directory nor its signed end is among \
                         those given"
                            .to_owned(),
                    );
                }
            }
            verdicts.push(verdict);
            seen.push(origin);
        }
    }
    let code = if verdicts.iter().all(Verdict::is_good) { exit::DONE } else { exit::FINDING };
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

#[cfg(test)]
mod tests;
