//! One key, one row of a group; the queue, its limits and its end.

use std::future::Future as _;
use std::task::Poll;

use super::*;
use crate::postgres_memory::{checkpoint, new_checkpoint};
use nworkflow_state::store::Lookup;
use sqlx::Executor as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_one_key_follow_each_other() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let store = open(&database.config(), &ear).await;
    let acme = context("acme");
    let mut found = versions(put_all(&store, &acme, &["e"; 60]).await);
    assert!(found.is_sorted(), "in the order of their arrival: {found:?}");
    found.sort_unstable();
    assert_eq!(found, (1..=60).collect::<Vec<_>>());
    assert_dense(&database, "e", 60).await;
    assert_eq!(written(&store), (60, 60));
    // Of many that expect the same version, one is right.
    let outcomes = join_all((0..40).map(|_| put(&store, &acme, "e", exactly(60)))).await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Applied { .. }))).count(), 1);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_dense(&database, "e", 61).await;
    store.close().await;
}

#[tokio::test]
async fn an_idempotency_key_in_parallel_has_one_effect() {
    let database = TestDatabase::migrated().await;
    for lanes in [1, 8] {
        let store = open(&DatabaseConfig { lanes, ..database.config() }, &Arc::default()).await;
        let acme = context("acme");
        let key = keyed(&acme, lanes as u128, 1);
        // The same request: the same answer.
        let same = format!("same{lanes}");
        let outcomes = join_all((0..20).map(|_| put(&store, &key, &same, Expected::Any))).await;
        let mut created = 0;
        for outcome in outcomes {
            match outcome.unwrap() {
                Outcome::Applied { record, .. } => created += record.version.get(),
                Outcome::Replayed(replay) => assert_eq!((replay.status, replay.record.unwrap().version.get()), (201, 1)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(created, 1, "written once");
        // Under one key with other states, which may lie in other lanes: one is written, and nothing else.
        let key = keyed(&acme, 1000 + lanes as u128, 1);
        let names: Vec<String> = (0..20).map(|number| format!("{lanes}-{number}")).collect();
        let outcomes = join_all(names.iter().map(|name| put(&store, &key, name, Expected::Any))).await;
        assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Applied { .. }))).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        let made = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM execution_state WHERE execution_id LIKE $1 || '-%'");
        assert_eq!(made.bind(lanes.to_string()).fetch_one(&mut database.superuser().await).await.unwrap(), 1);
        store.close().await;
    }
}

/// Holds the row of a state until the connection's transaction ends.
async fn hold(database: &TestDatabase, execution: &str) -> sqlx::PgConnection {
    let mut other = database.superuser().await;
    let lock = format!("BEGIN; SELECT FROM execution_state WHERE execution_id = '{execution}' FOR UPDATE");
    other.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
    other
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig { queue_capacity: 4, statement_timeout_ms: Milliseconds(30_000), ..one_lane(database.config()) };
    let store = open(&config, &Arc::default()).await;
    let acme = context("acme");
    versions(put_all(&store, &acme, &["hot"]).await);
    let mut other = hold(&database, "hot").await;
    let waiting = put_all(&store, &acme, &["hot"; 5]);
    let others = async {
        wait_for_locks(&database, 1).await;
        wait_for_queue(&store, 3).await;
        // One more has room, the next one has not.
        let last = put_all(&store, &acme, &["hot"]);
        let refused = async {
            wait_for_queue(&store, 4).await;
            for outcome in put_all(&store, &acme, &["hot", "cold"]).await {
                assert!(matches!(outcome, Err(StoreError::Full)), "{outcome:?}");
            }
            // The queues of other kinds have room.
            assert!(matches!(store.get_state(&acme.tenant, &state("hot")).await, Ok(Lookup::Live(_))));
            other.execute("ROLLBACK").await.unwrap();
        };
        tokio::join!(last, refused).0
    };
    let (first, last) = tokio::join!(biased; waiting, others);
    // Five came at once for four places.
    let refused = first.iter().filter(|outcome| matches!(outcome, Err(StoreError::Full))).count();
    assert_eq!(refused, 1, "{first:?}");
    let mut found: Vec<i64> = first.into_iter().chain(last).filter_map(|outcome| version(outcome).ok()).collect();
    found.sort_unstable();
    assert_eq!(found, [2, 3, 4, 5, 6]);
    assert_eq!(store.figures().queue_depth, 0);
    assert_eq!(versions(put_all(&store, &acme, &["hot", "cold", "mild"]).await), [7, 1, 1]);
    store.close().await;
}

#[tokio::test]
async fn a_locked_row_delays_its_own_writes_only_and_their_wait_has_an_end() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig {
        queue_timeout_ms: Milliseconds(300),
        lock_timeout_ms: Milliseconds(10_000),
        statement_timeout_ms: Milliseconds(30_000),
        ..one_lane(database.config())
    };
    let store = open(&config, &Arc::default()).await;
    let acme = context("acme");
    versions(put_all(&store, &acme, &["hot", "cold"]).await);
    let mut other = hold(&database, "hot").await;
    let first = put(&store, &acme, "hot", Expected::Any);
    let others = async {
        wait_for_locks(&database, 1).await;
        // In its lane, and beside it.
        for round in 2..10 {
            assert_eq!(version(put(&store, &acme, "cold", Expected::Any).await), Ok(round));
        }
        for outcome in put_all(&store, &acme, &["hot"; 10]).await {
            assert!(matches!(outcome, Err(StoreError::Contended(_))), "{outcome:?}");
        }
        other.execute("ROLLBACK").await.unwrap();
    };
    let (written, ()) = tokio::join!(biased; first, others);
    assert_eq!(version(written), Ok(2));
    assert_eq!(version(put(&store, &acme, "hot", Expected::Any).await), Ok(3), "those that were refused have written nothing");
    store.close().await;
}

