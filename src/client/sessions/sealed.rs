//! The file of sessions as it lies there where a keyring holds its key: AES-256-GCM, bound to what it is.

use std::sync::{Arc, Mutex, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::{Keyring, KeyringError};
use crate::secrets::{Purpose, Seal, Sealer};

/// The version of the file in this form.
const SEALED: u32 = 2;
/// What the seal is bound to.
const BOUND: &[u8] = b"sessions";

/// Whether the file can be read by whoever has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Sealed,
}

/// How sessions are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Sealed with a key that the keyring holds.
    Sealed,
    /// In a file that only its owner can read, as no keyring was asked or none was of use.
    Plain(Option<KeyringError>),
}

/// Why a sealed file cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// The keyring is of no use now.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// No keyring is asked.
    #[error("the keyring is left out")]
    NotAsked,
    /// The keyring has no such key, or another one.
    #[error("the keyring does not hold their key any more")]
    Lost,
}

impl Unopened {
    /// What to say of a keyring that need not be asked again.
    pub(super) fn silent(self) -> Option<Option<KeyringError>> {
        match self {
            Self::Keyring(why) => Some(Some(why)),
            Self::NotAsked => Some(None),
            Self::Lost => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    version: u32,
    sealed: String,
}

/// Opens and seals; what the keyring said once is remembered.
#[derive(Debug, Clone, Default)]
pub(super) struct Seals {
    keyring: Option<Keyring>,
    known: Arc<Mutex<Option<Arc<Sealer>>>>,
}

impl Seals {
    pub(super) fn by(keyring: Keyring) -> Self {
        Self { keyring: Some(keyring), known: Arc::default() }
    }

    fn known(&self) -> Option<Arc<Sealer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn know(&self, sealer: Option<Arc<Sealer>>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = sealer;
    }

    /// What is sealed in a text; nothing if it is no such text.
    pub(super) fn opened(&self, name: &str, text: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Unopened> {
        let Ok(Sealed { version: SEALED, sealed }) = serde_json::from_slice(text) else { return Ok(None) };
        if let Some(opened) = self.known().and_then(|known| known.open(BOUND, &sealed)) {
            return Ok(Some(opened));
        }
        // Another process may have signed out and in again, with another key.
        let keyring = self.keyring.as_ref().ok_or(Unopened::NotAsked)?;
        let sealer = keyring.find(name)?.as_ref().and_then(sealer).ok_or(Unopened::Lost)?;
        let opened = sealer.open(BOUND, &sealed).ok_or(Unopened::Lost)?;
        self.know(Some(sealer));
        Ok(Some(opened))
    }

    /// A text sealed with the key that opened the last one, or that was made.
    pub(super) fn sealed(&self, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let sealed = self.known().and_then(|known| known.seal(BOUND, text)).ok_or(Unopened::Lost)?;
        let file = serde_json::to_vec(&Sealed { version: SEALED, sealed }).map_err(|_| Unopened::Lost)?;
        Ok(Zeroizing::new(file))
    }

    /// Has a key: the keyring's, or a new one that it holds from now on.
    pub(super) fn made(&self, name: &str) -> Kept {
        let Some(keyring) = &self.keyring else { return Kept::Plain(None) };
        match Self::key(keyring, name) {
            Ok(sealer) => {
                self.know(Some(sealer));
                Kept::Sealed
            }
            Err(why) => Kept::Plain(Some(why)),
        }
    }

    fn key(keyring: &Keyring, name: &str) -> Result<Arc<Sealer>, KeyringError> {
        if let Some(sealer) = keyring.find(name)?.as_ref().and_then(sealer) {
            return Ok(sealer);
        }
        let mut bytes = Zeroizing::new([0_u8; 32]);
        aws_lc_rs::rand::fill(&mut *bytes)
            .map_err(|_| KeyringError::None("the system gave no randomness".to_owned()))?;
        keyring.keep(name, &SecretString::from(STANDARD.encode(*bytes)))?;
        // What it does not give back would seal the tokens from their owner too.
        let held = keyring.find(name)?.as_ref().and_then(sealer);
        held.ok_or_else(|| KeyringError::None("it does not hold what it was given".to_owned()))
    }

    /// Has no key any more, nor has the keyring.
    pub(super) fn gone(&self, name: &str) -> Result<(), KeyringError> {
        self.know(None);
        self.keyring.as_ref().map_or(Ok(()), |keyring| keyring.remove(name))
    }
}

/// Nothing for what is no key of here.
fn sealer(key: &SecretString) -> Option<Arc<Sealer>> {
    Some(Arc::new(Seal::new([key]).ok()?.sealer(Purpose::Kept)))
}
