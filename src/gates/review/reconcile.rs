//! Reads what was merged to a branch, so that no merge is missed and none is kept twice.
//!
//! How far a branch was read is kept in the store, and each look goes on from there: day by day, the oldest
//! first, so that a gate that was away for long gets on even if it is interrupted. What was updated while
//! it was read has moved to a later part of the past, and is read there. Each look begins some minutes
//! before the last one ended, for code hosts that are slow to list what they did, and for clocks that do
//! not agree. Replicas may read side by side: the store keeps each merge once.

use std::{collections::HashSet, time::Duration};

use super::{
    decide::Unreviewed,
    gerrit::{
        Gerrit,
        merged::{Ages, PAGE, Persons},
    },
    merges::{Branch, Merges},
};
use crate::{
    store::StoreError,
    time::{Clock, Timestamp},
};

/// How far each look goes back behind the last one.
const OVERLAP: Duration = Duration::from_secs(600);
/// How much of the past is asked about in one go.
const WINDOW: Duration = Duration::from_secs(86_400);
/// Changes of one branch that are updated within a window, at most.
const MOST: usize = 10_000;
/// Merges that are remembered as kept, so that not each look asks about their people again.
const REMEMBERED: usize = 10_000;

/// What a reader of one branch remembers between two looks.
#[derive(Debug, Default)]
pub struct Kept(HashSet<(u64, String)>);

/// Why a look did not get to its end. The next one goes on from where it got to.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// The code host says nothing that can be used.
    #[error(transparent)]
    Host(#[from] Unreviewed),
    /// The store keeps nothing.
    #[error("what was merged cannot be kept: {0}")]
    Store(#[from] StoreError),
    /// More than anybody merges.
    #[error("more than {MOST} changes were updated within a day")]
    TooMany,
}

impl Merges {
    /// Reads what was merged to a branch since the last look, and keeps it; how much of it is new.
    ///
    /// # Errors
    /// [`Unread`]: what was read before is kept, and the next look goes on from there.
    pub async fn read(
        &self,
        gerrit: &Gerrit,
        branch: &Branch,
        kept: &mut Kept,
        clock: &dyn Clock,
    ) -> Result<u64, Unread> {
        let began = clock.now();
        let store = self.store()?;
        let row = store.watched(&branch.server, &branch.project, &branch.branch, began).await?;
        let since = row.since.minus(OVERLAP);
        // By a clock that was turned back, it was read up to some time to come.
        let mut from = row.walked.min(began).minus(OVERLAP);
        let mut new = 0;
        loop {
            let until = from.plus(WINDOW).min(began);
            new += self.read_part(gerrit, branch, kept, (from, until), since, clock).await?;
            store.walked(&branch.server, &branch.project, &branch.branch, until).await?;
            if until >= began {
                return Ok(new);
            }
            from = until.minus(OVERLAP);
        }
    }

    async fn read_part(
        &self,
        gerrit: &Gerrit,
        branch: &Branch,
        kept: &mut Kept,
        (from, until): (Timestamp, Timestamp),
        since: Timestamp,
        clock: &dyn Clock,
    ) -> Result<u64, Unread> {
        let now = clock.now();
        // The last part has no end: what happens meanwhile belongs to it.
        let youngest = if until.plus(OVERLAP) < now { now.since(until) } else { Duration::ZERO };
        let ages = Ages { oldest: now.since(from), youngest };
        let mut persons = Persons::new();
        let (mut new, mut skipped) = (0, 0);
        loop {
            let page = gerrit.merged(branch, ages, skipped).await?;
            for change in page.found {
                let key = (change.number, change.current_revision.clone().unwrap_or_default());
                if kept.0.contains(&key) {
                    continue;
                }
                let merge = gerrit.told(change, &mut persons).await?;
                // Whoever comments on an old change makes no new merge of it.
                if merge.merged >= since {
                    new += u64::from(self.keep(&merge, clock.now()).await?);
                }
                kept.add(key);
            }
            if !page.more {
                return Ok(new);
            }
            // A page that has nothing and promises more would never end.
            skipped += page.length.max(1);
            if skipped > MOST.next_multiple_of(PAGE) {
                return Err(Unread::TooMany);
            }
        }
    }
}

impl Kept {
    fn add(&mut self, key: (u64, String)) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(key);
    }
}
