//! Who may tell the gate something without being asked, as it is written.

use serde::Deserialize;

use super::{Reference, Text};
use crate::yaml::Spanned;

/// `hook` of one of `gerrit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// What stands at the end of its path: nobody can guess it.
    pub path_secret: Spanned<Reference>,
    /// Whence it is told something.
    #[serde(default)]
    pub from: Vec<Text>,
    /// Whether whoever tells something shows a certificate of `listen.admin.tls.client_ca`.
    pub client_certificate: Option<Spanned<bool>>,
}

/// One of `azure_events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AzureEvents {
    /// Its name in paths and records.
    pub name: Text,
    /// What stands at the end of its path: nobody can guess it.
    pub path_secret: Spanned<Reference>,
    /// Whence it is told something.
    #[serde(default)]
    pub from: Vec<Text>,
    /// Whether whoever tells something shows a certificate of `listen.admin.tls.client_ca`.
    pub client_certificate: Option<Spanned<bool>>,
    /// How long a model that was registered may be without a statement.
    pub grace: Option<Text>,
}
