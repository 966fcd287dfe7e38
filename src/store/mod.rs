//! State that outlives a request and is shared by replicas: sessions, revocations, what was spent.
//!
//! One static SQL text for SQLite and PostgreSQL, through sqlx's `Any`. Whoever asks sends a question
//! to the control runtime and waits for it with a deadline; nothing on a core's runtime ever waits for
//! a database (DECISIONS 26). A change of state is one conditional `UPDATE ... WHERE id = $1 AND
//! version = $2`: the rows affected say who won, on one replica or on several.
//!
//! A feature that keeps something adds a migration (`migrations/`, never edited once released) and a
//! file beside this one with its rows and an `impl Store`. Three rules keep one text good for both:
//! only BIGINT and TEXT; no clause of one dialect; a transaction of several statements begins with
//! one that writes, so that SQLite takes its lock at once. It knows nothing of what the rows mean.

mod approvals;
mod break_glass;
mod error;
mod jobs;
mod merges;
mod notices;
mod offline_codes;
mod owed;
mod registrations;
mod revocations;
mod runs;
mod sessions;
mod spent;
mod statements;
#[cfg(test)]
mod tests;
mod upkeep;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use approvals::{AskBounds, Asked, CallRow, GrantRow, Page, RequestRow, Settled, Taken, UseRow};
use arc_swap::ArcSwapOption;
pub use break_glass::{CURRENT, GlassRow};
pub use error::{OpenError, StoreError};
pub use jobs::JobRow;
pub use merges::{MergeRow, WatchRow};
pub use notices::Heard;
pub use offline_codes::CodeRow;
pub use owed::{Came, OwedRow};
pub use registrations::RegistrationRow;
pub use revocations::{Revocation, RevocationKind, Revocations};
pub use runs::{Looked, NEVER, RunRow, TriggerBranch};
use secrecy::{ExposeSecret as _, SecretString};
pub use sessions::SessionRow;
use sqlx::{
    AnyPool, ConnectOptions as _,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::Migrator,
};
pub use statements::{Below, StatementRow};
use tokio::{
    runtime::Handle,
    sync::{OnceCell, Semaphore, watch},
    task::JoinHandle,
};
pub use upkeep::Checked;

use crate::time::Timestamp;

/// How long a question waits for its answer; then whatever needs it is denied.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// Questions under way; more are refused at once instead of piling up behind a slow database.
const MAX_QUESTIONS: usize = 1_024;
/// Connections of one replica to PostgreSQL.
const MAX_POSTGRES_CONNECTIONS: u32 = 8;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// Where the store is.
#[derive(Debug, Clone)]
pub enum StoreAddress {
    /// In a file of this machine, made if it is not there.
    Sqlite(PathBuf),
    /// In a database that replicas share.
    Postgres(SecretString),
}

/// The gate's state, reached by questions with a deadline. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pool: AnyPool,
    address: StoreAddress,
    prepared: OnceCell<()>,
    control: Handle,
    places: Semaphore,
    /// What the last question failed of, for `/readyz`.
    failure: ArcSwapOption<StoreError>,
    /// Counts what was heard of changes.
    changes: watch::Sender<u64>,
}

