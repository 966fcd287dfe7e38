//! `amlgate policy`: what policies decide, and why, without a gate.

mod replay;

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use serde_json::json;

use super::{Output, exit, print_data, put, report, serve::refused};
use crate::{
    audit::recall::Recalled,
    azureml::{Naming, ResourceId},
    config,
    identity::{self, Caller, IssuerSettings, Rejection},
    policy::{
        self, EntryTrace, PolicySet, Question, Surroundings, Verdict, cases,
        described::{Described, DescribedCaller, DescribedRequest, Door},
        flip,
        replay::{Replayed, replay},
    },
    time::{Clock as _, SystemClock, Timestamp},
    yaml::Problem,
};

/// Policies.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Runs the cases of `*.test.yaml`.
    Test(Test),
    /// Explains one decision, and the smallest change that would turn it.
    Why(Why),
    /// Prints what is in force.
    Show(Show),
    /// Judges the requests of a record again, and prints which decisions would change.
    Replay(replay::Args),
    /// Prints the JSON Schema of policy files, for editors.
    Schema,
}

/// Where policies are.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// The folder of policies; else the one that the configuration names.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// The configuration.
    #[arg(long, default_value = "amlgate.yaml")]
    config: PathBuf,
}

/// `policy test`.
#[derive(Debug, clap::Args)]
pub struct Test {
    #[command(flatten)]
    source: Source,
    /// Files of cases; all below the folder of policies, if none is given.
    files: Vec<PathBuf>,
    /// Names the entries that count in no case.
    #[arg(long)]
    coverage: bool,
}

/// `policy why`.
#[derive(Debug, clap::Args)]
pub struct Why {
    #[command(flatten)]
    source: Source,
    /// A file with the claims of a token of a configured issuer, or one that describes the caller:
    /// `{"issuer": "corp", "subject": "...", "groups": [...], "claims": {...}}`.
    #[arg(long = "as", value_name = "FILE", required_unless_present = "decision")]
    caller: Option<PathBuf>,
    /// The method.
    #[arg(required_unless_present = "decision")]
    method: Option<String>,
    /// The URL, with Azure's host.
    #[arg(required_unless_present = "decision")]
    url: Option<String>,
    /// A decision out of the record: `x-amlgate-decision`.
    #[arg(long, value_name = "ID", requires = "log", conflicts_with_all = ["caller", "method", "url", "body", "from", "resource", "at"])]
    decision: Option<String>,
    /// The directory of the log that holds the decision.
    #[arg(long, value_name = "DIR", requires = "decision")]
    log: Option<PathBuf>,
    /// When: RFC 3339; now, if it is not given.
    #[arg(long, value_name = "INSTANT")]
    at: Option<chrono::DateTime<chrono::Utc>>,
    /// A file with the JSON body.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The caller's address; this machine's, if it is not given.
    #[arg(long)]
    from: Option<IpAddr>,
    /// The endpoint behind an inference host.
    #[arg(long, value_name = "ARM_ID")]
    resource: Option<String>,
    /// Shows the entries that are not concerned, too.
    #[arg(long)]
    all: bool,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// `policy show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    #[command(flatten)]
    source: Source,
    /// Prints each entry with its subjects, scopes and actions, names replaced by what they stand for.
    #[arg(long)]
    expanded: bool,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Policies, and the doors of the configuration beside them, if there is one.
pub(super) struct Loaded {
    pub set: PolicySet,
    pub directory: PathBuf,
    doors: Vec<(String, Door)>,
    issuers: Vec<IssuerSettings>,
}

impl Loaded {
    /// The door of a configured route with this upstream's host.
    pub fn door(&self, host: &str) -> Option<Door> {
        self.doors.iter().find(|(known, _)| known.eq_ignore_ascii_case(host)).map(|(_, door)| door.clone())
    }
}

impl Source {
    /// The policies that a configuration names.
    pub(super) const fn of(config: PathBuf) -> Self {
        Self { policies: None, config }
    }

