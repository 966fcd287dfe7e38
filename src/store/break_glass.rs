//! Break-glass, as rows: what they mean is the gates' business.
//!
//! At most one row holds the slot [`CURRENT`], whichever replica is asked: whoever inserts it first has
//! it. A row changes by a conditional update on its version, and every change raises the counter of
//! the topic `break_glass`.

use sqlx::{Row as _, any::AnyRow};

use super::{Store, StoreError, instant, millis};
use crate::time::Timestamp;

/// The slot of which there is one.
pub const CURRENT: &str = "current";

/// The counter: whoever sees its value sees the change.
const CHANGED: &str = "UPDATE changes SET version = version + 1 WHERE topic = 'break_glass'";
const COLUMNS: &str = "id, version, state, slot, person, made, due, about";

/// One break-glass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlassRow {
    /// Its id.
    pub id: String,
    /// Counts its changes.
    pub version: i64,
    /// How far it has come.
    pub state: String,
    /// [`CURRENT`], or its own id once its review is closed.
    pub slot: String,
    /// Who asked.
    pub person: String,
    /// When.
    pub made: Timestamp,
    /// When something comes of it by itself.
    pub due: Timestamp,
    /// What there is to know of it.
    pub about: String,
}

impl Store {
    /// Keeps a new row in the slot that it names; whether that was free.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as not kept, and may have been.
    pub async fn begin_glass(&self, row: GlassRow) -> Result<bool, StoreError> {
        let notice = self.notice();
        self.ask(move |pool| async move {
            let mut transaction = pool.begin().await?;
            // The counter first: SQLite takes its lock, and of two who ask at once one is second.
            sqlx::query(CHANGED).execute(&mut *transaction).await?;
            let kept = sqlx::query(
                "INSERT INTO break_glass (id, version, state, slot, person, made, due, about) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (slot) DO NOTHING",
            )
            .bind(row.id)
            .bind(row.version)
            .bind(row.state)
            .bind(row.slot)
            .bind(row.person)
            .bind(millis(row.made))
            .bind(millis(row.due))
            .bind(row.about)
            .execute(&mut *transaction)
            .await?;
            if kept.rows_affected() != 1 {
                return Ok(false);
            }
            notice.give(&mut transaction).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Puts the row in place of the one of the version before, if nobody changed that since; whether
    /// that was so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_glass(&self, row: GlassRow) -> Result<bool, StoreError> {
        let notice = self.notice();
        self.ask(move |pool| async move {
            let mut transaction = pool.begin().await?;
            let changed = sqlx::query(
                "UPDATE break_glass SET version = $2, state = $3, slot = $4, due = $5, about = $6 \
                 WHERE id = $1 AND version = $7",
            )
            .bind(row.id)
            .bind(row.version)
            .bind(row.state)
            .bind(row.slot)
            .bind(millis(row.due))
            .bind(row.about)
            .bind(row.version.saturating_sub(1))
            .execute(&mut *transaction)
            .await?;
            if changed.rows_affected() != 1 {
                return Ok(false);
            }
            sqlx::query(CHANGED).execute(&mut *transaction).await?;
            notice.give(&mut transaction).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// The row by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn glass(&self, id: &str) -> Result<Option<GlassRow>, StoreError> {
        self.one_glass("id", id.to_owned()).await
    }

    /// The row in the slot [`CURRENT`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn current_glass(&self) -> Result<Option<GlassRow>, StoreError> {
        self.one_glass("slot", CURRENT.to_owned()).await
    }

    async fn one_glass(&self, column: &'static str, value: String) -> Result<Option<GlassRow>, StoreError> {
        self.ask(move |pool| async move {
            let text = format!("SELECT {COLUMNS} FROM break_glass WHERE {column} = $1");
            let found = sqlx::query(sqlx::AssertSqlSafe(text)).bind(value).fetch_optional(&pool).await?;
            found.as_ref().map(row).transpose()
        })
        .await
    }

    /// At most `limit` rows, the newest first, from before this one on: when it was made, and its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn glasses(
        &self,
        before: Option<(Timestamp, String)>,
        limit: u32,
    ) -> Result<Vec<GlassRow>, StoreError> {
        self.ask(move |pool| async move {
            let (made, id) = before.map_or((i64::MAX, String::new()), |(made, id)| (millis(made), id));
            let text = format!(
                "SELECT {COLUMNS} FROM break_glass WHERE made < $1 OR (made = $1 AND id < $2) \
                 ORDER BY made DESC, id DESC LIMIT $3"
            );
            let rows = sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(made)
                .bind(id)
                .bind(i64::from(limit))
                .fetch_all(&pool)
                .await?;
            rows.iter().map(row).collect()
        })
        .await
    }

    /// The counter of changes and the row in the slot [`CURRENT`], if they are not those of version
    /// `seen`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn glass_changed(
        &self,
        seen: Option<i64>,
    ) -> Result<Option<(i64, Option<GlassRow>)>, StoreError> {
        self.ask(move |pool| async move {
            let version: i64 = sqlx::query_scalar("SELECT version FROM changes WHERE topic = 'break_glass'")
                .fetch_one(&pool)
                .await?;
            if seen == Some(version) {
                return Ok(None);
            }
            let text = format!("SELECT {COLUMNS} FROM break_glass WHERE slot = $1");
            let found = sqlx::query(sqlx::AssertSqlSafe(text)).bind(CURRENT).fetch_optional(&pool).await?;
            Ok(Some((version, found.as_ref().map(row).transpose()?)))
        })
        .await
    }
}

fn row(found: &AnyRow) -> Result<GlassRow, sqlx::Error> {
    Ok(GlassRow {
        id: found.try_get(0)?,
        version: found.try_get(1)?,
        state: found.try_get(2)?,
        slot: found.try_get(3)?,
        person: found.try_get(4)?,
        made: instant(found.try_get(5)?),
        due: instant(found.try_get(6)?),
        about: found.try_get(7)?,
    })
}
