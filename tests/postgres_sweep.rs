//! PostgreSQL alone: housekeeping beside other servers, beside writers, and tenant by tenant.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nworkflow_state::config::{DatabaseConfig, Milliseconds};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::session::Reach;
use nworkflow_state::domain::state::Operation;
use nworkflow_state::domain::variable::{Expiry, Scope, VariableDocument, VariableKey};
use nworkflow_state::domain::version::{Expected, Version};
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::postgres::PostgresStore;
use nworkflow_state::store::{Lookup, Outcome, Store, StoreError, SweepLimits, SweepTask, Swept, WriteContext};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::postgres_memory::{applied, checkpoint, context, document, name, new_checkpoint, put_session, session, sliding, state};
use crate::support::postgres::{TestDatabase, open};

const HOUR: i64 = 3600;
const LIMITS: SweepLimits = SweepLimits { rows: 100, log_seconds: 48 * HOUR, floor_seconds: 60 };

fn variable(scope: Scope, text: &str) -> VariableKey {
    VariableKey { scope, name: name(text) }
}

fn value(ttl_seconds: Option<i64>) -> VariableDocument {
    VariableDocument { value: "1".into(), description: None, expiry: ttl_seconds.map_or(Expiry::Never, Expiry::In) }
}

/// Steps until nothing is due; what they changed.
async fn sweep(store: &PostgresStore, task: SweepTask) -> u64 {
    sweep_within(store, task, LIMITS).await
}

async fn sweep_within(store: &PostgresStore, task: SweepTask, limits: SweepLimits) -> u64 {
    let mut rows = 0;
    loop {
        let swept = store.sweep(task, limits).await.unwrap();
        assert!(!swept.busy);
        rows += swept.rows;
        if !swept.more {
            return rows;
        }
    }
}

async fn count(database: &TestDatabase, rows: &str) -> i64 {
    let sql = AssertSqlSafe(format!("SELECT count(*) FROM {rows}"));
    sqlx::query_scalar(sql).fetch_one(&mut database.superuser().await).await.unwrap()
}

#[tokio::test]
async fn of_two_servers_one_sweeps() {
    let database = TestDatabase::migrated().await;
    let (one, other) = (database.store(Clock::new()).await, database.store(Clock::new()).await);
    let acme = context("acme");
    applied(one.put_state(&acme, &state("e"), Expected::Any, &document(), Operation::Put).await.unwrap());
    let idle = Swept { rows: 0, more: false, busy: false };
    assert_eq!(one.sweep(SweepTask::ChangeLog, LIMITS).await.unwrap(), idle);
    // A step that is at work, because somebody holds a row that it wants and does not pass over.
    let mut holder = database.superuser().await;
    holder.execute("BEGIN; UPDATE tenant SET version_floor = 0").await.unwrap();
    applied(one.put_variable(&acme, &variable(Scope::Global, "v"), None, Expected::Any, &value(None)).await.unwrap());
    applied(one.delete_variable(&acme, &variable(Scope::Global, "v"), None, Expected::Any).await.unwrap());
    let clock = Clock::new();
    clock.advance_seconds(48 * HOUR);
    let late = database.store(clock).await;
    let step = late.sweep(SweepTask::VersionFloors, LIMITS);
    let meanwhile = async {
        // It holds the sweeper's lock, and waits for the row.
        while count(&database, "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").await == 0 {
            tokio::task::yield_now().await;
        }
        let swept = other.sweep(SweepTask::ExpiredSessions, LIMITS).await.unwrap();
        holder.execute("COMMIT").await.unwrap();
        swept
    };
    let (swept, busy) = tokio::join!(step, meanwhile);
    assert_eq!(busy, Swept { rows: 0, more: false, busy: true });
    assert_eq!(swept.unwrap(), Swept { rows: 1, more: false, busy: false });
    assert_eq!(other.sweep(SweepTask::ExpiredSessions, LIMITS).await.unwrap(), idle, "the lock ended with the step");
    for store in [one, other, late] {
        store.close().await;
    }
}

