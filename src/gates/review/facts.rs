//! What a Gerrit says of a commit, read so that nothing is assumed.
//!
//! Gerrit leaves out what is false or empty, so that such a member may be missing; what decides must be
//! there. A member of another type than Gerrit's own, or one that stands twice, makes the whole answer
//! unreadable, and an unreadable answer is a no.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    marker::PhantomData,
    ops::Deref,
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};

use super::people::Account;
use crate::time::Timestamp;

/// Everything that was asked about one commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Who was asked, by its name in the configuration.
    pub server: Arc<str>,
    /// Its URL for people, without a slash at its end.
    pub web: Arc<str>,
    /// The changes that have the commit among their patch sets, wherever.
    pub changes: Vec<Change>,
    /// What the commit itself is, where it is no patch set and merge commits may count.
    pub merge: Option<Merge>,
    /// Whether the commit is on the branch now.
    pub on_branch: bool,
    /// The accounts of all who took part, by their numbers.
    pub accounts: BTreeMap<u64, Account>,
    /// The accounts that have an e-mail of an author or a committer, in lower case.
    pub by_mail: BTreeMap<String, Vec<u64>>,
    /// The members of groups, those of included groups too.
    pub groups: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// When it was asked.
    pub asked: Timestamp,
}

/// A commit that merges what was reviewed.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// Its parents, the branch's first.
    pub parents: Vec<String>,
    /// Accounts that have its committer's e-mail: none, if Gerrit itself made it.
    pub committed_by: Vec<u64>,
    /// All that was submitted together with the change that it merges.
    pub together: Vec<Change>,
}

/// `ChangeInfo`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Change {
    #[allow(missing_docs, reason = "Gerrit's own names")]
    pub project: String,
    #[allow(missing_docs, reason = "Gerrit's own names")]
    pub branch: String,
    #[allow(missing_docs, reason = "Gerrit's own names")]
    pub change_id: String,
    /// `NEW`, `MERGED` or `ABANDONED`.
    pub status: String,
    /// Its number.
    #[serde(rename = "_number")]
    pub number: u64,
    /// Who made it.
    pub owner: Account,
    /// The commit of the patch set that counts.
    pub current_revision: Option<String>,
    /// Patch sets by their commits.
    #[serde(default)]
    pub revisions: Unique<Revision>,
    /// Votes by label.
    #[serde(default)]
    pub labels: Unique<Label>,
    /// What had to be met for it to be merged, as it was when it was.
    #[serde(default)]
    pub submit_requirements: Vec<Requirement>,
    /// Who had it merged.
    pub submitter: Option<Account>,
    /// When it was merged: `2026-11-01 12:00:00.000000000`, UTC.
    pub submitted: Option<String>,
    /// How it was merged.
    pub submit_type: Option<String>,
    /// What was merged in one go has one.
    pub submission_id: Option<String>,
    /// The state of its review in NoteDb.
    pub meta_rev_id: Option<String>,
    /// Whether only some may see it.
    #[serde(default)]
    pub is_private: bool,
    /// Stands at the last change of an answer that is not complete.
    #[serde(default, rename = "_more_changes")]
    pub more: bool,
}

/// `RevisionInfo`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Revision {
    /// What it changed of the one before, as Gerrit found by comparing: `REWORK`, `TRIVIAL_REBASE`, ...
    pub kind: Option<String>,
    /// Who uploaded it.
    pub uploader: Account,
    /// The commit.
    pub commit: Option<Commit>,
}

impl Revision {
    /// Whether it brings no code that the one before did not have.
    #[must_use]
    pub fn is_trivial(&self) -> bool {
        let kinds = ["TRIVIAL_REBASE", "TRIVIAL_REBASE_WITH_MESSAGE_UPDATE", "NO_CODE_CHANGE", "NO_CHANGE"];
        self.kind.as_deref().is_some_and(|kind| kinds.contains(&kind))
    }
}

/// `CommitInfo`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Commit {
    /// What it was made on.
    pub parents: Vec<Parent>,
    /// Who wrote it, by their own word.
    pub author: Signature,
    /// Who committed it.
    pub committer: Signature,
}

/// A commit by its name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Parent {
    /// The name.
    pub commit: String,
}

