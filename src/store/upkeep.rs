//! Migration, backup and check.

use std::{path::Path, time::Duration};

use sqlx::{AnyPool, migrate::MigrateError};

use super::{MIGRATIONS, OpenError, Store, StoreAddress, error::words};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// Where the store is.
    pub store: String,
    /// The version that its tables are at; `None` before the first migration.
    pub version: Option<i64>,
    /// The version that this program migrates to.
    pub known: i64,
    /// What is wrong with its contents; empty if nothing is.
    pub damage: Vec<String>,
}

/// The version that this program migrates to.
pub(super) fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// How often a migration is tried that failed: SQLite has no lock for it, so that of two gates that
/// start at once, one may find the other's tables half way, and whole at the next try.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn migrate(pool: &AnyPool) -> Result<(), OpenError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let Err(error) = MIGRATIONS.run(pool).await else { return Ok(()) };
        // Only what the database itself complains of: nobody waits for one that is not there.
        let half_way = matches!(
            error,
            MigrateError::Execute(sqlx::Error::Database(_))
                | MigrateError::ExecuteMigration(sqlx::Error::Database(_), _)
        );
        if !half_way || tries >= TRIES {
            return Err(unopened(error));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn unopened(error: MigrateError) -> OpenError {
    if let MigrateError::VersionMissing(found) | MigrateError::VersionTooNew(found, _) = error {
        return OpenError::Newer { found, known: known() };
    }
    if let MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) = error {
        return OpenError::Foreign(format!("number {version} is not this program's"));
    }
    if let MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) = &error {
        return OpenError::Unreachable(words(error));
    }
    OpenError::Foreign(error.to_string())
}

impl Store {
    /// Copies the store into a new file, while the gate goes on.
    ///
    /// # Errors
    /// If it is not in a file, or the copy cannot be written. An existing file is left alone.
    pub async fn backup(&self, to: &Path) -> Result<(), OpenError> {
        if let StoreAddress::Postgres(_) = self.inner.address {
            return Err(OpenError::Unreachable(
                "PostgreSQL is backed up by its own means: `pg_dump`, or whoever runs it".to_owned(),
            ));
        }
        let file = |source| OpenError::File { path: to.to_owned(), source };
        if to.exists() {
            return Err(file(std::io::ErrorKind::AlreadyExists.into()));
        }
        super::make(to).map_err(file)?;
        let path = to.to_str().ok_or_else(|| file(std::io::ErrorKind::InvalidFilename.into()))?;
        // An empty file counts as none; it is there for its mode.
        let copied = sqlx::query("VACUUM INTO $1").bind(path.to_owned()).execute(&self.inner.pool).await;
        copied.map(drop).map_err(|error| {
            drop(std::fs::remove_file(to));
            OpenError::Unreachable(words(&error))
        })
    }

    /// Looks at the version and the contents, changing nothing.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn check(&self) -> Result<Checked, OpenError> {
        let pool = &self.inner.pool;
        let unreachable = |error: sqlx::Error| OpenError::Unreachable(words(&error));
        sqlx::query("SELECT 1").execute(pool).await.map_err(unreachable)?;
        // Fails only where nothing was migrated yet: the connection has just answered.
        let version: Option<i64> = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
            .fetch_one(pool)
            .await
            .unwrap_or_default();
        let damage = match self.inner.address {
            StoreAddress::Postgres(_) => Vec::new(),
            StoreAddress::Sqlite(_) => {
                let said: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
                    .fetch_all(pool)
                    .await
                    .map_err(unreachable)?;
                said.into_iter().filter(|line| line != "ok").collect()
            }
        };
        Ok(Checked { store: self.name(), version, known: known(), damage })
    }
}
