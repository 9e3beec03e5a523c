//! Saving, reading and deleting states.

use nworkflow_state::domain::id::{ExecutionId, UserId, WorkflowId};
use nworkflow_state::domain::state::{Operation, StateKey};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{Lookup, StoreError, WriteContext};

use super::bench::{Bench, SMALL, applied, document, live, state, version};

pub(super) async fn versions_grow_over_deletion(bench: &Bench) {
    let (writer, key) = (bench.writer(), state("e"));
    assert_eq!(bench.state(&writer, &key).await, Lookup::Absent);

    let first = document(r#"{"marking":{"a":1},"status":"waiting","metadata":{"n":1},"schema_version":7}"#);
    let (created, one) = applied(bench.store.put_state(&writer, &key, Expected::Any, &first, Operation::Put).await.unwrap());
    assert!(created);
    assert_eq!((one.version, &one.key, &one.document, one.updated_by.as_str()), (version(1), &key, &first, "f:1:ada"));
    assert_eq!((one.created_at, one.forked_from.clone()), (one.updated_at, None));
    assert_eq!(bench.state(&writer, &key).await, Lookup::Live(one.clone()));

    let second = document(r#"{"marking":{"b":1}}"#);
    let grace = WriteContext { actor: UserId::parse("grace").unwrap(), ..writer.clone() };
    let (created, two) = applied(bench.store.put_state(&grace, &key, Expected::Any, &second, Operation::Put).await.unwrap());
    assert!(!created);
    assert_eq!((two.version, &two.document, two.updated_by.as_str()), (version(2), &second, "grace"));
    assert_eq!(two.created_at, one.created_at);
    assert!(two.updated_at > one.updated_at);
    assert_eq!(bench.state(&writer, &key).await, Lookup::Live(two.clone()));

    assert_eq!(bench.delete_state(&writer, &key).await, version(3));
    assert_eq!(bench.state(&writer, &key).await, Lookup::Gone(version(3)));

    let (created, four) = applied(bench.store.put_state(&writer, &key, Expected::Any, &first, Operation::Put).await.unwrap());
    assert!(created, "a new life");
    assert_eq!(four.version, version(4));
    assert_eq!(four.created_at, four.updated_at);
    assert!(four.created_at > two.updated_at);
    assert_eq!(bench.state(&writer, &key).await, Lookup::Live(four));
    bench.store.ping().await.unwrap();
}

pub(super) async fn times_grow_against_the_clock(bench: &Bench) {
    let (writer, key) = (bench.writer(), state("e"));
    let one = bench.put_state(&writer, &key, SMALL).await;
    bench.clock.advance_seconds(-3600);
    let two = bench.put_state(&writer, &key, SMALL).await;
    assert_eq!(two.updated_at.as_microseconds(), one.updated_at.as_microseconds() + 1);
    assert_eq!(two.created_at, one.created_at);
    bench.delete_state(&writer, &key).await;
    bench.clock.advance_seconds(-3600);
    let four = bench.put_state(&writer, &key, SMALL).await;
    assert_eq!(four.updated_at.as_microseconds(), two.updated_at.as_microseconds() + 2);
    assert_eq!(four.created_at, four.updated_at, "a new life begins when its first version was written");
    bench.clock.advance_seconds(3 * 3600);
    let five = bench.put_state(&writer, &key, SMALL).await;
    assert!(five.updated_at >= four.updated_at.plus_seconds(3000), "the clock leads again");
    assert_eq!(live(bench.state(&writer, &key).await), five);
}

/// Documents that a reader who parses and prints again would change.
pub(super) const ODD: &[&str] = &[
    "{\"p\" :\t1 ,\n \"q\":[ ]}",
    r#"{"z":1,"a":2,"m":3}"#,
    r#"{"p":["\u0041\u00e9\ud83e\udd80","é🦀",""]}"#,
    r#"{"p":[1E2,-0,0.10,1e-7,9007199254740993,18446744073709551615,1.0]}"#,
    r#"{"größe/~ \"x\"":[{"b":null,"a":[true,{}]}]}"#,
];

pub(super) async fn bytes_are_kept(bench: &Bench) {
    let writer = bench.writer();
    for (number, odd) in ODD.iter().enumerate() {
        let key = state(&format!("e{number}"));
        let sent = document(&format!(r#"{{"metadata": {odd},"marking":{odd}}}"#));
        let (_, answered) = applied(bench.store.put_state(&writer, &key, Expected::Any, &sent, Operation::Put).await.unwrap());
        let read = live(bench.state(&writer, &key).await);
        let kept = bench.store.get_state_version(&writer.tenant, &key, version(1)).await.unwrap().unwrap();
        for record in [&answered, &read, &kept] {
            assert_eq!((record.document.parts().marking, record.document.parts().metadata), (*odd, *odd));
            assert_eq!(record.document.text(), sent.text());
        }
    }
}

pub(super) async fn the_largest_state(bench: &Bench) {
    const BYTES: usize = 8 * 1024 * 1024;
    let (writer, key) = (bench.writer(), state("e"));
    let filler = "x".repeat(BYTES - r#"{"marking":{"p":[""]}}"#.len());
    let body = format!(r#"{{"marking":{{"p":["{filler}"]}}}}"#);
    assert_eq!(body.len(), BYTES);
    let saved = bench.put_state(&writer, &key, &body).await;
    assert_eq!(live(bench.state(&writer, &key).await), saved);
    assert_eq!(saved.document.text().len(), document(&body).text().len());
}

pub(super) async fn the_longest_ids(bench: &Bench) {
    let writer = WriteContext { actor: UserId::parse(&format!("{}abc", "\u{1F980}".repeat(63))).unwrap(), ..bench.writer() };
    assert_eq!(writer.actor.as_str().len(), 255);
    let long = |last: &str| format!("{}{last}", "w".repeat(127));
    let key = |workflow: &str, execution: &str| StateKey {
        workflow: WorkflowId::parse(&long(workflow)).unwrap(),
        execution: ExecutionId::parse(&long(execution)).unwrap(),
    };
    for (number, key) in [key("a", "a"), key("a", "b"), key("b", "a")].iter().enumerate() {
        let saved = bench.put_state(&writer, key, &format!(r#"{{"marking":{{"p":{number}}}}}"#)).await;
        assert_eq!((saved.version, saved.updated_by.as_str()), (version(1), writer.actor.as_str()));
        assert_eq!(live(bench.state(&writer, key).await), saved);
    }
}

pub(super) async fn a_closed_store_fails(bench: &Bench) {
    let (writer, key) = (bench.writer(), state("e"));
    let document = document(SMALL);
    let waiting = (0..20).map(|_| bench.store.put_state(&writer, &key, Expected::Any, &document, Operation::Put));
    let (outcomes, ()) = futures_util::future::join(futures_util::future::join_all(waiting), bench.store.close()).await;
    for outcome in outcomes {
        assert!(outcome.is_ok() || matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    }
    assert!(matches!(bench.store.ping().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(bench.store.get_state(&writer.tenant, &key).await, Err(StoreError::Unavailable(_))));
    let write = bench.store.put_state(&writer, &key, Expected::Any, &document, Operation::Put).await;
    assert!(matches!(write, Err(StoreError::Unavailable(_))), "{write:?}");
    assert!(!bench.store.backend().as_str().is_empty());
}
