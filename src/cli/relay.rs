//! `amlgate relay`: passes tunnels of this machine's programs to the gate, in the user's name.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    exit,
    login::{ClientError, authorities, connector},
    report,
};
use crate::{
    client::{Files, Relay, RelayError, SessionError, Sessions, SignIn, Source, describe, write_private},
    net::{Connector, Trust},
    time::{Clock as _, SystemClock},
};

/// In whose name, and to which gate.
#[derive(Debug, clap::Args)]
pub struct Whose {
    /// The gate's URL; the one that was signed in to last, if it is not given.
    #[arg(long, env = "AMLGATE_GATE", value_name = "URL")]
    gate: Option<String>,
    /// A file with the token to show, read anew for each tunnel, instead of a sign-in: what CI jobs
    /// and pods have.
    #[arg(long, env = "AMLGATE_TOKEN_FILE", value_name = "FILE", requires = "gate")]
    token_file: Option<PathBuf>,
    /// With --token-file: an authority to believe besides the system's, PEM.
    #[arg(long, value_name = "FILE", requires = "token_file")]
    ca: Option<PathBuf>,
}

/// Adds the signed-in person's token to every tunnel, on this machine's loopback.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    whose: Whose,
    /// The port on loopback; any that is free, if it is not given.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Why there is no relay.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoRelay {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error("`{path}` cannot be written")]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
}

impl From<SessionError> for NoRelay {
    fn from(error: SessionError) -> Self {
        Self::Client(error.into())
    }
}

impl NoRelay {
    pub(super) fn code(&self) -> ExitCode {
        match self {
            Self::Client(error) => error.code(),
            Self::Relay(_) | Self::File { .. } | Self::Runtime(_) => exit::FINDING,
        }
    }
}

/// A relay that listens, and what its programs trust.
#[derive(Debug)]
pub(super) struct Listening {
    pub relay: Relay,
    pub address: SocketAddr,
    pub gate: String,
    /// The gate's interception authorities, PEM.
    pub authorities: String,
    /// Who vouches for the gate besides the system, PEM.
    pub trust: Option<String>,
    pub connector: Connector,
    /// The folder of the user's own files.
    pub folder: PathBuf,
}

/// Starts listening.
pub(super) async fn listen(whose: &Whose, port: u16) -> Result<Listening, NoRelay> {
    let sessions = Sessions::of_user()?;
    let folder = sessions.folder().to_path_buf();
    let connector = connector()?;
    let (gate, trust, source) = match (&whose.token_file, &whose.gate) {
        (Some(file), Some(gate)) => {
            (gate.clone(), authorities(whose.ca.as_ref())?, Source::File(file.clone()))
        }
        (_, gate) => {
            let sign_in = SignIn::new(connector.clone());
            // A token that cannot be had is better known now than in the middle of a notebook.
            let (gate, session) = sessions.fresh(gate.as_deref(), &sign_in, SystemClock.now()).await?;
            (gate.clone(), session.trust, Source::Session { sessions, sign_in, gate })
        }
    };
    let roots = trust.as_deref().map(|pem| Trust::new(Some(pem.as_bytes()))).transpose();
    let roots = roots.map_err(ClientError::from)?;
    let described = describe(&connector, &gate, roots).await.map_err(ClientError::from)?;
    let door = described.forward.ok_or_else(|| RelayError::NoForward(gate.clone()))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let clock = Arc::new(SystemClock);
    let relay = Relay::listen(address, &door, trust.as_deref(), source, connector.clone(), clock).await?;
    let address = relay.address().map_err(|source| RelayError::Listen { address, source })?;
    Ok(Listening { relay, address, gate, authorities: door.ca, trust, connector, folder })
}

/// How often the gate is asked which authorities it mints from.
const FOLLOW_EVERY: Duration = Duration::from_secs(15 * 60);

/// Keeps the bundle as the gate says, for as long as it is polled.
pub(super) async fn follow(
    connector: Connector,
    gate: String,
    trust: Option<String>,
    mut authorities: String,
    files: Files,
) {
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let Ok(roots) = trust.as_deref().map(|pem| Trust::new(Some(pem.as_bytes()))).transpose() else {
            return;
        };
        match files.renew(&connector, &gate, roots, &authorities).await {
            Ok(Some(others)) => authorities = others,
            Ok(None) => {}
            Err(error) => eprintln!("amlgate: `{}` cannot be written: {error}", files.bundle.display()),
        }
    }
}

/// A relay that runs, for `amlgate env` in other shells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Running {
    pub address: SocketAddr,
    pub word: String,
    pub gate: String,
    /// Who vouches for the gate besides the system, PEM.
    #[serde(default)]
    pub trust: Option<String>,
}

impl Running {
    /// Where it is written.
    pub(super) fn file(folder: &Path) -> PathBuf {
        folder.join("relay.json")
    }

    /// The one that runs, if one does: a file that is left over names a port where nobody listens.
    pub(super) fn find(folder: &Path) -> Option<Self> {
        let text = std::fs::read(Self::file(folder)).ok()?;
        let running: Self = serde_json::from_slice(&text).ok()?;
        let known = std::net::TcpStream::connect_timeout(&running.address, Duration::from_secs(2));
        known.is_ok().then_some(running)
    }
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(NoRelay::Runtime).and_then(|runtime| runtime.block_on(relay(args)));
    match outcome {
        Ok(()) => exit::DONE,
        Err(error) => report(&error, error.code()),
    }
}

async fn relay(args: &Args) -> Result<(), NoRelay> {
    let listening = listen(&args.whose, args.port).await?;
    let Listening { relay, address, gate, authorities, trust, connector, folder } = listening;
    let write = |path: PathBuf, error| NoRelay::File { path, source: error };
    let files = Files::below(&folder);
    files.keep(&authorities).map_err(|error| write(files.bundle.clone(), error))?;
    let file = Running::file(&folder);
    let running =
        Running { address, word: relay.word().to_owned(), gate: gate.clone(), trust: trust.clone() };
    let text = serde_json::to_vec(&running).unwrap_or_default();
    write_private(&file, &text).map_err(|error| write(file.clone(), error))?;
    eprintln!("Relay to {gate} at {address}; Ctrl-C ends it.");
    eprintln!("In another shell: eval \"$(amlgate env)\"");
    let stop = CancellationToken::new();
    tokio::select! {
        () = relay.serve(stop) => {}
        () = follow(connector, gate, trust, authorities, files) => {}
        interrupted = tokio::signal::ctrl_c() => drop(interrupted),
        () = terminated() => {}
    }
    drop(std::fs::remove_file(&file));
    Ok(())
}

/// Ends when this process is asked to end.
pub(super) async fn terminated() {
    #[cfg(unix)]
    if let Ok(mut asked) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        asked.recv().await;
        return;
    }
    std::future::pending().await
}
