//! `evidence`, checked, its key still a reference.

use std::{path::PathBuf, sync::Arc};

use super::Reference;

/// How the gate states where models came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The key that signs.
    pub signing_key: Reference,
    /// Files of public keys that signed before.
    pub previous: Vec<PathBuf>,
    /// The URI by which statements name the gate.
    pub gate: Arc<str>,
}
