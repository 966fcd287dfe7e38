//! Secrets, and references to them: they redact themselves and are wiped when dropped.

pub use secrecy::{ExposeSecret, SecretBox, SecretString};
