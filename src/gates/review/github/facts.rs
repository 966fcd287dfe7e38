//! What a GitHub says of a commit, read so that nothing is assumed: a member of another type than GitHub's
//! own makes the whole answer unreadable, and an unreadable answer is a no.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::super::checks::Check;
use crate::time::Timestamp;

/// Everything that was asked about one commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The pull requests that have to do with the commit.
    pub pulls: Vec<Pull>,
    /// Whether the commit is on the branch now.
    pub on_branch: bool,
    /// The one that it came by, looked at closely.
    pub details: Option<Box<Details>>,
    /// When it was asked.
    pub asked: Timestamp,
}

/// A pull request, looked at closely.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// The pull request itself.
    pub pull: Pull,
    /// Its commits, all of them.
    pub commits: Vec<Commit>,
    /// What was said of it, the oldest first.
    pub said: Vec<Said>,
    /// What happened to it.
    pub happened: Vec<Happened>,
    /// Who moved its branch, the newest first; `None` where that is not to be read.
    pub pushes: Option<Pushes>,
    /// What came to the branch, where that is another commit than the one that was reviewed.
    pub landed: Option<Landed>,
    /// What accounts may do with the repository.
    pub access: BTreeMap<u64, Access>,
    /// Which of them are members of a team.
    pub teams: BTreeMap<std::sync::Arc<str>, BTreeSet<u64>>,
    /// What ran on the commit that was reviewed.
    pub checks: Vec<Check>,
}

/// Who moved a branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Pushes {
    /// The newest first.
    pub all: Vec<Push>,
    /// Whether there are no older ones.
    pub is_whole: bool,
}

/// What came to the branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Landed {
    /// The commit.
    pub commit: Bare,
    /// What the commit that was reviewed contains.
    pub reviewed: Tree,
    /// How the branch was moved by merging pull requests, the newest first.
    pub merges: Vec<Push>,
}

/// A user, organization or app.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// By which it can be named; another one may have it tomorrow.
    pub login: String,
    /// Its number.
    pub id: u64,
    /// `User`, `Bot`, `Organization`, `Mannequin`.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Account {
    /// Whether it is GitHub itself, that made a commit for somebody on its web pages or when it merged.
    #[must_use]
    pub fn is_github(&self) -> bool {
        self.login == "web-flow"
    }

    /// Whether a human may have it.
    #[must_use]
    pub fn is_human(&self) -> bool {
        self.kind == "User" && !self.is_github() && self.login != "ghost"
    }
}

/// Where GitHub knows nobody it writes `null`, or an object with nothing in it.
fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Account>, D::Error> {
    #[derive(Deserialize)]
    struct Perhaps {
        login: Option<String>,
        id: Option<u64>,
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    match Option::<Perhaps>::deserialize(deserializer)? {
        None | Some(Perhaps { login: None, id: None, kind: None }) => Ok(None),
        Some(Perhaps { login: Some(login), id: Some(id), kind: Some(kind) }) => {
            Ok(Some(Account { login, id, kind }))
        }
        Some(_) => Err(D::Error::custom("half an account")),
    }
}

/// A pull request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// It, for people.
    pub html_url: String,
    /// Whose it is.
    #[serde(default, deserialize_with = "known")]
    pub user: Option<Account>,
    /// When it was merged, if it was.
    pub merged_at: Option<String>,
    /// What came to the branch.
    pub merge_commit_sha: Option<String>,
    /// What was to be merged, as it was when it was.
    pub head: End,
    /// Where to.
    pub base: End,
    /// How many commits it has; only in the answer about it alone.
    pub commits: Option<u64>,
    /// Who had it merged; likewise.
    #[serde(default, deserialize_with = "known")]
    pub merged_by: Option<Account>,
}

/// A side of a pull request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct End {
    /// The branch.
    #[serde(rename = "ref")]
    pub branch: String,
    /// The commit.
    pub sha: String,
    /// Of which repository: of none, once a fork is gone.
    pub repo: Option<Repository>,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Repository {
    /// `owner/name`.
    pub full_name: String,
}

