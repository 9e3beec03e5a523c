//! Figures of the running server, and emptying its caches.

use std::time::Duration;

use super::Memory;
use crate::store::{Backend, StoreFigures};

/// How long the store may take to show that it answers.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// The use cases of operators.
#[derive(Clone)]
pub struct Operations {
    memory: Memory,
}

/// Figures of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Which store.
    pub backend: &'static str,
    /// Whether the store is PostgreSQL and answers.
    pub postgres_connected: bool,
    /// Whether the store answers.
    pub connected: bool,
    /// Of the store.
    pub store: StoreFigures,
    /// Of the cache in this process.
    pub local: crate::cache::Statistics,
}

impl Operations {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// The figures now. Asks the store whether it answers, for a second at most.
    pub async fn figures(&self) -> Figures {
        let answers = tokio::time::timeout(PING_TIMEOUT, self.memory.store().ping()).await;
        let connected = matches!(answers, Ok(Ok(())));
        self.levels(connected)
    }

    /// The figures now, without asking the store.
    #[must_use]
    pub fn levels(&self, connected: bool) -> Figures {
        let backend = self.memory.store().backend();
        Figures {
            backend: backend.as_str(),
            postgres_connected: connected && backend == Backend::Postgres,
            connected,
            store: self.memory.store().figures(),
            local: self.memory.local().statistics(),
        }
    }

    /// Empties the cache of this process, and says how many entries it had. Nothing is lost: the next reads come from the store.
    #[must_use]
    pub fn clear_cache(&self) -> usize {
        self.memory.local().clear()
    }
}
