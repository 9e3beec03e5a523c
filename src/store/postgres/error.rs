//! Why the store could not be opened or migrated: one clear sentence for the operator, with what to do.

/// The start failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot work.
    #[error("{0}")]
    Configuration(String),
    /// There is no connection. The text names the place, never the password.
    #[error("PostgreSQL at {place} does not answer: {source}")]
    Unreachable {
        /// Host, port and database.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The tables are not there, or not of this version.
    #[error("{0}")]
    Migrations(String),
    /// The role or the tables would let row level security be bypassed, or commits be lost.
    #[error("{0}")]
    Unsafe(String),
    /// A statement of the start failed.
    #[error("{action} failed: {source}")]
    Statement {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: sqlx::Error,
    },
}

impl OpenError {
    /// For `map_err`: the statement of this action failed.
    pub(super) fn during(action: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Statement { action, source }
    }
}
