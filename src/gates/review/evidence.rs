//! What is known of a review that let a call go on: goes into the record of the call.

use std::{collections::BTreeSet, sync::Arc};

use crate::time::Timestamp;

/// One review that an entry demanded, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The entry.
    pub entry: Arc<str>,
    /// Who was asked, by its name in the configuration.
    pub server: Arc<str>,
    /// The change, for people.
    pub url: String,
    /// The project.
    pub project: Arc<str>,
    /// The branch that held the commit.
    pub branch: Arc<str>,
    /// The commit that it is about.
    pub sha: String,
    /// The commit that was reviewed: the same, but where the host merged it by a commit of its own.
    pub revision: String,
    /// The change's number.
    pub number: u64,
    /// Its `Change-Id`, or `owner/name#42`, `group/name!42` at GitHub and GitLab.
    pub change_id: String,
    /// The state of its review in Gerrit's NoteDb.
    pub meta_rev_id: Option<String>,
    /// When it was merged, as the host writes it.
    pub submitted: String,
    /// How it was merged.
    pub submit_type: Option<String>,
    /// Whose votes counted.
    pub approvers: Vec<Approver>,
    /// The persons who wrote the code, sorted; `None` if one of them is not known as a person. For
    /// approvals that leave them out, not for the record.
    pub authors: Option<BTreeSet<String>>,
    /// Submit requirements or checks, and what became of them.
    pub requirements: Vec<(String, String)>,
    /// When the host was asked.
    pub asked: Timestamp,
}

/// Somebody whose vote counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    /// The account's number.
    pub account: u64,
    /// Who that is at the issuer by which people are told apart, where it is known.
    pub person: Option<String>,
}
