//! Wires configuration, store, authenticator and router. The routes are a placeholder until they are merged.

use std::sync::Arc;

use crate::config::Config;
use crate::domain::clock::Clock;
use crate::http::auth::DevelopmentIssuer;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::store::migrate::MigrationReport;
use crate::store::postgres::{self, OpenError, OpenMode, PostgresStore};
use crate::store::sqlite::{FolderInUse, SqliteStore};

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
    /// Another process works on the embedded database.
    #[error("{0}")]
    InUse(String),
    /// Something else is.
    #[error("{0}")]
    Failed(String),
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Configuration(reason) => Self::Configuration(reason),
            error => Self::Failed(error.to_string()),
        }
    }
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

/// Opens the configured store. Its tasks end when it is closed, and not before: writes at work need them while the process stops.
///
/// # Errors
/// It cannot be opened, in words for the operator.
pub async fn open_store(config: &Config, options: AppOptions, clock: Clock, lifecycle: &Lifecycle) -> Result<Arc<dyn Store>, StartError> {
    if config.database.is_embedded() {
        let opened = SqliteStore::open(&config.data_dir, clock, &lifecycle.apart()).await;
        return opened.map(|store| Arc::new(store) as Arc<dyn Store>).map_err(|error| embedded_error(config, &error));
    }
    let mode = if options.development { OpenMode::Development } else { OpenMode::Serve };
    Ok(Arc::new(PostgresStore::open(&config.database, clock, mode).await?))
}

/// Migrates the configured store and says what was done.
///
/// # Errors
/// It cannot be migrated, in words for the operator.
pub async fn migrate(config: &Config, app_role: Option<&str>) -> Result<String, StartError> {
    if config.database.is_embedded() {
        let store = open_store(config, AppOptions { development: false }, Clock::new(), &Lifecycle::new()).await?;
        store.close().await;
        return Ok(format!("the embedded database in {} is up to date", config.data_dir.display()));
    }
    let MigrationReport { applied, granted_to } = postgres::migrate(&config.database, app_role).await?;
    let applied = match applied.as_slice() {
        [] => "no migration was pending".to_owned(),
        versions => format!("applied migrations: {}", versions.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")),
    };
    Ok(granted_to.map_or(applied.clone(), |role| format!("{applied}; the role {role} may use the tables")))
}

fn embedded_error(config: &Config, error: &(dyn std::error::Error + 'static)) -> StartError {
    let mut text = format!("the embedded database in {} cannot be opened", config.data_dir.display());
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<FolderInUse>() {
            return StartError::InUse(error.to_string());
        }
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    StartError::Failed(text)
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
