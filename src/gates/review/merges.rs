//! Changes that were merged, as the code hosts say when they are asked: kept once each, for whoever starts
//! something by them.
//!
//! What somebody tells the gate of a merge is a hint that makes it ask sooner, and nothing else: see
//! [`Hints`](super::hints::Hints).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    store::{MergeRow, Store, StoreError},
    time::Timestamp,
};

/// A change that a code host says was merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    /// The code host, by its name in the configuration.
    pub server: Arc<str>,
    /// The project.
    pub project: String,
    /// The branch that it was merged to.
    pub branch: String,
    /// The change's number.
    pub number: u64,
    /// Its `Change-Id`.
    pub change_id: String,
    /// The commit of its current patch set, whole and in lower case.
    pub commit: String,
    /// When it was merged, by the code host's clock.
    #[serde(with = "as_millis")]
    pub merged: Timestamp,
    /// The first line of its message.
    pub subject: String,
    /// The change, for people.
    pub url: String,
    /// Who made the change.
    pub owner: Party,
    /// Who uploaded its current patch set: whoever had it merged, where Gerrit made that one.
    pub uploader: Party,
    /// Who had it merged, where the code host says so.
    pub submitter: Option<Party>,
}

/// An account that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its number.
    pub account: u64,
    /// What it calls itself: for people to read, and for nothing else.
    pub name: Option<String>,
    /// Who that is at the issuer by which people are told apart, as `people.links` says.
    pub person: Option<String>,
}

mod as_millis {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::time::Timestamp;

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(at.as_millis())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        u64::deserialize(from).map(Timestamp::from_millis)
    }
}

/// A branch whose merges are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The code host, by its name in the configuration.
    pub server: Arc<str>,
    /// The project.
    pub project: Arc<str>,
    /// The branch, without `refs/heads/`.
    pub branch: Arc<str>,
    /// How often it is asked about where nobody hints at anything.
    pub poll: Duration,
}

/// Who wants merges to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanting {
    /// `watch` of the configuration.
    Configuration,
    /// `triggers` of the policies.
    Triggers,
}

/// The merges that the gate has read of. One for the whole process.
#[derive(Debug)]
pub struct Merges {
    store: Option<Store>,
    news: watch::Sender<u64>,
    wanted: Mutex<BTreeMap<Wanting, Vec<Branch>>>,
    branches: watch::Sender<Arc<[Branch]>>,
}

impl Merges {
    pub(in crate::gates) fn new(store: Option<Store>) -> Self {
        let (wanted, branches) = (Mutex::default(), watch::Sender::new([].into()));
        Self { store, news: watch::Sender::new(0), wanted, branches }
    }

    /// From here on somebody wants the merges to these branches to be read, in place of what they wanted
    /// before. A branch that several want is asked about as often as the most eager one has it.
    pub fn watch(&self, wanting: Wanting, branches: Vec<Branch>) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.insert(wanting, branches);
        let mut all: BTreeMap<_, Branch> = BTreeMap::new();
        for branch in wanted.values().flatten() {
            let key = (&branch.server, &branch.project, &branch.branch);
            let kept = all.entry(key).or_insert_with(|| branch.clone());
            kept.poll = kept.poll.min(branch.poll);
        }
        let all: Arc<[Branch]> = all.into_values().collect();
        self.branches.send_if_modified(|branches| {
            let other = *branches != all;
            *branches = all;
            other
        });
    }

    /// The branches whose merges are read.
    #[must_use]
    pub fn branches(&self) -> watch::Receiver<Arc<[Branch]>> {
        self.branches.subscribe()
    }

    /// Counts the merges that this replica was the first to read of. Another replica's are in the store:
    /// whoever waits for merges looks there at intervals too.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Keeps a merge, read at `seen`; whether it is new.
    ///
    /// # Errors
    /// [`StoreError`]: it may have been kept, and is to be kept again. Without a store there is nothing to
    /// keep it in.
    pub async fn keep(&self, merge: &Merge, seen: Timestamp) -> Result<bool, StoreError> {
        let about =
            serde_json::to_string(merge).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let row = MergeRow {
            server: merge.server.to_string(),
            project: merge.project.clone(),
            branch: merge.branch.clone(),
            number: merge.number,
            commit: merge.commit.clone(),
            merged: merge.merged,
            seen,
            about,
        };
        let new = self.store()?.keep_merge(row).await?;
        if new {
            self.news.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(new)
    }

    /// The merges to a branch that the gate has read of since an instant, each with when that was: in that
    /// order, at most so many. A row that cannot be read is left out, loudly.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn since(
        &self,
        server: &str,
        project: &str,
        branch: &str,
        since: Timestamp,
        most: u32,
    ) -> Result<Vec<(Timestamp, Merge)>, StoreError> {
        let rows = self.store()?.merges_since(server, project, branch, since, most).await?;
        let read = rows.into_iter().filter_map(|row| match serde_json::from_str::<Merge>(&row.about) {
            Ok(merge) if is_of(&merge, &row) => Some((row.seen, merge)),
            Ok(_) | Err(_) => {
                tracing::error!(server, project, number = row.number, "a kept merge cannot be read");
                None
            }
        });
        Ok(read.collect())
    }

    pub(super) fn store(&self) -> Result<&Store, StoreError> {
        self.store.as_ref().ok_or_else(|| StoreError::Unavailable("this gate has none".to_owned()))
    }
}

