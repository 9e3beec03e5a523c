//! A group whose connection, commit or observer fails: each of its callers hears what is true of his write.

use super::*;
use crate::support::proxy::Fault;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_looked_up_for_all() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let (proxy, store) = behind_proxy(&database, &ear).await;
    let acme = context("acme");
    for (round, fault) in (1..).zip([Fault::AfterCommit, Fault::BeforeCommit, Fault::AfterCommit, Fault::BeforeCommit]) {
        proxy.arm(fault);
        assert_eq!(versions(put_all(&store, &acme, &NAMES).await), [round; 5], "{fault:?}");
        assert!(!proxy.is_armed(), "the connection did not break");
        let calls = ear.calls();
        let count = |kind| calls.iter().filter(|(call, _)| *call == kind).map(|(_, words)| words.len()).sum::<usize>();
        let again = if fault == Fault::BeforeCommit { count("rolled back") } else { 0 };
        assert_eq!((count("before"), count("committed")), (5 + again, 5), "{calls:?}");
        assert!(fault == Fault::AfterCommit || again > 0, "{calls:?}");
    }
    for name in NAMES {
        assert_dense(&database, name, 4).await;
    }
    // No false failure of preconditions, and one that is true.
    proxy.arm(Fault::AfterCommit);
    let outcomes =
        join_all([put(&store, &acme, "a", exactly(4)), put(&store, &acme, "b", exactly(3)), put(&store, &acme, "f", Expected::Absent)])
            .await;
    let [a, b, f] = outcomes.try_into().unwrap();
    assert_eq!((version(a), version(f)), (Ok(5), Ok(1)));
    assert_eq!(b.unwrap(), Outcome::Refused { current: Version::new(4) });
    store.close().await;
}

#[tokio::test]
async fn a_commit_that_nobody_can_look_up_is_unknown_to_all() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let (proxy, store) = behind_proxy(&database, &ear).await;
    let acme = context("acme");
    versions(put_all(&store, &acme, &NAMES).await);
    ear.calls();
    database.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC").await;
    proxy.arm(Fault::AfterCommit);
    let outcomes = put_all(&store, &acme, &NAMES).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::OutcomeUnknown(_)))), "{outcomes:?}");
    assert_eq!(ear.told("committed").len(), 5, "a cache must forget them");
    assert_eq!(versions(put_all(&store, &acme, &NAMES).await), [3; 5]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_told_to_all() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let (mut proxy, store) = behind_proxy(&database, &ear).await;
    let acme = context("acme");
    versions(put_all(&store, &acme, &NAMES).await);
    proxy.stop().await;
    let outcomes = put_all(&store, &acme, &NAMES).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::Unavailable(_)))), "{outcomes:?}");
    proxy.restart().await;
    assert_eq!(versions(put_all(&store, &acme, &NAMES).await), [2; 5]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_end_under_way_lose_nothing() {
    let database = TestDatabase::migrated().await;
    let store = open(&database.config(), &Arc::default()).await;
    let acme = context("acme");
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'test_app'";
    let mut told = 0;
    for round in 0..20_u128 {
        let writers = (0..30_u128).map(|writer| {
            let (store, context) = (&store, keyed(&acme, 1 + round * 30 + writer, 1));
            async move {
                let name = NAMES[usize::try_from(writer).unwrap() % NAMES.len()];
                // What a client does that is told to come again.
                for told in 0..100 {
                    match put(store, &context, name, Expected::Any).await {
                        Ok(Outcome::Applied { .. } | Outcome::Replayed(_)) => return told,
                        Err(StoreError::Unavailable(_) | StoreError::Contended(_) | StoreError::OutcomeUnknown(_)) => {}
                        other => panic!("{other:?}"),
                    }
                }
                panic!("a writer was told to come again 100 times");
            }
        });
        let (counts, ()) = tokio::join!(join_all(writers), database.execute(end));
        told += counts.iter().sum::<i32>();
    }
    for name in NAMES {
        assert_dense(&database, name, 120).await;
    }
    assert!(told < 600, "{told} times a client was told to come again");
    store.close().await;
}

#[tokio::test]
async fn an_observer_that_objects_is_heard_for_all() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let store = open(&one_lane(database.config()), &ear).await;
    let acme = context("acme");
    ear.be(Mood::Object);
    let outcomes = put_all(&store, &acme, &NAMES).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::Refused(_)))), "{outcomes:?}");
    assert_eq!(ear.calls().iter().map(|(call, words)| (*call, words.len())).collect::<Vec<_>>(), [("before", 5), ("rolled back", 5)]);
    ear.be(Mood::Consent);
    assert_eq!(versions(put_all(&store, &acme, &NAMES).await), [1; 5], "nothing was written");
    store.close().await;
}

#[tokio::test]
async fn a_panic_reaches_its_callers_and_nobody_else() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let store = open(&one_lane(database.config()), &ear).await;
    let acme = context("acme");
    ear.be(Mood::Panic);
    let outcomes = put_all(&store, &acme, &NAMES).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(StoreError::OutcomeUnknown(_)))), "{outcomes:?}");
    assert_eq!(ear.told("committed").len(), 5, "nobody knows, so a cache must forget them");
    ear.be(Mood::Consent);
    assert_eq!(versions(put_all(&store, &acme, &NAMES).await), [1; 5], "the same keys in the same lane");
    store.close().await;
}
