//! `amlgate policy`: what policies decide, and why, without a gate.

mod explain;
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

pub(super) use explain::explain;

use super::{Output, exit, print_data, put, report, serve::refused};
use crate::{
    audit::recall::Recalled,
    azureml::{Naming, ResourceId},
    config::{self, settings},
    identity::{self, Caller, IssuerSettings, Rejection},
    policy::{
        self, OpenGlass, PolicySet, Surroundings, cases,
        described::{Described, DescribedCaller, DescribedRequest, Door},
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
    /// As if the caller had broken the glass (`amlgate break-glass open`).
    #[arg(long, conflicts_with = "decision")]
    break_glass: bool,
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
    /// `None` without a configuration.
    doors: Option<Vec<(String, Door)>>,
    issuers: Vec<IssuerSettings>,
}

impl Loaded {
    /// The door of the configured route with this upstream's host; of a host of Azure's, even if no
    /// route has it, so that policies can be judged before there are routes. `None`: the gate would
    /// answer 404. Without a configuration every host has a door.
    pub fn door(&self, host: &str) -> Option<Door> {
        let Some(doors) = &self.doors else {
            return Some(Door::of_azure(host).unwrap_or_else(|| Door::of_any(host)));
        };
        let known = doors.iter().find(|(known, _)| known.eq_ignore_ascii_case(host));
        let among = || doors.iter().find(|(known, _)| is_among(host, known));
        match known.or_else(among) {
            Some((_, door)) => {
                let mut door = door.clone();
                door.naming.upstream_host = host.to_ascii_lowercase().into();
                Some(door)
            }
            None => Door::of_azure(host),
        }
    }
}

/// Whether a host is one of `*.suffix`, one label below it, as for the gate.
fn is_among(host: &str, pattern: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let suffix = pattern.strip_prefix('*').map(str::to_ascii_lowercase);
    suffix.is_some_and(|suffix| {
        host.strip_suffix(&suffix).is_some_and(|first| !first.is_empty() && !first.contains('.'))
    })
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
        let mut doors = None;
        if let Some(settings) = &settings {
            around = settings.surroundings();
            let door = |route: &settings::Route| {
                let host = route.upstream.host.clone();
                let naming = Naming {
                    protocol: route.protocol,
                    upstream_host: host.as_str().into(),
                    resource: route.resource.clone(),
                };
                (host, Door { route: Arc::clone(&route.name), naming })
            };
            doors = Some(settings.routes.iter().map(door).collect());
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
        resource,
    };
    let glass = args.break_glass.then(|| Arc::new(OpenGlass { id: "supposed".into() }));
    Ok(Described::new(caller, &request, |host| loaded.door(host))?.under(glass))
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
