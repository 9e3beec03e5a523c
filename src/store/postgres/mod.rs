//! PostgreSQL: the durable truth of a deployment of many servers.
//!
//! A write is one transaction: BEGIN with the tenant, one statement, COMMIT. The statements of single rows take many of them, so that
//! requests of one tenant that wait at the same moment share a transaction (`group`). Row level security holds beside the tenant that every
//! statement names.

mod batch;
mod batch_sql;
mod checkpoint_read;
mod checkpoint_state;
mod checkpoint_write;
mod connect;
mod effective_read;
mod epoch;
mod error;
mod examine;
mod execution_delete;
mod execution_read;
mod failure;
mod gate;
mod grants;
mod group;
mod head;
mod key_sql;
mod keys;
mod migrate;
mod observer;
mod open;
mod pool;
mod presence;
mod retries;
mod rows;
mod self_test;
mod session_read;
mod session_sql;
mod session_write;
mod state_read;
mod state_sql;
mod state_write;
mod sweep;
mod sweep_sql;
mod sweep_task;
mod time;
mod transaction;
mod variable_read;
mod variable_sql;
mod variable_write;
mod vitals;
mod work;

use std::hash::Hash;
use std::sync::Arc;

use async_trait::async_trait;

pub use connect::check_settings;
pub use error::OpenError;
pub use examine::{examine, unread_parameters};
pub use migrate::migrate;
pub use open::OpenMode;
pub use presence::Presence;

use self::gate::Gate;
use self::group::Groups;
use self::pool::Pool;
use self::sweep::Sweeper;
use self::work::{Runner, Work, Written};
use super::{
    Backend, CheckpointPage, HistoryQuery, IncrementOutcome, Lookup, Outcome, Refusable, Result, ScopeDeletion, Store, StoreError,
    StoreFigures, SweepLimits, SweepTask, Swept, Tombstone, VariableQuery, WriteContext,
};
use crate::deadline;
use crate::domain::checkpoint::{CheckpointKey, CheckpointQuery, CheckpointRecord, NewCheckpoint};
use crate::domain::clock::Timestamp;
use crate::domain::id::{ExecutionId, SessionId, TenantId, UserId, WorkflowId};
use crate::domain::page::Page;
use crate::domain::session::{Reach, SessionDocument, SessionQuery, SessionRecord};
use crate::domain::state::{
    ExecutionPage, ExecutionQuery, HistoryItem, Operation, RemovedExecution, StateAt, StateDocument, StateKey, StateRecord,
};
use crate::domain::store_life::StoreLife;
use crate::domain::variable::{BatchOutcome, Number, Scope, ScopeLife, VariableBatch, VariableDocument, VariableKey, VariableRecord};
use crate::domain::version::{Expected, Version};

/// The store on PostgreSQL.
#[derive(Debug)]
pub struct PostgresStore {
    /// Shared with the lanes, which may outlive the store until what they have is answered.
    runner: Arc<Runner>,
    /// One connection apart, so that the answer whether the database answers never waits behind requests.
    health: Pool,
    /// For the writes that are more than one statement.
    gate: Gate,
    /// What the database tells of itself.
    life: StoreLife,
    /// For those that are one row of a statement, and the reads of one row.
    groups: Groups,
    sweeper: Sweeper,
}

impl PostgresStore {
    /// Runs a read by itself.
    async fn read<W: Work>(&self, tenant: &TenantId, work: &W) -> Result<W::Output> {
        self.runner.read(tenant, work).await.map_err(|failure| failure.into_store_error(W::TABLE))
    }

