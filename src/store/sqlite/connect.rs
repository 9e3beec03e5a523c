//! The database's folder and file: made, locked against a second process, migrated, opened.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, SqliteConnection, SqlitePool};

use super::error::store_error;
use crate::store::{Result, StoreError};

/// The database file in the data folder.
pub const DATABASE_FILE: &str = "nworkflow.sqlite";
/// The file whose lock says that the folder is in use. It is never removed: a removed file can be locked twice.
pub const LOCK_FILE: &str = "lock";

/// The tables of the embedded store.
pub static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a statement waits for a lock that a foreign tool holds on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a reading connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// Rows that a reading connection fetches ahead of its reader: few, because a value may hold a megabyte.
const ROWS_AHEAD: usize = 8;
/// Size to which the log is cut after a checkpoint, in bytes: one with many large states leaves it large.
const LOG_SIZE_LIMIT: &str = "67108864";

/// Another process, or another store of this one, works on the folder.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use by another nworkflow-state: an embedded database belongs to one process (file {LOCK_FILE})", .0.display())]
pub struct FolderInUse(PathBuf);

/// Makes the folder when it is missing, for this user alone.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| unusable(folder, &error))
}

/// Takes the folder's lock. It lasts as long as the returned file is open, and ends with the process however that ends.
pub(super) fn lock_folder(folder: &Path) -> Result<File> {
    let file = open_private(&folder.join(LOCK_FILE))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Unavailable(Box::new(FolderInUse(folder.to_owned())))),
        Err(TryLockError::Error(error)) => Err(unusable(folder, &error)),
    }
}

/// Opens the connection that writes and brings the tables up to date.
pub(super) async fn open_writer(folder: &Path) -> Result<SqliteConnection> {
    let file = folder.join(DATABASE_FILE);
    // SQLite gives its other files the rights of this one.
    drop(open_private(&file)?);
    let mut connection = options(&file)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", LOG_SIZE_LIMIT)
        .connect()
        .await
        .map_err(store_error)?;
    // SQLite answers with the old mode where the file system cannot do what the log needs, and goes on.
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.map_err(store_error)?;
    if mode != "wal" {
        return Err(StoreError::Unavailable(format!("{} cannot hold a write-ahead log", folder.display()).into()));
    }
    MIGRATOR.run(&mut connection).await.map_err(|error| StoreError::Internal(Box::new(error)))?;
    Ok(connection)
}

/// Opens the connections that read, and can do nothing else.
pub(super) async fn open_readers(folder: &Path) -> Result<SqlitePool> {
    let connections = std::thread::available_parallelism().map_or(4, |cores| cores.get().clamp(2, 8));
    SqlitePoolOptions::new()
        .max_connections(u32::try_from(connections).unwrap_or(8))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options(&folder.join(DATABASE_FILE)).read_only(true).row_buffer_size(ROWS_AHEAD))
        .await
        .map_err(store_error)
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(file).busy_timeout(BUSY_TIMEOUT).foreign_keys(true).disable_statement_logging()
}

fn open_private(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_connection_has_its_settings() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = open_writer(folder.path()).await.unwrap();
        let mut reader = open_readers(folder.path()).await.unwrap().acquire().await.unwrap();
        for (pragma, of_writer, of_reader) in [
            ("PRAGMA synchronous", Some(2), None),
            ("PRAGMA auto_vacuum", Some(2), Some(2)),
            ("PRAGMA foreign_keys", Some(1), Some(1)),
            ("PRAGMA busy_timeout", Some(5000), Some(5000)),
            ("PRAGMA journal_size_limit", Some(67_108_864), None),
        ] {
            let read: i64 = sqlx::query_scalar(pragma).fetch_one(&mut writer).await.unwrap();
            assert_eq!(read, of_writer.unwrap_or(read), "{pragma} of the writer");
            let read: i64 = sqlx::query_scalar(pragma).fetch_one(&mut *reader).await.unwrap();
            assert_eq!(read, of_reader.unwrap_or(read), "{pragma} of a reader");
        }
        let write = sqlx::query("INSERT INTO tenant (tenant_id) VALUES ('acme')").execute(&mut *reader).await;
        assert!(write.is_err(), "a reader writes nothing");
    }
}
