//! `amlgate login`, `logout` and `whoami`: who is signed in on this machine.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
};

use super::{
    Output, can_i, exit, print_data, put, report,
    token::{self, Who},
};
use crate::{
    client::{
        ALGORITHM, At, Files, GateDescription, GateError, Issuer, Kept, Session, SessionError, Sessions,
        SignIn, SignInError, Tokens, describe,
    },
    net::{Connector, ConnectorSettings, Trust, TrustError},
    policy::may::Line,
    time::{Clock as _, SystemClock, Timestamp},
};

/// Signs a person in to a gate.
#[derive(Debug, clap::Args)]
pub struct Login {
    /// The gate's URL.
    #[arg(long, env = "AMLGATE_GATE", value_name = "URL")]
    gate: String,
    /// Which of the gate's issuers, if people can sign in to several.
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Show a code to type on another device, where there is no browser.
    #[arg(long)]
    device_code: bool,
    /// Only print the address to open.
    #[arg(long, conflicts_with = "device_code")]
    no_browser: bool,
    /// Bind the tokens to a key that never leaves this machine (DPoP): the relay proves it, and a
    /// copied token is worth nothing; tools that send a bearer themselves cannot use it.
    #[arg(long)]
    bound: bool,
    /// Keep the tokens in a file that only you can read, and do not seal it with a key in the keyring.
    #[arg(long)]
    no_keyring: bool,
    /// An authority to believe besides the system's, PEM: the gate's own, or the company's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Forgets the tokens of a gate.
#[derive(Debug, clap::Args)]
pub struct Logout {
    /// The gate's URL; the one that was signed in to last, if it is not given.
    #[arg(long, env = "AMLGATE_GATE", value_name = "URL")]
    gate: Option<String>,
}

/// Says who is signed in, and until when.
#[derive(Debug, clap::Args)]
pub struct Whoami {
    /// The gate's URL; the one that was signed in to last, if it is not given.
    #[arg(long, env = "AMLGATE_GATE", value_name = "URL")]
    gate: Option<String>,
    /// Also say everything that they may do, and by which entry or role assignment.
    #[arg(long)]
    can: bool,
    /// With `--can`: where; the scopes that entries name, if it is not given.
    #[arg(long, value_name = "ARM_ID", requires = "can")]
    scope: Option<String>,
    /// With `--can`: a configuration to judge by here, in place of asking the gate: `amlgate.yaml`, if
    /// there is one and no gate is named.
    #[arg(long, requires = "can")]
    config: Option<PathBuf>,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Why nobody was signed in, or nothing is known of them.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    SignIn(#[from] SignInError),
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error("cannot set up outgoing connections")]
    Trust(#[from] TrustError),
    #[error("`{who}` binds no tokens to keys (DPoP, {ALGORITHM}): sign in without --bound")]
    Unbound { who: String },
    #[error("cannot write `{path}`")]
    Bundle { path: PathBuf, source: std::io::Error },
    #[error("cannot read `{path}`")]
    Ca { path: PathBuf, source: std::io::Error },
    #[error(
        "nobody can sign in to `{gate}`: none of its issuers has a `client_id`; whoever runs it can add one"
    )]
    NoIssuer { gate: String },
    #[error("`{gate}` has several issuers to sign in to: choose one of {known} with --issuer")]
    WhichIssuer { gate: String, known: String },
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
}

impl ClientError {
    pub(super) fn code(&self) -> ExitCode {
        match self {
            Self::Gate(GateError::Unreachable(_))
            | Self::SignIn(SignInError::Unreachable(_))
            | Self::Session(SessionError::NotRenewed { .. }) => exit::unreachable(),
            Self::Gate(GateError::Url(_)) | Self::Ca { .. } | Self::WhichIssuer { .. } => exit::usage(),
            Self::Session(_)
            | Self::SignIn(_)
            | Self::Gate(GateError::NoGate { .. } | GateError::Unreadable { .. })
            | Self::Trust(_)
            | Self::NoIssuer { .. }
            | Self::Bundle { .. }
            | Self::Unbound { .. }
            | Self::Runtime(_) => exit::FINDING,
        }
    }
}

