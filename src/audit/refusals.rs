//! Refusals before anybody is known are counted by peer and reason, so that noise from outside can
//! neither flood the log nor vanish from it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use super::event::Event;

/// At most so many pairs are told apart between two heads, so that a flood writes little; further
/// peers count as `0.0.0.0`.
const MAX_PAIRS: usize = 256;

/// The counts since they were last taken.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: Mutex<HashMap<(IpAddr, &'static str), u64>>,
}

impl Refusals {
    /// Counts one.
    pub fn count(&self, peer: IpAddr, reason: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (network(peer), reason);
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

/// The peer, as far as it names somebody: of IPv6 the /64, in which a host picks addresses freely.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(six) => {
            let [a, b, c, d, ..] = six.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_changes_its_address_is_one_peer() {
        let refusals = Refusals::default();
        for i in 0..100_u16 {
            refusals.count(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, i]), "no token");
            refusals.count("::ffff:192.0.2.1".parse().unwrap(), "no token");
            refusals.count("192.0.2.1".parse().unwrap(), "no token");
        }
        assert_eq!(refusals.take().len(), 2);
    }

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
