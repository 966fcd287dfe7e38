//! Nonces that the gate gives out (RFC 9449, 8 and 9), so that a proof was made lately, whatever the
//! client's clock says, and not in advance by somebody who had the key for a moment.
//!
//! A nonce is the number of a stretch of time and its MAC: every replica gives out the same, and none
//! has to remember any.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{secrets::Mac, time::Timestamp};

/// How long a nonce is given out; it is taken for as long again.
const STRETCH: Duration = Duration::from_secs(120);

/// Gives out nonces and knows its own.
#[derive(Debug, Clone)]
pub struct Nonces(Mac);

impl Nonces {
    /// Nonces that are sealed with `mac`.
    #[must_use]
    pub const fn new(mac: Mac) -> Self {
        Self(mac)
    }

    /// The nonce that a client is to use now.
    #[must_use]
    pub fn current(&self, now: Timestamp) -> String {
        let number = (now.as_secs() / STRETCH.as_secs()).to_be_bytes();
        URL_SAFE_NO_PAD.encode([&number[..], &self.0.tag(&number)].concat())
    }

    /// Whether a nonce was given out by a gate with these keys, in this stretch or the one before.
    #[must_use]
    pub fn stands(&self, nonce: &str, now: Timestamp) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(nonce) else { return false };
        let Some((number, tag)) = bytes.split_first_chunk::<8>() else { return false };
        let age = (now.as_secs() / STRETCH.as_secs()).checked_sub(u64::from_be_bytes(*number));
        age.is_some_and(|age| age <= 1) && self.0.verify(number, tag)
    }
}
