//! The word between a transaction's row locks and its commit.
//!
//! A cache that must never be wrong has to hear of a write *before* it can be read, and again of what became of it. Store and cache do not
//! know each other: a store tells an observer, a cache is one, and `app` introduces them.

use async_trait::async_trait;

use super::checkpoint::CheckpointKey;
use super::id::{SessionId, TenantId};
use super::state::StateKey;
use super::variable::VariableKey;
use super::version::Version;

/// A resource that a cache may hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The current state of an execution.
    State(StateKey),
    /// A checkpoint.
    Checkpoint(CheckpointKey),
    /// A session.
    Session(SessionId),
    /// A variable. `life` is not part of what a cache is told by: see [`VariableKey`].
    Variable(VariableKey),
}

/// A new version of a resource within a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The tenant.
    pub tenant: TenantId,
    /// What changes.
    pub resource: Resource,
    /// The version that the transaction gives it; of a deletion, its tombstone's.
    pub version: Version,
}

/// Hears of transactions that change resources.
///
/// Every applied write is told with [`CommitObserver::before_commit`] while its row locks are held, and then with exactly one of
/// [`CommitObserver::committed`], [`CommitObserver::rolled_back`] and [`CommitObserver::unknown`]; the last one also when the future that ran
/// the transaction was dropped on its way.
#[async_trait]
pub trait CommitObserver: Send + Sync + 'static {
    /// The rows are locked and the versions known; nobody can read them yet. COMMIT is sent when this has ended, so it takes no longer than
    /// one round trip to another server, and has a time limit of its own.
    ///
    /// # Errors
    /// The transaction must not be committed. It is rolled back, and told so.
    async fn before_commit(&self, changes: &[Change]) -> Result<(), Objection>;

    /// COMMIT is still to be sent, or its answer to come, a while after [`CommitObserver::before_commit`] or the last such reminder: whoever
    /// keeps an announcement for a limited time only keeps it for as long again. Has a time limit of its own, as short.
    async fn still_at_work(&self, _changes: &[Change]) {}

    /// The versions can be read from now on.
    fn committed(&self, changes: &[Change]);

    /// Nothing changed.
    fn rolled_back(&self, changes: &[Change]);

    /// Nobody knows whether the versions can be read, or will be: the answer to COMMIT was lost.
    fn unknown(&self, changes: &[Change]) {
        self.committed(changes);
    }
}

/// Why an observer does not let a transaction commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Objection(pub &'static str);

/// An observer that does not care, for a store without a cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

#[async_trait]
impl CommitObserver for NoObserver {
    async fn before_commit(&self, _: &[Change]) -> Result<(), Objection> {
        Ok(())
    }

    fn committed(&self, _: &[Change]) {}

    fn rolled_back(&self, _: &[Change]) {}
}
