//! DSSE envelopes, version 1: who signed which bytes, taken for what.
//!
//! The signature is over the payload's type and bytes together, so that a payload is never taken for
//! something else. What an envelope calls a key is a hint and decides nothing: every signature is tried
//! under every key that the reader trusts.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde_json::Value;

use super::{
    keys::{KeyError, KeyId, PublicKey, SigningKey},
    statement::{Statement, StatementError},
    written::PAYLOAD_TYPE,
};
use crate::{audit::canonical::Line, http::legible, identity::json};

/// The most bytes of an envelope.
const MAX_ENVELOPE: usize = 512 << 10;
/// The most bytes of a file of envelopes.
pub const MAX_BUNDLE: usize = 4 << 20;
/// The most envelopes of a file.
const MAX_ENVELOPES: usize = 64;
/// The most signatures of an envelope.
const MAX_SIGNATURES: usize = 16;
/// Its nesting: the envelope, its signatures, one of them.
const DEPTH: u8 = 3;

/// An envelope that nobody has checked yet: its payload is out of reach.
#[derive(Debug, Clone)]
pub struct Envelope {
    payload: Vec<u8>,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone)]
struct Signature {
    keyid: Option<String>,
    sig: Vec<u8>,
}

/// What a key that the reader trusts vouches for.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The statement.
    pub statement: Statement,
    /// The keys whose signatures are good, each once.
    pub signers: Vec<KeyId>,
}

