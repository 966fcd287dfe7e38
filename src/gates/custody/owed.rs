//! What is owed of a registration that was let through because its code was reviewed: a statement of the
//! facts that decided it. They are kept before the call is sent, so that whatever happens then, somebody
//! finds them and looks at Azure what became of it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Broken, CommitOf, Tie};
use crate::{
    azureml::{Registered, ResourceId},
    gates::review::Evidence,
    policy::Permit,
    store::{Came, OwedRow, Store},
    time::SharedClock,
};

/// Of a call whose outcome nobody noted, Azure is asked so long after it.
const UNHEARD: Duration = Duration::from_secs(120);

/// One statement that is owed: JSON in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// Of which model.
    pub model: Wanted,
    /// In what the model lies: the id of a job, or of a version that it copies.
    pub from: String,
    /// The id of the job that made it.
    pub job: String,
    /// Whether the call submits that job, which registers what it makes when it ends.
    pub by_itself: bool,
    /// The job's commit, and how it is known.
    pub tie: Tie,
    /// Who let it in, and by what.
    pub decided: Decided,
    /// The review that counted.
    pub review: Reviewed,
    /// The statement's id, once it is made and remains to be written to the model.
    #[serde(default)]
    pub stated: Option<String>,
}

/// Which model a statement is owed of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The version of this id.
    Version(String),
    /// A version that the service numbers.
    Named {
        /// The id of the workspace or registry.
        home: String,
        /// The model's name.
        name: String,
    },
    /// None that could be found; why.
    Unknown(String),
}

/// The decision, as far as it is stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Its id.
    pub decision: String,
    /// SHA-256 of the policies.
    pub policy: [u8; 32],
    /// The entry that demanded the review.
    pub entry: String,
    /// Who registers: issuer and subject.
    pub caller: String,
    /// When the code host was asked, in milliseconds since 1970.
    pub asked: u64,
}

/// The review, as far as it is stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewed {
    /// The change, for people.
    pub url: String,
    /// The project.
    pub project: String,
    /// The branch that holds the commit.
    pub branch: String,
    /// The change's number.
    pub number: u64,
    /// The state of its review.
    pub meta_revision: Option<String>,
    /// When it was merged, as the host writes it.
    pub submitted: String,
    /// Whose votes counted: account, and the person where one is known.
    pub approvers: Vec<(u64, Option<String>)>,
}

/// What one call owes: settled when this is dropped, by what was said to have come of it.
#[derive(Debug)]
pub(in crate::gates) struct Owes {
    decision: String,
    came: OnceLock<Came>,
    store: Store,
    changes: watch::Sender<u64>,
    clock: SharedClock,
}

impl Owes {
    /// Says what came of the call; the first word counts.
    pub fn came(&self, came: Came) {
        let _first_counts = self.came.set(came);
    }
}

impl Drop for Owes {
    fn drop(&mut self) {
        // What was never sent owes nothing.
        let came = self.came.get().copied().unwrap_or(Came::Not);
        let changes = self.changes.clone();
        let decision = std::mem::take(&mut self.decision);
        self.store.settle_owed_later(decision, came, self.clock.now(), move || {
            changes.send_modify(|n| *n = n.wrapping_add(1));
        });
    }
}

/// What came of a registration, by the answer's status; `sent` is whether anything was sent at all.
#[must_use]
pub const fn came(sent: bool, status: Option<u16>) -> Came {
    match (sent, status) {
        (false, None) => Came::Not,
        (_, Some(200..300)) => Came::Taken,
        (_, Some(400..500)) => Came::Not,
        (_, Some(_)) | (true, None) => Came::Unknown,
    }
}

