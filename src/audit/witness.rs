//! Witnesses: others who vouch that a log only ever grew (C2SP tlog-cosignature and tlog-witness).
//!
//! Pure: what a witness answers is decided here over what it saw last; who keeps that and who sends
//! it is elsewhere.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

use super::{
    merkle::Range,
    note::{self, Head, NoteError, VerifierKeys},
    proof,
    proved::Consistency,
};
use crate::time::Timestamp;

/// The algorithm's byte in the ids and keys of cosignatures.
const COSIGNATURE: u8 = 4;
/// The longest request that a witness reads: 63 hashes and a note with several signatures.
pub const MAX_REQUEST: usize = 16 << 10;

/// Signs what a witness saw.
pub struct Cosigner {
    name: String,
    key: Ed25519KeyPair,
}

/// Checks what a witness signed: the public half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    public: Vec<u8>,
}

/// Why a witness does not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400.
    #[error("the request is not one: {0}")]
    Malformed(&'static str),
    /// 403.
    #[error("the head is not signed by its log")]
    Signature,
    /// 404.
    #[error("the log is not one that is witnessed here")]
    Unknown,
    /// 409, with the size that was cosigned last.
    #[error("the newest head that was cosigned counts {0} records")]
    Conflict(u64),
    /// 422.
    #[error("the head does not go on where the one before it ended")]
    Inconsistent,
}

impl Cosigner {
    /// From an Ed25519 key in PKCS#8 PEM.
    ///
    /// # Errors
    /// [`NoteError::SigningKey`].
    pub fn from_pem(name: &str, pem: &[u8]) -> Result<Self, NoteError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| NoteError::SigningKey)?;
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|_| NoteError::SigningKey)?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> WitnessKey {
        WitnessKey { name: self.name.clone(), public: self.key.public_key().as_ref().to_vec() }
    }

    /// The line that vouches for a note's text at a time.
    #[must_use]
    pub fn cosign(&self, text: &str, now: Timestamp) -> String {
        let time = now.as_secs();
        let mut bytes = key_id(&self.name, self.key.public_key().as_ref()).to_vec();
        bytes.extend_from_slice(&time.to_be_bytes());
        bytes.extend_from_slice(self.key.sign(message(text, time).as_bytes()).as_ref());
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode(bytes))
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosigner({})", self.name)
    }
}

impl WitnessKey {
    /// From `NAME+HASH+KEY`, as it is printed.
    ///
    /// # Errors
    /// [`NoteError::VerifierKey`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let wrong = || NoteError::VerifierKey(text.trim().chars().take(120).collect());
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        let bytes = STANDARD.decode(key).map_err(|_| wrong())?;
        let Some((&COSIGNATURE, public)) = bytes.split_first() else { return Err(wrong()) };
        if name.is_empty() || public.len() != 32 || note::hex(&key_id(name, public)) != id {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), public: public.to_vec() })
    }

    /// The witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When this witness vouched for a note, if it did.
    #[must_use]
    pub fn vouched(&self, note: &str) -> Option<Timestamp> {
        let (text, signatures) = note.split_once("\n\n")?;
        let text = format!("{text}\n");
        signatures.lines().take(64).find_map(|line| {
            let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            let bytes = STANDARD.decode(signature).ok()?;
            let rest = bytes.strip_prefix(&key_id(&self.name, &self.public)).filter(|_| name == self.name)?;
            let (time, signature) = rest.split_first_chunk::<8>()?;
            let time = u64::from_be_bytes(*time);
            let key = UnparsedPublicKey::new(&ED25519, &self.public);
            key.verify(message(&text, time).as_bytes(), signature).ok()?;
            Some(Timestamp::from_secs(time))
        })
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![COSIGNATURE];
        bytes.extend_from_slice(&self.public);
        let id = note::hex(&key_id(&self.name, &self.public));
        write!(f, "{}+{id}+{}", self.name, STANDARD.encode(bytes))
    }
}

fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

fn key_id(name: &str, public: &[u8]) -> [u8; 4] {
    let mut bytes = name.as_bytes().to_vec();
    bytes.extend_from_slice(&[b'\n', COSIGNATURE]);
    bytes.extend_from_slice(public);
    let mut id = [0; 4];
    for (to, from) in id.iter_mut().zip(digest(&SHA256, &bytes).as_ref()) {
        *to = *from;
    }
    id
}

/// The witnesses, of those given, that vouched for a note, each once, and when.
#[must_use]
pub fn vouchers<'k>(note: &str, keys: &'k [WitnessKey]) -> Vec<(&'k WitnessKey, Timestamp)> {
    let mut found: Vec<(&WitnessKey, Timestamp)> = Vec::new();
    for key in keys {
        if found.iter().all(|(known, _)| known.public != key.public)
            && let Some(time) = key.vouched(note)
        {
            found.push((key, time));
        }
    }
    found
}

