//! From an issuer to its keys: OpenID Connect Discovery 1.0, section 4, then the key set.
//!
//! Only `issuer` and `jwks_uri` are read, with the `openidconnect` crate's own URL types. Its whole
//! provider metadata would demand an authorization endpoint, which the issuers of workloads
//! (GitHub Actions, Kubernetes) do not have. No URL out of a token is ever asked, and no redirect
//! is followed.

use std::{fmt, future::Future, pin::Pin};

use bytes::Bytes;
use http::Uri;
use openidconnect::{IssuerUrl, JsonWebKeySetUrl};
use serde::Deserialize;
use serde_json::Value;

use super::{
    json,
    jwks::{KeySet, KeySetError, MAX_DOCUMENT},
    settings::{Form, IssuerSettings, KeysAt},
};

/// How deep a discovery document may nest.
const MAX_DEPTH: u8 = 16;

/// A fetch under way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Bytes, SourceError>> + Send + 'a>>;

/// Where documents of issuers come from: the network, or a test's memory.
///
/// An implementation bounds size ([`MAX_DOCUMENT`]) and time, follows no redirect, and gives back
/// the body of a 200 only.
pub trait KeySource: fmt::Debug + Send + Sync {
    /// Gets one document of `issuer`.
    fn get<'a>(&'a self, uri: &'a Uri, issuer: &'a IssuerSettings) -> Fetching<'a>;

    /// Gets what `issuer` says to the bearer of `token` at `uri`, which is a place that the
    /// settings name. The error holds nothing of the token. A source of keys alone says that it
    /// cannot be had.
    fn get_as<'a>(&'a self, uri: &'a Uri, issuer: &'a IssuerSettings, token: &'a str) -> Fetching<'a> {
        let (_, _) = (issuer, token);
        let why = "this source holds keys only".to_owned();
        Box::pin(std::future::ready(Err(SourceError { uri: uri.to_string(), why })))
    }
}

/// A document could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot fetch `{uri}`: {why}")]
pub struct SourceError {
    /// From where.
    pub uri: String,
    /// What went wrong.
    pub why: String,
}

/// Why an issuer's keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A document could not be fetched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The discovery document is not what the standard says.
    #[error("the discovery document at `{uri}` is malformed")]
    Discovery {
        /// Where it was.
        uri: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The discovery document is another issuer's.
    #[error("the discovery document at `{uri}` is of the issuer `{found}`, not of `{expected}`")]
    Issuer {
        /// Where it was.
        uri: String,
        /// What it says.
        found: String,
        /// What is configured.
        expected: String,
    },
    /// The discovery document names keys at a place that is not asked.
    #[error("the discovery document names its keys at `{0}`, which is no https URL without a user")]
    KeysAt(String),
    /// The key set is unusable.
    #[error("the key set at `{uri}` is unusable")]
    Keys {
        /// Where it was.
        uri: String,
        /// What is wrong.
        source: KeySetError,
    },
}

/// The two members that are read.
#[derive(Debug, Deserialize)]
struct Metadata {
    issuer: IssuerUrl,
    jwks_uri: JsonWebKeySetUrl,
}

/// Loads and vets the keys of one form of an issuer.
///
/// # Errors
/// [`LoadError`]; what was loaded before stays in force.
pub(super) async fn load(
    source: &dyn KeySource,
    issuer: &IssuerSettings,
    form: &Form,
) -> Result<KeySet, LoadError> {
    let keys_at = match &form.keys {
        KeysAt::Jwks(uri) => uri.clone(),
        KeysAt::Discovery(uri) => {
            let document = source.get(uri, issuer).await?;
            keys_named(&document, uri, &form.iss)?
        }
    };
    let document = source.get(&keys_at, issuer).await?;
    KeySet::parse(&document).map_err(|source| LoadError::Keys { uri: keys_at.to_string(), source })
}

/// Reads a discovery document: pure.
fn keys_named(document: &[u8], uri: &Uri, iss: &str) -> Result<Uri, LoadError> {
    let malformed = |source| LoadError::Discovery { uri: uri.to_string(), source };
    let bounded = document.get(..document.len().min(MAX_DOCUMENT)).unwrap_or_default();
    let map = json::object(bounded, MAX_DEPTH).map_err(malformed)?;
    let metadata: Metadata = serde_json::from_value(Value::Object(map)).map_err(malformed)?;
    // To the letter, before any normalisation: section 4.3.
    if metadata.issuer.as_str() != iss {
        return Err(LoadError::Issuer {
            uri: uri.to_string(),
            found: metadata.issuer.to_string(),
            expected: iss.to_owned(),
        });
    }
    let named = metadata.jwks_uri.url();
    let secure = named.scheme() == "https" || (named.scheme() == "http" && uri.scheme_str() == Some("http"));
    let refused = || LoadError::KeysAt(metadata.jwks_uri.to_string());
    if !secure || !named.username().is_empty() || named.password().is_some() {
        return Err(refused());
    }
    named.as_str().parse().map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "https://issuer.example/.well-known/openid-configuration";

    fn named(document: &str) -> Result<Uri, String> {
        keys_named(document.as_bytes(), &Uri::from_static(AT), "https://issuer.example")
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_workload_issuer_without_an_authorization_endpoint_is_read() {
        let uri = named(
            r#"{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/jwks",
                "response_types_supported":["id_token"],"subject_types_supported":["public"],
                "id_token_signing_alg_values_supported":["RS256"]}"#,
        );
        assert_eq!(uri, Ok(Uri::from_static("https://issuer.example/jwks")));
    }

    #[test]
    fn another_issuer_s_document_is_refused_to_the_letter() {
        for other in [
            "https://issuer.example/",
            "https://Issuer.example",
            "https://evil.example",
            "https://issuer.example:443",
        ] {
            let said = named(&format!(r#"{{"issuer":"{other}","jwks_uri":"https://issuer.example/jwks"}}"#))
                .unwrap_err();
            assert!(said.contains("not of `https://issuer.example`"), "{said}");
        }
    }

    #[test]
    fn keys_in_plaintext_in_a_file_or_behind_a_user_are_not_asked() {
        for uri in [
            "http://issuer.example/jwks",
            "file:///etc/passwd",
            "https://u:p@issuer.example/jwks",
            "ftp://x/",
        ] {
            let said =
                named(&format!(r#"{{"issuer":"https://issuer.example","jwks_uri":"{uri}"}}"#)).unwrap_err();
            assert!(said.contains("no https URL"), "{said}");
        }
    }

    #[test]
    fn a_document_of_two_readings_is_refused() {
        for document in [
            r#"{"issuer":"https://issuer.example","issuer":"https://issuer.example","jwks_uri":"https://a/"}"#,
            r#"{"issuer":"https://issuer.example"}"#,
            r#"{"issuer":["https://issuer.example"],"jwks_uri":"https://issuer.example/jwks"}"#,
            "<html>",
            "",
        ] {
            assert!(named(document).unwrap_err().contains("malformed"), "{document}");
        }
    }
}
