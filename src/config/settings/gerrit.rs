//! `gerrit`, checked, its secret still a reference.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{super::values::BaseUrl, Inlet, Reference};
use crate::gates::review::people::People;

/// Who is asked whether code was reviewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gerrit {
    /// Its name in policies and records.
    pub name: Arc<str>,
    /// Scheme, host and port.
    pub url: BaseUrl,
    /// The path below which it lies, without a slash at its end.
    pub base: String,
    /// The gate's own user there.
    pub user: String,
    /// The user's token.
    pub token: Reference,
    /// How accounts are known to be people.
    pub people: People,
    /// Connect here instead of resolving the name.
    pub address: Option<SocketAddr>,
    /// Roots besides the system's, PEM.
    pub trust: Option<Arc<[u8]>>,
    /// Where its webhooks plugin tells what happens.
    pub hook: Option<Inlet>,
    /// The branches whose merges are read: project and branch.
    pub watch: Vec<(Arc<str>, Arc<str>)>,
    /// How often, where nobody hints at anything.
    pub poll: Duration,
}

impl Gerrit {
    /// Its URL for people, without a slash at its end.
    #[must_use]
    pub fn web(&self) -> String {
        self.url.to_text() + &self.base
    }
}
