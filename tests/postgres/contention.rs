//! Writers that want the same row, the same key, or the last connection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use nworkflow_state::config::{DatabaseConfig, Milliseconds};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::NoObserver;
use nworkflow_state::domain::state::Operation;
use nworkflow_state::domain::variable::Number;
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::postgres::{OpenMode, PostgresStore};
use nworkflow_state::store::{IncrementOutcome, Outcome, Store, StoreError};
use sqlx::{AssertSqlSafe, Executor as _};

use super::{context, document, keyed, put_state, state_key, tenant, variable, variable_key};
use crate::support::postgres::{APP, TestDatabase, open};

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

/// Increments of one counter are transactions of their own. They wait for each other without a lock, so all of them have their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_counter_refuses_nobody() {
    const INCREMENTS: i64 = 150;
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig { lock_timeout_ms: Milliseconds(50), queue_timeout_ms: Milliseconds(60_000), ..database.config() };
    let store = open(&config, Clock::new()).await.unwrap();
    let (context, counter) = (context(&tenant("acme")), variable_key("counter"));
    let increments = (0..INCREMENTS).map(|_| store.increment_variable(&context, &counter, None, Expected::Any, Number::Integer(1)));
    for outcome in join_all(increments).await {
        assert!(matches!(outcome, Ok(IncrementOutcome::Done(Outcome::Applied { .. }))), "{outcome:?}");
    }
    let record = store.get_variable(&tenant("acme"), &counter, None).await.unwrap().live().unwrap();
    assert_eq!(&*record.value, INCREMENTS.to_string());
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
        pool_wait_ms: Milliseconds(1000),
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
        pool_wait_ms: Milliseconds(1000),
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
