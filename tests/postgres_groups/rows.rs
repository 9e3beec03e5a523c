//! Every row has its own outcome, whatever becomes of the others.

use super::*;
use nworkflow_state::domain::id::{SessionId, UserId, VariableName};
use nworkflow_state::domain::session::{Reach, SessionDocument};
use nworkflow_state::domain::variable::{Expiry, Scope, VariableDocument, VariableKey};
use nworkflow_state::store::Lookup;

#[tokio::test]
async fn writes_that_wait_share_a_transaction() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let store = open(&database.config(), &ear).await;
    let acme = context("acme");
    let names: Vec<String> = (0..300).map(|number| format!("e{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(versions(put_all(&store, &acme, &names).await), [1; 300]);
    let (groups, rows) = written(&store);
    assert_eq!(rows, 300);
    assert!((2..=20).contains(&groups), "{groups} groups");
    let mut told: Vec<String> = names.iter().map(|name| format!("acme {name} 1")).collect();
    told.sort();
    assert_eq!(ear.told("committed"), told);
    // A second round replaces; one after the other is one group each.
    assert_eq!(versions(put_all(&store, &acme, &names).await), [2; 300]);
    let before = written(&store).0;
    for name in names.iter().take(5) {
        assert_eq!(version(put(&store, &acme, name, Expected::Any).await), Ok(3));
    }
    assert_eq!(written(&store).0, before + 5);
    let figures = store.figures();
    assert_eq!((figures.queue_depth, figures.queue_capacity), (0, 7 * 1024));
    store.close().await;
}

#[tokio::test]
async fn a_group_ends_with_its_limits() {
    let database = TestDatabase::migrated().await;
    let names: Vec<String> = (0..20).map(|number| format!("e{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bytes = document().text().len();
    for (config, groups) in [
        (DatabaseConfig { group_writes: 5, ..one_lane(database.config()) }, 4),
        (DatabaseConfig { group_writes: 1, ..one_lane(database.config()) }, 20),
        (DatabaseConfig { group_bytes: bytes * 10, ..one_lane(database.config()) }, 2),
        (one_lane(database.config()), 1),
    ] {
        let store = open(&config, &Arc::default()).await;
        versions(put_all(&store, &context("acme"), &names).await);
        assert_eq!(written(&store), (groups, 20));
        store.close().await;
    }
}

#[tokio::test]
async fn a_precondition_that_fails_fails_alone() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let store = open(&one_lane(database.config()), &ear).await;
    let acme = context("acme");
    versions(put_all(&store, &acme, &["a", "b", "c", "d"]).await);
    let reused = keyed(&acme, 1, 1);
    assert_eq!(version(put(&store, &reused, "k", Expected::Any).await), Ok(1));
    ear.calls();
    let before = written(&store).0;
    let other = keyed(&acme, 1, 2);
    let outcomes = join_all([
        put(&store, &acme, "a", exactly(1)),
        put(&store, &acme, "b", exactly(7)),
        put(&store, &acme, "c", Expected::Absent),
        put(&store, &acme, "new", Expected::Absent),
        put(&store, &acme, "newer", Expected::Present),
        put(&store, &other, "l", Expected::Any),
        put(&store, &acme, "d", Expected::Any),
    ])
    .await;
    let current = |number| Outcome::Refused { current: Version::new(number) };
    let [a, b, c, new, newer, l, d] = outcomes.try_into().unwrap();
    assert_eq!((version(a), version(new), version(d)), (Ok(2), Ok(1), Ok(2)));
    assert_eq!((b.unwrap(), c.unwrap(), newer.unwrap(), l.unwrap()), (current(1), current(1), current(0), Outcome::KeyReused));
    assert_eq!(written(&store).0, before + 1, "in one transaction");
    assert_eq!(ear.calls().iter().map(|(call, words)| (*call, words.len())).collect::<Vec<_>>(), [("before", 3), ("committed", 3)]);
    store.close().await;
}

#[tokio::test]
async fn a_row_that_the_database_refuses_fails_alone() {
    let database = TestDatabase::migrated().await;
    database
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON execution_state FOR EACH ROW WHEN (NEW.execution_id LIKE 'poison%') EXECUTE FUNCTION refuse()",
        )
        .await;
    let ear = Arc::new(Ear::default());
    let store = open(&one_lane(database.config()), &ear).await;
    let acme = context("acme");
    for (round, names) in [["a", "poison", "b"], ["poison", "a", "poison2"], ["a", "b", "poison"]].into_iter().enumerate() {
        for (name, outcome) in names.iter().zip(put_all(&store, &acme, &names).await) {
            if name.starts_with("poison") {
                assert!(matches!(outcome, Err(StoreError::Internal(_))), "{outcome:?}");
            } else {
                assert!(version(outcome).is_ok(), "round {round}: {name}");
            }
        }
        let told = ear.calls();
        assert!(told.iter().flat_map(|(_, words)| words).all(|word| !word.contains("poison")), "{told:?}");
    }
    assert_dense(&database, "a", 3).await;
    assert_dense(&database, "b", 2).await;
    store.close().await;
}

#[tokio::test]
async fn tenants_share_no_transaction() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let store = open(&one_lane(database.config()), &ear).await;
    let tenants: Vec<WriteContext> = (0..12).map(|number| context(&format!("tenant{number}"))).collect();
    for round in 1..=3 {
        let all = tenants.iter().flat_map(|tenant| ["a", "b", "c"].map(|name| put(&store, tenant, name, Expected::Any)));
        assert_eq!(versions(join_all(all).await), [round; 36]);
        for (call, words) in ear.calls() {
            let tenants: std::collections::HashSet<&str> = words.iter().filter_map(|word| word.split(' ').next()).collect();
            assert_eq!((tenants.len(), words.len()), (1, 3), "{call}");
        }
    }
    assert_eq!(written(&store), (36, 108));
    let foreign = "SELECT count(*) FROM change_log l JOIN execution_state x ON x.execution_id = l.k2 AND x.tenant_id = l.tenant_id";
    let rows: i64 = sqlx::query_scalar(foreign).fetch_one(&mut database.superuser().await).await.unwrap();
    assert_eq!(rows, 108, "every row is its own tenant's");
    store.close().await;
}

