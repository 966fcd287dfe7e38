//! The gate as an issuer: short-lived tokens in exchange for others (RFC 8693), and their keys.
//!
//! A token of the gate holds the claims of the token that it came from, under the gate's signature.
//! Whoever presents it is described from those claims by the same rules, under the same issuer's
//! configuration, so that it is the same principal, matches the same subjects, and loses its rights
//! when that issuer is removed. It adds no right and no time: it ends before its origin does, and is
//! not exchanged again; what a code brings (`offline`) ends with its break-glass. Keys come from
//! `keys.seal` (DECISIONS 11), the same on every replica.

use std::{fmt, time::Duration};

use aws_lc_rs::{
    digest,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

use super::{
    Groups, Principal,
    jwks::KeySet,
    jws::{Jws, MAX_TOKEN, TokenKind},
    offline::GLASS,
    rejection::{Reason, Rejection},
    revoked::MARK,
    settings::{IssuerSettings, SignatureAlgorithm},
};
use crate::{
    secrets::{Purpose, Seal},
    time::Timestamp,
};

/// The longest life of an exchanged token.
pub const MAX_LIFE: Duration = Duration::from_secs(15 * 60);
/// The longest life of a token for a break-glass: that one's own, with the time in which others confirm it.
const LONGEST_GLASS: Duration = Duration::from_secs(8 * 3_600 + 900);
/// Replicas' clocks may differ so much.
const LEEWAY: Duration = Duration::from_secs(5);

/// The gate as an issuer.
pub struct OwnIssuer {
    settings: IssuerSettings,
    /// The same for tokens that are for a break-glass.
    of_a_glass: IssuerSettings,
    kid: String,
    signing: EncodingKey,
    keys: KeySet,
    public: Value,
}

/// A token of the gate.
#[derive(Clone)]
pub struct Exchanged {
    /// The token.
    pub token: String,
    /// Its `jti`, by which it is revoked.
    pub id: String,
    /// How long it lives.
    pub life: Duration,
}

impl fmt::Debug for Exchanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchanged({})", self.id)
    }
}

/// Why a token is not exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotExchanged {
    /// It was exchanged already.
    #[error("a token of the gate is not exchanged again: present the one that it came from")]
    Again,
    /// It carries no claims that a token could hold.
    #[error("what identifies the caller is no token with claims")]
    NoClaims,
    /// It ends now.
    #[error("the token has ended")]
    Ended,
    /// It is bound to another key than the one that is proven.
    #[error("the token is bound to a key: prove that one, by a DPoP proof or the certificate")]
    OtherKey,
    /// What it holds is too long.
    #[error("the token's claims are too many for another token")]
    TooLarge,
    /// The gate cannot sign.
    #[error("the gate cannot sign")]
    Unsigned,
}

