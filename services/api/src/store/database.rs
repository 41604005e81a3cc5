//! The database file, and what is done when it is not well.
//!
//! A damaged file is set aside under a name that says when, and a new one is made. When the
//! directory cannot be written (read-only, full), the store lives in memory and says so; what can
//! still be read is carried over. It never keeps the service from starting.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::RwLock;

use super::clock;

/// File name within the state directory.
const FILE: &str = "kos.db";
/// Damaged files that are kept; older ones go, so that a bad disk does not fill itself.
const KEPT_DAMAGED: usize = 3;
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
            Ok(pool) => return Ok(Self::as_is(pool, Condition::Good)),
            Err(error) => error,
        };
        if is_damage(&first) {
            tracing::error!("{} is damaged: {first}", file.display());
            match set_aside(&file) {
                Ok(aside) => match open_file(&file).await {
                    Ok(pool) => {
                        let text = format!(
                            "The database was damaged ({first}) and has been set aside as {}. \
                             A new one was made: pair your browsers again.",
                            aside.display()
                        );
                        return Ok(Self::as_is(pool, Condition::Replaced(text)));
                    }
                    Err(error) => tracing::error!("cannot make a new database: {error}"),
                },
                Err(error) => tracing::error!("cannot set {} aside: {error}", file.display()),
            }
        }
        let pool = open_memory().await?;
        match copy_readable(&file, &pool).await {
            Ok(()) => {}
            Err(error) => tracing::warn!("nothing could be read from the old database: {error}"),
        }
        Ok(Self::as_is(pool, memory_condition(&first)))
    }

    fn as_is(pool: SqlitePool, condition: Condition) -> Self {
        if let Some(warning) = condition.warning() {
            tracing::warn!("{warning}");
        }
        Store {
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
            if let Err(error) = copy_rows(&inner.pool, &memory).await {
                tracing::warn!("not everything could be kept: {error}");
            }
            // Closed by dropping: waiting for a failing disk would hold every request.
            inner.pool = memory;
            inner.condition = memory_condition(error);
            tracing::error!("{}", inner.condition.warning().unwrap_or_default());
        }
        Ok(inner.pool.clone())
    }

    /// Writes everything back into the one file and closes it.
    pub async fn close(&self) {
        self.pool().await.close().await;
    }
}

fn memory_condition(error: &sqlx::Error) -> Condition {
    Condition::Memory(format!(
        "The database cannot be used ({error}). Sessions and settings are kept in memory only and \
         will be gone at the next start."
    ))
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
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode a power cut loses the last sessions at most, never the file.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(5));
    let pool = pool_options().connect_with(options).await?;
    let checked: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&pool)
        .await?;
    if checked != "ok" {
        return Err(sqlx::Error::Protocol(format!("damaged: {checked}")));
    }
    migrate(&pool).await?;
    // Proves that the file can be written, now rather than at the first pairing.
    sqlx::query("INSERT OR REPLACE INTO settings (name, value) VALUES ('opened', ?)")
        .bind(clock::stamp(clock::now()))
        .execute(&pool)
        .await?;
    Ok(pool)
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

/// Reads what a file on a read-only or full disk still holds.
async fn copy_readable(file: &Path, memory: &SqlitePool) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .immutable(true);
    let old = pool_options().connect_with(options).await?;
    copy_rows(&old, memory).await
}

async fn copy_rows(from: &SqlitePool, to: &SqlitePool) -> Result<(), sqlx::Error> {
    type Session = (i64, Vec<u8>, i64, i64, i64, String, String);
    let sessions: Vec<Session> = sqlx::query_as(
        "SELECT id, token_hash, created, expires, last_used, peer, agent FROM sessions",
    )
    .fetch_all(from)
    .await?;
    for (id, token_hash, created, expires, last_used, peer, agent) in sessions {
        sqlx::query("INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(id)
            .bind(token_hash)
            .bind(created)
            .bind(expires)
            .bind(last_used)
            .bind(peer)
            .bind(agent)
            .execute(to)
            .await?;
    }
    let settings: Vec<(String, String)> = sqlx::query_as("SELECT name, value FROM settings")
        .fetch_all(from)
        .await?;
    for (name, value) in settings {
        sqlx::query("INSERT OR REPLACE INTO settings VALUES (?, ?)")
            .bind(name)
            .bind(value)
            .execute(to)
            .await?;
    }
    Ok(())
}

/// Moves a database and its log out of the way.
fn set_aside(file: &Path) -> std::io::Result<PathBuf> {
    let stamp = clock::stamp(clock::now()).replace(':', "");
    let aside = (0..100)
        .map(|number| match number {
            0 => format!("{FILE}.damaged-{stamp}"),
            number => format!("{FILE}.damaged-{stamp}-{number}"),
        })
        .map(|name| file.with_file_name(name))
        .find(|path| !path.exists())
        .ok_or(std::io::ErrorKind::AlreadyExists)?;
    std::fs::rename(file, &aside)?;
    for suffix in ["-wal", "-shm"] {
        // They need not exist; left behind they would be replayed into the new file.
        let _ = std::fs::rename(with_suffix(file, suffix), with_suffix(&aside, suffix));
    }
    forget_oldest(file);
    Ok(aside)
}

fn forget_oldest(file: &Path) {
    let Some(Ok(entries)) = file.parent().map(std::fs::read_dir) else {
        return;
    };
    let prefix = format!("{FILE}.damaged-");
    let mut damaged: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .collect();
    damaged.sort();
    let surplus = damaged.len().saturating_sub(KEPT_DAMAGED);
    for path in damaged.iter().take(surplus) {
        for suffix in ["", "-wal", "-shm"] {
            // What cannot be removed only costs space.
            let _ = std::fs::remove_file(with_suffix(path, suffix));
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// SQLite's primary result code, in the low byte of the extended one.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

/// Whether the file's contents are wrong.
fn is_damage(error: &sqlx::Error) -> bool {
    const CORRUPT: u32 = 11;
    const NOT_A_DATABASE: u32 = 26;
    match error {
        sqlx::Error::Protocol(text) => text.starts_with("damaged"),
        error => matches!(primary_code(error), Some(CORRUPT | NOT_A_DATABASE)),
    }
}

/// Whether the disk below the file is at fault.
fn is_disk(error: &sqlx::Error) -> bool {
    const READ_ONLY: u32 = 8;
    const INPUT_OUTPUT: u32 = 10;
    const FULL: u32 = 13;
    const CANNOT_OPEN: u32 = 14;
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut)
        || matches!(
            primary_code(error),
            Some(READ_ONLY | INPUT_OUTPUT | FULL | CANNOT_OPEN)
        )
}
