//! A copy of what passes, up to a bound.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::secrets::Tagging;

/// Copies what passes. Its clones share the copy: one goes with the body, one waits for its end.
#[derive(Clone)]
pub struct Taker(Arc<Mutex<Taking>>);

struct Taking {
    bytes: Vec<u8>,
    size: u64,
    tagging: Tagging,
    cut: Option<&'static str>,
    limit: usize,
    /// What all copies may take, in KiB, and what this one does.
    room: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

/// What was copied.
pub(super) struct Taken {
    pub bytes: Vec<u8>,
    /// Bytes that passed.
    pub size: u64,
    /// The tag of all that passed.
    pub tag: [u8; 32],
    /// Why not all of it was copied.
    pub cut: Option<&'static str>,
}

impl Taker {
    pub(super) fn new(limit: usize, tagging: Tagging, room: Arc<Semaphore>) -> Self {
        let (bytes, size, cut, held) = (Vec::new(), 0, None, None);
        Self(Arc::new(Mutex::new(Taking { bytes, size, tagging, cut, limit, room, held })))
    }

    fn lock(&self) -> MutexGuard<'_, Taking> {
        // Nobody waits for it: body and end are of one connection. No code that can panic runs under it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More passes.
    pub fn take(&self, data: &[u8]) {
        let mut taking = self.lock();
        taking.size += data.len() as u64;
        taking.tagging.add(data);
        if taking.cut.is_none() {
            taking.copy(data);
        }
    }

    /// What was copied so far, and the room that it takes; whatever passes later is not in it.
    pub(super) fn taken(&self) -> (Taken, Option<OwnedSemaphorePermit>) {
        let mut taking = self.lock();
        let taken = Taken {
            bytes: std::mem::take(&mut taking.bytes),
            size: taking.size,
            tag: taking.tagging.clone().tag(),
            cut: taking.cut,
        };
        // It is over: nothing more is copied.
        taking.cut.get_or_insert("limit");
        (taken, taking.held.take())
    }
}

impl Taking {
    fn copy(&mut self, data: &[u8]) {
        let left = self.limit.saturating_sub(self.bytes.len());
        let fits = data.get(..left).unwrap_or(data);
        if !self.has_room(self.bytes.len() + fits.len()) {
            self.cut = Some("memory");
            return;
        }
        self.bytes.extend_from_slice(fits);
        if fits.len() < data.len() {
            self.cut = Some("limit");
        }
    }

    /// Whether so many bytes may be held; room is taken in steps of 64 KiB.
    fn has_room(&mut self, bytes: usize) -> bool {
        const STEP: usize = 64;
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = bytes.div_ceil(1 << 10);
        if wanted <= held {
            return true;
        }
        let most = self.limit.div_ceil(1 << 10).max(wanted);
        let more = (wanted - held).next_multiple_of(STEP).min(most - held);
        let Ok(more) = u32::try_from(more) else { return false };
        let Ok(more) = Arc::clone(&self.room).try_acquire_many_owned(more) else { return false };
        match &mut self.held {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        true
    }
}

impl fmt::Debug for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Taker({} bytes)", self.lock().size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Purpose, Seal, SecretString};

    fn taker(limit: usize, room: &Arc<Semaphore>) -> Taker {
        Taker::new(limit, mac().begin(), Arc::clone(room))
    }

    fn mac() -> crate::secrets::Mac {
        let root = SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        Seal::new([&root]).unwrap().mac(Purpose::BodyTags)
    }

    #[test]
    fn all_of_it_is_counted_and_tagged_and_no_more_than_the_bound_is_copied() {
        let room = Arc::new(Semaphore::new(1 << 20));
        for limit in [1_usize, 10, 99, 100, 101, 5_000] {
            let taker = taker(limit, &room);
            let all: Vec<u8> = (0..100).collect();
            for part in all.chunks(7) {
                taker.take(part);
            }
            let (taken, held) = taker.taken();
            assert_eq!(taken.bytes, &all[..limit.min(100)]);
            assert_eq!((taken.size, taken.tag), (100, mac().tag(&all)));
            assert_eq!(taken.cut, (limit < 100).then_some("limit"));
            assert!(room.available_permits() < 1 << 20);
            // What comes later changes nothing that was given.
            taker.take(b"more");
            drop(held);
            assert_eq!(room.available_permits(), 1 << 20, "and the room is given back");
        }
    }

    #[test]
    fn ten_gib_take_no_more_than_the_bound() {
        let room = Arc::new(Semaphore::new(2_048));
        let taker = taker(1 << 20, &room);
        // Tagging all of it would take a minute: the copy is what is looked at.
        taker.lock().tagging = Tagging::default();
        let piece = vec![7; 1 << 20];
        for _ in 0..10 << 10 {
            taker.take(&piece);
        }
        assert!(taker.lock().bytes.capacity() <= 2 << 20);
        assert_eq!(room.available_permits(), 1_024, "a MiB of room, and no more");
        let (taken, _) = taker.taken();
        assert_eq!((taken.size, taken.bytes.len(), taken.cut), (10 << 30, 1 << 20, Some("limit")));
    }

    #[test]
    fn without_room_a_body_is_cut_and_passes_all_the_same() {
        let room = Arc::new(Semaphore::new(100));
        let (first, second) = (taker(1 << 20, &room), taker(1 << 20, &room));
        first.take(&[1; 60 << 10]);
        second.take(&[2; 60 << 10]);
        second.take(&[2; 10]);
        let (taken, _) = second.taken();
        assert_eq!((taken.size, taken.bytes.len(), taken.cut), ((60 << 10) + 10, 0, Some("memory")));
        let (taken, _) = first.taken();
        assert_eq!((taken.bytes.len(), taken.cut), (60 << 10, None));
    }
}
