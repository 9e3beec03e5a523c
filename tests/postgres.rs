//! PostgreSQL alone: who may not serve, row level security, migrations, and a database that goes away.

use std::future::Future;
use std::net::ToSocketAddrs as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use nworkflow_state::app::StartError;
use nworkflow_state::config::{DatabaseConfig, Milliseconds, Secret};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::NoObserver;
use nworkflow_state::domain::id::{ExecutionId, TenantId, UserId, VariableName, WorkflowId};
use nworkflow_state::domain::state::{Operation, StateDocument, StateKey};
use nworkflow_state::domain::variable::{Expiry, Number, Scope, VariableDocument, VariableKey};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::postgres::{OpenError, OpenMode, PostgresStore, migrate};
use nworkflow_state::store::{HistoryQuery, Idempotency, Lookup, Outcome, Store, StoreError, VariableQuery, WriteContext};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _};
use uuid::Uuid;

use crate::support::postgres::{APP, OWNER, TestDatabase, config_of, open, server};
use crate::support::proxy::{Fault, Proxy};

const TABLES: [&str; 9] =
    ["change_log", "checkpoint", "execution_state", "idempotency", "removed_state", "session", "state_version", "tenant", "variable"];

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

fn context(tenant: &TenantId) -> WriteContext {
    WriteContext { tenant: tenant.clone(), actor: UserId::parse("ada").unwrap(), request_id: Uuid::nil(), idempotency: None }
}

fn state_key(execution: &str) -> StateKey {
    StateKey { workflow: WorkflowId::parse("w").unwrap(), execution: ExecutionId::parse(execution).unwrap() }
}

