//! The keys of one issuer, vetted when they are loaded: RFC 7517, 7518, 8037.
//!
//! The verifying library takes any key that it is handed: weak, mislabelled, meant for encryption.
//! So each key is judged here once, and only a fit one becomes a [`Key`]. A key that is not fit is
//! left out with a note for the operator; the others stay, because an issuer may publish keys that
//! are none of the gate's business.

use std::{collections::HashMap, fmt};

use aws_lc_rs::{digest, signature};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use super::{json, settings::SignatureAlgorithm};

/// The largest document of keys that is read, in bytes.
pub const MAX_DOCUMENT: usize = 512 << 10;
/// More keys than this are no key set.
const MAX_KEYS: usize = 200;
/// How deep the document may nest.
const MAX_DEPTH: u8 = 16;
/// RSA below this is weak; above the second the library refuses.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// A key that may verify tokens.
#[derive(Clone)]
pub struct Key {
    id: Box<str>,
    kind: Kind,
    only: Option<SignatureAlgorithm>,
    digest: [u8; 32],
    decoding: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Key {
    /// The key that a proof of possession brings along: as fit as a published one, but nobody vouches
    /// for it.
    pub(super) fn embedded(entry: &Map<String, Value>) -> Option<Self> {
        vet(entry, Some("embedded")).ok()
    }

    /// Its `kid`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it may verify signatures of this algorithm: by its type, its curve and its `alg`.
    #[must_use]
    pub fn fits(&self, algorithm: SignatureAlgorithm) -> bool {
        self.only.is_none_or(|only| only == algorithm) && self.kind.fits(algorithm)
    }

    /// Verifies a signature (base64url) over `signed`.
    pub(super) fn verifies(&self, algorithm: SignatureAlgorithm, signed: &str, signature: &str) -> bool {
        self.fits(algorithm)
            && jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.decoding, algorithm.jose())
                .unwrap_or(false)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {:?})", self.id, self.kind)
    }
}

impl Kind {
    const fn fits(self, algorithm: SignatureAlgorithm) -> bool {
        match algorithm {
            SignatureAlgorithm::Rs256
            | SignatureAlgorithm::Rs384
            | SignatureAlgorithm::Rs512
            | SignatureAlgorithm::Ps256
            | SignatureAlgorithm::Ps384
            | SignatureAlgorithm::Ps512 => matches!(self, Self::Rsa),
            SignatureAlgorithm::Es256 => matches!(self, Self::P256),
            SignatureAlgorithm::Es384 => matches!(self, Self::P384),
            SignatureAlgorithm::EdDsa => matches!(self, Self::Ed25519),
        }
    }
}

/// The vetted keys of one issuer.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: HashMap<Box<str>, Key>,
    notes: Vec<Note>,
}

/// A published key that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its `kid`, or its place in the list.
    pub key: Box<str>,
    /// Why it is not used.
    pub why: &'static str,
}

/// Why a document is no key set at all.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Too long.
    #[error("the key set is longer than {MAX_DOCUMENT} bytes")]
    TooLong,
    /// Not one JSON object of one reading.
    #[error("the key set is not a JSON object of one reading")]
    Json(#[from] serde_json::Error),
    /// `keys` is no list of at most 200 objects.
    #[error("the key set has no list `keys` of at most {MAX_KEYS} keys")]
    Shape,
}

