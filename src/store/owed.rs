//! Statements that are owed, as rows: what they are about is for the gates to read.
//!
//! Of several replicas one works on a row: it puts off when the row is due, on the version that it read,
//! and whoever was faster has changed that.

use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, instant, millis};
use crate::time::Timestamp;

const COLUMNS: &str = "id, decision, made, due, answered, version, about";

/// One statement that is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwedRow {
    /// Its id.
    pub id: String,
    /// The decision by which the call was sent.
    pub decision: String,
    /// When that was.
    pub made: Timestamp,
    /// When it is looked at next.
    pub due: Timestamp,
    /// Whether Azure took the call; until it is known that it did, it may not have.
    pub answered: bool,
    /// Counts its changes.
    pub version: i64,
    /// What is to be stated.
    pub about: String,
}

/// What came of a call by which statements are owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Azure took it.
    Taken,
    /// Azure did not, or it was never sent: nothing is owed.
    Not,
    /// Nobody knows.
    Unknown,
}

impl Store {
    /// Keeps what is owed by one call, all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as not kept, and may have been.
    pub async fn owe(&self, rows: Vec<OwedRow>) -> Result<(), StoreError> {
        self.ask(move |pool| async move {
            let mut all = pool.begin().await?;
            for row in rows {
                sqlx::query(
                    "INSERT INTO owed_statements (id, decision, made, due, answered, version, about) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                )
                .bind(row.id)
                .bind(row.decision)
                .bind(millis(row.made))
                .bind(millis(row.due))
                .bind(i64::from(row.answered))
                .bind(row.version)
                .bind(row.about)
                .execute(&mut *all)
                .await?;
            }
            all.commit().await
        })
        .await
    }

    /// Notes what came of the call of a decision: what Azure took is due at once, what it did not is owed
    /// no more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_owed(&self, decision: &str, came: Came, now: Timestamp) -> Result<(), StoreError> {
        let decision = decision.to_owned();
        self.ask(move |pool| async move {
            let query = match came {
                Came::Unknown => return Ok(()),
                Came::Not => sqlx::query("DELETE FROM owed_statements WHERE decision = $1").bind(decision),
                Came::Taken => sqlx::query(
                    "UPDATE owed_statements SET answered = 1, due = $1, version = version + 1 WHERE decision = $2",
                )
                .bind(millis(now))
                .bind(decision),
            };
            query.execute(&pool).await.map(drop)
        })
        .await
    }

    /// The same without anybody waiting, on the control runtime; `then` is done behind it.
    pub fn settle_owed_later(
        &self,
        decision: String,
        came: Came,
        now: Timestamp,
        then: impl FnOnce() + Send + 'static,
    ) {
        let store = self.clone();
        self.inner.control.spawn(async move {
            match store.settle_owed(&decision, came, now).await {
                Ok(()) => then(),
                // It is looked for at Azure when it is due.
                Err(error) => tracing::warn!(%error, "what became of a registration could not be noted"),
            }
        });
    }

    /// What is due, the longest due first, at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn owed(&self, now: Timestamp, most: u32) -> Result<Vec<OwedRow>, StoreError> {
        self.ask(move |pool| async move {
            let text =
                format!("SELECT {COLUMNS} FROM owed_statements WHERE due <= $1 ORDER BY due, id LIMIT $2");
            let found = sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(millis(now))
                .bind(i64::from(most))
                .fetch_all(&pool)
                .await?;
            found.iter().map(row).collect()
        })
        .await
    }

    /// When the next one is due, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_owed(&self) -> Result<Option<Timestamp>, StoreError> {
        self.ask(move |pool| async move {
            let text = "SELECT due FROM owed_statements ORDER BY due, id LIMIT 1";
            let found = sqlx::query(text).fetch_optional(&pool).await?;
            found.map(|row| row.try_get(0).map(instant)).transpose()
        })
        .await
    }

    /// Puts one off until an instant, with what is to be known of it then; whether nobody else changed it
    /// since it was read.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_off_owed(
        &self,
        id: &str,
        version: i64,
        due: Timestamp,
        about: &str,
    ) -> Result<bool, StoreError> {
        let (id, about) = (id.to_owned(), about.to_owned());
        self.ask(move |pool| async move {
            let changed = sqlx::query(
                "UPDATE owed_statements SET due = $1, about = $2, version = version + 1 \
                 WHERE id = $3 AND version = $4",
            )
            .bind(millis(due))
            .bind(about)
            .bind(id)
            .bind(version)
            .execute(&pool)
            .await?;
            Ok(changed.rows_affected() == 1)
        })
        .await
    }

    /// Makes everything due that Azure took: somebody says that something has happened there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hurry_owed(&self, now: Timestamp) -> Result<(), StoreError> {
        self.ask(move |pool| async move {
            let text = "UPDATE owed_statements SET due = $1 WHERE answered = 1 AND due > $1";
            sqlx::query(text).bind(millis(now)).execute(&pool).await.map(drop)
        })
        .await
    }

    /// One is owed no more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn paid(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.ask(move |pool| async move {
            let text = "DELETE FROM owed_statements WHERE id = $1";
            sqlx::query(text).bind(id).execute(&pool).await.map(drop)
        })
        .await
    }
}

fn row(found: &AnyRow) -> Result<OwedRow, sqlx::Error> {
    Ok(OwedRow {
        id: found.try_get(0)?,
        decision: found.try_get(1)?,
        made: instant(found.try_get(2)?),
        due: instant(found.try_get(3)?),
        answered: found.try_get::<i64, _>(4)? != 0,
        version: found.try_get(5)?,
        about: found.try_get(6)?,
    })
}
