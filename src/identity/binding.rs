//! What a token is bound to (`cnf`, RFC 7800), and how a caller proved who they are.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::rejection::{Reason, Rejection};

/// What must come with a token for it to count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binding {
    /// SHA-256 of the certificate on whose connection it counts (`x5t#S256`, RFC 8705).
    pub certificate: Option<[u8; 32]>,
    /// The thumbprint of the key whose proof must come with it (`jkt`, RFC 9449).
    pub key: Option<Box<str>>,
}

/// How a caller proved who they are, for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proven {
    /// By a token that anybody may bear.
    Bearer,
    /// By a token that is bound to the key of a proof.
    KeyBound,
    /// By a token that is bound to the certificate.
    CertificateBound,
    /// By a certificate.
    Certificate,
    /// By a handle of an endpoint's key.
    Handle,
}

impl Proven {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::KeyBound => "dpop",
            Self::CertificateBound => "certificate_bound_token",
            Self::Certificate => "certificate",
            Self::Handle => "handle",
        }
    }
}

impl Binding {
    /// What the claims say; nothing if they do not.
    pub(super) fn of(claims: &Map<String, Value>) -> Result<Option<Self>, Rejection> {
        let Some(cnf) = claims.get("cnf") else { return Ok(None) };
        let refused = || {
            Rejection::new(Reason::Bound)
                .found(format_args!("`cnf`: {cnf}"))
                .expected("`x5t#S256`, `jkt` or both, each the SHA-256 of something")
        };
        let members = cnf.as_object().filter(|members| !members.is_empty()).ok_or_else(refused)?;
        let mut binding = Self::default();
        for (name, value) in members {
            let text = value.as_str().ok_or_else(refused)?;
            let digest = URL_SAFE_NO_PAD.decode(text).ok().and_then(|d| <[u8; 32]>::try_from(d).ok());
            let digest = digest.ok_or_else(refused)?;
            match name.as_str() {
                "x5t#S256" => binding.certificate = Some(digest),
                "jkt" => binding.key = Some(text.into()),
                // Bound in a way whose proof nobody could check.
                _ => return Err(refused()),
            }
        }
        Ok(Some(binding))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(claims: Value) -> Result<Option<Binding>, Reason> {
        Binding::of(claims.as_object().unwrap()).map_err(|rejection| rejection.reason())
    }

    #[test]
    fn a_token_is_bound_to_what_the_gate_can_check_or_is_refused() {
        let digest = URL_SAFE_NO_PAD.encode([7; 32]);
        assert_eq!(of(json!({"sub": "x"})), Ok(None));
        let bound = of(json!({"cnf": {"x5t#S256": digest, "jkt": digest}})).unwrap().unwrap();
        assert_eq!(bound, Binding { certificate: Some([7; 32]), key: Some(digest.as_str().into()) });
        for cnf in [
            json!({}),
            json!(null),
            json!("x"),
            json!({"kid": "x"}),
            json!({"jwk": {}}),
            json!({"x5t": digest}),
            json!({"jkt": 1}),
            json!({"jkt": "x"}),
            json!({"jkt": format!("{digest}=")}),
            json!({"x5t#S256": digest, "kid": "x"}),
        ] {
            assert_eq!(of(json!({ "cnf": cnf })), Err(Reason::Bound), "{cnf}");
        }
    }
}
