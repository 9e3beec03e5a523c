//! What a case works with: a store, its clock, a look behind it, and short words for the domain's types.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use nworkflow_state::domain::checkpoint::{CheckpointKey, CheckpointRecord, NewCheckpoint};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::id::{CheckpointId, ExecutionId, SessionId, TenantId, UserId, VariableName, WorkflowId};
use nworkflow_state::domain::session::{Reach, SessionDocument, SessionRecord};
use nworkflow_state::domain::state::{Operation, StateDocument, StateKey, StateRecord};
use nworkflow_state::domain::variable::{Expiry, MAX_TTL_SECONDS, Scope, VariableDocument, VariableKey, VariableRecord};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::store::{Idempotency, Lookup, Outcome, Replay, Store, SweepLimits, SweepTask, Tombstone, WriteContext};
use uuid::Uuid;

use super::watcher::Watcher;

/// Looks into the backend's tables without the store.
#[async_trait]
pub(super) trait Inspector: Send + Sync {
    /// The tenant's rows of the change log, in their order.
    async fn log(&self, tenant: &TenantId) -> Vec<LogRow>;
    /// How many idempotency keys the tenant has.
    async fn idempotency_rows(&self, tenant: &TenantId) -> i64;
    /// How many rows the tenant has of some: a table and a condition, `session WHERE deleted`.
    async fn count(&self, tenant: &TenantId, rows: &'static str) -> i64;
    /// Brings about what no call can: a statement whose `$1` is the tenant.
    async fn execute(&self, sql: &'static str, tenant: &TenantId);
    /// Sets the tenant's version floor, as the sweeper does before it removes tombstones.
    async fn raise_version_floor(&self, tenant: &TenantId, floor: i64);
}

/// A row of the change log. Its time is microseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogRow {
    pub(super) kind: i16,
    pub(super) operation: i16,
    pub(super) version: i64,
    pub(super) keys: [String; 3],
    pub(super) actor: String,
    pub(super) at: i64,
}

pub(super) struct Bench {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    /// What the store tells of its commits.
    pub(super) watcher: Arc<Watcher>,
    pub(super) inspector: Box<dyn Inspector>,
}

/// Counts tenants and requests, over all benches: a database may serve several.
static COUNTER: AtomicU64 = AtomicU64::new(1);

impl Bench {
    pub(super) fn new(store: Arc<dyn Store>, clock: Clock, watcher: Arc<Watcher>, inspector: Box<dyn Inspector>) -> Self {
        Self { store, clock, watcher, inspector }
    }

    /// The context of a user of a tenant that nobody else has.
    pub(super) fn writer(&self) -> WriteContext {
        let tenant = format!("tenant-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        WriteContext {
            tenant: TenantId::parse(&tenant).unwrap(),
            actor: UserId::parse("f:1:ada").unwrap(),
            request_id: Uuid::from_u128(u128::from(COUNTER.fetch_add(1, Ordering::Relaxed))),
            idempotency: None,
        }
    }

    pub(super) async fn put_state(&self, context: &WriteContext, key: &StateKey, body: &str) -> StateRecord {
        applied(self.store.put_state(context, key, Expected::Any, &document(body), Operation::Put).await.unwrap()).1
    }

    pub(super) async fn delete_state(&self, context: &WriteContext, key: &StateKey) -> Version {
        applied(self.store.delete_state(context, key, Expected::Any).await.unwrap()).1.version
    }

    pub(super) async fn state(&self, context: &WriteContext, key: &StateKey) -> Lookup<StateRecord> {
        self.store.get_state(&context.tenant, key).await.unwrap()
    }

    pub(super) async fn put_variable(&self, context: &WriteContext, key: &VariableKey, value: &str) -> VariableRecord {
        applied(self.store.put_variable(context, key, None, Expected::Any, &plain(value)).await.unwrap()).1
    }

