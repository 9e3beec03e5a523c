//! Puts the server together: settings, store, identity, services, routes. The one place that knows all rooms.

mod caches;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::config::Config;
use crate::domain::clock::Clock;
use crate::domain::commit::{CommitObserver, NoObserver};
use crate::domain::store_life::StoreLife;
use crate::http::auth::{AuthConfigError, Authenticator, DevelopmentIssuer, DevelopmentKeyError};
use crate::http::server::Site;
use crate::http::{self, AppState, Shared, Shares};
use crate::jobs::{sweep, watch};
use crate::lifecycle::Lifecycle;
use crate::service::collector::Levels;
use crate::service::{Memory, MemorySettings, Services};
use crate::store::migrate::MigrationReport;
use crate::store::postgres::{self, OpenError, OpenMode, PostgresStore, Presence};
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

pub use caches::Caches;

/// A server that is ready to be served.
pub struct App {
    /// The API: the routes of `server.listen`.
    pub router: Site,
    /// The metrics: the routes of `server.metrics_listen`, when it is set.
    pub metrics_router: Option<Site>,
    /// The store, to be closed last.
    pub store: Arc<dyn Store>,
    /// The use cases, for jobs.
    pub services: Services,
    /// The caches, to be finished after the last write and before the store is closed.
    pub caches: Caches,
}

/// How a server starts, beside its settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct AppOptions {
    /// For trying the server: the development issuer is believed, alone, and a PostgreSQL login that may do so prepares its own role.
    pub development: bool,
}

/// Why a server does not start: one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The embedded store cannot be opened.
    #[error("{}", with_causes(.0))]
    Store(#[from] StoreError),
    /// The settings of the second cache tier cannot be used.
    #[error("{0}")]
    SecondTier(String),
    /// PostgreSQL cannot be opened.
    #[error("{}", with_causes(.0))]
    Postgres(#[from] OpenError),
    /// The settings of identity cannot work.
    #[error(transparent)]
    Auth(#[from] AuthConfigError),
    /// The development key cannot be used.
    #[error(transparent)]
    DevelopmentKey(#[from] DevelopmentKeyError),
    /// The API document cannot be written.
    #[error("the API document cannot be written: {0}")]
    Document(#[from] serde_json::Error),
}

impl StartError {
    /// Whether the settings are to blame, and not their surroundings.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Auth(_) | Self::SecondTier(_) | Self::Postgres(OpenError::Configuration(_)))
    }

    /// What to do about it, where the text does not say so itself.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Postgres(error) => error.advice(),
            _ => None,
        }
    }
}

/// An error with the causes that its own text does not hold already.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = source.source();
    }
    text
}

impl App {
    /// Opens the store and puts everything together. Nothing listens yet.
    ///
    /// # Errors
    /// What keeps the server from starting.
    pub async fn build(config: Config, options: AppOptions, clock: Clock, lifecycle: Lifecycle) -> Result<Self, StartError> {
        let development = if options.development { Some(DevelopmentIssuer::load_or_create(&config.data_dir)?) } else { None };
        // Identity first: a wrong setting there must not leave a migrated database behind.
        let authenticator = Arc::new(Authenticator::new(&config.auth, development, clock.clone(), &lifecycle)?);
        let caches = Caches::new(&config, clock.clone(), &lifecycle).map_err(StartError::SecondTier)?;
        let store = open_store(&config, options, clock.clone(), &lifecycle, caches.observer(), caches.life.clone()).await?;
        let (jobs, is_embedded, alone) = (config.jobs.clone(), config.database.is_embedded(), config.cache.single_server);
        let presence = if is_embedded { None } else { Some(Presence::take(&config.database, alone).await?) };
        let app = Self::with_store(config, store, caches.clone(), authenticator, clock, &lifecycle)?;
        if !is_embedded {
            lifecycle.supervise("watch", watch::run(app.services.health.clone(), lifecycle.clone()));
        }
        if let Some(presence) = presence {
            caches.keep_place(presence, alone, &lifecycle);
        }
        caches.start(&lifecycle);
        if jobs.sweep {
            lifecycle.supervise("sweeper", sweep::run(app.services.housekeeping.clone(), jobs, lifecycle.clone()));
        }
        Ok(app)
    }