#[tokio::test]
async fn every_tenant_has_its_turn() {
    let database = TestDatabase::migrated().await;
    let clock = Clock::new();
    let store = database.store(clock.clone()).await;
    let tenants = ["a", "b", "c"].map(context);
    for tenant in &tenants {
        for number in 0..10 {
            put_session(&store, tenant, &session(&format!("s{number}")), 60).await;
        }
    }
    clock.advance_seconds(3 * HOUR);
    // A foreign row among the due ones would be a row of another tenant: row level security says so too.
    let limits = SweepLimits { rows: 4, ..LIMITS };
    let mut order = Vec::new();
    loop {
        let swept = store.sweep(SweepTask::ExpiredSessions, limits).await.unwrap();
        assert!(swept.rows <= 4);
        order.push(swept.rows);
        if !swept.more {
            break;
        }
    }
    assert_eq!(order.iter().sum::<u64>(), 30, "{order:?}");
    assert_eq!(count(&database, "session WHERE deleted AND data IS NULL AND version = 1").await, 30);
    assert_eq!(store.get_session(&tenants[0].tenant, &session("s0"), &Reach::All).await.unwrap(), Lookup::Gone(one()), "as before");
    // A busy tenant does not keep the next one waiting: the walk goes on where it stopped.
    for number in 0..8 {
        for tenant in [&tenants[0], &tenants[2]] {
            put_session(&store, tenant, &session(&format!("t{number}")), 60).await;
        }
    }
    clock.advance_seconds(3 * HOUR);
    for _ in 0..4 {
        store.sweep(SweepTask::ExpiredSessions, limits).await.unwrap();
    }
    assert_eq!(count(&database, "session WHERE NOT deleted").await, 0);
    store.close().await;
}

fn one() -> Version {
    Version::new(1).unwrap()
}

#[tokio::test]
async fn what_was_extended_is_looked_at_again() {
    let database = TestDatabase::migrated().await;
    let clock = Clock::new();
    let store = database.store(clock.clone()).await;
    let acme = context("acme");
    let id = session("s");
    let life = Some(put_session(&store, &acme, &id, 60).await.life);
    let own = variable(Scope::Session(id.clone()), "v");
    applied(store.put_variable(&acme, &own, life, Expected::Any, &value(None)).await.unwrap());
    applied(store.extend_session(&acme, &id, &Reach::All, Expected::Any, 30 * 24 * HOUR).await.unwrap());
    clock.advance_seconds(3 * HOUR);
    for task in [SweepTask::ExpiredSessions, SweepTask::ExpiredVariables] {
        assert_eq!(sweep(&store, task).await, 1, "{task:?}");
        assert_eq!(sweep(&store, task).await, 0, "{task:?}: not due before its time");
    }
    assert!(matches!(store.get_session(&acme.tenant, &id, &Reach::All).await.unwrap(), Lookup::Live(_)));
    assert!(matches!(store.get_variable(&acme.tenant, &own, life).await.unwrap(), Lookup::Live(_)));
    // The variable is looked at within a day, because the session may be deleted before its time.
    applied(store.delete_session(&acme, &id, &Reach::All, Expected::Any).await.unwrap());
    clock.advance_seconds(26 * HOUR);
    assert_eq!(sweep(&store, SweepTask::ExpiredVariables).await, 1);
    assert_eq!(count(&database, "variable WHERE deleted AND value IS NULL").await, 1);
    store.close().await;
}

