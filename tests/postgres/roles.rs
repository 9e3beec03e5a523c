//! Who may not serve: roles that row level security does not bind, and databases without it.

use std::sync::Arc;

use nworkflow_state::config::{DatabaseConfig, Secret};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::NoObserver;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::Store;
use nworkflow_state::store::postgres::{OpenError, OpenMode, PostgresStore, migrate};

use super::{TABLES, assert_says};
use crate::support::postgres::{APP, OWNER, TestDatabase, config_of, open};

/// The message of a start that is refused as unsafe.
async fn refused(database: &TestDatabase, config: &DatabaseConfig) -> String {
    match database.refusal(config, OpenMode::Serve).await {
        OpenError::Unsafe(message) => message,
        error => panic!("{error:?}"),
    }
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