    /// Puts everything together over a store that is open and tells `caches` of its commits. For tests that wrap a store.
    ///
    /// # Errors
    /// The API document cannot be written.
    pub fn with_store(
        config: Config,
        store: Arc<dyn Store>,
        caches: Caches,
        authenticator: Arc<Authenticator>,
        clock: Clock,
        lifecycle: &Lifecycle,
    ) -> Result<Self, StartError> {
        let own_port = config.server.metrics_listen.is_some();
        let surface = http::surface(!own_port)?;
        // The embedded store has one writer and one cache, in one process: there is nothing to disagree with.
        let settings = MemorySettings {
            idempotency_wait: config.limits.idempotency_wait_ms.into(),
            sample_every: if config.database.is_embedded() { 0 } else { config.cache.sample_every },
            serve_cached_when_db_down: config.cache.serve_cached_when_db_down,
        };
        let memory = Memory::new(Arc::clone(&store), caches.tiers.clone(), lifecycle.clone(), caches.life.clone(), settings);
        let services = Services::new(&memory, http::renderers());
        let mut metrics = Metrics::new();
        metrics.registry_mut().register_collector(Box::new(Levels::new(services.operations.clone())));
        let state = AppState::new(Shared {
            lifecycle: lifecycle.clone(),
            services: services.clone(),
            authenticator,
            metrics: Arc::new(metrics),
            places: Arc::new(Semaphore::new(config.server.max_in_flight)),
            shares: Shares::new(&config.server),
            patches: surface.patches(),
            documents: surface.documents,
            clock,
            config,
        });
        let metrics_router = own_port.then(|| http::metrics_router(state.clone()));
        Ok(Self { router: http::router(surface.router, state), metrics_router, store, services, caches })
    }
}

/// Opens the configured store: PostgreSQL, or the embedded one when none is configured. Its tasks end when it is closed and not before,
/// because writes at work need them while the process stops; so they are apart from those that the shutdown waits for first.
///
/// # Errors
/// It cannot be opened.
pub async fn open_store(
    config: &Config,
    options: AppOptions,
    clock: Clock,
    lifecycle: &Lifecycle,
    observer: Arc<dyn CommitObserver>,
    life: StoreLife,
) -> Result<Arc<dyn Store>, StartError> {
    if config.database.is_embedded() {
        return Ok(Arc::new(SqliteStore::open(&config.data_dir, &config.embedded, clock, &lifecycle.apart(), observer).await?));
    }
    let mode = if options.development { OpenMode::Development } else { OpenMode::Serve };
    Ok(Arc::new(PostgresStore::open_watched(&config.database, clock, mode, &lifecycle.apart(), observer, life).await?))
}

/// Migrates the configured store, grants to the server's role, and says what was done.
///
/// # Errors
/// It cannot be migrated.
pub async fn migrate(config: &Config, app_role: Option<&str>) -> Result<String, StartError> {
    if config.database.is_embedded() {
        let lifecycle = Lifecycle::new();
        SqliteStore::open(&config.data_dir, &config.embedded, Clock::new(), &lifecycle, Arc::new(NoObserver)).await?.close().await;
        return Ok("The embedded database is up to date; it migrates whenever it is opened.".to_owned());
    }
    Ok(describe(&postgres::migrate(&config.database, app_role).await?))
}

fn describe(report: &MigrationReport) -> String {
    let applied = match report.applied.len() {
        0 => "Nothing was pending".to_owned(),
        1 => "Applied 1 migration".to_owned(),
        more => format!("Applied {more} migrations"),
    };
    match &report.granted_to {
        Some(role) => format!("{applied}; granted what the server needs to the role {role}."),
        None => format!("{applied}."),
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

/// The API document, made from the routes without a database.
///
/// # Errors
/// It does not serialise.
pub fn openapi_document(version: OpenApiVersion) -> Result<String, StartError> {
    let documents = http::surface(false)?.documents;
    let text = match version {
        OpenApiVersion::V3_1 => documents.openapi_31,
        OpenApiVersion::V3_0 => documents.openapi_30,
    };
    Ok(String::from_utf8_lossy(&text).into_owned())
}
