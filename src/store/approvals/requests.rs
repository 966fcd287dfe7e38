//! Refused calls, and requests for approval.

use sqlx::{Row as _, any::AnyRow};

use super::{
    super::{Store, StoreError, instant, millis},
    CHANGED, GrantRow,
};
use crate::time::Timestamp;

/// A call that was refused for want of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRow {
    /// The decision that refused it.
    pub decision: String,
    /// The entry that demands the approval.
    pub entry: String,
    /// Whose call it was.
    pub person: String,
    /// When.
    pub made: Timestamp,
    /// Until when it is remembered.
    pub expires: Timestamp,
    /// What there is to know of it.
    pub about: String,
}

/// A request for approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// Its id.
    pub id: String,
    /// Counts its changes.
    pub version: i64,
    /// How far it has come.
    pub state: String,
    /// What a grant would be bound to.
    pub waiting: String,
    /// Who asked.
    pub person: String,
    /// When it was made.
    pub made: Timestamp,
    /// Until when it waits.
    pub expires: Timestamp,
    /// When it came to its end.
    pub decided: Option<Timestamp>,
    /// What was asked.
    pub asked: String,
    /// What was answered.
    pub votes: String,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is new.
    New,
    /// The same was asked before and waits.
    Waits(Box<RequestRow>),
    /// This person has as many waiting as one may have.
    TooMany,
    /// This person has made as many as one may make in a time.
    TooOften,
}

/// How many requests one person may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskBounds {
    /// Waiting at the same time.
    pub waiting: u32,
    /// Made since a time, whatever became of them.
    pub made: u32,
    /// Since when.
    pub since: Timestamp,
}

/// Which rows to read, from the newest on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Only this person's.
    pub person: Option<String>,
    /// Only those in this state.
    pub state: Option<&'static str>,
    /// Only those before this one: when it was made, and its id.
    pub before: Option<(Timestamp, String)>,
    /// At most so many.
    pub limit: u32,
}

const COLUMNS: &str = "id, version, state, waiting, person, made, expires, decided, asked, votes";

impl Page {
    /// The bounds as they are bound: everything is before the end of time.
    pub(super) fn bounds(self) -> (String, String, i64, String, i64) {
        let (made, id) = self.before.map_or((i64::MAX, String::new()), |(made, id)| (millis(made), id));
        let state = self.state.unwrap_or_default().to_owned();
        (self.person.unwrap_or_default(), state, made, id, i64::from(self.limit))
    }
}

impl Store {
    /// Remembers refused calls of one person, the newest `most` of theirs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remember_calls(&self, calls: Vec<CallRow>, most: u32) -> Result<(), StoreError> {
        self.ask(move |pool| async move {
            let mut transaction = pool.begin().await?;
            for call in calls {
                let person = call.person.clone();
                sqlx::query(
                    "INSERT INTO refused_calls (decision, entry, person, made, expires, about) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (decision, entry) DO NOTHING",
                )
                .bind(call.decision)
                .bind(call.entry)
                .bind(call.person)
                .bind(millis(call.made))
                .bind(millis(call.expires))
                .bind(call.about)
                .execute(&mut *transaction)
                .await?;
                sqlx::query(
                    "DELETE FROM refused_calls WHERE person = $1 AND made < (\
                     SELECT MIN(made) FROM (SELECT made FROM refused_calls WHERE person = $1 \
                     ORDER BY made DESC LIMIT $2) AS newest)",
                )
                .bind(person)
                .bind(i64::from(most))
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await
        })
        .await
    }

