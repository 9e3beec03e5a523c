//! Whether the server can do its work.

use std::time::Duration;

use super::Memory;
use crate::error::{Code, Error, Result};
use crate::store::Backend;

/// How long the store may take to show that it answers.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// The use case of health checks.
#[derive(Clone)]
pub struct Health {
    memory: Memory,
}

impl Health {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// Whether the cache of all servers is used; `None` when there is none.
    #[must_use]
    pub fn second_tier_connected(&self) -> Option<bool> {
        self.memory.tiers().second().map(|second| second.is_up())
    }

    /// Which store answers.
    ///
    /// # Errors
    /// The store does not answer within a second, or the server is shutting down.
    pub async fn ready(&self) -> Result<Backend> {
        if self.memory.is_stopping() {
            return Err(Error::new(Code::ShuttingDown, "The server is shutting down."));
        }
        let silent = || {
            if self.memory.life().is_silent() {
                tracing::warn!("the database does not answer");
            }
            // Whatever keeps it from answering, a probe is to hear that it does not, and not that the server is broken.
            Error::new(Code::StoreUnavailable, "The database does not answer.")
        };
        match tokio::time::timeout(PING_TIMEOUT, self.memory.store().ping()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(silent().with_cause(error)),
            Err(_) => return Err(silent()),
        }
        Ok(self.memory.store().backend())
    }
}
