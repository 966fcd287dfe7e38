//! Requests for approval, grants and their uses, as rows: what they mean is the gates' business.
//!
//! Requests and grants change by conditional updates on their version; the use of a grant is counted
//! by one that looks at how many are left, so that however many ask at once, no more get one. Every
//! change that others wait for raises the counter of the topic `approvals`.

mod grants;
mod requests;

pub use grants::{GrantRow, Settled, Taken, UseRow};
pub use requests::{AskBounds, Asked, CallRow, Page, RequestRow};

use super::{Store, StoreError, millis};
use crate::time::Timestamp;

/// The counter: whoever sees its value sees the change.
const CHANGED: &str = "UPDATE changes SET version = version + 1 WHERE topic = 'approvals'";

/// Requests and grants are kept so long after their end.
const KEPT: std::time::Duration = std::time::Duration::from_secs(90 * 86_400);
/// Uses are kept until nobody could send the same call again.
const USES_KEPT: std::time::Duration = std::time::Duration::from_secs(86_400);

impl Store {
    /// The counter of changes and the grants that were taken back and would hold still, if they are
    /// not those of version `seen`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn approvals_changed(
        &self,
        seen: Option<i64>,
        now: Timestamp,
    ) -> Result<Option<(i64, Vec<String>)>, StoreError> {
        self.ask(move |pool| async move {
            let version: i64 = sqlx::query_scalar("SELECT version FROM changes WHERE topic = 'approvals'")
                .fetch_one(&pool)
                .await?;
            if seen == Some(version) {
                return Ok(None);
            }
            let revoked =
                sqlx::query_scalar("SELECT id FROM approval_grants WHERE state = 'revoked' AND expires > $1")
                    .bind(millis(now))
                    .fetch_all(&pool)
                    .await?;
            Ok(Some((version, revoked)))
        })
        .await
    }

    /// Forgets what ended long ago; how many rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_approvals(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.ask(move |pool| async move {
            let mut forgotten = 0;
            for (statement, before) in [
                ("DELETE FROM refused_calls WHERE expires <= $1", now),
                ("DELETE FROM approval_uses WHERE at <= $1", now.minus(USES_KEPT)),
                ("DELETE FROM approval_requests WHERE state <> 'pending' AND made <= $1", now.minus(KEPT)),
                ("DELETE FROM approval_grants WHERE state <> 'active' AND expires <= $1", now.minus(KEPT)),
            ] {
                let deleted = sqlx::query(statement).bind(millis(before)).execute(&pool).await?;
                forgotten += deleted.rows_affected();
            }
            Ok(forgotten)
        })
        .await
    }
}
