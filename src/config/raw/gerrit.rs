//! `gerrit` as it is written: who is asked whether code was reviewed.

use serde::Deserialize;

use super::{Hook, Reference, Text, Trust};
use crate::yaml::Spanned;

/// One of `gerrit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gerrit {
    /// Its name in policies and records.
    pub name: Text,
    /// Where it lies; with a path, if it does below one.
    pub url: Text,
    /// The gate's own user there.
    pub user: Text,
    /// The user's token.
    pub token: Spanned<Reference>,
    /// How accounts are known to be people.
    pub accounts: Option<Spanned<Accounts>>,
    /// Connect here instead of resolving the name.
    pub address: Option<Text>,
    /// Extra roots.
    pub trust: Option<Spanned<Trust>>,
    /// Where its webhooks plugin tells what happens.
    pub hook: Option<Spanned<Hook>>,
    /// The branches whose merges are read.
    #[serde(default)]
    pub watch: Vec<Spanned<Watch>>,
    /// How often, where nobody hints at anything.
    pub poll: Option<Text>,
}

/// One of `gerrit.watch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The project.
    pub project: Text,
    /// The branch, without `refs/heads/`.
    pub branch: Text,
}

/// `gerrit.accounts`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// `external_id` or `email`.
    #[serde(rename = "match")]
    pub by: Text,
    /// The scheme of external ids; `azure-oauth` by default.
    pub scheme: Option<Text>,
}