#[tokio::test]
async fn heads_go_when_nothing_hangs_on_them() {
    let database = TestDatabase::migrated().await;
    let clock = Clock::new();
    let store = database.store(clock.clone()).await;
    let acme = context("acme");
    for execution in ["gone", "held", "deleted"] {
        applied(store.put_state(&acme, &state(execution), Expected::Any, &document(), Operation::Put).await.unwrap());
    }
    applied(store.create_checkpoint(&acme, &checkpoint("gone", "c"), &new_checkpoint(false)).await.unwrap());
    for execution in ["gone", "held"] {
        applied(store.delete_execution(&acme, &state(execution), Expected::Any).await.unwrap());
    }
    applied(store.delete_state(&acme, &state("deleted"), Expected::Any).await.unwrap());
    applied(store.create_checkpoint(&acme, &checkpoint("held", "c"), &new_checkpoint(true)).await.unwrap());
    assert_eq!(sweep(&store, SweepTask::RemovedExecutions).await, 5, "two versions, a checkpoint, two incarnations");
    assert_eq!(sweep(&store, SweepTask::RemovedExecutions).await, 0);
    let phases = async |expected: [u64; 2]| {
        clock.advance_seconds(26 * HOUR);
        let first = sweep(&store, SweepTask::VersionFloors).await;
        assert_eq!(sweep(&store, SweepTask::Tombstones).await, 0, "the floor is too young");
        clock.advance_seconds(LIMITS.floor_seconds);
        assert_eq!([first, sweep(&store, SweepTask::Tombstones).await], expected);
    };
    phases([1, 2]).await;
    assert_eq!(count(&database, "execution_state WHERE execution_id = 'gone'").await, 0);
    assert_eq!(count(&database, "execution_state WHERE execution_id IN ('held', 'deleted')").await, 2);
    // Its last checkpoint frees it; the deleted state, whose history stays, is never swept.
    applied(store.delete_checkpoint(&acme, &checkpoint("held", "c"), Expected::Any).await.unwrap());
    phases([1, 2]).await;
    assert_eq!(count(&database, "execution_state").await, 1);
    assert_eq!(count(&database, "checkpoint").await, 0);
    let again = applied(store.put_state(&acme, &state("held"), Expected::Any, &document(), Operation::Put).await.unwrap());
    assert!(again.version.get() > 2, "above all that went: {}", again.version);
    store.close().await;
}

#[tokio::test]
async fn a_floor_that_could_rise_every_time_is_old_enough_some_time() {
    let database = TestDatabase::migrated().await;
    let clock = Clock::new();
    let store = database.store(clock.clone()).await;
    let acme = context("acme");
    for number in 0..20_i64 {
        let key = variable(Scope::Global, &format!("v{number}"));
        for _ in 0..=number {
            applied(store.put_variable(&acme, &key, None, Expected::Any, &value(None)).await.unwrap());
        }
        applied(store.delete_variable(&acme, &key, None, Expected::Any).await.unwrap());
        clock.advance_seconds(HOUR);
    }
    // From now on each hour one more tombstone is due, each above the last floor; a run comes every half of the floor's time.
    clock.advance_seconds(6 * HOUR);
    let limits = SweepLimits { floor_seconds: HOUR / 4, ..LIMITS };
    let mut removed = 0;
    for _ in 0..(2 * 25 * HOUR / limits.floor_seconds) {
        sweep_within(&store, SweepTask::VersionFloors, limits).await;
        removed += sweep_within(&store, SweepTask::Tombstones, limits).await;
        clock.advance_seconds(limits.floor_seconds / 2);
    }
    assert_eq!((removed, count(&database, "variable").await), (20, 0));
    store.close().await;
}

#[tokio::test]
async fn old_answers_and_old_log_rows_go() {
    let database = TestDatabase::migrated().await;
    let clock = Clock::new();
    let store = database.store(clock.clone()).await;
    for tenant in ["acme", "evil"] {
        for number in 0..3_u128 {
            let mut context = context(tenant);
            let key = uuid::Uuid::from_u128(number);
            context.idempotency = Some(nworkflow_state::store::Idempotency { key, fingerprint: key });
            applied(store.put_variable(&context, &variable(Scope::Global, "v"), None, Expected::Any, &value(None)).await.unwrap());
        }
    }
    for task in [SweepTask::IdempotencyKeys, SweepTask::ChangeLog] {
        assert_eq!(sweep(&store, task).await, 0, "{task:?}");
    }
    clock.advance_seconds(26 * HOUR);
    assert_eq!(sweep(&store, SweepTask::IdempotencyKeys).await, 6);
    assert_eq!(sweep(&store, SweepTask::ChangeLog).await, 0);
    clock.advance_seconds(26 * HOUR);
    assert_eq!(sweep(&store, SweepTask::ChangeLog).await, 6);
    assert_eq!(count(&database, "idempotency").await + count(&database, "change_log").await, 0);
    store.close().await;
}

