//! DPoP (RFC 9449): the proof that whoever sends a token holds the key that it is bound to.
//!
//! [`verify`] is pure: the proof, what it must say, and the time go in; the key's thumbprint and
//! what tells the proof from every other come out. A proof brings its own key, so the key proves
//! nothing by itself: the token names its thumbprint. Whether a proof was seen before is asked of
//! [`Replays`], which is bounded; a gate that cannot remember a proof refuses it.

mod nonce;
mod proofs;
mod replays;
#[cfg(test)]
mod tests;

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Uri};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use serde_json::{Map, Value};

pub use self::{
    nonce::Nonces,
    proofs::{Asked, Proofs, Unproven},
    replays::{Replays, Seen},
};
use super::{json, jwks, settings::SignatureAlgorithm};
use crate::{http::Target, time::Timestamp};

/// The longest proof that is looked at, in bytes: one with a key of RSA 4096 has a third of it.
pub const MAX_PROOF: usize = 8 << 10;
/// The longest `jti`, in bytes.
const MAX_ID: usize = 256;
/// How deep header and payload may nest: the key is an object in the header.
const MAX_DEPTH: u8 = 4;

/// The algorithms by which a proof may be signed.
pub const ALGORITHMS: [SignatureAlgorithm; 5] = [
    SignatureAlgorithm::Es256,
    SignatureAlgorithm::Es384,
    SignatureAlgorithm::EdDsa,
    SignatureAlgorithm::Ps256,
    SignatureAlgorithm::Rs256,
];

/// For how long a proof is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From its `iat` on.
    pub age: Duration,
    /// By how much clocks may differ, both ways.
    pub skew: Duration,
}

impl Default for Window {
    fn default() -> Self {
        Self { age: Duration::from_secs(60), skew: Duration::from_secs(30) }
    }
}

/// What a proof must say.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// The request's method, to the letter.
    pub method: &'a str,
    /// The URLs by which the request's target is known outside, any of which may be named: scheme,
    /// authority and path.
    pub urls: &'a [String],
    /// The token that comes with it; none where a token is asked for (RFC 9449, 5).
    pub token: Option<&'a str>,
    /// The nonces of which it must hold one, where one is demanded.
    pub nonces: Option<&'a Nonces>,
    /// For how long it is good.
    pub window: Window,
    /// The time.
    pub now: Timestamp,
}

/// A proof that holds: of which key, and how it is told from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The thumbprint of its key (RFC 7638, SHA-256, base64url), as `cnf.jkt` has it.
    pub thumbprint: Box<str>,
    /// SHA-256 of the key's thumbprint and `jti`.
    pub id: [u8; 32],
    /// From when on it is too old, so that it need not be remembered.
    pub until: Timestamp,
}

/// Why a proof does not hold. Names are stable: they stand in records and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadProof {
    /// There is none.
    #[error("the request carries no `DPoP` proof")]
    Absent,
    /// There is more than one.
    #[error("the request carries more than one `DPoP` proof")]
    Several,
    /// Not a compact JWS of two JSON objects, or too long.
    #[error("the `DPoP` proof is malformed")]
    Malformed,
    /// `typ` is not `dpop+jwt`, or the header asks for more than a signature.
    #[error("the `DPoP` proof is another kind of token")]
    Type,
    /// `alg` is no signature with a public key, or not one that is accepted.
    #[error("the `DPoP` proof's algorithm is not accepted")]
    Algorithm,
    /// `jwk` is missing, private, symmetric, weak, or of another kind than `alg`.
    #[error("the `DPoP` proof's key is not a public key that is accepted")]
    Key,
    /// The signature does not verify with the key.
    #[error("the `DPoP` proof's signature does not verify")]
    Signature,
    /// A claim is absent, of the wrong JSON type, or out of bounds.
    #[error("the `DPoP` proof lacks a claim, or one is malformed")]
    Claim,
    /// `htm` is another method.
    #[error("the `DPoP` proof is for another method")]
    Method,
    /// `htu` is another URL.
    #[error("the `DPoP` proof is for another URL")]
    Url,
    /// `iat` is too old or lies in the future.
    #[error("the `DPoP` proof is too old, or from the future")]
    Time,
    /// `ath` is another token's.
    #[error("the `DPoP` proof is for another token")]
    Token,
    /// `nonce` is absent, or none that was given out lately.
    #[error("the `DPoP` proof needs the nonce that the gate gives out")]
    Nonce,
}

impl BadProof {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "dpop_absent",
            Self::Several => "dpop_several",
            Self::Malformed => "dpop_malformed",
            Self::Type => "dpop_type",
            Self::Algorithm => "dpop_algorithm",
            Self::Key => "dpop_key",
            Self::Signature => "dpop_signature",
            Self::Claim => "dpop_claim",
            Self::Method => "dpop_method",
            Self::Url => "dpop_url",
            Self::Time => "dpop_time",
            Self::Token => "dpop_token",
            Self::Nonce => "dpop_nonce",
        }
    }
}

