//! Tenants share tables and connections, and see nothing of each other.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use nworkflow_state::config::{DatabaseConfig, Milliseconds};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::variable::Scope;
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{Lookup, Outcome, Store, VariableQuery};
use sqlx::{AssertSqlSafe, Executor as _};

use super::{TABLES, context, tenant, variable, variable_key};
use crate::support::postgres::{APP, TestDatabase, open};

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