    /// Loads policies; a configuration is only needed to find them.
    pub(super) fn load(&self) -> Result<Loaded, Vec<Problem>> {
        let settings = match (&self.policies, config::load(&self.config)) {
            (_, Ok(settings)) => Some(settings),
            (None, Err(problems)) => return Err(problems),
            (Some(_), Err(_)) => {
                if self.config.exists() {
                    let config = self.config.display();
                    eprintln!(
                        "amlgate: `{config}` is not in order, so names of issuers and routes are not checked: \
                         `amlgate validate --config {config}` says why"
                    );
                }
                None
            }
        };
        let mut around = Surroundings::default();
        let mut doors = Vec::new();
        if let Some(settings) = &settings {
            around.issuers = Some(settings.issuers.iter().map(|i| i.name.to_string()).collect());
            around.routes = Some(settings.routes.iter().map(|r| r.name.to_string()).collect());
            doors.extend(settings.routes.iter().map(|route| {
                let host = route.upstream.host.clone();
                let naming = Naming {
                    protocol: route.protocol,
                    upstream_host: host.as_str().into(),
                    resource: route.resource.clone(),
                };
                (host, Door { route: Arc::clone(&route.name), naming })
            }));
        }
        let directory = match (&self.policies, &settings) {
            (Some(directory), _) => directory.clone(),
            (None, Some(settings)) => settings.policies.clone(),
            (None, None) => PathBuf::new(),
        };
        let (set, warnings) = PolicySet::load(&directory, &around)?;
        for warning in warnings {
            eprintln!("{warning}");
        }
        let issuers = settings.map(|settings| settings.issuers).unwrap_or_default();
        Ok(Loaded { set, directory, doors, issuers })
    }
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    match args {
        Args::Test(args) => test(args),
        Args::Why(args) => why(args),
        Args::Show(args) => show(args),
        Args::Replay(args) => replay::run(args),
        Args::Schema => {
            put(format_args!("{}", policy::SCHEMA.trim_end()));
            exit::DONE
        }
    }
}

fn test(args: &Test) -> ExitCode {
    let loaded = match args.source.load() {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems),
    };
    let files = match args.files.as_slice() {
        [] => match cases::files(&loaded.directory) {
            Ok(files) => files,
            Err(error) => return report(&error, exit::FINDING),
        },
        given => given.to_vec(),
    };
    let (mut held, mut problems, mut concerned) = (0_usize, Vec::new(), BTreeSet::new());
    for path in &files {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("amlgate: cannot read `{}`", path.display());
                return report(&error, exit::FINDING);
            }
        };
        let file: Arc<str> = path.display().to_string().into();
        match cases::run(&loaded.set, &file, &text, &|host| loaded.door(host)) {
            Err(problem) => problems.push(problem),
            Ok(outcomes) => {
                for outcome in outcomes {
                    for unevaluable in &outcome.unevaluable {
                        eprintln!("{file}:{}: not evaluable: {unevaluable}", outcome.place.line);
                    }
                    concerned.extend(outcome.concerned);
                    match outcome.failure {
                        Some(problem) => problems.push(problem),
                        None => held += 1,
                    }
                }
            }
        }
    }
    if args.coverage {
        for (_, entry) in loaded.set.entries().filter(|(_, e)| !concerned.contains(&*e.name)) {
            put(format_args!("{}:{}: `{}` counts in no case", entry.file, entry.line, entry.name));
        }
    }
    if files.is_empty() {
        eprintln!("amlgate: no `*.test.yaml` below `{}`", loaded.directory.display());
        return exit::FINDING;
    }
    if problems.is_empty() {
        put(format_args!("{held} cases hold"));
        return exit::DONE;
    }
    put(format_args!("{held} cases hold, {} do not", problems.len()));
    refused(&problems)
}

