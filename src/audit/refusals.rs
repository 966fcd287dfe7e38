//! Refusals before anybody is known are counted by peer and reason, so that noise from outside can
//! neither flood the log nor vanish from it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use super::event::Event;

/// At most so many pairs are told apart between two heads; further peers count as `0.0.0.0`.
const MAX_PAIRS: usize = 4_096;

/// The counts since they were last taken.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: Mutex<HashMap<(IpAddr, &'static str), u64>>,
}

impl Refusals {
    /// Counts one.
    pub fn count(&self, peer: IpAddr, reason: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (peer, reason);
        let key = if counts.len() < MAX_PAIRS || counts.contains_key(&key) {
            key
        } else {
            (IpAddr::from([0, 0, 0, 0]), reason)
        };
        *counts.entry(key).or_default() += 1;
    }

    /// Takes the counts as events.
    pub(super) fn take(&self) -> Vec<Event> {
        let counts = std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        counts.into_iter().map(|((peer, reason), count)| Event::Refused { peer, reason, count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_from_everywhere_is_counted_in_bounded_memory() {
        let refusals = Refusals::default();
        for i in 0..10_000_u32 {
            refusals.count(IpAddr::from(i.to_be_bytes()), "no token");
        }
        let events = refusals.take();
        assert!(events.len() <= MAX_PAIRS + 1);
        let total: u64 =
            events.iter().map(|e| if let Event::Refused { count, .. } = e { *count } else { 0 }).sum();
        assert_eq!(total, 10_000);
        assert!(refusals.take().is_empty());
    }
}
