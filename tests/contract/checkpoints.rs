//! Checkpoints: made, listed, deleted, and come back to.

use nworkflow_state::domain::checkpoint::{CheckpointItem, CheckpointKey, CheckpointQuery, CheckpointRecord, NewCheckpoint};
use nworkflow_state::domain::id::{CheckpointId, ExecutionId, WorkflowId};
use nworkflow_state::domain::state::{ForkedFrom, Operation, StateKey};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::change::{ChangeKind, ChangeOperation};
use nworkflow_state::store::{HistoryQuery, Lookup, Outcome, WriteContext};

use super::bench::{Bench, SMALL, applied, checkpoint, document, live, of_current, of_given, replayed, state, under_key, version};
use super::states::ODD;

const HISTORY: HistoryQuery = HistoryQuery { ascending: false, after: None, limit: 100 };

async fn create(bench: &Bench, writer: &WriteContext, key: &CheckpointKey, new: &NewCheckpoint) -> Outcome<CheckpointRecord> {
    bench.store.create_checkpoint(writer, key, new).await.unwrap()
}

async fn get(bench: &Bench, writer: &WriteContext, key: &CheckpointKey) -> Lookup<CheckpointRecord> {
    bench.store.get_checkpoint(&writer.tenant, key).await.unwrap()
}

async fn delete(bench: &Bench, writer: &WriteContext, key: &CheckpointKey) {
    applied(bench.store.delete_checkpoint(writer, key, Expected::Any).await.unwrap());
}

pub(super) async fn of_the_current_state(bench: &Bench) {
    let (writer, key) = (bench.writer(), checkpoint("e", "c"));
    assert_eq!(get(bench, &writer, &key).await, Lookup::Absent);
    assert_eq!(create(bench, &writer, &key, &of_current()).await, Outcome::Absent, "no state to copy");
    assert_eq!(bench.state(&writer, &key.state).await, Lookup::Absent);
    bench.put_state(&writer, &key.state, SMALL).await;
    let body = "{\"marking\":{\"p\" : [1E2]},\"status\":\"waiting\",\"metadata\":{\"b\":1,\"a\":-0},\"schema_version\":7}";
    let two = bench.put_state(&writer, &key.state, body).await;
    let new = NewCheckpoint { label: Some("before \"pay\"".into()), metadata: ODD[0].into(), document: None };
    let (created, record) = applied(create(bench, &writer, &key, &new).await);
    assert!(created);
    assert_eq!((&record.item.key, record.item.version, &record.document), (&key, version(1), &two.document));
    assert_eq!((record.item.label.as_deref(), &*record.item.metadata), (Some("before \"pay\""), ODD[0]));
    assert_eq!((record.item.state_version, record.item.created_by.as_str()), (Some(version(2)), "f:1:ada"));
    assert_eq!(record.item.size, i64::try_from(two.document.text().len()).unwrap());
    assert_eq!(live(get(bench, &writer, &key).await), record);
    bench.put_state(&writer, &key.state, SMALL).await;
    bench.delete_state(&writer, &key.state).await;
    assert_eq!(live(get(bench, &writer, &key).await), record, "what becomes of the state does not touch it");
    assert_eq!(create(bench, &writer, &checkpoint("e", "d"), &of_current()).await, Outcome::Absent, "a deleted state cannot be copied");
    assert_eq!(get(bench, &bench.writer(), &key).await, Lookup::Absent, "another tenant's");
    let log = bench.inspector.log(&writer.tenant).await;
    let row = log.iter().find(|row| row.kind == ChangeKind::Checkpoint as i16).unwrap();
    assert_eq!((row.operation, row.version, row.at), (ChangeOperation::Created as i16, 1, record.item.created_at.as_microseconds()));
    assert_eq!(row.keys, ["order", "e", "c"]);
}

