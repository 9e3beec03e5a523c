//! Writes to many variables at once, and increments.

use futures_util::future::join_all;
use nworkflow_state::domain::id::WorkflowId;
use nworkflow_state::domain::variable::{
    BatchOutcome, BatchRecord, Expiry, IncrementFault, Number, Scope, VariableBatch, VariableDocument, VariableRecord,
};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::change::ChangeOperation;
use nworkflow_state::store::{IncrementOutcome, Lookup, Outcome, Replay, ScopeDeletion, VariableQuery, WriteContext};

use super::bench::{Bench, applied, global, live, name, plain, replayed, under_key, variable, version};

const SCOPE: Scope = Scope::Global;

fn set(pairs: &[(&str, &str)]) -> VariableBatch {
    VariableBatch { set: pairs.iter().map(|(text, value)| (name(text), (*value).into())).collect(), ..VariableBatch::default() }
}

async fn write(bench: &Bench, writer: &WriteContext, batch: &VariableBatch) -> BatchOutcome {
    bench.store.write_variables(writer, &SCOPE, None, batch).await.unwrap()
}

fn written(outcome: BatchOutcome) -> BatchRecord {
    match outcome {
        BatchOutcome::Applied(record) => record,
        other => panic!("expected an applied batch, got {other:?}"),
    }
}

pub(super) async fn set_and_delete_in_one(bench: &Bench) {
    let writer = bench.writer();
    for text in ["b", "c", "gone"] {
        bench.put_variable(&writer, &global(text), "0").await;
    }
    bench.delete_variable(&writer, &global("gone")).await;
    let batch = VariableBatch {
        set: set(&[("c", "[ 1.0]"), ("a", "null"), ("gone", "3")]).set,
        delete: vec![name("nowhere"), name("b")],
        if_versions: vec![(name("a"), None), (name("c"), Some(version(1))), (name("nowhere"), None), (name("b"), Some(version(1)))],
    };
    bench.watcher.committed(&writer.tenant);
    let record = written(write(bench, &writer, &batch).await);
    let shown: Vec<_> = record.set.iter().map(|record| (record.key.name.as_str(), &*record.value, record.version.get())).collect();
    assert_eq!(shown, [("c", "[ 1.0]", 2), ("a", "null", 1), ("gone", "3", 3)], "in the order of the request");
    assert_eq!(record.deleted, [name("b")], "what is not there is passed over");
    for record in &record.set {
        assert_eq!(&live(bench.variable(&writer, &record.key).await), record);
    }
    assert_eq!(record.set[2].created_at, record.set[2].updated_at, "a new life");
    assert_eq!(bench.variable(&writer, &global("b")).await, Lookup::Gone(version(2)));
    let log = bench.inspector.log(&writer.tenant).await.split_off(4);
    let mut log: Vec<_> = log.into_iter().map(|row| (row.keys[1].clone(), row.operation, row.version)).collect();
    log.sort();
    let (created, replaced, deleted) = (ChangeOperation::Created as i16, ChangeOperation::Replaced as i16, ChangeOperation::Deleted as i16);
    assert_eq!(log, [("a".into(), created, 1), ("b".into(), deleted, 2), ("c".into(), replaced, 2), ("gone".into(), created, 3)]);
    assert_eq!(bench.watcher.committed(&writer.tenant).len(), 4);
}