    pub(super) async fn delete_variable(&self, context: &WriteContext, key: &VariableKey) -> Version {
        applied(self.store.delete_variable(context, key, None, Expected::Any).await.unwrap()).1.version
    }

    pub(super) async fn variable(&self, context: &WriteContext, key: &VariableKey) -> Lookup<VariableRecord> {
        self.store.get_variable(&context.tenant, key, None).await.unwrap()
    }

    pub(super) async fn put_session(&self, context: &WriteContext, id: &SessionId, document: &SessionDocument) -> SessionRecord {
        let owner = context.actor.clone();
        applied(self.store.put_session(context, id, &Reach::All, &owner, Expected::Any, document).await.unwrap()).1
    }

    pub(super) async fn session(&self, context: &WriteContext, id: &SessionId) -> Lookup<SessionRecord> {
        self.store.get_session(&context.tenant, id, &Reach::All).await.unwrap()
    }

    /// A checkpoint of the current state.
    pub(super) async fn checkpoint(&self, context: &WriteContext, key: &CheckpointKey) -> CheckpointRecord {
        applied(self.store.create_checkpoint(context, key, &of_current()).await.unwrap()).1
    }

    /// Sweeps until nothing is due; the rows that were changed, of whatever tenant.
    pub(super) async fn sweep(&self, task: SweepTask) -> u64 {
        let mut rows = 0;
        loop {
            let swept = self.store.sweep(task, SWEEP_LIMITS).await.unwrap();
            assert!(!swept.busy, "nobody else sweeps");
            rows += swept.rows;
            if !swept.more {
                return rows;
            }
        }
    }

    /// Saves one resource of a kind under a name, whatever the body.
    pub(super) async fn put(&self, kind: Kind, context: &WriteContext, name: &str, expected: Expected) -> Outcome<Version> {
        match kind {
            Kind::State => {
                let outcome = self.store.put_state(context, &state(name), expected, &document(SMALL), Operation::Put).await.unwrap();
                version_of(outcome, |record| record.version)
            }
            Kind::Session => {
                let (id, owner) = (session(name), context.actor.clone());
                let outcome = self.store.put_session(context, &id, &Reach::All, &owner, expected, &lasting(MAX_TTL_SECONDS)).await.unwrap();
                version_of(outcome, |record| record.version)
            }
            Kind::Variable => {
                let outcome = self.store.put_variable(context, &global(name), None, expected, &plain("1")).await.unwrap();
                version_of(outcome, |record| record.version)
            }
        }
    }

    /// Deletes it.
    pub(super) async fn delete(&self, kind: Kind, context: &WriteContext, name: &str, expected: Expected) -> Outcome<Version> {
        let outcome = match kind {
            Kind::State => self.store.delete_state(context, &state(name), expected).await,
            Kind::Session => self.store.delete_session(context, &session(name), &Reach::All, expected).await,
            Kind::Variable => self.store.delete_variable(context, &global(name), None, expected).await,
        };
        version_of(outcome.unwrap(), |Tombstone { version }| version)
    }

    /// Reads it.
    pub(super) async fn get(&self, kind: Kind, context: &WriteContext, name: &str) -> Lookup<Version> {
        match kind {
            Kind::State => live_version_of(self.state(context, &state(name)).await, |record| record.version),
            Kind::Session => live_version_of(self.session(context, &session(name)).await, |record| record.version),
            Kind::Variable => live_version_of(self.variable(context, &global(name)).await, |record| record.version),
        }
    }
}

/// The kinds of resources that promise the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    State,
    Session,
    Variable,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::State, Self::Session, Self::Variable];
}

/// The body of a state that does not matter.
pub(super) const SMALL: &str = r#"{"marking":{"start":1}}"#;

pub(super) fn state(execution: &str) -> StateKey {
    StateKey { workflow: WorkflowId::parse("order").unwrap(), execution: ExecutionId::parse(execution).unwrap() }
}