#[tokio::test]
async fn a_row_that_stays_locked_fails_alone() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig { lock_timeout_ms: Milliseconds(200), ..one_lane(database.config()) };
    let store = open(&config, &Arc::default()).await;
    let acme = context("acme");
    versions(put_all(&store, &acme, &["a", "hot", "z"]).await);
    let mut other = hold(&database, "hot").await;
    let outcomes = put_all(&store, &acme, &["a", "hot", "z"]).await;
    other.execute("ROLLBACK").await.unwrap();
    let [a, hot, z] = outcomes.try_into().unwrap();
    assert!(matches!(hot, Err(StoreError::Contended(_))), "{hot:?}");
    assert_eq!((version(a), version(z)), (Ok(2), Ok(2)));
    store.close().await;
}

#[tokio::test]
async fn a_write_happens_without_its_caller() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let store = open(&database.config(), &ear).await;
    let acme = context("acme");
    for number in 0..20 {
        let name = format!("e{number}");
        let mut write = Box::pin(put(&store, &acme, &name, Expected::Any));
        // Queued, and given up.
        let polled = std::future::poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
        assert!(polled.is_pending());
    }
    // Comes after them in each lane, or beside them.
    for number in 0..20 {
        let name = format!("e{number}");
        assert_eq!(version(put(&store, &acme, &name, Expected::Any).await), Ok(2), "{name}");
    }
    store.close().await;
    assert_eq!(ear.told("committed").len(), 40);
}

#[tokio::test]
async fn the_end_waits_for_what_is_queued() {
    let database = TestDatabase::migrated().await;
    let store = open(&database.config(), &Arc::default()).await;
    let acme = context("acme");
    let names: Vec<String> = (0..600).map(|number| format!("e{}", number % 500)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (outcomes, ()) = tokio::join!(biased; put_all(&store, &acme, &names), store.close());
    assert_eq!(versions(outcomes).iter().sum::<i64>(), 400 + 100 * (1 + 2));
    let figures = store.figures();
    assert_eq!((figures.rows, figures.queue_depth, figures.connections), (600, 0, 0));
    let late = put(&store, &acme, "late", Expected::Any).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    let late = store.get_state(&acme.tenant, &state("e1")).await;
    assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    store.close().await;
}

#[tokio::test]
async fn lanes_end_with_their_store() {
    let database = TestDatabase::migrated().await;
    let lifecycle = Lifecycle::new();
    let ear = Arc::new(Ear::default());
    let observer = Arc::clone(&ear) as Arc<dyn CommitObserver>;
    let store = PostgresStore::open(&database.config(), Clock::new(), OpenMode::Serve, &lifecycle, observer).await.unwrap();
    let acme = context("acme");
    let mut write = Box::pin(put(&store, &acme, "e", Expected::Any));
    assert!(std::future::poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await.is_pending());
    drop(write);
    drop(store);
    lifecycle.finished().await;
    assert_eq!(ear.told("committed"), ["acme e 1"], "what was queued is written all the same");
}

#[tokio::test]
async fn groups_leave_connections_to_others() {
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig {
        pool_size: 4,
        lock_timeout_ms: Milliseconds(60_000),
        statement_timeout_ms: Milliseconds(60_000),
        ..one_lane(database.config())
    };
    let store = open(&config, &Arc::default()).await;
    let tenants: Vec<WriteContext> = (0..12).map(|number| context(&format!("tenant{number}"))).collect();
    let mut other = database.superuser().await;
    other.execute("BEGIN; LOCK TABLE execution_state").await.unwrap();
    let writing = join_all(tenants.iter().map(|tenant| put(&store, tenant, "e", Expected::Any)));
    let reading = join_all(tenants.iter().map(|tenant| async { store.get_state(&tenant.tenant, &state("e")).await }));
    let others = async {
        wait_for_locks(&database, 3).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(wait_for_locks(&database, 3).await, 3, "three quarters of the pool");
        let context = context("one-more");
        store.create_checkpoint(&context, &checkpoint("e", "c"), &new_checkpoint(false)).await.map(drop)
    };
    let (written, found, checkpointed) = tokio::join!(biased; writing, reading, async {
        let blocked = tokio::join!(biased; others, async {
            // The fourth connection is free for what is no group, which then waits for the same lock.
            wait_for_locks(&database, 4).await;
            other.execute("ROLLBACK").await.unwrap();
        });
        blocked.0
    });
    checkpointed.unwrap();
    assert_eq!(versions(written), [1; 12]);
    assert!(found.into_iter().all(|found| found.is_ok()));
    store.close().await;
}
