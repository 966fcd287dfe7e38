//! Signing and checking tokens for the sandbox's own authorities.
//!
//! Times are judged against the sandbox's clock, not the library's, so that tests own time.

use jsonwebtoken::{Algorithm, Header, Validation};
use serde_json::{Map, Value};

use super::{KeyRing, SandboxError, SigningKey};
use crate::time::Timestamp;

/// Seconds by which clocks may differ.
const LEEWAY: u64 = 300;

/// Signs `claims` with `key` as RS256.
///
/// # Errors
/// [`SandboxError::Token`] if the key cannot sign.
pub fn sign(key: &SigningKey, claims: &Value) -> Result<String, SandboxError> {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(key.kid().to_owned());
    Ok(jsonwebtoken::encode(&header, claims, key.encoding())?)
}

/// Why a token does not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is no JWT with a JSON object in it, or not RS256.
    #[error("it is not a token of this kind")]
    Malformed,
    /// No published key has its `kid`, or the signature does not verify.
    #[error("its signature does not verify")]
    Signature,
    /// `exp` has passed.
    #[error("it has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("it is not valid yet")]
    Early,
}

/// The claims of a token that one of `keys` signed and whose time has come and not passed.
///
/// # Errors
/// The first [`Flaw`], in the order of its variants.
pub fn verify(keys: &KeyRing, token: &str, now: Timestamp) -> Result<Map<String, Value>, Flaw> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Flaw::Malformed)?;
    if header.alg != Algorithm::RS256 {
        return Err(Flaw::Malformed);
    }
    let kid = header.kid.ok_or(Flaw::Signature)?;
    let key = keys.find(&kid).ok_or(Flaw::Signature)?;
    let mut rules = Validation::new(Algorithm::RS256);
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    let claims = jsonwebtoken::decode::<Map<String, Value>>(token, key.decoding(), &rules)
        .map_err(|_| Flaw::Signature)?
        .claims;
    timely(&claims, now)?;
    Ok(claims)
}

/// Checks `exp` (demanded) and `nbf` (if there).
///
/// # Errors
/// [`Flaw::Malformed`], [`Flaw::Expired`] or [`Flaw::Early`].
pub fn timely(claims: &Map<String, Value>, now: Timestamp) -> Result<(), Flaw> {
    // A NumericDate may have a fraction (RFC 7519 section 2); assertions of MSAL for Python do.
    let seconds = |name: &str| {
        let at = claims.get(name)?.as_f64().filter(|at| at.is_finite() && *at >= 0.0)?;
        Some(std::time::Duration::try_from_secs_f64(at).ok()?.as_secs())
    };
    let expires = seconds("exp").ok_or(Flaw::Malformed)?;
    if now.as_secs() >= expires.saturating_add(LEEWAY) {
        return Err(Flaw::Expired);
    }
    if now.as_secs().saturating_add(LEEWAY) < seconds("nbf").unwrap_or_default() {
        return Err(Flaw::Early);
    }
    Ok(())
}
