//! PostgreSQL: connection, login, database, role, schema, durability, connections, pooler.

use sqlx::Connection as _;

use super::Doctor;
use super::pooler::Pooler;
use crate::support::postgres::{APP, OWNER, TestDatabase, server};
use crate::support::postgres_cluster::Cluster;

#[tokio::test]
async fn a_database_that_is_ready_is_well() {
    let database = TestDatabase::migrated().await;
    let report = Doctor::new().database(database.url(APP)).run().await;
    report.well(&[
        "ok     configuration",
        "ok     postgresql: answers, its schema is current",
        "ok     postgresql connections",
        "ok     postgresql pooler",
    ]);
    assert!(report.printed.contains("postgresql version: "), "{}", report.printed);
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_to_matters_without_a_database_only() {
    // Nobody can make a file there, not even root.
    let report = Doctor::new().set("DATA_DIR", "/proc").run().await;
    report.wrong("data directory", &["nothing can be written to /proc"], "Let the server's user write there");
    let database = TestDatabase::migrated().await;
    let report = Doctor::new().set("DATA_DIR", "/proc").database(database.url(APP)).run().await;
    report.well(&["note   data directory: /proc cannot be written to, and need not be"]);
}

#[tokio::test]
async fn a_folder_that_the_first_start_cannot_make_is_found_before_it() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let report = Doctor::new().set("DATA_DIR", "/proc/nworkflow/data").run().await;
    report.wrong(
        "data directory",
        &["/proc/nworkflow/data does not exist", "cannot be made", "written to /proc:"],
        "Let the server's user write",
    );
    std::fs::write(path("file"), "").unwrap();
    std::os::unix::fs::symlink(path("nowhere"), path("link")).unwrap();
    for name in ["file/data", "link", "link/data"] {
        let report = Doctor::new().set("DATA_DIR", path(name)).run().await;
        let first = name.split('/').next().unwrap();
        report.wrong("data directory", &["cannot be made", &format!("{} is not a folder", path(first))], "set data_dir to another folder");
    }
    let report = Doctor::new().set("DATA_DIR", path("new/data")).run().await;
    report.well(&[&format!("note   data directory: {} does not exist yet; the first start makes it", path("new/data"))]);
    // In the folder of the process, by a name alone.
    let report = Doctor::new().set("DATA_DIR", "fresh").run().await;
    report.well(&["note   data directory: fresh does not exist yet; the first start makes it"]);
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "doctor leaves something behind: {left:?}");
}

#[tokio::test]
async fn no_connection_is_told_apart_by_its_reason() {
    let nobody = Doctor::new().database("postgres://app:hunter2@127.0.0.1:1/state").run().await;
    nobody.wrong("postgresql", &["127.0.0.1:1/state does not answer", "refused"], "Start PostgreSQL, or correct host and port");
    assert!(!nobody.printed.contains("hunter2"));

    let database = TestDatabase::migrated().await;
    let elsewhere = database.url(APP).replace(database.name(), "no_such_database");
    Doctor::new().database(elsewhere).run().await.wrong("postgresql", &["no_such_database", "does not exist"], "CREATE DATABASE");
    let report = Doctor::new().database(database.url("no_such_role")).run().await;
    report.wrong("postgresql", &["no_such_role", "does not exist"], "make the role and let it log in");

    // Something that is no PostgreSQL.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let talk = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await
    };
    let report = tokio::select! {
        () = talk => unreachable!("it waits for ever"),
        report = Doctor::new().database(format!("postgres://app@{address}/state")).run() => report,
    };
    report.wrong("postgresql", &["refuses the connection"], "is not PostgreSQL, or does not agree about TLS");
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let cluster = Cluster::start_new();
    let url: sqlx::postgres::PgConnectOptions = cluster.url().parse().unwrap();
    let mut connection = sqlx::PgConnection::connect_with(&url).await.unwrap();
    sqlx::raw_sql("CREATE ROLE app LOGIN PASSWORD 'right'").execute(&mut connection).await.unwrap();
    cluster.set_host_rules("host all app 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n");
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut connection).await.unwrap();
    let url = cluster.url().replace("postgres@", "app:hunter2@");
    let mut report = Doctor::new().database(url.clone()).run().await;
    // The rules count from the moment on at which the server has read them.
    for _ in 0..100 {
        if report.printed.contains("password") {
            break;
        }
        report = Doctor::new().database(url.clone()).run().await;
    }
    report.wrong("postgresql", &["password authentication failed"], "Correct the password");
    assert!(!report.printed.contains("hunter2"));
}

#[tokio::test]
async fn a_role_that_row_level_security_does_not_bind_is_told() {
    let database = TestDatabase::migrated().await;
    let report = Doctor::new().database(database.url("postgres")).run().await;
    report.wrong("postgresql", &["a superuser", "Set database.url to a login that owns nothing"], "");
    let report = Doctor::new().database(database.url(OWNER)).run().await;
    report.wrong("postgresql", &["owns table", "Set database.url to a login that owns nothing"], "");
    let role = database.role("LOGIN BYPASSRLS").await;
    Doctor::new().database(database.url(&role)).run().await.wrong("postgresql", &["BYPASSRLS", "ALTER ROLE"], "");
}