/// The request's only proof, not looked into.
///
/// # Errors
/// [`BadProof::Absent`], [`BadProof::Several`] or [`BadProof::Malformed`].
pub fn sole(headers: &HeaderMap) -> Result<&str, BadProof> {
    let mut all = headers.get_all("dpop").iter();
    let first = all.next().ok_or(BadProof::Absent)?;
    if all.next().is_some() {
        return Err(BadProof::Several);
    }
    first.to_str().map_err(|_| BadProof::Malformed)
}

/// Verifies a proof: form, type, algorithm, key and claims before the signature, because they cost
/// a hundredth of it. Whether it was used before is not known here: ask [`Replays`] with its `id`.
///
/// # Errors
/// [`BadProof`]: the first check that fails.
pub fn verify(proof: &str, demand: &Demand<'_>) -> Result<Proof, BadProof> {
    if proof.len() > MAX_PROOF {
        return Err(BadProof::Malformed);
    }
    let (signed, signature) = proof.rsplit_once('.').ok_or(BadProof::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(BadProof::Malformed)?;
    let (header, claims) = (part(header)?, part(payload)?);
    let (algorithm, key, thumbprint) = head(header)?;
    let text = |name: &str| match claims.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) | None => Err(BadProof::Claim),
    };
    let id = text("jti")?;
    if id.is_empty() || id.len() > MAX_ID {
        return Err(BadProof::Claim);
    }
    if text("htm")? != demand.method {
        return Err(BadProof::Method);
    }
    let said = normal(text("htu")?).ok_or(BadProof::Url)?;
    if !demand.urls.iter().filter_map(|url| normal(url)).any(|ours| ours == said) {
        return Err(BadProof::Url);
    }
    let until = times(&claims, demand)?;
    if let Some(token) = demand.token {
        let ours = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()));
        if text("ath")? != ours {
            return Err(BadProof::Token);
        }
    }
    if let Some(nonces) = demand.nonces {
        let said = claims.get("nonce").and_then(Value::as_str).ok_or(BadProof::Nonce)?;
        if !nonces.stands(said, demand.now) {
            return Err(BadProof::Nonce);
        }
    }
    if !key.verifies(algorithm, signed, signature) {
        return Err(BadProof::Signature);
    }
    let mut context = digest::Context::new(&digest::SHA256);
    // A thumbprint has one length, so that the two cannot run into each other.
    context.update(thumbprint.as_bytes());
    context.update(id.as_bytes());
    let mut id = [0; 32];
    id.copy_from_slice(context.finish().as_ref());
    Ok(Proof { thumbprint, id, until })
}

/// Decodes canonical base64url into an object of one reading.
fn part(text: &str) -> Result<Map<String, Value>, BadProof> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadProof::Malformed)?;
    json::object(&bytes, MAX_DEPTH).map_err(|_| BadProof::Malformed)
}

/// Algorithm, key and the key's thumbprint.
fn head(mut header: Map<String, Value>) -> Result<(SignatureAlgorithm, jwks::Key, Box<str>), BadProof> {
    let typed = |typ: &str| typ.eq_ignore_ascii_case("dpop+jwt");
    if !header.get("typ").and_then(Value::as_str).is_some_and(typed)
        || ["crit", "b64", "zip", "enc"].iter().any(|name| header.contains_key(*name))
    {
        return Err(BadProof::Type);
    }
    let algorithm: SignatureAlgorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(|name| name.parse().ok())
        .filter(|algorithm| ALGORITHMS.contains(algorithm))
        .ok_or(BadProof::Algorithm)?;
    let jwk = header.remove("jwk").ok_or(BadProof::Key)?;
    let key = jwk.as_object().and_then(jwks::Key::embedded).ok_or(BadProof::Key)?;
    if !key.fits(algorithm) {
        return Err(BadProof::Key);
    }
    let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| BadProof::Key)?;
    let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| BadProof::Key)?;
    Ok((algorithm, key, thumbprint.into()))
}

/// Until when the proof is good, if it is now.
fn times(claims: &Map<String, Value>, demand: &Demand<'_>) -> Result<Timestamp, BadProof> {
    let Demand { window, now, .. } = demand;
    let issued = match claims.get("iat") {
        // Some clients write fractions.
        Some(Value::Number(iat)) => iat.as_f64().filter(|s| (0.0..253_402_300_800.0).contains(s)),
        Some(_) | None => None,
    };
    let issued = issued.map(|seconds| Timestamp::from_millis((seconds * 1_000.0) as u64));
    let issued = issued.ok_or(BadProof::Claim)?;
    let until = issued.plus(window.age).plus(window.skew);
    if now.plus(window.skew) < issued || *now >= until {
        return Err(BadProof::Time);
    }
    Ok(until)
}

/// A URL as RFC 9449, 4.3 compares it: without query and fragment, scheme and host in lower case, no
/// default port, the path with the escapes of unreserved characters resolved (RFC 3986, 6.2.2 and
/// 6.2.3). `None` for what has no one reading.
fn normal(url: &str) -> Option<(String, u16, Target)> {
    let url = url.split('#').next()?;
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = match (authority.port_u16(), scheme.as_str()) {
        (Some(port), _) => port,
        (None, "https") => 443,
        (None, "http") => 80,
        (None, _) => return None,
    };
    let target = Target::parse(authority.host(), uri.path()).ok()?;
    Some((scheme, port, target))
}
