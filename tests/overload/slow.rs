//! A server whose database can be made slow, or be held.

use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::Duration;

use nworkflow_state::config::DatabaseConfig;
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::NoObserver;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::postgres::{OpenMode, PostgresStore};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::api::app::{Options, TestApp, no_local_tier};
use crate::support::postgres::{APP, TestDatabase, config_of, server};
use crate::support::tcp_proxy::{Direction, Mode, TcpProxy};

pub(super) struct Slow {
    pub(super) app: TestApp,
    proxy: TcpProxy,
    pub(super) database: TestDatabase,
}

impl Slow {
    /// A server with these settings, and whose store has these.
    pub(super) async fn start(settings: &[(&str, &str)], change: impl FnOnce(&mut DatabaseConfig)) -> Self {
        let database = TestDatabase::migrated().await;
        let address = (server().get_host(), server().get_port()).to_socket_addrs().unwrap().next().unwrap();
        let proxy = TcpProxy::start(address).await;
        let mut config = config_of(format!("postgres://{APP}@{}/{}", proxy.address(), database.name()));
        change(&mut config);
        let store = PostgresStore::open(&config, Clock::new(), OpenMode::Serve, &Lifecycle::new(), Arc::new(NoObserver)).await.unwrap();
        let options = settings.iter().fold(Options::default(), |options, (key, value)| options.set(key, value));
        let local = no_local_tier(&options.config(), Clock::new());
        let app = TestApp::over(Arc::new(store), local, options, tempfile::tempdir().unwrap(), Clock::new(), Lifecycle::new()).await;
        Self { app, proxy, database }
    }

    /// From now on whatever is sent to the database arrives so much later.
    pub(super) fn delay(&self, by: Duration) {
        let mode = if by.is_zero() { Mode::Pass } else { Mode::Delay(by, Duration::ZERO) };
        self.proxy.set(Direction::ToServer, mode);
    }

    /// Nobody reads or writes the server's tables until the answer is dropped.
    pub(super) async fn hold(&self) -> PgConnection {
        let mut holder = self.database.superuser().await;
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace")
                .fetch_all(&mut holder)
                .await
                .unwrap();
        holder.execute("BEGIN").await.unwrap();
        for table in tables {
            holder.execute(sqlx::raw_sql(AssertSqlSafe(format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")))).await.unwrap();
        }
        holder
    }

    pub(super) async fn release(holder: PgConnection) {
        holder.close().await.unwrap();
    }

    /// Statements of the server that the database works on, or that wait in it.
    pub(super) async fn statements(&self) -> Vec<String> {
        let mut watcher = self.database.superuser().await;
        sqlx::query_scalar("SELECT query FROM pg_stat_activity WHERE datname = current_database() AND usename = $1 AND state = 'active'")
            .bind(APP)
            .fetch_all(&mut watcher)
            .await
            .unwrap()
    }
}
