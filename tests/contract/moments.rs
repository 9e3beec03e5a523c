//! The state at a moment in the past.

use nworkflow_state::domain::clock::Timestamp;
use nworkflow_state::domain::state::StateAt;
use nworkflow_state::domain::version::Expected;

use super::bench::{Bench, SMALL, applied, state};

fn beside(time: Timestamp, microseconds: i64) -> Timestamp {
    Timestamp::from_microseconds(time.as_microseconds() + microseconds)
}

pub(super) async fn what_was_in_force(bench: &Bench) {
    let (writer, key) = (bench.writer(), state("e"));
    let at = |moment| {
        let (tenant, key) = (&writer.tenant, &key);
        async move { bench.store.get_state_at(tenant, key, moment).await.unwrap() }
    };
    assert_eq!(at(bench.clock.now().plus_seconds(-1)).await, StateAt::Absent);
    let one = bench.put_state(&writer, &key, r#"{"marking":{"p":1}}"#).await;
    bench.clock.advance_seconds(10);
    let two = bench.put_state(&writer, &key, r#"{"marking":{"p":2}}"#).await;
    bench.clock.advance_seconds(10);
    bench.delete_state(&writer, &key).await;
    let deleted_at = Timestamp::from_microseconds(bench.inspector.log(&writer.tenant).await.last().unwrap().at);
    bench.clock.advance_seconds(10);
    let four = bench.put_state(&writer, &key, SMALL).await;
    bench.clock.advance_seconds(10);

    assert_eq!(at(beside(one.updated_at, -1)).await, StateAt::Absent, "before the first");
    for (moment, record) in [
        (one.updated_at, &one),
        (beside(two.updated_at, -1), &one),
        (two.updated_at, &two),
        (beside(deleted_at, -1), &two),
        (four.updated_at, &four),
        (four.updated_at.plus_seconds(9), &four),
    ] {
        assert_eq!(at(moment).await, StateAt::Live(record.clone()), "{moment}: inclusive");
    }
    assert_eq!(at(deleted_at).await, StateAt::Absent, "deleted");
    assert_eq!(at(beside(four.updated_at, -1)).await, StateAt::Absent, "still deleted");
    assert_eq!(at(bench.clock.now().plus_seconds(60)).await, StateAt::Future);
    assert_eq!(at(Timestamp::from_microseconds(i64::MAX)).await, StateAt::Future);
    assert_eq!(at(Timestamp::from_microseconds(0)).await, StateAt::Absent);
    let strange = bench.store.get_state_at(&bench.writer().tenant, &key, four.updated_at).await.unwrap();
    assert_eq!(strange, StateAt::Absent, "another tenant's");

    let middle = bench.clock.now();
    bench.clock.advance_seconds(10);
    applied(bench.store.delete_execution(&writer, &key, Expected::Any).await.unwrap());
    for moment in [one.updated_at, two.updated_at, four.updated_at, middle] {
        assert_eq!(at(moment).await, StateAt::Absent, "a removed execution has no past");
    }
}

pub(super) async fn among_many_versions(bench: &Bench) {
    let writer = bench.writer();
    // The second begins far above 1: between zero and its first version there is none.
    for (name, floor, versions) in [("low", 0, 100), ("high", 1_000_000_000_000, 20)] {
        let key = state(name);
        if floor > 0 {
            bench.inspector.raise_version_floor(&writer.tenant, floor).await;
        }
        let mut records = Vec::new();
        for number in 0..versions {
            records.push(bench.put_state(&writer, &key, &format!(r#"{{"marking":{{"p":{number}}}}}"#)).await);
        }
        assert_eq!(records[0].version.get(), floor + 1);
        bench.clock.advance_seconds(1);
        let at = async |moment| bench.store.get_state_at(&writer.tenant, &key, moment).await.unwrap();
        for (index, record) in records.iter().enumerate() {
            assert_eq!(at(record.updated_at).await, StateAt::Live(record.clone()));
            let before = index.checked_sub(1).map_or(StateAt::Absent, |index| StateAt::Live(records[index].clone()));
            assert_eq!(at(beside(record.updated_at, -1)).await, before);
        }
    }
}
