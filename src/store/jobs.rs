//! Which commit a job was submitted from, as rows: what they mean is the gates' business.
//!
//! A row is added before its job is sent and never changed. A name that is submitted twice has two
//! rows; which of them is the job's is said by the job.

use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, instant, millis};
use crate::time::Timestamp;

/// One submission of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The job's id, in lower case.
    pub job: String,
    /// The decision by which it was sent.
    pub decision: String,
    /// The commit; `None` where it could not be told.
    pub commit: Option<String>,
    /// When.
    pub made: Timestamp,
    /// What else there is to know of it.
    pub about: String,
}

impl Store {
    /// Keeps a submission; whether it was not there yet.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as not kept, and may have been.
    pub async fn keep_job(&self, row: JobRow) -> Result<bool, StoreError> {
        self.ask(move |pool| async move {
            let kept = sqlx::query(
                "INSERT INTO jobs (job, decision, commit_id, made, about) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (job, decision) DO NOTHING",
            )
            .bind(row.job)
            .bind(row.decision)
            .bind(row.commit)
            .bind(millis(row.made))
            .bind(row.about)
            .execute(&pool)
            .await?;
            Ok(kept.rows_affected() == 1)
        })
        .await
    }

    /// The submission of a job by a decision.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job(&self, job: &str, decision: &str) -> Result<Option<JobRow>, StoreError> {
        let (job, decision) = (job.to_owned(), decision.to_owned());
        self.ask(move |pool| async move {
            let found = sqlx::query(
                "SELECT job, decision, commit_id, made, about FROM jobs WHERE job = $1 AND decision = $2",
            )
            .bind(job)
            .bind(decision)
            .fetch_optional(&pool)
            .await?;
            found.as_ref().map(row).transpose()
        })
        .await
    }
}

fn row(found: &AnyRow) -> Result<JobRow, sqlx::Error> {
    Ok(JobRow {
        job: found.try_get("job")?,
        decision: found.try_get("decision")?,
        commit: found.try_get("commit_id")?,
        made: instant(found.try_get("made")?),
        about: found.try_get("about")?,
    })
}