#[tokio::test]
async fn pending_migrations_are_told_and_not_applied() {
    let database = TestDatabase::empty().await;
    let doctor = || Doctor::new().database(database.url(APP)).set("DATABASE__MIGRATE_URL", database.url(OWNER));
    for _ in 0..2 {
        doctor().run().await.wrong("postgresql", &["pending migrations", "nworkflow-state migrate --app-role test_app"], "");
    }
}

#[tokio::test]
async fn the_owners_login_is_told_to_stay_the_owners() {
    let database = TestDatabase::empty().await;
    let report = Doctor::new().database(database.url(OWNER)).run().await;
    report.wrong(
        "postgresql",
        &["pending migrations", OWNER, "set database.migrate_url to this login, and database.url to a login that owns nothing"],
        "",
    );
    assert!(!report.printed.contains("--app-role"), "{}", report.printed);
}

#[tokio::test]
async fn a_grant_that_is_missing_is_named_with_the_statement_that_gives_it() {
    let database = TestDatabase::migrated().await;
    let report = || Doctor::new().database(database.url(APP)).run();
    for (rights, object, says) in [
        ("UPDATE", "session", "lacks UPDATE on table session. Run `GRANT UPDATE ON \"session\" TO \"test_app\"`"),
        ("SELECT, DELETE", "variable", "lacks SELECT, DELETE on table variable. Run `GRANT SELECT, DELETE ON \"variable\" TO"),
        ("SELECT, INSERT, UPDATE, DELETE", "checkpoint", "lacks SELECT, INSERT, UPDATE, DELETE on table checkpoint. Run"),
        ("USAGE", "SEQUENCE change_log_seq", "lacks USAGE on sequence change_log_seq. Run `GRANT USAGE ON SEQUENCE \"change_log_seq\" TO"),
        ("SELECT", "_sqlx_migrations", "lacks SELECT on table _sqlx_migrations. Run `GRANT SELECT ON \"_sqlx_migrations\" TO"),
        ("USAGE", "SCHEMA public", "lacks USAGE on schema public. Run `GRANT USAGE ON SCHEMA \"public\" TO \"test_app\"`"),
    ] {
        // What everybody may, the role need not be granted.
        let from = if object.starts_with("SCHEMA") { format!("{APP}, PUBLIC") } else { APP.to_owned() };
        database.execute(format!("REVOKE {rights} ON {object} FROM {from}")).await;
        report().await.wrong("postgresql", &[says, "as the owner of the tables"], "");
        database.execute(format!("GRANT {rights} ON {object} TO {APP}")).await;
    }
    report().await.well(&["ok     postgresql: answers"]);
    database.execute(format!("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {APP}")).await;
    report().await.wrong("postgresql", &["has no rights on the tables", "nworkflow-state migrate --app-role test_app"], "");
}

#[tokio::test]
async fn parameters_of_the_url_that_nothing_reads_are_told() {
    let database = TestDatabase::migrated().await;
    let url = |parameters: &str| format!("{}{parameters}", database.url(APP));
    let report = Doctor::new().database(url("?ssl_mode=hunter2&options%5Bwork_mem%5D=4MB&application_name=x")).run().await;
    report.wrong(
        "postgresql url",
        &["database.url has the parameter \"ssl_mode\", which nothing reads"],
        "Remove it from database.url, or correct its name: ",
    );
    assert!(!report.printed.contains("hunter2"), "{}", report.printed);
    let report = Doctor::new().database(url("")).set("DATABASE__MIGRATE_URL", format!("{}?foo=bar", database.url(OWNER))).run().await;
    report.wrong("postgresql url", &["database.migrate_url has the parameter \"foo\""], "Remove it");
    Doctor::new().database(url("?sslmode=prefer&options[work_mem]=4MB")).run().await.well(&["ok     postgresql: answers"]);
}

#[tokio::test]
async fn commits_that_a_crash_would_lose_are_told() {
    let database = TestDatabase::migrated().await;
    let role = database.role("LOGIN").await;
    database.execute(format!("ALTER ROLE {role} SET synchronous_commit = off")).await;
    Doctor::new().database(database.url(&role)).run().await.wrong("postgresql", &["synchronous_commit is off", "Set it to on"], "");
}

#[tokio::test]
async fn too_few_connections_are_told() {
    let database = TestDatabase::migrated().await;
    let role = database.role("LOGIN CONNECTION LIMIT 12").await;
    let report = Doctor::new().database(database.url(&role)).run().await;
    report.wrong("postgresql connections", &["may need 20", "CONNECTION LIMIT leaves 12"], "lower database.pool_size");
    let report = Doctor::new().database(database.url(&role)).set("DATABASE__POOL_SIZE", "8").run().await;
    report.well(&["ok     postgresql connections: a server may need 12"]);
}

#[tokio::test]
async fn a_pooler_that_shares_connections_between_transactions_is_told() {
    let database = TestDatabase::migrated().await;
    let pooler = Pooler::start(&server(), APP, database.name()).await;
    let report = Doctor::new().database(format!("postgres://{APP}@{}/{}", pooler.address(), database.name())).run().await;
    report.wrong("postgresql pooler", &["share one process"], "share by session");
}
