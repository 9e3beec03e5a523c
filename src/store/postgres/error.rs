//! Why the store could not be opened or migrated: one clear sentence for the operator, with what to do.

/// The start failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot work.
    #[error("{0}")]
    Configuration(String),
    /// Nothing answers there. The text names the place, never the password.
    #[error("PostgreSQL at {place} does not answer: {why}")]
    Unreachable {
        /// Host, port and database.
        place: String,
        /// Why.
        why: String,
    },
    /// Something answers there, and it is no connection. The text names the place, never the password.
    #[error("PostgreSQL at {place} refuses the connection: {said}")]
    Refused {
        /// Host, port and database.
        place: String,
        /// What it said.
        said: String,
    },
    /// The tables are not there, or not of this version.
    #[error("{0}")]
    Migrations(String),
    /// The role or the tables would let row level security be bypassed, or commits be lost.
    #[error("{0}")]
    Unsafe(String),
    /// A statement of the start failed.
    #[error("{action} failed: {}", said(error))]
    Statement {
        /// What was tried.
        action: &'static str,
        /// Why it failed. Not its source, whose text names lines of the server's code.
        error: sqlx::Error,
    },
}

impl OpenError {
    /// For `map_err`: the statement of this action failed.
    pub(super) fn during(action: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |error| Self::Statement { action, error }
    }

    /// There is no connection to this place.
    pub(super) fn no_connection(place: String, error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(why) => Self::Unreachable { place, why: why.to_string() },
            error => Self::Refused { place, said: said(error) },
        }
    }
}

/// What went wrong, in the server's own words when it is the server that said so. The driver would add in which line of the server's code
/// it was noticed, which reads as if it were a line of the operator's.
pub(super) fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Configuration(error) => error.to_string(),
        error => error.to_string(),
    }
}
