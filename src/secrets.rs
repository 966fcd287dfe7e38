//! Secrets redact themselves and are wiped when dropped; what the gate seals uses one key per use.

mod read;

use std::fmt;

use aws_lc_rs::{constant_time, hkdf, hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
pub use read::{MAX_SECRET, SecretError, exposure, from_env, from_file};
pub use secrecy::{ExposeSecret, SecretBox, SecretString};
use zeroize::Zeroizing;

/// What a derived key is for; each use has a key of its own (DECISIONS 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Handles that stand for endpoint keys.
    Handle,
    /// Polling capabilities in URLs.
    Polling,
    /// Thumbprints of tokens in records: keyed, so that a record does not confirm a guessed token.
    Thumbprint,
    /// Nonces for proofs of possession.
    DpopNonce,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Handle => b"amlgate handle v1",
            Self::Polling => b"amlgate polling v1",
            Self::Thumbprint => b"amlgate thumbprint v1",
            Self::DpopNonce => b"amlgate dpop nonce v1",
        }
    }
}

/// The roots of everything that the gate seals, `keys.seal`: the first signs, all verify, so that a
/// rotation invalidates nothing. The same on every replica.
#[derive(Clone)]
pub struct Seal {
    roots: Vec<Zeroizing<[u8; 32]>>,
}

/// Why sealing keys cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not 32 bytes in base64.
    #[error("a sealing key is 32 random bytes in base64: `amlgate certs init` makes one")]
    Malformed,
    /// The list is empty.
    #[error("there is no sealing key")]
    None,
}

impl Seal {
    /// From the texts of the key files, the signing one first.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a SecretString>) -> Result<Self, SealError> {
        let roots = texts
            .into_iter()
            .map(|text| {
                let bytes = Zeroizing::new(
                    STANDARD.decode(text.expose_secret().trim()).map_err(|_| SealError::Malformed)?,
                );
                <[u8; 32]>::try_from(bytes.as_slice()).map(Zeroizing::new).map_err(|_| SealError::Malformed)
            })
            .collect::<Result<Vec<_>, _>>()?;
        if roots.is_empty() { Err(SealError::None) } else { Ok(Self { roots }) }
    }

    /// One key per root for a use, by HKDF-SHA256 (RFC 5869), the signing one first.
    #[must_use]
    pub fn keys(&self, purpose: Purpose) -> Vec<Zeroizing<[u8; 32]>> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"amlgate");
        self.roots
            .iter()
            .filter_map(|root| {
                let mut key = Zeroizing::new([0; 32]);
                // Fails only for more output than HKDF gives; then there is no key, which fails closed.
                salt.extract(&**root)
                    .expand(&[purpose.label()], hkdf::HKDF_SHA256)
                    .and_then(|okm| okm.fill(&mut *key))
                    .ok()
                    .map(|()| key)
            })
            .collect()
    }

    /// Message authentication for a use.
    #[must_use]
    pub fn mac(&self, purpose: Purpose) -> Mac {
        Mac { keys: self.keys(purpose).iter().map(|k| hmac::Key::new(hmac::HMAC_SHA256, &**k)).collect() }
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({} keys)", self.roots.len())
    }
}

/// HMAC-SHA256 with the first key; verification with any.
#[derive(Clone)]
pub struct Mac {
    keys: Vec<hmac::Key>,
}

impl Mac {
    /// The tag of a message: 32 bytes.
    #[must_use]
    pub fn tag(&self, message: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        if let Some(key) = self.keys.first() {
            out.copy_from_slice(hmac::sign(key, message).as_ref());
        }
        out
    }

    /// Whether the tag is one of ours, in constant time.
    #[must_use]
    pub fn verify(&self, message: &[u8], tag: &[u8]) -> bool {
        self.keys
            .iter()
            .any(|key| constant_time::verify_slices_are_equal(hmac::sign(key, message).as_ref(), tag).is_ok())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mac")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(bytes: &[u8]) -> Seal {
        let texts: Vec<_> = bytes.iter().map(|b| SecretString::from(STANDARD.encode([*b; 32]))).collect();
        Seal::new(&texts).unwrap()
    }

    #[test]
    fn each_use_has_a_key_of_its_own() {
        let keys = |p| seal(&[1]).keys(p).remove(0);
        assert_ne!(keys(Purpose::Handle), keys(Purpose::Polling));
        assert_ne!(keys(Purpose::Polling), keys(Purpose::Thumbprint));
        assert_eq!(keys(Purpose::Handle), seal(&[1]).keys(Purpose::Handle).remove(0));
    }

    #[test]
    fn after_a_rotation_what_the_previous_key_signed_is_still_good() {
        let (old, new) = (seal(&[1]).mac(Purpose::Polling), seal(&[2, 1]).mac(Purpose::Polling));
        assert!(new.verify(b"message", &old.tag(b"message")));
        assert!(!old.verify(b"message", &new.tag(b"message")));
        assert!(!new.verify(b"massage", &old.tag(b"message")));
    }

    #[test]
    fn a_short_or_missing_key_is_refused() {
        assert_eq!(Seal::new([]).unwrap_err(), SealError::None);
        let short = SecretString::from(STANDARD.encode([1; 31]));
        assert_eq!(Seal::new([&short]).unwrap_err(), SealError::Malformed);
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        let seal = seal(&[7]);
        assert_eq!(format!("{seal:?} {:?}", seal.mac(Purpose::Handle)), "Seal(1 keys) Mac");
    }
}