fn ended<T>(outcome: Result<T, ClientError>, say: impl FnOnce(T)) -> ExitCode {
    match outcome {
        Ok(value) => {
            say(value);
            exit::DONE
        }
        Err(error) => report(&error, error.code()),
    }
}

/// The one way out of this side, with the system's proxy settings left alone.
pub(super) fn connector() -> Result<Connector, ClientError> {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Ok(Connector::new(ConnectorSettings::default())?)
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, ClientError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClientError::Runtime)
}

/// A file of authorities.
pub(super) fn authorities(path: Option<&PathBuf>) -> Result<Option<String>, ClientError> {
    path.map(|path| {
        std::fs::read_to_string(path).map_err(|source| ClientError::Ca { path: path.clone(), source })
    })
    .transpose()
}

/// Runs `login`.
#[must_use]
pub fn login(args: &Login) -> ExitCode {
    let outcome = runtime().and_then(|runtime| runtime.block_on(signed_in(args)));
    ended(outcome, |(session, tokens, kept)| {
        let who = named(&tokens);
        if let Kept::Plain(Some(why)) = kept {
            eprintln!("amlgate: {why}: the tokens lie in a file that only you can read");
        }
        eprintln!("Signed in to {} as {who} ({}).", args.gate, session.issuer_name);
        let bearer = if tokens.bound { "" } else { ", or amlgate token for tools that take a bearer" };
        eprintln!("Next: amlgate run -- COMMAND{bearer}.");
    })
}

async fn signed_in(args: &Login) -> Result<(Session, Tokens, Kept), ClientError> {
    let mut sessions = Sessions::of_user()?;
    if args.no_keyring {
        sessions = sessions.without_keyring();
    }
    let connector = connector()?;
    let ca = authorities(args.ca.as_ref())?;
    let trust = ca.as_deref().map(|pem| Trust::new(Some(pem.as_bytes()))).transpose()?;
    let gate = describe(&connector, &args.gate, trust).await?;
    let issuer = chosen(&gate, args)?;
    let client_id = issuer.client_id.clone().unwrap_or_default();
    let at =
        At { issuer: &issuer.issuer, client_id: &client_id, scopes: &issuer.scopes, trust: ca.as_deref() };
    let mut sign_in = SignIn::new(connector);
    if args.bound {
        if !gate.proofs.iter().any(|name| name == ALGORITHM) {
            return Err(ClientError::Unbound { who: args.gate.clone() });
        }
        sign_in = sign_in.holding(sessions.key()?);
    }
    let tokens = if args.device_code {
        let show = |page: &str, code: &str| eprintln!("Open {page} on any device and enter the code {code}");
        sign_in.with_device_code(at, || SystemClock.now(), show).await?
    } else {
        let open = |page: &str| {
            eprintln!("Open this page to sign in:\n\n  {page}\n");
            if !args.no_browser && webbrowser::open(page).is_err() {
                eprintln!("No browser could be opened here; --device-code needs none.");
            }
        };
        sign_in.with_browser(at, || SystemClock.now(), open).await?
    };
    if args.bound && !tokens.bound {
        return Err(ClientError::Unbound { who: issuer.issuer.clone() });
    }
    let session = Session {
        issuer_name: issuer.name.clone(),
        issuer: issuer.issuer.clone(),
        client_id,
        scopes: issuer.scopes.clone(),
        trust: ca,
        tokens: tokens.clone(),
    };
    let kept = sessions.keep(&args.gate, session.clone())?;
    if let Some(door) = &gate.forward {
        // What other shells' programs believe follows the gate's authorities.
        let files = Files::below(sessions.folder());
        files.keep(&door.ca).map_err(|source| ClientError::Bundle { path: files.bundle.clone(), source })?;
    }
    Ok((session, tokens, kept))
}