    /// Runs a write by itself, when no other such write of these keys is at work. One of the same keys in a group meets it at the rows' locks.
    ///
    /// A refusal of a request with an idempotency key is looked at again: an equal request, by way of another server, may have been what it
    /// had to wait for at the row's lock. Then its key is found now, and its answer is this one's too.
    async fn write<T: Send + Refusable, W: Work<Output = Written<T>>>(
        &self,
        context: &WriteContext,
        keys: impl IntoIterator<Item = impl Hash> + Send,
        work: &W,
    ) -> Result<T> {
        let before = self.runner.pool.begun();
        let tenant = &context.tenant;
        let entered = self.gate.enter(keys.into_iter().map(|key| (W::TABLE, tenant, key))).await;
        let Some(_entered) = entered else {
            if deadline::has_passed() {
                return Err(StoreError::Late);
            }
            let why = "other writers of the resource did not end in time";
            // Of a database that is away one writer after the other finds that out, each by its own time limit.
            let answers = self.runner.pool.answers_since(before);
            return Err(if answers { StoreError::Contended(why.into()) } else { StoreError::Unavailable(why.into()) });
        };
        let mut answer = self.runner.write(tenant, work).await;
        if context.idempotency.is_some() && answer.as_ref().is_ok_and(Refusable::is_refusal) {
            answer = self.runner.write(tenant, work).await;
        }
        answer.map_err(|failure| failure.into_store_error(W::TABLE))
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn backend(&self) -> Backend {
        Backend::Postgres
    }

    async fn ping(&self) -> Result<()> {
        let begun = transaction::read(self.runner.limits_of(&self.health), None, async |connection| {
            match vitals::look(connection, &self.life).await {
                // It answers: that it does not tell its identity is another matter.
                Ok(()) | Err(sqlx::Error::Database(_)) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
        .await;
        begun.map_err(|failure| failure.into_store_error("no table"))
    }

    async fn put_state(
        &self,
        context: &WriteContext,
        key: &StateKey,
        expected: Expected,
        document: &StateDocument,
        operation: Operation,
    ) -> Result<Outcome<StateRecord>> {
        self.groups
            .submit(state_write::StatePut { context: context.clone(), key: key.clone(), expected, operation, document: document.clone() })
            .await
    }

    async fn delete_state(&self, context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<Tombstone>> {
        self.groups.submit(state_write::StateDelete { context: context.clone(), key: key.clone(), expected }).await
    }

    async fn get_state(&self, tenant: &TenantId, key: &StateKey) -> Result<Lookup<StateRecord>> {
        self.groups.submit(state_read::StateGet { tenant: tenant.clone(), key: key.clone() }).await
    }

    async fn get_state_version(&self, tenant: &TenantId, key: &StateKey, version: Version) -> Result<Option<StateRecord>> {
        self.read(tenant, &state_read::GetStateVersion { tenant, key, version }).await
    }

    async fn state_history(&self, tenant: &TenantId, key: &StateKey, query: HistoryQuery) -> Result<Option<Page<HistoryItem>>> {
        self.read(tenant, &state_read::GetHistory { tenant, key, query }).await
    }

    async fn put_variable(
        &self,
        context: &WriteContext,
        key: &VariableKey,
        life: ScopeLife,
        expected: Expected,
        document: &VariableDocument,
    ) -> Result<Outcome<VariableRecord>> {
        self.groups
            .submit(variable_write::VariablePut { context: context.clone(), key: key.clone(), life, expected, document: document.clone() })
            .await
    }

    async fn delete_variable(
        &self,
        context: &WriteContext,
        key: &VariableKey,
        life: ScopeLife,
        expected: Expected,
    ) -> Result<Outcome<Tombstone>> {
        self.groups.submit(variable_write::VariableDelete { context: context.clone(), key: key.clone(), life, expected }).await
    }

    async fn get_variable(&self, tenant: &TenantId, key: &VariableKey, life: ScopeLife) -> Result<Lookup<VariableRecord>> {
        self.groups.submit(variable_read::VariableGet { tenant: tenant.clone(), key: key.clone(), life }).await
    }

    async fn list_variables(
        &self,
        tenant: &TenantId,
        scope: &Scope,
        life: ScopeLife,
        query: &VariableQuery,
    ) -> Result<Page<VariableRecord>> {
        self.read(tenant, &variable_read::ListVariables { tenant, scope, life, query }).await
    }

    async fn write_variables(&self, context: &WriteContext, scope: &Scope, life: ScopeLife, batch: &VariableBatch) -> Result<BatchOutcome> {
        let mut keys = Vec::with_capacity(batch.set.len() + batch.delete.len());
        for (name, _) in &batch.set {
            keys.push(VariableKey { scope: scope.clone(), name: name.clone() });
        }
        for name in &batch.delete {
            keys.push(VariableKey { scope: scope.clone(), name: name.clone() });
        }
        self.write(context, keys, &batch::WriteVariables { context, scope, life, batch }).await
    }

    async fn delete_variables(&self, context: &WriteContext, scope: &Scope, life: ScopeLife, limit: u32) -> Result<Outcome<ScopeDeletion>> {
        self.write(context, [scope], &batch::DeleteScope { context, scope, life, limit }).await
    }

    async fn increment_variable(
        &self,
        context: &WriteContext,
        key: &VariableKey,
        life: ScopeLife,
        expected: Expected,
        by: Number,
    ) -> Result<IncrementOutcome> {
        self.write(context, [key], &batch::IncrementVariable { context, key, life, expected, by }).await
    }

    async fn effective_variables(
        &self,
        tenant: &TenantId,
        scopes: &[(Scope, ScopeLife)],
        query: &VariableQuery,
    ) -> Result<Page<VariableRecord>> {
        self.read(tenant, &effective_read::EffectiveVariables { tenant, scopes, query }).await
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
        self.groups
            .submit(session_write::SessionPut {
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
        self.groups.submit(session_read::SessionGet { tenant: tenant.clone(), id: id.clone(), reach: reach.clone() }).await
    }

    async fn touch_session(&self, tenant: &TenantId, id: &SessionId) -> Result<Option<Timestamp>> {
        self.runner.hint(tenant, &session_write::TouchSession { tenant, id }).await
    }

    async fn extend_session(
        &self,
        context: &WriteContext,
        id: &SessionId,
        reach: &Reach,
        expected: Expected,
        additional_seconds: i64,
    ) -> Result<Outcome<SessionRecord>> {
        self.groups
            .submit(session_write::SessionExtension {
                context: context.clone(),
                id: id.clone(),
                reach: reach.clone(),
                expected,
                additional_seconds,
            })
            .await
    }

    async fn delete_session(
        &self,
        context: &WriteContext,
        id: &SessionId,
        reach: &Reach,
        expected: Expected,
    ) -> Result<Outcome<Tombstone>> {
        self.groups.submit(session_write::SessionDelete { context: context.clone(), id: id.clone(), reach: reach.clone(), expected }).await
    }

    async fn list_sessions(&self, tenant: &TenantId, query: &SessionQuery) -> Result<Page<SessionRecord>> {
        self.read(tenant, &session_read::ListSessions { tenant, query }).await
    }

    async fn create_checkpoint(
        &self,
        context: &WriteContext,
        key: &CheckpointKey,
        new: &NewCheckpoint,
    ) -> Result<Outcome<CheckpointRecord>> {
        self.write(context, [&key.state], &checkpoint_write::CreateCheckpoint { context, key, new }).await
    }

    async fn get_checkpoint(&self, tenant: &TenantId, key: &CheckpointKey) -> Result<Lookup<CheckpointRecord>> {
        self.groups.submit(checkpoint_read::CheckpointGet { tenant: tenant.clone(), key: key.clone() }).await
    }

    async fn delete_checkpoint(&self, context: &WriteContext, key: &CheckpointKey, expected: Expected) -> Result<Outcome<Tombstone>> {
        self.write(context, [&key.state], &checkpoint_write::DeleteCheckpoint { context, key, expected }).await
    }

    async fn list_checkpoints(&self, tenant: &TenantId, query: &CheckpointQuery) -> Result<CheckpointPage> {
        self.read(tenant, &checkpoint_read::ListCheckpoints { tenant, query }).await
    }

    async fn restore_checkpoint(&self, context: &WriteContext, key: &CheckpointKey, expected: Expected) -> Result<Outcome<StateRecord>> {
        self.write(context, [&key.state], &checkpoint_state::RestoreCheckpoint { context, key, expected }).await
    }

    async fn fork_checkpoint(
        &self,
        context: &WriteContext,
        key: &CheckpointKey,
        target: &ExecutionId,
        expected: Expected,
    ) -> Result<Outcome<StateRecord>> {
        self.write(context, [(&key.state.workflow, target)], &checkpoint_state::ForkCheckpoint { context, key, target, expected }).await
    }

    async fn get_state_at(&self, tenant: &TenantId, key: &StateKey, at: Timestamp) -> Result<StateAt> {
        self.read(tenant, &state_read::GetStateAt { tenant, key, at }).await
    }

    async fn list_workflows(&self, tenant: &TenantId, after: Option<&WorkflowId>, limit: usize) -> Result<Page<WorkflowId>> {
        self.read(tenant, &execution_read::ListWorkflows { tenant, after, limit }).await
    }

    async fn list_executions(&self, tenant: &TenantId, workflow: &WorkflowId, query: &ExecutionQuery) -> Result<ExecutionPage> {
        self.read(tenant, &execution_read::ListExecutions { tenant, workflow, query }).await
    }

    async fn delete_execution(&self, context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<RemovedExecution>> {
        self.write(context, [key], &execution_delete::DeleteExecution { context, key, expected }).await
    }

    async fn sweep(&self, task: SweepTask, limits: SweepLimits) -> Result<Swept> {
        self.sweep_step(task, limits).await
    }

    fn figures(&self) -> StoreFigures {
        let (queue_depth, queue_capacity) = self.groups.depth_and_capacity();
        let pools = [&self.runner.pool, &self.health, self.sweeper.pool()];
        StoreFigures {
            connections: pools.iter().map(|pool| pool.connections()).sum(),
            idle_connections: pools.iter().map(|pool| pool.idle_connections()).sum(),
            queue_depth,
            queue_capacity,
            groups: self.runner.groups(),
            rows: self.runner.rows(),
        }
    }

    async fn close(&self) {
        self.groups.close().await;
        self.runner.pool.close().await;
        self.sweeper.pool().close().await;
        self.health.close().await;
    }
}
