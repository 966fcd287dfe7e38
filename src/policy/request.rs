//! The circumstances of a request that entries may read.

use std::{cell::RefCell, fmt, net::SocketAddr, sync::Arc};

use http::{HeaderMap, Method};

use crate::{
    azureml::Inspected,
    http::Target,
    time::{Clock as _, SystemClock, Timestamp},
};

/// Names one decision in answers, records, traces and the console: UUID version 7.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionId(uuid::Uuid);

impl DecisionId {
    /// A fresh id, sortable by time to the millisecond. Takes no lock that other cores share.
    #[must_use]
    pub fn fresh() -> Self {
        let millis = SystemClock.now().as_millis();
        Self(random().map_or_else(uuid::Uuid::now_v7, |random| {
            uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
        }))
    }

    /// The form that answers and records have, written into `place`.
    #[must_use]
    pub fn written<'p>(&self, place: &'p mut [u8; 36]) -> &'p str {
        self.0.hyphenated().encode_lower(place)
    }

    /// From the form that answers and records have.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string() == text).map(Self)
    }
}

/// The random part of an id. Ids are unique, not secret, so the system is asked once for many.
fn random() -> Option<[u8; 10]> {
    thread_local! {
        static KEPT: RefCell<(usize, [[u8; 10]; 64])> = const { RefCell::new((0, [[0; 10]; 64])) };
    }
    KEPT.with_borrow_mut(|(left, kept)| {
        if *left == 0 {
            aws_lc_rs::rand::fill(kept.as_flattened_mut()).ok()?;
            *left = kept.len();
        }
        *left -= 1;
        kept.get(*left).copied()
    })
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
    /// The break-glass that the caller opened and that is open, if there is one.
    pub glass: Option<Arc<OpenGlass>>,
}

/// A break-glass that is open: it lifts the entries that say so, for whoever opened it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenGlass {
    /// Its id, for the record.
    pub id: Box<str>,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_of_version_7_and_none_comes_twice() {
        let ids: Vec<_> = (0..1_000).map(|_| DecisionId::fresh()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        let now = SystemClock.now().as_millis();
        for id in ids {
            assert_eq!((id.0.get_version_num(), id.0.get_variant()), (7, uuid::Variant::RFC4122));
            let (seconds, nanos) = id.0.get_timestamp().unwrap().to_unix();
            let made = seconds * 1_000 + u64::from(nanos) / 1_000_000;
            assert!(made <= now && now - made < 60_000, "{made} {now}");
            assert_eq!(DecisionId::parse(id.written(&mut [0; 36])), Some(id));
        }
    }
}
