//! How many connections may be open: in all, and for each peer.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Counts open connections of all cores.
#[derive(Debug)]
pub struct Admission {
    most: usize,
    most_per_peer: usize,
    open: AtomicUsize,
    // Taken once when a connection opens and once when it closes.
    peers: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    peer: Option<IpAddr>,
}

/// There is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// For anybody.
    All,
    /// For this peer.
    Peer,
}

impl Admission {
    /// At most `most` connections, of which `most_per_peer` from one.
    #[must_use]
    pub fn new(most: usize, most_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_peer, open: AtomicUsize::new(0), peers: Mutex::default() })
    }

    /// A place for a connection; `counted` is false for trusted proxies, which bring everybody.
    ///
    /// # Errors
    /// [`Full`].
    pub fn admit(self: &Arc<Self>, peer: IpAddr, counted: bool) -> Result<Place, Full> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::All);
        }
        let mut place = Place { admission: Arc::clone(self), peer: None };
        if counted {
            let peer = network(peer);
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            let open = peers.entry(peer).or_default();
            if *open >= self.most_per_peer {
                // The guard goes first: the place's drop takes the lock as well.
                drop(peers);
                return Err(Full::Peer);
            }
            *open += 1;
            place.peer = Some(peer);
        }
        Ok(place)
    }

    /// Open connections.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        let Some(peer) = self.peer else { return };
        let mut peers = self.admission.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = peers.get_mut(&peer) {
            *open -= 1;
            if *open == 0 {
                peers.remove(&peer);
            }
        }
    }
}

/// What is counted as one peer: an IPv4 address, or the /64 that one IPv6 host can have all of.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let admission = Admission::new(3, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = admission.admit(ip("2001:db8::1"), true).unwrap();
        let _second = admission.admit(ip("2001:db8::2"), true).unwrap();
        assert_eq!(admission.admit(ip("2001:db8::3"), true).unwrap_err(), Full::Peer);
        assert_eq!(admission.open(), 2);
        let _third = admission.admit(ip("2001:db8::4"), false).unwrap();
        assert_eq!(admission.admit(ip("10.0.0.1"), true).unwrap_err(), Full::All);
        drop(first);
        assert!(admission.admit(ip("2001:db8::3"), true).is_ok());
        assert_eq!(admission.peers.lock().unwrap().len(), 1);
    }
}
