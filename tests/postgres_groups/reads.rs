//! Reads that are asked at the same moment share a statement.

use super::*;
use nworkflow_state::store::Lookup;

#[tokio::test]
async fn reads_that_wait_share_a_statement() {
    let database = TestDatabase::migrated().await;
    let store = open(&database.config(), &Arc::default()).await;
    let acme = context("acme");
    let names: Vec<String> = (0..100).map(|number| format!("e{number}")).collect();
    let keys: Vec<_> = names.iter().map(|name| state(name)).collect();
    versions(put_all(&store, &acme, &names.iter().take(80).map(String::as_str).collect::<Vec<_>>()).await);
    for key in &keys[60..80] {
        store.delete_state(&acme, key, Expected::Any).await.unwrap();
    }
    let found = join_all(keys.iter().map(|key| store.get_state(&acme.tenant, key))).await;
    for (number, (found, key)) in found.into_iter().zip(&keys).enumerate() {
        match found.unwrap() {
            Lookup::Live(record) => assert!(number < 60 && record.key == *key && record.version.get() == 1, "{number}"),
            Lookup::Gone(version) => assert!((60..80).contains(&number) && version.get() == 2, "{number}"),
            Lookup::Absent => assert!(number >= 80, "{number}"),
        }
    }
    // Reads are rolled back, and nothing else was. The server's sessions have told their counts once they have ended.
    store.close().await;
    let mut superuser = database.superuser().await;
    let counts = "SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1),
                         (SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database())";
    for _ in 0..500 {
        let (sessions, transactions): (i64, i64) = sqlx::query_as(counts).bind(APP).fetch_one(&mut superuser).await.unwrap();
        if sessions == 0 && transactions > 0 {
            assert!(transactions <= 20, "{transactions} transactions for 100 reads");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the counts do not come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_sees_what_was_written_before_it_was_asked() {
    let database = TestDatabase::migrated().await;
    let store = Arc::new(open(&database.config(), &Arc::default()).await);
    let acme = context("acme");
    let lifecycle = Lifecycle::new();
    let tasks = (0..16).map(|task| {
        let (store, acme) = (Arc::clone(&store), acme.clone());
        lifecycle.spawn(async move {
            let (own, shared) = (format!("own{task}"), format!("shared{}", task % 2));
            let mut seen = 0;
            for round in 1..=40 {
                assert_eq!(version(put(&store, &acme, &own, Expected::Any).await), Ok(round));
                let written = version(put(&store, &acme, &shared, Expected::Any).await).unwrap();
                let found = store.get_state(&acme.tenant, &state(&own)).await.unwrap().live().unwrap();
                assert_eq!(found.version.get(), round, "its own write");
                let found = store.get_state(&acme.tenant, &state(&shared)).await.unwrap().live().unwrap().version.get();
                assert!(found >= written && found >= seen, "{found} after {written} and {seen}");
                seen = found;
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    store.close().await;
}

#[tokio::test]
async fn a_row_that_is_corrupt_fails_alone() {
    let database = TestDatabase::migrated().await;
    let store = open(&one_lane(database.config()), &Arc::default()).await;
    let acme = context("acme");
    versions(put_all(&store, &acme, &["a", "b", "c"]).await);
    database.execute("DELETE FROM state_version v USING execution_state x WHERE x.state_id = v.state_id AND x.execution_id = 'b'").await;
    let keys = ["a", "b", "c"].map(state);
    let found = join_all(keys.iter().map(|key| store.get_state(&acme.tenant, key))).await;
    assert!(matches!(&found[..], [Ok(Lookup::Live(_)), Err(StoreError::Corrupt { .. }), Ok(Lookup::Live(_))]), "{found:?}");
    // Tenants share no statement, and no rows.
    let other = context("other");
    assert_eq!(store.get_state(&other.tenant, &keys[0]).await.unwrap(), Lookup::Absent);
    store.close().await;
}