#[tokio::test]
async fn all_kinds_have_lanes() {
    let database = TestDatabase::migrated().await;
    let store = database.store(Clock::new()).await;
    let acme = context("acme");
    let owner = UserId::parse("ada").unwrap();
    let value = VariableDocument { value: "1".into(), description: None, expiry: Expiry::Never };
    let data = SessionDocument { data: "{}".into(), ttl_seconds: Some(60), sliding: false, max_ttl_seconds: None };
    let variables: Vec<VariableKey> =
        (0..50).map(|number| VariableKey { scope: Scope::Global, name: VariableName::parse(&format!("v{number}")).unwrap() }).collect();
    let sessions: Vec<SessionId> = (0..50).map(|number| SessionId::parse(&format!("s{number}")).unwrap()).collect();
    let reach = Reach::All;
    let count = || written(&store);
    let mut last = (0, 0);
    let mut check = |kind: &str| {
        let now = count();
        assert_eq!(now.1 - last.1, 50, "{kind}");
        assert!(now.0 - last.0 <= 10, "{kind}: {} groups", now.0 - last.0);
        last = now;
    };
    for outcome in join_all(variables.iter().map(|key| store.put_variable(&acme, key, None, Expected::Absent, &value))).await {
        assert!(matches!(outcome, Ok(Outcome::Applied { created: true, .. })), "{outcome:?}");
    }
    check("put variable");
    for (key, found) in variables.iter().zip(join_all(variables.iter().map(|key| store.get_variable(&acme.tenant, key, None))).await) {
        assert!(matches!(found, Ok(Lookup::Live(record)) if record.key == *key));
    }
    for outcome in join_all(variables.iter().map(|key| store.delete_variable(&acme, key, None, exactly(1)))).await {
        assert!(matches!(outcome, Ok(Outcome::Applied { .. })), "{outcome:?}");
    }
    check("delete variable");
    for outcome in join_all(sessions.iter().map(|id| store.put_session(&acme, id, &reach, &owner, Expected::Absent, &data))).await {
        assert!(matches!(outcome, Ok(Outcome::Applied { created: true, .. })), "{outcome:?}");
    }
    check("put session");
    for outcome in join_all(sessions.iter().map(|id| store.extend_session(&acme, id, &reach, exactly(1), 60))).await {
        assert!(matches!(outcome, Ok(Outcome::Applied { created: false, .. })), "{outcome:?}");
    }
    check("extend session");
    for (id, found) in sessions.iter().zip(join_all(sessions.iter().map(|id| store.get_session(&acme.tenant, id, &reach))).await) {
        assert!(matches!(found, Ok(Lookup::Live(record)) if record.id == *id && record.version.get() == 2));
    }
    for outcome in join_all(sessions.iter().map(|id| store.delete_session(&acme, id, &reach, Expected::Any))).await {
        assert!(matches!(outcome, Ok(Outcome::Applied { .. })), "{outcome:?}");
    }
    check("delete session");
    let names: Vec<String> = (0..50).map(|number| format!("e{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    versions(put_all(&store, &acme, &names).await);
    check("put state");
    let states: Vec<_> = names.iter().map(|name| state(name)).collect();
    for outcome in join_all(states.iter().map(|key| store.delete_state(&acme, key, Expected::Present))).await {
        assert!(matches!(outcome, Ok(Outcome::Applied { .. })), "{outcome:?}");
    }
    check("delete state");
    store.close().await;
}