/// A commit of a pull request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Commit {
    /// Its name.
    pub sha: String,
    /// What Git knows of it.
    pub commit: Written,
    /// Whose account the author's e-mail is.
    #[serde(default, deserialize_with = "known")]
    pub author: Option<Account>,
    /// Whose account the committer's e-mail is.
    #[serde(default, deserialize_with = "known")]
    pub committer: Option<Account>,
    /// What it was made on.
    pub parents: Vec<Name>,
}

/// What Git knows of a commit.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Written {
    /// Who wrote it, by their own word.
    pub author: Option<Signature>,
    /// Its message.
    pub message: String,
    /// Whether GitHub believes its signature.
    pub verification: Option<Verification>,
}

/// Who wrote something, by their own word.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Signature {
    /// An e-mail.
    pub email: Option<String>,
}

/// What GitHub found of a signature.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Verification {
    /// Whether it is whoever committed it.
    pub verified: bool,
}

/// A commit by its name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Name {
    /// The name.
    pub sha: String,
}

/// A commit without what it changes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Bare {
    /// Its name.
    pub sha: String,
    /// What it contains.
    pub tree: Name,
    /// What it was made on.
    pub parents: Vec<Name>,
}

/// What a commit contains, by its name.
pub type Tree = String;

/// A review.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Said {
    /// By whom.
    #[serde(default, deserialize_with = "known")]
    pub user: Option<Account>,
    /// `APPROVED`, `CHANGES_REQUESTED`, `COMMENTED`, `DISMISSED`, `PENDING`.
    pub state: String,
    /// Of which commit.
    pub commit_id: Option<String>,
    /// When.
    pub submitted_at: Option<String>,
}

/// Something that happened to a pull request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Happened {
    /// `labeled`, `base_ref_changed`, ...
    pub event: String,
    /// When.
    pub created_at: Option<String>,
}

/// How a branch was moved.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Push {
    /// What it held before.
    pub before: String,
    /// What it held afterwards.
    pub after: String,
    /// Which, with `refs/heads/`.
    #[serde(rename = "ref")]
    pub branch: String,
    /// When.
    pub timestamp: String,
    /// `push`, `force_push`, `branch_creation`, `branch_deletion`, `pr_merge`, `merge_queue_merge`.
    pub activity_type: String,
    /// By whom.
    #[serde(default, deserialize_with = "known")]
    pub actor: Option<Account>,
}

/// What somebody may do with a repository.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Access {
    /// `admin`, `write`, `read` or `none`; what else there is counts as one of them.
    pub permission: String,
    /// Who.
    #[serde(default, deserialize_with = "known")]
    pub user: Option<Account>,
}

impl Access {
    /// Whether an account may write. By its number, because others may take its name meanwhile.
    #[must_use]
    pub fn writes(&self, account: u64) -> bool {
        self.user.as_ref().is_some_and(|user| user.id == account)
            && ["admin", "write"].contains(&self.permission.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nobody_is_null_or_an_object_with_nothing_in_it_and_half_an_account_is_unreadable() {
        let said = |user: serde_json::Value| {
            let said = json!({"user": user, "state": "APPROVED", "commit_id": null, "submitted_at": null});
            serde_json::from_value::<Said>(said).ok().map(|said| said.user)
        };
        assert_eq!(said(json!(null)), Some(None));
        assert_eq!(said(json!({})), Some(None));
        let bo = Account { login: "bo".into(), id: 2, kind: "User".into() };
        assert_eq!(
            said(json!({"login": "bo", "id": 2, "type": "User", "site_admin": false})),
            Some(Some(bo))
        );
        for odd in [json!({"login": "bo"}), json!({"id": 2, "type": "User"}), json!("bo"), json!([])] {
            assert_eq!(said(odd.clone()), None, "{odd}");
        }
        assert_eq!(said(json!({"login": "bo", "id": "2", "type": "User"})), None, "a number is no text");
    }
}
