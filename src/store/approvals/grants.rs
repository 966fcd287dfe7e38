//! Grants, and their uses.

use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{
    super::{Store, StoreError, instant, millis},
    CHANGED, Page,
};
use crate::time::Timestamp;

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// Its id.
    pub id: String,
    /// Counts its changes.
    pub version: i64,
    /// `active`, `revoked` or `expired`.
    pub state: String,
    /// What it is bound to.
    pub bound: String,
    /// Who may use it.
    pub person: String,
    /// How often; 0 for as often as it holds.
    pub uses: i64,
    /// How often it was used.
    pub used: i64,
    /// Since when it holds.
    pub made: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// What was granted.
    pub terms: String,
}

/// A use of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseRow {
    /// Its id.
    pub id: String,
    /// Counts its changes.
    pub version: i64,
    /// The grant.
    pub grant: String,
    /// The same for a call that is sent again; empty if that cannot be told.
    pub resend: String,
    /// The decision of the first attempt.
    pub decision: String,
    /// `open`, `unknown` or `known`.
    pub state: String,
    /// How often it was sent.
    pub tries: i64,
    /// When it was last sent.
    pub at: Timestamp,
}

/// What came of wanting a use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is taken.
    Yes,
    /// The grant has none left, or holds no more.
    No,
    /// The same call has taken one since: look at it.
    Again,
}

/// What became of a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is given back.
    Back,
    /// The call may have been done, or not.
    Unknown,
    /// The call was answered.
    Known,
}

const COLUMNS: &str = "id, version, state, bound, person, uses, used, made, expires, terms";
/// Later than any time that is kept, and far from where BIGINT ends.
const FOREVER: i64 = 1 << 60;
const USE_COLUMNS: &str = "id, version, grant_id, resend, decision, state, tries, at";

impl GrantRow {
    pub(super) async fn insert(self, transaction: &mut Transaction<'_, Any>) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO approval_grants \
             (id, version, state, bound, person, uses, used, made, expires, terms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(self.id)
        .bind(self.version)
        .bind(self.state)
        .bind(self.bound)
        .bind(self.person)
        .bind(self.uses)
        .bind(self.used)
        .bind(millis(self.made))
        .bind(millis(self.expires))
        .bind(self.terms)
        .execute(&mut **transaction)
        .await
        .map(drop)
    }
}

impl Store {
    /// The grants that are bound so and hold at `now`, each with the last use that this call made of it.
    /// Of those that are used up only those that this call used, and behind the others, the latest
    /// first: however many were used up before, they hide none that is left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn grants_for(
        &self,
        bound: &str,
        resend: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<(GrantRow, Option<UseRow>)>, StoreError> {
        let (bound, resend) = (bound.to_owned(), resend.map(ToOwned::to_owned));
        self.ask(move |pool| async move {
            let text = format!(
                "SELECT {COLUMNS} FROM approval_grants \
                 WHERE bound = $1 AND expires > $2 AND state = 'active' AND (uses = 0 OR used < uses \
                 OR EXISTS (SELECT 1 FROM approval_uses WHERE grant_id = approval_grants.id AND resend = $3)) \
                 ORDER BY CASE WHEN uses = 0 OR used < uses THEN expires - {FOREVER} ELSE -expires END, id \
                 LIMIT 16"
            );
            let grants = sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(bound)
                .bind(millis(now))
                .bind(resend.clone())
                .fetch_all(&pool)
                .await?;
            let mut found = Vec::with_capacity(grants.len());
            for row in &grants {
                let row = grant(row)?;
                let last = match &resend {
                    None => None,
                    Some(resend) => {
                        let text = format!(
                            "SELECT {USE_COLUMNS} FROM approval_uses \
                             WHERE grant_id = $1 AND resend = $2 ORDER BY at DESC, id DESC LIMIT 1"
                        );
                        let last = sqlx::query(sqlx::AssertSqlSafe(text))
                            .bind(row.id.clone())
                            .bind(resend.clone())
                            .fetch_optional(&pool)
                            .await?;
                        last.as_ref().map(used).transpose()?
                    }
                };
                found.push((row, last));
            }
            Ok(found)
        })
        .await
    }

