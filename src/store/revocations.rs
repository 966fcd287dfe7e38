//! What is refused though it verifies, as rows; and whether there is anything new.

use sqlx::Row as _;

use super::{Store, StoreError, instant, millis};
use crate::time::Timestamp;

/// What a revocation names.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RevocationKind {
    /// Everything of a principal.
    Principal,
    /// A session of a browser, by its digest, and what came of it.
    Session,
    /// A token by its `jti`, and what was exchanged for it.
    Token,
}

impl RevocationKind {
    /// As it stands in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Session => "session",
            Self::Token => "token",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Principal, Self::Session, Self::Token].into_iter().find(|kind| kind.name() == name)
    }
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its own id.
    pub id: String,
    /// What `value` is.
    pub kind: RevocationKind,
    /// The configured issuer's name; empty for a session.
    pub issuer: String,
    /// The subject, the session's digest, or the `jti`.
    pub value: String,
    /// Only what was issued up to then, if there is an instant.
    pub issued_before: Option<Timestamp>,
    /// Since when.
    pub made: Timestamp,
    /// Until when it must be remembered: nothing that it refuses lives longer.
    pub expires: Timestamp,
    /// Who revoked.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// All revocations at some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    /// Rises with each change.
    pub version: i64,
    /// Those that count.
    pub list: Vec<Revocation>,
}

impl Store {
    /// Revokes; every replica refuses it within half a second or so, and at once where it hears of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke(&self, new: Revocation) -> Result<(), StoreError> {
        let notice = self.notice();
        self.ask(move |pool| async move {
            let mut transaction = pool.begin().await?;
            // The counter first: whoever sees its value sees the row.
            sqlx::query("UPDATE changes SET version = version + 1 WHERE topic = 'revocations'")
                .execute(&mut *transaction)
                .await?;
            sqlx::query(
                "INSERT INTO revocations \
                 (id, kind, issuer, value, issued_before, made, expires, by_whom, reason) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(new.id)
            .bind(new.kind.name())
            .bind(new.issuer)
            .bind(new.value)
            .bind(new.issued_before.map(millis))
            .bind(millis(new.made))
            .bind(millis(new.expires))
            .bind(new.by)
            .bind(new.reason)
            .execute(&mut *transaction)
            .await?;
            notice.give(&mut transaction).await?;
            transaction.commit().await
        })
        .await
    }

    /// Lifts a revocation; whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lift_revocation(&self, id: &str) -> Result<bool, StoreError> {
        let (id, notice) = (id.to_owned(), self.notice());
        self.ask(move |pool| async move {
            let mut transaction = pool.begin().await?;
            sqlx::query("UPDATE changes SET version = version + 1 WHERE topic = 'revocations'")
                .execute(&mut *transaction)
                .await?;
            let lifted = sqlx::query("DELETE FROM revocations WHERE id = $1")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            notice.give(&mut transaction).await?;
            transaction.commit().await?;
            Ok(lifted.rows_affected() == 1)
        })
        .await
    }

    /// The revocations, if they are not those of version `seen`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revocations(
        &self,
        seen: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<Revocations>, StoreError> {
        self.ask(move |pool| async move {
            let version: i64 = sqlx::query_scalar("SELECT version FROM changes WHERE topic = 'revocations'")
                .fetch_one(&pool)
                .await?;
            if seen == Some(version) {
                return Ok(None);
            }
            let rows = sqlx::query(
                "SELECT id, kind, issuer, value, issued_before, made, expires, by_whom, reason \
                 FROM revocations WHERE expires > $1 ORDER BY made, id",
            )
            .bind(millis(now))
            .fetch_all(&pool)
            .await?;
            let list = rows.iter().map(revocation).collect::<Result<_, _>>()?;
            Ok(Some(Revocations { version, list }))
        })
        .await
    }
}

fn revocation(row: &sqlx::any::AnyRow) -> Result<Revocation, sqlx::Error> {
    let kind: String = row.try_get(1)?;
    Ok(Revocation {
        id: row.try_get(0)?,
        // A kind that only a newer gate knows is nothing that may be passed over.
        kind: RevocationKind::named(&kind)
            .ok_or_else(|| sqlx::Error::Protocol("a revocation of an unknown kind".to_owned()))?,
        issuer: row.try_get(2)?,
        value: row.try_get(3)?,
        issued_before: row.try_get::<Option<i64>, _>(4)?.map(instant),
        made: instant(row.try_get(5)?),
        expires: instant(row.try_get(6)?),
        by: row.try_get(7)?,
        reason: row.try_get(8)?,
    })
}