/// Few rows a step, so that a case sees several steps.
pub(super) const SWEEP_LIMITS: SweepLimits = SweepLimits { rows: 100, log_seconds: 30 * 24 * 3600, floor_seconds: 60 };

pub(super) fn checkpoint(execution: &str, id: &str) -> CheckpointKey {
    CheckpointKey { state: state(execution), checkpoint: CheckpointId::parse(id).unwrap() }
}

/// A checkpoint of the current state, without label.
pub(super) fn of_current() -> NewCheckpoint {
    NewCheckpoint { label: None, metadata: "{}".into(), document: None }
}

/// A checkpoint of this state.
pub(super) fn of_given(body: &str) -> NewCheckpoint {
    NewCheckpoint { document: Some(document(body)), ..of_current() }
}

pub(super) fn session(id: &str) -> SessionId {
    SessionId::parse(id).unwrap()
}

pub(super) fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// A session that lives so many seconds.
pub(super) fn lasting(seconds: i64) -> SessionDocument {
    SessionDocument { data: "{}".into(), ttl_seconds: Some(seconds), sliding: false, max_ttl_seconds: None }
}

pub(super) fn name(text: &str) -> VariableName {
    VariableName::parse(text).unwrap()
}

pub(super) fn document(body: &str) -> StateDocument {
    StateDocument::parse(body).unwrap()
}

pub(super) fn global(name: &str) -> VariableKey {
    variable(Scope::Global, name)
}

pub(super) fn variable(scope: Scope, name: &str) -> VariableKey {
    VariableKey { scope, name: VariableName::parse(name).unwrap() }
}

pub(super) fn plain(value: &str) -> VariableDocument {
    VariableDocument { value: value.into(), description: None, expiry: Expiry::Never }
}

pub(super) fn version(number: i64) -> Version {
    Version::new(number).unwrap()
}

/// The same writer under an idempotency key.
pub(super) fn under_key(context: &WriteContext, key: u128, fingerprint: u128) -> WriteContext {
    let idempotency = Idempotency { key: Uuid::from_u128(key), fingerprint: Uuid::from_u128(fingerprint) };
    WriteContext { idempotency: Some(idempotency), ..context.clone() }
}

/// What was applied, and whether it was created.
pub(super) fn applied<R: Debug>(outcome: Outcome<R>) -> (bool, R) {
    match outcome {
        Outcome::Applied { created, record } => (created, record),
        other => panic!("expected an applied write, got {other:?}"),
    }
}

/// What was replayed.
pub(super) fn replayed<R: Debug>(outcome: Outcome<R>) -> Replay<R> {
    match outcome {
        Outcome::Replayed(replay) => replay,
        other => panic!("expected a replay, got {other:?}"),
    }
}

/// What is live.
pub(super) fn live<R: Debug>(lookup: Lookup<R>) -> R {
    match lookup {
        Lookup::Live(record) => record,
        other => panic!("expected a live record, got {other:?}"),
    }
}

fn version_of<R>(outcome: Outcome<R>, version: impl Fn(R) -> Version) -> Outcome<Version> {
    match outcome {
        Outcome::Applied { created, record } => Outcome::Applied { created, record: version(record) },
        Outcome::Refused { current } => Outcome::Refused { current },
        Outcome::Absent => Outcome::Absent,
        Outcome::Replayed(replay) => {
            Outcome::Replayed(Replay { status: replay.status, version: replay.version, record: replay.record.map(version) })
        }
        Outcome::KeyReused => Outcome::KeyReused,
    }
}

fn live_version_of<R>(lookup: Lookup<R>, version: impl Fn(R) -> Version) -> Lookup<Version> {
    match lookup {
        Lookup::Live(record) => Lookup::Live(version(record)),
        Lookup::Gone(version) => Lookup::Gone(version),
        Lookup::Absent => Lookup::Absent,
    }
}
