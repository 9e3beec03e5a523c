//! The embedded store: one SQLite file, one writer, readers beside it.

mod connect;
mod error;
mod record;
mod row;
mod state_writes;
mod states;
mod variable_writes;
mod variables;
mod writer;

use std::path::Path;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqlitePool};

pub use connect::{DATABASE_FILE, FolderInUse, LOCK_FILE, MIGRATOR};
use error::store_error;
use state_writes::{DeleteState, PutState};
use variable_writes::{DeleteVariable, PutVariable};
use writer::Writer;

use super::{Backend, HistoryQuery, Lookup, Outcome, Result, Store, Tombstone, VariableQuery, WriteContext};
use crate::domain::clock::Clock;
use crate::domain::id::TenantId;
use crate::domain::page::Page;
use crate::domain::state::{HistoryItem, StateDocument, StateKey, StateRecord};
use crate::domain::variable::{Scope, VariableDocument, VariableKey, VariableRecord};
use crate::domain::version::{Expected, Version};
use crate::lifecycle::Lifecycle;

/// The store in one SQLite file (WAL, every commit flushed). It has no clock but the injected one.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: SqlitePool,
    clock: Clock,
}

impl SqliteStore {
    /// Opens the database in `data_dir`, which is made (mode 0700) when it is missing, and brings its tables up to date. The writer runs
    /// as a task of `lifecycle` until [`Store::close`], or until the store is dropped.
    ///
    /// # Errors
    /// The folder cannot be used; another store has it open ([`FolderInUse`]); its tables cannot be brought up to date.
    pub async fn open(data_dir: &Path, clock: Clock, lifecycle: &Lifecycle) -> Result<Self> {
        connect::make_folder(data_dir)?;
        let lock = connect::lock_folder(data_dir)?;
        let connection = connect::open_writer(data_dir).await?;
        let readers = connect::open_readers(data_dir).await?;
        Ok(Self { writer: Writer::start(connection, lock, clock.clone(), lifecycle), readers, clock })
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
    ) -> Result<Outcome<StateRecord>> {
        self.writer.submit(PutState { context: context.clone(), key: key.clone(), expected, document: document.clone() }).await
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
        expected: Expected,
        document: &VariableDocument,
    ) -> Result<Outcome<VariableRecord>> {
        self.writer.submit(PutVariable { context: context.clone(), key: key.clone(), expected, document: document.clone() }).await
    }

    async fn delete_variable(&self, context: &WriteContext, key: &VariableKey, expected: Expected) -> Result<Outcome<Tombstone>> {
        self.writer.submit(DeleteVariable { context: context.clone(), key: key.clone(), expected }).await
    }

    async fn get_variable(&self, tenant: &TenantId, key: &VariableKey) -> Result<Lookup<VariableRecord>> {
        variables::current(&mut *self.reader().await?, tenant, key, self.clock.now()).await
    }

    async fn list_variables(&self, tenant: &TenantId, scope: &Scope, query: &VariableQuery) -> Result<Page<VariableRecord>> {
        variables::list(&mut *self.reader().await?, tenant, scope, query, self.clock.now()).await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