impl KeySet {
    /// Reads and vets a JSON Web Key Set.
    ///
    /// # Errors
    /// [`KeySetError`] if the document as a whole is unusable. A set in which no key is fit is a
    /// set: the issuer said so.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > MAX_DOCUMENT {
            return Err(KeySetError::TooLong);
        }
        let map = json::object(document, MAX_DEPTH)?;
        let Some(Value::Array(list)) = map.get("keys") else { return Err(KeySetError::Shape) };
        if list.len() > MAX_KEYS || !list.iter().all(Value::is_object) {
            return Err(KeySetError::Shape);
        }
        let mut set = Self::default();
        // `None` stands for a `kid` that is taken by a key that is not used, so that whoever
        // bears the same name after it is refused as well.
        let mut seen: HashMap<Box<str>, Option<Key>> = HashMap::new();
        for (place, entry) in list.iter().filter_map(Value::as_object).enumerate() {
            let id = entry.get("kid").and_then(Value::as_str).filter(|id| !id.is_empty() && id.len() <= 256);
            let mut note = |why| {
                let key = id.map_or_else(|| format!("#{}", place + 1).into(), Into::into);
                set.notes.push(Note { key, why });
            };
            let fit = vet(entry, id);
            if let Err(why) = &fit {
                note(why);
            }
            let Some(id) = id else { continue };
            match seen.get_mut(id) {
                None => {
                    seen.insert(id.into(), fit.ok());
                }
                Some(first) => {
                    let same = matches!((&first, &fit), (Some(a), Ok(b)) if a.digest == b.digest && a.only == b.only);
                    if !same {
                        *first = None;
                        note("another key has the same `kid`: neither is used");
                    }
                }
            }
        }
        set.keys = seen.into_iter().filter_map(|(id, key)| Some((id, key?))).collect();
        Ok(set)
    }

    /// The key of this id, to the letter.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    /// How many keys are used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Which are not, and why.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The ids of the keys that are used, sorted.
    #[must_use]
    pub fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.keys.keys().map(AsRef::as_ref).collect();
        ids.sort_unstable();
        ids
    }

    /// Whether every key of `self` is still in `newer`, unchanged: if not, whoever was verified
    /// with one must be verified again.
    pub(super) fn survives_in(&self, newer: &Self) -> bool {
        self.keys.values().all(|key| {
            newer.find(&key.id).is_some_and(|new| new.digest == key.digest && new.only == key.only)
        })
    }
}

/// Judges one key.
fn vet(entry: &Map<String, Value>, id: Option<&str>) -> Result<Key, &'static str> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let kty = text("kty").ok_or("`kty` is missing")?;
    if kty == "oct" {
        return Err("a symmetric key has no business in a public key set");
    }
    if ["d", "p", "q", "dp", "dq", "qi", "k", "oth", "priv"].iter().any(|name| entry.contains_key(*name)) {
        return Err("its private part is published: it vouches for nothing");
    }
    match entry.get("use") {
        None => {}
        Some(Value::String(usage)) if usage == "sig" => {}
        Some(_) => return Err("`use` is not `sig`"),
    }
    match entry.get("key_ops") {
        None => {}
        Some(Value::Array(ops)) if ops.iter().any(|op| op == "verify") => {}
        Some(_) => return Err("`key_ops` does not hold `verify`"),
    }
    let only = match entry.get("alg") {
        None => None,
        Some(Value::String(name)) => Some(
            name.parse::<SignatureAlgorithm>()
                .map_err(|_| "`alg` is no signature algorithm that is accepted")?,
        ),
        Some(_) => return Err("`alg` is not a string"),
    };
    let bytes = |name: &str| {
        text(name)
            .and_then(|t| URL_SAFE_NO_PAD.decode(t).ok())
            .ok_or("its numbers are missing or not base64url")
    };
    let (kind, material, decoding) = match (kty, text("crv")) {
        ("RSA", None) => rsa(&bytes("n")?, &bytes("e")?)?,
        ("EC", Some(curve)) => elliptic(curve, &bytes("x")?, &bytes("y")?)?,
        ("OKP", Some("Ed25519")) => edwards(&bytes("x")?)?,
        ("RSA", Some(_)) => return Err("an RSA key with a curve is mislabelled"),
        ("OKP", Some(_)) => return Err("its curve is not supported"),
        ("EC" | "OKP", None) => return Err("`crv` is missing"),
        _ => return Err("its type is not supported"),
    };
    if only.is_some_and(|only| !kind.fits(only)) {
        return Err("`kty`, `crv` and `alg` do not agree");
    }
    let id = id.ok_or("`kid` is missing, empty, too long or no string")?.into();
    let digest = digest::digest(&digest::SHA256, &material);
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest.as_ref());
    Ok(Key { id, kind, only, digest: fingerprint, decoding })
}