/// Why `policy why` has no question.
#[derive(Debug, thiserror::Error)]
enum WhyError {
    #[error("cannot read `{path}`")]
    File { path: PathBuf, source: std::io::Error },
    #[error("`{path}` describes no caller")]
    Caller { path: PathBuf, source: serde_json::Error },
    #[error(
        "no configured issuer has the `iss` of `{path}`, `{iss}`; name the configuration with `--config`"
    )]
    Issuer { path: PathBuf, iss: String },
    #[error("the gate would refuse a token with the claims of `{path}`")]
    Claims { path: PathBuf, source: Rejection },
    #[error(transparent)]
    NoQuestion(#[from] policy::described::NoQuestion),
    #[error("`{0}` is no resource's id")]
    Resource(String),
    #[error("the log in `{directory}` cannot be read")]
    Log { directory: PathBuf, source: std::io::Error },
    #[error("the log in `{directory}` holds no decision `{decision}` on a request that could be named")]
    NoDecision { directory: PathBuf, decision: String },
    #[error(transparent)]
    NotRecorded(#[from] crate::audit::recall::NotRecorded),
    #[error("give `--as`, a method and a URL, or `--decision` and `--log`")]
    Nothing,
}

fn read(path: &Path) -> Result<Vec<u8>, WhyError> {
    fs::read(path).map_err(|source| WhyError::File { path: path.to_owned(), source })
}

fn described(args: &Why, loaded: &Loaded) -> Result<Described, WhyError> {
    let (Some(path), Some(method), Some(url)) = (&args.caller, &args.method, &args.url) else {
        return Err(WhyError::Nothing);
    };
    let caller = caller(path, loaded)?;
    let body = args.body.as_deref().map(read).transpose()?;
    let resource = match &args.resource {
        None => None,
        Some(id) => Some(ResourceId::parse(id).ok_or_else(|| WhyError::Resource(id.clone()))?),
    };
    let at = args.at.and_then(|at| u64::try_from(at.timestamp_millis()).ok()).map(Timestamp::from_millis);
    let request = DescribedRequest {
        method,
        url,
        body: body.as_deref(),
        from: SocketAddr::new(args.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0),
        at: at.unwrap_or_else(|| SystemClock.now()),
        resource: resource.clone(),
    };
    let door = |host: &str| loaded.door(host).unwrap_or_else(|| Door::of_host(host, resource));
    Ok(Described::new(caller, &request, door)?)
}

/// The caller of a file: the claims of a token have `iss`, a description has `issuer`.
fn caller(path: &Path, loaded: &Loaded) -> Result<Caller, WhyError> {
    let wrong = |source| WhyError::Caller { path: path.to_owned(), source };
    let value: serde_json::Value = serde_json::from_slice(&read(path)?).map_err(wrong)?;
    let described =
        |value| serde_json::from_value::<DescribedCaller>(value).map(|d| d.caller()).map_err(wrong);
    match value.as_object().filter(|claims| claims.contains_key("iss")).cloned() {
        None => described(value),
        Some(claims) => {
            let iss = claims.get("iss").and_then(|iss| iss.as_str()).unwrap_or_default().to_owned();
            let is = |issuer: &&IssuerSettings| issuer.forms().iter().any(|form| *form.iss == *iss);
            let Some(issuer) = loaded.issuers.iter().find(is) else {
                return Err(WhyError::Issuer { path: path.to_owned(), iss });
            };
            identity::described(claims, issuer)
                .map_err(|source| WhyError::Claims { path: path.to_owned(), source })
        }
    }
}

fn why(args: &Why) -> ExitCode {
    let loaded = match args.source.load() {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems),
    };
    let described = match (&args.decision, &args.log) {
        (Some(decision), Some(log)) => match recorded(decision, log) {
            Ok(recalled) => {
                if let Replayed::Undecidable(why) = replay(&loaded.set, &recalled.question(), recalled.skus) {
                    return undecidable(&why, args.output);
                }
                let Recalled { caller, operation, request, standing, .. } = recalled;
                Described::of(caller, operation, request, standing)
            }
            Err(error @ WhyError::Log { .. }) => return report(&error, exit::unreachable()),
            Err(error) => return report(&error, exit::FINDING),
        },
        (None, _) | (_, None) => match described(args, &loaded) {
            Ok(described) => described,
            Err(error) => return report(&error, exit::usage()),
        },
    };
    explain(&loaded.set, &described, args.all, args.output)
}

fn recorded(decision: &str, log: &Path) -> Result<Recalled, WhyError> {
    let directory = || log.to_owned();
    let found = replay::find(log, decision)
        .map_err(|source| WhyError::Log { directory: directory(), source })?
        .ok_or_else(|| WhyError::NoDecision { directory: directory(), decision: decision.to_owned() })?;
    Ok(found?)
}

/// The record does not hold enough to say what these policies make of the request.
fn undecidable(why: &[String], output: Output) -> ExitCode {
    match output {
        Output::Table => {
            put(format_args!("undecidable: the record does not hold enough of the request"));
            why.iter().for_each(|why| put(format_args!("    {why}")));
        }
        Output::Json | Output::Yaml => print_data(&json!({"decision": "undecidable", "why": why}), output),
    }
    exit::FINDING
}