pub(super) async fn of_a_given_state(bench: &Bench) {
    let (writer, key) = (bench.writer(), checkpoint("e", "c"));
    let record = applied(create(bench, &writer, &key, &of_given(SMALL)).await).1;
    assert_eq!((record.item.version, record.item.state_version, &record.document), (version(1), None, &document(SMALL)));
    assert_eq!(live(get(bench, &writer, &key).await), record);
    assert_eq!(bench.state(&writer, &key.state).await.live(), None, "no state comes of it");
    assert_eq!(bench.store.state_history(&writer.tenant, &key.state, HISTORY).await.unwrap(), None);
    assert_eq!(bench.store.delete_state(&writer, &key.state, Expected::Any).await.unwrap(), Outcome::Absent);
    let (created, first) =
        applied(bench.store.put_state(&writer, &key.state, Expected::Absent, &document(SMALL), Operation::Put).await.unwrap());
    assert_eq!((created, first.version, first.created_at), (true, version(1), first.updated_at), "as if nothing had been there");
    let other = applied(create(bench, &writer, &checkpoint("e", "d"), &of_given(ODD_STATE)).await).1;
    assert_eq!((other.item.state_version, other.document), (None, document(ODD_STATE)), "a given one is not the current one");
}

const ODD_STATE: &str = "{\"marking\":{\"p\" : [ 1.0,\"\\u0041\"]},\"metadata\": {\"x\":-0}}";

pub(super) async fn an_id_is_taken_once(bench: &Bench) {
    let (writer, key) = (bench.writer(), checkpoint("e", "c"));
    bench.put_state(&writer, &key.state, SMALL).await;
    let first = bench.checkpoint(&writer, &key).await;
    for new in [of_current(), of_given(SMALL)] {
        assert_eq!(create(bench, &writer, &key, &new).await, Outcome::Refused { current: Some(version(1)) });
    }
    assert_eq!(live(get(bench, &writer, &key).await), first);
    for (expected, outcome) in [
        (Expected::Absent, Outcome::Refused { current: Some(version(1)) }),
        (Expected::Exactly(version(2)), Outcome::Refused { current: Some(version(1)) }),
    ] {
        assert_eq!(bench.store.delete_checkpoint(&writer, &key, expected).await.unwrap(), outcome);
    }
    let deleted = applied(bench.store.delete_checkpoint(&writer, &key, Expected::Exactly(version(1))).await.unwrap()).1;
    assert_eq!(deleted.version, version(2));
    assert_eq!(get(bench, &writer, &key).await, Lookup::Gone(version(2)));
    assert_eq!(bench.store.delete_checkpoint(&writer, &key, Expected::Any).await.unwrap(), Outcome::Absent);
    let refused = bench.store.delete_checkpoint(&writer, &key, Expected::Present).await.unwrap();
    assert_eq!(refused, Outcome::Refused { current: None });
    let unknown = bench.store.delete_checkpoint(&writer, &checkpoint("nowhere", "c"), Expected::Any).await.unwrap();
    assert_eq!(unknown, Outcome::Absent);
    bench.clock.advance_seconds(-3600);
    let again = bench.checkpoint(&writer, &key).await;
    assert_eq!(again.item.version, version(3), "versions grow over deletion");
    assert!(again.item.created_at > first.item.created_at, "and so do times");
    assert_eq!(bench.checkpoint(&writer, &checkpoint("e", "other")).await.item.version, version(1));
}

pub(super) async fn replayed_as_they_were(bench: &Bench) {
    let (writer, key) = (bench.writer(), checkpoint("e", "c"));
    let keyed = under_key(&writer, 1, 1);
    let new = NewCheckpoint { label: Some("l".into()), metadata: ODD[1].into(), document: Some(document(ODD_STATE)) };
    let first = applied(create(bench, &keyed, &key, &new).await).1;
    let replay = replayed(create(bench, &keyed, &key, &new).await);
    assert_eq!((replay.status, replay.version, replay.record), (201, version(1), Some(first.clone())));
    let remove = under_key(&writer, 2, 1);
    delete(bench, &remove, &key).await;
    let replay = replayed(bench.store.delete_checkpoint(&remove, &key, Expected::Any).await.unwrap());
    assert_eq!((replay.status, replay.version, replay.record), (204, version(2), None));
    assert_eq!(replayed(create(bench, &keyed, &key, &new).await).record, Some(first));
    assert_eq!(get(bench, &writer, &key).await, Lookup::Gone(version(2)), "nothing comes back to life");
    assert_eq!(create(bench, &under_key(&writer, 1, 2), &key, &new).await, Outcome::KeyReused);
}

