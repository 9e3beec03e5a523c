//! PostgreSQL alone: requests that share a transaction, and what becomes of each when something is wrong with one of them or with all.

mod faults;
mod order;
mod reads;
mod rows;

use std::net::ToSocketAddrs as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use nworkflow_state::config::{DatabaseConfig, Milliseconds};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::{Change, CommitObserver, Objection, Resource};
use nworkflow_state::domain::state::{Operation, StateRecord};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::postgres::{OpenMode, PostgresStore};
use nworkflow_state::store::{Idempotency, Outcome, Store, StoreError, WriteContext};
use sqlx::Connection as _;
use uuid::Uuid;

use crate::postgres_memory::{context, document, state};
use crate::support::postgres::{APP, TestDatabase, config_of, server};
use crate::support::proxy::Proxy;

type Put = Result<Outcome<StateRecord>, StoreError>;

/// One lane, so that all that waits is one group.
fn one_lane(config: DatabaseConfig) -> DatabaseConfig {
    DatabaseConfig { lanes: 1, ..config }
}

async fn open(config: &DatabaseConfig, observer: &Arc<Ear>) -> PostgresStore {
    let observer = Arc::clone(observer) as Arc<dyn CommitObserver>;
    PostgresStore::open(config, Clock::new(), OpenMode::Serve, &Lifecycle::new(), observer).await.unwrap()
}

/// A store behind a proxy. Its statements have half a second, and a second more to answer.
async fn behind_proxy(database: &TestDatabase, observer: &Arc<Ear>) -> (Proxy, PostgresStore) {
    let address = (server().get_host(), server().get_port()).to_socket_addrs().unwrap().next().unwrap();
    let proxy = Proxy::start(address).await;
    let config = config_of(format!("postgres://{APP}@{}/{}", proxy.address(), database.name()));
    let store = open(&one_lane(DatabaseConfig { statement_timeout_ms: Milliseconds(500), ..config }), observer).await;
    (proxy, store)
}

async fn put(store: &PostgresStore, context: &WriteContext, execution: &str, expected: Expected) -> Put {
    store.put_state(context, &state(execution), expected, &document(), Operation::Put).await
}

/// Saves all of these at once. On one thread all of them are in the queue before the lane sees the first.
async fn put_all(store: &PostgresStore, context: &WriteContext, executions: &[&str]) -> Vec<Put> {
    join_all(executions.iter().map(|execution| put(store, context, execution, Expected::Any))).await
}

/// The versions, when all were written.
fn versions(puts: Vec<Put>) -> Vec<i64> {
    puts.into_iter().map(|put| version(put).unwrap_or_else(|other| panic!("{other}"))).collect()
}

fn version(put: Put) -> Result<i64, String> {
    match put {
        Ok(Outcome::Applied { record, .. }) => Ok(record.version.get()),
        other => Err(format!("{other:?}")),
    }
}

fn exactly(number: i64) -> Expected {
    Expected::Exactly(Version::new(number).unwrap())
}

fn keyed(context: &WriteContext, key: u128, fingerprint: u128) -> WriteContext {
    let idempotency = Idempotency { key: Uuid::from_u128(key), fingerprint: Uuid::from_u128(fingerprint) };
    WriteContext { idempotency: Some(idempotency), ..context.clone() }
}

/// Transactions that wrote, and the rows in them.
fn written(store: &PostgresStore) -> (u64, u64) {
    let figures = store.figures();
    (figures.groups, figures.rows)
}

/// Waits until so many statements of the server wait for locks.
async fn wait_for_locks(database: &TestDatabase, least: i64) -> i64 {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1 AND wait_event_type = 'Lock'";
    let mut watcher = database.superuser().await;
    for _ in 0..500 {
        let count = sqlx::query_scalar::<_, i64>(waiting).bind(APP).fetch_one(&mut watcher).await.unwrap();
        if count >= least {
            watcher.close().await.unwrap();
            return count;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {least} statements wait for a lock");
}

/// Waits until the store's queue is so long.
async fn wait_for_queue(store: &PostgresStore, depth: u64) {
    for _ in 0..500 {
        if store.figures().queue_depth == depth {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} wait, not {depth}", store.figures().queue_depth);
}

/// Every version of a state is in its history and in the log, once; the newest is this.
async fn assert_dense(database: &TestDatabase, execution: &str, newest: i64) {
    let mut superuser = database.superuser().await;
    let history = "SELECT array_agg(v.version ORDER BY v.version) FROM state_version v JOIN execution_state x USING (tenant_id, state_id)
                   WHERE x.execution_id = $1";
    let log = "SELECT array_agg(version ORDER BY version) FROM change_log WHERE k2 = $1";
    for sql in [history, log] {
        let found: Vec<i64> = sqlx::query_scalar(sql).bind(execution).fetch_one(&mut superuser).await.unwrap();
        assert_eq!(found, (1..=newest).collect::<Vec<_>>(), "{execution}");
    }
}

/// An observer that keeps what it hears and does what it is told.
#[derive(Default)]
struct Ear(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    calls: Vec<(&'static str, Vec<String>)>,
    mood: Mood,
}

/// What it does before a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Consent,
    Object,
    Panic,
}

impl Ear {
    fn hear(&self, call: &'static str, changes: &[Change]) -> Mood {
        let words = changes.iter().map(|change| match &change.resource {
            Resource::State(key) => format!("{} {} {}", change.tenant, key.execution, change.version),
            resource => panic!("{resource:?}"),
        });
        let mut heard = self.0.lock().unwrap();
        heard.calls.push((call, words.collect()));
        heard.mood
    }

    /// What it was told since the last call.
    fn calls(&self) -> Vec<(&'static str, Vec<String>)> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    /// The same of one kind of call, sorted.
    fn told(&self, kind: &str) -> Vec<String> {
        let mut words: Vec<String> = self.calls().into_iter().filter(|(call, _)| *call == kind).flat_map(|(_, words)| words).collect();
        words.sort();
        words
    }

    fn be(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }
}

#[async_trait]
impl CommitObserver for Ear {
    async fn before_commit(&self, changes: &[Change]) -> Result<(), Objection> {
        match self.hear("before", changes) {
            Mood::Consent => Ok(()),
            Mood::Object => Err(Objection("the cache does not answer")),
            Mood::Panic => panic!("the observer breaks"),
        }
    }

    fn committed(&self, changes: &[Change]) {
        self.hear("committed", changes);
    }

    fn rolled_back(&self, changes: &[Change]) {
        self.hear("rolled back", changes);
    }
}
