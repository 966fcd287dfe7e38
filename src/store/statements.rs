//! Statements of where models came from, as rows: who signed them and what they say is for their
//! readers to check.
//!
//! A row is kept once and never changed.

use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, instant, millis};
use crate::time::Timestamp;

const COLUMNS: &str = "id, model, tail, named, digest, decision, made, provenance, summary";

/// Of which models something is asked: those whose ids, or tails of ids, are this path or below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Below {
    /// All.
    Everything,
    /// By the whole id in lower case, without a slash at the end.
    Id(String),
    /// By its part from the workspace or registry on.
    Tail(String),
}

/// What was stated of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementRow {
    /// Its id: the SHA-256 of the provenance's envelope.
    pub id: String,
    /// The model's id, in lower case.
    pub model: String,
    /// Its part from the workspace or registry on: what people call it by.
    pub tail: String,
    /// The model's id, as it was spelled.
    pub named: String,
    /// What the statements know the model by: `algorithm:value`.
    pub digest: String,
    /// The decision that let the model in.
    pub decision: String,
    /// When it was stated.
    pub made: Timestamp,
    /// The envelope of the provenance.
    pub provenance: String,
    /// The envelope of the verification summary.
    pub summary: String,
}

impl Store {
    /// Keeps what was stated; whether the decision had no statement of the model yet. Of two, the first
    /// stays.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as not kept, and may have been.
    pub async fn keep_statement(&self, row: StatementRow) -> Result<bool, StoreError> {
        self.ask(move |pool| async move {
            let kept = sqlx::query(
                "INSERT INTO statements (id, model, tail, named, digest, decision, made, provenance, summary) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (model, decision) DO NOTHING",
            )
            .bind(row.id)
            .bind(row.model)
            .bind(row.tail)
            .bind(row.named)
            .bind(row.digest)
            .bind(row.decision)
            .bind(millis(row.made))
            .bind(row.provenance)
            .bind(row.summary)
            .execute(&pool)
            .await?;
            Ok(kept.rows_affected() == 1)
        })
        .await
    }

    /// What was stated of a model, by its id in lower case; the newest first, at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn statements_of(&self, model: &str, most: u32) -> Result<Vec<StatementRow>, StoreError> {
        self.statements_with("model", model, most).await
    }

    /// What was stated of the models of that name in all workspaces or registries of that name, by the
    /// part of their ids; the newest first, at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn statements_called(&self, tail: &str, most: u32) -> Result<Vec<StatementRow>, StoreError> {
        self.statements_with("tail", tail, most).await
    }

    async fn statements_with(
        &self,
        column: &'static str,
        value: &str,
        most: u32,
    ) -> Result<Vec<StatementRow>, StoreError> {
        let value = value.to_owned();
        self.ask(move |pool| async move {
            let text = format!(
                "SELECT {COLUMNS} FROM statements WHERE {column} = $1 ORDER BY made DESC, id DESC LIMIT $2"
            );
            let found = sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(value)
                .bind(i64::from(most))
                .fetch_all(&pool)
                .await?;
            found.iter().map(row).collect()
        })
        .await
    }

    /// One of them, by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn statement(&self, id: &str) -> Result<Option<StatementRow>, StoreError> {
        Ok(self.statements_with("id", id, 1).await?.pop())
    }

    /// What was stated before an instant, or of the same instant under a smaller id, of models below a
    /// path; the newest first, at most so many. Where to go on is the last one's instant and id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn statements_before(
        &self,
        before: Timestamp,
        id: &str,
        below: &Below,
        most: u32,
    ) -> Result<Vec<StatementRow>, StoreError> {
        let id = id.to_owned();
        let (column, path) = match below {
            Below::Everything => ("model", ""),
            Below::Id(path) => ("model", path.as_str()),
            Below::Tail(path) => ("tail", path.as_str()),
        };
        // Of `m` is no `m2`: a slash ends both.
        let path = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.ask(move |pool| async move {
            let text = format!(
                "SELECT {COLUMNS} FROM statements WHERE (made < $1 OR (made = $1 AND id < $2)) \
                 AND substr({column} || '/', 1, length($3)) = $3 ORDER BY made DESC, id DESC LIMIT $4"
            );
            let found = sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(millis(before))
                .bind(id)
                .bind(path)
                .bind(i64::from(most))
                .fetch_all(&pool)
                .await?;
            found.iter().map(row).collect()
        })
        .await
    }
}

fn row(found: &AnyRow) -> Result<StatementRow, sqlx::Error> {
    Ok(StatementRow {
        id: found.try_get(0)?,
        model: found.try_get(1)?,
        tail: found.try_get(2)?,
        named: found.try_get(3)?,
        digest: found.try_get(4)?,
        decision: found.try_get(5)?,
        made: instant(found.try_get(6)?),
        provenance: found.try_get(7)?,
        summary: found.try_get(8)?,
    })
}
