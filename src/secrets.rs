//! Secrets redact themselves and are wiped when dropped; what the gate seals uses one key per use.

mod blob;
mod read;

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    constant_time, hkdf, hmac,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
pub use blob::BlobSealer;
pub use read::{MAX_SECRET, SecretError, exposure, from_env, from_file, from_projected};
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
    /// The key by which the gate signs tokens of its own.
    OwnTokens,
    /// A browser's sign-in under way.
    SignIn,
    /// The tokens of a browser's session.
    Session,
    /// What a person's own programs keep, sealed with a key of the person's own.
    Kept,
    /// Tags of codes that sign in without the identity provider.
    OfflineCodeTags,
    /// What the holders of such codes said of themselves.
    OfflineCodes,
    /// Bodies that are kept beside the record.
    Bodies,
    /// Tags of bodies in records: keyed, so that a record does not confirm a guessed body.
    BodyTags,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Handle => b"amlgate handle v1",
            Self::Polling => b"amlgate polling v1",
            Self::Thumbprint => b"amlgate thumbprint v1",
            Self::DpopNonce => b"amlgate dpop nonce v1",
            Self::OwnTokens => b"amlgate own tokens v1",
            Self::SignIn => b"amlgate sign-in v1",
            Self::Session => b"amlgate session v1",
            Self::Kept => b"amlgate kept v1",
            Self::OfflineCodeTags => b"amlgate offline code tags v1",
            Self::OfflineCodes => b"amlgate offline codes v1",
            Self::Bodies => b"amlgate bodies v1",
            Self::BodyTags => b"amlgate body tags v1",
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

    /// Authenticated encryption for a use.
    #[must_use]
    pub fn sealer(&self, purpose: Purpose) -> Sealer {
        // A key of this length is never refused.
        let keys = self.keys(purpose);
        Sealer {
            keys: keys.iter().filter_map(|key| RandomizedNonceKey::new(&AES_256_GCM, &**key).ok()).collect(),
        }
    }

    /// Authenticated encryption of whole blobs, each with a key of its own.
    #[must_use]
    pub fn blob_sealer(&self, purpose: Purpose) -> BlobSealer {
        BlobSealer::new(self.keys(purpose))
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

/// AES-256-GCM with the first key; opens what any sealed.
pub struct Sealer {
    keys: Vec<RandomizedNonceKey>,
}

impl Sealer {
    /// Seals `plain` as base64url; it opens with the same `bound` alone. `None` if the machine gives
    /// no random bytes.
    #[must_use]
    pub fn seal(&self, bound: &[u8], plain: &[u8]) -> Option<String> {
        let mut sealed = plain.to_vec();
        let nonce = self.keys.first()?.seal_in_place_append_tag(Aad::from(bound), &mut sealed).ok()?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What was sealed for `bound`; `None` for anything else.
    #[must_use]
    pub fn open(&self, bound: &[u8], sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>()?;
        self.keys.iter().find_map(|key| {
            let mut sealed = Zeroizing::new(sealed.to_vec());
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = key.open_in_place(nonce, Aad::from(bound), &mut sealed).ok()?.len();
            sealed.truncate(length);
            Some(sealed)
        })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
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

    /// The tags of a message with each key, the signing one first: to find what is kept by one of them.
    pub fn tags<'m>(&'m self, message: &'m [u8]) -> impl Iterator<Item = [u8; 32]> + 'm {
        self.keys.iter().map(|key| {
            let mut out = [0; 32];
            out.copy_from_slice(hmac::sign(key, message).as_ref());
            out
        })
    }

    /// The tag of a message that comes bit by bit.
    #[must_use]
    pub fn begin(&self) -> Tagging {
        Tagging(self.keys.first().map(hmac::Context::with_key))
    }

    /// Whether the tag is one of ours, in constant time.
    #[must_use]
    pub fn verify(&self, message: &[u8], tag: &[u8]) -> bool {
        self.keys
            .iter()
            .any(|key| constant_time::verify_slices_are_equal(hmac::sign(key, message).as_ref(), tag).is_ok())
    }
}

/// A tag that is being made.
#[derive(Clone, Default)]
pub struct Tagging(Option<hmac::Context>);

impl Tagging {
    /// More of the message.
    pub fn add(&mut self, bytes: &[u8]) {
        if let Some(context) = &mut self.0 {
            context.update(bytes);
        }
    }

    /// The tag of all of it: 32 bytes.
    #[must_use]
    pub fn tag(self) -> [u8; 32] {
        let mut out = [0; 32];
        if let Some(context) = self.0 {
            out.copy_from_slice(context.sign().as_ref());
        }
        out
    }
}

impl fmt::Debug for Tagging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tagging")
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
    fn what_was_sealed_opens_for_the_same_thing_alone_and_after_a_rotation() {
        let (old, new) = (seal(&[1]).sealer(Purpose::Session), seal(&[2, 1]).sealer(Purpose::Session));
        let sealed = old.seal(b"session a", b"a token").unwrap();
        assert_eq!(new.open(b"session a", &sealed).unwrap().as_slice(), b"a token");
        assert_eq!(new.open(b"session b", &sealed), None);
        assert_eq!(seal(&[1]).sealer(Purpose::SignIn).open(b"session a", &sealed), None);
        assert_eq!(old.open(b"session a", &new.seal(b"session a", b"x").unwrap()), None);
        let flipped = sealed.replace(&sealed[20..21], if &sealed[20..21] == "A" { "B" } else { "A" });
        for odd in ["", "AAAA", "not base64!", &flipped, &sealed[..sealed.len() - 4]] {
            assert_eq!(old.open(b"session a", odd), None, "{odd}");
        }
        assert_ne!(sealed, old.seal(b"session a", b"a token").unwrap(), "no two look alike");
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        let seal = seal(&[7]);
        assert_eq!(format!("{seal:?} {:?}", seal.mac(Purpose::Handle)), "Seal(1 keys) Mac");
    }
}
