//! The embedded store: one SQLite file, one writer, readers beside it.

mod checkpoint_writes;
mod checkpoints;
mod connect;
mod error;
mod executions;
mod free_space;
mod heads;
mod record;
mod removals;
mod row;
mod scope_writes;
mod session_writes;
mod sessions;
mod state_writes;
mod states;
mod sweep;
mod variable_heads;
mod variable_writes;
mod variables;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqlitePool};

use checkpoint_writes::{CreateCheckpoint, DeleteCheckpoint, ForkCheckpoint, RestoreCheckpoint};
pub use connect::{DATABASE_FILE, FolderInUse, LOCK_FILE, MIGRATOR};
use error::store_error;
use removals::DeleteExecution;
use scope_writes::{DeleteVariables, WriteVariables};
use session_writes::{DeleteSession, ExtendSession, PutSession, TouchSession};
use state_writes::{DeleteState, PutState};
use sweep::Sweep;
use variable_writes::{DeleteVariable, IncrementVariable, PutVariable};
use writer::Writer;

use super::{
    Backend, CheckpointPage, HistoryQuery, IncrementOutcome, Lookup, Outcome, Result, ScopeDeletion, Store, StoreFigures, SweepLimits,
    SweepTask, Swept, Tombstone, VariableQuery, WriteContext,
};
use crate::config::EmbeddedConfig;
use crate::domain::checkpoint::{CheckpointKey, CheckpointQuery, CheckpointRecord, NewCheckpoint};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::commit::CommitObserver;
use crate::domain::id::{ExecutionId, SessionId, TenantId, UserId, WorkflowId};
use crate::domain::page::Page;
use crate::domain::session::{Reach, SessionDocument, SessionQuery, SessionRecord};
use crate::domain::state::{
    ExecutionPage, ExecutionQuery, HistoryItem, Operation, RemovedExecution, StateAt, StateDocument, StateKey, StateRecord,
};
use crate::domain::variable::{BatchOutcome, Number, Scope, ScopeLife, VariableBatch, VariableDocument, VariableKey, VariableRecord};
use crate::domain::version::{Expected, Version};
use crate::lifecycle::Lifecycle;

/// How long a step of housekeeping lets writes pass before it takes its place among them. So under writes without a pause it takes a small
/// part of the writer's time, and with one all that it wants.
const SWEEP_PATIENCE: Duration = Duration::from_millis(100);

/// The store in one SQLite file (WAL, every commit flushed). It has no clock but the injected one.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: SqlitePool,
    clock: Clock,
}

impl SqliteStore {
    /// Opens the database in `data_dir`, which is made (mode 0700) when it is missing, and brings its tables up to date. The writer runs
    /// as a task of `lifecycle` until [`Store::close`], or until the store is dropped. `observer` hears of every commit.
    ///
    /// # Errors
    /// The folder cannot be used; another store has it open ([`FolderInUse`]); its tables cannot be brought up to date.
    pub async fn open(
        data_dir: &Path,
        config: &EmbeddedConfig,
        clock: Clock,
        lifecycle: &Lifecycle,
        observer: Arc<dyn CommitObserver>,
    ) -> Result<Self> {
        connect::make_folder(data_dir)?;
        let lock = connect::lock_folder(data_dir)?;
        let connection = connect::open_writer(data_dir, config).await?;
        let readers = connect::open_readers(data_dir, config).await?;
        let writer = Writer::start(connection, lock, config, clock.clone(), lifecycle, observer);
        Ok(Self { writer, readers, clock })
    }

