//! Changes that were merged, and how far each branch has been read, as rows: what they mean is the gates'
//! business.
//!
//! A merge is kept once and never changed, by whichever replica reads of it first.

use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, instant, millis};
use crate::time::Timestamp;

const COLUMNS: &str = "server, project, branch, number, commit_id, merged, seen, about";

/// A change that was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeRow {
    /// The code host, by its name in the configuration.
    pub server: String,
    /// The project.
    pub project: String,
    /// The branch.
    pub branch: String,
    /// The change's number.
    pub number: u64,
    /// The commit of its current patch set.
    pub commit: String,
    /// When it was merged, by the code host's clock.
    pub merged: Timestamp,
    /// When the gate read of it.
    pub seen: Timestamp,
    /// What else there is to know of it.
    pub about: String,
}

/// A branch whose merges are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRow {
    /// The code host, by its name in the configuration.
    pub server: String,
    /// The project.
    pub project: String,
    /// The branch.
    pub branch: String,
    /// From when on.
    pub since: Timestamp,
    /// Whatever happened before was read.
    pub walked: Timestamp,
}

impl Store {
    /// Keeps a merge; whether it was not there yet.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as not kept, and may have been.
    pub async fn keep_merge(&self, row: MergeRow) -> Result<bool, StoreError> {
        self.ask(move |pool| async move {
            let kept = sqlx::query(
                "INSERT INTO merges (server, project, branch, number, commit_id, merged, seen, about) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT (server, project, branch, number, commit_id) DO NOTHING",
            )
            .bind(row.server)
            .bind(row.project)
            .bind(row.branch)
            .bind(i64::try_from(row.number).unwrap_or(i64::MAX))
            .bind(row.commit)
            .bind(millis(row.merged))
            .bind(millis(row.seen))
            .bind(row.about)
            .execute(&pool)
            .await?;
            Ok(kept.rows_affected() == 1)
        })
        .await
    }

    /// The merges to a branch that the gate has read of since an instant, that instant included: in the
    /// order in which it did, at most so many. Whoever goes on where an answer ended asks from its last
    /// `seen` on, some seconds earlier where several replicas read, and knows by their keys which rows it
    /// had already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn merges_since(
        &self,
        server: &str,
        project: &str,
        branch: &str,
        since: Timestamp,
        most: u32,
    ) -> Result<Vec<MergeRow>, StoreError> {
        let (server, project, branch) = (server.to_owned(), project.to_owned(), branch.to_owned());
        self.ask(move |pool| async move {
            let text = format!(
                "SELECT {COLUMNS} FROM merges WHERE server = $1 AND project = $2 AND branch = $3 AND seen >= $4 \
                 ORDER BY seen, merged, number, commit_id LIMIT $5"
            );
            let found = sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(server)
                .bind(project)
                .bind(branch)
                .bind(millis(since))
                .bind(i64::from(most))
                .fetch_all(&pool)
                .await?;
            found.iter().map(merge).collect()
        })
        .await
    }

    /// How far a branch was read. If nobody read it yet, it is watched from `since` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn watched(
        &self,
        server: &str,
        project: &str,
        branch: &str,
        since: Timestamp,
    ) -> Result<WatchRow, StoreError> {
        let (server, project, branch) = (server.to_owned(), project.to_owned(), branch.to_owned());
        self.ask(move |pool| async move {
            sqlx::query(
                "INSERT INTO watched_branches (server, project, branch, since, walked) VALUES ($1, $2, $3, $4, $4) \
                 ON CONFLICT (server, project, branch) DO NOTHING",
            )
            .bind(server.clone())
            .bind(project.clone())
            .bind(branch.clone())
            .bind(millis(since))
            .execute(&pool)
            .await?;
            let found = sqlx::query(
                "SELECT since, walked FROM watched_branches WHERE server = $1 AND project = $2 AND branch = $3",
            )
            .bind(server.clone())
            .bind(project.clone())
            .bind(branch.clone())
            .fetch_one(&pool)
            .await?;
            let (since, walked) = (instant(found.try_get(0)?), instant(found.try_get(1)?));
            Ok(WatchRow { server, project, branch, since, walked })
        })
        .await
    }

    /// Whatever happened on a branch before an instant was read and kept. That is never taken back.
    ///
    /// # Errors
    /// [`StoreError`]: then it is read again.
    pub async fn walked(
        &self,
        server: &str,
        project: &str,
        branch: &str,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let (server, project, branch) = (server.to_owned(), project.to_owned(), branch.to_owned());
        self.ask(move |pool| async move {
            sqlx::query(
                "UPDATE watched_branches SET walked = $1 \
                 WHERE server = $2 AND project = $3 AND branch = $4 AND walked < $1",
            )
            .bind(millis(until))
            .bind(server)
            .bind(project)
            .bind(branch)
            .execute(&pool)
            .await
            .map(drop)
        })
        .await
    }
}

fn merge(found: &AnyRow) -> Result<MergeRow, sqlx::Error> {
    let number: i64 = found.try_get(3)?;
    Ok(MergeRow {
        server: found.try_get(0)?,
        project: found.try_get(1)?,
        branch: found.try_get(2)?,
        number: u64::try_from(number).unwrap_or_default(),
        commit: found.try_get(4)?,
        merged: instant(found.try_get(5)?),
        seen: instant(found.try_get(6)?),
        about: found.try_get(7)?,
    })
}
