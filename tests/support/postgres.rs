//! Databases for tests, in the cluster that `scripts/with-postgres` starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nworkflow_state::config::{self, DatabaseConfig, Milliseconds, Secret};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::NoObserver;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::postgres::{OpenError, OpenMode, PostgresStore, migrate};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tokio::sync::OnceCell;

/// Where the cluster is, for a superuser.
const URL: &str = "NWORKFLOW_TEST_POSTGRES_URL";
/// Owns the databases and the tables.
pub(crate) const OWNER: &str = "test_owner";
/// Serves; owns nothing.
pub(crate) const APP: &str = "test_app";

/// Made once in a run, migrated and granted; the databases of the tests are copies of it.
static TEMPLATE: OnceCell<String> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A database of one test. Dropped at the end.
pub(crate) struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// A migrated one, in which [`APP`] has its rights.
    pub(crate) async fn migrated() -> Self {
        let template = TEMPLATE.get_or_init(make_template).await;
        Self::create(&format!("TEMPLATE {template}")).await
    }

    /// One without tables.
    pub(crate) async fn empty() -> Self {
        make_roles().await;
        Self::create("").await
    }

    async fn create(options: &str) -> Self {
        let name = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        execute(&mut superuser("postgres").await, format!("CREATE DATABASE {name} OWNER {OWNER} {options}")).await;
        Self { name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The URL of a role in this database. The cluster trusts everybody.
    pub(crate) fn url(&self, role: &str) -> String {
        let server = server();
        format!("postgres://{role}@{}:{}/{}", server.get_host(), server.get_port(), self.name)
    }

    /// The settings of a server of [`APP`].
    pub(crate) fn config(&self) -> DatabaseConfig {
        config_of(self.url(APP))
    }

    /// A store of [`APP`].
    pub(crate) async fn store(&self, clock: Clock) -> PostgresStore {
        open(&self.config(), clock).await.unwrap()
    }

    /// Why a server with these settings does not start.
    pub(crate) async fn refusal(&self, config: &DatabaseConfig, mode: OpenMode) -> OpenError {
        match PostgresStore::open(config, Clock::new(), mode, &Lifecycle::new(), Arc::new(NoObserver)).await {
            Err(error) => error,
            Ok(_) => panic!("the store opened"),
        }
    }

    /// A connection that sees and may do everything.
    pub(crate) async fn superuser(&self) -> PgConnection {
        superuser(&self.name).await
    }

    /// Runs a statement as superuser.
    pub(crate) async fn execute(&self, statement: impl Into<String>) {
        execute(&mut self.superuser().await, statement.into()).await;
    }

    /// Makes a role of its own for this test, with these options, and the rights of [`APP`].
    pub(crate) async fn role(&self, options: &str) -> String {
        let role = format!("{}_role", self.name);
        self.execute(format!("CREATE ROLE {role} {options}; GRANT {APP} TO {role}")).await;
        role
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A runtime of its own: this one may be ending, and cannot be waited for here.
        let dropping = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { execute(&mut superuser("postgres").await, statement).await });
        });
        if dropping.join().is_err() {
            eprintln_once();
        }
    }
}

#[expect(clippy::print_stderr, reason = "a destructor must not fail the test a second time")]
fn eprintln_once() {
    eprintln!("a test database could not be dropped");
}

/// A server with these settings, whose writes nobody hears of.
pub(crate) async fn open(config: &DatabaseConfig, clock: Clock) -> Result<PostgresStore, OpenError> {
    PostgresStore::open(config, clock, OpenMode::Serve, &Lifecycle::new(), Arc::new(NoObserver)).await
}

/// The default settings with this URL.
pub(crate) fn config_of(url: String) -> DatabaseConfig {
    let mut config = config::load(&config::Source::default()).unwrap().database;
    config.url = Secret::from(url);
    // Many tests share few cores: what is tested is not how soon a connection is there, or the end of another write.
    config.acquire_timeout_ms = Milliseconds(20_000);
    config.pool_wait_ms = Milliseconds(20_000);
    config.lock_timeout_ms = Milliseconds(20_000);
    config.queue_timeout_ms = Milliseconds(20_000);
    config.pool_queue = 10_000;
    config
}

/// The cluster, for a superuser.
pub(crate) fn server() -> PgConnectOptions {
    let url = std::env::var(URL).unwrap_or_else(|_| panic!("{URL} is not set: run `make test`, or `scripts/with-postgres cargo test`"));
    url.parse().unwrap()
}

async fn superuser(database: &str) -> PgConnection {
    server().database(database).connect().await.unwrap()
}

async fn execute(connection: &mut PgConnection, statement: String) {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.clone()))).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

async fn make_template() -> String {
    make_roles().await;
    let database = TestDatabase { name: format!("test_template_{}", std::process::id()) };
    let name = database.name.clone();
    let mut connection = superuser("postgres").await;
    execute(&mut connection, format!("DROP DATABASE IF EXISTS {name}")).await;
    execute(&mut connection, format!("CREATE DATABASE {name} OWNER {OWNER}")).await;
    connection.close().await.unwrap();
    let config = DatabaseConfig { migrate_url: Secret::from(database.url(OWNER)), ..database.config() };
    let report = migrate(&config, None).await.unwrap();
    assert_eq!(report.granted_to.as_deref(), Some(APP));
    // It goes with the cluster.
    std::mem::forget(database);
    name
}

/// The roles belong to the cluster, and tests begin at once: one at a time makes them.
async fn make_roles() {
    let statement = format!(
        "SELECT pg_advisory_lock(1);
         DO $$ BEGIN
           IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP}') THEN
             CREATE ROLE {OWNER} LOGIN; CREATE ROLE {APP} LOGIN;
           END IF;
         END $$"
    );
    execute(&mut superuser("postgres").await, statement).await;
}
