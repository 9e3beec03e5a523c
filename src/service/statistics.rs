//! Figures of the running server, and emptying its caches.

use std::time::Duration;

use super::Memory;
pub use super::sampler::SamplerFigures;
use crate::cache::{BusFigures, SecondTierFigures};
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
    /// Of the cache of all servers, when there is one.
    pub second: Option<SecondTierFigures>,
    /// Of the sampler of cached answers.
    pub sampler: SamplerFigures,
    /// Of the bus of the servers.
    pub bus: BusFigures,
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
            local: self.memory.tiers().local().statistics(),
            second: self.memory.tiers().second().map(|second| second.figures()),
            sampler: self.memory.sampled(),
            bus: self.memory.tiers().bus().figures(),
        }
    }

    /// Entries of the cache of all servers; 0 when there is none, or when it does not say within a second.
    pub async fn second_tier_entries(&self) -> u64 {
        match self.memory.tiers().second() {
            Some(second) => second.entries().await.unwrap_or(0),
            None => 0,
        }
    }

    /// Empties the cache of all servers and the one of each, and says how many entries the first had. `None` when there is none, or when it
    /// does not answer: then it is emptied as soon as it does.
    pub async fn clear_second_tier(&self) -> Option<u64> {
        match self.memory.tiers().second() {
            Some(second) => second.clear().await,
            None => None,
        }
    }

    /// Empties the cache of this process, and says how many entries it had. Nothing is lost: the next reads come from the store.
    #[must_use]
    pub fn clear_cache(&self) -> usize {
        self.memory.tiers().local().clear()
    }
}