    /// Takes a use of a grant that holds and has one left, unless this call took one since `since`.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as not taken, and may have been.
    pub async fn take_use(&self, row: UseRow, since: Timestamp) -> Result<Taken, StoreError> {
        self.ask(move |pool| async move {
            let mut transaction = pool.begin().await?;
            let counted = sqlx::query(
                "UPDATE approval_grants SET used = used + 1, version = version + 1 \
                 WHERE id = $1 AND state = 'active' AND expires > $2 AND (uses = 0 OR used < uses)",
            )
            .bind(row.grant.clone())
            .bind(millis(row.at))
            .execute(&mut *transaction)
            .await?;
            // Others who want the same grant wait here for this one's end.
            let again: i64 = if row.resend.is_empty() {
                0
            } else {
                sqlx::query_scalar(
                    "SELECT COUNT(*) FROM approval_uses \
                     WHERE grant_id = $1 AND resend = $2 AND state <> 'known' AND at > $3",
                )
                .bind(row.grant.clone())
                .bind(row.resend.clone())
                .bind(millis(since))
                .fetch_one(&mut *transaction)
                .await?
            };
            if again > 0 {
                return Ok(Taken::Again);
            }
            if counted.rows_affected() != 1 {
                return Ok(Taken::No);
            }
            sqlx::query(
                "INSERT INTO approval_uses (id, version, grant_id, resend, decision, state, tries, at) \
                 VALUES ($1, 0, $2, $3, $4, 'open', 1, $5)",
            )
            .bind(row.id)
            .bind(row.grant)
            .bind(row.resend)
            .bind(row.decision)
            .bind(millis(row.at))
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(Taken::Yes)
        })
        .await
    }

