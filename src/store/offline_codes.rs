//! Codes that sign in without the identity provider, as rows: neither a code nor what its holder's
//! token said can be read from them.

use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, instant, millis};
use crate::time::Timestamp;

/// A code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeRow {
    /// A keyed tag of it.
    pub tag: String,
    /// Whose it is.
    pub person: String,
    /// When it was made.
    pub made: Timestamp,
    /// Until when it counts.
    pub expires: Timestamp,
    /// What its holder's token said, sealed.
    pub sealed: String,
}

impl Store {
    /// Keeps codes in place of all that the person has not spent.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replace_codes(&self, person: &str, codes: Vec<CodeRow>) -> Result<(), StoreError> {
        let person = person.to_owned();
        self.ask(move |pool| async move {
            let mut transaction = pool.begin().await?;
            sqlx::query("DELETE FROM offline_codes WHERE person = $1 AND glass = ''")
                .bind(person)
                .execute(&mut *transaction)
                .await?;
            for code in codes {
                sqlx::query(
                    "INSERT INTO offline_codes (tag, person, glass, made, expires, sealed) \
                     VALUES ($1, $2, '', $3, $4, $5)",
                )
                .bind(code.tag)
                .bind(code.person)
                .bind(millis(code.made))
                .bind(millis(code.expires))
                .bind(code.sealed)
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await
        })
        .await
    }

    /// Until when each of the codes counts that the person has and that count at `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn codes_left(&self, person: &str, now: Timestamp) -> Result<Vec<Timestamp>, StoreError> {
        let person = person.to_owned();
        self.ask(move |pool| async move {
            let left: Vec<i64> = sqlx::query_scalar(
                "SELECT expires FROM offline_codes WHERE person = $1 AND glass = '' AND expires > $2 \
                 ORDER BY expires",
            )
            .bind(person)
            .bind(millis(now))
            .fetch_all(&pool)
            .await?;
            Ok(left.into_iter().map(instant).collect())
        })
        .await
    }

    /// The code of this tag, if it counts at `now` and nobody has spent it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn offline_code(&self, tag: &str, now: Timestamp) -> Result<Option<CodeRow>, StoreError> {
        let tag = tag.to_owned();
        self.ask(move |pool| async move {
            let row = sqlx::query(
                "SELECT tag, person, made, expires, sealed FROM offline_codes \
                 WHERE tag = $1 AND glass = '' AND expires > $2",
            )
            .bind(tag)
            .bind(millis(now))
            .fetch_optional(&pool)
            .await?;
            row.as_ref().map(code).transpose()
        })
        .await
    }

    /// Spends a code on a break-glass, if nobody spent it before and it counts at `now`; whether that
    /// was so.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as not spent for the asker, and may be.
    pub async fn spend_code(&self, tag: &str, glass: &str, now: Timestamp) -> Result<bool, StoreError> {
        let (tag, glass) = (tag.to_owned(), glass.to_owned());
        self.ask(move |pool| async move {
            let spent = sqlx::query(
                "UPDATE offline_codes SET glass = $2 WHERE tag = $1 AND glass = '' AND expires > $3",
            )
            .bind(tag)
            .bind(glass)
            .bind(millis(now))
            .execute(&pool)
            .await?;
            Ok(spent.rows_affected() == 1)
        })
        .await
    }

    /// Gives a code back that was spent on what came to nothing; whether it was.
    ///
    /// # Errors
    /// [`StoreError`]: then it stays spent.
    pub async fn return_code(&self, tag: &str, glass: &str) -> Result<bool, StoreError> {
        let (tag, glass) = (tag.to_owned(), glass.to_owned());
        self.ask(move |pool| async move {
            let returned = sqlx::query("UPDATE offline_codes SET glass = '' WHERE tag = $1 AND glass = $2")
                .bind(tag)
                .bind(glass)
                .execute(&pool)
                .await?;
            Ok(returned.rows_affected() == 1)
        })
        .await
    }
}

fn code(row: &AnyRow) -> Result<CodeRow, sqlx::Error> {
    Ok(CodeRow {
        tag: row.try_get(0)?,
        person: row.try_get(1)?,
        made: instant(row.try_get(2)?),
        expires: instant(row.try_get(3)?),
        sealed: row.try_get(4)?,
    })
}
