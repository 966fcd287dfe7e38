//! A key that never leaves this machine, and proofs of holding it (DPoP, RFC 9449).
//!
//! A token that is bound to it is worth nothing to whoever copies the token: out of a log, a process
//! or the file beside. It is asked for where both the issuer and the gate know such proofs.

use std::{fmt, fs, io, path::Path, sync::Arc};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use http::HeaderValue;
use serde_json::{Value, json};

use super::sessions::{private_folder, write_private};
use crate::time::Timestamp;

/// The algorithm of its signatures, as issuers and gates list it.
pub const ALGORITHM: &str = "ES256";
/// Its file, beside the sessions.
pub(super) const FILE: &str = "device.key";

/// A P-256 key of this machine's user.
pub struct Key {
    pair: EcdsaKeyPair,
    public: Value,
    thumbprint: String,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file.
    #[error("the key in `{FILE}` cannot be read or written")]
    File(#[from] io::Error),
    /// Others can read it.
    #[error("the key in `{FILE}` can be read by others, and so is not used: remove it and sign in again")]
    Exposed,
    /// What is in the file.
    #[error("`{FILE}` holds no key of this program: remove it and sign in again")]
    Contents,
}

/// What a proof is for.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The request's method.
    pub method: &'a str,
    /// Its URL, without query.
    pub url: &'a str,
    /// The token beside it, if there is one already.
    pub token: Option<&'a str>,
    /// What the other side asked to be put in.
    pub nonce: Option<&'a str>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("thumbprint", &self.thumbprint).finish_non_exhaustive()
    }
}

impl Key {
    /// The one in `folder`; it is made if there is none. Whoever calls sees to it that only one
    /// process does so at a time.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn of(folder: &Path) -> Result<Arc<Self>, KeyError> {
        let path = folder.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => zeroize::Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made =
                    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                        .map_err(|_| io::Error::other("the system gave no randomness"))?;
                let made = pem::Pem::new("PRIVATE KEY", made.as_ref());
                let text = zeroize::Zeroizing::new(pem::encode(&made).into_bytes());
                private_folder(folder)?;
                write_private(&path, &text)?;
                text
            }
            Err(error) => return Err(error.into()),
        };
        if !matches!(crate::secrets::exposure(&path), Ok(None)) {
            return Err(KeyError::Exposed);
        }
        let read = pem::parse(&text).map_err(|_| KeyError::Contents)?;
        Self::from_pkcs8(read.contents()).map(Arc::new)
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map_err(|_| KeyError::Contents)?;
        // Uncompressed: 4, x, y (SEC 1, 2.3.3).
        let (x, y) = pair
            .public_key()
            .as_ref()
            .strip_prefix(&[4])
            .and_then(|point| point.split_at_checked(32))
            .ok_or(KeyError::Contents)?;
        let (x, y) = (BASE64.encode(x), BASE64.encode(y));
        // RFC 7638: the members in the order of the alphabet, and nothing between them.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let thumbprint = BASE64.encode(digest(&SHA256, canonical.as_bytes()));
        Ok(Self { pair, public: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}), thumbprint })
    }

    /// What a token that is bound to it names (`cnf.jkt`).
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// A proof, good once and for a minute.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn proof(&self, shown: &Shown<'_>, now: Timestamp) -> io::Result<HeaderValue> {
        let mut claims = json!({
            "jti": uuid::Uuid::new_v4().to_string(),
            "htm": shown.method,
            "htu": shown.url,
            "iat": now.as_secs(),
        });
        if let Some(claims) = claims.as_object_mut() {
            if let Some(token) = shown.token {
                claims.insert("ath".to_owned(), BASE64.encode(digest(&SHA256, token.as_bytes())).into());
            }
            if let Some(nonce) = shown.nonce {
                claims.insert("nonce".to_owned(), nonce.into());
            }
        }
        let head = json!({"typ": "dpop+jwt", "alg": ALGORITHM, "jwk": self.public});
        let signed = format!("{}.{}", BASE64.encode(head.to_string()), BASE64.encode(claims.to_string()));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| io::Error::other("the system gave no randomness"))?;
        HeaderValue::try_from(format!("{signed}.{}", BASE64.encode(signature))).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::ThumbprintHash};

    use super::*;

    #[test]
    fn a_key_is_made_once_is_its_owners_alone_and_stays() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("amlgate");
        let key = Key::of(&folder).unwrap();
        assert_eq!(Key::of(&folder).unwrap().thumbprint(), key.thumbprint());
        assert!(!format!("{key:?}").contains("pair"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.join(FILE);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(matches!(Key::of(&folder), Err(KeyError::Exposed)));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(folder.join(FILE), "nothing").unwrap();
        assert!(matches!(Key::of(&folder), Err(KeyError::Contents)));
    }

    #[test]
    fn a_proof_is_signed_by_the_key_that_it_brings_and_says_what_it_is_for() {
        let home = tempfile::tempdir().unwrap();
        let key = Key::of(home.path()).unwrap();
        let shown = Shown {
            method: "CONNECT",
            url: "https://a.example:443/",
            token: Some("token"),
            nonce: Some("n"),
        };
        let proof = key.proof(&shown, Timestamp::from_secs(1_800_000_000)).unwrap();
        let proof = proof.to_str().unwrap();
        let head = jsonwebtoken::decode_header(proof).unwrap();
        assert_eq!(head.typ.as_deref(), Some("dpop+jwt"));
        let jwk = head.jwk.unwrap();
        assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), key.thumbprint());
        let mut validation = Validation::new(Algorithm::ES256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Value>(proof, &DecodingKey::from_jwk(&jwk).unwrap(), &validation);
        let claims = claims.unwrap().claims;
        assert_eq!((&claims["htm"], &claims["htu"]), (&json!("CONNECT"), &json!("https://a.example:443/")));
        assert_eq!((&claims["iat"], &claims["nonce"]), (&json!(1_800_000_000), &json!("n")));
        assert_eq!(claims["ath"], BASE64.encode(digest(&SHA256, b"token")));
        let again = key.proof(&shown, Timestamp::from_secs(1_800_000_000)).unwrap();
        assert_ne!(again, proof, "each is good once");
    }
}
