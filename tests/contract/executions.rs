//! Lists of workflows and executions, and the removal of executions.

use nworkflow_state::domain::clock::Timestamp;
use nworkflow_state::domain::commit::Resource;
use nworkflow_state::domain::id::{ExecutionId, WorkflowId};
use nworkflow_state::domain::state::{ExecutionItem, ExecutionOrder, ExecutionQuery, MAX_COUNTED, RemovedExecution, StateKey, StateRecord};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::change::{ChangeKind, ChangeOperation};
use nworkflow_state::store::{HistoryQuery, Lookup, Outcome, SweepTask, WriteContext};

use super::bench::{Bench, SMALL, applied, checkpoint, of_given, replayed, state, under_key, version};

const HISTORY: HistoryQuery = HistoryQuery { ascending: false, after: None, limit: 100 };

fn key(workflow: &str, execution: &str) -> StateKey {
    StateKey { workflow: WorkflowId::parse(workflow).unwrap(), execution: ExecutionId::parse(execution).unwrap() }
}

async fn workflows(bench: &Bench, writer: &WriteContext, after: Option<&str>, limit: usize) -> (Vec<String>, bool) {
    let after = after.map(|id| WorkflowId::parse(id).unwrap());
    let page = bench.store.list_workflows(&writer.tenant, after.as_ref(), limit).await.unwrap();
    (page.items.iter().map(|id| id.as_str().to_owned()).collect(), page.more)
}

pub(super) async fn workflows_with_a_live_state(bench: &Bench) {
    let writer = bench.writer();
    assert_eq!(workflows(bench, &writer, None, 10).await, (Vec::new(), false));
    for workflow in ["b", "a", "Z", "c", "dead", "gone", "~"] {
        for execution in ["e", "f", "g"] {
            bench.put_state(&writer, &key(workflow, execution), SMALL).await;
        }
    }
    for execution in ["e", "f", "g"] {
        bench.delete_state(&writer, &key("dead", execution)).await;
        applied(bench.store.delete_execution(&writer, &key("gone", execution), Expected::Any).await.unwrap());
    }
    bench.delete_state(&writer, &key("a", "e")).await;
    let given = nworkflow_state::domain::checkpoint::CheckpointKey { state: key("empty", "e"), ..checkpoint("e", "c") };
    applied(bench.store.create_checkpoint(&writer, &given, &of_given(SMALL)).await.unwrap());
    let texts = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(workflows(bench, &writer, None, 10).await, (texts(&["Z", "a", "b", "c", "~"]), false));
    assert_eq!(workflows(bench, &writer, None, 5).await, (texts(&["Z", "a", "b", "c", "~"]), false));
    assert_eq!(workflows(bench, &writer, None, 2).await, (texts(&["Z", "a"]), true));
    assert_eq!(workflows(bench, &writer, Some("a"), 2).await, (texts(&["b", "c"]), true));
    assert_eq!(workflows(bench, &writer, Some("c"), 2).await, (texts(&["~"]), false));
    assert_eq!(workflows(bench, &writer, Some("~"), 2).await, (Vec::new(), false));
    assert_eq!(workflows(bench, &bench.writer(), None, 10).await, (Vec::new(), false));
}

fn item_of(record: &StateRecord) -> ExecutionItem {
    ExecutionItem {
        key: record.key.clone(),
        version: record.version,
        status: record.document.status().to_owned(),
        created_at: record.created_at,
        updated_at: record.updated_at,
    }
}

struct Filter<'a> {
    status: Option<&'a str>,
    updated_after: Option<Timestamp>,
    recent: bool,
}

async fn read_all(bench: &Bench, writer: &WriteContext, filter: &Filter<'_>, limit: usize) -> Vec<ExecutionItem> {
    let mut order = if filter.recent { ExecutionOrder::Recent(None) } else { ExecutionOrder::Id(None) };
    let mut items: Vec<ExecutionItem> = Vec::new();
    loop {
        let query = ExecutionQuery { status: filter.status.map(str::to_owned), updated_after: filter.updated_after, order, limit };
        let page = bench.store.list_executions(&writer.tenant, &WorkflowId::parse("w").unwrap(), &query).await.unwrap();
        assert!(page.items.len() == limit || !page.more);
        items.extend(page.items.iter().cloned());
        if !page.more {
            return items;
        }
        assert_eq!(page.position.is_some(), filter.recent);
        order = match page.position {
            Some(position) => ExecutionOrder::Recent(Some(position)),
            None => ExecutionOrder::Id(page.items.last().map(|item| item.key.execution.clone())),
        };
    }
}

