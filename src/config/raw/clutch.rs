//! `clutch` as it is written: what the gate has to do with a Clutch.

use serde::Deserialize;

use super::{Reference, Text, Trust};
use crate::yaml::Spanned;

/// `clutch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clutch {
    /// How its users are called.
    pub users: Spanned<Users>,
    /// As whom its proxy asks for approvals in their names.
    pub service: Option<Spanned<Service>>,
    /// Where it is asked for its own opinion.
    pub check: Option<Spanned<Check>>,
}

/// `clutch.service`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The issuer of its token.
    pub issuer: Text,
    /// Its subject there, to the letter.
    pub subject: Text,
}

/// `clutch.users`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// The issuer of their tokens.
    pub issuer: Text,
    /// The claim that says what Clutch calls them; `email` by default.
    pub claim: Option<Text>,
    /// The header that names them, where not only the body does.
    pub header: Option<Text>,
}

/// `clutch.check`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Where Clutch lies.
    pub url: Text,
    /// A token of its own kind.
    pub token: Option<Spanned<Reference>>,
    /// Connect here instead of resolving the name.
    pub address: Option<Text>,
    /// Extra roots.
    pub trust: Option<Spanned<Trust>>,
}
