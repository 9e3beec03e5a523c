//! Puts the server together: settings, store, identity, services, routes. The one place that knows all rooms.

use std::sync::Arc;

use axum::Router;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::domain::clock::Clock;
use crate::http::auth::{AuthConfigError, Authenticator, DevelopmentIssuer};
use crate::http::{self, AppState, Shared};
use crate::lifecycle::Lifecycle;
use crate::service::{Memory, Services};
use crate::store::postgres::{OpenError, OpenMode, PostgresStore};
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// A server that is ready to be served.
pub struct App {
    /// The API.
    pub router: Router,
    /// The metrics, when they have a port of their own.
    pub metrics_router: Option<Router>,
    /// The store, to be closed last.
    pub store: Arc<dyn Store>,
    /// Verifies tokens.
    pub authenticator: Arc<Authenticator>,
}

/// How a server starts, beside its settings.
#[derive(Debug, Default)]
pub struct AppOptions {
    /// The issuer that is believed alone, for `dev`.
    pub development: Option<DevelopmentIssuer>,
}

/// Why a server does not start, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The embedded store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// PostgreSQL cannot be opened.
    #[error(transparent)]
    Postgres(#[from] OpenError),
    /// The issuers are not configured as they must be.
    #[error(transparent)]
    Auth(#[from] AuthConfigError),
    /// The API document cannot be written.
    #[error("the API document cannot be written: {0}")]
    Document(#[from] serde_json::Error),
}

impl App {
    /// Opens the store and puts everything together. Nothing listens yet.
    ///
    /// # Errors
    /// What keeps the server from starting.
    pub async fn build(config: Config, options: AppOptions, clock: Clock, lifecycle: &Lifecycle) -> Result<Self, StartError> {
        let mode = if options.development.is_some() { OpenMode::Development } else { OpenMode::Serve };
        // Identity first: a wrong setting there must not leave a migrated database behind.
        let authenticator = Arc::new(Authenticator::new(&config.auth, options.development, clock.clone(), lifecycle)?);
        let store: Arc<dyn Store> = if config.database.is_embedded() {
            Arc::new(SqliteStore::open(&config.data_dir, clock.clone(), lifecycle).await?)
        } else {
            Arc::new(PostgresStore::open(&config.database, clock.clone(), mode).await?)
        };
        Self::with_store(config, store, authenticator, clock, lifecycle)
    }

    /// Puts everything together over a store that is open. For tests that wrap a store.
    ///
    /// # Errors
    /// The API document cannot be written.
    pub fn with_store(
        config: Config,
        store: Arc<dyn Store>,
        authenticator: Arc<Authenticator>,
        clock: Clock,
        lifecycle: &Lifecycle,
    ) -> Result<Self, StartError> {
        let own_port = config.server.metrics_listen.is_some();
        let surface = http::surface(!own_port)?;
        let memory = Memory::new(Arc::clone(&store), lifecycle.clone(), config.limits.idempotency_wait_ms.into());
        let state = AppState::new(Shared {
            services: Services::new(memory),
            authenticator: Arc::clone(&authenticator),
            metrics: Arc::new(Metrics::new()),
            places: Arc::new(Semaphore::new(config.server.max_in_flight)),
            documents: surface.documents,
            clock,
            config,
        });
        let metrics_router = own_port.then(|| http::metrics_router(state.clone()));
        Ok(Self { router: http::router(surface.router, state), metrics_router, store, authenticator })
    }
}