/// The statements that a call owes: one for each model that it registers, if a review followed it to the
/// job that made it.
#[must_use]
pub fn owed(permit: &Permit, reviews: &[Evidence], commits: &[CommitOf]) -> Vec<Owed> {
    let pair = reviews
        .iter()
        .find_map(|review| commits.iter().find(|c| c.tie.commit == review.sha).map(|c| (review, c)));
    let Some((review, commit)) = pair else { return Vec::new() };
    let (Some(from), Some(job)) = (commit.through.first(), commit.through.last()) else { return Vec::new() };
    let one = |model: Registered| Owed {
        model: match model {
            Registered::Version(id) => Wanted::Version(id.to_string()),
            Registered::Named { home, name } => {
                Wanted::Named { home: home.to_string(), name: name.as_ref().to_owned() }
            }
            Registered::Unknown(why) => Wanted::Unknown(why.as_ref().to_owned()),
        },
        from: from.to_string(),
        job: job.to_string(),
        by_itself: super::submits(permit),
        tie: commit.tie.clone(),
        decided: Decided {
            decision: permit.decision().to_string(),
            policy: *permit.policy_digest(),
            entry: review.entry.to_string(),
            caller: permit.principal().id.to_string(),
            asked: review.asked.as_millis(),
        },
        review: Reviewed {
            url: review.url.clone(),
            project: review.project.to_string(),
            branch: review.branch.to_string(),
            number: review.number,
            meta_revision: review.meta_rev_id.clone(),
            submitted: review.submitted.clone(),
            approvers: review.approvers.iter().map(|one| (one.account, one.person.clone())).collect(),
        },
        stated: None,
    };
    Registered::of(permit.operation(), permit.request().body.as_deref()).into_iter().map(one).collect()
}

impl Owed {
    /// The job that made the model; `None` for a row that no version of the gate wrote.
    #[must_use]
    pub fn job_id(&self) -> Option<ResourceId> {
        ResourceId::parse(&self.job)
    }

    /// Of which model, for people.
    #[must_use]
    pub fn called(&self) -> String {
        match &self.model {
            Wanted::Version(id) => id.clone(),
            Wanted::Named { home, name } => format!("{home}/models/{name}"),
            Wanted::Unknown(_) => self.from.clone(),
        }
    }
}

impl super::Custody {
    /// Keeps what a call owes, before it is sent; `None` if it owes nothing.
    ///
    /// # Errors
    /// [`Broken`] if it cannot be kept: then the call must not go on.
    pub(in crate::gates) async fn owe(
        &self,
        permit: &Permit,
        reviews: &[Evidence],
        commits: &[CommitOf],
    ) -> Result<Option<Owes>, Broken> {
        let all = owed(permit, reviews, commits);
        if all.is_empty() {
            return Ok(None);
        }
        let (now, decision) = (self.clock.now(), permit.decision().to_string());
        let mut rows = Vec::with_capacity(all.len());
        for (number, one) in all.iter().enumerate() {
            rows.push(OwedRow {
                id: format!("{decision}/{number}"),
                decision: decision.clone(),
                made: now,
                due: now.plus(UNHEARD),
                answered: false,
                version: 0,
                about: written(one)?,
            });
        }
        let store = self.store()?.clone();
        store.owe(rows).await.map_err(|error| {
            Broken::Unread(format!("the statement that it will need cannot be prepared now: {error}"))
        })?;
        let (changes, clock) = (self.owing.clone(), Arc::clone(&self.clock));
        Ok(Some(Owes { decision, came: OnceLock::new(), store, changes, clock }))
    }

    /// Changes whenever something is owed anew, or may be found out.
    #[must_use]
    pub fn owing(&self) -> watch::Receiver<u64> {
        self.owing.subscribe()
    }

    /// Something has happened at Azure: what is owed is looked at now, and not only when it is due. A
    /// store that does not answer leaves it to that.
    pub async fn hurry(&self) {
        let Some(store) = &self.store else { return };
        if let Err(error) = store.hurry_owed(self.clock.now()).await {
            tracing::warn!(%error, "what is owed is looked at when it is due");
        }
        self.owing.send_modify(|n| *n = n.wrapping_add(1));
    }
}

/// What is owed, as it is kept.
///
/// # Errors
/// [`Broken::Unread`], which does not happen to what this gate made.
pub fn written(owed: &Owed) -> Result<String, Broken> {
    serde_json::to_string(owed).map_err(|error| Broken::Unread(error.to_string()))
}
