//! `clutch`, checked, its secret still a reference.

use std::{net::SocketAddr, sync::Arc};

use super::{super::values::BaseUrl, Reference};
use crate::gates::approvals::Speaker;

/// What the gate has to do with a Clutch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clutch {
    /// The issuer of its users.
    pub people: String,
    /// The claim that says what it calls them.
    pub claim: String,
    /// Who asks for approvals in their names.
    pub speaker: Option<Speaker>,
    /// Where it is asked for its opinion.
    pub check: Option<ClutchCheck>,
}

/// Where Clutch's own opinion is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClutchCheck {
    /// Scheme, host and port.
    pub url: BaseUrl,
    /// The path.
    pub path: String,
    /// A token of its own kind.
    pub token: Option<Reference>,
    /// Connect here instead of resolving the name.
    pub address: Option<SocketAddr>,
    /// Roots besides the system's, PEM.
    pub trust: Option<Arc<[u8]>>,
}