pub(super) async fn all_or_nothing(bench: &Bench) {
    let writer = bench.writer();
    bench.put_variable(&writer, &global("a"), "0").await;
    bench.put_variable(&writer, &global("b"), "0").await;
    bench.delete_variable(&writer, &global("b")).await;
    let before = bench.inspector.log(&writer.tenant).await;
    bench.watcher.committed(&writer.tenant);
    let batch = VariableBatch {
        set: set(&[("a", "1"), ("z", "1")]).set,
        delete: vec![name("b")],
        if_versions: vec![(name("z"), Some(version(1))), (name("a"), Some(version(2))), (name("y"), None), (name("b"), Some(version(2)))],
    };
    let keyed = under_key(&writer, 1, 1);
    let expected = vec![(name("z"), None), (name("a"), Some(version(1))), (name("b"), None)];
    assert_eq!(write(bench, &keyed, &batch).await, BatchOutcome::Refused(expected), "every name that differs, in their order");
    let absent = VariableBatch { if_versions: vec![(name("a"), None)], ..set(&[("z", "1")]) };
    assert_eq!(write(bench, &writer, &absent).await, BatchOutcome::Refused(vec![(name("a"), Some(version(1)))]));
    assert_eq!(&*live(bench.variable(&writer, &global("a")).await).value, "0");
    assert_eq!(bench.variable(&writer, &global("z")).await, Lookup::Absent);
    assert_eq!(bench.inspector.log(&writer.tenant).await, before);
    assert_eq!(bench.inspector.idempotency_rows(&writer.tenant).await, 0);
    assert_eq!(bench.watcher.committed(&writer.tenant), []);
    let nothing = written(write(bench, &writer, &VariableBatch::default()).await);
    assert_eq!(nothing, BatchRecord::default());
    assert_eq!(bench.inspector.log(&writer.tenant).await, before);
}

pub(super) async fn flags_stay(bench: &Bench) {
    let writer = bench.writer();
    let key = global("a");
    let document = VariableDocument { description: Some("what".into()), expiry: Expiry::In(60), ..plain("0") };
    let one = applied(bench.store.put_variable(&writer, &key, None, Expected::Any, &document).await.unwrap()).1;
    bench.clock.advance_seconds(30);
    let record = written(write(bench, &writer, &set(&[("a", "1"), ("b", "1")])).await);
    assert_eq!((record.set[0].description.as_deref(), record.set[0].expires_at), (Some("what"), one.expires_at));
    assert_eq!((record.set[0].created_at, record.set[1].description.as_deref(), record.set[1].expires_at), (one.created_at, None, None));
    bench.clock.advance_seconds(31);
    assert_eq!(bench.variable(&writer, &key).await, Lookup::Gone(version(2)));
    let record = written(write(bench, &writer, &set(&[("a", "2")])).await);
    assert_eq!((record.set[0].description.as_deref(), record.set[0].expires_at), (None, None), "a new one has none");
    assert_eq!(record.set[0].created_at, record.set[0].updated_at);
}

pub(super) async fn a_batch_is_replayed(bench: &Bench) {
    let writer = bench.writer();
    let keyed = under_key(&writer, 1, 1);
    bench.put_variable(&writer, &global("b"), "0").await;
    let batch = VariableBatch { delete: vec![name("b")], ..set(&[("z", "[ 1E2]"), ("a", "\"\\u0041\"")]) };
    let first = written(write(bench, &keyed, &batch).await);
    bench.put_variable(&writer, &global("b"), "1").await;
    assert_eq!(write(bench, &keyed, &batch).await, BatchOutcome::Replayed(first));
    assert!(matches!(bench.variable(&writer, &global("b")).await, Lookup::Live(_)));
    assert_eq!(write(bench, &under_key(&writer, 1, 2), &batch).await, BatchOutcome::KeyReused);
    let empty = under_key(&writer, 2, 1);
    let nothing = VariableBatch { delete: vec![name("nowhere")], ..VariableBatch::default() };
    assert_eq!(write(bench, &empty, &nothing).await, BatchOutcome::Applied(BatchRecord::default()));
    bench.put_variable(&writer, &global("nowhere"), "1").await;
    assert_eq!(write(bench, &empty, &nothing).await, BatchOutcome::Replayed(BatchRecord::default()), "that it did nothing is kept too");
}