pub(super) async fn restored_onto_a_live_state(bench: &Bench) {
    let (writer, key) = (bench.writer(), checkpoint("e", "c"));
    let one = bench.put_state(&writer, &key.state, ODD_STATE).await;
    bench.checkpoint(&writer, &key).await;
    bench.put_state(&writer, &key.state, SMALL).await;
    let restore = |context: WriteContext, expected| {
        let key = &key;
        async move { bench.store.restore_checkpoint(&context, key, expected).await.unwrap() }
    };
    for expected in [Expected::Absent, Expected::Exactly(version(1))] {
        assert_eq!(restore(writer.clone(), expected).await, Outcome::Refused { current: Some(version(2)) }, "about the state");
    }
    let missing = bench.store.restore_checkpoint(&writer, &checkpoint("e", "nowhere"), Expected::Any).await.unwrap();
    assert_eq!(missing, Outcome::Absent);
    let keyed = under_key(&writer, 1, 1);
    let (created, three) = applied(restore(keyed.clone(), Expected::Exactly(version(2))).await);
    assert_eq!((created, three.version, &three.document, three.created_at), (false, version(3), &one.document, one.created_at));
    assert_eq!(live(bench.state(&writer, &key.state).await), three);
    let replay = replayed(restore(keyed, Expected::Any).await);
    assert_eq!((replay.status, replay.version, replay.record), (200, version(3), Some(three)));
    let history = bench.store.state_history(&writer.tenant, &key.state, HISTORY).await.unwrap().unwrap();
    assert_eq!(
        (history.items.len(), history.items[0].operation, history.items[0].checkpoint.as_deref()),
        (3, Operation::Restore, Some("c"))
    );
    assert_eq!((history.items[1].operation, history.items[1].checkpoint.as_deref()), (Operation::Put, None));
    delete(bench, &writer, &key).await;
    assert_eq!(restore(writer.clone(), Expected::Any).await, Outcome::Absent, "deleted");
}

pub(super) async fn restored_onto_nothing(bench: &Bench) {
    let (writer, key) = (bench.writer(), checkpoint("e", "c"));
    bench.put_state(&writer, &key.state, SMALL).await;
    bench.checkpoint(&writer, &key).await;
    bench.delete_state(&writer, &key.state).await;
    let restore = |key: CheckpointKey, expected| {
        let writer = &writer;
        async move { bench.store.restore_checkpoint(writer, &key, expected).await.unwrap() }
    };
    assert_eq!(restore(key.clone(), Expected::Present).await, Outcome::Refused { current: None });
    let (created, three) = applied(restore(key.clone(), Expected::Absent).await);
    assert_eq!((created, three.version, three.created_at), (true, version(3), three.updated_at), "a new life");
    let given = checkpoint("never", "c");
    applied(create(bench, &writer, &given, &of_given(ODD_STATE)).await);
    let (created, first) = applied(restore(given.clone(), Expected::Any).await);
    assert_eq!((created, first.version, &first.document), (true, version(1), &document(ODD_STATE)));
    assert_eq!(live(bench.state(&writer, &given.state).await), first);
    let log = bench.inspector.log(&writer.tenant).await;
    let last = log.last().unwrap();
    assert_eq!((last.kind, last.operation, last.version), (ChangeKind::State as i16, ChangeOperation::Created as i16, 1));
}

