//! The one place where the suite knows backends: how each opens a store, and how its tables are counted behind its back.

use std::sync::Arc;

use async_trait::async_trait;
use nworkflow_state::config::{self, Source};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::CommitObserver;
use nworkflow_state::domain::id::TenantId;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::postgres::{OpenMode, PostgresStore};
use nworkflow_state::store::sqlite::{DATABASE_FILE, SqliteStore};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Row as _};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::bench::{Bench, Inspector, LogRow};
use super::recorded::{Calls, Recorded};
use super::watcher::Watcher;
use crate::support::postgres::TestDatabase;

/// A backend that the suite runs on.
#[derive(Clone, Copy)]
pub(super) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// A store with a clock of its own. Cases may share its database, because each takes tenants that no other has, but never the store:
    /// cases move the clock and close it.
    pub(super) async fn bench(self, calls: &Arc<Calls>) -> Bench {
        let clock = Clock::new();
        let watcher = Arc::new(Watcher::default());
        match self {
            Self::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let config = config::load(&Source::default()).unwrap().embedded;
                let observer = Arc::clone(&watcher) as Arc<dyn CommitObserver>;
                let store = SqliteStore::open(folder.path(), &config, clock.clone(), &Lifecycle::new(), observer).await.unwrap();
                Bench::new(Arc::new(Recorded::new(store, calls)), clock, watcher, Box::new(SqliteFile(folder)))
            }
            Self::Postgres => {
                let database = POSTGRES.get_or_init(TestDatabase::migrated).await;
                let observer = Arc::clone(&watcher) as Arc<dyn CommitObserver>;
                let store =
                    PostgresStore::open(&database.config(), clock.clone(), OpenMode::Serve, &Lifecycle::new(), observer).await.unwrap();
                Bench::new(Arc::new(Recorded::new(store, calls)), clock, watcher, Box::new(PostgresTables(database)))
            }
        }
    }
}

/// The database that all cases share; it goes with the cluster.
static POSTGRES: OnceCell<TestDatabase> = OnceCell::const_new();

/// Looks into the tables as superuser, past row level security.
struct PostgresTables(&'static TestDatabase);

#[async_trait]
impl Inspector for PostgresTables {
    async fn log(&self, tenant: &TenantId) -> Vec<LogRow> {
        // seq is drawn under the row's lock; a transaction's id may be older than its wait for that lock.
        let sql = "SELECT kind, op, version, k1, k2, coalesce(k3, ''), actor, (extract(epoch FROM at) * 1000000)::int8 FROM change_log
                   WHERE tenant_id = $1 ORDER BY seq";
        let rows = sqlx::query(sql).bind(tenant.as_str()).fetch_all(&mut self.0.superuser().await).await.unwrap();
        rows.iter()
            .map(|row| LogRow {
                kind: row.get(0),
                operation: row.get(1),
                version: row.get(2),
                keys: [row.get(3), row.get(4), row.get(5)],
                actor: row.get(6),
                at: row.get(7),
            })
            .collect()
    }

    async fn idempotency_rows(&self, tenant: &TenantId) -> i64 {
        let sql = "SELECT count(*) FROM idempotency WHERE tenant_id = $1";
        sqlx::query_scalar(sql).bind(tenant.as_str()).fetch_one(&mut self.0.superuser().await).await.unwrap()
    }

    async fn count(&self, tenant: &TenantId, rows: &'static str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {rows} AND tenant_id = $1"));
        sqlx::query_scalar(sql).bind(tenant.as_str()).fetch_one(&mut self.0.superuser().await).await.unwrap()
    }

    async fn execute(&self, sql: &'static str, tenant: &TenantId) {
        sqlx::query(sql).bind(tenant.as_str()).execute(&mut self.0.superuser().await).await.unwrap();
    }

    async fn raise_version_floor(&self, tenant: &TenantId, floor: i64) {
        let sql = "UPDATE tenant SET version_floor = $2 WHERE tenant_id = $1";
        let done = sqlx::query(sql).bind(tenant.as_str()).bind(floor).execute(&mut self.0.superuser().await).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "the tenant has its row");
    }
}

/// Looks into the file beside the store.
struct SqliteFile(TempDir);

impl SqliteFile {
    async fn connect(&self) -> sqlx::SqliteConnection {
        SqliteConnectOptions::new().filename(self.0.path().join(DATABASE_FILE)).connect().await.unwrap()
    }
}

#[async_trait]
impl Inspector for SqliteFile {
    async fn log(&self, tenant: &TenantId) -> Vec<LogRow> {
        let sql = "SELECT kind, op, version, k1, k2, coalesce(k3, ''), actor, at FROM change_log WHERE tenant_id = ?1 ORDER BY seq";
        let rows = sqlx::query(sql).bind(tenant.as_str()).fetch_all(&mut self.connect().await).await.unwrap();
        rows.iter()
            .map(|row| LogRow {
                kind: row.get(0),
                operation: row.get(1),
                version: row.get(2),
                keys: [row.get(3), row.get(4), row.get(5)],
                actor: row.get(6),
                at: row.get(7),
            })
            .collect()
    }

    async fn idempotency_rows(&self, tenant: &TenantId) -> i64 {
        let sql = "SELECT count(*) FROM idempotency WHERE tenant_id = ?1";
        sqlx::query_scalar(sql).bind(tenant.as_str()).fetch_one(&mut self.connect().await).await.unwrap()
    }

    async fn count(&self, tenant: &TenantId, rows: &'static str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {rows} AND tenant_id = ?1"));
        sqlx::query_scalar(sql).bind(tenant.as_str()).fetch_one(&mut self.connect().await).await.unwrap()
    }

    async fn execute(&self, sql: &'static str, tenant: &TenantId) {
        sqlx::query(sql).bind(tenant.as_str()).execute(&mut self.connect().await).await.unwrap();
    }

    async fn raise_version_floor(&self, tenant: &TenantId, floor: i64) {
        let sql = "UPDATE tenant SET version_floor = ?2 WHERE tenant_id = ?1";
        let done = sqlx::query(sql).bind(tenant.as_str()).bind(floor).execute(&mut self.connect().await).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "the tenant has its row");
    }
}
