//! Reading the versions of a state.

use nworkflow_state::domain::id::UserId;
use nworkflow_state::domain::page::Page;
use nworkflow_state::domain::state::{HistoryItem, Operation, StateKey};
use nworkflow_state::domain::version::Version;
use nworkflow_state::store::{HistoryQuery, WriteContext};

use super::bench::{Bench, SMALL, state, version};

/// Two lives: versions 1 to 3, the tombstone 4, and 5.
async fn two_lives(bench: &Bench, writer: &WriteContext, key: &StateKey) {
    for number in 1..=3 {
        bench.put_state(writer, key, &format!(r#"{{"marking":{{"p":{number}}},"status":"waiting"}}"#)).await;
    }
    let grace = WriteContext { actor: UserId::parse("grace").unwrap(), ..writer.clone() };
    assert_eq!(bench.delete_state(&grace, key).await, version(4));
    bench.put_state(writer, key, SMALL).await;
}

async fn history(
    bench: &Bench,
    writer: &WriteContext,
    key: &StateKey,
    ascending: bool,
    after: Option<i64>,
    limit: usize,
) -> Page<HistoryItem> {
    let query = HistoryQuery { ascending, after: after.map(version), limit };
    bench.store.state_history(&writer.tenant, key, query).await.unwrap().expect("a history")
}

fn versions(page: &Page<HistoryItem>) -> Vec<i64> {
    page.items.iter().map(|item| item.version.get()).collect()
}

pub(super) async fn versions_are_read_one_by_one(bench: &Bench) {
    let (writer, key) = (bench.writer(), state("e"));
    assert_eq!(bench.store.get_state_version(&writer.tenant, &key, version(1)).await.unwrap(), None, "before anything was written");
    let one = bench.put_state(&writer, &key, r#"{"marking":{"p":1}}"#).await;
    let two = bench.put_state(&writer, &key, r#"{"marking":{"p":2},"status":"done"}"#).await;
    let get = |number: i64| {
        let (writer, key) = (&writer, &key);
        async move { bench.store.get_state_version(&writer.tenant, key, version(number)).await.unwrap() }
    };
    assert_eq!(get(1).await.as_ref(), Some(&one));
    assert_eq!(get(2).await.as_ref(), Some(&two));
    assert_eq!(get(3).await, None, "never written");
    assert_eq!(get(Version::MAX).await, None);
    bench.delete_state(&writer, &key).await;
    assert_eq!(get(1).await.as_ref(), Some(&one), "of a deleted execution too");
    assert_eq!(get(3).await, None, "a deletion");
    let four = bench.put_state(&writer, &key, SMALL).await;
    assert_eq!(get(4).await.as_ref(), Some(&four));
    assert_eq!(get(2).await.as_ref(), Some(&two), "of the life before");
}

pub(super) async fn pages_in_both_directions(bench: &Bench) {
    let (writer, key) = (bench.writer(), state("e"));
    two_lives(bench, &writer, &key).await;

    let all = history(bench, &writer, &key, false, None, 10).await;
    assert_eq!((versions(&all), all.more), (vec![5, 4, 3, 2, 1], false));
    let size = |body: &str| i64::try_from(super::bench::document(body).text().len()).unwrap();
    let shown: Vec<_> = all.items.iter().map(|item| (item.operation, item.by.as_str(), item.status.as_str(), item.size)).collect();
    let waiting = size(r#"{"marking":{"p":1},"status":"waiting"}"#);
    assert_eq!(
        shown,
        [
            (Operation::Put, "f:1:ada", "running", size(SMALL)),
            (Operation::Delete, "grace", "waiting", 0),
            (Operation::Put, "f:1:ada", "waiting", waiting),
            (Operation::Put, "f:1:ada", "waiting", waiting),
            (Operation::Put, "f:1:ada", "waiting", waiting),
        ]
    );
    assert!(all.items.iter().all(|item| item.transition.is_none() && item.checkpoint.is_none()));
    assert!(all.items.windows(2).all(|pair| pair[0].at > pair[1].at));

    let mut reversed = all.clone();
    reversed.items.reverse();
    assert_eq!(history(bench, &writer, &key, true, None, 10).await, reversed);

    for (ascending, after, limit, expected, more) in [
        (false, None, 2, vec![5, 4], true),
        (false, Some(4), 2, vec![3, 2], true),
        (false, Some(2), 2, vec![1], false),
        (false, Some(2), 1, vec![1], false),
        (false, None, 5, vec![5, 4, 3, 2, 1], false),
        (false, Some(1), 2, vec![], false),
        (false, Some(100), 1, vec![5], true),
        (true, None, 3, vec![1, 2, 3], true),
        (true, Some(3), 3, vec![4, 5], false),
        (true, Some(5), 3, vec![], false),
    ] {
        let page = history(bench, &writer, &key, ascending, after, limit).await;
        assert_eq!((versions(&page), page.more), (expected, more), "ascending {ascending}, after {after:?}, limit {limit}");
    }

    bench.delete_state(&writer, &key).await;
    let after_delete = history(bench, &writer, &key, false, None, 2).await;
    assert_eq!((versions(&after_delete), after_delete.items[0].operation), (vec![6, 5], Operation::Delete));
}

pub(super) async fn nothing_where_nothing_was(bench: &Bench) {
    let writer = bench.writer();
    bench.put_state(&writer, &state("e"), SMALL).await;
    for after in [None, Some(version(1))] {
        let query = HistoryQuery { ascending: false, after, limit: 10 };
        assert_eq!(bench.store.state_history(&writer.tenant, &state("other"), query).await.unwrap(), None);
    }
}