fn document() -> StateDocument {
    StateDocument::parse(r#"{"marking":{"p":1}}"#).unwrap()
}

fn variable_key(name: &str) -> VariableKey {
    VariableKey { scope: Scope::Global, name: VariableName::parse(name).unwrap() }
}

fn variable(value: &str) -> VariableDocument {
    VariableDocument { value: value.into(), description: None, expiry: Expiry::Never }
}

async fn put_state(store: &PostgresStore, tenant: &TenantId, execution: &str) -> Result<Version, StoreError> {
    match store.put_state(&context(tenant), &state_key(execution), Expected::Any, &document(), Operation::Put).await? {
        Outcome::Applied { record, .. } => Ok(record.version),
        outcome => panic!("{outcome:?}"),
    }
}

/// The message of a start that is refused as unsafe.
async fn refused(database: &TestDatabase, config: &DatabaseConfig) -> String {
    match database.refusal(config, OpenMode::Serve).await {
        OpenError::Unsafe(message) => message,
        error => panic!("{error:?}"),
    }
}

fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[tokio::test]
async fn the_test_harness_opens_a_store() {
    let database = TestDatabase::migrated().await;
    let store = database.store(Clock::new()).await;
    store.ping().await.unwrap();
    assert_eq!(put_state(&store, &tenant("acme"), "e").await.unwrap().get(), 1);
    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn a_superuser_does_not_serve() {
    let database = TestDatabase::migrated().await;
    let message = refused(&database, &config_of(database.url("postgres"))).await;
    assert_says(&message, &["postgres", "superuser", "database.migrate_url"]);
}

#[tokio::test]
async fn a_role_with_bypassrls_does_not_serve() {
    let database = TestDatabase::migrated().await;
    let role = database.role("LOGIN BYPASSRLS").await;
    assert_says(&refused(&database, &config_of(database.url(&role))).await, &[&role, "BYPASSRLS"]);
}

#[tokio::test]
async fn the_owner_does_not_serve() {
    let database = TestDatabase::migrated().await;
    assert_says(&refused(&database, &config_of(database.url(OWNER))).await, &[OWNER, "owns table", "database.migrate_url"]);
}

#[tokio::test]
async fn a_member_of_a_role_that_could_bypass_row_level_security_does_not_serve() {
    for inherits in ["INHERIT", "NOINHERIT"] {
        let database = TestDatabase::migrated().await;
        let role = database.role(&format!("LOGIN {inherits}")).await;
        // Rights of its own: without INHERIT it has those of no other role.
        let owner = DatabaseConfig { migrate_url: Secret::from(database.url(OWNER)), ..database.config() };
        migrate(&owner, Some(&role)).await.unwrap();
        let (superuser, bypasses, between) = (format!("{role}_root"), format!("{role}_bypass"), format!("{role}_between"));
        for statement in [
            format!("CREATE ROLE {superuser} SUPERUSER; CREATE ROLE {bypasses} BYPASSRLS; CREATE ROLE {between} {inherits}"),
            format!("GRANT {between} TO {role}"),
        ] {
            database.execute(statement).await;
        }
        for (other, what) in
            [(superuser.as_str(), "a superuser"), (bypasses.as_str(), "which has BYPASSRLS"), (OWNER, "which owns table tenant")]
        {
            for member in [&role, &between] {
                database.execute(format!("GRANT {other} TO {member}")).await;
                let message = refused(&database, &config_of(database.url(&role))).await;
                let revoke = format!("REVOKE \"{other}\" FROM \"{role}\"");
                assert_says(&message, &[&format!("role {role} is a member of {other}, {what}"), &revoke, "database.migrate_url"]);
                database.execute(format!("REVOKE {other} FROM {member}")).await;
            }
        }
        PostgresStore::open(&config_of(database.url(&role)), Clock::new(), OpenMode::Serve, &Lifecycle::new(), Arc::new(NoObserver))
            .await
            .unwrap()
            .close()
            .await;
        database.execute(format!("DROP ROLE {superuser}; DROP ROLE {bypasses}; DROP ROLE {between}")).await;
    }
}

#[tokio::test]
async fn an_assumed_role_is_the_one_that_is_tested() {
    let database = TestDatabase::migrated().await;
    let mut config = DatabaseConfig { role: APP.into(), ..config_of(database.url("postgres")) };
    open(&config, Clock::new()).await.unwrap().close().await;
    config.role = OWNER.into();
    assert_says(&refused(&database, &config).await, &[OWNER, "owns table"]);
    config.role = "nobody \"at all".into();
    assert!(matches!(database.refusal(&config, OpenMode::Serve).await, OpenError::Statement { .. }));
}

#[tokio::test]
async fn every_table_needs_its_row_level_security() {
    let database = TestDatabase::migrated().await;
    for table in TABLES {
        for change in ["DISABLE ROW LEVEL SECURITY", "NO FORCE ROW LEVEL SECURITY"] {
            database.execute(format!("ALTER TABLE {table} {change}")).await;
            assert_says(&refused(&database, &database.config()).await, &[&format!("Table {table} "), "ENABLE ROW LEVEL SECURITY"]);
            database.execute(format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")).await;
        }
    }
    database.store(Clock::new()).await.close().await;
}

#[tokio::test]
async fn every_table_needs_its_policies_and_no_other() {
    let database = TestDatabase::migrated().await;
    let tenant = "tenant_id = (SELECT NULLIF(current_setting('app.tenant', true), ''))";
    for (change, repair) in [
        ("CREATE POLICY wide ON variable USING (true)", "DROP POLICY wide ON variable".to_owned()),
        ("CREATE POLICY tenant_read ON variable FOR SELECT USING (true)", "DROP POLICY tenant_read ON variable".to_owned()),
        ("ALTER POLICY tenant_isolation ON variable USING (true)", format!("ALTER POLICY tenant_isolation ON variable USING ({tenant})")),
        (
            "ALTER POLICY tenant_isolation ON variable WITH CHECK (true)",
            format!("ALTER POLICY tenant_isolation ON variable WITH CHECK ({tenant})"),
        ),
        ("ALTER POLICY tenant_isolation ON variable TO test_owner", "ALTER POLICY tenant_isolation ON variable TO PUBLIC".to_owned()),
        ("DROP POLICY tenant_read ON tenant", "CREATE POLICY tenant_read ON tenant FOR SELECT USING (true)".to_owned()),
        (
            "DROP POLICY tenant_isolation ON variable",
            format!("CREATE POLICY tenant_isolation ON variable USING ({tenant}) WITH CHECK ({tenant})"),
        ),
    ] {
        database.execute(change).await;
        let message = refused(&database, &database.config()).await;
        assert_says(&message, &["policies of table", "tenant_isolation"]);
        database.execute(repair).await;
        database.store(Clock::new()).await.close().await;
    }
}

#[tokio::test]
async fn commits_must_be_durable() {
    let database = TestDatabase::migrated().await;
    database.execute(format!("ALTER ROLE {APP} IN DATABASE {} SET synchronous_commit = off", database.name())).await;
    assert_says(&refused(&database, &database.config()).await, &["synchronous_commit is off", "Set it to on"]);
}

#[tokio::test]
async fn pending_migrations_name_the_command() {
    let database = TestDatabase::empty().await;
    for mode in [OpenMode::Serve, OpenMode::Development] {
        let error = database.refusal(&database.config(), mode).await.to_string();
        assert_says(&error, &["pending", &format!("`nworkflow-state migrate --app-role {APP}`"), "database.migrate_url"]);
    }
    // The role that is assumed, not the login.
    let role = format!("{}_assumed", database.name());
    database.execute(format!("CREATE ROLE {role}; GRANT {role} TO {APP}")).await;
    let config = DatabaseConfig { role: role.clone(), ..database.config() };
    let error = database.refusal(&config, OpenMode::Serve).await.to_string();
    assert_says(&error, &[&format!("`nworkflow-state migrate --app-role {role}`")]);
}

#[tokio::test]
async fn missing_rights_name_the_command() {
    let database = TestDatabase::migrated().await;
    for revoke in ["SELECT ON _sqlx_migrations", "DELETE ON session"] {
        database.execute(format!("REVOKE {revoke} FROM {APP}")).await;
        assert_says(
            &database.refusal(&database.config(), OpenMode::Serve).await.to_string(),
            &["no rights", &format!("migrate --app-role {APP}")],
        );
    }
}

#[tokio::test]
async fn a_changed_migration_is_refused_and_a_newer_one_is_not() {
    let database = TestDatabase::migrated().await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'newer', true, '', 0)";
    database.execute(newer).await;
    let config = DatabaseConfig { migrate_url: Secret::from(database.url(OWNER)), ..database.config() };
    open(&config, Clock::new()).await.unwrap().close().await;
    database.execute("UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 1").await;
    for config in [&config, &database.config()] {
        assert_says(&database.refusal(config, OpenMode::Serve).await.to_string(), &["Migration 1", "another text"]);
    }
}

#[tokio::test]
async fn an_unreachable_database_is_named_without_its_password() {
    let error = match open(&config_of("postgres://u:secret@127.0.0.1:1/db".into()), Clock::new()).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("the store opened"),
    };
    assert_says(&error, &["127.0.0.1:1/db", "does not answer"]);
    assert!(!error.contains("secret"));
}

#[tokio::test]
async fn a_database_that_answers_is_quoted() {
    let database = TestDatabase::migrated().await;
    for (url, said) in [
        (database.url("nobody_at_all"), "role \"nobody_at_all\" does not exist"),
        (format!("{}_missing", database.url(APP)), "_missing\" does not exist"),
    ] {
        let error = database.refusal(&config_of(url), OpenMode::Serve).await;
        // As the process tells it.
        let error = StartError::from(error).to_string();
        assert_says(&error, &["refuses the connection", said]);
        assert!(!error.contains("does not answer") && !error.contains("at line"), "{error}");
    }
    let config = DatabaseConfig { role: "nobody_at_all".into(), ..database.config() };
    let error = StartError::from(database.refusal(&config, OpenMode::Serve).await).to_string();
    assert_says(&error, &["SET ROLE", "role \"nobody_at_all\" does not exist"]);
    assert!(!error.contains("at line"), "{error}");
}

#[tokio::test]
async fn the_place_can_be_given_in_parts() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig {
        host: server().get_host().to_owned(),
        port: server().get_port(),
        database: database.name().to_owned(),
        username: APP.to_owned(),
        password: Secret::from("any".to_owned()),
        ..config_of(String::new())
    };
    open(&config, Clock::new()).await.unwrap().close().await;
}

#[tokio::test]
async fn development_needs_one_url() {
    for options in ["LOGIN SUPERUSER", "LOGIN CREATEROLE"] {
        let database = TestDatabase::empty().await;
        let role = database.role(options).await;
        database.execute(format!("ALTER DATABASE {} OWNER TO {role}", database.name())).await;
        let config = config_of(database.url(&role));
        for _ in 0..2 {
            let store =
                PostgresStore::open(&config, Clock::new(), OpenMode::Development, &Lifecycle::new(), Arc::new(NoObserver)).await.unwrap();
            put_state(&store, &tenant("dev"), "e").await.unwrap();
            store.close().await;
        }
        let owners: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations'",
        )
        .fetch_all(&mut database.superuser().await)
        .await
        .unwrap();
        assert_eq!(owners, [role]);
    }
}

