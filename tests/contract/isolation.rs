//! What belongs to one tenant, scope or execution is not seen or changed from another.

use nworkflow_state::domain::id::{ExecutionId, SessionId, UserId, WorkflowId};
use nworkflow_state::domain::state::StateKey;
use nworkflow_state::domain::variable::Scope;
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{HistoryQuery, Lookup, Outcome, VariableQuery};

use super::bench::{Bench, Kind, SMALL, global, live, state, variable, version};

const EVERYTHING: VariableQuery =
    VariableQuery { prefix: String::new(), names: Vec::new(), after: None, limit: 1000, max_bytes: usize::MAX };
const HISTORY: HistoryQuery = HistoryQuery { ascending: false, after: None, limit: 1000 };

pub(super) async fn of_tenants(bench: &Bench) {
    let (owner, stranger) = (bench.writer(), bench.writer());
    let (key, variable_key) = (state("k"), global("k"));
    let saved = bench.put_state(&owner, &key, r#"{"marking":{"secret":1}}"#).await;
    let kept = bench.put_variable(&owner, &variable_key, r#""secret""#).await;

    let tenant = &stranger.tenant;
    assert_eq!(bench.store.get_state(tenant, &key).await.unwrap(), Lookup::Absent);
    assert_eq!(bench.store.get_state_version(tenant, &key, version(1)).await.unwrap(), None);
    assert_eq!(bench.store.state_history(tenant, &key, HISTORY).await.unwrap(), None);
    assert_eq!(bench.store.get_variable(tenant, &variable_key, None).await.unwrap(), Lookup::Absent);
    assert!(bench.store.list_variables(tenant, &Scope::Global, None, &EVERYTHING).await.unwrap().items.is_empty());
    for kind in Kind::ALL {
        for expected in [Expected::Present, Expected::Exactly(version(1))] {
            assert_eq!(bench.put(kind, &stranger, "k", expected).await, Outcome::Refused { current: None });
            assert_eq!(bench.delete(kind, &stranger, "k", expected).await, Outcome::Refused { current: None });
        }
        assert_eq!(bench.delete(kind, &stranger, "k", Expected::Any).await, Outcome::Absent);
        let created = Outcome::Applied { created: true, record: version(1) };
        assert_eq!(bench.put(kind, &stranger, "k", Expected::Absent).await, created, "an own one of the same name");
        let deleted = Outcome::Applied { created: false, record: version(2) };
        assert_eq!(bench.delete(kind, &stranger, "k", Expected::Any).await, deleted);
    }
    assert_eq!(live(bench.state(&owner, &key).await), saved, "untouched");
    assert_eq!(live(bench.variable(&owner, &variable_key).await), kept, "untouched");
    assert_eq!(bench.inspector.log(&owner.tenant).await.len(), 2);
}

pub(super) async fn of_version_floors(bench: &Bench) {
    for kind in Kind::ALL {
        let (writer, other) = (bench.writer(), bench.writer());
        for writer in [&writer, &other] {
            bench.put(kind, writer, "old", Expected::Any).await;
        }
        bench.inspector.raise_version_floor(&writer.tenant, 40).await;
        let (created, replaced) = (true, false);
        for (writer, name, is_new, number) in
            [(&writer, "new", created, 41), (&writer, "new", replaced, 42), (&writer, "old", replaced, 2), (&other, "new", created, 1)]
        {
            let outcome = bench.put(kind, writer, name, Expected::Any).await;
            assert_eq!(outcome, Outcome::Applied { created: is_new, record: version(number) }, "{kind:?} {name}");
        }
    }
}

pub(super) async fn of_scopes(bench: &Bench) {
    let writer = bench.writer();
    let scopes = [
        Scope::Global,
        Scope::Workflow(WorkflowId::parse("a").unwrap()),
        Scope::Session(SessionId::parse("a").unwrap()),
        Scope::User(UserId::parse("a").unwrap()),
        Scope::Workflow(WorkflowId::parse("A").unwrap()),
        Scope::User(UserId::parse("a:a").unwrap()),
    ];
    for (number, scope) in scopes.iter().enumerate() {
        let saved = bench.put_variable(&writer, &variable(scope.clone(), "v"), &number.to_string()).await;
        assert_eq!(saved.version, version(1), "{scope}");
    }
    for (number, scope) in scopes.iter().enumerate() {
        let key = variable(scope.clone(), "v");
        assert_eq!(&*live(bench.variable(&writer, &key).await).value, number.to_string(), "{scope}");
        let page = bench.store.list_variables(&writer.tenant, scope, None, &EVERYTHING).await.unwrap();
        let listed: Vec<_> = page.items.iter().map(|record| (&record.key, &*record.value)).collect();
        assert_eq!(listed, [(&key, number.to_string().as_str())]);
    }
    bench.delete_variable(&writer, &variable(scopes[1].clone(), "v")).await;
    for (number, scope) in scopes.iter().enumerate() {
        let found = bench.variable(&writer, &variable(scope.clone(), "v")).await;
        assert_eq!(matches!(found, Lookup::Live(_)), number != 1, "{scope}");
    }
}

pub(super) async fn of_executions(bench: &Bench) {
    let writer = bench.writer();
    let key = |workflow: &str, execution: &str| StateKey {
        workflow: WorkflowId::parse(workflow).unwrap(),
        execution: ExecutionId::parse(execution).unwrap(),
    };
    let keys = [key("w", "e"), key("w", "E"), key("W", "e"), key("we", "e"), key("e", "w")];
    for key in &keys {
        assert_eq!(bench.put_state(&writer, key, SMALL).await.version, version(1));
    }
    bench.put_state(&writer, &keys[0], SMALL).await;
    bench.delete_state(&writer, &keys[1]).await;
    for key in &keys[2..] {
        assert_eq!(live(bench.state(&writer, key).await).version, version(1));
        let history = bench.store.state_history(&writer.tenant, key, HISTORY).await.unwrap().unwrap();
        assert_eq!(history.items.len(), 1);
    }
}
