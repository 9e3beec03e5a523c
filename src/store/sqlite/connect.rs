//! The database's folder and file: made, locked against a second process, migrated, opened.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, SqliteConnection, SqlitePool};

use super::error::store_error;
use crate::config::EmbeddedConfig;
use crate::store::{Result, StoreError};

/// The database file in the data folder.
pub const DATABASE_FILE: &str = "nworkflow.sqlite";
/// The file whose lock says that the folder is in use. It is never removed: a removed file can be locked twice.
pub const LOCK_FILE: &str = "lock";

/// The tables of the embedded store.
pub static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

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
pub(super) async fn open_writer(folder: &Path, config: &EmbeddedConfig) -> Result<SqliteConnection> {
    let file = folder.join(DATABASE_FILE);
    // SQLite gives its other files the rights of this one.
    drop(open_private(&file)?);
    let mut connection = options(&file, config)
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
pub(super) async fn open_readers(folder: &Path, config: &EmbeddedConfig) -> Result<SqlitePool> {
    let connections = match config.readers {
        0 => std::thread::available_parallelism().map_or(4, |cores| u32::try_from(cores.get().clamp(2, 8)).unwrap_or(8)),
        readers => readers,
    };
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(config.acquire_timeout_ms.into())
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options(&folder.join(DATABASE_FILE), config).read_only(true).row_buffer_size(ROWS_AHEAD))
        .await
        .map_err(store_error)
}

fn options(file: &Path, config: &EmbeddedConfig) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(file).busy_timeout(config.busy_timeout_ms.into()).foreign_keys(true).disable_statement_logging()
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
        let config = crate::config::load(&crate::config::Source::default()).unwrap().embedded;
        let mut writer = open_writer(folder.path(), &config).await.unwrap();
        let mut reader = open_readers(folder.path(), &config).await.unwrap().acquire().await.unwrap();
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