fn chosen<'g>(gate: &'g GateDescription, args: &Login) -> Result<&'g Issuer, ClientError> {
    let usable = |issuer: &&Issuer| {
        issuer.client_id.is_some() && args.issuer.as_ref().is_none_or(|wanted| *wanted == issuer.name)
    };
    let mut found = gate.issuers.iter().filter(usable);
    match (found.next(), found.next()) {
        (Some(issuer), None) => Ok(issuer),
        (None, _) if args.issuer.is_none() => Err(ClientError::NoIssuer { gate: args.gate.clone() }),
        (None | Some(_), _) => {
            let open = gate.issuers.iter().filter(|issuer| issuer.client_id.is_some());
            let known: Vec<String> = open.map(|issuer| format!("`{}`", issuer.name)).collect();
            Err(ClientError::WhichIssuer { gate: args.gate.clone(), known: known.join(", ") })
        }
    }
}

/// What a token calls its bearer.
fn named(tokens: &Tokens) -> String {
    let claims = tokens.claims();
    ["name", "preferred_username", "upn", "email", "sub"]
        .iter()
        .find_map(|claim| claims.get(*claim)?.as_str())
        .unwrap_or("somebody")
        .to_owned()
}

/// Runs `logout`.
#[must_use]
pub fn logout(args: &Logout) -> ExitCode {
    let forgotten = Sessions::of_user().and_then(|sessions| sessions.forget(args.gate.as_deref()));
    ended(forgotten.map_err(ClientError::from), |gate| eprintln!("Signed out of {gate}."))
}

/// Everything that who is signed in may do, as the gate says, or by the policies of a configuration.
fn may(args: &Whoami) -> Result<Vec<Line>, ExitCode> {
    let Some(config) = can_i::judged_by(args.config.as_ref(), args.gate.as_ref()) else {
        return can_i::Gate::of(Who::Me, args.gate.as_deref(), None)?.list(args.scope.as_deref());
    };
    let bench = can_i::Bench::of(&config)?;
    let token = token::bearer(Who::Me, args.gate.as_deref())?;
    let asked = async {
        let asker = bench.asker(&token, IpAddr::V4(Ipv4Addr::LOCALHOST)).await?;
        can_i::list(&asker, args.scope.as_deref()).await
    };
    bench.runtime.block_on(asked).map_err(|error| report(&error, error.code()))
}

/// Runs `whoami`.
#[must_use]
pub fn whoami(args: &Whoami) -> ExitCode {
    let can = if args.can { may(args).map(Some) } else { Ok(None) };
    let can = match can {
        Ok(can) => can,
        Err(code) => return code,
    };
    let found = Sessions::of_user().and_then(|sessions| sessions.find(args.gate.as_deref()));
    ended(found.map_err(ClientError::from), |(gate, session)| {
        let claims = session.tokens.claims();
        let expires = Timestamp::from_secs(session.tokens.expires);
        let over = expires <= SystemClock.now();
        let text = |name: &str| claims.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        let mut data = serde_json::json!({
            "gate": gate,
            "issuer": session.issuer_name,
            "issuer_url": session.issuer,
            "name": named(&session.tokens),
            "subject": text("oid").or_else(|| text("sub")),
            "tenant": text("tid"),
            "groups": claims.get("groups"),
            "token_expires": expires.to_rfc3339(),
            "token_expired": over,
            "renewable": session.tokens.refresh.is_some(),
            "bound_to_this_machine": session.tokens.bound,
        });
        if args.output == Output::Table {
            let field = |name: &str| data.get(name).and_then(|v| v.as_str()).unwrap_or("-").to_owned();
            put(format_args!("{} at {gate}", field("name")));
            put(format_args!("  issuer   {} ({})", field("issuer"), field("issuer_url")));
            put(format_args!("  subject  {}", field("subject")));
            let renewed = match (over, session.tokens.refresh.is_some()) {
                (false, true) => "",
                (true, true) => " (over; it is renewed when it is needed)",
                (false, false) => " (then sign in again)",
                (true, false) => " (over: sign in again)",
            };
            put(format_args!("  until    {}{renewed}", field("token_expires")));
            if let Some(lines) = &can {
                can_i::print(lines, args.output);
            }
        } else {
            if let (Some(lines), Some(data)) = (&can, data.as_object_mut()) {
                data.insert("can".to_owned(), serde_json::json!(lines));
            }
            print_data(&data, args.output);
        }
    })
}
