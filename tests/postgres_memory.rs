//! PostgreSQL alone: what sessions, batches and checkpoints need of its locks, its rows and its commits.

use std::future::Future as _;
use std::net::ToSocketAddrs as _;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use nworkflow_state::domain::checkpoint::{CheckpointKey, NewCheckpoint};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::{Change, CommitObserver, Objection, Resource};
use nworkflow_state::domain::id::{CheckpointId, ExecutionId, SessionId, TenantId, UserId, VariableName, WorkflowId};
use nworkflow_state::domain::session::{Reach, SessionDocument, SessionRecord};
use nworkflow_state::domain::state::{Operation, StateDocument, StateKey};
use nworkflow_state::domain::variable::{BatchOutcome, Number, Scope, VariableBatch, VariableKey};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::postgres::{OpenMode, PostgresStore};
use nworkflow_state::store::{Outcome, Store, WriteContext};
use sqlx::Row as _;
use uuid::Uuid;

use crate::support::postgres::{APP, TestDatabase, config_of, server};
use crate::support::proxy::{Fault, Proxy};

pub(crate) fn context(tenant: &str) -> WriteContext {
    let tenant = TenantId::parse(tenant).unwrap();
    WriteContext { tenant, actor: UserId::parse("ada").unwrap(), request_id: Uuid::nil(), idempotency: None }
}

pub(crate) fn state(execution: &str) -> StateKey {
    StateKey { workflow: WorkflowId::parse("w").unwrap(), execution: ExecutionId::parse(execution).unwrap() }
}

pub(crate) fn document() -> StateDocument {
    StateDocument::parse(r#"{"marking":{"p":1}}"#).unwrap()
}

pub(crate) fn checkpoint(execution: &str, id: &str) -> CheckpointKey {
    CheckpointKey { state: state(execution), checkpoint: CheckpointId::parse(id).unwrap() }
}

/// A checkpoint of the current state, or of a given one.
pub(crate) fn new_checkpoint(is_given: bool) -> NewCheckpoint {
    NewCheckpoint { label: None, metadata: "{}".into(), document: is_given.then(document) }
}

pub(crate) fn session(id: &str) -> SessionId {
    SessionId::parse(id).unwrap()
}

pub(crate) fn sliding(seconds: i64) -> SessionDocument {
    SessionDocument { data: "{}".into(), ttl_seconds: Some(seconds), sliding: true, max_ttl_seconds: None }
}

pub(crate) fn name(text: &str) -> VariableName {
    VariableName::parse(text).unwrap()
}

/// What was applied.
pub(crate) fn applied<R: std::fmt::Debug>(outcome: Outcome<R>) -> R {
    match outcome {
        Outcome::Applied { record, .. } => record,
        outcome => panic!("{outcome:?}"),
    }
}

/// Saves a session that lives so many seconds.
pub(crate) async fn put_session(store: &PostgresStore, context: &WriteContext, id: &SessionId, seconds: i64) -> SessionRecord {
    applied(store.put_session(context, id, &Reach::All, &context.actor, Expected::Any, &sliding(seconds)).await.unwrap())
}

#[tokio::test]
async fn touching_and_extending_a_session_writes_no_index() {
    let database = TestDatabase::migrated().await;
    let clock = Clock::new();
    let store = database.store(clock.clone()).await;
    let acme = context("acme");
    let ids: Vec<_> = (0..50).map(|number| session(&format!("s{number}"))).collect();
    for id in &ids {
        put_session(&store, &acme, id, 3600).await;
    }
    for _ in 0..10 {
        clock.advance_seconds(600);
        for id in &ids {
            let touched = store.touch_session(&acme.tenant, id).await.unwrap().unwrap();
            let extended = applied(store.extend_session(&acme, id, &Reach::All, Expected::Any, 60).await.unwrap());
            assert_eq!(extended.expires_at, touched.plus_seconds(60));
            put_session(&store, &acme, id, 3600).await;
        }
    }
    store.close().await;
    // A connection reports what it did when it ends, at the latest.
    let mut superuser = database.superuser().await;
    for attempt in 0.. {
        let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'session'";
        let row = sqlx::query(sql).fetch_one(&mut superuser).await.unwrap();
        let (updates, hot): (i64, i64) = (row.get(0), row.get(1));
        if updates == 1500 {
            assert!(hot >= 1400, "{hot} of {updates} updates stayed in their page");
            break;
        }
        assert!(attempt < 100, "{updates} updates were reported");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_owners_who_make_one_session_one_has_it() {
    let database = TestDatabase::migrated().await;
    let store = database.store(Clock::new()).await;
    let acme = context("acme");
    put_session(&store, &acme, &session("warm"), 3600).await;
    let users: Vec<UserId> = (0..8).map(|number| UserId::parse(&format!("u{number}")).unwrap()).collect();
    for round in 0..30 {
        let id = session(&format!("s{round}"));
        let puts = users.iter().map(|user| {
            let (store, acme, id) = (&store, &acme, &id);
            async move { store.put_session(acme, id, &Reach::Own(user.clone()), user, Expected::Any, &sliding(60)).await.unwrap() }
        });
        let outcomes = join_all(puts).await;
        let winners: Vec<_> = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Applied { created: true, .. })).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Absent).count(), users.len() - 1, "{outcomes:?}");
        let lives: i64 = sqlx::query_scalar("SELECT version FROM session WHERE session_id = $1")
            .bind(id.as_str())
            .fetch_one(&mut database.superuser().await)
            .await
            .unwrap();
        assert_eq!(lives, 1, "a foreign write was rolled back");
    }
    store.close().await;
}