    /// Opens a use again for the same call, if nobody did since it was read and its grant still holds;
    /// whether that was so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_again(&self, read: &UseRow, now: Timestamp) -> Result<bool, StoreError> {
        let (id, version) = (read.id.clone(), read.version);
        self.ask(move |pool| async move {
            let opened = sqlx::query(
                "UPDATE approval_uses SET state = 'open', tries = tries + 1, version = version + 1, at = $3 \
                 WHERE id = $1 AND version = $2 AND grant_id IN \
                 (SELECT id FROM approval_grants WHERE state = 'active' AND expires > $3)",
            )
            .bind(id)
            .bind(version)
            .bind(millis(now))
            .execute(&pool)
            .await?;
            Ok(opened.rows_affected() == 1)
        })
        .await
    }

    /// Notes what became of a use; one that is given back can be taken anew.
    ///
    /// # Errors
    /// [`StoreError`]: then the call counts as under way until nobody waits for it any more.
    pub async fn settle_use(&self, id: &str, settled: Settled) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.ask(move |pool| async move {
            let state = match settled {
                Settled::Unknown => "unknown",
                Settled::Known => "known",
                Settled::Back => {
                    let mut transaction = pool.begin().await?;
                    // An attempt before this one may have reached Azure: its use stays.
                    let first = sqlx::query_scalar::<_, String>(
                        "DELETE FROM approval_uses WHERE id = $1 AND state = 'open' AND tries = 1 \
                         RETURNING grant_id",
                    )
                    .bind(id.clone())
                    .fetch_optional(&mut *transaction)
                    .await?;
                    match first {
                        Some(grant) => {
                            let text = "UPDATE approval_grants SET used = used - 1, version = version + 1 \
                                        WHERE id = $1 AND used > 0";
                            sqlx::query(text).bind(grant).execute(&mut *transaction).await?;
                        }
                        None => {
                            let text = "UPDATE approval_uses SET state = 'unknown', tries = tries - 1, \
                                        version = version + 1 WHERE id = $1 AND state = 'open'";
                            sqlx::query(text).bind(id).execute(&mut *transaction).await?;
                        }
                    }
                    return transaction.commit().await;
                }
            };
            let text =
                "UPDATE approval_uses SET state = $2, version = version + 1 WHERE id = $1 AND state = 'open'";
            sqlx::query(text).bind(id).bind(state).execute(&pool).await.map(drop)
        })
        .await
    }

    /// Notes it without anybody waiting, on the control runtime.
    pub fn settle_use_later(&self, id: String, settled: Settled) {
        let store = self.clone();
        self.inner.control.spawn(async move {
            if let Err(error) = store.settle_use(&id, settled).await {
                tracing::warn!(%error, "what became of an approved call could not be noted");
            }
        });
    }

    /// A grant by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn approval_grant(&self, id: &str) -> Result<Option<GrantRow>, StoreError> {
        let id = id.to_owned();
        self.ask(move |pool| async move {
            let text = format!("SELECT {COLUMNS} FROM approval_grants WHERE id = $1");
            let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(id).fetch_optional(&pool).await?;
            row.as_ref().map(grant).transpose()
        })
        .await
    }

    /// A page of grants, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn approval_grants(&self, page: Page) -> Result<Vec<GrantRow>, StoreError> {
        self.ask(move |pool| async move {
            let (person, state, made, id, limit) = page.bounds();
            let text = format!(
                "SELECT {COLUMNS} FROM approval_grants \
                 WHERE ($1 = '' OR person = $1) AND ($2 = '' OR state = $2) \
                 AND (made < $3 OR (made = $3 AND id < $4)) \
                 ORDER BY made DESC, id DESC LIMIT $5"
            );
            let rows = sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(person)
                .bind(state)
                .bind(made)
                .bind(id)
                .bind(limit)
                .fetch_all(&pool)
                .await?;
            rows.iter().map(grant).collect()
        })
        .await
    }

    /// Takes a grant back; whether it held until then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_grant(&self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let (id, notice) = (id.to_owned(), self.notice());
        self.ask(move |pool| async move {
            let mut transaction = pool.begin().await?;
            let revoked = sqlx::query(
                "UPDATE approval_grants SET state = 'revoked', version = version + 1 \
                 WHERE id = $1 AND state = 'active' AND expires > $2",
            )
            .bind(id)
            .bind(millis(now))
            .execute(&mut *transaction)
            .await?;
            if revoked.rows_affected() != 1 {
                return Ok(false);
            }
            sqlx::query(CHANGED).execute(&mut *transaction).await?;
            notice.give(&mut transaction).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Ends the grants whose time is over; those that this call ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_grants(&self, now: Timestamp) -> Result<Vec<GrantRow>, StoreError> {
        self.ask(move |pool| async move {
            let text = format!(
                "UPDATE approval_grants SET state = 'expired', version = version + 1 \
                 WHERE state = 'active' AND expires <= $1 RETURNING {COLUMNS}"
            );
            let rows = sqlx::query(sqlx::AssertSqlSafe(text)).bind(millis(now)).fetch_all(&pool).await?;
            rows.iter().map(grant).collect()
        })
        .await
    }
}

fn grant(row: &AnyRow) -> Result<GrantRow, sqlx::Error> {
    Ok(GrantRow {
        id: row.try_get(0)?,
        version: row.try_get(1)?,
        state: row.try_get(2)?,
        bound: row.try_get(3)?,
        person: row.try_get(4)?,
        uses: row.try_get(5)?,
        used: row.try_get(6)?,
        made: instant(row.try_get(7)?),
        expires: instant(row.try_get(8)?),
        terms: row.try_get(9)?,
    })
}

fn used(row: &AnyRow) -> Result<UseRow, sqlx::Error> {
    Ok(UseRow {
        id: row.try_get(0)?,
        version: row.try_get(1)?,
        grant: row.try_get(2)?,
        resend: row.try_get(3)?,
        decision: row.try_get(4)?,
        state: row.try_get(5)?,
        tries: row.try_get(6)?,
        at: instant(row.try_get(7)?),
    })
}
