//! The methods of the store's trait that ask the database, once, for the stores that wrap another one: the trait has no default methods, so one that
//! is missing here does not compile.

/// Every type that a method names.
pub(crate) mod types {
    pub(crate) use nworkflow_state::domain::checkpoint::{CheckpointKey, CheckpointQuery, CheckpointRecord, NewCheckpoint};
    pub(crate) use nworkflow_state::domain::clock::Timestamp;
    pub(crate) use nworkflow_state::domain::id::{ExecutionId, SessionId, TenantId, UserId, WorkflowId};
    pub(crate) use nworkflow_state::domain::page::Page;
    pub(crate) use nworkflow_state::domain::session::{Reach, SessionDocument, SessionQuery, SessionRecord};
    pub(crate) use nworkflow_state::domain::state::{
        ExecutionPage, ExecutionQuery, HistoryItem, Operation, RemovedExecution, StateAt, StateDocument, StateKey, StateRecord,
    };
    pub(crate) use nworkflow_state::domain::variable::{
        BatchOutcome, Number, Scope, ScopeLife, VariableBatch, VariableDocument, VariableKey, VariableRecord,
    };
    pub(crate) use nworkflow_state::domain::version::{Expected, Version};
    pub(crate) use nworkflow_state::store::{
        Backend, CheckpointPage, HistoryQuery, IncrementOutcome, Lookup, Outcome, Result, ScopeDeletion, Store, StoreFigures, SweepLimits,
        SweepTask, Swept, Tombstone, VariableQuery, WriteContext,
    };
}

/// Calls a macro with all methods.
macro_rules! store_methods {
    ($callback:ident) => {
        $callback! {
            ping() -> Result<()>;
            put_state(context: &WriteContext, key: &StateKey, expected: Expected, document: &StateDocument, operation: Operation) -> Result<Outcome<StateRecord>>;
            delete_state(context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<Tombstone>>;
            get_state(tenant: &TenantId, key: &StateKey) -> Result<Lookup<StateRecord>>;
            get_state_version(tenant: &TenantId, key: &StateKey, version: Version) -> Result<Option<StateRecord>>;
            state_history(tenant: &TenantId, key: &StateKey, query: HistoryQuery) -> Result<Option<Page<HistoryItem>>>;
            put_variable(context: &WriteContext, key: &VariableKey, life: ScopeLife, expected: Expected, document: &VariableDocument) -> Result<Outcome<VariableRecord>>;
            delete_variable(context: &WriteContext, key: &VariableKey, life: ScopeLife, expected: Expected) -> Result<Outcome<Tombstone>>;
            get_variable(tenant: &TenantId, key: &VariableKey, life: ScopeLife) -> Result<Lookup<VariableRecord>>;
            list_variables(tenant: &TenantId, scope: &Scope, life: ScopeLife, query: &VariableQuery) -> Result<Page<VariableRecord>>;
            write_variables(context: &WriteContext, scope: &Scope, life: ScopeLife, batch: &VariableBatch) -> Result<BatchOutcome>;
            delete_variables(context: &WriteContext, scope: &Scope, life: ScopeLife, limit: u32) -> Result<Outcome<ScopeDeletion>>;
            increment_variable(context: &WriteContext, key: &VariableKey, life: ScopeLife, expected: Expected, by: Number) -> Result<IncrementOutcome>;
            effective_variables(tenant: &TenantId, scopes: &[(Scope, ScopeLife)], query: &VariableQuery) -> Result<Page<VariableRecord>>;
            put_session(context: &WriteContext, id: &SessionId, reach: &Reach, owner: &UserId, expected: Expected, document: &SessionDocument) -> Result<Outcome<SessionRecord>>;
            get_session(tenant: &TenantId, id: &SessionId, reach: &Reach) -> Result<Lookup<SessionRecord>>;
            touch_session(tenant: &TenantId, id: &SessionId) -> Result<Option<Timestamp>>;
            extend_session(context: &WriteContext, id: &SessionId, reach: &Reach, expected: Expected, additional_seconds: i64) -> Result<Outcome<SessionRecord>>;
            delete_session(context: &WriteContext, id: &SessionId, reach: &Reach, expected: Expected) -> Result<Outcome<Tombstone>>;
            list_sessions(tenant: &TenantId, query: &SessionQuery) -> Result<Page<SessionRecord>>;
            create_checkpoint(context: &WriteContext, key: &CheckpointKey, new: &NewCheckpoint) -> Result<Outcome<CheckpointRecord>>;
            get_checkpoint(tenant: &TenantId, key: &CheckpointKey) -> Result<Lookup<CheckpointRecord>>;
            delete_checkpoint(context: &WriteContext, key: &CheckpointKey, expected: Expected) -> Result<Outcome<Tombstone>>;
            list_checkpoints(tenant: &TenantId, query: &CheckpointQuery) -> Result<CheckpointPage>;
            restore_checkpoint(context: &WriteContext, key: &CheckpointKey, expected: Expected) -> Result<Outcome<StateRecord>>;
            fork_checkpoint(context: &WriteContext, key: &CheckpointKey, target: &ExecutionId, expected: Expected) -> Result<Outcome<StateRecord>>;
            get_state_at(tenant: &TenantId, key: &StateKey, at: Timestamp) -> Result<StateAt>;
            list_workflows(tenant: &TenantId, after: Option<&WorkflowId>, limit: usize) -> Result<Page<WorkflowId>>;
            list_executions(tenant: &TenantId, workflow: &WorkflowId, query: &ExecutionQuery) -> Result<ExecutionPage>;
            delete_execution(context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<RemovedExecution>>;
            sweep(task: SweepTask, limits: SweepLimits) -> Result<Swept>;
        }
    };
}
pub(crate) use store_methods;
