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
pub mod outcome;
pub mod postgres;
pub mod query;
pub mod sqlite;
pub mod sweep;

use async_trait::async_trait;

pub use self::outcome::{
    IDEMPOTENCY_SECONDS, Idempotency, IncrementOutcome, Lookup, Outcome, Refusable, Replay, ScopeDeletion, Tombstone, WriteContext,
};
pub use self::query::{CheckpointPage, HistoryQuery, VariableQuery};
pub use self::sweep::{StoreFigures, SweepLimits, SweepTask, Swept};

use crate::domain::checkpoint::{CheckpointKey, CheckpointQuery, CheckpointRecord, NewCheckpoint};
use crate::domain::clock::Timestamp;
use crate::domain::id::{ExecutionId, SessionId, TenantId, UserId, WorkflowId};
use crate::domain::page::Page;
use crate::domain::session::{Reach, SessionDocument, SessionQuery, SessionRecord};
use crate::domain::state::{
    ExecutionPage, ExecutionQuery, HistoryItem, Operation, RemovedExecution, StateAt, StateDocument, StateKey, StateRecord,
};
use crate::domain::variable::{BatchOutcome, Number, Scope, ScopeLife, VariableBatch, VariableDocument, VariableKey, VariableRecord};
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
    /// More requests wait for the database than may. This one was not begun.
    #[error("too many requests wait for the store")]
    Full,
    /// The request's deadline passed before the database was done with it. Nothing was written.
    #[error("the deadline passed")]
    Late,
    /// Whoever has to hear of writes before they are committed does not let this one be. Nothing was written.
    #[error("the write was refused before its commit")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
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
    /// deleted; its `created_at` is then the time of this version. `operation` ([`Operation::Put`] or [`Operation::Patch`]) is recorded.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn put_state(
        &self,
        context: &WriteContext,
        key: &StateKey,
        expected: Expected,
        document: &StateDocument,
        operation: Operation,
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

    /// Saves a variable. One that was deleted, has expired or belongs to another life of its scope counts as absent, and `created_at` begins
    /// anew. The caller has looked up `life`; a session that ends meanwhile takes the variable with it.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn put_variable(
        &self,
        context: &WriteContext,
        key: &VariableKey,
        life: ScopeLife,
        expected: Expected,
        document: &VariableDocument,
    ) -> Result<Outcome<VariableRecord>>;

    /// Deletes a variable; outcomes as [`Store::delete_state`].
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn delete_variable(
        &self,
        context: &WriteContext,
        key: &VariableKey,
        life: ScopeLife,
        expected: Expected,
    ) -> Result<Outcome<Tombstone>>;

    /// One variable. An expired one is gone at its instant.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn get_variable(&self, tenant: &TenantId, key: &VariableKey, life: ScopeLife) -> Result<Lookup<VariableRecord>>;

    /// The live variables of a scope in the byte order of their names.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn list_variables(
        &self,
        tenant: &TenantId,
        scope: &Scope,
        life: ScopeLife,
        query: &VariableQuery,
    ) -> Result<Page<VariableRecord>>;

    /// Writes several variables of a scope: all of it in one transaction, or nothing when a version is another than expected. Names are
    /// unique within each part of the batch, and none is both set and deleted.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn write_variables(&self, context: &WriteContext, scope: &Scope, life: ScopeLife, batch: &VariableBatch) -> Result<BatchOutcome>;

    /// Deletes the live variables of a scope, at most `limit` of them, in one transaction; each leaves its tombstone and its log row.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn delete_variables(&self, context: &WriteContext, scope: &Scope, life: ScopeLife, limit: u32) -> Result<Outcome<ScopeDeletion>>;

    /// Adds a number to a variable, under its row's lock: concurrent increments are all counted. An absent variable is created with the
    /// number. Description and time to live stay.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn increment_variable(
        &self,
        context: &WriteContext,
        key: &VariableKey,
        life: ScopeLife,
        expected: Expected,
        by: Number,
    ) -> Result<IncrementOutcome>;

    /// The variables that are in force where these scopes are looked through in their order: by name, each from the first scope that has it.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn effective_variables(
        &self,
        tenant: &TenantId,
        scopes: &[(Scope, ScopeLife)],
        query: &VariableQuery,
    ) -> Result<Page<VariableRecord>>;

    /// Saves a session. A new one (absent, deleted, expired) belongs to `owner` and begins a new life; a live one keeps its owner.
    /// [`Outcome::Absent`]: a live session of this id is out of `reach`. Expiry is now plus the time to live when the document has one or
    /// the session is new, else it stays; never later than `created_at` plus the cap.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn put_session(
        &self,
        context: &WriteContext,
        id: &SessionId,
        reach: &Reach,
        owner: &UserId,
        expected: Expected,
        document: &SessionDocument,
    ) -> Result<Outcome<SessionRecord>>;

    /// One session. An expired one, and one out of reach, is not there.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn get_session(&self, tenant: &TenantId, id: &SessionId, reach: &Reach) -> Result<Lookup<SessionRecord>>;

    /// Moves the expiry of a live sliding session to now plus its time to live, under the cap; no version, no log row, no index write.
    /// Returns the expiry; `None` when there is no such session. A touch may be lost in a crash.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn touch_session(&self, tenant: &TenantId, id: &SessionId) -> Result<Option<Timestamp>>;

    /// Adds seconds to the expiry of a live session, under its cap. A write. [`Outcome::Absent`]: not there, expired or out of reach.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn extend_session(
        &self,
        context: &WriteContext,
        id: &SessionId,
        reach: &Reach,
        expected: Expected,
        additional_seconds: i64,
    ) -> Result<Outcome<SessionRecord>>;

    /// Deletes a session, and with its life its variables.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn delete_session(&self, context: &WriteContext, id: &SessionId, reach: &Reach, expected: Expected)
    -> Result<Outcome<Tombstone>>;

    /// The live sessions within reach, by id, without their data: no list shows it, and a page of it may be large. `null` stands for it.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn list_sessions(&self, tenant: &TenantId, query: &SessionQuery) -> Result<Page<SessionRecord>>;

    /// Makes a checkpoint of the current state or of the one given. [`Outcome::Refused`] with the taken id's version when it exists;
    /// [`Outcome::Absent`] when there is no current state to copy. On an execution that does not exist, a given state makes a head that is
    /// deleted and has no versions.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn create_checkpoint(
        &self,
        context: &WriteContext,
        key: &CheckpointKey,
        new: &NewCheckpoint,
    ) -> Result<Outcome<CheckpointRecord>>;

    /// One checkpoint.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn get_checkpoint(&self, tenant: &TenantId, key: &CheckpointKey) -> Result<Lookup<CheckpointRecord>>;

    /// Deletes a checkpoint; outcomes as [`Store::delete_state`].
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn delete_checkpoint(&self, context: &WriteContext, key: &CheckpointKey, expected: Expected) -> Result<Outcome<Tombstone>>;

    /// Checkpoints without their states, newest first, over all executions that the query lets pass.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn list_checkpoints(&self, tenant: &TenantId, query: &CheckpointQuery) -> Result<CheckpointPage>;

    /// Makes what a checkpoint keeps the current state, as a new version (operation `restore`, with the checkpoint's id); also of a deleted
    /// state. `expected` is about the state. [`Outcome::Absent`]: no such checkpoint.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn restore_checkpoint(&self, context: &WriteContext, key: &CheckpointKey, expected: Expected) -> Result<Outcome<StateRecord>>;

    /// Begins a new execution of the same workflow with what a checkpoint keeps (operation `fork`), and with its origin. [`Outcome::Refused`]
    /// when the target has a live state or any history or checkpoint of its own, and when its live version is not as `expected`;
    /// [`Outcome::Absent`]: no such checkpoint.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn fork_checkpoint(
        &self,
        context: &WriteContext,
        key: &CheckpointKey,
        target: &ExecutionId,
        expected: Expected,
    ) -> Result<Outcome<StateRecord>>;

    /// The version of a state that was in force at a moment, inclusive.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn get_state_at(&self, tenant: &TenantId, key: &StateKey, at: Timestamp) -> Result<StateAt>;

    /// The workflows that have an execution with a live state, by id.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn list_workflows(&self, tenant: &TenantId, after: Option<&WorkflowId>, limit: usize) -> Result<Page<WorkflowId>>;

    /// The executions of a workflow that have a live state.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn list_executions(&self, tenant: &TenantId, workflow: &WorkflowId, query: &ExecutionQuery) -> Result<ExecutionPage>;

    /// Removes an execution with its history and checkpoints: one row changes, and all of it is gone for readers at the commit. The versions
    /// of its state and of its checkpoints' ids go on growing. The observer is told of the state, and of its live checkpoints (up to 10 000)
    /// with the versions of their end. [`Outcome::Absent`] when it has neither state nor history nor checkpoints; `expected` is about the state.
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn delete_execution(&self, context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<RemovedExecution>>;

    /// One step of housekeeping, in a short transaction, tenant by tenant, on connections apart from those of requests. One server at a time:
    /// [`Swept::busy`].
    ///
    /// # Errors
    /// The store could not answer; see [`StoreError`].
    async fn sweep(&self, task: SweepTask, limits: SweepLimits) -> Result<Swept>;

    /// Figures, taken without asking the database.
    fn figures(&self) -> StoreFigures;

    /// Waits for writes in progress and closes the connections. Further calls fail.
    async fn close(&self);
}
