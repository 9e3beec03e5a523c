//! PostgreSQL alone: every statement of the whole memory finds its rows by an index, also when its plan was made while the tables were
//! empty or small.

use std::time::Duration;

use nworkflow_state::config::DatabaseConfig;
use nworkflow_state::domain::checkpoint::CheckpointQuery;
use nworkflow_state::domain::clock::{Clock, Timestamp};
use nworkflow_state::domain::id::{ExecutionId, UserId};
use nworkflow_state::domain::session::{Reach, SessionQuery};
use nworkflow_state::domain::state::{ExecutionOrder, ExecutionQuery, Operation, RecentPosition};
use nworkflow_state::domain::variable::{Number, Scope, VariableBatch};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::postgres::PostgresStore;
use nworkflow_state::store::{Store, VariableQuery, WriteContext};

use crate::postgres_memory::{checkpoint, context, document, name, new_checkpoint, session, sliding, state};
use crate::support::postgres::{TestDatabase, open};

/// Rows of other keys of the tenant.
const ROWS: i64 = 5000;

#[tokio::test]
async fn planned_on_empty_tables() {
    use_indexes(false).await;
}

#[tokio::test]
async fn planned_on_small_tables() {
    use_indexes(true).await;
}

async fn sessions(store: &PostgresStore, acme: &WriteContext, round: usize) {
    let (id, own) = (session(&format!("s{round}")), Reach::Own(acme.actor.clone()));
    for expected in [Expected::Any, Expected::Present] {
        store.put_session(acme, &id, &own, &acme.actor, expected, &sliding(60)).await.unwrap();
    }
    store.touch_session(&acme.tenant, &id).await.unwrap();
    store.extend_session(acme, &id, &Reach::All, Expected::Any, 60).await.unwrap();
    store.get_session(&acme.tenant, &id, &own).await.unwrap();
    for reach in [own, Reach::All] {
        let query = SessionQuery { reach, after: Some(id.clone()), limit: 10 };
        store.list_sessions(&acme.tenant, &query).await.unwrap();
    }
    store.delete_session(acme, &id, &Reach::All, Expected::Any).await.unwrap();
}

async fn variables(store: &PostgresStore, acme: &WriteContext, round: usize) {
    let names: Vec<_> = (0..4).map(|number| name(&format!("v{round}-{number}"))).collect();
    let scope = Scope::Workflow(state("e").workflow);
    for _ in 0..2 {
        let batch = VariableBatch {
            set: names.iter().take(3).map(|name| (name.clone(), "1".into())).collect(),
            delete: names[3..].to_vec(),
            if_versions: Vec::new(),
        };
        store.write_variables(acme, &scope, None, &batch).await.unwrap();
        let batch = VariableBatch { set: vec![(names[3].clone(), "1".into())], delete: names[..1].to_vec(), if_versions: Vec::new() };
        store.write_variables(acme, &scope, None, &batch).await.unwrap();
    }
    let key = nworkflow_state::domain::variable::VariableKey { scope: scope.clone(), name: names[1].clone() };
    store.increment_variable(acme, &key, None, Expected::Any, Number::Integer(1)).await.unwrap();
    let query = VariableQuery { prefix: "v".into(), names: Vec::new(), after: None, limit: 10, max_bytes: 1000 };
    let user = Scope::User(UserId::parse("ada").unwrap());
    store.effective_variables(&acme.tenant, &[(user, None), (scope.clone(), None), (Scope::Global, None)], &query).await.unwrap();
    store.delete_variables(acme, &scope, None, 3).await.unwrap();
}