/// What a witness makes of an `add-checkpoint` request: the head and its note, to be kept before they
/// are cosigned. `latest` tells the head that it cosigned last for a log.
///
/// # Errors
/// [`Refusal`]; nothing is to be signed then.
pub fn judge(
    request: &str,
    logs: &VerifierKeys,
    latest: impl FnOnce(&str) -> Option<Head>,
) -> Result<(Head, String), Refusal> {
    if request.len() > MAX_REQUEST {
        return Err(Refusal::Malformed("it is too large"));
    }
    let grown =
        Consistency::parse(request).map_err(|_| Refusal::Malformed("it is not a proof and a head"))?;
    let keys = logs.of(note::claimed_origin(&grown.checkpoint));
    if keys.newest().is_none() {
        return Err(Refusal::Unknown);
    }
    let (head, _) = keys.open(&grown.checkpoint, 0).map_err(|_| Refusal::Signature)?;
    if grown.old > head.size {
        return Err(Refusal::Malformed("the old size is larger than the new one"));
    }
    let empty = Range::default().root();
    let before = latest(&head.origin);
    let (size, root) = before.map_or((0, empty), |before| (before.size, before.root));
    if grown.old != size {
        return Err(Refusal::Conflict(size));
    }
    let fits = proof::extends(size, &root, head.size, &head.root, &grown.path);
    if !fits || (head.size == 0 && head.root != empty) {
        return Err(Refusal::Inconsistent);
    }
    Ok((head, grown.checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{
        merkle::{Hash, leaf},
        note::{Signer, tests::signer},
    };

    fn cosigner(name: &str) -> Cosigner {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        Cosigner::from_pem(name, key.serialize_pem().as_bytes()).unwrap()
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf(&n.to_be_bytes())).collect()
    }

    fn head(log: &Signer, leaves: &[Hash]) -> String {
        let mut range = Range::default();
        leaves.iter().for_each(|l| range.push(*l));
        log.sign(range.size(), &range.root())
    }

    fn asked(log: &Signer, old: u64, leaves: &[Hash]) -> String {
        let path = proof::consistency(&mut &leaves[..], old, leaves.len() as u64).unwrap();
        Consistency { old, path, checkpoint: head(log, leaves) }.to_string()
    }

    #[test]
    fn a_cosignature_vouches_for_one_head_at_one_time() {
        let (witness, log) = (cosigner("witness.example/w1"), signer());
        let note = head(&log, &leaves(5));
        let text = format!("{}\n", note.split_once("\n\n").unwrap().0);
        let signed = format!("{note}{}", witness.cosign(&text, Timestamp::from_secs(1_800_000_000)));
        let keys = [witness.verifier(), cosigner("witness.example/w2").verifier(), witness.verifier()];
        let found = vouchers(&signed, &keys);
        assert_eq!(found, [(&keys[0], Timestamp::from_secs(1_800_000_000))]);
        assert_eq!(WitnessKey::parse(&keys[0].to_string()).unwrap(), keys[0]);
        // The log's own signature stays good, and nothing of the cosignature can be changed.
        assert!(log.verifier().open(&signed).is_ok());
        let other = head(&log, &leaves(6));
        let moved = signed.replace(&note, &other);
        assert!(vouchers(&moved, &keys).is_empty());
        assert!(vouchers(&signed.replace("w1", "w2"), &keys).is_empty());
        assert!(WitnessKey::parse(&log.verifier().to_string()).is_err(), "a log's key is no witness's");
    }

    #[test]
    fn a_witness_signs_what_goes_on_where_it_saw_the_log_end_and_nothing_else() {
        let log = signer();
        let keys = VerifierKeys::from(log.verifier());
        let all = leaves(20);
        let seen = |count: u64| {
            let note = head(&log, &all[..count as usize]);
            move |_: &str| note::unverified(&note)
        };
        let never = |_: &str| None;
        assert_eq!(judge(&asked(&log, 0, &all[..7]), &keys, never).unwrap().0.size, 7);
        assert_eq!(judge(&asked(&log, 7, &all), &keys, seen(7)).unwrap().0.size, 20);
        assert_eq!(judge(&asked(&log, 20, &all), &keys, seen(20)).unwrap().0.size, 20, "the same again");
        assert_eq!(judge(&asked(&log, 0, &all), &keys, seen(7)).unwrap_err(), Refusal::Conflict(7));
        assert_eq!(judge(&asked(&log, 7, &all), &keys, never).unwrap_err(), Refusal::Conflict(0));
        let mut fork = all.clone();
        fork[3] = [9; 32];
        assert_eq!(judge(&asked(&log, 7, &fork), &keys, seen(7)).unwrap_err(), Refusal::Inconsistent);
        assert_eq!(judge(&asked(&log, 7, &fork[..7]), &keys, seen(7)).unwrap_err(), Refusal::Inconsistent);
        let shrunk = asked(&log, 7, &all).replace("old 7", "old 21");
        assert!(matches!(judge(&shrunk, &keys, seen(7)), Err(Refusal::Malformed(_))));
        let stranger = signer();
        assert_eq!(judge(&asked(&stranger, 0, &all), &keys, never).unwrap_err(), Refusal::Signature);
        assert_eq!(
            judge(&asked(&log, 0, &all), &VerifierKeys::default(), never).unwrap_err(),
            Refusal::Unknown
        );
        assert!(matches!(judge("nonsense", &keys, never), Err(Refusal::Malformed(_))));
    }
}
