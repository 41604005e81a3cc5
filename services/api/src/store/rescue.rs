//! What is done with a database that is not well: it is set aside, or read as far as it can be.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::clock;

/// Damaged files that are kept; older ones go, so that a bad disk does not fill itself.
const KEPT_DAMAGED: usize = 3;
/// Largest database that is copied to be read. Ours has some 100 KiB; `/tmp` holds 16 MiB.
const MAX_COPY: u64 = 6 * 1024 * 1024;

/// Carries what a file still holds over into `memory`. The file itself is not touched: to read it
/// as it is, with its write-ahead log, SQLite would have to write, which a full or read-only disk
/// does not let it. So it reads a copy in `/tmp`, which is memory.
///
/// # Errors
/// When the file is too large or too damaged; what came before the damage has been carried over.
pub async fn copy_file(file: &Path, memory: &SqlitePool) -> Result<(), sqlx::Error> {
    if !file.is_file() {
        return Ok(());
    }
    let directory = std::env::temp_dir().join(format!("kos-api-rescue-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
    let copied = read_copy(file, &directory, memory).await;
    // It is in memory that is this service's own, and small.
    let _ = std::fs::remove_dir_all(&directory);
    copied
}

async fn read_copy(file: &Path, directory: &Path, memory: &SqlitePool) -> Result<(), sqlx::Error> {
    let copy = directory.join("copy.db");
    for suffix in ["", "-wal"] {
        let from = with_suffix(file, suffix);
        let size = match std::fs::metadata(&from) {
            Err(_) if suffix == "-wal" => continue,
            metadata => metadata?.len(),
        };
        if size > MAX_COPY {
            let text = format!("{} has {size} bytes, allowed: {MAX_COPY}", from.display());
            return Err(sqlx::Error::Protocol(text));
        }
        std::fs::copy(&from, with_suffix(&copy, suffix))?;
    }
    let options = SqliteConnectOptions::new().filename(&copy);
    let old = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await?;
    let copied = copy_rows(&old, memory).await;
    old.close().await;
    copied
}

/// Carries every session and setting over.
///
/// # Errors
/// At the first row that cannot be read; those before it have been carried over.
pub async fn copy_rows(from: &SqlitePool, to: &SqlitePool) -> Result<(), sqlx::Error> {
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

/// Moves a database and its log out of the way, to a name that says when: `*.damaged-2026-…`.
///
/// # Errors
/// When the directory cannot be written.
pub fn set_aside(file: &Path) -> std::io::Result<PathBuf> {
    let stamp = clock::stamp(clock::now()).replace(':', "");
    let aside = (0..100)
        .map(|number| match number {
            0 => with_suffix(file, &format!(".damaged-{stamp}")),
            number => with_suffix(file, &format!(".damaged-{stamp}-{number}")),
        })
        .find(|path| !path.exists())
        .ok_or(std::io::ErrorKind::AlreadyExists)?;
    // Before, so that the newest stays whatever the clock says: without a battery it says 1970.
    forget_oldest(file, KEPT_DAMAGED - 1);
    std::fs::rename(file, &aside)?;
    for suffix in ["-wal", "-shm"] {
        // They need not exist; left behind they would be replayed into the new file.
        let _ = std::fs::rename(with_suffix(file, suffix), with_suffix(&aside, suffix));
    }
    Ok(aside)
}

fn forget_oldest(file: &Path, kept: usize) {
    let Some(Ok(entries)) = file.parent().map(std::fs::read_dir) else {
        return;
    };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{name}.damaged-");
    let mut damaged: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .collect();
    damaged.sort();
    let surplus = damaged.len().saturating_sub(kept);
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

#[cfg(test)]
mod tests {
    use super::set_aside;

    #[test]
    fn a_few_damaged_files_are_kept_and_always_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kos.db");
        for number in 0..6 {
            let text = number.to_string();
            std::fs::write(&file, &text).unwrap();
            std::fs::write(directory.path().join("kos.db-wal"), "log").unwrap();
            let aside = set_aside(&file).unwrap();
            assert_eq!(std::fs::read_to_string(aside).unwrap(), text);
            assert!(!file.exists() && !directory.path().join("kos.db-wal").exists());
        }
        // Each with its log.
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 6);
    }
}