pub(super) async fn forked(bench: &Bench) {
    let (writer, key) = (bench.writer(), checkpoint("e", "c"));
    bench.put_state(&writer, &key.state, SMALL).await;
    let two = bench.put_state(&writer, &key.state, ODD_STATE).await;
    bench.checkpoint(&writer, &key).await;
    let fork = |context: WriteContext, key: CheckpointKey, target: &'static str| async move {
        bench.store.fork_checkpoint(&context, &key, &ExecutionId::parse(target).unwrap(), Expected::Any).await.unwrap()
    };
    assert_eq!(fork(writer.clone(), checkpoint("e", "nowhere"), "f").await, Outcome::Absent);
    assert_eq!(fork(writer.clone(), key.clone(), "e").await, Outcome::Refused { current: Some(version(2)) }, "onto itself");
    let keyed = under_key(&writer, 1, 1);
    let (created, one) = applied(fork(keyed.clone(), key.clone(), "f").await);
    let origin = ForkedFrom {
        workflow: WorkflowId::parse("order").unwrap(),
        execution: ExecutionId::parse("e").unwrap(),
        version: Some(version(2)),
        checkpoint: Some("c".into()),
    };
    assert_eq!((created, &one.key, one.version, &one.document), (true, &state("f"), version(1), &two.document));
    assert_eq!((one.created_at, one.forked_from.as_ref()), (one.updated_at, Some(&origin)));
    assert_eq!(live(bench.state(&writer, &state("f")).await), one);
    let replay = replayed(fork(keyed, key.clone(), "f").await);
    assert_eq!((replay.status, replay.record.as_ref()), (201, Some(&one)));
    let history = bench.store.state_history(&writer.tenant, &state("f"), HISTORY).await.unwrap().unwrap();
    assert_eq!((history.items.len(), history.items[0].operation, history.items[0].checkpoint.as_deref()), (1, Operation::Fork, Some("c")));
    let later = bench.put_state(&writer, &state("f"), SMALL).await;
    assert_eq!((later.forked_from.as_ref(), later.created_at), (Some(&origin), one.created_at), "every version of the life keeps it");
    applied(create(bench, &writer, &checkpoint("f", "c"), &of_current()).await);
    bench.delete_state(&writer, &state("f")).await;
    assert_eq!(fork(writer.clone(), key.clone(), "f").await, Outcome::Refused { current: None }, "it has a history");
    let restored = applied(bench.store.restore_checkpoint(&writer, &checkpoint("f", "c"), Expected::Any).await.unwrap()).1;
    assert_eq!(restored.forked_from, None, "a new life has no origin");

    applied(create(bench, &writer, &checkpoint("g", "c"), &of_given(SMALL)).await);
    assert_eq!(fork(writer.clone(), key.clone(), "g").await, Outcome::Refused { current: None }, "it has a checkpoint");
    let given = applied(fork(writer.clone(), checkpoint("g", "c"), "h").await).1;
    assert_eq!(given.forked_from.and_then(|origin| origin.version), None, "its state was no version");

    let removed = applied(bench.store.delete_execution(&writer, &state("f"), Expected::Any).await.unwrap()).1;
    let (created, anew) = applied(fork(writer.clone(), key.clone(), "f").await);
    assert!(created && anew.version > removed.version, "a removed execution's id is free, and its versions go on");
    assert_eq!(anew.forked_from, Some(origin));
}

pub(super) async fn forked_as_expected(bench: &Bench) {
    let (writer, key) = (bench.writer(), checkpoint("e", "c"));
    bench.put_state(&writer, &key.state, SMALL).await;
    bench.checkpoint(&writer, &key).await;
    let fork = |key: CheckpointKey, target: &'static str, expected| {
        let writer = &writer;
        async move { bench.store.fork_checkpoint(writer, &key, &ExecutionId::parse(target).unwrap(), expected).await.unwrap() }
    };
    for expected in [Expected::Present, Expected::Exactly(version(1))] {
        assert_eq!(fork(key.clone(), "f", expected).await, Outcome::Refused { current: None });
        assert_eq!(fork(checkpoint("e", "nowhere"), "f", expected).await, Outcome::Absent);
    }
    let gone = bench.store.get_state(&writer.tenant, &state("f")).await.unwrap();
    assert_eq!(gone, Lookup::Absent, "nothing is left of a fork that was refused");
    let (created, one) = applied(fork(key.clone(), "f", Expected::Absent).await);
    assert!(created);
    for expected in [Expected::Any, Expected::Absent, Expected::Present, Expected::Exactly(one.version), Expected::Exactly(version(7))] {
        assert_eq!(fork(key.clone(), "f", expected).await, Outcome::Refused { current: Some(one.version) }, "{expected:?}");
    }
    assert_eq!(live(bench.state(&writer, &state("f")).await), one);
}

fn key_of(workflow: &str, execution: &str, id: &str) -> CheckpointKey {
    let state = StateKey { workflow: WorkflowId::parse(workflow).unwrap(), execution: ExecutionId::parse(execution).unwrap() };
    CheckpointKey { state, checkpoint: CheckpointId::parse(id).unwrap() }
}