/// `GitPersonInfo`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Signature {
    /// An e-mail.
    pub email: String,
}

/// `LabelInfo` with details.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Label {
    /// Everybody's vote.
    #[serde(default)]
    pub all: Vec<Vote>,
    /// What can be voted: `-2`, ` 0`, `+2`.
    #[serde(default)]
    pub values: Unique<IgnoredAny>,
}

impl Label {
    /// The lowest that can be voted; `None` if that is not said.
    #[must_use]
    pub fn floor(&self) -> Option<i64> {
        let read = |text: &String| text.trim().trim_start_matches('+').parse::<i64>().ok();
        self.values.keys().map(read).collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

/// `ApprovalInfo`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Vote {
    /// By whom.
    #[serde(flatten)]
    pub by: Account,
    /// How: absent for who may not vote.
    pub value: Option<i64>,
    /// Whether it came after the change was merged.
    #[serde(default)]
    pub post_submit: bool,
}

/// `SubmitRequirementResultInfo`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Requirement {
    /// Its name.
    pub name: String,
    /// `SATISFIED`, `UNSATISFIED`, `OVERRIDDEN`, `NOT_APPLICABLE`, `FORCED`, `ERROR`, `TIMEOUT`.
    pub status: String,
}

/// A JSON object whose members stand once.
#[derive(Debug, Clone, PartialEq)]
pub struct Unique<V>(pub BTreeMap<String, V>);

impl<V> Default for Unique<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> Deref for Unique<V> {
    type Target = BTreeMap<String, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member stands twice"));
                    }
                }
                Ok(Unique(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// What Gerrit puts before its JSON, so that no browser runs it.
const PREFIX: &[u8] = b")]}'\n";

/// Reads an answer; `None` for whatever is not Gerrit's JSON of that form.
#[must_use]
pub fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body.strip_prefix(PREFIX)?).ok()
}

/// Gerrit's form of time, in UTC.
#[must_use]
pub fn time(text: &str) -> Option<Timestamp> {
    let read = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    u64::try_from(read.and_utc().timestamp_millis()).ok().map(Timestamp::from_millis)
}

impl Change {
    /// Whether the current patch set is like those that Gerrit makes when it rebases or cherry-picks what
    /// it merges: whoever had it merged is called uploader and committer, and brought no code. Of messages
    /// and their tags nothing is believed: every reviewer can write them.
    #[must_use]
    pub fn is_made_at_submit(&self, current: &Revision) -> bool {
        let submitter = self.submitter.as_ref();
        self.revisions.len() > 1
            && current.is_trivial()
            && submitter.is_some_and(|submitter| submitter.id == current.uploader.id)
    }
}

/// Whether a text names a commit to the letter: SHA-1 or SHA-256 in lower case.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gerrits_own_json_is_read() {
        assert_eq!(read::<Vec<u8>>(b")]}'\n[1]"), Some(vec![1]));
        for odd in [&b"[1]"[..], b")]}'[1]", b")]}'\n[1", b")]}'\n[1] x", b"<html>", b"", b")]}'\n\"a\""] {
            assert_eq!(read::<Vec<u8>>(odd), None, "{}", String::from_utf8_lossy(odd));
        }
        assert_eq!(read::<Unique<u8>>(b")]}'\n{\"a\": 1, \"a\": 2}"), None);
        let vote = read::<Vote>(b")]}'\n{\"_account_id\": 7, \"value\": \"2\"}");
        assert_eq!(vote, None, "a number is no text");
    }

    #[test]
    fn times_and_commits_are_read_to_the_letter() {
        let at = time("2013-02-21 11:16:36.615000000").unwrap();
        assert_eq!(at.to_rfc3339(), "2013-02-21T11:16:36.615Z");
        for odd in ["", "2013-02-21", "2013-02-21T11:16:36Z", "1900-01-01 00:00:00.0", "soon"] {
            assert_eq!(time(odd), None, "{odd}");
        }
        assert!(is_commit(&"a1".repeat(20)) && is_commit(&"0".repeat(64)));
        for odd in ["", "HEAD", &"A1".repeat(20), &"a".repeat(39), &"g".repeat(40), &"a".repeat(41)] {
            assert!(!is_commit(odd), "{odd}");
        }
    }
}
