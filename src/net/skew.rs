//! How far this machine's clock is from those of others, by the `Date` of the answers to the gate's
//! own calls (RFC 9110, 6.6.1).
//!
//! Tokens are judged by this machine's clock, and whoever issues them refuses a request that seems to
//! come from another time. One host that is wrong says nothing of ours: it is doubted only if no host
//! agrees with it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, header};

use crate::time::{SharedClock, Timestamp};

/// Differences above this should be looked at: tokens are refused at five minutes.
pub const DOUBTFUL_SKEW: Duration = Duration::from_secs(60);
/// At most so many hosts are remembered.
const HOSTS: usize = 64;

/// What was seen of other clocks.
pub struct ClockSkew {
    clock: SharedClock,
    seen: Mutex<HashMap<Arc<str>, i64>>,
}

/// The host whose clock is nearest to ours, and how far ours is from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skew {
    /// The host.
    pub host: Arc<str>,
    /// Seconds by which ours is ahead; negative where it is behind.
    pub ahead: i64,
}

impl ClockSkew {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, seen: Mutex::default() }
    }

    /// Notes what an answer of a host says of its clock, if it says anything.
    pub fn note(&self, host: &Arc<str>, headers: &HeaderMap) {
        let Some(ahead) = ahead(headers, self.clock.now()) else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < HOSTS || seen.contains_key(host) {
            seen.insert(Arc::clone(host), ahead);
        }
        let nearest = seen.values().copied().min_by_key(|ahead| ahead.unsigned_abs()).unwrap_or_default();
        drop(seen);
        // Nothing but a figure: a clock that is wrong by more than a float tells apart is wrong.
        metrics::gauge!("amlgate_clock_skew_seconds").set(i32::try_from(nearest).map_or(f64::MAX, f64::from));
    }

    /// The nearest clock; `None` while no host has said anything.
    #[must_use]
    pub fn nearest(&self) -> Option<Skew> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .min_by_key(|(_, ahead)| ahead.unsigned_abs())
            .map(|(host, ahead)| Skew { host: Arc::clone(host), ahead: *ahead })
    }
}

impl fmt::Debug for ClockSkew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClockSkew({:?})", self.nearest())
    }
}

impl Skew {
    /// Whether somebody should look.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        self.ahead.unsigned_abs() > DOUBTFUL_SKEW.as_secs()
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.ahead < 0 { "behind" } else { "ahead of" };
        write!(f, "this machine's clock is {} s {side} that of `{}`", self.ahead.unsigned_abs(), self.host)
    }
}

/// How far `now` is ahead of `Date`.
fn ahead(headers: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = chrono::DateTime::parse_from_rfc2822(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    i64::try_from(now.as_secs()).ok()?.checked_sub(date.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ManualClock;

    fn dated(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, text.parse().unwrap());
        headers
    }

    #[test]
    fn a_clock_is_doubted_only_if_no_host_agrees_with_it() {
        let clock = ManualClock::starting_at(Timestamp::from_secs(1_795_435_200));
        let skew = ClockSkew::new(Arc::new(clock));
        assert_eq!(skew.nearest(), None);
        skew.note(&"a".into(), &HeaderMap::new());
        skew.note(&"a".into(), &dated("yesterday"));
        assert_eq!(skew.nearest(), None);

        skew.note(&"a".into(), &dated("Mon, 23 Nov 2026 12:02:00 GMT"));
        let seen = skew.nearest().unwrap();
        assert!(seen.is_doubtful());
        assert_eq!(seen.to_string(), "this machine's clock is 120 s behind that of `a`");
        skew.note(&"b".into(), &dated("Mon, 23 Nov 2026 11:59:59 GMT"));
        let seen = skew.nearest().unwrap();
        assert!(!seen.is_doubtful());
        assert_eq!(seen.to_string(), "this machine's clock is 1 s ahead of that of `b`");
        // What a host says later is what counts of it.
        skew.note(&"b".into(), &dated("Mon, 23 Nov 2026 13:00:00 GMT"));
        assert!(skew.nearest().unwrap().is_doubtful());
    }
}
