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
        /// The server's own word for it (SQLSTATE), when it was the server.
        state: Option<String>,
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
            error => {
                let state = error.as_database_error().and_then(|error| error.code()).map(Into::into);
                Self::Refused { place, said: said(error), state }
            }
        }
    }

    /// What to do about it, where the text does not say so itself.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Configuration(_) | Self::Migrations(_) | Self::Unsafe(_) => None,
            Self::Unreachable { .. } => Some(
                "Start PostgreSQL, or correct host and port in database.url (or database.host and database.port). Where the name does not \
                 resolve, or a firewall or listen_addresses of PostgreSQL keeps this machine out, it looks the same.",
            ),
            Self::Refused { state, .. } => Some(match state.as_deref() {
                Some("28P01") => {
                    "Correct the password in database.url, in database.password or in the file that database.password_file names, or give the \
                     role that password: ALTER ROLE ... PASSWORD '...'."
                }
                Some("28000") => {
                    "Correct the user in database.url (or database.username), make the role and let it log in, and see that pg_hba.conf of \
                     PostgreSQL has a line for it, this database and this machine, with or without TLS."
                }
                Some("3D000") => {
                    "Correct the database in database.url (or database.database), or make it: CREATE DATABASE ... OWNER nworkflow_owner, and then \
                     nworkflow-state migrate."
                }
                Some("42501") => "Let the role connect: GRANT CONNECT ON DATABASE ... TO ....",
                Some("53300") => {
                    "All connections are in use: raise max_connections or the role's CONNECTION LIMIT, or lower database.pool_size of the servers."
                }
                Some("57P03" | "57P01" | "57P02") => "PostgreSQL is starting or stopping: wait a moment.",
                Some(_) => "The log of PostgreSQL tells more.",
                None => {
                    "Something answers there that is not PostgreSQL, or does not agree about TLS: look at the port, and at sslmode and sslrootcert \
                     in database.url."
                }
            }),
            Self::Statement { .. } => Some("The log of PostgreSQL tells more."),
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
