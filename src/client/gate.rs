//! What a gate says of itself at `/.well-known/amlgate`.

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use crate::net::{Connector, Destination, FetchError, FetchLimits, Reach, Trust};

/// A gate's description of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct GateDescription {
    /// The reverse proxy's URL.
    pub reverse: Option<String>,
    /// The forward proxy.
    pub forward: Option<ForwardDoor>,
    /// Where its API is.
    #[serde(default)]
    pub api: Option<String>,
    /// Who vouches for callers, those that people can sign in to among them.
    pub issuers: Vec<Issuer>,
    /// The algorithms of the proofs by which tokens may be bound to a key (RFC 9449).
    #[serde(default, rename = "dpop_signing_alg_values_supported")]
    pub proofs: Vec<String>,
}

/// The forward proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardDoor {
    /// Host and port.
    pub address: String,
    /// Whether it is spoken to in TLS.
    pub tls: bool,
    /// The authorities whose certificates are shown inside tunnels, PEM.
    pub ca: String,
}

/// An issuer of the gate's.
#[derive(Debug, Clone, Deserialize)]
pub struct Issuer {
    /// Its name at the gate.
    pub name: String,
    /// The issuer's URL.
    pub issuer: String,
    /// The public client to sign in with; nobody signs in here if there is none.
    pub client_id: Option<String>,
    /// What to ask for.
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// Why nothing is known of a gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// What was given is no URL of a gate.
    #[error("`{0}` is no gate's address: write its https URL, as in https://amlgate.example.com")]
    Url(String),
    /// It cannot be reached.
    #[error("the gate does not answer; if its certificate is not of a public authority, name that with --ca")]
    Unreachable(#[from] FetchError),
    /// Something else is there.
    #[error("`{url}` answers {status}: there is no amlgate at this address")]
    NoGate {
        /// What was asked.
        url: String,
        /// What came.
        status: StatusCode,
    },
    /// It says something else than a gate does.
    #[error("what `{url}` says of itself cannot be read: {why}")]
    Unreadable {
        /// What was asked.
        url: String,
        /// Why.
        why: serde_json::Error,
    },
}

/// Where a URL leads, from a person's machine: to the internet, into private networks, or to this
/// machine itself, but never to instance metadata. `None` for anything but https, and http to this
/// machine.
pub(super) fn destination(uri: &Uri, trust: Option<Trust>) -> Option<Destination> {
    let to = Destination::of(uri)?;
    let loopback = to.reach == Reach::Loopback;
    if uri.scheme_str() != Some("https") && !loopback {
        return None;
    }
    let reach = if loopback { Reach::Loopback } else { Reach::Private };
    Some(Destination { reach, ..to.trusting(trust) })
}

/// Asks the gate at `url`.
///
/// # Errors
/// [`GateError`].
pub async fn describe(
    connector: &Connector,
    url: &str,
    trust: Option<Trust>,
) -> Result<GateDescription, GateError> {
    let unusable = || GateError::Url(url.to_owned());
    let asked = format!("{}/.well-known/amlgate", url.trim_end_matches('/'));
    let uri: Uri = asked.parse().map_err(|_| unusable())?;
    let to = destination(&uri, trust).ok_or_else(unusable)?;
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    let answer = connector.send(&to, request, FetchLimits::default()).await?;
    if answer.status() != StatusCode::OK {
        return Err(GateError::NoGate { url: asked, status: answer.status() });
    }
    serde_json::from_slice(answer.body()).map_err(|why| GateError::Unreadable { url: asked, why })
}
