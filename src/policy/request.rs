//! The circumstances of a request that entries may read.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::{HeaderMap, Method};

use crate::{azureml::Inspected, http::Target, time::Timestamp};

/// Names one decision in answers, records, traces and the console: UUID version 7.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionId(uuid::Uuid);

impl DecisionId {
    /// A fresh id, sortable by time.
    #[must_use]
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    /// From the form that answers and records have.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string() == text).map(Self)
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One request, as it is judged, recorded and forwarded. Secrets are removed before it is made:
/// the headers here hold no credential.
#[derive(Debug, Clone)]
pub struct RequestFacts {
    /// The decision's id.
    pub decision: DecisionId,
    /// The route's name.
    pub route: Arc<str>,
    /// The method.
    pub method: Method,
    /// The target, the route's prefix removed.
    pub target: Target,
    /// Request headers without credentials.
    pub headers: HeaderMap,
    /// The body, where it was inspected.
    pub body: Option<Arc<Inspected>>,
    /// The caller's address, after trusted proxies.
    pub source: SocketAddr,
    /// When the head arrived.
    pub received: Timestamp,
}