impl OwnIssuer {
    /// Signs as `url`, for `audience`, with the first key of `seal`; verifies with all.
    ///
    /// # Errors
    /// If a key cannot be made.
    pub fn new(seal: &Seal, url: &str, audience: &str) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let failed = aws_lc_rs::error::Unspecified;
        let mut public = Vec::new();
        let mut first = None;
        for seed in seal.keys(Purpose::OwnTokens) {
            let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| failed)?;
            let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
            // RFC 7638: the members of the key in this order, and nothing else.
            let text = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
            let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
            public.push(
                json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "alg": "EdDSA", "use": "sig"}),
            );
            if first.is_none() {
                let document = pair.to_pkcs8v1().map_err(|_| failed)?;
                first = Some((kid, EncodingKey::from_ed_der(document.as_ref())));
            }
        }
        let public = json!({ "keys": public });
        let keys = KeySet::parse(public.to_string().as_bytes()).map_err(|_| failed)?;
        let (kid, signing) = first.ok_or(failed)?;
        let mut settings = IssuerSettings::oidc("amlgate", url, &[audience]).map_err(|_| failed)?;
        settings.algorithms = vec![SignatureAlgorithm::EdDsa];
        settings.leeway = LEEWAY;
        settings.max_lifetime = MAX_LIFE + LEEWAY;
        let of_a_glass = IssuerSettings { max_lifetime: LONGEST_GLASS + LEEWAY, ..settings.clone() };
        Ok(Self { settings, of_a_glass, kid, signing, keys, public })
    }

    /// What a token of its own must hold that says this.
    pub(super) fn settings(&self, claims: &Map<String, Value>) -> &IssuerSettings {
        let is_of_a_glass = claims.get(MARK).is_some_and(|mark| mark.get(GLASS).is_some());
        if is_of_a_glass { &self.of_a_glass } else { &self.settings }
    }

    /// Its `iss`.
    #[must_use]
    pub fn url(&self) -> String {
        self.settings.forms().first().map(|form| form.iss.to_string()).unwrap_or_default()
    }

    /// The one audience of its tokens.
    #[must_use]
    pub fn audience(&self) -> &str {
        self.settings.audiences.first().map(|audience| &**audience).unwrap_or_default()
    }

    /// The JWK set (RFC 7517).
    #[must_use]
    pub const fn jwks(&self) -> &Value {
        &self.public
    }

    /// Checks form and signature of a token that says it is the gate's.
    pub(super) fn signed(&self, jws: &Jws<'_>) -> Result<(), Rejection> {
        if jws.kind != TokenKind::Access || jws.algorithm != SignatureAlgorithm::EdDsa {
            return Err(Rejection::new(Reason::Algorithm).found(jws.algorithm).expected("EdDSA"));
        }
        let key = self.keys.find(&jws.key_id).ok_or_else(|| {
            Rejection::new(Reason::Key)
                .found(format_args!("`kid`: {}", jws.key_id))
                .expected("a key of `keys.seal`")
        })?;
        if key.verifies(jws.algorithm, jws.signed, jws.signature) {
            Ok(())
        } else {
            Err(Rejection::new(Reason::Signature).expected("a signature of the gate's"))
        }
    }

    /// A token of the gate for a verified caller, from `origin`'s claims; bound to the key of the
    /// thumbprint `jkt` (RFC 9449, 6.1) if one was proven.
    ///
    /// # Errors
    /// [`NotExchanged`].
    pub(super) fn exchange(
        &self,
        from: &Principal,
        groups_claim: Option<&str>,
        jkt: Option<&str>,
        now: Timestamp,
    ) -> Result<Exchanged, NotExchanged> {
        if from.claims.contains_key(MARK) {
            return Err(NotExchanged::Again);
        }
        if from.claims.is_empty() || from.subjects_at_issue.is_some() {
            return Err(NotExchanged::NoClaims);
        }
        let ends = now.plus(MAX_LIFE).min(from.expires);
        // To the second, and rather too short than too long.
        let life = Duration::from_secs(ends.as_secs().saturating_sub(now.as_secs()));
        if life.is_zero() {
            return Err(NotExchanged::Ended);
        }
        let binding = match (from.claims.get("cnf"), jkt) {
            (None, None) => None,
            (None, Some(jkt)) => Some(json!({ "jkt": jkt })),
            (Some(bound), proven) => {
                let same = bound.get("jkt").and_then(Value::as_str);
                if same.is_some() && same == proven {
                    Some(bound.clone())
                } else {
                    return Err(NotExchanged::OtherKey);
                }
            }
        };
        let mut origin: Map<String, Value> = Map::clone(&from.claims);
        if let (Some(claim), Groups::Known(groups)) = (groups_claim, &from.groups) {
            origin.insert(claim.to_owned(), json!(groups.iter().map(|g| &**g).collect::<Vec<_>>()));
        }
        let mark = json!({"issuer": &*from.id.issuer, "claims": origin});
        self.sign(from, mark, binding, now, life)
    }

    /// A token of the gate for the holder of a code, whose token said `claims` once, for one
    /// break-glass and not beyond `until`.
    ///
    /// # Errors
    /// [`NotExchanged`].
    pub(super) fn vouch(
        &self,
        holder: &Principal,
        claims: Map<String, Value>,
        glass: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Exchanged, NotExchanged> {
        let ends = now.plus(LONGEST_GLASS).min(until);
        let life = Duration::from_secs(ends.as_secs().saturating_sub(now.as_secs()));
        if life.is_zero() {
            return Err(NotExchanged::Ended);
        }
        let mark = json!({"issuer": &*holder.id.issuer, "claims": claims, GLASS: glass});
        self.sign(holder, mark, None, now, life)
    }

    fn sign(
        &self,
        from: &Principal,
        mark: Value,
        binding: Option<Value>,
        now: Timestamp,
        life: Duration,
    ) -> Result<Exchanged, NotExchanged> {
        let id = uuid::Uuid::new_v4().to_string();
        let mut claims = json!({
            "iss": self.url(),
            "sub": from.id.to_string(),
            "aud": self.audience(),
            "iat": now.as_secs(),
            "exp": now.as_secs().saturating_add(life.as_secs()),
            "jti": id,
            MARK: mark,
        });
        if let (Some(binding), Some(claims)) = (binding, claims.as_object_mut()) {
            claims.insert("cnf".to_owned(), binding);
        }
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(self.kid.clone());
        let token =
            jsonwebtoken::encode(&header, &claims, &self.signing).map_err(|_| NotExchanged::Unsigned)?;
        if token.len() > MAX_TOKEN {
            return Err(NotExchanged::TooLarge);
        }
        Ok(Exchanged { token, id, life })
    }
}

impl fmt::Debug for OwnIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnIssuer({})", self.url())
    }
}