/// Why an envelope is refused: the check that failed.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Too much to look at.
    #[error("it is larger than {0}")]
    Large(&'static str),
    /// Not JSON, or JSON that has more than one reading.
    #[error("it is not an envelope: {0}")]
    Json(serde_json::Error),
    /// JSON of another form.
    #[error("it is not a DSSE envelope: {0}")]
    Form(&'static str),
    /// Signed by others, if at all.
    #[error("no signature is of a key that is trusted here: it names {}, trusted are {}", .named.join(", "), .trusted.join(", "))]
    Stranger {
        /// What it calls its keys.
        named: Vec<String>,
        /// The keys of the reader.
        trusted: Vec<String>,
    },
    /// Changed after it was signed, or never signed by the key that it names.
    #[error("the signature is not good: the payload or its type is not what the key {0} signed")]
    Signature(String),
    /// Signed well, but no statement.
    #[error("the signature is good, but the payload is `{0}`, not `{PAYLOAD_TYPE}`")]
    PayloadType(String),
    /// Signed well, but no statement.
    #[error("the signature is good, but the payload is not an in-toto statement: {0}")]
    Statement(#[from] StatementError),
}

/// What is signed: the pre-authentication encoding.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// Signs a statement: the envelope as canonical JSON. By the same key, Ed25519 gives the same bytes
/// each time, ECDSA does not.
///
/// # Errors
/// [`KeyError::Failed`].
pub fn seal(statement: &[u8], key: &SigningKey) -> Result<Vec<u8>, KeyError> {
    let signature = STANDARD.encode(key.sign(&pae(PAYLOAD_TYPE, statement))?);
    let payload = STANDARD.encode(statement);
    Ok(Line::new(usize::MAX >> 2).object(|l| {
        l.text("payload", payload.as_str());
        l.word("payloadType", PAYLOAD_TYPE);
        l.list("signatures", [key.public()], |l, public| {
            l.text("keyid", public.id().as_str());
            l.text("sig", signature.as_str());
        });
    }))
}

/// The envelopes of a file, each with the number of its line, from 1: one as JSON, or one a line
/// (in-toto's bundle).
///
/// # Errors
/// [`EnvelopeError`] of the first line that is none, with its number.
pub fn bundle(text: &[u8]) -> Result<Vec<(usize, Envelope)>, (usize, EnvelopeError)> {
    if text.len() > MAX_BUNDLE {
        return Err((1, EnvelopeError::Large("4 MiB, as a file of envelopes may be")));
    }
    let filled = |line: &&[u8]| !line.trim_ascii().is_empty();
    let whole = |line: &[u8]| line.trim_ascii().starts_with(b"{") && line.trim_ascii().ends_with(b"}");
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    if lines.iter().copied().filter(filled).count() < 2 || !lines.iter().copied().filter(filled).all(whole) {
        return Envelope::parse(text.trim_ascii()).map(|one| vec![(1, one)]).map_err(|error| (1, error));
    }
    let mut envelopes = Vec::new();
    for (number, line) in (1..).zip(lines).filter(|(_, line)| filled(line)) {
        if envelopes.len() == MAX_ENVELOPES {
            return Err((number, EnvelopeError::Large("64 envelopes, as a file of them may have")));
        }
        envelopes.push((number, Envelope::parse(line.trim_ascii()).map_err(|error| (number, error))?));
    }
    Ok(envelopes)
}

impl Envelope {
    /// Reads one envelope.
    ///
    /// # Errors
    /// [`EnvelopeError::Large`], [`EnvelopeError::Json`] (duplicate members and nesting too), or
    /// [`EnvelopeError::Form`].
    pub fn parse(text: &[u8]) -> Result<Self, EnvelopeError> {
        if text.len() > MAX_ENVELOPE {
            return Err(EnvelopeError::Large("512 KiB, as an envelope may be"));
        }
        let envelope = json::object(text, DEPTH).map_err(EnvelopeError::Json)?;
        let string = |name: &str| envelope.get(name).and_then(Value::as_str);
        let payload_type = string("payloadType").ok_or(EnvelopeError::Form("it has no `payloadType`"))?;
        let payload = string("payload").ok_or(EnvelopeError::Form("it has no `payload`"))?;
        let payload = decoded(payload).ok_or(EnvelopeError::Form("its payload is not base64"))?;
        let signed = envelope.get("signatures").and_then(Value::as_array);
        let signed = signed.filter(|all| !all.is_empty()).ok_or(EnvelopeError::Form("nobody signed it"))?;
        if signed.len() > MAX_SIGNATURES {
            return Err(EnvelopeError::Large("16 signatures, as an envelope may have"));
        }
        let mut signatures = Vec::with_capacity(signed.len());
        for one in signed {
            let keyid = match one.get("keyid") {
                None | Some(Value::Null) => None,
                Some(Value::String(id)) => Some(id.clone()).filter(|id| !id.is_empty()),
                Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    return Err(EnvelopeError::Form("a `keyid` is not a string"));
                }
            };
            let sig = one.get("sig").and_then(Value::as_str).and_then(decoded);
            let sig = sig.ok_or(EnvelopeError::Form("a signature is not base64"))?;
            signatures.push(Signature { keyid, sig });
        }
        Ok(Self { payload, payload_type: payload_type.to_owned(), signatures })
    }

    /// Checks the signatures under the keys that the reader trusts, and reads the statement that they
    /// vouch for. One good signature is enough; bad ones of other keys say nothing.
    ///
    /// # Errors
    /// [`EnvelopeError::Stranger`], [`EnvelopeError::Signature`], [`EnvelopeError::PayloadType`] or
    /// [`EnvelopeError::Statement`], in this order: nothing is read before it is vouched for.
    pub fn open(&self, trusted: &[PublicKey]) -> Result<Opened, EnvelopeError> {
        let message = pae(&self.payload_type, &self.payload);
        let vouches = |key: &&PublicKey| self.signatures.iter().any(|s| key.verifies(&message, &s.sig));
        let mut signers: Vec<KeyId> = Vec::new();
        for key in trusted.iter().filter(vouches) {
            if !signers.contains(key.id()) {
                signers.push(key.id().clone());
            }
        }
        if signers.is_empty() {
            return Err(self.refused(trusted));
        }
        if self.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType(shortened(&self.payload_type)));
        }
        Ok(Opened { statement: Statement::parse(&self.payload)?, signers })
    }

    fn refused(&self, trusted: &[PublicKey]) -> EnvelopeError {
        let named =
            |key: &&PublicKey| self.signatures.iter().any(|s| s.keyid.as_deref() == Some(key.id().as_str()));
        match trusted.iter().find(named) {
            Some(key) => EnvelopeError::Signature(key.id().as_str().to_owned()),
            None => EnvelopeError::Stranger {
                named: self
                    .signatures
                    .iter()
                    .map(|s| s.keyid.as_deref().map_or_else(|| "no key".to_owned(), shortened))
                    .collect(),
                trusted: trusted.iter().map(|key| key.id().as_str().to_owned()).collect(),
            },
        }
    }
}

/// Either alphabet, as DSSE demands of verifiers; padded, and with no spare bits.
fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

/// What somebody else wrote, for a message of one line.
fn shortened(text: &str) -> String {
    legible(&text.chars().take(128).collect::<String>())
}
