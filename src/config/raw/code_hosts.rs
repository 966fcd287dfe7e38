//! `github` and `gitlab` as they are written: who else is asked whether code was reviewed.

use serde::Deserialize;

use super::{Reference, Text, Trust};
use crate::yaml::Spanned;

/// One of `github` or `gitlab`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeHost {
    /// Its name in policies and records.
    pub name: Text,
    /// Where its API lies; github.com's or gitlab.com's by default.
    pub url: Option<Text>,
    /// A token of the gate's own.
    pub token: Spanned<Reference>,
    /// Whose votes count, and who they are.
    #[serde(default)]
    pub accounts: Vec<Spanned<HostAccount>>,
    /// Connect here instead of resolving the name.
    pub address: Option<Text>,
    /// Extra roots.
    pub trust: Option<Spanned<Trust>>,
}

/// One of `accounts`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostAccount {
    /// The account's number.
    pub id: Spanned<u64>,
    /// Its person's object id at the canonical issuer of `people`.
    pub person: Text,
}
