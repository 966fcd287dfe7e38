//! Proofs of possession at the token endpoint (DPoP, RFC 9449, 4.3 and 5), as an issuer judges them.

use http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::ThumbprintHash};
use serde_json::Value;

use crate::time::Timestamp;

/// By how many seconds a proof may be old or early.
const WINDOW: u64 = 60;

/// The thumbprint of the key whose proof the request brings; `None` if it brings none.
///
/// # Errors
/// What is wrong with the proof.
pub fn proven(headers: &HeaderMap, url: &str, now: Timestamp) -> Result<Option<String>, &'static str> {
    let mut all = headers.get_all("dpop").iter();
    let Some(proof) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err("there is more than one DPoP proof");
    }
    let proof = proof.to_str().map_err(|_| "the DPoP proof is no token")?;
    let head = jsonwebtoken::decode_header(proof).map_err(|_| "the DPoP proof is no token")?;
    if head.typ.as_deref() != Some("dpop+jwt") || head.alg != Algorithm::ES256 {
        return Err("the DPoP proof is of another kind");
    }
    let jwk = head.jwk.ok_or("the DPoP proof brings no key")?;
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "the DPoP proof's key cannot be used")?;
    let mut validation = Validation::new(Algorithm::ES256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let said = jsonwebtoken::decode::<Value>(proof, &key, &validation)
        .map_err(|_| "the DPoP proof's signature does not verify")?
        .claims;
    let is = |name: &str, value: &str| said.get(name).and_then(Value::as_str) == Some(value);
    let issued = said.get("iat").and_then(Value::as_u64).unwrap_or_default();
    if !is("htm", "POST") || !is("htu", url) || said.get("jti").is_none_or(|id| !id.is_string()) {
        return Err("the DPoP proof is for another request");
    }
    if issued.abs_diff(now.as_secs()) > WINDOW {
        return Err("the DPoP proof is too old, or from the future");
    }
    jwk.thumbprint(ThumbprintHash::SHA256).map(Some).map_err(|_| "the DPoP proof's key cannot be used")
}
