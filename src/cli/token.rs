//! `amlgate token`: the signed-in person's token, for tools that take one; `token verify` says what a
//! gate would make of any.

use std::process::ExitCode;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

pub mod verify;

use super::{
    exit,
    login::{ClientError, connector, runtime},
    put, report,
};
use crate::{
    client::{Sessions, SignIn, Tokens},
    time::{Clock as _, SystemClock, Timestamp},
};

/// Prints the signed-in person's token, renewed if it has to be.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The gate's URL; the one that was signed in to last, if it is not given.
    #[arg(long, env = "AMLGATE_GATE", value_name = "URL")]
    gate: Option<String>,
    /// In whose words.
    #[arg(long, short, value_enum, default_value_t)]
    output: Shape,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Reads a token from standard input: would it be accepted, as whom, else which check fails.
    Verify(verify::Verify),
}

/// How a token is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Shape {
    /// The token and nothing else.
    #[default]
    Raw,
    /// The token, when it ends, and the gate.
    Json,
    /// What kubectl reads from an exec plugin.
    ExecCredential,
    /// What `az account get-access-token` prints.
    Az,
}

/// Why a token cannot be printed as it was asked for.
#[derive(Debug, thiserror::Error)]
enum ShapeError {
    #[error("KUBERNETES_EXEC_INFO is not what kubectl sets")]
    ExecInfo(#[source] serde_json::Error),
    #[error("kubectl asks for `{0}`: put `apiVersion: client.authentication.k8s.io/v1` into the kubeconfig")]
    ExecVersion(String),
}

/// Runs the verb.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    if let Some(Verb::Verify(args)) = &args.verb {
        return verify::run(args);
    }
    let (gate, tokens) = match fresh(args.gate.as_deref()) {
        Ok(fresh) => fresh,
        Err(error) => return report(&error, error.code()),
    };
    if tokens.bound && args.output != Shape::ExecCredential {
        eprintln!(
            "amlgate: this token counts only with proofs by this machine's key, which the relay adds; tools that send it themselves need a sign-in without --bound"
        );
    }
    let expires = Timestamp::from_secs(tokens.expires);
    let token = tokens.access.expose_secret();
    match args.output {
        Shape::Raw => put(format_args!("{token}")),
        Shape::Json => put(format_args!("{:#}", plain(&gate, token, expires))),
        Shape::Az => put(format_args!("{:#}", az(token, &tokens, expires))),
        Shape::ExecCredential => {
            let info = std::env::var("KUBERNETES_EXEC_INFO").ok();
            match exec_credential(info.as_deref(), token, expires) {
                Ok(credential) => put(format_args!("{credential}")),
                Err(error) => return report(&error, exit::usage()),
            }
        }
    }
    exit::DONE
}

/// Whose token a verb asks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Who {
    /// Of whoever is signed in on this machine.
    Me,
    /// The one on standard input.
    #[value(name = "-")]
    Input,
}

/// The token of somebody; where there is none, that was said.
pub(super) fn bearer(who: Who, gate: Option<&str>) -> Result<SecretString, ExitCode> {
    match who {
        Who::Me => match fresh(gate) {
            Ok((_, tokens)) => Ok(tokens.access),
            Err(error) => Err(report(&error, error.code())),
        },
        Who::Input => verify::read_token()
            .map(|text| SecretString::from(text.as_str()))
            .map_err(|error| report(&error, exit::usage())),
    }
}

fn fresh(gate: Option<&str>) -> Result<(String, Tokens), ClientError> {
    let sessions = Sessions::of_user()?;
    let sign_in = SignIn::new(connector()?);
    let (gate, session) = runtime()?.block_on(sessions.fresh(gate, &sign_in, SystemClock.now()))?;
    Ok((gate, session.tokens))
}

fn plain(gate: &str, token: &str, expires: Timestamp) -> Value {
    json!({"token": token, "expires_on": expires.as_secs(), "expires_at": expires.to_rfc3339(), "gate": gate})
}

/// `expiresOn` is local time without a zone, as `az` writes it, and as older readers take it.
fn az(token: &str, tokens: &Tokens, expires: Timestamp) -> Value {
    let local = expires.to_utc().with_timezone(&chrono::Local);
    json!({
        "accessToken": token,
        "expiresOn": local.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
        "expires_on": expires.as_secs(),
        "tenant": tokens.claims().get("tid"),
        "tokenType": "Bearer",
    })
}

/// In the version that kubectl asks for (client-go credential plugins, v1 and v1beta1).
fn exec_credential(info: Option<&str>, token: &str, expires: Timestamp) -> Result<Value, ShapeError> {
    const V1: &str = "client.authentication.k8s.io/v1";
    const V1_BETA: &str = "client.authentication.k8s.io/v1beta1";
    let info: Value = info.map_or(Ok(Value::Null), serde_json::from_str).map_err(ShapeError::ExecInfo)?;
    let version = match info.get("apiVersion").and_then(Value::as_str) {
        None | Some(V1) => V1,
        Some(V1_BETA) => V1_BETA,
        Some(other) => return Err(ShapeError::ExecVersion(other.to_owned())),
    };
    let until = expires.to_utc().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    Ok(json!({
        "apiVersion": version,
        "kind": "ExecCredential",
        "status": {"token": token, "expirationTimestamp": until},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn kubectl_is_answered_in_the_version_that_it_asks_for() {
        for (info, version) in [
            (None, "client.authentication.k8s.io/v1"),
            (
                Some(r#"{"apiVersion":"client.authentication.k8s.io/v1beta1","spec":{}}"#),
                "client.authentication.k8s.io/v1beta1",
            ),
        ] {
            let credential = exec_credential(info, "t", END).unwrap();
            assert_eq!(credential["apiVersion"], version);
            assert_eq!(credential["status"]["expirationTimestamp"], "2027-01-15T08:00:00Z");
        }
        let old = r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#;
        assert!(matches!(exec_credential(Some(old), "t", END), Err(ShapeError::ExecVersion(_))));
        assert!(matches!(exec_credential(Some("?"), "t", END), Err(ShapeError::ExecInfo(_))));
    }

    #[test]
    fn readers_of_az_find_the_end_in_both_forms() {
        let tokens = Tokens { access: "a.e30.c".into(), refresh: None, expires: END.as_secs(), bound: false };
        let printed = az("a.e30.c", &tokens, END);
        assert_eq!(printed["expires_on"], 1_800_000_000);
        assert_eq!(printed["expiresOn"].as_str().unwrap().len(), "2027-01-15 08:00:00.000000".len());
    }
}
