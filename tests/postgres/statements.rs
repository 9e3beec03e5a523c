//! What single statements do: their indexes, and what they make of rows.

use std::time::Duration;

use nworkflow_state::config::DatabaseConfig;
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::state::Operation;
use nworkflow_state::domain::variable::{Expiry, Scope, VariableDocument};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::store::{HistoryQuery, Lookup, Store, StoreError, VariableQuery, WriteContext};
use sqlx::AssertSqlSafe;

use super::{context, document, keyed, put_state, state_key, tenant, variable, variable_key};
use crate::support::postgres::{TestDatabase, open};

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
