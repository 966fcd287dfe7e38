//! Browser sessions, as rows.

use sqlx::Row as _;

use super::{Store, StoreError, instant, millis};
use crate::time::Timestamp;

/// A session of a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The digest of what its cookie holds.
    pub id: String,
    /// Counts its changes.
    pub version: i64,
    /// The configured issuer's name.
    pub issuer: String,
    /// The subject at the issuer: `sub` of its ID token.
    pub subject: String,
    /// The issuer's own session (`sid`), if it names one.
    pub issuer_session: Option<String>,
    /// The issuer's tokens, sealed under a key that is not in the store.
    pub sealed: String,
    /// When it began.
    pub created: Timestamp,
    /// When it was last used, to the minute or so.
    pub seen: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

const COLUMNS_OF_ONE: &str = "SELECT id, version, issuer, subject, issuer_session, sealed, created, seen, expires \
                              FROM sessions WHERE id = $1";

impl Store {
    /// Keeps a new session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_session(&self, row: SessionRow) -> Result<(), StoreError> {
        self.ask(move |pool| async move {
            sqlx::query(
                "INSERT INTO sessions \
                 (id, version, issuer, subject, issuer_session, sealed, created, seen, expires) \
                 VALUES ($1, 0, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(row.id)
            .bind(row.issuer)
            .bind(row.subject)
            .bind(row.issuer_session)
            .bind(row.sealed)
            .bind(millis(row.created))
            .bind(millis(row.seen))
            .bind(millis(row.expires))
            .execute(&pool)
            .await
            .map(drop)
        })
        .await
    }

    /// The session of a digest, ended ones not among them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&self, id: &str) -> Result<Option<SessionRow>, StoreError> {
        let id = id.to_owned();
        self.ask(move |pool| async move {
            let row = sqlx::query(COLUMNS_OF_ONE).bind(id).fetch_optional(&pool).await?;
            row.map(|row| {
                Ok(SessionRow {
                    id: row.try_get(0)?,
                    version: row.try_get(1)?,
                    issuer: row.try_get(2)?,
                    subject: row.try_get(3)?,
                    issuer_session: row.try_get(4)?,
                    sealed: row.try_get(5)?,
                    created: instant(row.try_get(6)?),
                    seen: instant(row.try_get(7)?),
                    expires: instant(row.try_get(8)?),
                })
            })
            .transpose()
        })
        .await
    }

    /// Puts other tokens in place, and notes the use, if nobody changed the session since it was
    /// read; whether that was so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew_session(
        &self,
        read: &SessionRow,
        sealed: String,
        seen: Timestamp,
        expires: Timestamp,
    ) -> Result<bool, StoreError> {
        let (id, version) = (read.id.clone(), read.version);
        self.ask(move |pool| async move {
            let changed = sqlx::query(
                "UPDATE sessions SET version = version + 1, sealed = $3, seen = $4, expires = $5 \
                 WHERE id = $1 AND version = $2",
            )
            .bind(id)
            .bind(version)
            .bind(sealed)
            .bind(millis(seen))
            .bind(millis(expires))
            .execute(&pool)
            .await?;
            Ok(changed.rows_affected() == 1)
        })
        .await
    }

    /// Ends a session; whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_session(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.ask(move |pool| async move {
            let ended = sqlx::query("DELETE FROM sessions WHERE id = $1").bind(id).execute(&pool).await?;
            Ok(ended.rows_affected() == 1)
        })
        .await
    }

    /// Ends the sessions of a subject, or the one that the issuer's own session began; digest and
    /// subject of those that ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_sessions(
        &self,
        issuer: &str,
        subject: Option<&str>,
        issuer_session: Option<&str>,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let (issuer, subject) = (issuer.to_owned(), subject.map(ToOwned::to_owned));
        let issuer_session = issuer_session.map(ToOwned::to_owned);
        self.ask(move |pool| async move {
            // A demand that is not made is met by everything; one of them is always made.
            if subject.is_none() && issuer_session.is_none() {
                return Ok(Vec::new());
            }
            sqlx::query_as(
                "DELETE FROM sessions WHERE issuer = $1 AND ($2 = '' OR subject = $2) \
                 AND ($3 = '' OR issuer_session = $3) RETURNING id, subject",
            )
            .bind(issuer)
            .bind(subject.unwrap_or_default())
            .bind(issuer_session.unwrap_or_default())
            .fetch_all(&pool)
            .await
        })
        .await
    }

    /// Forgets what has ended or was spent and is too old to be presented again; how many rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_expired(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.ask(move |pool| async move {
            let mut forgotten = 0;
            for statement in [
                "DELETE FROM sessions WHERE expires <= $1",
                "DELETE FROM spent WHERE expires <= $1",
                "DELETE FROM revocations WHERE expires <= $1",
                "DELETE FROM offline_codes WHERE expires <= $1",
            ] {
                forgotten += sqlx::query(statement).bind(millis(now)).execute(&pool).await?.rows_affected();
            }
            Ok(forgotten)
        })
        .await
    }
}
