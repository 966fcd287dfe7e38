//! `amlgate can-i`: may the bearer of a token do something, and by which entry or assignment?

mod gate;
mod list;

use std::{
    io::IsTerminal as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};

pub(super) use gate::Gate;
pub(super) use list::{list, print};

use super::{
    Output, exit, policy, report,
    serve::refused,
    token::{self, Who},
};
use crate::{
    azureml::Protocol,
    config::{self, Settings},
    credentials::LiveRights,
    identity::{Caller, HttpKeySource, RememberedSettings, Verifier},
    net::{Connector, ConnectorSettings},
    policy::{
        PolicySet,
        described::{Described, DescribedAct, NoQuestion},
    },
    server::{self, StartError},
    time::{Clock as _, SharedClock, SystemClock},
};

/// Says whether somebody may do something, or everything that they may do, and why: the bearer of the
/// token on standard input, or who is signed in.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An Azure action, as in `Microsoft.MachineLearningServices/workspaces/jobs/write`.
    #[arg(required_unless_present = "list", requires = "scope")]
    action: Option<String>,
    /// The resource that it is done to: an ARM id. With `--list` the scopes that entries name, if it is
    /// not given.
    #[arg(long, value_name = "ARM_ID")]
    scope: Option<String>,
    /// Every action that they may do.
    #[arg(long, conflicts_with = "action")]
    list: bool,
    /// Who: `me`, who is signed in on this machine, or `-`, the bearer of the token on standard input. By
    /// default the latter, unless standard input is a terminal.
    #[arg(long = "as", value_name = "WHO")]
    who: Option<Who>,
    /// The gate to ask; the one that was signed in to last, if it is not given.
    #[arg(long, env = "AMLGATE_GATE", value_name = "URL")]
    gate: Option<String>,
    /// An authority to believe besides the system's when the gate is asked, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With a configuration: the address that it would be done from; this machine's, if it is not
    /// given. A gate sees where it is asked from.
    #[arg(long)]
    from: Option<IpAddr>,
    /// A configuration to judge by here, in place of asking a gate: `amlgate.yaml`, if there is one
    /// and no gate is named.
    #[arg(long)]
    config: Option<PathBuf>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CanIError {
    #[error("cannot set up outgoing connections")]
    Connector(#[from] crate::net::TrustError),
    #[error("the token is not accepted: {0}; `amlgate token verify` says more")]
    Rejected(String),
    #[error("the issuer's keys are not to be had")]
    Outage,
    #[error("entries with `rights: azure` cannot be judged: the gate's own identity is not to be had")]
    Rights(#[source] Box<StartError>),
    #[error(transparent)]
    NoQuestion(#[from] NoQuestion),
    #[error("a gate that is asked sees where from: `--from` is for `--config`")]
    From,
}

impl CanIError {
    pub(super) fn code(&self) -> ExitCode {
        match self {
            Self::Outage | Self::Connector(_) | Self::Rights(_) => exit::unreachable(),
            Self::NoQuestion(_) | Self::From => exit::usage(),
            Self::Rejected(_) => exit::FINDING,
        }
    }
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let default = if std::io::stdin().is_terminal() { Who::Me } else { Who::Input };
    let who = args.who.unwrap_or(default);
    let Some(config) = judged_by(args.config.as_ref(), args.gate.as_ref()) else {
        if args.from.is_some() {
            return report(&CanIError::From, exit::usage());
        }
        let gate = match Gate::of(who, args.gate.as_deref(), args.ca.as_ref()) {
            Ok(gate) => gate,
            Err(code) => return code,
        };
        return match (&args.action, &args.scope) {
            (Some(action), Some(scope)) => gate.can_i(action, scope, args.output),
            (_, scope) => gate.list(scope.as_deref()).map_or_else(
                |code| code,
                |lines| {
                    print(&lines, args.output);
                    exit::DONE
                },
            ),
        };
    };
    let bench = match Bench::of(&config) {
        Ok(bench) => bench,
        Err(code) => return code,
    };
    let token = match token::bearer(who, args.gate.as_deref()) {
        Ok(token) => token,
        Err(code) => return code,
    };
    let from = args.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let asked = async {
        let asker = bench.asker(&token, from).await?;
        match (&args.action, &args.scope) {
            (Some(action), Some(scope)) => {
                let described = asker.ask(action, scope).await?;
                Ok(policy::explain(&bench.set, &described, false, args.output))
            }
            (_, scope) => list(&asker, scope.as_deref()).await.map(|lines| {
                print(&lines, args.output);
                exit::DONE
            }),
        }
    };
    match bench.runtime.block_on(asked) {
        Ok(code) => code,
        Err::<_, CanIError>(error) => report(&error, error.code()),
    }
}

/// The configuration to judge by: the one that is named, or the one that lies here where no gate is
/// named. `None`: a gate is asked.
pub(super) fn judged_by(config: Option<&PathBuf>, gate: Option<&String>) -> Option<PathBuf> {
    let here = || Some(PathBuf::from("amlgate.yaml")).filter(|here| gate.is_none() && here.exists());
    config.cloned().or_else(here)
}

/// A gate's policies and issuers, to judge with.
pub(super) struct Bench {
    pub settings: Settings,
    pub set: PolicySet,
    pub runtime: tokio::runtime::Runtime,
    route: Arc<str>,
}

impl Bench {
    /// Of a configuration; what is wrong with it was said.
    pub(super) fn of(config: &Path) -> Result<Self, ExitCode> {
        let settings = config::load(config).map_err(|problems| refused(&problems))?;
        let loaded = policy::Source::of(config.to_owned()).load().map_err(|problems| refused(&problems))?;
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| report(&error, exit::FINDING))?;
        let arm = settings.routes.iter().find(|route| route.protocol == Protocol::Arm);
        let route = arm.map_or_else(|| "arm".into(), |route| Arc::clone(&route.name));
        Ok(Self { settings, set: loaded.set, runtime, route })
    }

    /// Somebody who asks, by a token that the gate would accept.
    pub(super) async fn asker(&self, token: &SecretString, from: IpAddr) -> Result<Asker<'_>, CanIError> {
        let clock: SharedClock = Arc::new(SystemClock);
        let connector = Connector::new(ConnectorSettings {
            proxy: self.settings.outgoing.egress(),
            connect_timeout: self.settings.timeouts.connect,
        })?;
        let source = Arc::new(HttpKeySource::new(connector));
        let remembered = RememberedSettings { tokens: 1, ..RememberedSettings::default() };
        let verifier = Verifier::new(self.settings.issuers.clone(), remembered, source, Arc::clone(&clock));
        verifier.refresh_once().await;
        let principal = verifier.present(token.expose_secret()).await.map_err(|rejection| {
            if rejection.is_outage() { CanIError::Outage } else { CanIError::Rejected(rejection.to_string()) }
        })?;
        let rights = if self.set.asks_azure() {
            let rights = server::asking::rights(&self.settings, &clock).await;
            Some(rights.map_err(|error| CanIError::Rights(Box::new(error)))?)
        } else {
            None
        };
        let caller = Caller::clone(&principal);
        Ok(Asker { bench: self, caller, rights, from: SocketAddr::new(from, 0) })
    }
}

/// Somebody who asks.
pub(super) struct Asker<'b> {
    bench: &'b Bench,
    caller: Caller,
    rights: Option<LiveRights>,
    from: SocketAddr,
}

impl Asker<'_> {
    /// The question whether they may do `action` at `scope`, with what Azure says of them: what the gate
    /// asks itself when they do it.
    async fn ask(&self, action: &str, scope: &str) -> Result<Described, NoQuestion> {
        let words = DescribedAct {
            action,
            resource: scope,
            route: &self.bench.route,
            from: self.from,
            at: SystemClock.now(),
        };
        let described = Described::act(self.caller.clone(), &words)?;
        let scopes = described.azure_scopes(&self.bench.set);
        match &self.rights {
            Some(rights) if !scopes.is_empty() => {
                let azure = rights.of(&self.caller, scopes).await;
                Ok(described.with_azure(azure))
            }
            Some(_) | None => Ok(described),
        }
    }
}