async fn executions(store: &PostgresStore, acme: &WriteContext, round: usize) {
    let execution = format!("e{round}");
    let (key, id) = (state(&execution), checkpoint(&execution, "c"));
    store.put_state(acme, &key, Expected::Any, &document(), Operation::Put).await.unwrap();
    store.create_checkpoint(acme, &id, &new_checkpoint(false)).await.unwrap();
    store.create_checkpoint(acme, &checkpoint(&execution, "d"), &new_checkpoint(true)).await.unwrap();
    store.get_checkpoint(&acme.tenant, &id).await.unwrap();
    store.restore_checkpoint(acme, &id, Expected::Any).await.unwrap();
    store.fork_checkpoint(acme, &id, &ExecutionId::parse(&format!("f{round}")).unwrap(), Expected::Any).await.unwrap();
    store.get_state_at(&acme.tenant, &key, Timestamp::from_microseconds(1_700_000_000_000_000)).await.unwrap();
    let (workflow, execution) = (Some(key.workflow.clone()), Some(key.execution.clone()));
    for (workflow, execution) in [(None, None), (workflow.clone(), None), (None, execution.clone()), (workflow, execution)] {
        let query = CheckpointQuery { workflow, execution, limit: 10, ..CheckpointQuery::default() };
        store.list_checkpoints(&acme.tenant, &query).await.unwrap();
    }
    store.list_workflows(&acme.tenant, None, 10).await.unwrap();
    let recent = RecentPosition { listed_at: Timestamp::from_microseconds(4_000_000_000_000_000), incarnation: 1 };
    for order in [ExecutionOrder::Id(None), ExecutionOrder::Id(Some(key.execution.clone())), ExecutionOrder::Recent(Some(recent))] {
        let query = ExecutionQuery { status: Some("running".into()), updated_after: None, order, limit: 10 };
        store.list_executions(&acme.tenant, &key.workflow, &query).await.unwrap();
    }
    store.delete_checkpoint(acme, &id, Expected::Any).await.unwrap();
    store.delete_execution(acme, &key, Expected::Any).await.unwrap();
}

async fn use_indexes(analyze: bool) {
    let database = TestDatabase::migrated().await;
    // One connection, so that every statement keeps its first plan.
    let config = DatabaseConfig { pool_size: 1, ..database.config() };
    let store = open(&config, Clock::new()).await.unwrap();
    let acme = context("acme");
    for round in 0..10 {
        sessions(&store, &acme, round).await;
        variables(&store, &acme, round).await;
        executions(&store, &acme, round).await;
        if round == 0 && analyze {
            database.execute("ANALYZE").await;
        }
        if round == usize::from(analyze) {
            database
                .execute(format!(
                    "INSERT INTO execution_state (tenant_id, workflow_id, execution_id, state_id, version, created_version, created_at, updated_at,
                                                  listed_at, status) OVERRIDING SYSTEM VALUE
                       SELECT 'acme', 'w', 'raw' || n, 1000000 + n, 1, 1, now(), now(), now(), 'running' FROM generate_series(1, {ROWS}) n;
                     INSERT INTO state_version (tenant_id, state_id, version, created_at, at, size, operation, actor, status)
                       SELECT 'acme', 1000000 + n, 1, now(), now(), 0, 1, 'a', 'running' FROM generate_series(1, {ROWS}) n;
                     INSERT INTO checkpoint (tenant_id, state_id, checkpoint_id, workflow_id, execution_id, version, created_at, size, created_by, metadata)
                       SELECT 'acme', 1000000 + n, 'c', 'w', 'raw' || n, 1, now() - n * interval '1 second', 0, 'a', '{{}}' FROM generate_series(1, {ROWS}) n;
                     INSERT INTO session (tenant_id, session_id, subject, version, created_version, ttl_ms, created_at, updated_at, expires_at,
                                          written_expires_at, sweep_at, sliding, data)
                       SELECT 'acme', 'raw' || n, 'ada', 1, 1, 1, now(), now(), now() + interval '1 day', now(), now(), false, '1'
                       FROM generate_series(1, {ROWS}) n;
                     INSERT INTO variable (tenant_id, scope_kind, scope_id, name, version, created_version, created_at, updated_at, updated_by, value)
                       SELECT 'acme', 2, 'w', 'zraw' || n, 1, 1, now(), now(), 'a', '1' FROM generate_series(1, {ROWS}) n"
                ))
                .await;
        }
    }
    // The server's session has told its counts once it has ended.
    store.close().await;
    let mut scans: Vec<(String, i64)> = vec![("none yet".to_owned(), i64::MAX)];
    for _ in 0..300 {
        let counts = "SELECT relname::text, seq_tup_read FROM pg_stat_user_tables WHERE seq_tup_read >= $1
                      UNION ALL SELECT indexrelname::text, idx_tup_read FROM pg_stat_user_indexes WHERE idx_tup_read >= $1
                      UNION ALL SELECT 'not told', 1 FROM pg_stat_user_tables WHERE relname = 'session' AND idx_scan = 0";
        scans = sqlx::query_as(counts).bind(ROWS).fetch_all(&mut database.superuser().await).await.unwrap();
        if scans.iter().all(|(table, _)| table != "not told") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(scans, [], "tables that were read from one end to the other");
}
