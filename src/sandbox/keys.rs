//! RSA signing keys and key rings with rotation.

use crate::sandbox::members::Members as _;
use std::sync::{Arc, RwLock};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use super::SandboxError;

/// How many keys stay published after a rotation, the current one included.
const KEPT: usize = 2;

/// An RSA key of 2048 bits that signs RS256 tokens.
pub struct SigningKey {
    kid: String,
    pem: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    jwk: Value,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`] if the machine gives no randomness.
    pub fn generate() -> Result<Self, SandboxError> {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        Self::from_pem(&pair.serialize_pem())
    }

    /// A key written earlier by [`pem`](Self::pem) (PKCS#8).
    ///
    /// # Errors
    /// [`SandboxError::Token`] if it is not an RSA key.
    pub fn from_pem(pem: &str) -> Result<Self, SandboxError> {
        let encoding = EncodingKey::from_rsa_pem(pem.as_bytes())?;
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&encoding, Algorithm::RS256)?;
        let kid = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256)?;
        let decoding = DecodingKey::from_jwk(&jwk)?;
        let members = serde_json::to_value(&jwk).unwrap_or_default();
        let jwk = json!({"kty": "RSA", "use": "sig", "kid": kid, "n": members.member("n"), "e": members.member("e")});
        Ok(Self { kid, pem: pem.to_owned(), encoding, decoding, jwk })
    }

    /// The key's id: its RFC 7638 thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The private key as PKCS#8 PEM; for a file of mode 0600 only.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The public half as a JWK, without `alg` (as Entra publishes it).
    #[must_use]
    pub fn jwk(&self) -> Value {
        self.jwk.clone()
    }

    pub(super) const fn encoding(&self) -> &EncodingKey {
        &self.encoding
    }

    pub(super) const fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

/// The keys that an issuer publishes: the first signs, all verify.
#[derive(Debug)]
pub struct KeyRing {
    keys: RwLock<Vec<Arc<SigningKey>>>,
}

impl KeyRing {
    /// A ring with one key.
    #[must_use]
    pub fn new(first: SigningKey) -> Self {
        Self { keys: RwLock::new(vec![Arc::new(first)]) }
    }

    /// The key that signs; always there, because a ring is made with one.
    #[must_use]
    pub fn current(&self) -> Option<Arc<SigningKey>> {
        self.read(|keys| keys.first().cloned())
    }

    /// The published key of that id.
    #[must_use]
    pub fn find(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.read(|keys| keys.iter().find(|k| k.kid() == kid).cloned())
    }

    /// The public halves.
    #[must_use]
    pub fn public(&self) -> Vec<Value> {
        self.read(|keys| keys.iter().map(|k| k.jwk()).collect())
    }

    /// Puts a new key first. The one before it stays published, so that its tokens live on; the one
    /// before that goes.
    ///
    /// # Errors
    /// [`SandboxError::Certificate`] if the machine gives no randomness.
    pub fn rotate(&self) -> Result<(), SandboxError> {
        let key = Arc::new(SigningKey::generate()?);
        let mut keys = self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        keys.insert(0, key);
        keys.truncate(KEPT);
        Ok(())
    }

    /// Withdraws every key but the signing one, as an issuer does after a leak.
    pub fn withdraw_old(&self) {
        self.keys.write().unwrap_or_else(std::sync::PoisonError::into_inner).truncate(1);
    }

    fn read<T>(&self, f: impl FnOnce(&[Arc<SigningKey>]) -> T) -> T {
        f(&self.keys.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
