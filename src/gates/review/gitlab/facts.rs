//! What a GitLab says of a commit, read so that nothing is assumed: a member of another type than GitLab's
//! own makes the whole answer unreadable, and an unreadable answer is a no.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Deserialize;

use super::super::checks::Check;
use crate::time::Timestamp;

/// Everything that was asked about one commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The project's number.
    pub project: u64,
    /// The merge requests that have to do with the commit.
    pub requests: Vec<Merge>,
    /// Whether the commit is on the branch now.
    pub on_branch: bool,
    /// The one that it came by, looked at closely.
    pub details: Option<Box<Details>>,
    /// When it was asked.
    pub asked: Timestamp,
}

/// A merge request, looked at closely.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// The merge request itself.
    pub request: Merge,
    /// Its commits, all of them.
    pub commits: Vec<Commit>,
    /// The accounts that have the e-mails of their committers, as far as GitLab knows one.
    pub committers: BTreeSet<u64>,
    /// Who approved.
    pub approvals: Approvals,
    /// Who was asked to review, and what came of it.
    pub reviewers: Vec<Reviewer>,
    /// What its branch held, the newest first.
    pub versions: Vec<Version>,
    /// Who pushed to its project, the newest first; `None` where that is not to be read.
    pub pushes: Option<Pushes>,
    /// What came to the branch, where that is another commit than the one that was reviewed.
    pub landed: Option<Landed>,
    /// What is known of those who approved or objected.
    pub people: BTreeMap<u64, Person>,
    /// Which of them are members of a group.
    pub groups: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// What ran on the commit that was reviewed.
    pub checks: Vec<Check>,
}

/// A merge request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Merge {
    /// Its number within the project.
    pub iid: u64,
    /// The project that it was merged in.
    pub project_id: u64,
    /// The project of its branch; none, once a fork is gone.
    pub source_project_id: Option<u64>,
    /// Its branch.
    pub source_branch: String,
    /// The branch that it was merged to.
    pub target_branch: String,
    /// `opened`, `closed`, `locked`, `merged`.
    pub state: String,
    /// Its last commit.
    pub sha: Option<String>,
    /// The commit that merged it, if one did.
    pub merge_commit_sha: Option<String>,
    /// What it was squashed to, if it was.
    pub squash_commit_sha: Option<String>,
    /// When it was merged.
    pub merged_at: Option<String>,
    /// Whose it is.
    pub author: Account,
    /// It, for people.
    pub web_url: String,
}

/// An account by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// The number.
    pub id: u64,
}

/// A commit of a merge request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its name.
    pub sha: String,
    /// Its author's e-mail, in lower case.
    pub author_mail: String,
    /// Its committer's, in lower case.
    pub committer_mail: String,
    /// Its message.
    pub message: String,
    /// Whose account the author's e-mail is.
    pub author: Option<u64>,
}

/// Who approved a merge request.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Approvals {
    /// Whether that is all that the project's own rules demand.
    pub approved: bool,
    /// Each one.
    pub approved_by: Vec<Approval>,
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Approval {
    /// By whom.
    pub user: Account,
    /// When; older GitLabs do not say.
    pub approved_at: Option<String>,
}

/// Somebody who was asked to review.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Reviewer {
    /// Who.
    pub user: Account,
    /// `unreviewed`, `reviewed`, `requested_changes`, `approved`, `unapproved`, `review_started`.
    pub state: String,
}

/// What a merge request's branch held.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Version {
    /// The commit.
    pub head_commit_sha: String,
    /// Since when.
    pub created_at: String,
}

/// Who pushed to a project.
#[derive(Debug, Clone, PartialEq)]
pub struct Pushes {
    /// The newest first.
    pub all: Vec<Event>,
    /// Whether there are no older ones.
    pub is_whole: bool,
}

/// Something that happened in a project.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// By whom.
    pub author_id: u64,
    /// When.
    pub created_at: String,
    /// What was pushed.
    pub push_data: Option<Pushed>,
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Pushed {
    /// `created`, `pushed`, `removed`.
    pub action: String,
    /// `branch` or `tag`.
    pub ref_type: String,
    /// Its name.
    #[serde(rename = "ref")]
    pub name: Option<String>,
    /// What it held before.
    pub commit_from: Option<String>,
    /// What it held afterwards.
    pub commit_to: Option<String>,
}

/// What came to the branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Landed {
    /// The commit.
    pub commit: Bare,
    /// Whether it differs in nothing from the commit that was reviewed.
    pub is_the_same: bool,
}

/// A commit by its name, with what it was made on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Bare {
    /// Its name.
    pub id: String,
    /// What it was made on.
    pub parent_ids: Vec<String>,
}

/// What is known of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// Whether it is an account that a human may use now.
    pub is_human: bool,
    /// Whether they may write to the project.
    pub writes: bool,
}
