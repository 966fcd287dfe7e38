//! Tunnels whose caller is not known yet, because it is said inside: few at a time for each peer, for
//! a short while, and for one request that does not say it (DECISIONS 20).

use std::{
    cell::Cell,
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long a tunnel may be nobody's.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Such tunnels of one peer.
const OF_PEER: usize = 64;

/// How many there are of each peer; one for all cores.
#[derive(Debug, Clone, Default)]
pub struct Strangers(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Strangers {
    /// A place for another, if the peer has one left.
    #[must_use]
    pub(super) fn admit(&self, peer: IpAddr) -> Option<Stranger> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(peer).or_default();
        if *count >= OF_PEER {
            return None;
        }
        *count += 1;
        Some(Stranger { all: self.clone(), peer, known: Cell::new(false), refused: Cell::new(false) })
    }

    fn leave(&self, peer: IpAddr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&peer);
            }
        }
    }
}

/// A tunnel that was nobody's when it was dug.
#[derive(Debug)]
pub struct Stranger {
    all: Strangers,
    peer: IpAddr,
    known: Cell<bool>,
    refused: Cell<bool>,
}

impl Stranger {
    /// A request said whose the tunnel is.
    pub(in crate::proxy) fn is_known_now(&self) {
        if !self.known.replace(true) {
            self.all.leave(self.peer);
        }
    }

    /// Whether nobody is known yet.
    pub(super) fn waits(&self) -> bool {
        !self.known.get()
    }

    /// A request has been answered: if it did not say whose the tunnel is, none after it will.
    pub(super) fn answered(&self) {
        self.refused.set(self.waits());
    }

    /// Whether a request has been answered without saying whose the tunnel is.
    pub(super) fn had_its_request(&self) -> bool {
        self.refused.get()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if self.waits() {
            self.all.leave(self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_so_many_places_and_gets_them_back() {
        let all = Strangers::default();
        let peer = IpAddr::from([10, 0, 0, 1]);
        let mut held: Vec<_> = (0..OF_PEER).map(|_| all.admit(peer).unwrap()).collect();
        assert!(all.admit(peer).is_none());
        assert!(all.admit(IpAddr::from([10, 0, 0, 2])).is_some(), "another's are another's");
        held.pop();
        let one = all.admit(peer).expect("whoever went made room");
        one.is_known_now();
        one.is_known_now();
        assert!(!one.waits());
        let _other = all.admit(peer).expect("so did whoever became known, once");
        assert!(all.admit(peer).is_none());
        drop((held, one, _other));
        assert!(all.0.lock().unwrap().is_empty());
    }

    #[test]
    fn one_request_may_leave_it_unsaid() {
        let all = Strangers::default();
        let one = all.admit(IpAddr::from([10, 0, 0, 1])).unwrap();
        assert!(!one.had_its_request());
        one.answered();
        assert!(one.had_its_request());
        one.is_known_now();
        one.answered();
        assert!(!one.had_its_request());
    }
}