impl Store {
    /// A store that connects when it is first asked. Must be called on the control runtime, where
    /// all its questions are answered from then on.
    ///
    /// # Errors
    /// If the address is unusable, or the file cannot be made.
    pub fn new(address: StoreAddress) -> Result<Self, OpenError> {
        sqlx::any::install_default_drivers();
        let pool = match &address {
            StoreAddress::Sqlite(path) => {
                make(path).map_err(|source| OpenError::File { path: path.clone(), source })?;
                // One connection: SQLite has one writer, and whoever waits here waits fairly.
                AnyPoolOptions::new().max_connections(1).after_connect(|connection, _| {
                    Box::pin(async move {
                        for pragma in SQLITE {
                            sqlx::query(pragma).execute(&mut *connection).await?;
                        }
                        Ok(())
                    })
                })
            }
            StoreAddress::Postgres(_) => AnyPoolOptions::new().max_connections(MAX_POSTGRES_CONNECTIONS),
        };
        let options = options(&address)?;
        let pool = pool.acquire_timeout(DEADLINE).connect_lazy_with(options);
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                address,
                prepared: OnceCell::new(),
                control: Handle::current(),
                places: Semaphore::new(MAX_QUESTIONS),
                failure: ArcSwapOption::empty(),
                changes: watch::Sender::new(0),
            }),
        })
    }

    /// Connects and migrates, unless that was done; a store that is newer than this gate is refused.
    ///
    /// # Errors
    /// [`OpenError::Unreachable`] is worth another try; the others are not.
    pub async fn prepare(&self) -> Result<(), OpenError> {
        let inner = &self.inner;
        inner.prepared.get_or_try_init(|| async { upkeep::migrate(&inner.pool).await }).await.map(|_| ())
    }

    /// Where the store is, without what is secret about it.
    #[must_use]
    pub fn name(&self) -> String {
        self.inner.address.to_string()
    }

    /// What the last question failed of; `None` if it was answered.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<StoreError>> {
        self.inner.failure.load_full()
    }

    /// Asks on the control runtime and waits at most [`DEADLINE`]. A change that was asked for and not
    /// confirmed in time may have been made: what depends on it is denied, and asked for anew.
    async fn ask<T, F>(&self, question: impl FnOnce(AnyPool) -> F + Send + 'static) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        let answer = self.asked(question).await;
        match &answer {
            Ok(_) if self.inner.failure.load().is_none() => {}
            Ok(_) => self.inner.failure.store(None),
            Err(error) => {
                metrics::counter!("amlgate_store_failures_total", "reason" => error.reason()).increment(1);
                self.inner.failure.store(Some(Arc::new(error.clone())));
            }
        }
        answer
    }

    async fn asked<T, F>(&self, question: impl FnOnce(AnyPool) -> F + Send + 'static) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        let _place = self.inner.places.try_acquire().map_err(|_| StoreError::Busy)?;
        let store = self.clone();
        let task = self.inner.control.spawn(async move {
            tokio::time::timeout(DEADLINE, async move {
                store.prepare().await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                question(store.inner.pool.clone()).await.map_err(|error| StoreError::of(&error))
            })
            .await
            .map_err(|_| StoreError::Late)?
        });
        // Whoever hangs up takes the question along.
        let mut task = EndWithAsker(task);
        (&mut task.0)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("the gate is stopping".to_owned())))
    }
}

struct EndWithAsker<T>(JoinHandle<T>);

impl<T> Drop for EndWithAsker<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.inner.address)
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "SQLite in `{}`", path.display()),
            Self::Postgres(_) => f.write_str("PostgreSQL"),
        }
    }
}

/// `FULL`: what was granted once is spent once, even if the machine loses power. Whoever waits for
/// another process's lock gives up before the deadline.
const SQLITE: [&str; 3] =
    ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA busy_timeout = 1500"];

fn options(address: &StoreAddress) -> Result<AnyConnectOptions, OpenError> {
    let url = match address {
        StoreAddress::Sqlite(path) => {
            let path =
                std::path::absolute(path).map_err(|source| OpenError::File { path: path.clone(), source })?;
            let path = percent_encoding::utf8_percent_encode(path.to_str().unwrap_or_default(), PATH);
            format!("sqlite://{path}?mode=rwc")
        }
        StoreAddress::Postgres(url) => url.expose_secret().to_owned(),
    };
    // The error would hold what it could not read: a password, perhaps.
    let options: AnyConnectOptions = url.parse().map_err(|_| OpenError::Url("it is no URL"))?;
    if let StoreAddress::Postgres(_) = address {
        let url = &options.database_url;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(OpenError::Url("it does not begin with `postgres://`"));
        }
        let local = url.host_str().is_none_or(|host| {
            let host = host.trim_matches(['[', ']']);
            host.is_empty()
                || host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        let encrypted = url.query_pairs().any(|(key, _)| matches!(&*key, "sslmode" | "ssl-mode" | "host"));
        if !local && !encrypted {
            return Err(OpenError::Url(
                "it does not say how the connection is protected: write `?sslmode=verify-full`, and `&sslrootcert=FILE` for an authority of your own",
            ));
        }
    }
    Ok(options.disable_statement_logging())
}

const PATH: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// Makes the file for this user alone; SQLite gives its journal the same mode.
fn make(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
    }
    let mut open = std::fs::OpenOptions::new();
    open.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    open.open(path).map(drop)
}

/// An instant as it is kept; the end of time if it is out of range.
fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// A kept instant; what is before the epoch was never kept.
fn instant(kept: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(kept).unwrap_or_default())
}
