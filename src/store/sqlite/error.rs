//! Which of the store's errors an error of SQLite is.

use std::fmt;
use std::sync::Arc;

use crate::domain::commit::Objection;
use crate::store::StoreError;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error as the store's contract names it.
pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    Class::of(&error).with(error.into())
}

/// Why a whole group of writes failed. Each of them is told the same.
#[derive(Debug, Clone)]
pub(super) struct GroupFailure {
    class: Class,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

impl GroupFailure {
    /// The transaction could not begin, or was lost before its commit.
    pub(super) fn before_commit(error: sqlx::Error) -> Self {
        let class = match Class::of(&error) {
            // A transaction that SQLite has rolled back by itself is missed by the next statement, which knows no cause.
            Class::Internal => Class::Unavailable,
            class => class,
        };
        Self { class, source: Arc::new(error) }
    }

    /// The observer of commits objects to this one.
    pub(super) fn refused(objection: Objection) -> Self {
        Self { class: Class::Unavailable, source: Arc::new(objection) }
    }

    /// The commit failed. When writing or flushing did, the log on disk may hold the commit although SQLite never shows it to a reader
    /// of this process: after a crash it is there or not.
    pub(super) fn at_commit(error: sqlx::Error) -> Self {
        let class = if primary_code(&error) == Some(code::IOERR) { Class::OutcomeUnknown } else { Class::of(&error) };
        Self { class, source: Arc::new(error) }
    }

    /// Whether the group may be there all the same.
    pub(super) fn is_unknown(&self) -> bool {
        self.class == Class::OutcomeUnknown
    }

    /// The failure as it is told to one write.
    pub(super) fn to_error(&self) -> StoreError {
        self.class.with(Box::new(Arc::clone(&self.source)))
    }
}

impl fmt::Display for GroupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.to_error(), self.source)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Unavailable,
    Contended,
    OutcomeUnknown,
    Corrupt,
    Internal,
}

impl Class {
    fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(_) => match primary_code(error) {
                Some(code::BUSY | code::LOCKED) => Self::Contended,
                Some(code::NOMEM | code::READONLY | code::IOERR | code::FULL | code::CANTOPEN) => Self::Unavailable,
                Some(code::CORRUPT | code::NOTADB) => Self::Corrupt,
                _ => Self::Internal,
            },
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) => Self::Unavailable,
            _ => Self::Internal,
        }
    }

    fn with(self, source: Source) -> StoreError {
        match self {
            Self::Unavailable => StoreError::Unavailable(source),
            Self::Contended => StoreError::Contended(source),
            Self::OutcomeUnknown => StoreError::OutcomeUnknown(source),
            Self::Corrupt => StoreError::Corrupt { table: "sqlite_schema", detail: source.to_string() },
            Self::Internal => StoreError::Internal(source),
        }
    }
}

/// Primary result codes of SQLite (<https://www.sqlite.org/rescode.html>), as far as they are told apart here.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const NOMEM: i32 = 7;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
}

/// The low byte of the extended result code.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<i32>().ok()? & 0xFF)
}