    /// What is remembered of a refused call, one row for each entry that demands an approval.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn refused_call(&self, decision: &str, now: Timestamp) -> Result<Vec<CallRow>, StoreError> {
        let decision = decision.to_owned();
        self.ask(move |pool| async move {
            let rows = sqlx::query(
                "SELECT decision, entry, person, made, expires, about FROM refused_calls \
                 WHERE decision = $1 AND expires > $2 ORDER BY entry",
            )
            .bind(decision)
            .bind(millis(now))
            .fetch_all(&pool)
            .await?;
            let call = |row: &AnyRow| {
                Ok(CallRow {
                    decision: row.try_get(0)?,
                    entry: row.try_get(1)?,
                    person: row.try_get(2)?,
                    made: instant(row.try_get(3)?),
                    expires: instant(row.try_get(4)?),
                    about: row.try_get(5)?,
                })
            };
            rows.iter().map(call).collect()
        })
        .await
    }

    /// Keeps a new request, unless the same waits already or the person has too many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ask_approval(&self, row: RequestRow, most: AskBounds) -> Result<Asked, StoreError> {
        self.ask(move |pool| async move {
            let waiting = row.waiting.clone();
            let mut transaction = pool.begin().await?;
            // The counter first: SQLite takes its lock, and of two who ask at once one is second.
            sqlx::query(CHANGED).execute(&mut *transaction).await?;
            let known = format!("SELECT {COLUMNS} FROM approval_requests WHERE waiting = $1");
            let known = sqlx::query(sqlx::AssertSqlSafe(known)).bind(waiting);
            if let Some(known) = known.fetch_optional(&mut *transaction).await? {
                return Ok(Asked::Waits(Box::new(request(&known)?)));
            }
            let waiting: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM approval_requests WHERE person = $1 AND state = 'pending'",
            )
            .bind(row.person.clone())
            .fetch_one(&mut *transaction)
            .await?;
            if waiting >= i64::from(most.waiting) {
                return Ok(Asked::TooMany);
            }
            let made: i64 =
                sqlx::query_scalar("SELECT COUNT(*) FROM approval_requests WHERE person = $1 AND made > $2")
                    .bind(row.person.clone())
                    .bind(millis(most.since))
                    .fetch_one(&mut *transaction)
                    .await?;
            if made >= i64::from(most.made) {
                return Ok(Asked::TooOften);
            }
            sqlx::query(
                "INSERT INTO approval_requests \
                 (id, version, state, waiting, person, made, expires, asked, votes) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(row.id)
            .bind(row.version)
            .bind(row.state)
            .bind(row.waiting)
            .bind(row.person)
            .bind(millis(row.made))
            .bind(millis(row.expires))
            .bind(row.asked)
            .bind(row.votes)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(Asked::New)
        })
        .await
    }

    /// A request by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn approval_request(&self, id: &str) -> Result<Option<RequestRow>, StoreError> {
        self.one_request("id", id.to_owned()).await
    }

    /// The request that waits for what would be bound so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn waiting_request(&self, bound: &str) -> Result<Option<RequestRow>, StoreError> {
        self.one_request("waiting", bound.to_owned()).await
    }

    async fn one_request(
        &self,
        column: &'static str,
        value: String,
    ) -> Result<Option<RequestRow>, StoreError> {
        self.ask(move |pool| async move {
            let text = format!("SELECT {COLUMNS} FROM approval_requests WHERE {column} = $1");
            let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(value).fetch_optional(&pool).await?;
            row.as_ref().map(request).transpose()
        })
        .await
    }

    /// A page of requests, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn approval_requests(&self, page: Page) -> Result<Vec<RequestRow>, StoreError> {
        self.ask(move |pool| async move {
            let (person, state, made, id, limit) = page.bounds();
            let text = format!(
                "SELECT {COLUMNS} FROM approval_requests \
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
            rows.iter().map(request).collect()
        })
        .await
    }

    /// Puts the request in place of the one of the version before, if nobody changed that since, and
    /// the grant that it brings beside it; whether that was so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_request(
        &self,
        row: RequestRow,
        brings: Option<GrantRow>,
    ) -> Result<bool, StoreError> {
        let notice = self.notice();
        self.ask(move |pool| async move {
            let mut transaction = pool.begin().await?;
            let changed = sqlx::query(
                "UPDATE approval_requests SET version = $2, state = $3, waiting = $4, decided = $5, \
                 votes = $6 WHERE id = $1 AND version = $7",
            )
            .bind(row.id)
            .bind(row.version)
            .bind(row.state)
            .bind(row.waiting)
            .bind(row.decided.map(millis))
            .bind(row.votes)
            .bind(row.version.saturating_sub(1))
            .execute(&mut *transaction)
            .await?;
            if changed.rows_affected() != 1 {
                return Ok(false);
            }
            if let Some(grant) = brings {
                grant.insert(&mut transaction).await?;
            }
            sqlx::query(CHANGED).execute(&mut *transaction).await?;
            notice.give(&mut transaction).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Ends the requests whose time is over; those that this call ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_requests(&self, now: Timestamp) -> Result<Vec<RequestRow>, StoreError> {
        self.ask(move |pool| async move {
            let text = format!(
                "UPDATE approval_requests SET version = version + 1, state = 'expired', waiting = id, \
                 decided = expires WHERE state = 'pending' AND expires <= $1 RETURNING {COLUMNS}"
            );
            let mut transaction = pool.begin().await?;
            let rows =
                sqlx::query(sqlx::AssertSqlSafe(text)).bind(millis(now)).fetch_all(&mut *transaction).await?;
            if !rows.is_empty() {
                sqlx::query(CHANGED).execute(&mut *transaction).await?;
            }
            transaction.commit().await?;
            rows.iter().map(request).collect()
        })
        .await
    }
}

fn request(row: &AnyRow) -> Result<RequestRow, sqlx::Error> {
    Ok(RequestRow {
        id: row.try_get(0)?,
        version: row.try_get(1)?,
        state: row.try_get(2)?,
        waiting: row.try_get(3)?,
        person: row.try_get(4)?,
        made: instant(row.try_get(5)?),
        expires: instant(row.try_get(6)?),
        decided: row.try_get::<Option<i64>, _>(7)?.map(instant),
        asked: row.try_get(8)?,
        votes: row.try_get(9)?,
    })
}
