//! The grants that were taken back, as a snapshot that every core reads.
//!
//! Like revocations of tokens: replaced whole when the store holds another, looked at without waiting,
//! and too old to go by when the store could not be read for some time (DECISIONS 26).

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;

use crate::{identity::revoked::MAX_AGE, time::Timestamp};

/// What was taken back, at some version.
#[derive(Debug, Default)]
struct Snapshot {
    version: Option<i64>,
    grants: HashSet<String>,
}

/// The snapshot that counts now.
#[derive(Debug, Default)]
pub(super) struct Withdrawn {
    current: ArcSwap<Snapshot>,
    /// When the store was last read, in milliseconds.
    read: AtomicU64,
}

impl Withdrawn {
    /// The version of the snapshot.
    pub fn version(&self) -> Option<i64> {
        self.current.load().version
    }

    /// Takes over what was read at `now`; the version, if it is another.
    pub fn follow(&self, news: Option<(i64, Vec<String>)>, now: Timestamp) -> Option<i64> {
        self.read.store(now.as_millis(), Ordering::Relaxed);
        let (version, grants) = news?;
        // Two readings may cross: the later state stays.
        if self.version().is_some_and(|known| known >= version) {
            return None;
        }
        self.current.store(Snapshot { version: Some(version), grants: grants.into_iter().collect() }.into());
        Some(version)
    }

    /// Whether a grant was not taken back, as far as is known; why not, else.
    pub fn stands(&self, grant: &str, now: Timestamp) -> Result<(), &'static str> {
        if self.current.load().grants.contains(grant) {
            return Err("was taken back");
        }
        let read = Timestamp::from_millis(self.read.load(Ordering::Relaxed));
        if now.since(read) > MAX_AGE {
            return Err("cannot be looked up, and so counts as taken back");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn what_was_taken_back_does_not_stand_and_the_rest_does_while_there_is_news() {
        let withdrawn = Withdrawn::default();
        assert!(withdrawn.stands("g", at(100)).is_err(), "nothing was ever read");
        assert_eq!(withdrawn.follow(Some((3, vec!["g".into()])), at(100)), Some(3));
        assert_eq!(withdrawn.stands("g", at(100)), Err("was taken back"));
        assert_eq!(withdrawn.stands("h", at(105)), Ok(()));
        assert!(withdrawn.stands("h", at(106)).is_err());
        assert_eq!(withdrawn.follow(None, at(106)), None);
        assert_eq!(withdrawn.stands("h", at(106)), Ok(()));
        assert_eq!(withdrawn.follow(Some((2, vec![])), at(107)), None, "an earlier state");
        assert_eq!(withdrawn.stands("g", at(107)), Err("was taken back"));
    }
}
