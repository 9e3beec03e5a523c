//! Many writers at once.

use futures_util::future::join_all;
use nworkflow_state::domain::state::Operation;
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{HistoryQuery, Lookup, Outcome};

use super::bench::{Bench, Kind, SMALL, applied, document, state, version};

const WRITERS: i64 = 100;

pub(super) async fn unconditional_writers_leave_no_gap(bench: &Bench) {
    let (writer, key) = (bench.writer(), state("e"));
    let bodies: Vec<_> = (1..=WRITERS).map(|number| document(&format!(r#"{{"marking":{{"p":{number}}}}}"#))).collect();
    let outcomes = join_all(bodies.iter().map(|body| bench.store.put_state(&writer, &key, Expected::Any, body, Operation::Put))).await;
    let mut records: Vec<_> = outcomes.into_iter().map(|outcome| applied(outcome.unwrap())).collect();
    records.sort_by_key(|(_, record)| record.version);
    let numbers: Vec<i64> = records.iter().map(|(_, record)| record.version.get()).collect();
    assert_eq!(numbers, (1..=WRITERS).collect::<Vec<_>>());
    assert_eq!(records.iter().filter(|(created, _)| *created).count(), 1);
    assert!(records[0].0, "the first one created");
    assert!(records.windows(2).all(|pair| pair[0].1.updated_at < pair[1].1.updated_at), "times grow with versions");

    let query = HistoryQuery { ascending: true, after: None, limit: 1000 };
    let history = bench.store.state_history(&writer.tenant, &key, query).await.unwrap().unwrap();
    let kept: Vec<_> = history.items.iter().map(|item| (item.version.get(), item.at)).collect();
    let answered: Vec<_> = records.iter().map(|(_, record)| (record.version.get(), record.updated_at)).collect();
    assert_eq!(kept, answered);
    for (_, record) in &records {
        let version = bench.store.get_state_version(&writer.tenant, &key, record.version).await.unwrap();
        assert_eq!(version.as_ref(), Some(record), "each version holds what its own writer was answered");
    }
    let logged: Vec<_> = bench.inspector.log(&writer.tenant).await.into_iter().map(|row| (row.version, row.at)).collect();
    assert_eq!(logged, answered.iter().map(|(number, at)| (*number, at.as_microseconds())).collect::<Vec<_>>());
}

pub(super) async fn one_of_many_conditional_writers_wins(bench: &Bench) {
    for kind in Kind::ALL {
        let writer = bench.writer();
        bench.put(kind, &writer, "k", Expected::Any).await;
        let expected = Expected::Exactly(version(1));
        let outcomes = join_all((0..WRITERS).map(|_| bench.put(kind, &writer, "k", expected))).await;
        one_won(kind, outcomes, &Outcome::Applied { created: false, record: version(2) }, &Outcome::Refused { current: Some(version(2)) });
        assert_eq!(bench.get(kind, &writer, "k").await, Lookup::Live(version(2)));
        let outcomes = join_all((0..WRITERS).map(|_| bench.delete(kind, &writer, "k", Expected::Any))).await;
        one_won(kind, outcomes, &Outcome::Applied { created: false, record: version(3) }, &Outcome::Absent);
    }
}

pub(super) async fn one_of_many_creators_wins(bench: &Bench) {
    for kind in Kind::ALL {
        let writer = bench.writer();
        let outcomes = join_all((0..WRITERS).map(|_| bench.put(kind, &writer, "k", Expected::Absent))).await;
        one_won(kind, outcomes, &Outcome::Applied { created: true, record: version(1) }, &Outcome::Refused { current: Some(version(1)) });
    }
}

fn one_won<R: std::fmt::Debug + PartialEq>(kind: Kind, outcomes: Vec<Outcome<R>>, winner: &Outcome<R>, others: &Outcome<R>) {
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == winner).count(), 1, "{kind:?} {outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == others).count(), outcomes.len() - 1, "{kind:?} {outcomes:?}");
}

pub(super) async fn keys_do_not_hinder_each_other(bench: &Bench) {
    let writer = bench.writer();
    let names: Vec<String> = (0..WRITERS).map(|number| format!("k{}", number % 10)).collect();
    let writes = names.iter().flat_map(|name| Kind::ALL.map(|kind| bench.put(kind, &writer, name, Expected::Any)));
    for outcome in join_all(writes).await {
        applied(outcome);
    }
    for name in &names[..10] {
        for kind in Kind::ALL {
            assert_eq!(bench.get(kind, &writer, name).await, Lookup::Live(version(WRITERS / 10)));
        }
    }
    bench.put_state(&writer, &state("k0"), SMALL).await;
    assert_eq!(bench.get(Kind::State, &writer, "k1").await, Lookup::Live(version(WRITERS / 10)));
}
