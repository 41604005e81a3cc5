//! The database file, and what is done when it is not well.
//!
//! A damaged file is set aside under a name that says when, and a new one is made. When the
//! directory cannot be written (read-only, full), the store lives in memory and says so; what can
//! still be read is carried over. It never keeps the service from starting, and it never goes back
//! to the disk by itself: a disk that failed once is for the next start.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePoolOptions,
    SqliteSynchronous,
};
use tokio::sync::RwLock;

use super::{clock, rescue};

/// File name within the state directory.
const FILE: &str = "kos.db";
/// Every change of the schema since the first, in order. A released one is never edited.
const MIGRATIONS: &[(i64, &str, &str)] = &[(
    1,
    "sessions and settings",
    include_str!("../../migrations/0001_sessions_and_settings.sql"),
)];

/// Where the store is and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// On disk, as it should be.
    Good,
    /// On disk, after a damaged file was set aside; the sentence says so.
    Replaced(String),
    /// In memory; the sentence says why.
    Memory(String),
}

impl Condition {
    /// What the console shows, when there is something to show.
    pub fn warning(&self) -> Option<&str> {
        match self {
            Condition::Good => None,
            Condition::Replaced(text) | Condition::Memory(text) => Some(text),
        }
    }
}

/// Sessions and settings.
pub struct Store {
    file: PathBuf,
    inner: RwLock<Inner>,
}

struct Inner {
    pool: SqlitePool,
    condition: Condition,
}

impl Store {
    /// Opens the database in `directory`, or does the next best thing.
    ///
    /// # Errors
    /// When not even a database in memory can be made.
    pub async fn open(directory: &Path) -> Result<Self, sqlx::Error> {
        let file = directory.join(FILE);
        let first = match open_file(&file).await {
            Ok(pool) => return Ok(Self::as_is(file, pool, Condition::Good)),
            Err(error) => error,
        };
        if is_damage(&first) {
            tracing::error!("{} is damaged: {first}", file.display());
            match rescue::set_aside(&file) {
                Ok(aside) => match open_file(&file).await {
                    Ok(pool) => {
                        let text = format!(
                            "The database was damaged ({first}) and has been set aside as {}. \
                             A new one was made: pair your browsers again.",
                            aside.display()
                        );
                        return Ok(Self::as_is(file, pool, Condition::Replaced(text)));
                    }
                    Err(error) => tracing::error!("cannot make a new database: {error}"),
                },
                Err(error) => tracing::error!("cannot set {} aside: {error}", file.display()),
            }
        }
        let pool = open_memory().await?;
        match rescue::copy_file(&file, &pool).await {
            Ok(()) => {}
            Err(error) => tracing::warn!("not everything could be read from the file: {error}"),
        }
        let condition = memory_condition(&first, &file);
        Ok(Self::as_is(file, pool, condition))
    }

    fn as_is(file: PathBuf, pool: SqlitePool, condition: Condition) -> Self {
        if let Some(warning) = condition.warning() {
            tracing::warn!("{warning}");
        }
        Store {
            file,
            inner: RwLock::new(Inner { pool, condition }),
        }
    }

    /// How the store is.
    pub async fn condition(&self) -> Condition {
        self.inner.read().await.condition.clone()
    }

    async fn pool(&self) -> SqlitePool {
        self.inner.read().await.pool.clone()
    }

    /// Does `act`, and when the disk is at fault, moves the store into memory and does it there.
    pub(super) async fn with_pool<T, F>(
        &self,
        act: impl Fn(SqlitePool) -> F,
    ) -> Result<T, sqlx::Error>
    where
        F: Future<Output = Result<T, sqlx::Error>> + Send,
    {
        let pool = self.pool().await;
        let error = match act(pool.clone()).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if !is_damage(&error) && !is_disk(&error) {
            return Err(error);
        }
        let pool = self.move_into_memory(&error).await?;
        act(pool).await
    }

