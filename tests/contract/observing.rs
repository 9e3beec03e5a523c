//! What an observer is told: every applied write exactly once, before it can be read and after, and nothing else.

use nworkflow_state::domain::commit::Resource;
use nworkflow_state::domain::session::Reach;
use nworkflow_state::domain::state::Operation;
use nworkflow_state::domain::variable::{Number, Scope, VariableBatch};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{Outcome, SweepTask, WriteContext};

use super::bench::{
    Bench, Kind, SMALL, applied, checkpoint, document, global, lasting, name, of_given, plain, session, state, under_key, version,
};

/// What was told since the last question, as text in the order of the commits.
fn told(bench: &Bench, writer: &WriteContext) -> Vec<String> {
    let text = |resource: &Resource| match resource {
        Resource::State(key) => format!("state {}", key.execution),
        Resource::Checkpoint(key) => format!("checkpoint {} {}", key.state.execution, key.checkpoint),
        Resource::Session(id) => format!("session {id}"),
        Resource::Variable(key) => format!("variable {} {}", key.scope, key.name),
    };
    bench.watcher.committed(&writer.tenant).iter().map(|change| format!("{} {}", text(&change.resource), change.version)).collect()
}

pub(super) async fn each_applied_write_once(bench: &Bench) {
    let writer = bench.writer();
    let (store, key, id) = (&bench.store, checkpoint("e", "c"), session("s"));
    bench.put_state(&writer, &key.state, SMALL).await;
    assert_eq!(told(bench, &writer), ["state e 1"]);
    bench.checkpoint(&writer, &key).await;
    assert_eq!(told(bench, &writer), ["checkpoint e c 1"]);
    applied(store.restore_checkpoint(&writer, &key, Expected::Any).await.unwrap());
    assert_eq!(told(bench, &writer), ["state e 2"]);
    applied(store.fork_checkpoint(&writer, &key, &state("f").execution, Expected::Any).await.unwrap());
    assert_eq!(told(bench, &writer), ["state f 1"]);
    bench.delete_state(&writer, &key.state).await;
    assert_eq!(told(bench, &writer), ["state e 3"]);
    applied(store.delete_checkpoint(&writer, &key, Expected::Any).await.unwrap());
    assert_eq!(told(bench, &writer), ["checkpoint e c 2"]);
    applied(store.create_checkpoint(&writer, &checkpoint("g", "c"), &of_given(SMALL)).await.unwrap());
    assert_eq!(told(bench, &writer), ["checkpoint g c 1"], "no state came of it");

    let life = bench.put_session(&writer, &id, &lasting(60)).await.life;
    applied(store.extend_session(&writer, &id, &Reach::All, Expected::Any, 60).await.unwrap());
    assert_eq!(told(bench, &writer), ["session s 1", "session s 2"]);
    let own = super::bench::variable(Scope::Session(id.clone()), "v");
    applied(store.put_variable(&writer, &own, Some(life), Expected::Any, &plain("1")).await.unwrap());
    applied(store.delete_session(&writer, &id, &Reach::All, Expected::Any).await.unwrap());
    assert_eq!(told(bench, &writer), ["variable session:s v 1", "session s 3"], "its variables are guarded by its life");

    bench.put_variable(&writer, &global("n"), "1").await;
    store.increment_variable(&writer, &global("n"), None, Expected::Any, Number::Integer(1)).await.unwrap();
    bench.delete_variable(&writer, &global("n")).await;
    assert_eq!(told(bench, &writer), ["variable global n 1", "variable global n 2", "variable global n 3"]);
    let batch = VariableBatch { set: vec![(name("a"), "1".into()), (name("b"), "1".into())], ..VariableBatch::default() };
    store.write_variables(&writer, &Scope::Global, None, &batch).await.unwrap();
    assert_eq!(told(bench, &writer).len(), 2);
    applied(store.delete_variables(&writer, &Scope::Global, None, 10).await.unwrap());
    let mut deleted = told(bench, &writer);
    deleted.sort();
    assert_eq!(deleted, ["variable global a 2", "variable global b 2"]);
}

pub(super) async fn nothing_else(bench: &Bench) {
    let writer = bench.writer();
    let keyed = under_key(&writer, 1, 1);
    for kind in Kind::ALL {
        let keyed = under_key(&writer, 1 + kind as u128, 1);
        bench.put(kind, &keyed, "k", Expected::Any).await;
        assert_eq!(told(bench, &writer).len(), 1);
        bench.put(kind, &keyed, "k", Expected::Any).await;
        bench.put(kind, &under_key(&writer, 1 + kind as u128, 2), "k", Expected::Any).await;
        bench.put(kind, &writer, "k", Expected::Absent).await;
        bench.put(kind, &writer, "k", Expected::Exactly(version(9))).await;
        bench.delete(kind, &writer, "none", Expected::Any).await;
        bench.get(kind, &writer, "k").await;
    }
    let store = &bench.store;
    store.create_checkpoint(&writer, &checkpoint("none", "c"), &super::bench::of_current()).await.unwrap();
    store.restore_checkpoint(&writer, &checkpoint("none", "c"), Expected::Any).await.unwrap();
    store.delete_execution(&writer, &state("none"), Expected::Any).await.unwrap();
    store.touch_session(&writer.tenant, &session("k")).await.unwrap();
    store.delete_variables(&keyed, &Scope::Workflow(state("none").workflow), None, 10).await.unwrap();
    store.write_variables(&writer, &Scope::Global, None, &VariableBatch::default()).await.unwrap();
    assert_eq!(told(bench, &writer), Vec::<String>::new());
}

pub(super) async fn figures_are_at_hand(bench: &Bench) {
    let before = bench.store.figures();
    let writer = bench.writer();
    for number in 0..5 {
        bench.put_state(&writer, &state(&format!("e{number}")), SMALL).await;
    }
    let after = bench.store.figures();
    assert_eq!((after.groups - before.groups, after.rows - before.rows), (5, 5), "{before:?} {after:?}");
    assert!(after.connections >= 1 && after.idle_connections <= after.connections, "{after:?}");
    assert_eq!(after.queue_depth, 0);

    // A transaction counts with the versions that it made, and only when it made some.
    let before = after;
    let keyed = under_key(&writer, 1, 1);
    let key = state("e0");
    applied(bench.store.put_state(&keyed, &key, Expected::Any, &document(SMALL), Operation::Put).await.unwrap());
    let set = (0..10).map(|number| (name(&format!("v{number}")), "1".into())).collect();
    let batch = VariableBatch { set, ..VariableBatch::default() };
    bench.store.write_variables(&writer, &Scope::Global, None, &batch).await.unwrap();
    bench.delete_state(&writer, &state("e1")).await;
    for (context, expected) in [(&keyed, Expected::Any), (&under_key(&writer, 1, 2), Expected::Any), (&writer, Expected::Absent)] {
        let outcome = bench.store.put_state(context, &key, expected, &document(SMALL), Operation::Put).await.unwrap();
        assert!(!matches!(outcome, Outcome::Applied { .. }), "replayed, another request, refused: {outcome:?}");
    }
    assert_eq!(bench.delete(Kind::Variable, &writer, "absent", Expected::Any).await, Outcome::Absent);
    for task in SweepTask::ALL {
        bench.sweep(task).await;
    }
    let after = bench.store.figures();
    assert_eq!((after.groups - before.groups, after.rows - before.rows), (3, 12), "{before:?} {after:?}");
}
