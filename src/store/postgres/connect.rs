//! Connections: where to, and with which settings.

use std::str::FromStr as _;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, SqlSafeStr as _};

use super::error::{OpenError, said};
use super::pool::Pool;
use super::transaction::quote_identifier;
use super::vitals;
use crate::config::{DatabaseConfig, Milliseconds, Secret};
use crate::domain::store_life::StoreLife;

/// What the server's connections are called in `pg_stat_activity`.
const APPLICATION_NAME: &str = "nworkflow-state";
/// Longest wait for the first connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The first version with `client_connection_check_interval`.
const CONNECTION_CHECK_VERSION: u32 = 140_000;

/// The login of the server's queries.
pub(super) fn login(config: &DatabaseConfig) -> Result<PgConnectOptions, OpenError> {
    if !config.url.is_empty() {
        return parse("database.url", &config.url);
    }
    let options = PgConnectOptions::new_without_pgpass()
        .host(&config.host)
        .port(config.port)
        .database(&config.database)
        .username(&config.username)
        .password(config.password.expose());
    Ok(finish(options))
}

/// The login that owns the tables, when there is one apart.
pub(super) fn owner(config: &DatabaseConfig) -> Result<Option<PgConnectOptions>, OpenError> {
    if config.migrate_url.is_empty() { Ok(None) } else { parse("database.migrate_url", &config.migrate_url).map(Some) }
}

/// Whether the logins of these settings can be read. Connects to nothing.
///
/// # Errors
/// [`OpenError::Configuration`]: one of them cannot.
pub fn check_settings(config: &DatabaseConfig) -> Result<(), OpenError> {
    if !config.is_embedded() {
        login(config)?;
        owner(config)?;
    }
    Ok(())
}

/// The parameters of a URL that the driver reads, beside `options[NAME]`.
pub(super) const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Parameters of the URLs of these settings that nothing reads: the setting's name and the parameter's.
pub(super) fn unread_parameters(config: &DatabaseConfig) -> Vec<(&'static str, String)> {
    let read = |name: &str| PARAMETERS.contains(&name) || name.starts_with("options[");
    let mut found = Vec::new();
    for (setting, url) in [("database.url", &config.url), ("database.migrate_url", &config.migrate_url)] {
        let query = url.expose().split_once('?').map_or("", |(_, query)| query);
        let query = query.split_once('#').map_or(query, |(query, _)| query);
        let names = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split('=').next().unwrap_or_default());
        let names = names.map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned());
        found.extend(names.filter(|name| !read(name)).map(|name| (setting, name)));
    }
    found
}

fn parse(name: &str, url: &Secret) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url.expose()).map_err(|error| {
        OpenError::Configuration(format!("{name} is not a URL like postgres://user:password@host:5432/database: {}.", said(&error)))
    })?;
    Ok(finish(options))
}

fn finish(options: PgConnectOptions) -> PgConnectOptions {
    // A statement's text says nothing without its parameters, and those are users' data.
    options.application_name(APPLICATION_NAME).disable_statement_logging()
}

/// Where a login leads, for messages.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

/// One connection, outside any pool.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, OpenError> {
    let connecting = tokio::time::timeout(CONNECT_LIMIT, options.connect()).await;
    let silent = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {} seconds", CONNECT_LIMIT.as_secs()));
    connecting.unwrap_or_else(|_| Err(silent().into())).map_err(|error| OpenError::no_connection(place(options), &error))
}

/// The settings of a connection of the pool.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    statements: String,
}

impl Settings {
    /// Those of connections that serve requests. Statements are few and fixed, so one plan for each: planning anew costs a short write more
    /// than it can gain.
    pub(super) fn new(config: &DatabaseConfig, role: Option<&str>) -> Self {
        let times = [config.statement_timeout_ms, config.lock_timeout_ms, config.idle_in_transaction_timeout_ms];
        Self::of(role, times, "force_generic_plan")
    }

    /// Those of the sweeper's connections. How many rows are due, from none to nearly all, decides on the plan, so it is made anew. One of
    /// them idles in its transaction while the other one works.
    pub(super) fn of_sweeper(config: &DatabaseConfig, role: Option<&str>, idle: Duration) -> Self {
        let idle = Milliseconds(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        Self::of(role, [config.sweep_timeout_ms, config.lock_timeout_ms, idle], "force_custom_plan")
    }

    fn of(role: Option<&str>, [statement, lock, idle]: [Milliseconds; 3], plans: &str) -> Self {
        let role = role.map(|role| format!("SET ROLE {}; ", quote_identifier(role))).unwrap_or_default();
        // Each statement reads by a key's beginning; a plan that was made while a table was small must not read it from one end to the other
        // when it has grown. Nothing here is worth compiling.
        let statements = format!(
            "{role}SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; SET jit = off; \
             SET plan_cache_mode = {plans}; SET enable_seqscan = off",
            statement.0, lock.0, idle.0
        );
        Self { statements }
    }

    pub(super) async fn apply(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.statements.as_str()).into_sql_str())).await?;
        // Lets the server notice that the client of a running statement is gone. Not every operating system can.
        if connection.server_version_num().is_some_and(|version| version >= CONNECTION_CHECK_VERSION)
            && let Err(error) = connection.execute("SET client_connection_check_interval = 1000").await
        {
            tracing::debug!(%error, "client_connection_check_interval is not supported");
        }
        Ok(())
    }
}

/// A pool of at most so many connections. It connects when it is used.
/// Each tells `life` what it is connected to, before it is used.
pub(super) fn pool(config: &DatabaseConfig, size: u32, options: PgConnectOptions, settings: Settings, life: Option<StoreLife>) -> Pool {
    let of_pool = life.clone();
    let connections = PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(config.acquire_timeout_ms.into())
        // BEGIN is the test: see Transaction::begin.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let (settings, life) = (settings.clone(), life.clone());
            Box::pin(async move {
                settings.apply(connection).await?;
                if let Some(life) = life
                    && let Err(error) = vitals::look(connection, &life).await
                {
                    // A server that does not tell its identity can be used; a second cache tier cannot be used with it.
                    tracing::debug!(%error, "the database does not tell its identity");
                }
                Ok(())
            })
        })
        .connect_lazy_with(options);
    Pool::new(connections, config.pool_queue, config.pool_wait_ms.into(), of_pool)
}
