//! `evidence` as it is written: statements of where models came from.

use serde::Deserialize;

use super::{Reference, Text};
use crate::yaml::Spanned;

/// `evidence`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The key that signs statements: Ed25519 or P-256.
    pub signing_key: Spanned<Reference>,
    /// Files of public keys that signed before; what they signed is still believed.
    #[serde(default)]
    pub previous: Vec<Text>,
    /// The URI by which statements name the gate; the reverse proxy's URL by default.
    pub gate: Option<Text>,
}
