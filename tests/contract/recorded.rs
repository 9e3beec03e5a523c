//! A store that passes every call on and remembers which methods were called.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use nworkflow_state::domain::id::TenantId;
use nworkflow_state::domain::page::Page;
use nworkflow_state::domain::state::{HistoryItem, StateDocument, StateKey, StateRecord};
use nworkflow_state::domain::variable::{Scope, VariableDocument, VariableKey, VariableRecord};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::store::{Backend, HistoryQuery, Lookup, Outcome, Result, Store, Tombstone, VariableQuery, WriteContext};

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
        const METHODS: &[&str] = &["backend", $(stringify!($method)),+];

        #[async_trait]
        impl<S: Store> Store for Recorded<S> {
            fn backend(&self) -> Backend {
                self.calls.add("backend");
                self.store.backend()
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