pub(super) async fn a_thousand_names(bench: &Bench) {
    let writer = bench.writer();
    let names: Vec<String> = (0..1000).map(|number| format!("n{number}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    for round in 1..=2 {
        let record = written(write(bench, &writer, &set(&pairs)).await);
        assert!(record.set.iter().zip(&names).all(|(record, name)| record.key.name.as_str() == name && record.version == version(round)));
    }
}

pub(super) async fn parallel_batches_are_serial(bench: &Bench) {
    let writer = bench.writer();
    // Opposite orders: a store that locks in the order of the request deadlocks.
    let batches: Vec<_> = (0..40)
        .map(|number| {
            let value = number.to_string();
            if number % 2 == 0 { set(&[("a", &value), ("b", &value)]) } else { set(&[("b", &value), ("a", &value)]) }
        })
        .collect();
    for outcome in join_all(batches.iter().map(|batch| write(bench, &writer, batch))).await {
        written(outcome);
    }
    let [a, b] = [live(bench.variable(&writer, &global("a")).await), live(bench.variable(&writer, &global("b")).await)];
    assert_eq!((a.version, b.version), (version(40), version(40)));
    assert_eq!(a.value, b.value, "the last batch wrote both");
    let guarded = VariableBatch { if_versions: vec![(name("a"), Some(version(40)))], ..set(&[("a", "1"), ("b", "1")]) };
    let outcomes = join_all((0..40).map(|_| write(bench, &writer, &guarded))).await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, BatchOutcome::Applied(_))).count(), 1);
    let refused = BatchOutcome::Refused(vec![(name("a"), Some(version(41)))]);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == refused).count(), 39);
}

async fn add(bench: &Bench, writer: &WriteContext, text: &str, by: Number) -> IncrementOutcome {
    bench.store.increment_variable(writer, &global(text), None, Expected::Any, by).await.unwrap()
}

fn sum(outcome: IncrementOutcome) -> (bool, VariableRecord) {
    match outcome {
        IncrementOutcome::Done(outcome) => applied(outcome),
        other => panic!("expected a sum, got {other:?}"),
    }
}

pub(super) async fn increments(bench: &Bench) {
    let writer = bench.writer();
    let (created, one) = sum(add(bench, &writer, "n", Number::Integer(5)).await);
    assert_eq!((created, &*one.value, one.version), (true, "5", version(1)));
    let (created, two) = sum(add(bench, &writer, "n", Number::Integer(-7)).await);
    assert_eq!((created, &*two.value, two.version, two.created_at), (false, "-2", version(2), one.created_at));
    let (_, three) = sum(add(bench, &writer, "n", Number::Float(0.5)).await);
    assert_eq!(&*three.value, "-1.5");
    assert_eq!(live(bench.variable(&writer, &global("n")).await), three);

    let document = VariableDocument { description: Some("what".into()), expiry: Expiry::In(60), ..plain("9223372036854775807") };
    let most = applied(bench.store.put_variable(&writer, &global("most"), None, Expected::Any, &document).await.unwrap()).1;
    bench.put_variable(&writer, &global("text"), "\"5\"").await;
    bench.put_variable(&writer, &global("large"), "1e308").await;
    let before = bench.inspector.log(&writer.tenant).await.len();
    for (text, by, fault) in [
        ("most", Number::Integer(1), IncrementFault::OutOfRange),
        ("large", Number::Float(1e308), IncrementFault::OutOfRange),
        ("text", Number::Integer(1), IncrementFault::NotANumber),
    ] {
        assert_eq!(add(bench, &under_key(&writer, 1, 1), text, by).await, IncrementOutcome::Fault(fault), "{text}");
    }
    assert_eq!(bench.inspector.log(&writer.tenant).await.len(), before);
    assert_eq!(bench.inspector.idempotency_rows(&writer.tenant).await, 0);
    let (_, less) = sum(add(bench, &writer, "most", Number::Integer(-1)).await);
    assert_eq!((&*less.value, less.description.as_deref(), less.expires_at), ("9223372036854775806", Some("what"), most.expires_at));
    bench.clock.advance_seconds(61);
    let (created, anew) = sum(add(bench, &writer, "most", Number::Integer(1)).await);
    assert_eq!((created, &*anew.value, anew.description.as_deref(), anew.expires_at), (true, "1", None, None));

    for (expected, refused) in [(Expected::Absent, true), (Expected::Exactly(version(2)), true), (Expected::Exactly(version(3)), false)] {
        let outcome = bench.store.increment_variable(&writer, &global("n"), None, expected, Number::Integer(1)).await.unwrap();
        match outcome {
            IncrementOutcome::Done(Outcome::Refused { current }) if refused => assert_eq!(current, Some(version(3))),
            IncrementOutcome::Done(Outcome::Applied { .. }) if !refused => {}
            other => panic!("{expected:?}: {other:?}"),
        }
    }
}

