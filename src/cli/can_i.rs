//! `amlgate can-i`: may the bearer of a token do something, and by which entry?

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use super::{
    Output, exit, policy, report,
    serve::refused,
    token::verify::{TokenError, read_token},
};
use crate::{
    azureml::Protocol,
    config,
    identity::{HttpKeySource, RememberedSettings, Verifier},
    net::{Connector, ConnectorSettings},
    policy::described::{Described, DescribedAct, NoQuestion},
    time::{Clock as _, SystemClock},
};

/// Says whether the bearer of the token on standard input may do something, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An Azure action, as in `Microsoft.MachineLearningServices/workspaces/jobs/write`.
    action: String,
    /// The resource that it is done to: an ARM id.
    #[arg(long, value_name = "ARM_ID")]
    scope: String,
    /// The address that it would be done from; this machine's, if it is not given.
    #[arg(long)]
    from: Option<IpAddr>,
    /// The configuration.
    #[arg(long, default_value = "amlgate.yaml")]
    config: PathBuf,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum CanIError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("cannot set up outgoing connections")]
    Connector(#[from] crate::net::TrustError),
    #[error("the token is not accepted: {0}; `amlgate token verify` says more")]
    Rejected(String),
    #[error("the issuer's keys are not to be had")]
    Outage,
    #[error(transparent)]
    NoQuestion(#[from] NoQuestion),
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let settings = match config::load(&args.config) {
        Ok(settings) => settings,
        Err(problems) => return refused(&problems),
    };
    let source = policy::Source::of(args.config.clone());
    let loaded = match source.load() {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems),
    };
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&error, exit::FINDING),
    };
    let arm = settings.routes.iter().find(|route| route.protocol == Protocol::Arm);
    let route = arm.map_or_else(|| "arm".into(), |route| Arc::clone(&route.name));
    match runtime.block_on(asked(args, &route, settings)) {
        Ok(described) => policy::explain(&loaded.set, &described, false, args.output),
        Err(error @ (CanIError::Outage | CanIError::Connector(_))) => report(&error, exit::unreachable()),
        Err(error @ (CanIError::Token(TokenError::NoToken) | CanIError::NoQuestion(_))) => {
            report(&error, exit::usage())
        }
        Err(error @ (CanIError::Token(_) | CanIError::Rejected(_))) => report(&error, exit::FINDING),
    }
}

async fn asked(args: &Args, route: &str, settings: config::Settings) -> Result<Described, CanIError> {
    let token = read_token()?;
    let connector = Connector::new(ConnectorSettings {
        proxy: settings.outgoing.egress(),
        connect_timeout: settings.timeouts.connect,
    })?;
    let source = Arc::new(HttpKeySource::new(connector));
    let remembered = RememberedSettings { tokens: 1, ..RememberedSettings::default() };
    let verifier = Verifier::new(settings.issuers, remembered, source, Arc::new(SystemClock));
    verifier.refresh_once().await;
    let principal = verifier.authenticate(&token).await.map_err(|rejection| {
        if rejection.is_outage() { CanIError::Outage } else { CanIError::Rejected(rejection.to_string()) }
    })?;
    let caller = crate::identity::Caller::clone(&principal);
    let words = DescribedAct {
        action: &args.action,
        resource: &args.scope,
        route,
        from: SocketAddr::new(args.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 0),
        at: SystemClock.now(),
    };
    Ok(Described::act(caller, &words)?)
}
