//! A database that goes away, comes back, or keeps its answer to itself.

use std::net::ToSocketAddrs as _;
use std::sync::Arc;

use futures_util::future::join_all;
use nworkflow_state::config::{DatabaseConfig, Milliseconds};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::NoObserver;
use nworkflow_state::domain::state::Operation;
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::postgres::{OpenMode, PostgresStore};
use nworkflow_state::store::{Lookup, Outcome, Store, StoreError};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use super::{context, document, put_state, state_key, tenant, variable_key};
use crate::support::postgres::{APP, TestDatabase, config_of, open, server};
use crate::support::proxy::{Fault, Proxy};

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