async fn deadlocks(database: &TestDatabase) -> i64 {
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(&mut database.superuser().await).await.unwrap()
}

/// Batches over the same names, each in another order; names come, go, and are only looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_over_the_same_names_do_not_deadlock() {
    let database = TestDatabase::migrated().await;
    let store = Arc::new(database.store(Clock::new()).await);
    let acme = context("acme");
    let names: Vec<_> = (0..20).map(|number| name(&format!("n{number:02}"))).collect();
    for round in 0..20_usize {
        let batches: Vec<_> = (0..12_usize)
            .map(|writer| {
                let mut order = names.clone();
                order.rotate_left((writer * 7 + round) % names.len());
                if writer % 2 == 0 {
                    order.reverse();
                }
                let (set, rest) = order.split_at(12);
                let set = set.iter().map(|name| (name.clone(), "1".into())).collect();
                VariableBatch { set, delete: rest.to_vec(), if_versions: Vec::new() }
            })
            .collect();
        let writes = batches.iter().map(|batch| store.write_variables(&acme, &Scope::Global, None, batch));
        for outcome in join_all(writes).await {
            assert!(matches!(outcome, Ok(BatchOutcome::Applied(_))), "{outcome:?}");
        }
    }
    let versions: i64 = sqlx::query_scalar("SELECT count(*) FROM (SELECT DISTINCT k2, version FROM change_log) v")
        .fetch_one(&mut database.superuser().await)
        .await
        .unwrap();
    let changes: i64 = sqlx::query_scalar("SELECT count(*) FROM change_log").fetch_one(&mut database.superuser().await).await.unwrap();
    assert_eq!(versions, changes, "no version twice");
    Arc::into_inner(store).unwrap().close().await;
    assert_eq!(deadlocks(&database).await, 0);
}

#[tokio::test]
async fn a_refused_batch_leaves_nothing_behind() {
    let database = TestDatabase::migrated().await;
    let store = database.store(Clock::new()).await;
    let acme = context("acme");
    let batch = VariableBatch {
        set: vec![(name("new"), "1".into())],
        delete: vec![name("none")],
        if_versions: vec![(name("other"), Version::new(3))],
    };
    let outcome = store.write_variables(&acme, &Scope::Global, None, &batch).await.unwrap();
    assert_eq!(outcome, BatchOutcome::Refused(vec![(name("other"), None)]));
    // The rollback is on its way; whoever locks the row next waits for it.
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM variable").fetch_one(&mut database.superuser().await).await.unwrap();
    assert_eq!(rows, 0);
    store.close().await;
}

#[tokio::test]
async fn checkpoints_of_a_removed_execution_are_not_met_again() {
    let database = TestDatabase::migrated().await;
    let store = database.store(Clock::new()).await;
    let acme = context("acme");
    let (key, id) = (state("e"), checkpoint("e", "c"));
    store.put_state(&acme, &key, Expected::Any, &document(), Operation::Put).await.unwrap();
    let mut last = 0;
    for _ in 0..3 {
        applied(store.create_checkpoint(&acme, &id, &new_checkpoint(true)).await.unwrap());
        applied(store.delete_checkpoint(&acme, &id, Expected::Any).await.unwrap());
        let made = applied(store.create_checkpoint(&acme, &id, &new_checkpoint(true)).await.unwrap()).item.version.get();
        assert!(made > last, "{made} follows {last}");
        last = made;
        let removed = applied(store.delete_execution(&acme, &key, Expected::Any).await.unwrap());
        assert_eq!(removed.checkpoints, 1);
    }
    store.close().await;
}