/// A creator whose statement began before the removal of its key's tombstone, and waits for it: it saw the tombstone, and finds nothing. Its
/// snapshot has the floor that was raised before, because between the phases lies more time than a statement may take.
#[tokio::test]
async fn a_creator_that_waits_for_the_removal_begins_above_the_floor() {
    let database = TestDatabase::migrated().await;
    let clock = Clock::new();
    let store = database.store(clock.clone()).await;
    let acme = context("acme");
    let (own, id) = (variable(Scope::Global, "v"), session("s"));
    for _ in 0..3 {
        applied(store.put_variable(&acme, &own, None, Expected::Any, &value(None)).await.unwrap());
        applied(store.delete_variable(&acme, &own, None, Expected::Any).await.unwrap());
        put_session(&store, &acme, &id, 60).await;
        applied(store.delete_session(&acme, &id, &Reach::All, Expected::Any).await.unwrap());
    }
    clock.advance_seconds(48 * HOUR);
    assert_eq!(sweep(&store, SweepTask::VersionFloors).await, 1);
    clock.advance_seconds(LIMITS.floor_seconds);
    // The second phase, by hand, so that it can be held in the middle.
    let mut remover = database.superuser().await;
    remover.execute("BEGIN; DELETE FROM variable WHERE deleted; DELETE FROM session WHERE deleted").await.unwrap();
    let document = sliding(60);
    let plain = value(None);
    let creators = async {
        tokio::join!(
            store.put_variable(&acme, &own, None, Expected::Any, &plain),
            store.put_session(&acme, &id, &Reach::All, &acme.actor, Expected::Any, &document),
        )
    };
    let removal = async {
        while count(&database, "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").await < 2 {
            tokio::task::yield_now().await;
        }
        remover.execute("COMMIT").await.unwrap();
    };
    let ((created, begun), ()) = tokio::join!(creators, removal);
    assert_eq!(applied(created.unwrap()).version.get(), 7, "six versions were given");
    assert_eq!(applied(begun.unwrap()).version.get(), 7, "six versions were given");
    store.close().await;
}

/// Puts and deletes keys of a kind as fast as it can, each for a while and then not for the next ones, so that its tombstone can be swept
/// before it comes back. Remembers each version that it was answered, by key.
async fn churn(store: &PostgresStore, context: &WriteContext, number: usize, stop: &AtomicBool) -> [Vec<i64>; TURNS] {
    let begun = Instant::now();
    let mut versions: [Vec<i64>; TURNS] = Default::default();
    let written = |outcome: Outcome<i64>| match outcome {
        Outcome::Applied { record, .. } => Some(record),
        Outcome::Refused { .. } | Outcome::Absent => None,
        outcome => panic!("{outcome:?}"),
    };
    let reach = Reach::All;
    while !stop.load(Ordering::Relaxed) {
        let turn = (usize::try_from(begun.elapsed().as_secs()).unwrap() + number / 8) % TURNS;
        let text = format!("k{turn}");
        let (put, deleted) = match number % 4 {
            0 => {
                let key = variable(Scope::Global, &text);
                let put = store.put_variable(context, &key, None, Expected::Any, &value(None)).await.unwrap();
                let deleted = store.delete_variable(context, &key, None, Expected::Any).await.unwrap();
                (of(put, |record| record.version), of(deleted, |record| record.version))
            }
            1 => {
                let id = session(&text);
                let put = store.put_session(context, &id, &reach, &context.actor, Expected::Any, &sliding(60)).await.unwrap();
                let deleted = store.delete_session(context, &id, &reach, Expected::Any).await.unwrap();
                (of(put, |record| record.version), of(deleted, |record| record.version))
            }
            2 => {
                let key = checkpoint("held", &text);
                let put = store.create_checkpoint(context, &key, &new_checkpoint(true)).await.unwrap();
                let deleted = store.delete_checkpoint(context, &key, Expected::Any).await.unwrap();
                (of(put, |record| record.item.version), of(deleted, |record| record.version))
            }
            _ => {
                let key = state(&text);
                let put = store.put_state(context, &key, Expected::Any, &document(), Operation::Put).await.unwrap();
                let deleted = store.delete_execution(context, &key, Expected::Any).await.unwrap();
                (of(put, |record| record.version), of(deleted, |record| record.version))
            }
        };
        versions[turn].extend(written(put));
        versions[turn].extend(written(deleted));
    }
    versions
}

