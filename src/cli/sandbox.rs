//! `amlgate sandbox`: the whole product on this machine, with no Azure account.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use super::{exit, put, report, serve::Stop};
use crate::{
    config,
    sandbox::{
        PEOPLE, Person, SandboxError,
        home::{self, Sandbox, SandboxSettings},
        issuer::Forgery,
    },
    server::{Cores, Server, StartError},
    telemetry,
    time::{SharedClock, SystemClock},
};

/// Runs the gate with a development issuer and a simulated Azure on this machine's loopback.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Where configuration, policies, certificates and state are kept.
    #[arg(long, default_value = "var/sandbox", global = true)]
    dir: PathBuf,
    /// A loopback address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Starts the issuer and Azure only: for clients that are to speak to them directly.
    #[arg(long)]
    without_gate: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Prints a token of the development issuer, whether the sandbox runs or not.
    Token(TokenArgs),
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    /// `sam`, `rita`, `pat`, `alex` or `ci`.
    name: String,
    #[command(flatten)]
    form: Form,
}

/// At most one of these.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Form {
    /// A token that looks genuine and is not: signed with a key that the issuer never had.
    #[arg(long)]
    forged: bool,
    /// A token of the simulated Entra instead, for the gate's `entra` issuer.
    #[arg(long)]
    entra: bool,
    /// Addressed to somebody else than the gate.
    #[arg(long)]
    audience: Option<String>,
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let clock: SharedClock = Arc::new(SystemClock);
    let done = match &args.what {
        Some(What::Token(wanted)) => token(&args.dir, wanted, clock),
        None => serve(args, clock),
    };
    match done {
        Ok(()) => exit::DONE,
        Err(error @ SandboxError::NotLoopback(_)) => report(&error, exit::usage()),
        Err(error @ SandboxError::Nobody(_)) => {
            let names: Vec<&str> = PEOPLE.iter().map(|p| p.name).collect();
            eprintln!("the people of the sandbox: {}", names.join(", "));
            report(&error, exit::usage())
        }
        Err(error) => report(&error, exit::FINDING),
    }
}

fn token(dir: &Path, wanted: &TokenArgs, clock: SharedClock) -> Result<(), SandboxError> {
    let TokenArgs { name, form } = wanted;
    let person = Person::named(name).ok_or_else(|| SandboxError::Nobody(name.to_owned()))?;
    let token = if form.entra {
        home::entra_token(dir, person, &clock)?
    } else {
        let mint = home::mint(dir, clock)?;
        match &form.audience {
            Some(audience) => {
                let put = |claims: &mut serde_json::Map<_, _>| {
                    claims.insert("aud".to_owned(), audience.as_str().into());
                };
                mint.token_with(person, put)?
            }
            None if form.forged => mint.forge(person, Forgery::ForeignKey)?,
            None => mint.token(person)?,
        }
    };
    put(format_args!("{token}"));
    Ok(())
}

fn serve(args: &Args, clock: SharedClock) -> Result<(), SandboxError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| SandboxError::File { verb: "start", path: args.dir.clone(), source })?;
    runtime.block_on(async {
        let mut stop = Stop::listen();
        let settings =
            SandboxSettings { bind: args.address, ..SandboxSettings::new(args.dir.clone(), clock) };
        let sandbox = Sandbox::start(settings).await?;
        eprintln!("issuer   {}", sandbox.layout.issuer);
        eprintln!("Azure    https://localhost:{} (all of its names)", sandbox.layout.azure_address.port());
        let mut server = None;
        if !args.without_gate {
            let gate = gate(&sandbox).await.map_err(|source| SandboxError::Gate(Box::new(source)))?;
            eprintln!("gate     {}", sandbox.layout.gate);
            if let Some(address) = gate.health() {
                eprintln!("health   http://{address}/readyz");
            }
            server = Some(gate);
            let program =
                std::env::current_exe().map_or_else(|_| "amlgate".to_owned(), |p| p.display().to_string());
            put(format_args!("{}", sandbox.commands(&program)));
        }
        eprintln!("Ctrl-C ends it.");
        stop.asked().await;
        if let Some(server) = server {
            server.stop().await;
        }
        Ok(())
    })
}

/// The gate, as `amlgate serve` would start it with the written configuration.
async fn gate(sandbox: &Sandbox) -> Result<Server, GateError> {
    let settings = config::load(&sandbox.configuration()).map_err(GateError::Configuration)?;
    telemetry::start_logs(&telemetry::TelemetrySettings {
        level: Some("warn".to_owned()),
        ..settings.telemetry.clone()
    });
    Ok(Server::start(settings, Arc::new(SystemClock), Cores::All).await?)
}

/// Why the sandbox's gate does not start.
#[derive(Debug, thiserror::Error)]
enum GateError {
    #[error("the written configuration is refused: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Configuration(Vec<crate::yaml::Problem>),
    #[error(transparent)]
    Start(#[from] StartError),
}