#[tokio::test]
async fn of_many_migrators_one_migrates_and_all_succeed() {
    let database = TestDatabase::empty().await;
    let config = DatabaseConfig { migrate_url: Secret::from(database.url(OWNER)), ..database.config() };
    let reports = join_all((0..5).map(|_| migrate(&config, None))).await;
    let applied: Vec<_> = reports.into_iter().map(|report| report.unwrap().applied).filter(|applied| !applied.is_empty()).collect();
    assert_eq!(applied, [[1, 2]]);

    let database = TestDatabase::empty().await;
    let config = DatabaseConfig { migrate_url: Secret::from(database.url(OWNER)), ..database.config() };
    for store in join_all((0..5).map(|_| open(&config, Clock::new()))).await {
        store.unwrap().close().await;
    }
}

#[tokio::test]
async fn every_table_is_made_for_tenants() {
    let database = TestDatabase::migrated().await;
    let rows = sqlx::query(
        "SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity,
                (SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
                 WHERE i.indrelid = c.oid AND i.indisprimary),
                (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indisprimary),
                (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant_isolation' AND p.polcmd = '*'),
                (SELECT count(*) FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'
                   AND pg_get_constraintdef(k.oid) LIKE '%tenant_id <> ''''%')
         FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND c.relname <> '_sqlx_migrations'
         ORDER BY 1",
    )
    .fetch_all(&mut database.superuser().await)
    .await
    .unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, TABLES, "a new table belongs into the list here and into that of the self test");
    for row in rows {
        let table: String = row.get(0);
        assert!(row.get::<bool, _>(1), "{table}: row level security is not forced");
        assert_eq!(row.get::<Option<String>, _>(2).as_deref(), Some("tenant_id"), "{table}: the key does not begin with the tenant");
        assert_eq!(row.get::<i64, _>(3), 0, "{table}: a unique index tells what other tenants have");
        assert_eq!((row.get::<i64, _>(4), row.get::<i64, _>(5)), (1, 1), "{table}: policy, check");
    }
}

/// One row of each table, for each of these tenants.
async fn fill(database: &TestDatabase, tenants: &[&str]) {
    for tenant in tenants {
        database
            .execute(format!(
                "INSERT INTO tenant (tenant_id) VALUES ('{tenant}') ON CONFLICT DO NOTHING;
                 INSERT INTO execution_state (tenant_id, workflow_id, execution_id, version, created_version, created_at, updated_at, listed_at, status)
                   VALUES ('{tenant}', 'w', 'raw', 1, 1, now(), now(), now(), 'running');
                 INSERT INTO state_version (tenant_id, state_id, version, created_at, at, size, operation, actor, status)
                   VALUES ('{tenant}', 1, 1, now(), now(), 0, 1, 'a', 'running');
                 INSERT INTO checkpoint (tenant_id, state_id, checkpoint_id, workflow_id, execution_id, version, created_at, size, created_by)
                   VALUES ('{tenant}', 1, 'c', 'w', 'raw', 1, now(), 0, 'a');
                 INSERT INTO session (tenant_id, session_id, subject, version, created_version, ttl_ms, created_at, updated_at, expires_at,
                                      written_expires_at, sweep_at, sliding) VALUES ('{tenant}', 's', 'a', 1, 1, 1, now(), now(), now(), now(), now(), false);
                 INSERT INTO variable (tenant_id, scope_kind, scope_id, name, version, created_version, created_at, updated_at, updated_by, value)
                   VALUES ('{tenant}', 1, '', 'raw', 1, 1, now(), now(), 'a', '\"{tenant}\"');
                 INSERT INTO idempotency (tenant_id, idem, fingerprint, version, at, sweep_at, status)
                   VALUES ('{tenant}', gen_random_uuid(), gen_random_uuid(), 1, now(), now(), 200);
                 INSERT INTO change_log (tenant_id, at, version, kind, op, k1, k2, actor) VALUES ('{tenant}', now(), 1, 1, 1, 'w', 'e', 'a');
                 INSERT INTO removed_state (tenant_id, state_id, queued_at) VALUES ('{tenant}', 1, now())"
            ))
            .await;
    }
}

#[tokio::test]
async fn without_a_tenant_there_are_no_rows() {
    let database = TestDatabase::migrated().await;
    fill(&database, &["acme", "evil"]).await;
    let pool = sqlx::PgPool::connect(&database.url(APP)).await.unwrap();
    let count = async |connection: &mut sqlx::PgConnection, table: &str| -> i64 {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(connection).await.unwrap()
    };
    let mut connection = pool.acquire().await.unwrap();
    for round in ["never set", "after a SET LOCAL has ended"] {
        for table in TABLES {
            let expected = if table == "tenant" { 2 } else { 0 };
            assert_eq!(count(&mut connection, table).await, expected, "{table}, {round}");
        }
        connection.execute("BEGIN; SET LOCAL app.tenant = 'acme'").await.unwrap();
        for table in TABLES {
            let expected = if table == "tenant" { 2 } else { 1 };
            assert_eq!(count(&mut connection, table).await, expected, "{table}, with a tenant");
            let foreign = format!("UPDATE {table} SET tenant_id = 'acme' WHERE tenant_id <> 'acme'");
            assert_eq!(connection.execute(AssertSqlSafe(foreign)).await.unwrap().rows_affected(), 0, "{table}");
        }
        connection.execute("COMMIT").await.unwrap();
    }
    connection.execute("BEGIN; SET LOCAL app.tenant = 'acme'").await.unwrap();
    let stolen = connection.execute("INSERT INTO tenant (tenant_id) VALUES ('other')").await.unwrap_err();
    assert_eq!(stolen.as_database_error().unwrap().code().as_deref(), Some("42501"));
}

/// Polls a future some times and drops it if it is not ready by then.
async fn give_up_after<F: Future>(polls: u64, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        Poll::Pending
    })
    .await
}

/// A sequence without pattern, the same in every run.
struct Random(AtomicU64);

impl Random {
    fn below(&self, bound: u64) -> u64 {
        let next = |seed: u64| seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let seed = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seed| Some(next(seed))).unwrap();
        (next(seed) >> 33) % bound
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tenants_do_not_meet_on_the_pool() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig {
        pool_size: 4,
        // Else the server would clean up behind us.
        idle_in_transaction_timeout_ms: Milliseconds(600_000),
        ..database.config()
    };
    let store = Arc::new(open(&config, Clock::new()).await.unwrap());
    let tenants = ["acme", "evil", "third"].map(tenant);
    for tenant in &tenants {
        let value = variable(&format!("\"{tenant}\""));
        store.put_variable(&context(tenant), &variable_key("name"), None, Expected::Any, &value).await.unwrap();
    }
    let random = Random(AtomicU64::new(20));
    let given_up = AtomicU64::new(0);
    let transaction = async |number: usize| {
        let tenant = &tenants[number % 3];
        let own = format!("\"{tenant}\"");
        let polls = if random.below(3) == 0 { random.below(6) } else { u64::MAX };
        let work = async {
            match number % 5 {
                0 | 1 => {
                    let query = VariableQuery { limit: 100, max_bytes: 1 << 20, ..VariableQuery::default() };
                    let page = store.list_variables(tenant, &Scope::Global, None, &query).await.unwrap();
                    assert!(!page.items.is_empty() && page.items.iter().all(|item| *item.value == *own), "{tenant}: {page:?}");
                }
                2 => match store.get_variable(tenant, &variable_key("name"), None).await.unwrap() {
                    Lookup::Live(record) => assert_eq!(*record.value, *own),
                    lookup => panic!("{lookup:?}"),
                },
                _ => {
                    let key = variable_key(&format!("v{}", random.below(20)));
                    let outcome = store.put_variable(&context(tenant), &key, None, Expected::Any, &variable(&own)).await.unwrap();
                    assert!(matches!(outcome, Outcome::Applied { .. }));
                }
            }
        };
        if give_up_after(polls, work).await.is_none() {
            given_up.fetch_add(1, Ordering::Relaxed);
        }
    };
    // 16 at a time on 4 connections.
    let numbers: Vec<usize> = (0..1000).collect();
    join_all((0..16).map(|lane| {
        let (numbers, transaction) = (&numbers, &transaction);
        async move {
            for number in numbers.iter().skip(lane).step_by(16) {
                transaction(*number).await;
            }
        }
    }))
    .await;
    assert!(given_up.load(Ordering::Relaxed) > 100, "too few futures were dropped on the way to prove anything");
    // What every tenant wrote is its own, and every connection still works.
    let mut superuser = database.superuser().await;
    let foreign: i64 = sqlx::query_scalar("SELECT count(*) FROM variable WHERE value <> '\"' || tenant_id || '\"'")
        .fetch_one(&mut superuser)
        .await
        .unwrap();
    assert_eq!(foreign, 0);
    // In one snapshot: a COMMIT that was given up may still be on its way.
    let counts = "SELECT (SELECT count(*) FROM change_log), (SELECT sum(version)::int8 FROM variable)";
    let (log, versions): (i64, i64) = sqlx::query_as(counts).fetch_one(&mut superuser).await.unwrap();
    assert_eq!(log, versions, "an abandoned write is there with its log row, or not at all");
    join_all((0..8).map(|_| store.ping())).await.into_iter().for_each(|pinged| pinged.unwrap());
    // A read's rollback is sent when nobody waits for it any more.
    let mut open = i64::MAX;
    for _ in 0..300 {
        open = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1 AND state LIKE 'idle in%'",
        )
        .bind(APP)
        .fetch_one(&mut superuser)
        .await
        .unwrap();
        if open == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(open, 0, "a transaction was left open in the pool");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_forgotten_where_shows_no_other_tenant() {
    let database = TestDatabase::migrated().await;
    fill(&database, &["acme", "evil", "third"]).await;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(4).connect(&database.url(APP)).await.unwrap();
    join_all((0..300).map(|number| {
        let pool = &pool;
        async move {
            let tenant = ["acme", "evil", "third"][number % 3];
            let mut transaction = pool.begin_with(AssertSqlSafe(format!("BEGIN; SET LOCAL app.tenant = '{tenant}'"))).await.unwrap();
            let seen: Vec<String> = sqlx::query_scalar("SELECT tenant_id FROM variable").fetch_all(&mut *transaction).await.unwrap();
            assert_eq!(seen, [tenant]);
            let deleted = transaction.execute("UPDATE variable SET value = value").await.unwrap();
            assert_eq!(deleted.rows_affected(), 1);
            transaction.commit().await.unwrap();
        }
    }))
    .await;
}

/// A store behind a proxy, and what it stands on.
async fn behind_proxy(database: &TestDatabase, pool_size: u32) -> (Proxy, PostgresStore) {
    let server = server();
    let address = (server.get_host(), server.get_port()).to_socket_addrs().unwrap().next().unwrap();
    let proxy = Proxy::start(address).await;
    let url = format!("postgres://{APP}@{}/{}", proxy.address(), database.name());
    let config =
        DatabaseConfig { pool_size, acquire_timeout_ms: Milliseconds(2000), statement_timeout_ms: Milliseconds(500), ..config_of(url) };
    let store = open(&config, Clock::new()).await.unwrap();
    (proxy, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_comes_back_is_used_again() {
    let database = TestDatabase::migrated().await;
    let (mut proxy, store) = behind_proxy(&database, 4).await;
    let acme = tenant("acme");
    join_all((0..4).map(|_| put_state(&store, &acme, "e"))).await.into_iter().for_each(|put| assert!(put.is_ok(), "{put:?}"));
    proxy.stop().await;
    assert!(matches!(put_state(&store, &acme, "e").await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.get_state(&acme, &state_key("e")).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    proxy.restart().await;
    store.ping().await.unwrap();
    assert_eq!(put_state(&store, &acme, "e").await.unwrap().get(), 5);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_sessions_are_not_noticed() {
    let database = TestDatabase::migrated().await;
    let store = database.store(Clock::new()).await;
    let acme = tenant("acme");
    for _ in 0..3 {
        join_all((0..8).map(|_| put_state(&store, &acme, "e"))).await.into_iter().for_each(|put| assert!(put.is_ok(), "{put:?}"));
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'test_app'";
        database.execute(end).await;
    }
    assert_eq!(put_state(&store, &acme, "e").await.unwrap().get(), 25);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lets_nobody_in_is_unavailable() {
    let database = TestDatabase::migrated().await;
    let role = database.role("LOGIN").await;
    let config = DatabaseConfig { acquire_timeout_ms: Milliseconds(1000), ..config_of(database.url(&role)) };
    let store = PostgresStore::open(&config, Clock::new(), OpenMode::Serve, &Lifecycle::new(), Arc::new(NoObserver)).await.unwrap();
    let acme = tenant("acme");
    let name = database.name();
    let away = format!("{name}_away");
    // In another database: nobody may be in this one while it changes its name, and nobody gets in while it takes no connections.
    let mut operator = server().connect().await.unwrap();
    for (code, lock_out, let_in) in [
        ("55000", format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"), format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")),
        ("53300", format!("ALTER DATABASE {name} CONNECTION LIMIT 0"), format!("ALTER DATABASE {name} CONNECTION LIMIT -1")),
        ("42501", format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"), format!("GRANT CONNECT ON DATABASE {name} TO PUBLIC")),
        ("28000", format!("ALTER ROLE {role} NOLOGIN"), format!("ALTER ROLE {role} LOGIN")),
        ("3D000", format!("ALTER DATABASE {name} RENAME TO {away}"), format!("ALTER DATABASE {away} RENAME TO {name}")),
    ] {
        put_state(&store, &acme, "e").await.unwrap();
        let end = format!("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{role}'");
        let statements = if code == "3D000" { [end, lock_out] } else { [lock_out, end] };
        for statement in statements {
            operator.execute(AssertSqlSafe(statement)).await.unwrap();
        }
        for answer in
            [store.get_state(&acme, &state_key("e")).await.map(drop), put_state(&store, &acme, "e").await.map(drop), store.ping().await]
        {
            assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{code}: {answer:?}");
        }
        operator.execute(AssertSqlSafe(let_in)).await.unwrap();
    }
    assert_eq!(put_state(&store, &acme, "e").await.unwrap().get(), 6);
    store.close().await;
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_unavailable_to_writers() {
    let database = TestDatabase::migrated().await;
    let acme = tenant("acme");
    database.execute(format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name())).await;
    let store = database.store(Clock::new()).await;
    for _ in 0..2 {
        let written = put_state(&store, &acme, "e").await;
        assert!(matches!(written, Err(StoreError::Unavailable(_))), "{written:?}");
        let deleted = store.delete_variable(&context(&acme), &variable_key("v"), None, Expected::Any).await;
        assert!(matches!(deleted, Err(StoreError::Unavailable(_))), "{deleted:?}");
    }
    assert_eq!(store.get_state(&acme, &state_key("e")).await.unwrap(), Lookup::Absent);
    store.ping().await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_looked_up() {
    let database = TestDatabase::migrated().await;
    let (proxy, store) = behind_proxy(&database, 4).await;
    let acme = tenant("acme");
    for (number, fault) in [Fault::AfterCommit, Fault::BeforeCommit, Fault::AfterCommit, Fault::BeforeCommit].into_iter().enumerate() {
        proxy.arm(fault);
        let written = put_state(&store, &acme, "e").await.unwrap();
        assert!(!proxy.is_armed(), "the connection did not break");
        assert_eq!(usize::try_from(written.get()).unwrap(), number + 1, "{fault:?}: written once");
    }
    let key = state_key("precondition");
    for (expected, version) in [(Expected::Absent, 1), (Expected::Exactly(Version::new(1).unwrap()), 2)] {
        proxy.arm(Fault::AfterCommit);
        match store.put_state(&context(&acme), &key, expected, &document(), Operation::Put).await.unwrap() {
            Outcome::Applied { record, .. } => assert_eq!(record.version.get(), version, "no false failure of the precondition"),
            outcome => panic!("{outcome:?}"),
        }
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_nobody_can_look_up_is_unknown() {
    let database = TestDatabase::migrated().await;
    let (proxy, store) = behind_proxy(&database, 1).await;
    let acme = tenant("acme");
    put_state(&store, &acme, "e").await.unwrap();
    // The server's identity cannot be read any more, as on another server after a fail-over.
    database.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC").await;
    proxy.arm(Fault::AfterCommit);
    assert!(matches!(put_state(&store, &acme, "e").await, Err(StoreError::OutcomeUnknown(_))));
    assert_eq!(put_state(&store, &acme, "e").await.unwrap().get(), 3);
    store.close().await;
    // A provider may not let it be read at all: no reason not to serve.
    let (proxy, store) = behind_proxy(&database, 1).await;
    proxy.arm(Fault::AfterCommit);
    assert!(matches!(put_state(&store, &acme, "e").await, Err(StoreError::OutcomeUnknown(_))));
    assert_eq!(put_state(&store, &acme, "e").await.unwrap().get(), 5);
    store.close().await;
}

/// A context with an idempotency key.
fn keyed(tenant: &TenantId, key: u128) -> WriteContext {
    let idempotency = Some(Idempotency { key: Uuid::from_u128(key), fingerprint: Uuid::from_u128(7) });
    WriteContext { idempotency, ..context(tenant) }
}

/// How many of the outcomes were applied; all others are replays.
fn applied<R: std::fmt::Debug>(outcomes: Vec<Result<Outcome<R>, StoreError>>) -> usize {
    outcomes
        .into_iter()
        .filter(|outcome| match outcome {
            Ok(Outcome::Applied { .. }) => true,
            Ok(Outcome::Replayed(_)) => false,
            outcome => panic!("{outcome:?}"),
        })
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_raced_idempotency_key_writes_once() {
    let database = TestDatabase::migrated().await;
    // One server's writers of one key wait for each other, several servers' race.
    let stores = join_all((0..4).map(|_| database.store(Clock::new()))).await;
    let store_of = |number: usize| &stores[number % stores.len()];
    let store = store_of(0);
    let acme = tenant("acme");
    // The tenant's row is there, so that the first requests do not wait for each other on it, but run into each other on the key.
    put_state(store, &acme, "warm").await.unwrap();
    let (state, name) = (state_key("e"), variable_key("v"));
    for round in 0..10 {
        let (document, value) = (document(), variable("1"));
        let context = keyed(&acme, round * 4);
        let puts = (0..12).map(|number| store_of(number).put_state(&context, &state, Expected::Any, &document, Operation::Put));
        assert_eq!(applied(join_all(puts).await), 1, "put state");
        let context = keyed(&acme, round * 4 + 1);
        let puts = (0..12).map(|number| store_of(number).put_variable(&context, &name, None, Expected::Any, &value));
        assert_eq!(applied(join_all(puts).await), 1, "put variable");
        // Deletes of different rows under one key, so that each would have something to delete.
        let others: Vec<_> = (0..12).map(|number| (state_key(&format!("e{number}")), variable_key(&format!("v{number}")))).collect();
        for (state, name) in &others {
            store.put_state(&self::context(&acme), state, Expected::Any, &document, Operation::Put).await.unwrap();
            store.put_variable(&self::context(&acme), name, None, Expected::Any, &value).await.unwrap();
        }
        let context = keyed(&acme, round * 4 + 2);
        let deletes = others.iter().map(|(state, _)| store.delete_state(&context, state, Expected::Any));
        assert_eq!(applied(join_all(deletes).await), 1, "delete state");
        let context = keyed(&acme, round * 4 + 3);
        let deletes = others.iter().map(|(_, name)| store.delete_variable(&context, name, None, Expected::Any));
        assert_eq!(applied(join_all(deletes).await), 1, "delete variable");
    }
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency").fetch_one(&mut database.superuser().await).await.unwrap();
    assert_eq!(keys, 40);
    join_all(stores.iter().map(PostgresStore::close)).await;
}

#[tokio::test]
async fn a_locked_row_is_contention() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig { lock_timeout_ms: Milliseconds(50), ..database.config() };
    let store = open(&config, Clock::new()).await.unwrap();
    let acme = tenant("acme");
    put_state(&store, &acme, "e").await.unwrap();
    let mut other = database.superuser().await;
    other.execute("BEGIN; SELECT FROM execution_state FOR UPDATE").await.unwrap();
    assert!(matches!(put_state(&store, &acme, "e").await, Err(StoreError::Contended(_))));
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(put_state(&store, &acme, "e").await.unwrap().get(), 2);
    store.close().await;
}

/// Waits until so many statements of the server wait for locks.
async fn wait_for_locks(database: &TestDatabase, count: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1 AND wait_event_type = 'Lock'";
    let mut watcher = database.superuser().await;
    for _ in 0..500 {
        if sqlx::query_scalar::<_, i64>(waiting).bind(APP).fetch_one(&mut watcher).await.unwrap() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {count} statements wait for a lock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_row_leaves_the_pool_to_others() {
    let database = TestDatabase::migrated().await;
    let limits = DatabaseConfig { pool_size: 4, statement_timeout_ms: Milliseconds(60_000), ..database.config() };
    let patient = DatabaseConfig { lock_timeout_ms: Milliseconds(60_000), ..limits.clone() };
    let store = PostgresStore::open(&patient, Clock::new(), OpenMode::Serve, &Lifecycle::new(), Arc::new(NoObserver)).await.unwrap();
    let acme = tenant("acme");
    put_state(&store, &acme, "hot").await.unwrap();
    put_state(&store, &acme, "cold").await.unwrap();
    let mut other = database.superuser().await;
    other.execute("BEGIN; SELECT FROM execution_state WHERE execution_id = 'hot' FOR UPDATE").await.unwrap();
    let writers = join_all((0..40).map(|_| put_state(&store, &acme, "hot")));
    let others = async {
        wait_for_locks(&database, 1).await;
        // The writers wait as long as this takes: each of these answers comes before theirs.
        store.ping().await.unwrap();
        assert!(store.get_state(&acme, &state_key("cold")).await.unwrap().live().is_some());
        // Also those of its lane.
        for execution in ["cold", "cool", "mild"] {
            put_state(&store, &acme, execution).await.unwrap();
        }
        other.execute("ROLLBACK").await.unwrap();
    };
    let (written, ()) = tokio::join!(biased; writers, others);
    let mut versions: Vec<i64> = written.into_iter().map(|version| version.unwrap().get()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..=41).collect::<Vec<_>>());
    store.close().await;
    // And when the lock stays, each hears that it is contended.
    let hasty = DatabaseConfig {
        lock_timeout_ms: Milliseconds(200),
        acquire_timeout_ms: Milliseconds(1000),
        queue_timeout_ms: Milliseconds(1000),
        ..limits
    };
    let store = PostgresStore::open(&hasty, Clock::new(), OpenMode::Serve, &Lifecycle::new(), Arc::new(NoObserver)).await.unwrap();
    other.execute("BEGIN; SELECT FROM execution_state WHERE execution_id = 'hot' FOR UPDATE").await.unwrap();
    for written in join_all((0..40).map(|_| put_state(&store, &acme, "hot"))).await {
        assert!(matches!(written, Err(StoreError::Contended(_))), "{written:?}");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_busy_is_contention_and_the_database_answers() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig {
        pool_size: 2,
        acquire_timeout_ms: Milliseconds(1000),
        lock_timeout_ms: Milliseconds(60_000),
        statement_timeout_ms: Milliseconds(60_000),
        ..database.config()
    };
    let store = PostgresStore::open(&config, Clock::new(), OpenMode::Serve, &Lifecycle::new(), Arc::new(NoObserver)).await.unwrap();
    let acme = tenant("acme");
    let mut other = database.superuser().await;
    other.execute("BEGIN; LOCK TABLE execution_state, variable").await.unwrap();
    let (context, counter) = (context(&acme), variable_key("counter"));
    let writers = async {
        tokio::join!(put_state(&store, &acme, "a"), store.increment_variable(&context, &counter, None, Expected::Any, Number::Integer(1)))
    };
    let others = async {
        wait_for_locks(&database, 2).await;
        // One that has its group, and one by itself.
        let read = store.get_variable(&acme, &variable_key("v"), None).await;
        assert!(matches!(read, Err(StoreError::Contended(_))), "{read:?}");
        let listed = store.list_workflows(&acme, None, 1).await;
        assert!(matches!(listed, Err(StoreError::Contended(_))), "{listed:?}");
        store.ping().await.unwrap();
        other.execute("ROLLBACK").await.unwrap();
    };
    let ((put, incremented), ()) = tokio::join!(biased; writers, others);
    put.unwrap();
    incremented.unwrap();
    store.close().await;
}

/// Lets a write run into a row that another transaction holds with this change, which then commits. Answers the write's outcome.
async fn overtaken<T>(database: &TestDatabase, change: &str, write: impl Future<Output = Result<T, StoreError>>) -> T {
    let mut other = database.superuser().await;
    other.execute(AssertSqlSafe(format!("BEGIN; {change}"))).await.unwrap();
    let commit = async {
        wait_for_locks(database, 1).await;
        other.execute("COMMIT").await.unwrap();
    };
    let (outcome, ()) = tokio::join!(write, commit);
    outcome.unwrap()
}

#[tokio::test]
async fn a_precondition_is_about_the_locked_row() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig { lock_timeout_ms: Milliseconds(20_000), statement_timeout_ms: Milliseconds(20_000), ..database.config() };
    let store = open(&config, Clock::new()).await.unwrap();
    let acme = tenant("acme");
    let context = context(&acme);
    let (one, two) = (Version::new(1).unwrap(), Version::new(2).unwrap());
    let bump = |table: &str, name: &str| format!("UPDATE {table} SET version = version + 1 WHERE {name}");
    let end = |table: &str, name: &str| format!("UPDATE {table} SET version = version + 1, deleted = true WHERE {name}");
    // Expected, what the other does, then the outcomes of a put and of a delete: an applied version, or the current one.
    type Fate = Result<i64, Option<Version>>;
    let cases: [(Expected, bool, Fate, Fate); 5] = [
        (Expected::Exactly(one), false, Err(Some(two)), Err(Some(two))),
        (Expected::Exactly(one), true, Err(None), Err(None)),
        (Expected::Present, false, Ok(3), Ok(3)),
        (Expected::Present, true, Err(None), Err(None)),
        (Expected::Any, false, Ok(3), Ok(3)),
    ];
    for (number, (expected, ends, put, delete)) in cases.into_iter().enumerate() {
        for deletes in [false, true] {
            let name = format!("n{number}-{deletes}");
            let (state, variable_key) = (state_key(&name), variable_key(&name));
            store.put_state(&context, &state, Expected::Any, &document(), Operation::Put).await.unwrap();
            store.put_variable(&context, &variable_key, None, Expected::Any, &variable("1")).await.unwrap();
            let change = if ends { end } else { bump };
            let (head, row) =
                (change("execution_state", &format!("execution_id = '{name}'")), change("variable", &format!("name = '{name}'")));
            let (of_state, of_variable) = if deletes {
                (
                    fate(overtaken(&database, &head, store.delete_state(&context, &state, expected)).await, |record| record.version),
                    fate(overtaken(&database, &row, store.delete_variable(&context, &variable_key, None, expected)).await, |record| {
                        record.version
                    }),
                )
            } else {
                let (document, value) = (document(), variable("2"));
                (
                    fate(
                        overtaken(&database, &head, store.put_state(&context, &state, expected, &document, Operation::Put)).await,
                        |record| record.version,
                    ),
                    fate(overtaken(&database, &row, store.put_variable(&context, &variable_key, None, expected, &value)).await, |record| {
                        record.version
                    }),
                )
            };
            let right = if deletes { delete } else { put };
            assert_eq!((of_state, of_variable), (right, right), "{expected:?}, the other deletes: {ends}, this one: {deletes}");
        }
    }
    // Two that create: the second finds the first one's row, although its snapshot had none.
    let create = "INSERT INTO execution_state (tenant_id, workflow_id, execution_id, version, created_version, created_at, updated_at, listed_at, status)
                    VALUES ('acme', 'w', 'new', 1, 1, now(), now(), now(), 'running');
                  INSERT INTO variable (tenant_id, scope_kind, scope_id, name, version, created_version, created_at, updated_at, updated_by, value)
                    VALUES ('acme', 1, '', 'new', 1, 1, now(), now(), 'a', '1')";
    let (document, value) = (document(), variable("2"));
    let created =
        overtaken(&database, create, store.put_state(&context, &state_key("new"), Expected::Absent, &document, Operation::Put)).await;
    assert_eq!(created, Outcome::Refused { current: Some(one) });
    let create = create.replace("'new'", "'newer'");
    let created = overtaken(&database, &create, store.put_variable(&context, &variable_key("newer"), None, Expected::Absent, &value)).await;
    assert_eq!(created, Outcome::Refused { current: Some(one) });
    store.close().await;
}

fn fate<R: std::fmt::Debug>(outcome: Outcome<R>, version: impl Fn(&R) -> Version) -> Result<i64, Option<Version>> {
    match outcome {
        Outcome::Applied { created: false, record } => Ok(version(&record).get()),
        Outcome::Refused { current } => Err(current),
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn a_slow_statement_is_contention() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig { statement_timeout_ms: Milliseconds(50), lock_timeout_ms: Milliseconds(60_000), ..database.config() };
    let store = open(&config, Clock::new()).await.unwrap();
    let acme = tenant("acme");
    let mut other = database.superuser().await;
    other.execute("BEGIN; LOCK TABLE execution_state").await.unwrap();
    assert!(matches!(put_state(&store, &acme, "e").await, Err(StoreError::Contended(_))));
    assert!(matches!(store.get_state(&acme, &state_key("e")).await, Err(StoreError::Contended(_))));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_not_waited_for() {
    let database = TestDatabase::migrated().await;
    let (proxy, store) = behind_proxy(&database, 2).await;
    let acme = tenant("acme");
    put_state(&store, &acme, "e").await.unwrap();
    proxy.arm(Fault::SwallowCommit);
    // It ends with the time limit, and the transaction with the connection.
    assert!(matches!(put_state(&store, &acme, "e").await, Err(StoreError::Unavailable(_))));
    assert!(!proxy.is_armed());
    assert_eq!(put_state(&store, &acme, "e").await.unwrap().get(), 2);
    store.close().await;
}

#[tokio::test]
async fn statements_use_their_indexes_even_if_planned_on_empty_tables() {
    use_indexes(false).await;
}

#[tokio::test]
async fn statements_use_their_indexes_even_if_planned_on_small_tables() {
    use_indexes(true).await;
}

async fn use_indexes(analyze: bool) {
    const ROWS: i64 = 5000;
    let database = TestDatabase::migrated().await;
    // One connection, so that every statement keeps its first plan.
    let config = DatabaseConfig { pool_size: 1, ..database.config() };
    let store = open(&config, Clock::new()).await.unwrap();
    let acme = tenant("acme");
    // Once the plans are from empty tables of which nothing is known, once from small ones of which all is.
    let small = u128::from(analyze);
    for round in 0..10_u128 {
        for expected in [Expected::Any, Expected::Present] {
            let key = round * 4 + if expected == Expected::Any { 0 } else { 2 };
            let (puts, deletes) = (keyed(&acme, key), keyed(&acme, key + 1));
            let (state, name) = (state_key(&format!("e{round}")), variable_key(&format!("v{round}")));
            store.put_state(&puts, &state, expected, &document(), Operation::Put).await.unwrap();
            store.put_variable(&context(&acme), &name, None, expected, &variable("1")).await.unwrap();
            store.get_state(&acme, &state).await.unwrap();
            store.get_state_version(&acme, &state, Version::new(1).unwrap()).await.unwrap();
            for ascending in [true, false] {
                store.state_history(&acme, &state, HistoryQuery { ascending, after: None, limit: 10 }).await.unwrap();
            }
            store.get_variable(&acme, &name, None).await.unwrap();
            for names in [vec![], vec![name.name.clone()]] {
                let query = VariableQuery { prefix: "v".into(), names, after: None, limit: 10, max_bytes: 1000 };
                store.list_variables(&acme, &Scope::Global, None, &query).await.unwrap();
            }
            if round > 0 || expected == Expected::Present {
                store.delete_state(&deletes, &state, expected).await.unwrap();
                store.delete_variable(&context(&acme), &name, None, expected).await.unwrap();
            }
        }
        if round == 0 && analyze {
            database.execute("ANALYZE").await;
        }
        if round == small {
            database
                .execute(format!(
                    "INSERT INTO execution_state (tenant_id, workflow_id, execution_id, version, created_version, created_at, updated_at, listed_at, status)
                       SELECT 'acme', 'w', 'raw' || n, 1, 1, now(), now(), now(), 'running' FROM generate_series(1, {ROWS}) n;
                     INSERT INTO state_version (tenant_id, state_id, version, created_at, at, size, operation, actor, status)
                       SELECT 'acme', 1000000 + n, 1, now(), now(), 0, 1, 'a', 'running' FROM generate_series(1, {ROWS}) n;
                     INSERT INTO variable (tenant_id, scope_kind, scope_id, name, version, created_version, created_at, updated_at, updated_by, value)
                       SELECT 'acme', 1, '', 'raw' || n, 1, 1, now(), now(), 'a', '1' FROM generate_series(1, {ROWS}) n;
                     INSERT INTO idempotency (tenant_id, idem, fingerprint, version, at, sweep_at, status)
                       SELECT 'acme', gen_random_uuid(), gen_random_uuid(), 1, now(), now(), 200 FROM generate_series(1, {ROWS}) n"
                ))
                .await;
        }
    }
    // The server's session has told its counts once it has ended.
    store.close().await;
    let mut scans: Vec<(String, i64)> = vec![("none yet".to_owned(), i64::MAX)];
    for _ in 0..300 {
        let counts = "SELECT relname::text, seq_tup_read FROM pg_stat_user_tables WHERE seq_tup_read >= $1
                      UNION ALL SELECT indexrelname::text, idx_tup_read FROM pg_stat_user_indexes WHERE idx_tup_read >= $1
                      UNION ALL SELECT 'not told', 1 FROM pg_stat_user_tables WHERE relname = 'variable' AND idx_scan = 0";
        scans = sqlx::query_as(counts).bind(ROWS).fetch_all(&mut database.superuser().await).await.unwrap();
        if scans.iter().all(|(table, _)| table != "not told") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(scans, [], "tables that were read from one end to the other");
}

#[tokio::test]
async fn rows_are_swept_by_the_hour() {
    let database = TestDatabase::migrated().await;
    let store = database.store(Clock::new()).await;
    let acme = tenant("acme");
    // Hours from the hour of the write to that of the sweep.
    let hours = async |table: &str| -> Option<i32> {
        let sql = format!(
            "SELECT (extract(epoch FROM sweep_at - date_trunc('hour', {})) / 3600)::int4 FROM {table}",
            if table == "idempotency" { "at" } else { "updated_at" }
        );
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut database.superuser().await).await.unwrap()
    };
    let with_ttl = VariableDocument { expiry: Expiry::In(7200), ..variable("1") };
    let put = async |context: &WriteContext, document: &VariableDocument| {
        store.put_variable(context, &variable_key("v"), None, Expected::Any, document).await.unwrap();
    };
    put(&keyed(&acme, 1), &with_ttl).await;
    assert_eq!((hours("variable").await, hours("idempotency").await), (Some(3), Some(25)));
    put(&context(&acme), &variable("1")).await;
    assert_eq!(hours("variable").await, None);
    put(&context(&acme), &with_ttl).await;
    assert_eq!(hours("variable").await, Some(3));
    store.delete_variable(&context(&acme), &variable_key("v"), None, Expected::Any).await.unwrap();
    assert_eq!(hours("variable").await, Some(25));
    // A state's head stays: its history hangs on it.
    put_state(&store, &acme, "e").await.unwrap();
    store.delete_state(&context(&acme), &state_key("e"), Expected::Any).await.unwrap();
    assert_eq!(hours("execution_state").await, None);
    store.close().await;
}

#[tokio::test]
async fn a_fork_keeps_its_origin_for_one_life() {
    let database = TestDatabase::migrated().await;
    let store = database.store(Clock::new()).await;
    let acme = tenant("acme");
    put_state(&store, &acme, "e").await.unwrap();
    for table in ["execution_state", "state_version"] {
        let origin = "forked_workflow = 'w', forked_execution = 'origin', forked_version = 7, forked_checkpoint = 'c'";
        database.execute(format!("UPDATE {table} SET {origin}")).await;
    }
    put_state(&store, &acme, "e").await.unwrap();
    let origin = async || match store.get_state(&acme, &state_key("e")).await.unwrap() {
        Lookup::Live(record) => record.forked_from,
        lookup => panic!("{lookup:?}"),
    };
    let forked = origin().await.unwrap();
    assert_eq!((forked.execution.as_str(), forked.version.map(Version::get), forked.checkpoint.as_deref()), ("origin", Some(7), Some("c")));
    store.delete_state(&context(&acme), &state_key("e"), Expected::Any).await.unwrap();
    put_state(&store, &acme, "e").await.unwrap();
    assert_eq!(origin().await, None);
    store.close().await;
}

#[tokio::test]
async fn a_corrupt_row_is_an_error_without_its_value() {
    let database = TestDatabase::migrated().await;
    let store = database.store(Clock::new()).await;
    let acme = tenant("acme");
    put_state(&store, &acme, "e").await.unwrap();
    for damage in ["body = '[\"swordfish\"]'", "body = NULL", "version = 9"] {
        database.execute(format!("UPDATE state_version SET {damage}")).await;
        let error = store.get_state(&acme, &state_key("e")).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(!error.to_string().contains("swordfish"), "{error}");
    }
    store.close().await;
}
