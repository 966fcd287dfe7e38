//! Places for calls that wait for people: so many for each person, so many in all (DECISIONS 23). And
//! how many refused calls of a person are written to the store in a time: whoever is refused in a
//! loop keeps nobody else waiting for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::Bounds;
use crate::time::Timestamp;

/// Refused calls of one person that are written down within [`WINDOW`].
const REMEMBERED: u32 = 32;
const WINDOW: Duration = Duration::from_secs(10);

/// The places. A lock is held for a look at a small map, by calls that then wait for minutes.
#[derive(Debug, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<String, usize>,
    /// Since when so many were written down, by person.
    remembered: HashMap<String, (Timestamp, u32)>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Mutex<Taken>>,
    person: String,
}

impl Places {
    /// Whether one more refused call of a person's is written down.
    pub fn remembers(&self, person: &str, now: Timestamp) -> bool {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remembered.retain(|_, (since, _)| now.since(*since) < WINDOW);
        let (_, count) = taken.remembered.entry(person.to_owned()).or_insert((now, 0));
        *count += 1;
        *count <= REMEMBERED
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// A place for a call of a person's; `None` if there is none.
    pub fn take(&self, person: &str, bounds: &Bounds) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.each.get(person).copied().unwrap_or_default();
        if taken.all >= bounds.held || own >= bounds.held_each {
            return None;
        }
        taken.all += 1;
        taken.each.insert(person.to_owned(), own + 1);
        Some(Place { places: Arc::clone(&self.0), person: person.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        match taken.each.get_mut(&self.person) {
            Some(own) if *own > 1 => *own -= 1,
            Some(_) | None => drop(taken.each.remove(&self.person)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_refused_calls_of_a_person_are_written_down_in_a_time() {
        let (places, now) = (Places::default(), Timestamp::from_secs(100));
        assert!((0..REMEMBERED).all(|_| places.remembers("ann", now)));
        assert!(!places.remembers("ann", now.plus(WINDOW / 2)));
        assert!(places.remembers("bob", now));
        assert!(places.remembers("ann", now.plus(WINDOW)));
    }

    #[test]
    fn each_person_and_everybody_together_have_so_many_places_and_they_come_back() {
        let (places, bounds) = (Places::default(), Bounds { held: 9, held_each: 4, ..Bounds::default() });
        let take = |person: &str| places.take(person, &bounds);
        let mut held: Vec<_> = (0..4).map(|_| take("ann").unwrap()).collect();
        assert!(take("ann").is_none());
        held.extend((4..9).map(|n| take(&n.to_string()).unwrap()));
        assert!(take("bob").is_none());
        held.truncate(1);
        assert!(take("bob").is_some());
        drop(held);
        let taken = places.0.lock().unwrap();
        assert_eq!((taken.all, taken.each.len()), (0, 0), "nothing is remembered of who is gone");
    }
}
