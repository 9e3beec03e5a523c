//! What the change log keeps.

use nworkflow_state::domain::id::WorkflowId;
use nworkflow_state::domain::variable::Scope;
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::Outcome;
use nworkflow_state::store::change::{ChangeKind, ChangeOperation};

use super::bench::{Bench, Kind, SMALL, state, under_key, variable, version};

pub(super) async fn one_row_for_each_applied_write(bench: &Bench) {
    let writer = bench.writer();
    let key = state("e");
    let variable_key = variable(Scope::Workflow(WorkflowId::parse("order").unwrap()), "größe/1");

    let one = bench.put_state(&under_key(&writer, 1, 1), &key, SMALL).await;
    let two = bench.put_state(&writer, &key, SMALL).await;
    bench.delete_state(&under_key(&writer, 2, 1), &key).await;
    let first = bench.put_variable(&under_key(&writer, 3, 1), &variable_key, "1").await;
    let second = bench.put_variable(&writer, &variable_key, "2").await;
    bench.delete_variable(&writer, &variable_key).await;

    for kind in Kind::ALL {
        assert_eq!(bench.put(kind, &writer, "none", Expected::Present).await, Outcome::Refused { current: None });
        assert_eq!(
            bench.put(kind, &under_key(&writer, 9, 9), "none", Expected::Exactly(version(1))).await,
            Outcome::Refused { current: None }
        );
        assert_eq!(bench.delete(kind, &under_key(&writer, 8, 8), "none", Expected::Any).await, Outcome::Absent);
        assert_eq!(bench.delete(kind, &under_key(&writer, 1, 9), "none", Expected::Any).await, Outcome::KeyReused);
    }

    let rows = bench.inspector.log(&writer.tenant).await;
    let (state_kind, variable_kind) = (ChangeKind::State as i16, ChangeKind::Variable as i16);
    let (created, replaced, deleted) = (ChangeOperation::Created as i16, ChangeOperation::Replaced as i16, ChangeOperation::Deleted as i16);
    let seen: Vec<_> = rows.iter().map(|row| (row.kind, row.operation, row.version)).collect();
    assert_eq!(
        seen,
        [
            (state_kind, created, 1),
            (state_kind, replaced, 2),
            (state_kind, deleted, 3),
            (variable_kind, created, 1),
            (variable_kind, replaced, 2),
            (variable_kind, deleted, 3),
        ]
    );
    for (index, row) in rows.iter().enumerate() {
        let keys = if index < 3 { ["order", "e", ""] } else { ["workflow:order", "größe/1", ""] };
        assert_eq!((row.keys.each_ref().map(String::as_str), row.actor.as_str()), (keys, "f:1:ada"));
    }
    for (index, record_time) in [(0, one.updated_at), (1, two.updated_at), (3, first.updated_at), (4, second.updated_at)] {
        assert_eq!(rows[index].at, record_time.as_microseconds(), "the same time as in the record");
    }
    assert_eq!(bench.inspector.idempotency_rows(&writer.tenant).await, 3);
}