    async fn move_into_memory(&self, error: &sqlx::Error) -> Result<SqlitePool, sqlx::Error> {
        let mut inner = self.inner.write().await;
        // Another request may have done it while this one waited.
        if !matches!(inner.condition, Condition::Memory(_)) {
            let memory = open_memory().await?;
            if let Err(error) = rescue::copy_rows(&inner.pool, &memory).await {
                tracing::warn!("not everything could be kept: {error}");
            }
            // Closed by dropping: waiting for a failing disk would hold every request.
            inner.pool = memory;
            inner.condition = memory_condition(error, &self.file);
            tracing::error!("{}", inner.condition.warning().unwrap_or_default());
        }
        Ok(inner.pool.clone())
    }

    /// Writes everything back into the one file and closes it.
    pub async fn close(&self) {
        self.pool().await.close().await;
    }
}

fn memory_condition(error: &sqlx::Error, file: &Path) -> Condition {
    let (what, advice) = match primary_code(error) {
        Some(FULL) => (
            "There is no room for the database",
            " Make room on the data disk, then restart the API service.",
        ),
        _ if is_damage(error) => ("The database is damaged and cannot be replaced", ""),
        _ if is_read_only(file) => ("The database cannot be written", ""),
        _ => ("The database cannot be used", ""),
    };
    Condition::Memory(format!(
        "{what} ({error}). Sessions and settings are kept in memory only, until the next start.\
         {advice}"
    ))
}

/// Whether the disk takes no writes: SQLite has many words for that.
fn is_read_only(file: &Path) -> bool {
    let opened = std::fs::OpenOptions::new().append(true).open(file);
    opened.is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem)
}

/// One connection: SQLite has one writer anyway, and in memory each would be a database of its own.
fn pool_options() -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_secs(10))
}

async fn open_file(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        // Nobody else uses the file; alone, SQLite needs no index of its log in a file beside it,
        // which a full disk may have no room for.
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode a power cut loses the last sessions at most, never the file.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(5));
    let pool = pool_options().connect_with(options).await?;
    if let Err(error) = prove(&pool).await {
        // Closed for good before anyone moves the file: a connection that ends later removes the
        // log beside the file by its name, which may be the next file's by then.
        pool.close().await;
        return Err(error);
    }
    Ok(pool)
}

/// Whether the file is whole, of our schema, and can be written: now rather than at the first
/// pairing.
async fn prove(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let checked: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(pool)
        .await?;
    if checked != "ok" {
        return Err(sqlx::Error::Protocol(format!("damaged: {checked}")));
    }
    migrate(pool).await?;
    sqlx::query("INSERT OR REPLACE INTO settings (name, value) VALUES ('opened', ?)")
        .bind(clock::stamp(clock::now()))
        .execute(pool)
        .await?;
    Ok(())
}

async fn open_memory() -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new().in_memory(true);
    let pool = pool_options().connect_with(options).await?;
    migrate(&pool).await?;
    Ok(pool)
}

async fn migrate(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let migrations = MIGRATIONS
        .iter()
        .map(|(version, description, sql)| {
            Migration::new(
                *version,
                Cow::Borrowed(*description),
                MigrationType::Simple,
                sqlx::SqlSafeStr::into_sql_str(*sql),
                false,
            )
        })
        .collect();
    Migrator::with_migrations(migrations)
        .run(pool)
        .await
        .map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) => error,
            // A schema that is not ours: a newer version's, or a file that was edited.
            other => sqlx::Error::Protocol(format!("damaged: {other}")),
        })
}

/// SQLite's primary result codes, <https://sqlite.org/rescode.html>.
const READ_ONLY: u32 = 8;
const INPUT_OUTPUT: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANNOT_OPEN: u32 = 14;
const NOT_A_DATABASE: u32 = 26;

/// The primary result code, in the low byte of the extended one.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

/// Whether the file's contents are wrong.
fn is_damage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Protocol(text) => text.starts_with("damaged"),
        error => matches!(primary_code(error), Some(CORRUPT | NOT_A_DATABASE)),
    }
}

/// Whether the disk below the file is at fault.
fn is_disk(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)
        || matches!(
            primary_code(error),
            Some(READ_ONLY | INPUT_OUTPUT | FULL | CANNOT_OPEN)
        )
}
