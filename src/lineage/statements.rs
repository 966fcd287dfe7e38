//! Stating what was decided: builds the statements of a model that was let in, signs and keeps them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};

use super::{
    Custody, CustodyError, KeyError, Opened, PublicKey, SigningKey, Statement,
    dsse::{Envelope, EnvelopeError, seal},
    provenance, summary,
};
use crate::{
    audit::{
        event::{Event, Signed},
        note::hex,
    },
    store::{StatementRow, Store, StoreError},
    time::Timestamp,
};

/// The gate's statements: made, kept, and checked when they are read again. Cheap to share.
#[derive(Debug)]
pub struct Statements {
    store: Store,
    keys: ArcSwap<Keys>,
}

/// What statements are signed with and checked by.
#[derive(Debug)]
pub struct Keys {
    signing: SigningKey,
    trusted: Vec<PublicKey>,
    gate: Arc<str>,
}

/// Why there is no statement.
#[derive(Debug, thiserror::Error)]
pub enum Unstated {
    /// The facts are none that could be stated.
    #[error(transparent)]
    Facts(#[from] CustodyError),
    /// It could not be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It could not be kept.
    #[error("the statement could not be kept: {0}")]
    Store(#[from] StoreError),
}

impl Unstated {
    /// Whether it may be another time.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Facts(_) => false,
            Self::Key(_) | Self::Store(_) => true,
        }
    }
}

impl Keys {
    /// Signs with one key, as the gate of this URI; what the others signed before is believed, too.
    #[must_use]
    pub fn new(signing: SigningKey, before: Vec<PublicKey>, gate: &str) -> Self {
        let trusted = std::iter::once(signing.public().clone()).chain(before).collect();
        Self { signing, trusted, gate: gate.into() }
    }

    /// The public halves: of the key that signs first.
    #[must_use]
    pub fn trusted(&self) -> &[PublicKey] {
        &self.trusted
    }
}

impl Statements {
    /// Statements in a store, signed with these keys.
    #[must_use]
    pub fn new(store: Store, keys: Keys) -> Self {
        Self { store, keys: ArcSwap::from_pointee(keys) }
    }

    /// Signs with other keys from here on.
    pub fn exchange(&self, keys: Keys) {
        self.keys.store(Arc::new(keys));
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The keys that are in force.
    #[must_use]
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// States a model that Azure has taken in. The event says what was signed, or why nothing was; it is
    /// for the caller to record, either way.
    ///
    /// One decision states a model once: what was stated first stays, and the event tells of that.
    pub async fn made(&self, custody: &Custody, now: Timestamp) -> Event {
        let stated = self.state(custody, now).await.map_err(|why| why.to_string());
        Self::told(custody, stated)
    }

    /// What is to be recorded of a model that was stated, or was not.
    #[must_use]
    pub fn told(custody: &Custody, stated: Result<Signed, String>) -> Event {
        let result = if stated.is_ok() { "made" } else { "failed" };
        metrics::counter!("amlgate_statements_total", "result" => result).increment(1);
        Event::Stated {
            model: custody.model.id.as_str().to_owned(),
            decision: custody.decided.decision.clone(),
            caller: custody.decided.caller.clone(),
            stated,
        }
    }

    /// States a model that Azure has taken in; what was signed. One decision states a model once: what was
    /// stated first stays.
    ///
    /// # Errors
    /// [`Unstated`].
    pub async fn state(&self, custody: &Custody, now: Timestamp) -> Result<Signed, Unstated> {
        let keys = self.keys();
        let first = seal(&provenance(custody, &keys.gate)?, &keys.signing)?;
        let first_digest = sha256(&first);
        let second = seal(&summary(custody, &keys.gate, &first_digest)?, &keys.signing)?;
        let signed = Signed {
            provenance: first_digest,
            summary: sha256(&second),
            digest: custody.model.digest(),
            key: keys.signing.public().id().to_string(),
        };
        // Canonical JSON is UTF-8.
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let row = StatementRow {
            id: hex(&first_digest),
            model: custody.model.id.folded().to_owned(),
            tail: custody.model.id.tail().to_owned(),
            named: custody.model.id.as_str().to_owned(),
            digest: signed.digest.clone(),
            decision: custody.decided.decision.clone(),
            made: now,
            provenance: text(first),
            summary: text(second),
        };
        let model = row.model.clone();
        if self.store.keep_statement(row).await? {
            return Ok(signed);
        }
        let kept = self.store.statements_of(&model, MOST).await?;
        let before = kept.iter().find(|row| row.decision == custody.decided.decision);
        Ok(before.map_or(signed, |row| Signed {
            provenance: sha256(row.provenance.as_bytes()),
            summary: sha256(row.summary.as_bytes()),
            digest: row.digest.clone(),
            key: named(&row.provenance),
        }))
    }
}

/// The most statements of one model that are looked at.
pub(super) const MOST: u32 = 16;

/// The key that an envelope names, which nobody has checked.
fn named(envelope: &str) -> String {
    let envelope = serde_json::from_str::<serde_json::Value>(envelope).unwrap_or_default();
    envelope.pointer("/signatures/0/keyid").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

/// A kept envelope, checked again under the keys that are believed: a store is no witness.
///
/// # Errors
/// [`EnvelopeError`].
pub fn checked(envelope: &str, keys: &Keys) -> Result<Statement, EnvelopeError> {
    let Opened { statement, .. } = Envelope::parse(envelope.as_bytes())?.open(&keys.trusted)?;
    Ok(statement)
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}
