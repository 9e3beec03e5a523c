//! Opening the store: making the database ready, testing it, and building the pool.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::epoch::Epoch;
use super::error::OpenError;
use super::gate::Gate;
use super::grants;
use super::group::{GroupLimits, Groups};
use super::observer::Observer;
use super::sweep::{self, Sweeper};
use super::transaction;
use super::work::Runner;
use super::{PostgresStore, connect, migrate, self_test};
use crate::config::DatabaseConfig;
use crate::domain::clock::Clock;
use crate::domain::commit::CommitObserver;
use crate::domain::store_life::StoreLife;
use crate::lifecycle::Lifecycle;
use crate::store::migrate::MigrationReport;

/// How far the start may go to make the database ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// With `database.migrate_url` it migrates and grants; without, pending migrations are an error that says what to run.
    Serve,
    /// With a `database.url` alone whose login may create roles, it migrates as that login, makes the role `nworkflow_app`, and assumes
    /// that on every connection: one URL is enough to try the server. Otherwise as [`OpenMode::Serve`].
    Development,
}

impl PostgresStore {
    /// Makes the database ready as far as `mode` allows, tests that the server's role cannot bypass row level security and that commits
    /// are durable, and opens the pool. Its lanes run as tasks of `lifecycle` until [`Store::close`](crate::store::Store::close), or until
    /// the store is dropped. `observer` hears of every write.
    ///
    /// # Errors
    /// The database cannot be reached, is not migrated, or fails the test. Each is a sentence for the operator.
    pub async fn open(
        config: &DatabaseConfig,
        clock: Clock,
        mode: OpenMode,
        lifecycle: &Lifecycle,
        observer: Arc<dyn CommitObserver>,
    ) -> Result<Self, OpenError> {
        Self::open_watched(config, clock.clone(), mode, lifecycle, observer, StoreLife::database(clock)).await
    }

    /// As [`PostgresStore::open`]; `life` hears of the database's clock and of its lives.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn open_watched(
        config: &DatabaseConfig,
        clock: Clock,
        mode: OpenMode,
        lifecycle: &Lifecycle,
        observer: Arc<dyn CommitObserver>,
        life: StoreLife,
    ) -> Result<Self, OpenError> {
        let role = prepare(config, mode).await?;
        let login = connect::login(config)?;
        let settings = connect::Settings::new(config, role.as_deref());
        // Not one of the pool's, which would hide why a setting is refused behind its time limit; but made in the same way.
        let mut first = connect::connect(&login).await?;
        settings.apply(&mut first).await.map_err(OpenError::during("SET ROLE, or another setting of a connection,"))?;
        let epoch = inspect(&mut first).await?;
        first.close().await.map_err(OpenError::during("the end of the self test"))?;
        let budget = Duration::from(config.sweep_timeout_ms);
        let sweeping = connect::Settings::of_sweeper(config, role.as_deref(), budget * 2 + transaction::GRACE);
        let sweeper = Sweeper::new(connect::pool(config, sweep::CONNECTIONS, login.clone(), sweeping, None), budget);
        let health = connect::pool(config, 1, login.clone(), settings.clone(), Some(life.clone()));
        let pool = connect::pool(config, config.pool_size, login, settings, Some(life.clone()));
        let runner = Arc::new(Runner::new(pool, clock, life.clone(), config.statement_timeout_ms.into(), epoch, Observer::new(observer)));
        let groups = Groups::start(&runner, GroupLimits::of(config), lifecycle);
        Ok(Self { runner, health, life, gate: Gate::new(config.queue_timeout_ms.into()), groups, sweeper })
    }
}

/// Migrates and grants as far as the mode allows. Answers the role that connections assume.
async fn prepare(config: &DatabaseConfig, mode: OpenMode) -> Result<Option<String>, OpenError> {
    let role = (!config.role.is_empty()).then(|| config.role.clone());
    if !config.migrate_url.is_empty() {
        report(&migrate::migrate(config, None).await?);
    } else if mode == OpenMode::Development && role.is_none() && may_create_roles(config).await? {
        let login = connect::login(config)?;
        report(&migrate::migrate_as(&login, Some(migrate::DEVELOPMENT_ROLE), true).await?);
        return Ok(Some(migrate::DEVELOPMENT_ROLE.to_owned()));
    }
    Ok(role)
}

fn report(report: &MigrationReport) {
    if !report.applied.is_empty() {
        tracing::info!(versions = ?report.applied, "the database was migrated");
    }
}

async fn may_create_roles(config: &DatabaseConfig) -> Result<bool, OpenError> {
    let mut connection = connect::connect(&connect::login(config)?).await?;
    sqlx::query_scalar("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
        .fetch_one(&mut connection)
        .await
        .map_err(OpenError::during("the look at the login's rights"))
}

/// Refuses a database that is not migrated or not safe.
async fn inspect(connection: &mut PgConnection) -> Result<Option<Epoch>, OpenError> {
    // The role first: whoever may not serve at all is not told to have rights granted.
    let role = self_test::test_role(connection).await?;
    migrate::check(connection, &role).await?;
    self_test::test_tables(connection, &role).await?;
    grants::check(connection, &role).await?;
    let epoch = Epoch::read(connection).await;
    if let Err(error) = &epoch {
        tracing::warn!(%error, "the server does not tell its identity: after a COMMIT whose answer is lost, its outcome cannot be looked up");
    }
    Ok(epoch.ok())
}