    async fn reader(&self) -> Result<PoolConnection<Sqlite>> {
        self.readers.acquire().await.map_err(store_error)
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn backend(&self) -> Backend {
        Backend::Sqlite
    }

    async fn ping(&self) -> Result<()> {
        self.writer.check()?;
        sqlx::query("SELECT 1 FROM tenant LIMIT 1").execute(&self.readers).await.map_err(store_error).map(drop)
    }

    async fn put_state(
        &self,
        context: &WriteContext,
        key: &StateKey,
        expected: Expected,
        document: &StateDocument,
        operation: Operation,
    ) -> Result<Outcome<StateRecord>> {
        self.writer.submit(PutState { context: context.clone(), key: key.clone(), expected, document: document.clone(), operation }).await
    }

    async fn delete_state(&self, context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<Tombstone>> {
        self.writer.submit(DeleteState { context: context.clone(), key: key.clone(), expected }).await
    }

    async fn get_state(&self, tenant: &TenantId, key: &StateKey) -> Result<Lookup<StateRecord>> {
        states::current(&mut *self.reader().await?, tenant, key).await
    }

    async fn get_state_version(&self, tenant: &TenantId, key: &StateKey, version: Version) -> Result<Option<StateRecord>> {
        states::version(&mut *self.reader().await?, tenant, key, version).await
    }

    async fn state_history(&self, tenant: &TenantId, key: &StateKey, query: HistoryQuery) -> Result<Option<Page<HistoryItem>>> {
        states::history(&mut *self.reader().await?, tenant, key, query).await
    }

    async fn put_variable(
        &self,
        context: &WriteContext,
        key: &VariableKey,
        life: ScopeLife,
        expected: Expected,
        document: &VariableDocument,
    ) -> Result<Outcome<VariableRecord>> {
        self.writer.submit(PutVariable { context: context.clone(), key: key.clone(), life, expected, document: document.clone() }).await
    }

    async fn delete_variable(
        &self,
        context: &WriteContext,
        key: &VariableKey,
        life: ScopeLife,
        expected: Expected,
    ) -> Result<Outcome<Tombstone>> {
        self.writer.submit(DeleteVariable { context: context.clone(), key: key.clone(), life, expected }).await
    }

    async fn get_variable(&self, tenant: &TenantId, key: &VariableKey, life: ScopeLife) -> Result<Lookup<VariableRecord>> {
        variables::current(&mut *self.reader().await?, tenant, key, life, self.clock.now()).await
    }

    async fn list_variables(
        &self,
        tenant: &TenantId,
        scope: &Scope,
        life: ScopeLife,
        query: &VariableQuery,
    ) -> Result<Page<VariableRecord>> {
        variables::list(&mut *self.reader().await?, tenant, scope, life, query, self.clock.now()).await
    }

    async fn write_variables(&self, context: &WriteContext, scope: &Scope, life: ScopeLife, batch: &VariableBatch) -> Result<BatchOutcome> {
        self.writer.submit(WriteVariables { context: context.clone(), scope: scope.clone(), life, batch: batch.clone() }).await
    }

    async fn delete_variables(&self, context: &WriteContext, scope: &Scope, life: ScopeLife, limit: u32) -> Result<Outcome<ScopeDeletion>> {
        self.writer.submit(DeleteVariables { context: context.clone(), scope: scope.clone(), life, limit }).await
    }

    async fn increment_variable(
        &self,
        context: &WriteContext,
        key: &VariableKey,
        life: ScopeLife,
        expected: Expected,
        by: Number,
    ) -> Result<IncrementOutcome> {
        self.writer.submit(IncrementVariable { context: context.clone(), key: key.clone(), life, expected, by }).await
    }

    async fn effective_variables(
        &self,
        tenant: &TenantId,
        scopes: &[(Scope, ScopeLife)],
        query: &VariableQuery,
    ) -> Result<Page<VariableRecord>> {
        variables::effective(&mut *self.reader().await?, tenant, scopes, query, self.clock.now()).await
    }

    async fn put_session(
        &self,
        context: &WriteContext,
        id: &SessionId,
        reach: &Reach,
        owner: &UserId,
        expected: Expected,
        document: &SessionDocument,
    ) -> Result<Outcome<SessionRecord>> {
        self.writer
            .submit(PutSession {
                context: context.clone(),
                id: id.clone(),
                reach: reach.clone(),
                owner: owner.clone(),
                expected,
                document: document.clone(),
            })
            .await
    }

    async fn get_session(&self, tenant: &TenantId, id: &SessionId, reach: &Reach) -> Result<Lookup<SessionRecord>> {
        sessions::current(&mut *self.reader().await?, tenant, id, reach, self.clock.now()).await
    }

    async fn touch_session(&self, tenant: &TenantId, id: &SessionId) -> Result<Option<Timestamp>> {
        self.writer.submit(TouchSession { tenant: tenant.clone(), id: id.clone() }).await
    }

    async fn extend_session(
        &self,
        context: &WriteContext,
        id: &SessionId,
        reach: &Reach,
        expected: Expected,
        additional_seconds: i64,
    ) -> Result<Outcome<SessionRecord>> {
        self.writer
            .submit(ExtendSession { context: context.clone(), id: id.clone(), reach: reach.clone(), expected, additional_seconds })
            .await
    }

    async fn delete_session(
        &self,
        context: &WriteContext,
        id: &SessionId,
        reach: &Reach,
        expected: Expected,
    ) -> Result<Outcome<Tombstone>> {
        self.writer.submit(DeleteSession { context: context.clone(), id: id.clone(), reach: reach.clone(), expected }).await
    }

    async fn list_sessions(&self, tenant: &TenantId, query: &SessionQuery) -> Result<Page<SessionRecord>> {
        sessions::list(&mut *self.reader().await?, tenant, query, self.clock.now()).await
    }

    async fn create_checkpoint(
        &self,
        context: &WriteContext,
        key: &CheckpointKey,
        new: &NewCheckpoint,
    ) -> Result<Outcome<CheckpointRecord>> {
        self.writer.submit(CreateCheckpoint { context: context.clone(), key: key.clone(), new: new.clone() }).await
    }

    async fn get_checkpoint(&self, tenant: &TenantId, key: &CheckpointKey) -> Result<Lookup<CheckpointRecord>> {
        checkpoints::current(&mut *self.reader().await?, tenant, key).await
    }

    async fn delete_checkpoint(&self, context: &WriteContext, key: &CheckpointKey, expected: Expected) -> Result<Outcome<Tombstone>> {
        self.writer.submit(DeleteCheckpoint { context: context.clone(), key: key.clone(), expected }).await
    }

    async fn list_checkpoints(&self, tenant: &TenantId, query: &CheckpointQuery) -> Result<CheckpointPage> {
        checkpoints::list(&mut *self.reader().await?, tenant, query).await
    }

    async fn restore_checkpoint(&self, context: &WriteContext, key: &CheckpointKey, expected: Expected) -> Result<Outcome<StateRecord>> {
        self.writer.submit(RestoreCheckpoint { context: context.clone(), key: key.clone(), expected }).await
    }

    async fn fork_checkpoint(
        &self,
        context: &WriteContext,
        key: &CheckpointKey,
        target: &ExecutionId,
        expected: Expected,
    ) -> Result<Outcome<StateRecord>> {
        self.writer.submit(ForkCheckpoint { context: context.clone(), key: key.clone(), target: target.clone(), expected }).await
    }

    async fn get_state_at(&self, tenant: &TenantId, key: &StateKey, at: Timestamp) -> Result<StateAt> {
        states::at(&mut *self.reader().await?, tenant, key, at, self.clock.now()).await
    }

    async fn list_workflows(&self, tenant: &TenantId, after: Option<&WorkflowId>, limit: usize) -> Result<Page<WorkflowId>> {
        executions::workflows(&mut *self.reader().await?, tenant, after, limit).await
    }

    async fn list_executions(&self, tenant: &TenantId, workflow: &WorkflowId, query: &ExecutionQuery) -> Result<ExecutionPage> {
        executions::list(&mut *self.reader().await?, tenant, workflow, query).await
    }

    async fn delete_execution(&self, context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<RemovedExecution>> {
        self.writer.submit(DeleteExecution { context: context.clone(), key: key.clone(), expected }).await
    }

    async fn sweep(&self, task: SweepTask, limits: SweepLimits) -> Result<Swept> {
        self.writer.wait_for_calm(SWEEP_PATIENCE).await;
        self.writer.submit(Sweep { task, limits }).await
    }

    fn figures(&self) -> StoreFigures {
        let (writer, connections) = (self.writer.figures(), self.readers.size());
        StoreFigures {
            // The writer's beside the readers'.
            connections: connections.saturating_add(1),
            idle_connections: u32::try_from(self.readers.num_idle()).unwrap_or(u32::MAX),
            queue_depth: writer.queue_depth,
            queue_capacity: writer.queue_capacity,
            groups: writer.groups,
            rows: writer.versions,
        }
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
