//! `github` and `gitlab`, checked, their secrets still references.

use std::{net::SocketAddr, sync::Arc};

use super::{super::values::BaseUrl, Reference};
use crate::{
    gates::review::accounts::Accounts,
    policy::review::{CodeHost, HostKind},
};

/// Who is asked whether code was reviewed, besides Gerrits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Which it is.
    pub kind: HostKind,
    /// Its name in policies and records.
    pub name: Arc<str>,
    /// Scheme, host and port.
    pub url: BaseUrl,
    /// The path below which its API lies, without a slash at its end.
    pub base: String,
    /// The gate's own token.
    pub token: Reference,
    /// Whose votes count, and who they are.
    pub accounts: Accounts,
    /// Connect here instead of resolving the name.
    pub address: Option<SocketAddr>,
    /// Roots besides the system's, PEM.
    pub trust: Option<Arc<[u8]>>,
}

impl Host {
    /// As policies name it.
    #[must_use]
    pub fn named(&self) -> CodeHost {
        self.kind.named(&self.name)
    }
}
