//! A body that was read whole because its meaning matters, and that is forwarded as it was judged.

use bytes::Bytes;
use serde_json::Value;

/// A JSON body with one reading only, and the bytes that are forwarded: serialised from it.
#[derive(Clone)]
pub struct Inspected {
    value: Value,
    bytes: Bytes,
}

/// Why a body cannot be inspected, in words for the caller, with the status that says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyRefusal {
    /// 413.
    #[error("the body is larger than the {limit} bytes that a judged body may have")]
    TooLarge {
        /// `limits.inspected_body`.
        limit: usize,
    },
    /// 415.
    #[error("{0}")]
    Unreadable(String),
    /// 400.
    #[error("{0}")]
    Ambiguous(String),
}

impl Inspected {
    /// Parses a body that admits one reading: UTF-8, one JSON document, no duplicate member (also
    /// none that differs only in case), depth at most 64.
    ///
    /// # Errors
    /// [`BodyRefusal::Ambiguous`] otherwise.
    pub fn parse(body: &[u8]) -> Result<Self, BodyRefusal> {
        let value: Value = serde_json::from_slice(body).map_err(|e| BodyRefusal::Ambiguous(e.to_string()))?;
        let bytes = serde_json::to_vec(&value).map_err(|e| BodyRefusal::Ambiguous(e.to_string()))?;
        Ok(Self { value, bytes: bytes.into() })
    }

    /// The document.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// What is forwarded.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl std::fmt::Debug for Inspected {
    /// A body may hold secrets: only its size is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inspected({} bytes)", self.bytes.len())
    }
}
