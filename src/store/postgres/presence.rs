//! Who serves the database: many servers, or one that says that it is alone.
//!
//! A server that is alone may believe its own memory. That it is alone is a lock of the database: it holds it exclusively, on a connection
//! of its own, and every other server holds it shared. So neither begins while the other is there.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio_util::sync::CancellationToken;

use super::connect;
use super::error::OpenError;
use crate::config::DatabaseConfig;

/// The lock, in each database its own, and not that of migrations: `nwserver` in ASCII.
const LOCK: i64 = 0x6E77_7365_7276_6572;
/// Pause between two looks at the connection of a server that is alone. Twice as long may its memory be believed after the lock is lost.
const LOOK_ALONE: Duration = Duration::from_millis(500);
/// Pause between two looks of a server that is one of many.
const LOOK: Duration = Duration::from_secs(60);
/// Pause before the lock is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_millis(500);

const ALONE_REFUSED: &str = "cache.single_server is set, but another server serves this database. Stop it, or unset the setting and give \
                             all servers the same [dragonfly].";
const SHARED_REFUSED: &str = "A server with cache.single_server serves this database alone. Stop it, or unset its setting and give all \
                              servers the same [dragonfly].";

/// A place among the servers of a database.
#[derive(Debug)]
pub struct Presence {
    login: PgConnectOptions,
    alone: bool,
    connection: Option<PgConnection>,
}

impl Presence {
    /// Takes the place.
    ///
    /// # Errors
    /// The database cannot be reached, or the place is not free: each a sentence for the operator.
    pub async fn take(config: &DatabaseConfig, alone: bool) -> Result<Self, OpenError> {
        let mut presence = Self { login: connect::login(config)?, alone, connection: None };
        presence.try_take().await?;
        Ok(presence)
    }

    /// Keeps the place until `stop`. `held` is told at each look whether it is held: of a place that is alone some moments apart. A server that is one of
    /// many and finds another one alone answers why it must not serve any more.
    ///
    /// # Errors
    /// The sentence for the operator.
    pub async fn keep(mut self, stop: CancellationToken, held: impl Fn(bool) + Send) -> Result<(), OpenError> {
        let mut pause = if self.alone { LOOK_ALONE } else { LOOK };
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            if self.is_there().await {
                held(true);
                pause = if self.alone { LOOK_ALONE } else { LOOK };
                continue;
            }
            if self.alone {
                held(false);
            }
            match self.try_take().await {
                Ok(()) => {
                    held(true);
                    pause = if self.alone { LOOK_ALONE } else { LOOK };
                }
                Err(error @ OpenError::Configuration(_)) if !self.alone => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "the lock of the servers of the database is not held");
                    pause = AGAIN;
                }
            }
        }
    }

    async fn is_there(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let answer = tokio::time::timeout(ANSWER, sqlx::query("SELECT 1").execute(connection)).await;
        let is_there = matches!(answer, Ok(Ok(_)));
        if !is_there {
            self.connection = None;
        }
        is_there
    }

    async fn try_take(&mut self) -> Result<(), OpenError> {
        let mut connection = connect::connect(&self.login).await?;
        let statement = if self.alone { "SELECT pg_try_advisory_lock($1)" } else { "SELECT pg_try_advisory_lock_shared($1)" };
        let taken: bool = sqlx::query_scalar(statement)
            .bind(LOCK)
            .fetch_one(&mut connection)
            .await
            .map_err(OpenError::during("the lock of the servers of the database"))?;
        if taken {
            self.connection = Some(connection);
            return Ok(());
        }
        // Whatever comes of it: the refusal is what counts.
        drop(connection.close().await);
        Err(OpenError::Configuration(if self.alone { ALONE_REFUSED } else { SHARED_REFUSED }.to_owned()))
    }
}
