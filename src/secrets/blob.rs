//! Blobs that lie where others may copy them: AES-256-GCM, each with a key of its own.
//!
//! The key of a blob is derived from the root of its use and a salt that stands before it, so that
//! however many are sealed, no two share a key and a nonce.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf, rand,
};
use zeroize::Zeroizing;

/// Bytes of the salt.
const SALT: usize = 32;
const LABEL: &[u8] = b"amlgate blob v1";

/// Seals with the first key; opens what any sealed.
pub struct BlobSealer {
    roots: Vec<Zeroizing<[u8; 32]>>,
}

impl BlobSealer {
    pub(super) fn new(roots: Vec<Zeroizing<[u8; 32]>>) -> Self {
        Self { roots }
    }

    /// Seals `plain`: salt, nonce, ciphertext and tag. It opens with the same `bound` alone. `None` if
    /// the machine gives no random bytes.
    #[must_use]
    pub fn seal(&self, bound: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).ok()?;
        let key = key(self.roots.first()?, &salt)?;
        let mut sealed = plain.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(bound), &mut sealed).ok()?;
        Some([&salt[..], nonce.as_ref(), &sealed].concat())
    }

    /// What was sealed for `bound`; `None` for anything else.
    #[must_use]
    pub fn open(&self, bound: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (salt, rest) = sealed.split_first_chunk::<SALT>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        self.roots.iter().find_map(|root| {
            let mut plain = Zeroizing::new(sealed.to_vec());
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = key(root, salt)?.open_in_place(nonce, Aad::from(bound), &mut plain).ok()?.len();
            plain.truncate(length);
            Some(plain)
        })
    }
}

/// The key of the blob with that salt (HKDF-SHA256, RFC 5869).
fn key(root: &[u8; 32], salt: &[u8; SALT]) -> Option<RandomizedNonceKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(root);
    derived.expand(&[LABEL], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut *bytes)).ok()?;
    RandomizedNonceKey::new(&AES_256_GCM, &*bytes).ok()
}

impl fmt::Debug for BlobSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobSealer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(roots: &[u8]) -> BlobSealer {
        BlobSealer::new(roots.iter().map(|root| Zeroizing::new([*root; 32])).collect())
    }

    #[test]
    fn a_blob_opens_for_the_same_thing_alone_and_after_a_rotation() {
        let (old, new) = (sealer(&[1]), sealer(&[2, 1]));
        let sealed = old.seal(b"bound", b"a body").unwrap();
        assert_eq!(new.open(b"bound", &sealed).unwrap().as_slice(), b"a body");
        assert_eq!((new.open(b"other", &sealed), sealer(&[2]).open(b"bound", &sealed)), (None, None));
        assert_ne!(sealed, old.seal(b"bound", b"a body").unwrap(), "no two look alike");
        assert!(!sealed.windows(6).any(|part| part == b"a body"));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(old.open(b"bound", &changed), None, "byte {at}");
            assert_eq!(old.open(b"bound", &sealed[..at]), None);
        }
    }
}
