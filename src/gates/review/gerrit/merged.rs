//! What was merged to a branch, asked of a Gerrit page by page.
//!
//! Gerrit orders by when a change was last updated, and has no better order: being merged is an update, so
//! that whoever reads all that was updated since some time misses no merge. How old a change is Gerrit
//! reckons by its own clock, which need not be the gate's.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{Gerrit, escaped, quoted};
use crate::gates::review::{
    decide::{Step, Unreviewed, escaped_path, no},
    facts::{Unique, is_commit, time},
    merges::{Branch, Merge, Party},
    people::Account,
};

/// Changes of one page.
pub(in crate::gates::review) const PAGE: usize = 50;
/// Characters of a subject, or a name, that are kept.
const LONGEST: usize = 512;

/// A part of the past, by how long ago it was.
#[derive(Debug, Clone, Copy)]
pub(in crate::gates::review) struct Ages {
    /// What was updated longer ago does not belong to it.
    pub oldest: Duration,
    /// Nor does what was updated since; zero for none.
    pub youngest: Duration,
}

/// One page of what was merged.
#[derive(Debug)]
pub(in crate::gates::review) struct Page {
    /// The merges.
    pub found: Vec<Merged>,
    /// How many changes it has: where the next page begins.
    pub length: usize,
    /// Whether there are further ones.
    pub more: bool,
}

/// `ChangeInfo`, as far as a merge needs it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(in crate::gates::review) struct Merged {
    project: String,
    branch: String,
    change_id: String,
    status: String,
    subject: String,
    #[serde(rename = "_number")]
    pub number: u64,
    submitted: Option<String>,
    pub current_revision: Option<String>,
    #[serde(default)]
    revisions: Unique<Uploaded>,
    owner: Named,
    submitter: Option<Named>,
    #[serde(default, rename = "_more_changes")]
    more: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Uploaded {
    uploader: Named,
}

/// `AccountInfo`: who is meant, and what people read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Named {
    #[serde(rename = "_account_id")]
    id: u64,
    name: Option<String>,
}

/// Who accounts are, as far as it was asked already.
pub(in crate::gates::review) type Persons = BTreeMap<u64, Option<String>>;

impl Gerrit {
    /// A page of what was merged to a branch, the newest first, from its `skipped`th change on.
    ///
    /// # Errors
    /// [`Unreviewed`] if it is not to be had.
    pub(in crate::gates::review) async fn merged(
        &self,
        branch: &Branch,
        ages: Ages,
        skipped: usize,
    ) -> Result<Page, Unreviewed> {
        let (Some(project), Some(name)) = (quoted(&branch.project), quoted(&branch.branch)) else {
            return Err(no(Step::Reading, "the branch cannot be asked about"));
        };
        let mut query = format!(
            "status:merged project:{project} branch:{name} -age:{}s",
            ages.oldest.as_secs().saturating_add(1)
        );
        if !ages.youngest.is_zero() {
            query.push_str(&format!(" age:{}s", ages.youngest.as_secs()));
        }
        let path = format!(
            "/changes/?q={}&o=CURRENT_REVISION&o=DETAILED_ACCOUNTS&n={PAGE}&S={skipped}",
            escaped(&query)
        );
        let found: Vec<Merged> = self.get(&path).await.map_err(|why| self.failed("changes", why))?;
        let (length, more) = (found.len(), found.last().is_some_and(|last| last.more));
        // Whatever was asked for is looked for in the answer, too.
        let is_of_it = |change: &Merged| {
            change.status == "MERGED"
                && (change.project.as_str(), change.branch.as_str()) == (&*branch.project, &*branch.branch)
        };
        Ok(Page { found: found.into_iter().filter(is_of_it).collect(), length, more })
    }

    /// A merge with the people that took part.
    ///
    /// # Errors
    /// [`Unreviewed`] if Gerrit does not answer, or does not say what a merge must have.
    pub(in crate::gates::review) async fn told(
        &self,
        change: Merged,
        persons: &mut Persons,
    ) -> Result<Merge, Unreviewed> {
        let number = change.number;
        let lacking = || no(Step::Reading, format!("Gerrit does not say how change {number} was merged"));
        let commit = change.current_revision.clone().filter(|sha| is_commit(sha)).ok_or_else(lacking)?;
        let merged = change.submitted.as_deref().and_then(time).ok_or_else(lacking)?;
        let uploader =
            change.revisions.get(&commit).map(|revision| &revision.uploader).ok_or_else(lacking)?;
        let owner = self.party(&change.owner, persons).await?;
        let uploader = self.party(uploader, persons).await?;
        let submitter = match &change.submitter {
            Some(submitter) => Some(self.party(submitter, persons).await?),
            None => None,
        };
        Ok(Merge {
            server: self.name.clone(),
            url: format!("{}/c/{}/+/{}", self.web, escaped_path(&change.project), change.number),
            project: change.project,
            branch: change.branch,
            number: change.number,
            change_id: change.change_id,
            commit,
            merged,
            subject: shortened(&change.subject),
            owner,
            uploader,
            submitter,
        })
    }

    async fn party(&self, named: &Named, persons: &mut Persons) -> Result<Party, Unreviewed> {
        let person = match persons.get(&named.id) {
            Some(known) => known.clone(),
            None => {
                let found = self.person_behind(named.id).await?;
                persons.insert(named.id, found.clone());
                found
            }
        };
        Ok(Party { account: named.id, name: named.name.as_deref().map(shortened), person })
    }

    /// Who an account is; nobody if it is closed, a machine's, or does not say.
    async fn person_behind(&self, account: u64) -> Result<Option<String>, Unreviewed> {
        let found = self.account(account).await?.filter(Account::is_used);
        Ok(found.and_then(|account| self.people.person(&account)))
    }
}

/// For people: on one line, and not too long.
fn shortened(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}
