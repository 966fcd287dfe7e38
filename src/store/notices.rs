//! Word of changes between replicas: PostgreSQL's LISTEN and NOTIFY, the one part of the store that
//! only that dialect has (DECISIONS 26).
//!
//! Word only makes a replica look sooner. Whoever needs what changed looks at intervals all the same,
//! so that a notice that is lost, or a server that gives none, costs time and nothing else.

use std::time::Duration;

use sqlx::{
    AnyConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

use super::{DEADLINE, Store, StoreAddress};

/// The channel. A notice says that something changed, and not what.
const CHANNEL: &str = "amlgate_changes";
/// How long a replica that cannot listen waits before it tries again.
const AGAIN: Duration = Duration::from_secs(2);

/// Whether a change is told of: asked of the store before a transaction, given inside of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notice(bool);

impl Notice {
    /// Other replicas hear of the change once its transaction is committed.
    pub async fn give(self, transaction: &mut AnyConnection) -> Result<(), sqlx::Error> {
        if self.0 {
            sqlx::query("NOTIFY amlgate_changes").execute(transaction).await?;
        }
        Ok(())
    }
}

impl Store {
    /// How changes of this store are told of: SQLite's are this process's own.
    pub(super) fn notice(&self) -> Notice {
        Notice(matches!(self.inner.address, StoreAddress::Postgres(_)))
    }

    /// Hears what other replicas tell, for ever, and passes it on to [`changed`](Self::changed). With
    /// SQLite there is nobody to hear.
    pub async fn listen(&self) {
        let StoreAddress::Postgres(url) = &self.inner.address else { return std::future::pending().await };
        use secrecy::ExposeSecret as _;
        // It was parsed when the store was made.
        let Ok(options) = url.expose_secret().parse::<PgConnectOptions>() else {
            return std::future::pending().await;
        };
        let pool =
            PgPoolOptions::new().max_connections(1).acquire_timeout(DEADLINE).connect_lazy_with(options);
        loop {
            if let Err(error) = self.hear(&pool).await {
                tracing::debug!(%error, "other replicas are not heard; the store is looked at instead");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn hear(&self, pool: &sqlx::PgPool) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        loop {
            // What was told before, or while the connection was lost, is looked for as well.
            self.inner.changes.send_modify(|heard| *heard = heard.wrapping_add(1));
            listener.try_recv().await?;
        }
    }

    /// Waits until another replica has changed something since the last time, or may have; for ever
    /// where there is none, or none is heard.
    pub async fn changed(&self, heard: &mut Heard) {
        if heard.0.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// From now on.
    #[must_use]
    pub fn heard(&self) -> Heard {
        Heard(self.inner.changes.subscribe())
    }
}

/// Up to where somebody has heard of changes.
#[derive(Debug)]
pub struct Heard(tokio::sync::watch::Receiver<u64>);
