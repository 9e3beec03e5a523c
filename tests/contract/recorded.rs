//! A store that passes every call on and remembers which methods were called.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nworkflow_state::domain::checkpoint::{CheckpointKey, CheckpointQuery, CheckpointRecord, NewCheckpoint};
use nworkflow_state::domain::clock::Timestamp;
use nworkflow_state::domain::id::{ExecutionId, SessionId, TenantId, UserId, WorkflowId};
use nworkflow_state::domain::page::Page;
use nworkflow_state::domain::session::{Reach, SessionDocument, SessionQuery, SessionRecord};
use nworkflow_state::domain::state::{
    ExecutionPage, ExecutionQuery, HistoryItem, Operation, RemovedExecution, StateAt, StateDocument, StateKey, StateRecord,
};
use nworkflow_state::domain::variable::{
    BatchOutcome, Number, Scope, ScopeLife, VariableBatch, VariableDocument, VariableKey, VariableRecord,
};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::store::{
    Backend, CheckpointPage, HistoryQuery, IncrementOutcome, Lookup, Outcome, Result, ScopeDeletion, Store, StoreFigures, SweepLimits,
    SweepTask, Swept, Tombstone, VariableQuery, WriteContext,
};

/// The methods that were called, of all stores that share it.
#[derive(Default)]
pub(super) struct Calls(Mutex<HashSet<&'static str>>);

impl Calls {
    fn add(&self, method: &'static str) {
        self.0.lock().unwrap().insert(method);
    }

    /// The methods that were not called.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let called = self.0.lock().unwrap();
        METHODS.iter().copied().filter(|method| !called.contains(method)).collect()
    }
}

pub(super) struct Recorded<S> {
    store: S,
    calls: Arc<Calls>,
}

impl<S> Recorded<S> {
    pub(super) fn new(store: S, calls: &Arc<Calls>) -> Self {
        Self { store, calls: Arc::clone(calls) }
    }
}

/// The delegation and the list of its methods, from the same lines: the trait has no default methods, so a line that is missing here
/// does not compile, and one that is here is asked for.
macro_rules! recorded {
    ($($method:ident($($name:ident: $type:ty),*) -> $answer:ty;)+) => {
        const METHODS: &[&str] = &["backend", "figures", $(stringify!($method)),+];

        #[async_trait]
        impl<S: Store> Store for Recorded<S> {
            fn backend(&self) -> Backend {
                self.calls.add("backend");
                self.store.backend()
            }

            fn figures(&self) -> StoreFigures {
                self.calls.add("figures");
                self.store.figures()
            }

            $(async fn $method(&self, $($name: $type),*) -> $answer {
                self.calls.add(stringify!($method));
                self.store.$method($($name),*).await
            })+
        }
    };
}

recorded! {
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
    fork_checkpoint(context: &WriteContext, key: &CheckpointKey, target: &ExecutionId) -> Result<Outcome<StateRecord>>;
    get_state_at(tenant: &TenantId, key: &StateKey, at: Timestamp) -> Result<StateAt>;
    list_workflows(tenant: &TenantId, after: Option<&WorkflowId>, limit: usize) -> Result<Page<WorkflowId>>;
    list_executions(tenant: &TenantId, workflow: &WorkflowId, query: &ExecutionQuery) -> Result<ExecutionPage>;
    delete_execution(context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<RemovedExecution>>;
    sweep(task: SweepTask, limits: SweepLimits) -> Result<Swept>;
    close() -> ();
}
