//! Keys of statements: Ed25519 and ECDSA on P-256, as PKCS#8 and `SubjectPublicKeyInfo` in PEM.
//!
//! A key's id is the SHA-256 of its `SubjectPublicKeyInfo` in DER, in hexadecimal: `openssl pkey -pubin
//! -outform DER | sha256sum` prints it.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair as _, ParsedPublicKey,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use crate::audit::note::hex;

/// The most keys of a file.
const MAX_KEYS: usize = 64;
/// The most bytes of a file of keys.
const MAX_FILE: usize = 64 << 10;
/// The label of a public key in PEM.
const LABEL: &str = "PUBLIC KEY";

/// The SHA-256 of a public key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyId(String);

/// Signs statements.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// Checks statements.
#[derive(Clone)]
pub struct PublicKey {
    key: ParsedPublicKey,
    der: Vec<u8>,
    id: KeyId,
}

/// Why a key is refused. No message holds anything of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a private key of these.
    #[error(
        "the key of statements is not an Ed25519 or P-256 key in PKCS#8 PEM: `amlgate certs init` makes one"
    )]
    Signing,
    /// Not a public key of these.
    #[error(
        "not a public key of statements: write Ed25519 or P-256 keys as `-----BEGIN {LABEL}-----` \
         (`openssl pkey -in KEY -pubout` prints it)"
    )]
    Public,
    /// Too much.
    #[error("a file of public keys has at most {MAX_KEYS} keys and {MAX_FILE} bytes")]
    Large,
    /// The cryptographic module failed.
    #[error("the statement could not be signed")]
    Failed,
}

impl SigningKey {
    /// From PKCS#8 PEM; the key is tried once, so that one that cannot sign is found now.
    ///
    /// # Errors
    /// [`KeyError::Signing`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::Signing)?;
        let der = der.secret_pkcs8_der();
        let pair = match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Ok(pair) => Pair::Ed25519(pair),
            Err(_) => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
                .map(Pair::P256)
                .map_err(|_| KeyError::Signing)?,
        };
        let spki = match &pair {
            Pair::Ed25519(pair) => pair.public_key().as_der(),
            Pair::P256(pair) => pair.public_key().as_der(),
        };
        let public = PublicKey::from_der(spki.map_err(|_| KeyError::Signing)?.as_ref());
        let key = Self { pair, public: public.map_err(|_| KeyError::Signing)? };
        let tried = key.sign(b"amlgate").map_err(|_| KeyError::Signing)?;
        if key.public.verifies(b"amlgate", &tried) { Ok(key) } else { Err(KeyError::Signing) }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature of a message: of Ed25519 64 bytes, of ECDSA in DER.
    ///
    /// # Errors
    /// [`KeyError::Failed`].
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.try_sign(message),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), message),
        };
        signature.map(|s| s.as_ref().to_vec()).map_err(|_| KeyError::Failed)
    }
}

impl PublicKey {
    /// All keys of a PEM file, at least one.
    ///
    /// # Errors
    /// [`KeyError`] for the first that is none.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, KeyError> {
        if text.len() > MAX_FILE {
            return Err(KeyError::Large);
        }
        let blocks = pem::parse_many(text).map_err(|_| KeyError::Public)?;
        if blocks.len() > MAX_KEYS {
            return Err(KeyError::Large);
        }
        let key = |block: &pem::Pem| {
            if block.tag() == LABEL { Self::from_der(block.contents()) } else { Err(KeyError::Public) }
        };
        let keys = blocks.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(KeyError::Public) } else { Ok(keys) }
    }

    /// From a `SubjectPublicKeyInfo`, in the one form that it has in DER.
    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let key = ParsedPublicKey::new(&ED25519, der)
            .or_else(|_| ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der))
            .map_err(|_| KeyError::Public)?;
        // Bare points are taken by the parser as well, and more than one encoding of some.
        if key.as_der().map_err(|_| KeyError::Public)?.as_ref() != der {
            return Err(KeyError::Public);
        }
        Ok(Self { id: KeyId(hex(digest(&SHA256, der).as_ref())), der: der.to_vec(), key })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// As other programs read it.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new(LABEL, self.der.clone()), config)
    }

    /// Whether the signature of the message is this key's.
    #[must_use]
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl KeyId {
    /// In hexadecimal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}