/// Remembers what it was told, as words.
#[derive(Default)]
struct Ear(Mutex<Vec<String>>);

impl Ear {
    fn hear(&self, what: &str, changes: &[Change]) {
        let words = changes.iter().map(|change| {
            let resource = match &change.resource {
                Resource::State(key) => key.execution.as_str().to_owned(),
                Resource::Checkpoint(key) => key.checkpoint.as_str().to_owned(),
                Resource::Session(id) => id.as_str().to_owned(),
                Resource::Variable(key) => key.name.as_str().to_owned(),
            };
            format!("{what} {resource} {}", change.version)
        });
        self.0.lock().unwrap().extend(words);
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[async_trait]
impl CommitObserver for Ear {
    async fn before_commit(&self, changes: &[Change]) -> Result<(), Objection> {
        self.hear("before", changes);
        Ok(())
    }

    fn committed(&self, changes: &[Change]) {
        self.hear("committed", changes);
    }

    fn rolled_back(&self, changes: &[Change]) {
        self.hear("rolled back", changes);
    }
}

#[tokio::test]
async fn the_observer_hears_the_end_of_every_commit() {
    let database = TestDatabase::migrated().await;
    let address = (server().get_host(), server().get_port()).to_socket_addrs().unwrap().next().unwrap();
    let proxy = Proxy::start(address).await;
    let config = config_of(format!("postgres://{APP}@{}/{}", proxy.address(), database.name()));
    let ear = Arc::new(Ear::default());
    let observer = Arc::clone(&ear) as Arc<dyn CommitObserver>;
    let store = PostgresStore::open(&config, Clock::new(), OpenMode::Serve, &Lifecycle::new(), observer).await.unwrap();
    let acme = context("acme");
    let put = async || store.put_state(&acme, &state("e"), Expected::Any, &document(), Operation::Put).await;
    applied(put().await.unwrap());
    assert_eq!(ear.heard(), ["before e 1", "committed e 1"]);
    assert!(matches!(
        store.put_state(&acme, &state("e"), Expected::Absent, &document(), Operation::Put).await,
        Ok(Outcome::Refused { .. })
    ));
    assert_eq!(ear.heard(), [""; 0], "nothing changed");
    // COMMIT never arrives, so the transaction is rolled back and begun again.
    proxy.arm(Fault::BeforeCommit);
    applied(put().await.unwrap());
    assert_eq!(ear.heard(), ["before e 2", "rolled back e 2", "before e 2", "committed e 2"]);
    // It arrives, and the answer is lost.
    proxy.arm(Fault::AfterCommit);
    applied(put().await.unwrap());
    assert_eq!(ear.heard(), ["before e 3", "committed e 3"]);
    store.close().await;
}

#[tokio::test]
async fn a_write_that_is_given_up_at_its_commit_is_told_as_committed() {
    let database = TestDatabase::migrated().await;
    let ear = Arc::new(Ear::default());
    let observer = Arc::clone(&ear) as Arc<dyn CommitObserver>;
    let store = PostgresStore::open(&database.config(), Clock::new(), OpenMode::Serve, &Lifecycle::new(), observer).await.unwrap();
    let acme = context("acme");
    let mut given_up = 0;
    // One that is in no group: those go on without their callers.
    for key in (0..200).map(|number| VariableKey { scope: Scope::Global, name: name(&format!("v{number}")) }) {
        let mut write = Box::pin(store.increment_variable(&acme, &key, None, Expected::Any, Number::Integer(1)));
        // Dropped as soon as it has told: COMMIT is on its way, unless its answer was quicker.
        let mut is_pending = true;
        while is_pending && ear.0.lock().unwrap().is_empty() {
            is_pending = std::future::poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await.is_pending();
            tokio::task::yield_now().await;
        }
        drop(write);
        given_up += usize::from(is_pending);
        let name = key.name.as_str();
        assert_eq!(ear.heard(), [format!("before {name} 1"), format!("committed {name} 1")]);
    }
    assert!(given_up > 20, "{given_up} of 200 writes were given up");
    store.close().await;
}