/// Prints a decision: what decided, every entry that was considered, and what would turn it.
pub(super) fn explain(set: &PolicySet, described: &Described, all: bool, output: Output) -> ExitCode {
    let judgement = described.judge(set);
    let question = described.question();
    let traces = question.as_ref().map(|q| set.trace(q)).unwrap_or_default();
    let flips = question.as_ref().map(|q| flip::flips(set, q)).unwrap_or_default();
    let hinges = described.hinges(set);
    let code = if judgement.denial.is_some() { exit::FINDING } else { exit::DONE };
    if output != Output::Table {
        let data = json!({
            "decision": if judgement.denial.is_some() { "deny" } else { "allow" },
            "about": described.about(),
            "code": judgement.denial.as_ref().map(|d| d.code.name()),
            "cause": judgement.denial.as_ref().map(|d| &d.cause),
            "cure": judgement.denial.as_ref().map(|d| &d.cure),
            "allowed_by": judgement.allowed_by,
            "would_deny": judgement.would_deny,
            "but": hinges
                .iter()
                .map(|(effect, denial)| json!({"effect": effect.name(), "code": denial.code.name(), "cause": denial.cause}))
                .collect::<Vec<_>>(),
            "entries": traces.iter().map(trace_data).collect::<Vec<_>>(),
            "flips": flips.sets.iter().map(|f| f.iter().map(ToString::to_string).collect()).collect::<Vec<Vec<_>>>(),
        });
        print_data(&data, output);
        return code;
    }
    put(format_args!("{}", described.about()));
    match &judgement.denial {
        None => {
            let by: BTreeSet<_> = judgement.allowed_by.iter().map(|e| format!("`{}`", e.name)).collect();
            put(format_args!("allowed by {}", by.into_iter().collect::<Vec<_>>().join(", ")));
        }
        Some(denial) => {
            put(format_args!("denied, {}: {}", denial.code.name(), denial.cause));
            put(format_args!("the caller is told: {}", denial.cure));
        }
    }
    for (effect, denial) in &hinges {
        put(format_args!("but not where it brings about `{}`: {}", effect.name(), denial.cause));
    }
    for entry in &judgement.would_deny {
        put(format_args!("would be denied by `{}`, which is only watched yet", entry.name));
    }
    for trace in traces.iter().filter(|t| all || is_concerned(t)) {
        print_trace(trace, question.as_ref());
    }
    if judgement.denial.is_some() {
        put(format_args!(""));
        if flips.sets.is_empty() {
            put(format_args!("nothing turns it: what cannot be named or evaluated is let through by nobody"));
        } else {
            put(format_args!("any one of these turns it:"));
            for flip in &flips.sets {
                let changes: Vec<_> = flip.iter().map(ToString::to_string).collect();
                put(format_args!("  - {}", changes.join(", and ")));
            }
            if !flips.exhaustive {
                put(format_args!(
                    "  (there are so many subjects that not all of their combinations were tried)"
                ));
            }
        }
    }
    code
}

/// Whether an entry comes close: it counts, or misses by one selector.
fn is_concerned(trace: &EntryTrace) -> bool {
    let missed: BTreeSet<_> =
        trace.selectors.iter().filter(|s| s.verdict != Verdict::Matches).map(|s| s.selector.name()).collect();
    trace.matches || missed.len() <= 1
}

fn print_trace(trace: &EntryTrace, question: Option<&Question<'_>>) {
    let list = format!("{:?}", trace.list).to_lowercase();
    let counts = if trace.matches { "counts" } else { "does not count" };
    let watched = if trace.dry_run { ", only watched" } else { "" };
    put(format_args!(""));
    put(format_args!(
        "{list} `{}` ({}:{}) {counts}{watched}",
        trace.entry.name, trace.entry.file, trace.entry.line
    ));
    for selector in &trace.selectors {
        let verdict = match selector.verdict {
            Verdict::Matches => "yes",
            Verdict::Fails => "no ",
            Verdict::Unevaluable => "?  ",
        };
        let act = selector.act.and_then(|n| question?.operation.acts.get(n));
        let many = question.is_some_and(|q| q.operation.acts.len() > 1);
        let of = act.filter(|_| many).map(|a| format!(" [{}]", a.action.as_str())).unwrap_or_default();
        put(format_args!("    {verdict} {}{of}: {}", selector.selector.name(), selector.detail));
    }
}

fn trace_data(trace: &EntryTrace) -> serde_json::Value {
    let selectors: Vec<_> = trace
        .selectors
        .iter()
        .map(|s| {
            let verdict = match s.verdict {
                Verdict::Matches => "matches",
                Verdict::Fails => "fails",
                Verdict::Unevaluable => "unevaluable",
            };
            json!({"selector": s.selector.name(), "act": s.act, "verdict": verdict, "detail": s.detail})
        })
        .collect();
    json!({
        "list": format!("{:?}", trace.list).to_lowercase(),
        "entry": trace.entry,
        "counts": trace.matches,
        "dry_run": trace.dry_run,
        "selectors": selectors,
    })
}

fn show(args: &Show) -> ExitCode {
    let loaded = match args.source.load() {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems),
    };
    let views = loaded.set.views();
    let digest: String = loaded.set.digest().iter().map(|b| format!("{b:02x}")).collect();
    if args.output != Output::Table {
        let subjects = loaded.set.subjects().iter().map(|s| &**s).collect::<Vec<_>>();
        print_data(&json!({"digest": digest, "subjects": subjects, "entries": views}), args.output);
        return exit::DONE;
    }
    put(format_args!("digest   {digest}"));
    put(format_args!("subjects {}", loaded.set.subjects().join(", ")));
    for view in &views {
        put(format_args!("{:<8} {}  ({}:{})", view.list, view.entry.name, view.entry.file, view.entry.line));
        if args.expanded {
            for (key, values) in &view.keys {
                put(format_args!("         {key}: {}", values.join(", ")));
            }
        }
    }
    exit::DONE
}
