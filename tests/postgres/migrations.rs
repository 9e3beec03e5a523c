//! The schema: who makes it, what is said when it is not there, and what every table has.

use futures_util::future::join_all;
use nworkflow_state::config::{DatabaseConfig, Secret};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::store::Store;
use nworkflow_state::store::postgres::{OpenMode, migrate};
use sqlx::Row as _;

use super::{TABLES, assert_says};
use crate::support::postgres::{APP, OWNER, TestDatabase, open};

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
async fn missing_rights_are_named_with_the_statements_that_give_them() {
    let database = TestDatabase::migrated().await;
    for (right, table) in [("DELETE", "session"), ("SELECT", "_sqlx_migrations")] {
        database.execute(format!("REVOKE {right} ON {table} FROM {APP}")).await;
        assert_says(
            &database.refusal(&database.config(), OpenMode::Serve).await.to_string(),
            &[&format!("lacks {right} on table {table}"), &format!("`GRANT {right} ON \"{table}\" TO \"{APP}\"`")],
        );
        database.execute(format!("GRANT {right} ON {table} TO {APP}")).await;
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