async fn read_all(bench: &Bench, writer: &WriteContext, query: &CheckpointQuery, limit: usize) -> Vec<CheckpointItem> {
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let query = CheckpointQuery { after: after.clone(), limit, ..query.clone() };
        let page = bench.store.list_checkpoints(&writer.tenant, &query).await.unwrap();
        assert!(page.items.len() == limit || !page.more);
        assert_eq!(page.position.is_some(), !page.items.is_empty());
        after = page.position;
        items.extend(page.items);
        if !page.more {
            return items;
        }
    }
}

pub(super) async fn listed_over_executions(bench: &Bench) {
    let writer = bench.writer();
    let mut made = Vec::new();
    for (workflow, execution, id) in
        [("w", "e", "a"), ("w", "f", "a"), ("v", "e", "z"), ("w", "e", "b"), ("v", "g", "c"), ("w", "e", "0"), ("w", "f", "dead")]
    {
        let new = NewCheckpoint { label: Some(id.into()), metadata: "{ \"m\":1}".into(), ..of_given(SMALL) };
        made.push(applied(create(bench, &writer, &key_of(workflow, execution, id), &new).await).1.item);
    }
    delete(bench, &writer, &made.pop().unwrap().key).await;
    made.reverse();
    let query = |workflow: Option<&str>, execution: Option<&str>| CheckpointQuery {
        workflow: workflow.map(|id| WorkflowId::parse(id).unwrap()),
        execution: execution.map(|id| ExecutionId::parse(id).unwrap()),
        ..CheckpointQuery::default()
    };
    for (workflow, execution) in [
        (None, None),
        (Some("w"), None),
        (Some("v"), None),
        (None, Some("e")),
        (Some("w"), Some("e")),
        (Some("v"), Some("f")),
        (Some("x"), None),
    ] {
        let fits = |item: &&CheckpointItem| {
            workflow.is_none_or(|id| item.key.state.workflow.as_str() == id)
                && execution.is_none_or(|id| item.key.state.execution.as_str() == id)
        };
        let expected: Vec<_> = made.iter().filter(fits).cloned().collect();
        for limit in [1, 2, 3, 100] {
            assert_eq!(read_all(bench, &writer, &query(workflow, execution), limit).await, expected, "{workflow:?} {execution:?} {limit}");
        }
    }
    let recent = CheckpointQuery { created_after: Some(made[2].created_at), ..query(None, None) };
    assert_eq!(read_all(bench, &writer, &recent, 1).await, made[..2], "only after the moment");
    assert!(read_all(bench, &bench.writer(), &query(None, None), 10).await.is_empty());

    let first_page = CheckpointQuery { limit: 2, ..query(None, None) };
    let page = bench.store.list_checkpoints(&writer.tenant, &first_page).await.unwrap();
    applied(create(bench, &writer, &key_of("w", "e", "newer"), &of_given(SMALL)).await);
    delete(bench, &writer, &made[3].key).await;
    let rest = CheckpointQuery { after: page.position, limit: 100, ..query(None, None) };
    let rest = bench.store.list_checkpoints(&writer.tenant, &rest).await.unwrap().items;
    assert_eq!(rest, [made[2].clone(), made[4].clone(), made[5].clone()], "rows that come and go while pages are read");
}

pub(super) async fn listed_at_one_moment(bench: &Bench) {
    let writer = bench.writer();
    let mut keys = Vec::new();
    for execution in ["c", "a", "b"] {
        for id in ["2", "1", "3"] {
            keys.push(checkpoint(execution, id));
            applied(create(bench, &writer, &checkpoint(execution, id), &of_given(SMALL)).await);
        }
    }
    bench
        .inspector
        .execute(
            "UPDATE checkpoint SET created_at = (SELECT min(created_at) FROM checkpoint WHERE tenant_id = $1) WHERE tenant_id = $1",
            &writer.tenant,
        )
        .await;
    let all = read_all(bench, &writer, &CheckpointQuery::default(), 100).await;
    assert_eq!(all.len(), 9);
    // Executions in the order of their making, newest first; ids from the greatest down.
    let order: Vec<_> = all.iter().map(|item| format!("{}{}", item.key.state.execution, item.key.checkpoint)).collect();
    assert_eq!(order, ["b3", "b2", "b1", "a3", "a2", "a1", "c3", "c2", "c1"]);
    for limit in [1, 2, 4] {
        assert_eq!(read_all(bench, &writer, &CheckpointQuery::default(), limit).await, all);
    }
}
