//! What may be used once, by whichever replica is asked first.

use super::{Store, StoreError};
use crate::time::Timestamp;

impl Store {
    /// Uses a value for a purpose; whether this was the first use. It is remembered until `expires`,
    /// after which whoever presents it is refused for its age.
    ///
    /// # Errors
    /// [`StoreError`]: then it counts as used.
    pub async fn spend(
        &self,
        purpose: &'static str,
        value: &str,
        expires: Timestamp,
    ) -> Result<bool, StoreError> {
        let value = value.to_owned();
        self.ask(move |pool| async move {
            let inserted = sqlx::query(
                "INSERT INTO spent (purpose, value, expires) VALUES ($1, $2, $3) \
                 ON CONFLICT (purpose, value) DO NOTHING",
            )
            .bind(purpose)
            .bind(value)
            .bind(super::millis(expires))
            .execute(&pool)
            .await?;
            Ok(inserted.rows_affected() == 1)
        })
        .await
    }
}