/// Whether what a row says is about what it is kept as.
fn is_of(merge: &Merge, row: &MergeRow) -> bool {
    *merge.server == *row.server
        && (&merge.project, &merge.branch, merge.number) == (&row.project, &row.branch, row.number)
        && (&merge.commit, merge.merged) == (&row.commit, row.merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreAddress;

    fn merge(number: u64) -> Merge {
        let party = |account, person: &str| Party {
            account,
            name: Some("Ana".to_owned()),
            person: Some(person.into()),
        };
        Merge {
            server: "main".into(),
            project: "ml/vision".to_owned(),
            branch: "main".to_owned(),
            number,
            change_id: "I8473b95934b5732ac55d26311a706c9c2bde9940".to_owned(),
            commit: format!("{number:040x}"),
            merged: Timestamp::from_millis(1_762_000_123_456),
            subject: "Train \u{1f512} v3".to_owned(),
            url: format!("https://gerrit.corp/c/ml/vision/+/{number}"),
            owner: party(1, "corp:t/a"),
            uploader: Party { account: 2, name: None, person: None },
            submitter: Some(party(2, "corp:t/b")),
        }
    }

    async fn kept() -> (Merges, Store, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(StoreAddress::Sqlite(directory.path().join("s.db"))).unwrap();
        (Merges::new(Some(store.clone())), store, directory)
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[tokio::test]
    async fn a_merge_is_told_of_once_and_read_as_it_was_kept() {
        let (merges, _store, _directory) = kept().await;
        let mut changes = merges.changes();
        changes.mark_unchanged();
        assert!(merges.keep(&merge(1), at(10)).await.unwrap());
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert!(!merges.keep(&merge(1), at(11)).await.unwrap());
        assert!(!changes.has_changed().unwrap(), "nobody is told twice");
        let found = merges.since("main", "ml/vision", "main", at(10), 10).await.unwrap();
        assert_eq!(found, [(at(10), merge(1))]);
    }

    #[tokio::test]
    async fn a_row_that_says_something_else_than_it_is_kept_as_is_nobodys_merge() {
        let (merges, store, _directory) = kept().await;
        for (number, about) in
            [(1, serde_json::to_string(&merge(9)).unwrap()), (2, "{}".to_owned()), (3, String::new())]
        {
            let row = MergeRow {
                server: "main".to_owned(),
                project: "ml/vision".to_owned(),
                branch: "main".to_owned(),
                number,
                commit: format!("{number:040x}"),
                merged: merge(1).merged,
                seen: at(10),
                about,
            };
            assert!(store.keep_merge(row).await.unwrap());
        }
        assert!(merges.keep(&merge(4), at(11)).await.unwrap());
        let found = merges.since("main", "ml/vision", "main", at(0), 10).await.unwrap();
        assert_eq!(found, [(at(11), merge(4))]);
    }

    #[test]
    fn a_branch_that_several_want_is_read_once_and_as_often_as_anybody_wants() {
        let merges = Merges::new(None);
        let of = |project: &str, poll| Branch {
            server: "main".into(),
            project: project.into(),
            branch: "main".into(),
            poll: Duration::from_secs(poll),
        };
        let mut read = merges.branches();
        merges.watch(Wanting::Configuration, vec![of("b", 60), of("a", 60)]);
        merges.watch(Wanting::Triggers, vec![of("b", 30), of("c", 60)]);
        assert_eq!(**read.borrow_and_update(), [of("a", 60), of("b", 30), of("c", 60)]);
        merges.watch(Wanting::Triggers, vec![of("c", 60), of("b", 30)]);
        assert!(!read.has_changed().unwrap(), "nobody starts anew for nothing");
        merges.watch(Wanting::Configuration, Vec::new());
        assert_eq!(**read.borrow_and_update(), [of("b", 30), of("c", 60)]);
    }

    #[tokio::test]
    async fn without_a_store_nothing_is_kept_and_that_is_said() {
        let merges = Merges::new(None);
        assert!(merges.keep(&merge(1), at(10)).await.is_err());
        assert!(merges.since("main", "ml/vision", "main", at(0), 10).await.is_err());
    }
}
