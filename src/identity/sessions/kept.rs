//! What is sealed: the sign-in under way in a browser, and a session's tokens in the store.

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::secrets::Sealer;

/// A sign-in under way.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    pub state: String,
    pub nonce: String,
    pub verifier: String,
    pub return_to: String,
    pub expires: u64,
}

impl Pending {
    pub fn seal(&self, sealer: &Sealer) -> Option<String> {
        let text = Zeroizing::new(serde_json::to_vec(self).ok()?);
        sealer.seal(b"sign-in", &text)
    }

    pub fn open(sealer: &Sealer, sealed: &str) -> Option<Self> {
        serde_json::from_slice(&sealer.open(b"sign-in", sealed)?).ok()
    }
}

/// A session's tokens.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// By which the person is a caller.
    pub token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<String>,
    /// For the issuer's sign-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
    /// `sub` of the ID token.
    pub subject: String,
    /// `sid` of the ID token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_session: Option<String>,
    /// When `token` ends, in milliseconds.
    pub ends: u64,
}

impl Kept {
    /// Sealed for one session: in another's row it does not open.
    pub fn seal(&self, sealer: &Sealer, session: &str) -> Option<String> {
        let text = Zeroizing::new(serde_json::to_vec(self).ok()?);
        sealer.seal(session.as_bytes(), &text)
    }

    pub fn open(sealer: &Sealer, session: &str, sealed: &str) -> Option<Self> {
        serde_json::from_slice(&sealer.open(session.as_bytes(), sealed)?).ok()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.token.zeroize();
        self.refresh.zeroize();
        self.id_token.zeroize();
    }
}
