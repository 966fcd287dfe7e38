//! Models of which somebody else told that they were registered, as rows: whether there is anything wrong
//! with them is the gates' business.

use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, instant, millis};
use crate::time::Timestamp;

const COLUMNS: &str = "model, named, resource, hook, event, happened, due";

/// A model that was registered, as somebody told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationRow {
    /// The model's id, in lower case.
    pub model: String,
    /// As it was spelled.
    pub named: String,
    /// As Resource Manager names it.
    pub resource: String,
    /// Where it was told, by the name in the configuration.
    pub hook: String,
    /// Tells one telling from another that is not its repetition.
    pub event: String,
    /// When it was registered, by whoever told.
    pub happened: Timestamp,
    /// When it is looked at.
    pub due: Timestamp,
}

impl Store {
    /// Keeps what was told, unless that waits already or was told before; whether it is new. Of what was
    /// settled, another telling is new.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as not kept, and may have been. Also if `most` wait already.
    pub async fn keep_registration(&self, row: RegistrationRow, most: u32) -> Result<bool, StoreError> {
        let kept = self
            .ask(move |pool| async move {
                let waiting: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM registrations WHERE settled = 0")
                    .fetch_one(&pool)
                    .await?;
                if waiting >= i64::from(most) {
                    return Ok(None);
                }
                let kept = sqlx::query(
                    "INSERT INTO registrations (model, named, resource, hook, event, happened, due, claimed, settled) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0) ON CONFLICT (model) DO UPDATE SET \
                     named = excluded.named, resource = excluded.resource, hook = excluded.hook, \
                     event = excluded.event, happened = excluded.happened, due = excluded.due, \
                     claimed = 0, settled = 0 \
                     WHERE registrations.settled > 0 AND registrations.event <> excluded.event",
                )
                .bind(row.model)
                .bind(row.named)
                .bind(row.resource)
                .bind(row.hook)
                .bind(row.event)
                .bind(millis(row.happened))
                .bind(millis(row.due))
                .execute(&pool)
                .await?;
                Ok(Some(kept.rows_affected() == 1))
            })
            .await?;
        kept.ok_or(StoreError::Busy)
    }

    /// What is due and nobody looks at: the oldest first, at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_registrations(
        &self,
        now: Timestamp,
        most: u32,
    ) -> Result<Vec<RegistrationRow>, StoreError> {
        self.ask(move |pool| async move {
            let text = format!(
                "SELECT {COLUMNS} FROM registrations WHERE settled = 0 AND due <= $1 AND claimed <= $1 \
                 ORDER BY due, model LIMIT $2"
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

    /// Looks at one until an instant, as the only replica; whether nobody else does.
    ///
    /// # Errors
    /// [`StoreError`]: then somebody may.
    pub async fn claim_registration(
        &self,
        model: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let model = model.to_owned();
        self.ask(move |pool| async move {
            let claimed = sqlx::query(
                "UPDATE registrations SET claimed = $1 WHERE model = $2 AND settled = 0 AND claimed <= $3",
            )
            .bind(millis(until))
            .bind(model)
            .bind(millis(now))
            .execute(&pool)
            .await?;
            Ok(claimed.rows_affected() == 1)
        })
        .await
    }

    /// There is nothing more to look at.
    ///
    /// # Errors
    /// [`StoreError`]: then it is looked at again.
    pub async fn settle_registration(&self, model: &str, now: Timestamp) -> Result<(), StoreError> {
        let model = model.to_owned();
        self.ask(move |pool| async move {
            sqlx::query("UPDATE registrations SET settled = $1 WHERE model = $2 AND settled = 0")
                .bind(millis(now).max(1))
                .bind(model)
                .execute(&pool)
                .await
                .map(drop)
        })
        .await
    }

    /// Forgets what was settled before an instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_registrations(&self, before: Timestamp) -> Result<(), StoreError> {
        self.ask(move |pool| async move {
            sqlx::query("DELETE FROM registrations WHERE settled > 0 AND settled < $1")
                .bind(millis(before))
                .execute(&pool)
                .await
                .map(drop)
        })
        .await
    }
}

fn row(found: &AnyRow) -> Result<RegistrationRow, sqlx::Error> {
    Ok(RegistrationRow {
        model: found.try_get(0)?,
        named: found.try_get(1)?,
        resource: found.try_get(2)?,
        hook: found.try_get(3)?,
        event: found.try_get(4)?,
        happened: instant(found.try_get(5)?),
        due: instant(found.try_get(6)?),
    })
}
