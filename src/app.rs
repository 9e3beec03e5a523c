//! Wires configuration, store, authenticator and router. This branch has a placeholder without a store.

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::Config;
use crate::domain::clock::Clock;
use crate::domain::id::TenantId;
use crate::domain::page::Page;
use crate::domain::state::{HistoryItem, StateDocument, StateKey, StateRecord};
use crate::domain::variable::{Scope, VariableDocument, VariableKey, VariableRecord};
use crate::domain::version::{Expected, Version};
use crate::http::auth::DevelopmentIssuer;
use crate::lifecycle::Lifecycle;
use crate::store::{self, Backend, HistoryQuery, Lookup, Outcome, Store, StoreError, Tombstone, VariableQuery, WriteContext};

/// How the application is put together, beside its settings.
#[derive(Debug, Clone, Copy)]
pub struct AppOptions {
    /// For trying the server: the development issuer is used, and a PostgreSQL login that may do so prepares its own role.
    pub development: bool,
}

/// Why the application did not start: one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are to blame.
    #[error("{0}")]
    Configuration(String),
    /// Something else is.
    #[error("{0}")]
    Failed(String),
}

/// The version of the OpenAPI specification that a document follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenApiVersion {
    /// 3.1
    V3_1,
    /// 3.0
    V3_0,
}

/// The application: what is served, and what must be closed at the end.
pub struct App {
    /// The routes of `server.listen`.
    pub router: axum::Router,
    /// The routes of `server.metrics_listen`, when it is set.
    pub metrics_router: Option<axum::Router>,
    /// The store, to be closed last.
    pub store: Arc<dyn Store>,
}

impl App {
    /// Opens the store, prepares the issuers and builds the routes.
    ///
    /// # Errors
    /// The settings do not fit together, or the store cannot be opened.
    pub async fn build(config: Config, options: AppOptions, clock: Clock, lifecycle: Lifecycle) -> Result<Self, StartError> {
        let store = open_store(&config, options, clock, &lifecycle).await?;
        if config.auth.development {
            DevelopmentIssuer::load_or_create(&config.data_dir).map_err(|error| StartError::Failed(error.to_string()))?;
        }
        let router = axum::Router::new()
            .route("/health/ready", axum::routing::get(async || "{}"))
            .route("/workflows/{workflow_id}/executions/{execution_id}/state", axum::routing::put(async |body: String| body));
        let metrics_router = config.server.metrics_listen.map(|_| axum::Router::new());
        Ok(Self { router, metrics_router, store })
    }
}

/// Opens the configured store.
///
/// # Errors
/// It cannot be opened, in words for the operator.
pub async fn open_store(
    _config: &Config,
    _options: AppOptions,
    _clock: Clock,
    _lifecycle: &Lifecycle,
) -> Result<Arc<dyn Store>, StartError> {
    Ok(Arc::new(NoStore))
}

/// Migrates the configured store and says what was done.
///
/// # Errors
/// It cannot be migrated, in words for the operator.
pub async fn migrate(_config: &Config, _app_role: Option<&str>) -> Result<String, StartError> {
    Err(StartError::Failed("there is no store".to_owned()))
}

/// The API document.
#[must_use]
pub fn openapi_document(version: OpenApiVersion) -> String {
    let number = match version {
        OpenApiVersion::V3_1 => "3.1.0",
        OpenApiVersion::V3_0 => "3.0.3",
    };
    format!("{{\"openapi\":\"{number}\"}}")
}

struct NoStore;

fn absent<T>() -> store::Result<T> {
    Err(StoreError::Unavailable("there is no store".into()))
}

#[async_trait]
impl Store for NoStore {
    fn backend(&self) -> Backend {
        Backend::Sqlite
    }
    async fn ping(&self) -> store::Result<()> {
        Ok(())
    }
    async fn put_state(&self, _: &WriteContext, _: &StateKey, _: Expected, _: &StateDocument) -> store::Result<Outcome<StateRecord>> {
        absent()
    }
    async fn delete_state(&self, _: &WriteContext, _: &StateKey, _: Expected) -> store::Result<Outcome<Tombstone>> {
        absent()
    }
    async fn get_state(&self, _: &TenantId, _: &StateKey) -> store::Result<Lookup<StateRecord>> {
        absent()
    }
    async fn get_state_version(&self, _: &TenantId, _: &StateKey, _: Version) -> store::Result<Option<StateRecord>> {
        absent()
    }
    async fn state_history(&self, _: &TenantId, _: &StateKey, _: HistoryQuery) -> store::Result<Option<Page<HistoryItem>>> {
        absent()
    }
    async fn put_variable(
        &self,
        _: &WriteContext,
        _: &VariableKey,
        _: Expected,
        _: &VariableDocument,
    ) -> store::Result<Outcome<VariableRecord>> {
        absent()
    }
    async fn delete_variable(&self, _: &WriteContext, _: &VariableKey, _: Expected) -> store::Result<Outcome<Tombstone>> {
        absent()
    }
    async fn get_variable(&self, _: &TenantId, _: &VariableKey) -> store::Result<Lookup<VariableRecord>> {
        absent()
    }
    async fn list_variables(&self, _: &TenantId, _: &Scope, _: &VariableQuery) -> store::Result<Page<VariableRecord>> {
        absent()
    }
    async fn close(&self) {}
}
