//! What triggers start, as rows: what they mean is the triggers' business.
//!
//! There is one row for a trigger and a merged change. Whoever works on it takes a lease first, by one
//! conditional update, so that of several replicas one does; a lease that was not given back ends by
//! itself.

use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, instant, millis};
use crate::time::Timestamp;

const COLUMNS: &str = "id, trigger_name, server, change_number, commit_id, made, due, version, about";

/// When what is over is due.
pub const NEVER: Timestamp = Timestamp::from_millis(u64::MAX >> 1);

/// One run of a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub id: String,
    /// The trigger's name.
    pub trigger: String,
    /// The code host, by its name in the configuration.
    pub server: String,
    /// The change's number.
    pub change: u64,
    /// The commit that was merged.
    pub commit: String,
    /// When it was made.
    pub made: Timestamp,
    /// When it is to be looked at next; [`NEVER`] when it is over.
    pub due: Timestamp,
    /// How often the row was changed.
    pub version: i64,
    /// What else there is to know of it.
    pub about: String,
}

/// Which merges a trigger is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerBranch {
    /// The trigger's name.
    pub trigger: String,
    /// The code host, by its name in the configuration.
    pub server: String,
    /// The project.
    pub project: String,
    /// The branch.
    pub branch: String,
}

/// How far a trigger has looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// From when on it starts anything: when it was first seen.
    pub since: Timestamp,
    /// Merges that the gate read of before were looked at.
    pub walked: Timestamp,
}

impl Store {
    /// How far a trigger has looked. One that nobody has seen yet begins `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trigger_looked(&self, of: TriggerBranch, now: Timestamp) -> Result<Looked, StoreError> {
        self.ask(move |pool| async move {
            sqlx::query(
                "INSERT INTO trigger_branches (trigger_name, server, project, branch, since, walked) \
                 VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (trigger_name, server, project, branch) DO NOTHING",
            )
            .bind(of.trigger.clone())
            .bind(of.server.clone())
            .bind(of.project.clone())
            .bind(of.branch.clone())
            .bind(millis(now))
            .execute(&pool)
            .await?;
            let found = sqlx::query(
                "SELECT since, walked FROM trigger_branches \
                 WHERE trigger_name = $1 AND server = $2 AND project = $3 AND branch = $4",
            )
            .bind(of.trigger)
            .bind(of.server)
            .bind(of.project)
            .bind(of.branch)
            .fetch_one(&pool)
            .await?;
            Ok(Looked { since: instant(found.try_get(0)?), walked: instant(found.try_get(1)?) })
        })
        .await
    }

    /// A trigger has looked at all merges that the gate read of before an instant. That is never taken back.
    ///
    /// # Errors
    /// [`StoreError`]: then it looks again.
    pub async fn trigger_walked(&self, of: TriggerBranch, until: Timestamp) -> Result<(), StoreError> {
        self.ask(move |pool| async move {
            sqlx::query(
                "UPDATE trigger_branches SET walked = $1 \
                 WHERE trigger_name = $2 AND server = $3 AND project = $4 AND branch = $5 AND walked < $1",
            )
            .bind(millis(until))
            .bind(of.trigger)
            .bind(of.server)
            .bind(of.project)
            .bind(of.branch)
            .execute(&pool)
            .await
            .map(drop)
        })
        .await
    }

    /// Keeps a run; whether the trigger had none for the change yet. Of two, the first stays.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as not kept, and may have been.
    pub async fn keep_run(&self, row: RunRow) -> Result<bool, StoreError> {
        self.ask(move |pool| async move {
            let kept = sqlx::query(
                "INSERT INTO runs (id, trigger_name, server, change_number, commit_id, made, due, lease, version, about) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9) \
                 ON CONFLICT (trigger_name, server, change_number, commit_id) DO NOTHING",
            )
            .bind(row.id)
            .bind(row.trigger)
            .bind(row.server)
            .bind(i64::try_from(row.change).unwrap_or(i64::MAX))
            .bind(row.commit)
            .bind(millis(row.made))
            .bind(millis(row.due))
            .bind(row.version)
            .bind(row.about)
            .execute(&pool)
            .await?;
            Ok(kept.rows_affected() == 1)
        })
        .await
    }

    /// Runs that are due and that nobody works on: those that have waited longest first, at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn runs_due(&self, now: Timestamp, most: u32) -> Result<Vec<RunRow>, StoreError> {
        self.ask(move |pool| async move {
            let text = format!(
                "SELECT {COLUMNS} FROM runs WHERE due <= $1 AND lease <= $1 ORDER BY due, id LIMIT $2"
            );
            let found = sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(millis(now))
                .bind(i64::from(most))
                .fetch_all(&pool)
                .await?;
            found.iter().map(row).collect()
        })
        .await
    }

    /// The run of a trigger for a change.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn run_of(
        &self,
        trigger: &str,
        server: &str,
        change: u64,
        commit: &str,
    ) -> Result<Option<RunRow>, StoreError> {
        let (trigger, server, commit) = (trigger.to_owned(), server.to_owned(), commit.to_owned());
        self.ask(move |pool| async move {
            let text = format!(
                "SELECT {COLUMNS} FROM runs \
                 WHERE trigger_name = $1 AND server = $2 AND change_number = $3 AND commit_id = $4"
            );
            let found = sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(trigger)
                .bind(server)
                .bind(i64::try_from(change).unwrap_or(i64::MAX))
                .bind(commit)
                .fetch_optional(&pool)
                .await?;
            found.as_ref().map(row).transpose()
        })
        .await
    }

    /// Takes a run to work on until an instant; whether it was to be had: it is as it was read, and nobody
    /// works on it. Its version is one more from then on.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as not taken, and its lease ends by itself.
    pub async fn take_run(&self, row: &RunRow, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let (id, version) = (row.id.clone(), row.version);
        self.ask(move |pool| async move {
            let taken = sqlx::query(
                "UPDATE runs SET lease = $1, version = version + 1 WHERE id = $2 AND version = $3 AND lease <= $4",
            )
            .bind(millis(until))
            .bind(id)
            .bind(version)
            .bind(millis(now))
            .execute(&pool)
            .await?;
            Ok(taken.rows_affected() == 1)
        })
        .await
    }

    /// Changes a run that was taken, whose lease lasts until an instant, the beginning of time to give it
    /// back; whether it was still this one's. Its version is one more from then on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_run(&self, row: &RunRow, lease: Timestamp) -> Result<bool, StoreError> {
        let row = row.clone();
        self.ask(move |pool| async move {
            let changed = sqlx::query(
                "UPDATE runs SET due = $1, lease = $2, about = $3, version = version + 1 \
                 WHERE id = $4 AND version = $5",
            )
            .bind(millis(row.due))
            .bind(millis(lease))
            .bind(row.about)
            .bind(row.id)
            .bind(row.version)
            .execute(&pool)
            .await?;
            Ok(changed.rows_affected() == 1)
        })
        .await
    }
}

fn row(found: &AnyRow) -> Result<RunRow, sqlx::Error> {
    let change: i64 = found.try_get(3)?;
    Ok(RunRow {
        id: found.try_get(0)?,
        trigger: found.try_get(1)?,
        server: found.try_get(2)?,
        change: u64::try_from(change).unwrap_or_default(),
        commit: found.try_get(4)?,
        made: instant(found.try_get(5)?),
        due: instant(found.try_get(6)?),
        version: found.try_get(7)?,
        about: found.try_get(8)?,
    })
}
