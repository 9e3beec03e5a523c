//! What an error of the driver means: for the store's caller, and for the writer that may try again.

use std::borrow::Cow;

use crate::store::StoreError;

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no connection, or none on which a transaction can begin.
    Unconnected(sqlx::Error),
    /// The driver or the server said so.
    Driver(sqlx::Error),
    /// The server did not answer a statement in time.
    Silent,
    /// A row is not what this version writes.
    Corrupt {
        /// Which column, without its value.
        detail: String,
    },
    /// Another transaction was quicker: it stored the same idempotency key, or made the row that was not there. Nothing may be committed; a
    /// new transaction sees what it did.
    Raced,
    /// The store has judged already.
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    /// A row is not what this version writes.
    pub(super) fn corrupt(detail: impl Into<String>) -> Self {
        Self::Corrupt { detail: detail.into() }
    }

    /// Whether the same transaction, run again, is likely to succeed: a serialisation failure, a deadlock's victim, a lost race.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Driver(error) => matches!(code(error).as_deref(), Some("40001" | "40P01")),
            Self::Raced => true,
            _ => false,
        }
    }

    /// Whether the connection is gone, or its state unknown. Of a COMMIT it means that the outcome is unknown too.
    pub(super) fn lost_connection(&self) -> bool {
        match self {
            Self::Unconnected(error) | Self::Driver(error) => match code(error) {
                // 40003 and 08007 say that the outcome is unknown, 57P0x that the server ends the session.
                Some(code) => code.starts_with("08") || code.starts_with("57P") || code == "40003" || code == "25P03",
                None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::Tls(_)),
            },
            Self::Silent => true,
            _ => false,
        }
    }

    /// Whether the server ended the statement because it took too long.
    pub(super) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Driver(error) if code(error).as_deref() == Some("57014"))
    }

    /// What the caller learns when nothing was written. `table` is what the statement was about.
    pub(super) fn into_store_error(self, table: &'static str) -> StoreError {
        match self {
            Self::Unconnected(error) => StoreError::Unavailable(Box::new(error)),
            Self::Driver(error) => classify(error, table),
            Self::Silent => StoreError::Unavailable("the server did not answer in time".into()),
            Self::Corrupt { detail } => StoreError::Corrupt { table, detail },
            Self::Raced => StoreError::Contended("another write of the same key is at work".into()),
            Self::Store(error) => error,
        }
    }
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(|error| error.code())
}

fn classify(error: sqlx::Error, table: &'static str) -> StoreError {
    use sqlx::Error;
    if let Some(code) = code(&error) {
        return match &*code {
            // Lock and statement time limits, serialisation failure, deadlock.
            "55P03" | "57014" | "40001" | "40P01" => StoreError::Contended(Box::new(error)),
            // Resources (disk, memory, connections), shutting down, starting up, a standby that cannot be written.
            "25006" | "25P03" | "40003" | "3D000" => StoreError::Unavailable(Box::new(error)),
            code if ["08", "28", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => StoreError::Unavailable(Box::new(error)),
            "XX001" | "XX002" => StoreError::Corrupt { table, detail: error.to_string() },
            _ => StoreError::Internal(Box::new(error)),
        };
    }
    match error {
        Error::Io(_) | Error::Tls(_) | Error::WorkerCrashed => StoreError::Unavailable(Box::new(error)),
        Error::ColumnDecode { index, source } => StoreError::Corrupt { table, detail: format!("column {index}: {source}") },
        Error::Decode(_) | Error::ColumnNotFound(_) | Error::ColumnIndexOutOfBounds { .. } | Error::TypeNotFound { .. } => {
            StoreError::Corrupt { table, detail: error.to_string() }
        }
        error => StoreError::Internal(Box::new(error)),
    }
}
