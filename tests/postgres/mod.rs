//! PostgreSQL alone: who may not serve, row level security, migrations, and a database that goes away.

mod address;
mod contention;
mod failures;
mod isolation;
mod migrations;
mod roles;
mod single_server;
mod statements;

use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::id::{ExecutionId, TenantId, UserId, VariableName, WorkflowId};
use nworkflow_state::domain::state::{Operation, StateDocument, StateKey};
use nworkflow_state::domain::variable::{Expiry, Scope, VariableDocument, VariableKey};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::store::postgres::PostgresStore;
use nworkflow_state::store::{Idempotency, Outcome, Store, StoreError, WriteContext};
use uuid::Uuid;

use crate::support::postgres::TestDatabase;

const TABLES: [&str; 9] =
    ["change_log", "checkpoint", "execution_state", "idempotency", "removed_state", "session", "state_version", "tenant", "variable"];

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn context(tenant: &TenantId) -> WriteContext {
    WriteContext { tenant: tenant.clone(), actor: UserId::parse("ada").unwrap(), request_id: Uuid::nil(), idempotency: None }
}

/// A context with an idempotency key.
fn keyed(tenant: &TenantId, key: u128) -> WriteContext {
    let idempotency = Some(Idempotency { key: Uuid::from_u128(key), fingerprint: Uuid::from_u128(7) });
    WriteContext { idempotency, ..context(tenant) }
}

fn state_key(execution: &str) -> StateKey {
    StateKey { workflow: WorkflowId::parse("w").unwrap(), execution: ExecutionId::parse(execution).unwrap() }
}

fn document() -> StateDocument {
    StateDocument::parse(r#"{"marking":{"p":1}}"#).unwrap()
}

fn variable_key(name: &str) -> VariableKey {
    VariableKey { scope: Scope::Global, name: VariableName::parse(name).unwrap() }
}

fn variable(value: &str) -> VariableDocument {
    VariableDocument { value: value.into(), description: None, expiry: Expiry::Never }
}

async fn put_state(store: &PostgresStore, tenant: &TenantId, execution: &str) -> Result<Version, StoreError> {
    match store.put_state(&context(tenant), &state_key(execution), Expected::Any, &document(), Operation::Put).await? {
        Outcome::Applied { record, .. } => Ok(record.version),
        outcome => panic!("{outcome:?}"),
    }
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[tokio::test]
async fn the_test_harness_opens_a_store() {
    let database = TestDatabase::migrated().await;
    let store = database.store(Clock::new()).await;
    store.ping().await.unwrap();
    assert_eq!(put_state(&store, &tenant("acme"), "e").await.unwrap().get(), 1);
    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
}