pub(super) async fn an_increment_is_replayed(bench: &Bench) {
    let writer = bench.writer();
    let keyed = under_key(&writer, 1, 1);
    let (created, first) = sum(add(bench, &keyed, "n", Number::Integer(5)).await);
    assert!(created);
    for _ in 0..2 {
        let replay = Replay { status: 200, version: version(1), record: Some(first.clone()) };
        assert_eq!(add(bench, &keyed, "n", Number::Integer(5)).await, IncrementOutcome::Done(Outcome::Replayed(replay)));
    }
    assert_eq!(add(bench, &under_key(&writer, 1, 2), "n", Number::Integer(5)).await, IncrementOutcome::Done(Outcome::KeyReused));
    assert_eq!(&*live(bench.variable(&writer, &global("n")).await).value, "5");
}

pub(super) async fn a_hundred_increments_at_once(bench: &Bench) {
    let writer = bench.writer();
    let outcomes = join_all((0..100).map(|_| add(bench, &writer, "n", Number::Integer(1)))).await;
    let mut sums: Vec<(i64, i64)> = Vec::new();
    let mut creators = 0;
    for outcome in outcomes {
        let (created, record) = sum(outcome);
        creators += i64::from(created);
        sums.push((record.version.get(), record.value.parse().unwrap()));
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=100).map(|number| (number, number)).collect::<Vec<_>>());
    assert_eq!(creators, 1);
    assert_eq!(&*live(bench.variable(&writer, &global("n")).await).value, "100");
}

pub(super) async fn a_scope_is_deleted(bench: &Bench) {
    let writer = bench.writer();
    let delete = |context: WriteContext, limit| async move { bench.store.delete_variables(&context, &SCOPE, None, limit).await.unwrap() };
    assert_eq!(applied(delete(writer.clone(), 10).await).1, ScopeDeletion { deleted: 0, more: false });
    for text in ["e", "d", "c", "b", "a"] {
        bench.put_variable(&writer, &global(text), "1").await;
    }
    let elsewhere = variable(Scope::Workflow(WorkflowId::parse("w").unwrap()), "a");
    bench.put_variable(&writer, &elsewhere, "1").await;
    let short = VariableDocument { expiry: Expiry::In(1), ..plain("1") };
    applied(bench.store.put_variable(&writer, &global("aa"), None, Expected::Any, &short).await.unwrap());
    bench.clock.advance_seconds(2);
    bench.watcher.committed(&writer.tenant);
    let keyed = under_key(&writer, 1, 1);
    assert_eq!(applied(delete(keyed.clone(), 3).await).1, ScopeDeletion { deleted: 3, more: true });
    let changes = bench.watcher.committed(&writer.tenant);
    assert_eq!(changes.iter().map(|change| change.version.get()).collect::<Vec<_>>(), [2, 2, 2]);
    let query = VariableQuery { limit: 100, max_bytes: usize::MAX, ..VariableQuery::default() };
    let page = bench.store.list_variables(&writer.tenant, &SCOPE, None, &query).await.unwrap();
    assert_eq!(page.items.iter().map(|record| record.key.name.as_str()).collect::<Vec<_>>(), ["d", "e"], "in the order of names");
    assert_eq!(bench.variable(&writer, &global("a")).await, Lookup::Gone(version(2)));
    let replay = replayed(delete(keyed, 3).await);
    assert_eq!((replay.status, replay.record), (200, Some(ScopeDeletion { deleted: 3, more: true })));
    assert_eq!(applied(delete(writer.clone(), 2).await).1, ScopeDeletion { deleted: 2, more: false });
    assert!(matches!(bench.variable(&writer, &elsewhere).await, Lookup::Live(_)));
    let log = bench.inspector.log(&writer.tenant).await;
    let deletions = log.iter().filter(|row| row.operation == ChangeOperation::Deleted as i16);
    assert_eq!(deletions.map(|row| row.keys[1].as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    let again = bench.put_variable(&writer, &global("a"), "1").await;
    assert_eq!(again.version, version(3));
}