fn of<R>(outcome: Outcome<R>, version: impl Fn(R) -> Version) -> Outcome<i64> {
    match outcome {
        Outcome::Applied { created, record } => Outcome::Applied { created, record: version(record).get() },
        Outcome::Refused { current } => Outcome::Refused { current },
        Outcome::Absent => Outcome::Absent,
        Outcome::Replayed(_) | Outcome::KeyReused => Outcome::KeyReused,
    }
}

/// How many keys of a kind a writer goes around, a second each.
const TURNS: usize = 6;

/// Tombstones are made due at once and swept while they are made: no version of a key ever comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_version_comes_twice_in_a_storm() {
    /// The storm goes on until this many tombstones went away under it, however slow the machine is.
    const SWEPT: u64 = 30;
    const STORM: Duration = Duration::from_secs(12);
    const PATIENCE: Duration = Duration::from_secs(180);
    let database = TestDatabase::migrated().await;
    let config = DatabaseConfig { statement_timeout_ms: Milliseconds(1000), ..database.config() };
    let store = Arc::new(open(&config, Clock::new()).await.unwrap());
    let lifecycle = Lifecycle::new();
    let acme = context("acme");
    let stop = Arc::new(AtomicBool::new(false));
    let swept = Arc::new(AtomicU64::new(0));
    // The sweeper's clock runs two days ahead, so every tombstone is due; the floor waits two seconds, which no statement can take.
    let ahead = Clock::new();
    ahead.advance_seconds(48 * HOUR);
    let sweeper = database.store(ahead).await;
    let sweeping = {
        let (stop, swept) = (Arc::clone(&stop), Arc::clone(&swept));
        lifecycle.spawn(async move {
            let limits = SweepLimits { rows: 500, log_seconds: 1000 * HOUR, floor_seconds: 2 };
            while !stop.load(Ordering::Relaxed) {
                for task in [SweepTask::RemovedExecutions, SweepTask::VersionFloors, SweepTask::Tombstones] {
                    let done = match sweeper.sweep(task, limits).await {
                        Ok(done) => done,
                        // A machine that is busy with other things is silent for too long now and then; the next step does it.
                        Err(StoreError::Unavailable(_)) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    if task == SweepTask::Tombstones {
                        swept.fetch_add(done.rows, Ordering::Relaxed);
                    }
                }
            }
            sweeper.close().await;
        })
    };
    let writers: Vec<_> = (0..20)
        .map(|number| {
            let (store, acme, stop) = (Arc::clone(&store), acme.clone(), Arc::clone(&stop));
            lifecycle.spawn(async move { (number, churn(&store, &acme, number, &stop).await) })
        })
        .collect();
    let begun = Instant::now();
    while begun.elapsed() < STORM || (swept.load(Ordering::Relaxed) < SWEPT && begun.elapsed() < PATIENCE) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut writes = 0;
    for (number, versions) in join_all(writers).await.into_iter().map(Result::unwrap) {
        for versions in versions {
            writes += versions.len();
            assert!(versions.is_sorted_by(|one, next| one < next), "writer {number}: {versions:?}");
        }
    }
    sweeping.await.unwrap();
    let logged = count(&database, "change_log").await;
    let distinct = count(&database, "(SELECT DISTINCT kind, k1, k2, coalesce(k3, ''), version FROM change_log) v").await;
    let highest: i64 =
        sqlx::query_scalar("SELECT max(version_floor) FROM tenant").fetch_one(&mut database.superuser().await).await.unwrap();
    let swept = swept.load(Ordering::Relaxed);
    let _ = std::io::Write::write_fmt(
        &mut std::io::stdout(),
        format_args!("storm: {writes} writes of 24 keys in {} s, {swept} tombstones removed, floor {highest}\n", begun.elapsed().as_secs()),
    );
    assert_eq!(logged, distinct, "no version of a key twice");
    assert!(swept >= SWEPT && highest > 1, "the storm met the sweeper: {swept} removed, floor {highest}");
    Arc::into_inner(store).unwrap().close().await;
}
