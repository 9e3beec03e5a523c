//! PostgreSQL: the durable truth of a deployment of many servers.
//!
//! A write is one transaction: BEGIN with the tenant, one statement, COMMIT. The statements take many rows, so that writes of one
//! tenant can share a transaction. Row level security holds beside the tenant that every statement names.

mod connect;
mod epoch;
mod error;
mod failure;
mod gate;
mod key_sql;
mod migrate;
mod open;
mod pool;
mod rows;
mod self_test;
mod state_read;
mod state_sql;
mod state_write;
mod time;
mod transaction;
mod variable_read;
mod variable_sql;
mod variable_write;
mod work;

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

pub use connect::check_settings;
pub use error::OpenError;
pub use migrate::migrate;
pub use open::OpenMode;

use self::epoch::Epoch;
use self::gate::Gate;
use self::pool::Pool;
use self::transaction::Limits;
use self::work::KnownTenants;
use super::{Backend, HistoryQuery, Lookup, Outcome, Result, Store, Tombstone, VariableQuery, WriteContext};
use crate::domain::clock::Clock;
use crate::domain::id::TenantId;
use crate::domain::page::Page;
use crate::domain::state::{HistoryItem, Operation, StateDocument, StateKey, StateRecord};
use crate::domain::variable::{Scope, VariableDocument, VariableKey, VariableRecord};
use crate::domain::version::{Expected, Version};

/// The store on PostgreSQL.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
    /// One connection apart, so that the answer whether the database answers never waits behind requests.
    health: Pool,
    gate: Gate,
    clock: Clock,
    answer_limit: Duration,
    tenants: KnownTenants,
    /// Unknown when the server does not tell.
    epoch: Mutex<Option<Epoch>>,
}

#[async_trait]
impl Store for PostgresStore {
    fn backend(&self) -> Backend {
        Backend::Postgres
    }

    async fn ping(&self) -> Result<()> {
        let limits = Limits { pool: &self.health, answer: self.answer_limit };
        let begun = transaction::read(limits, None, async |_| Ok(())).await;
        begun.map_err(|failure| failure.into_store_error("no table"))
    }

    async fn put_state(
        &self,
        context: &WriteContext,
        key: &StateKey,
        expected: Expected,
        document: &StateDocument,
    ) -> Result<Outcome<StateRecord>> {
        let rows = [state_write::StatePut { context, key, expected, operation: Operation::Put, document }];
        let tenant = &context.tenant;
        rows::single(self.write(tenant, [key], &state_write::PutStates { tenant, rows: &rows }).await?)
    }

    async fn delete_state(&self, context: &WriteContext, key: &StateKey, expected: Expected) -> Result<Outcome<Tombstone>> {
        let rows = [state_write::StateDelete { context, key, expected }];
        let tenant = &context.tenant;
        rows::single(self.write(tenant, [key], &state_write::DeleteStates { tenant, rows: &rows }).await?)
    }

    async fn get_state(&self, tenant: &TenantId, key: &StateKey) -> Result<Lookup<StateRecord>> {
        self.read(tenant, &state_read::GetState { tenant, key }).await
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
        expected: Expected,
        document: &VariableDocument,
    ) -> Result<Outcome<VariableRecord>> {
        let rows = [variable_write::VariablePut { context, key, expected, document }];
        let tenant = &context.tenant;
        rows::single(self.write(tenant, [key], &variable_write::PutVariables { tenant, rows: &rows }).await?)
    }

    async fn delete_variable(&self, context: &WriteContext, key: &VariableKey, expected: Expected) -> Result<Outcome<Tombstone>> {
        let rows = [variable_write::VariableDelete { context, key, expected }];
        let tenant = &context.tenant;
        rows::single(self.write(tenant, [key], &variable_write::DeleteVariables { tenant, rows: &rows }).await?)
    }

    async fn get_variable(&self, tenant: &TenantId, key: &VariableKey) -> Result<Lookup<VariableRecord>> {
        self.read(tenant, &variable_read::GetVariable { tenant, key }).await
    }

    async fn list_variables(&self, tenant: &TenantId, scope: &Scope, query: &VariableQuery) -> Result<Page<VariableRecord>> {
        self.read(tenant, &variable_read::ListVariables { tenant, scope, query }).await
    }

    async fn close(&self) {
        self.pool.close().await;
        self.health.close().await;
    }
}
