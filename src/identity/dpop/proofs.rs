//! Proofs as a gate judges them: by its window and nonces, and each once.

use std::sync::Arc;

use super::{BadProof, Demand, Nonces, Replays, Seen, Window, verify};
use crate::time::Timestamp;

/// What a gate holds to judge proofs. Shared by all cores.
#[derive(Debug, Clone)]
pub struct Proofs {
    replays: Arc<Replays>,
    nonces: Nonces,
    window: Window,
}

/// The request that a proof comes with.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a str,
    /// By which URLs its target is known outside.
    pub urls: &'a [String],
    /// Its token; none where a token is asked for.
    pub token: Option<&'a str>,
    /// Whether a nonce is demanded.
    pub nonce: bool,
    /// The time.
    pub now: Timestamp,
}

/// Why nothing is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The proof does not hold.
    #[error(transparent)]
    Bad(#[from] BadProof),
    /// It was used before.
    #[error("the `DPoP` proof was used before")]
    Replayed,
    /// It cannot be remembered, so that it could be used again.
    #[error("the gate cannot remember another `DPoP` proof now")]
    Full,
}

impl Proofs {
    /// Remembers used proofs in `replays`; gives out `nonces`.
    #[must_use]
    pub const fn new(replays: Arc<Replays>, nonces: Nonces, window: Window) -> Self {
        Self { replays, nonces, window }
    }

    /// The same memory under other keys and times.
    #[must_use]
    pub fn reshaped(&self, nonces: Nonces, window: Window) -> Self {
        Self::new(Arc::clone(&self.replays), nonces, window)
    }

    /// The nonce that a client is to use now.
    #[must_use]
    pub fn nonce(&self, now: Timestamp) -> String {
        self.nonces.current(now)
    }

    /// The thumbprint of the key whose proof holds and was not used before; it is used with this.
    ///
    /// # Errors
    /// [`Unproven`].
    pub fn judge(&self, proof: Result<&str, BadProof>, asked: &Asked<'_>) -> Result<Box<str>, Unproven> {
        let demand = Demand {
            method: asked.method,
            urls: asked.urls,
            token: asked.token,
            nonces: asked.nonce.then_some(&self.nonces),
            window: self.window,
            now: asked.now,
        };
        let proof = verify(proof?, &demand)?;
        match self.replays.first_use(&proof.id, proof.until, asked.now) {
            Seen::First => Ok(proof.thumbprint),
            Seen::Before => Err(Unproven::Replayed),
            Seen::Full => Err(Unproven::Full),
        }
    }
}
