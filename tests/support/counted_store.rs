//! A store that passes every call on and counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use nworkflow_state::domain::id::TenantId;
use nworkflow_state::domain::page::Page;
use nworkflow_state::domain::state::{HistoryItem, StateDocument, StateKey, StateRecord};
use nworkflow_state::domain::variable::{Scope, VariableDocument, VariableKey, VariableRecord};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::store::{Backend, HistoryQuery, Lookup, Outcome, Result, Store, Tombstone, VariableQuery, WriteContext};

/// A store that counts the calls that reach the database.
pub(crate) struct CountedStore {
    store: Arc<dyn Store>,
    calls: AtomicUsize,
}

impl CountedStore {
    pub(crate) fn over(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, calls: AtomicUsize::new(0) })
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// The trait has no default methods, so one that is missing here does not compile.
macro_rules! counted {
    ($($method:ident($($name:ident: $type:ty),*) -> $answer:ty;)+) => {
        #[async_trait]
        impl Store for CountedStore {
            fn backend(&self) -> Backend {
                self.store.backend()
            }

            $(async fn $method(&self, $($name: $type),*) -> $answer {
                self.calls.fetch_add(1, Ordering::SeqCst);
                self.store.$method($($name),*).await
            })+
        }
    };
}

counted! {
    ping() -> Result<()>;
    put_state(context: &WriteContext, key: &StateKey, expected: Expected, document: &StateDocument) -> Result<Outcome<StateRecord>>;
    delete_state(context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<Tombstone>>;
    get_state(tenant: &TenantId, key: &StateKey) -> Result<Lookup<StateRecord>>;
    get_state_version(tenant: &TenantId, key: &StateKey, version: Version) -> Result<Option<StateRecord>>;
    state_history(tenant: &TenantId, key: &StateKey, query: HistoryQuery) -> Result<Option<Page<HistoryItem>>>;
    put_variable(context: &WriteContext, key: &VariableKey, expected: Expected, document: &VariableDocument) -> Result<Outcome<VariableRecord>>;
    delete_variable(context: &WriteContext, key: &VariableKey, expected: Expected) -> Result<Outcome<Tombstone>>;
    get_variable(tenant: &TenantId, key: &VariableKey) -> Result<Lookup<VariableRecord>>;
    list_variables(tenant: &TenantId, scope: &Scope, query: &VariableQuery) -> Result<Page<VariableRecord>>;
    close() -> ();
}
