//! The durable truth, behind one trait. The only place of SQL.
//!
//! **Contract of every method.**
//! - *Atomic*: all of it happens or nothing. Transactions never leave the backend.
//! - *Durable*: when a write returns `Ok`, a crash of the server or the database loses nothing of it.
//! - *Isolated*: it sees and changes rows of the given tenant only. On PostgreSQL row level security says the same a second time.
//! - *Ordered*: versions of a key only grow, also over deletion and re-creation; so do the times that are stored for it.
//! - *Recorded*: an applied write leaves one row in the change log, and one idempotency row when it carries a key, in its own transaction.
//! - *Not cancelled*: a write whose future was polled may complete although the future is dropped; the services never drop one.
//!
//! Preconditions are evaluated by the statement that writes, under the row's lock. Time is the database's clock plus the offset of the
//! injected [`Clock`](crate::domain::clock::Clock), 0 outside tests.
//!
//! **Adding a method:** add it here, to both backends, and to the contract suite (`tests/contract`), whose recording store does not
//! compile without it and whose last case fails while no case calls it.

pub mod answer;
pub mod change;
pub mod migrate;
pub mod name_range;
pub mod postgres;
pub mod sqlite;

use async_trait::async_trait;
use uuid::Uuid;

use crate::domain::id::{TenantId, UserId, VariableName};
use crate::domain::page::Page;
use crate::domain::state::{HistoryItem, StateDocument, StateKey, StateRecord};
use crate::domain::variable::{Scope, VariableDocument, VariableKey, VariableRecord};
use crate::domain::version::{Expected, Version};

/// Why a store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached. Nothing was written.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A lock or statement time limit passed, other writers of the key or the users of all connections did not end in time, or the
    /// database chose this transaction as a deadlock's victim. Nothing was written.
    #[error("the store is contended")]
    Contended(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke while the commit was on its way: the write is there or it is not.
    #[error("the outcome of the commit is unknown")]
    OutcomeUnknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row does not hold what this version writes.
    #[error("a row of {table} is corrupt: {detail}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// Which row and column, without any value.
        detail: String,
    },
    /// Anything else that the database refused.
    #[error("the store failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A result of a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Which database is behind the trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// PostgreSQL.
    Postgres,
    /// The embedded SQLite file.
    Sqlite,
}

impl Backend {
    /// The word in statistics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Seconds for which the answer of an idempotency key is kept: 24 hours. An older row counts as absent, swept or not.
pub const IDEMPOTENCY_SECONDS: i64 = 24 * 3600;

/// Who writes, and under which idempotency key.
#[derive(Debug, Clone)]
pub struct WriteContext {
    /// The tenant that the write happens in.
    pub tenant: TenantId,
    /// The user that is recorded with the version.
    pub actor: UserId,
    /// The request, for the change log.
    pub request_id: Uuid,
    /// The idempotency key, when the request has one.
    pub idempotency: Option<Idempotency>,
}

/// An idempotency key, hashed: 128 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    /// Hash of issuer, subject and key.
    pub key: Uuid,
    /// Hash of everything in the request that must be equal for a replay.
    pub fingerprint: Uuid,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It was written.
    Applied {
        /// Whether the key did not exist before (also: was deleted or expired).
        created: bool,
        /// What is there now.
        record: R,
    },
    /// Its precondition failed. The current version is `None` when the key does not exist.
    Refused {
        /// The live version, read under the lock or at the statement's snapshot.
        current: Option<Version>,
    },
    /// There is nothing to delete, and the precondition did not ask for anything.
    Absent,
    /// The idempotency key was used by an equal request before, whose stored answer this is. Nothing was written.
    Replayed(Replay<R>),
    /// The idempotency key was used by another request before. Nothing was written.
    KeyReused,
}

/// A stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay<R> {
    /// The HTTP status that was answered: 200, 201 or 204.
    pub status: u16,
    /// The version that was written.
    pub version: Version,
    /// What was written; `None` for a delete, and for a version that is no longer kept.
    pub record: Option<R>,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<R> {
    /// The key is there.
    Live(R),
    /// The key was deleted or expired; its tombstone has this version.
    Gone(Version),
    /// There is no trace of the key.
    Absent,
}

impl<R> Lookup<R> {
    /// The record, when the key is there.
    #[must_use]
    pub fn live(self) -> Option<R> {
        match self {
            Self::Live(record) => Some(record),
            Self::Gone(_) | Self::Absent => None,
        }
    }
}

/// A tombstone that a delete left: its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// The version of the deletion.
    pub version: Version,
}

/// Which part of a state's history to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Oldest first instead of newest first.
    pub ascending: bool,
    /// Only versions behind this one, in the chosen order.
    pub after: Option<Version>,
    /// Most items.
    pub limit: usize,
}

/// Which variables of a scope to read, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VariableQuery {
    /// Only names that begin with these bytes.
    pub prefix: String,
    /// Only these names, when there are any.
    pub names: Vec<VariableName>,
    /// Only names behind this one.
    pub after: Option<VariableName>,
    /// Most items.
    pub limit: usize,
    /// The page ends once its values hold this many bytes; it holds at least one item.
    pub max_bytes: usize,
}

/// The durable truth. See the module for what every method promises.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Which database this is.
    fn backend(&self) -> Backend;

    /// Whether the database answers now.
    ///
    /// # Errors
    /// It does not.
    async fn ping(&self) -> Result<()>;

    /// Saves a state: a new version of the head, its body, a log row, an idempotency row. Creates the execution when it is absent or
    /// deleted; its `created_at` is then the time of this version.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn put_state(
        &self,
        context: &WriteContext,
        key: &StateKey,
        expected: Expected,
        document: &StateDocument,
    ) -> Result<Outcome<StateRecord>>;

    /// Deletes a state: the tombstone is a version too. History stays. [`Outcome::Absent`] when there is no live state and `expected` is
    /// [`Expected::Any`] or [`Expected::Absent`]; [`Outcome::Refused`] without a version when it asks for one.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn delete_state(&self, context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<Tombstone>>;

    /// The current version of a state.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn get_state(&self, tenant: &TenantId, key: &StateKey) -> Result<Lookup<StateRecord>>;

    /// One version of a state, current or past, also of a deleted execution. `None` for a version that was never written, is not kept,
    /// or is a deletion.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn get_state_version(&self, tenant: &TenantId, key: &StateKey, version: Version) -> Result<Option<StateRecord>>;

    /// The history of a state without bodies, also of a deleted execution. `None` when the execution has no versions.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn state_history(&self, tenant: &TenantId, key: &StateKey, query: HistoryQuery) -> Result<Option<Page<HistoryItem>>>;

    /// Saves a variable. One that was deleted or has expired counts as absent, and `created_at` begins anew.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn put_variable(
        &self,
        context: &WriteContext,
        key: &VariableKey,
        expected: Expected,
        document: &VariableDocument,
    ) -> Result<Outcome<VariableRecord>>;

    /// Deletes a variable; outcomes as [`Store::delete_state`].
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn delete_variable(&self, context: &WriteContext, key: &VariableKey, expected: Expected) -> Result<Outcome<Tombstone>>;

    /// One variable. An expired one is gone at its instant.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn get_variable(&self, tenant: &TenantId, key: &VariableKey) -> Result<Lookup<VariableRecord>>;

    /// The live variables of a scope in the byte order of their names.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn list_variables(&self, tenant: &TenantId, scope: &Scope, query: &VariableQuery) -> Result<Page<VariableRecord>>;

    /// Waits for writes in progress and closes the connections. Further calls fail.
    async fn close(&self);
}
