//! Questions to a gate's own API, with a caller's token.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};

use super::{GateError, describe, gate::destination};
use crate::net::{Connector, FetchError, FetchLimits, Trust};

/// The largest answer: everything that somebody may do at many scopes.
const MAX_ANSWER: usize = 32 << 20;

/// Why the gate gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// What it says of itself cannot be had.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// It names no API.
    #[error(
        "`{0}` says no address of its API: whoever runs it can set `listen.admin.public_url` or `on_reverse`; with --config the answer comes from a configuration"
    )]
    NoApi(String),
    /// Its API does not answer.
    #[error("the gate's API does not answer")]
    Unreachable(#[from] FetchError),
    /// The token goes nowhere unprotected.
    #[error("the gate names `{0}` as its API, which is no https URL: no token is sent there")]
    Unprotected(String),
    /// It refuses.
    #[error("the gate answers {status}: {message}")]
    Refused {
        /// What kind of refusal.
        status: StatusCode,
        /// Its own words.
        message: String,
    },
    /// It says something else than a gate does.
    #[error("the answer of the gate's API cannot be read")]
    Unreadable(#[source] serde_json::Error),
}

/// A refusal in the API's shape.
#[derive(Debug, Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
}

/// A call to the API.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path and query.
    pub path: &'a str,
    /// Its body, if it has one.
    pub body: Option<&'a serde_json::Value>,
}

/// Calls the API of the gate at `gate`.
///
/// # Errors
/// [`AskError`]; nothing of the token is in it.
pub async fn ask<T: DeserializeOwned>(
    connector: &Connector,
    gate: &str,
    trust: Option<Trust>,
    token: &SecretString,
    call: Call<'_>,
) -> Result<T, AskError> {
    let answer = ask_bytes(connector, gate, trust, token, call).await?;
    serde_json::from_slice(&answer).map_err(AskError::Unreadable)
}

/// The same for an answer that is no JSON.
///
/// # Errors
/// [`AskError`], as [`ask`].
pub async fn ask_bytes(
    connector: &Connector,
    gate: &str,
    trust: Option<Trust>,
    token: &SecretString,
    call: Call<'_>,
) -> Result<Bytes, AskError> {
    let described = describe(connector, gate, trust.clone()).await?;
    let api = described.api.ok_or_else(|| AskError::NoApi(gate.to_owned()))?;
    let unprotected = || AskError::Unprotected(api.clone());
    let uri: Uri =
        format!("{}{}", api.trim_end_matches('/'), call.path).parse().map_err(|_| unprotected())?;
    let to = destination(&uri, trust).ok_or_else(unprotected)?;
    let mut request = Request::new(Bytes::from(call.body.map(ToString::to_string).unwrap_or_default()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = uri;
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).map_err(|_| {
        AskError::Refused { status: StatusCode::UNAUTHORIZED, message: "the token is none".to_owned() }
    })?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    if call.body.is_some() {
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let limits = FetchLimits { body: MAX_ANSWER, ..FetchLimits::default() };
    let answer = connector.send(&to, request, limits).await?;
    if !answer.status().is_success() {
        let said: Option<Problem> = serde_json::from_slice(answer.body()).ok();
        let said = said.and_then(|problem| problem.detail.or(problem.title));
        // Whoever answers chose these words: a terminal is not to obey them.
        let plain = |c: char| !c.is_control() || c == '\n';
        let message = said.map(|said| said.chars().filter(|c| plain(*c)).collect());
        let message = message.unwrap_or_else(|| "it does not say why".to_owned());
        return Err(AskError::Refused { status: answer.status(), message });
    }
    Ok(answer.into_body())
}