type Fit = Result<(Kind, Vec<u8>, DecodingKey), &'static str>;

fn rsa(n: &[u8], e: &[u8]) -> Fit {
    // Leading zero octets are against RFC 7518, 6.3.1.1, but common, and they change no value.
    let trim = |bytes: &[u8]| bytes.iter().copied().skip_while(|b| *b == 0).collect::<Vec<u8>>();
    let (n, e) = (trim(n), trim(e));
    let bits = n.first().map_or(0, |top| n.len() * 8 - top.leading_zeros() as usize);
    if bits < *RSA_BITS.start() {
        return Err("an RSA modulus of fewer than 2048 bits is weak");
    }
    if bits > *RSA_BITS.end() {
        return Err("an RSA modulus of more than 8192 bits is not supported");
    }
    if n.last().is_none_or(|low| low % 2 == 0) {
        return Err("an even RSA modulus is no product of two large primes");
    }
    if e.last().is_none_or(|low| low % 2 == 0) || e == [1] {
        return Err("the RSA exponent is even or 1");
    }
    if e.len() > 4 {
        return Err("the RSA exponent is longer than 32 bits");
    }
    if roca::vulnerable(&n) {
        return Err("its modulus bears the mark of a broken key generator (CVE-2017-15361)");
    }
    let parts = signature::RsaPublicKeyComponents { n: &n, e: &e };
    parts
        .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| "the cryptographic library refuses it")?;
    let mut material = n.clone();
    material.push(0);
    material.extend_from_slice(&e);
    Ok((Kind::Rsa, material, DecodingKey::from_rsa_raw_components(&n, &e)))
}

fn elliptic(curve: &str, x: &[u8], y: &[u8]) -> Fit {
    let (kind, width, algorithm): (_, _, &'static signature::EcdsaVerificationAlgorithm) = match curve {
        "P-256" => (Kind::P256, 32, &signature::ECDSA_P256_SHA256_FIXED),
        "P-384" => (Kind::P384, 48, &signature::ECDSA_P384_SHA384_FIXED),
        _ => return Err("its curve is not supported"),
    };
    if x.len() != width || y.len() != width {
        return Err("its coordinates do not fit its curve");
    }
    // Uncompressed point, SEC 1 section 2.3.3.
    let point = [&[4], x, y].concat();
    signature::ParsedPublicKey::new(algorithm, &point).map_err(|_| "its point is not on its curve")?;
    let decoding = DecodingKey::from_ec_der(&point);
    Ok((kind, point, decoding))
}

fn edwards(x: &[u8]) -> Fit {
    if x.len() != 32 {
        return Err("its coordinate does not fit its curve");
    }
    signature::ParsedPublicKey::new(&signature::ED25519, x).map_err(|_| "its point is not on its curve")?;
    Ok((Kind::Ed25519, x.to_vec(), DecodingKey::from_ed_der(x)))
}

/// The published fingerprint of moduli from one broken generator: modulo each of these primes they
/// are powers of 65537. An honest modulus is one with a chance below 2^-27.
mod roca {
    const PRIMES: [u64; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101,
        103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];

    pub(super) fn vulnerable(modulus: &[u8]) -> bool {
        PRIMES.iter().all(|prime| {
            let rest = modulus.iter().fold(0, |rest, byte| (rest * 256 + u64::from(*byte)) % prime);
            let mut power = 1;
            for _ in 0..*prime {
                if power == rest {
                    return true;
                }
                power = power * 65_537 % prime;
            }
            false
        })
    }
}
