//! Whom a token of the gate's speaks for, for people to read.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::token::Token;

/// What a token says of its holder. It is read, not verified: the token came from the token endpoint
/// over TLS, and nothing is decided by this.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// The tenant.
    #[serde(rename = "tid")]
    pub tenant: Option<String>,
    /// The application (`appid`, `azp`).
    #[serde(rename = "appid", alias = "azp")]
    pub client: Option<String>,
    /// The service principal, which roles are assigned to.
    #[serde(rename = "oid")]
    pub object: Option<String>,
    /// Application roles.
    pub roles: Vec<String>,
    /// Delegated scopes, where it is a person's.
    #[serde(rename = "scp")]
    pub scopes: Option<String>,
}

impl Holder {
    /// What `token` says; nothing for a token that is not a JWT.
    pub(super) fn of(token: &Token) -> Self {
        let text = token.header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
        let claims = text.and_then(|text| text.split('.').nth(1));
        let claims = claims.and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
        claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default()
    }
}
