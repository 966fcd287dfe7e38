//! Who may tell the gate something without being asked, checked, the secret still a reference.

use std::{sync::Arc, time::Duration};

use super::Reference;

/// A path that is not for callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inlet {
    /// What stands at its end.
    pub secret: Reference,
    /// Whence it is told something; from everywhere if there is none.
    pub from: Vec<ipnet::IpNet>,
    /// Whether whoever tells something shows a certificate of the listener's `client_ca`.
    pub client_certificate: bool,
}

/// Where Azure tells of models and runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureEvents {
    /// Its name in paths and records.
    pub name: Arc<str>,
    /// Its path.
    pub inlet: Inlet,
    /// How long a model that was registered may be without a statement.
    pub grace: Duration,
}