pub(super) async fn in_both_orders(bench: &Bench) {
    let writer = bench.writer();
    let put = |execution: &'static str, status: &'static str| {
        let writer = &writer;
        async move { bench.put_state(writer, &key("w", execution), &format!(r#"{{"marking":{{}},"status":"{status}"}}"#)).await }
    };
    bench.put_state(&writer, &key("v", "other"), SMALL).await;
    let mut records = vec![put("d", "running").await, put("b", "waiting").await];
    bench.clock.advance_seconds(3600);
    records.push(put("c", "running").await);
    put("dead", "running").await;
    bench.delete_state(&writer, &key("w", "dead")).await;
    let first_of_a = put("a", "waiting").await;
    bench.clock.advance_seconds(7200);
    records.push(put("e", "completed").await);
    let a = put("a", "running").await;
    assert_eq!((a.version, a.created_at), (version(2), first_of_a.created_at));
    records.push(a);

    let hour = |item: &ExecutionItem| item.updated_at.hour();
    let mut by_id: Vec<_> = records.iter().map(item_of).collect();
    by_id.sort_by(|one, other| one.key.execution.cmp(&other.key.execution));
    let moments =
        [None, Some(records[0].updated_at), Some(records[1].updated_at), Some(records[2].updated_at), Some(records[4].updated_at)];
    for status in [None, Some("running"), Some("waiting"), Some("failed")] {
        for updated_after in moments {
            let fits = |item: &&ExecutionItem| {
                status.is_none_or(|status| item.status == status) && updated_after.is_none_or(|moment| item.updated_at > moment)
            };
            let expected: Vec<_> = by_id.iter().filter(fits).cloned().collect();
            for limit in [1, 2, 5, 100] {
                let filter = Filter { status, updated_after, recent: false };
                assert_eq!(read_all(bench, &writer, &filter, limit).await, expected, "{status:?} {updated_after:?} {limit}");
                let filter = Filter { status, updated_after, recent: true };
                let recent = read_all(bench, &writer, &filter, limit).await;
                assert!(recent.windows(2).all(|pair| hour(&pair[0]) >= hour(&pair[1])), "newest hour first: {recent:?}");
                let mut sorted = recent.clone();
                sorted.sort_by(|one, other| one.key.execution.cmp(&other.key.execution));
                assert_eq!(sorted, expected, "{status:?} {updated_after:?} {limit}: the same ones");
            }
        }
    }
}

pub(super) async fn pages_while_rows_change(bench: &Bench) {
    let writer = bench.writer();
    let name = |number: usize| format!("e{number:02}");
    for number in 0..20 {
        bench.put_state(&writer, &key("w", &name(number)), SMALL).await;
    }
    bench.clock.advance_seconds(3600);
    for recent in [false, true] {
        let mut order = if recent { ExecutionOrder::Recent(None) } else { ExecutionOrder::Id(None) };
        let mut seen = Vec::new();
        loop {
            let query = ExecutionQuery { status: None, updated_after: None, order, limit: 3 };
            let page = bench.store.list_executions(&writer.tenant, &WorkflowId::parse("w").unwrap(), &query).await.unwrap();
            seen.extend(page.items.iter().map(|item| item.key.execution.as_str().to_owned()));
            if !page.more {
                break;
            }
            order = match page.position {
                Some(position) => ExecutionOrder::Recent(Some(position)),
                None => ExecutionOrder::Id(page.items.last().map(|item| item.key.execution.clone())),
            };
            // What was seen changes again, and so moves to the front of the recent ones.
            for item in &page.items {
                bench.put_state(&writer, &item.key, SMALL).await;
            }
        }
        seen.sort();
        assert_eq!(seen, (0..20).map(name).collect::<Vec<_>>(), "recent {recent}: each once");
        bench.clock.advance_seconds(3600);
    }
}

pub(super) async fn removed_at_one_commit(bench: &Bench) {
    let (writer, state_key) = (bench.writer(), state("e"));
    let [one, two, dead] = ["one", "two", "dead"].map(|id| checkpoint("e", id));
    for _ in 0..3 {
        bench.put_state(&writer, &state_key, SMALL).await;
    }
    bench.delete_state(&writer, &state_key).await;
    let live = bench.put_state(&writer, &state_key, SMALL).await;
    for key in [&one, &two, &dead] {
        bench.checkpoint(&writer, key).await;
    }
    applied(bench.store.delete_checkpoint(&writer, &dead, Expected::Any).await.unwrap());
    bench.put_state(&writer, &state("other"), SMALL).await;
    bench.checkpoint(&writer, &checkpoint("other", "one")).await;
    bench.watcher.committed(&writer.tenant);

    let remove = |context: WriteContext, expected| {
        let key = &state_key;
        async move { bench.store.delete_execution(&context, key, expected).await.unwrap() }
    };
    for expected in [Expected::Absent, Expected::Exactly(version(4))] {
        assert_eq!(remove(writer.clone(), expected).await, Outcome::Refused { current: Some(version(5)) }, "about the state");
    }
    let keyed = under_key(&writer, 1, 1);
    let removed = applied(remove(keyed.clone(), Expected::Exactly(version(5))).await).1;
    assert_eq!(removed, RemovedExecution { version: version(6), versions: 5, checkpoints: 2 });
    let replay = replayed(remove(keyed, Expected::Any).await);
    assert_eq!((replay.status, replay.version, replay.record), (200, version(6), Some(removed)));

    assert_eq!(bench.state(&writer, &state_key).await, Lookup::Gone(version(6)));
    for number in 1..=6 {
        assert_eq!(bench.store.get_state_version(&writer.tenant, &state_key, version(number)).await.unwrap(), None);
    }
    assert_eq!(bench.store.state_history(&writer.tenant, &state_key, HISTORY).await.unwrap(), None);
    for key in [&one, &two, &dead] {
        assert_eq!(bench.store.get_checkpoint(&writer.tenant, key).await.unwrap().live(), None);
        assert_eq!(bench.store.restore_checkpoint(&writer, key, Expected::Any).await.unwrap(), Outcome::Absent);
        assert_eq!(bench.store.delete_checkpoint(&writer, key, Expected::Any).await.unwrap(), Outcome::Absent);
    }
    let query = nworkflow_state::domain::checkpoint::CheckpointQuery { limit: 10, ..Default::default() };
    let listed = bench.store.list_checkpoints(&writer.tenant, &query).await.unwrap();
    assert_eq!(listed.items.iter().map(|item| item.key.state.execution.as_str()).collect::<Vec<_>>(), ["other"]);
    assert_eq!(remove(writer.clone(), Expected::Any).await, Outcome::Absent, "nothing is left to remove");
    assert_eq!(remove(writer.clone(), Expected::Present).await, Outcome::Refused { current: None });
    let unknown = bench.store.delete_execution(&writer, &state("unknown"), Expected::Any).await.unwrap();
    assert_eq!(unknown, Outcome::Absent);

    let told: Vec<_> = bench.watcher.committed(&writer.tenant).into_iter().map(|change| (change.resource, change.version)).collect();
    assert_eq!(told.len(), 3);
    assert!(told.contains(&(Resource::State(state_key.clone()), version(6))));
    for key in [&one, &two] {
        assert!(told.contains(&(Resource::Checkpoint(key.clone()), version(2))), "{told:?}");
    }
    let last = bench.inspector.log(&writer.tenant).await.pop().unwrap();
    assert_eq!((last.kind, last.operation, last.version), (ChangeKind::State as i16, ChangeOperation::Deleted as i16, 6));
    assert_eq!(last.keys, ["order", "e", ""]);

    let (created, next) = applied(
        bench
            .store
            .put_state(&writer, &state_key, Expected::Absent, &live.document, nworkflow_state::domain::state::Operation::Put)
            .await
            .unwrap(),
    );
    assert!(created);
    assert_eq!((next.version, next.created_at), (version(7), next.updated_at), "versions go on");
    assert!(next.created_at > live.updated_at);
    let history = bench.store.state_history(&writer.tenant, &state_key, HISTORY).await.unwrap().unwrap();
    assert_eq!(history.items.iter().map(|item| item.version.get()).collect::<Vec<_>>(), [7], "of this incarnation alone");
    assert_eq!(bench.store.get_state_version(&writer.tenant, &state_key, version(5)).await.unwrap(), None);
}

/// A cache and an entity tag must never take a checkpoint for one of the incarnation before.
pub(super) async fn checkpoints_versions_grow_over_removal(bench: &Bench) {
    let (writer, key) = (bench.writer(), checkpoint("e", "c"));
    let mut last = 0;
    for round in 0..3 {
        bench.put_state(&writer, &key.state, SMALL).await;
        for _ in 0..2 {
            let made = bench.checkpoint(&writer, &key).await.item.version.get();
            assert!(made > last, "round {round}: {made} after {last}");
            let deleted = applied(bench.store.delete_checkpoint(&writer, &key, Expected::Any).await.unwrap()).1.version.get();
            assert!(deleted > made);
            last = deleted;
        }
        let made = bench.checkpoint(&writer, &key).await.item.version.get();
        assert!(made > last, "round {round}: {made} after {last}");
        bench.watcher.committed(&writer.tenant);
        applied(bench.store.delete_execution(&writer, &key.state, Expected::Any).await.unwrap());
        let told = bench.watcher.committed(&writer.tenant);
        let end = told.iter().find(|change| matches!(change.resource, Resource::Checkpoint(_))).unwrap();
        assert_eq!(end.version.get(), made + 1);
        last = end.version.get();
    }
}

pub(super) async fn removed_without_a_state(bench: &Bench) {
    let writer = bench.writer();
    let key = checkpoint("given", "c");
    applied(bench.store.create_checkpoint(&writer, &key, &of_given(SMALL)).await.unwrap());
    let refused = bench.store.delete_execution(&writer, &key.state, Expected::Present).await.unwrap();
    assert_eq!(refused, Outcome::Refused { current: None });
    let removed = applied(bench.store.delete_execution(&writer, &key.state, Expected::Any).await.unwrap()).1;
    assert_eq!((removed.versions, removed.checkpoints), (0, 1));
    assert_eq!(bench.store.get_checkpoint(&writer.tenant, &key).await.unwrap().live(), None);

    let (writer, state_key) = (bench.writer(), state("deleted"));
    bench.put_state(&writer, &state_key, SMALL).await;
    bench.delete_state(&writer, &state_key).await;
    let removed = applied(bench.store.delete_execution(&writer, &state_key, Expected::Absent).await.unwrap()).1;
    assert_eq!(removed, RemovedExecution { version: version(3), versions: 2, checkpoints: 0 });
}

/// No limit on what is removed: only on what is counted.
pub(super) async fn counted_up_to_ten_thousand(bench: &Bench) {
    let (writer, key) = (bench.writer(), checkpoint("e", "c"));
    bench.put_state(&writer, &key.state, SMALL).await;
    bench.checkpoint(&writer, &key).await;
    for sql in [
        "INSERT INTO checkpoint (tenant_id, state_id, checkpoint_id, workflow_id, execution_id, version, created_at, size, created_by, metadata, body)
           WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
           SELECT c.tenant_id, c.state_id, 'c' || n.i, c.workflow_id, c.execution_id, c.version, c.created_at, c.size, c.created_by, c.metadata, c.body
           FROM checkpoint c CROSS JOIN n WHERE c.tenant_id = $1",
        "INSERT INTO state_version (tenant_id, state_id, version, created_at, at, operation, size, status, actor, body)
           WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
           SELECT v.tenant_id, v.state_id, v.version + n.i, v.created_at, v.at, v.operation, v.size, v.status, v.actor, v.body
           FROM state_version v CROSS JOIN n WHERE v.tenant_id = $1",
        "UPDATE execution_state SET version = version + 10000 WHERE tenant_id = $1",
    ] {
        bench.inspector.execute(sql, &writer.tenant).await;
    }
    bench.watcher.committed(&writer.tenant);
    let removed = applied(bench.store.delete_execution(&writer, &key.state, Expected::Any).await.unwrap()).1;
    assert_eq!(removed, RemovedExecution { version: version(10_002), versions: MAX_COUNTED, checkpoints: MAX_COUNTED });
    let told = bench.watcher.committed(&writer.tenant);
    assert_eq!(told.iter().filter(|change| matches!(change.resource, Resource::Checkpoint(_))).count(), 10_000);
    for id in ["c", "c1", "c10000", "c9999"] {
        assert_eq!(bench.store.get_checkpoint(&writer.tenant, &checkpoint("e", id)).await.unwrap().live(), None);
    }
    assert_eq!(bench.store.get_state_version(&writer.tenant, &key.state, version(10_001)).await.unwrap(), None);
    while bench.sweep(SweepTask::RemovedExecutions).await > 0 {}
    for rows in ["checkpoint WHERE true", "state_version WHERE true", "removed_state WHERE true"] {
        assert_eq!(bench.inspector.count(&writer.tenant, rows).await, 0, "{rows}");
    }
}
