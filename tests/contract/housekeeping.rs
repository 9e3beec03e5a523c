//! What sweeping leaves, takes away, and never shows.

use futures_util::future::join_all;
use nworkflow_state::domain::session::SessionDocument;
use nworkflow_state::domain::variable::{Expiry, Scope, VariableDocument};
use nworkflow_state::domain::version::Expected;
use nworkflow_state::store::{HistoryQuery, IDEMPOTENCY_SECONDS, Lookup, Outcome, SweepLimits, SweepTask, WriteContext};

use super::bench::{
    Bench, Kind, SMALL, SWEEP_LIMITS, applied, checkpoint, global, lasting, live, of_given, plain, session, state, under_key, variable,
    version,
};

const DAY: i64 = 24 * 3600;
const HISTORY: HistoryQuery = HistoryQuery { ascending: false, after: None, limit: 1000 };

/// Lets tombstones become due, and removes them in both phases.
async fn remove_tombstones(bench: &Bench) {
    bench.clock.advance_seconds(2 * DAY);
    bench.sweep(SweepTask::VersionFloors).await;
    bench.clock.advance_seconds(SWEEP_LIMITS.floor_seconds + 1);
    bench.sweep(SweepTask::Tombstones).await;
}

pub(super) async fn expired_sessions_become_tombstones(bench: &Bench) {
    let writer = bench.writer();
    for number in 0..250 {
        bench.put_session(&writer, &session(&format!("short{number}")), &lasting(60)).await;
    }
    let long = bench.put_session(&writer, &session("long"), &lasting(60)).await;
    applied(
        bench
            .store
            .extend_session(&writer, &long.id, &nworkflow_state::domain::session::Reach::All, Expected::Any, 10 * DAY)
            .await
            .unwrap(),
    );
    let sliding = SessionDocument { sliding: true, ..lasting(3 * 3600) };
    bench.put_session(&writer, &session("touched"), &sliding).await;
    bench.clock.advance_seconds(2 * 3600);
    bench.store.touch_session(&writer.tenant, &session("touched")).await.unwrap().expect("it lives");
    bench.clock.advance_seconds(2 * 3600);
    let before = (bench.session(&writer, &long.id).await, bench.session(&writer, &session("touched")).await);
    let log = bench.inspector.log(&writer.tenant).await;
    bench.watcher.committed(&writer.tenant);
    assert_eq!(bench.inspector.count(&writer.tenant, "session WHERE data IS NOT NULL").await, 252);

    let step = bench.store.sweep(SweepTask::ExpiredSessions, SWEEP_LIMITS).await.unwrap();
    assert!(step.more && step.rows > 0 && !step.busy, "{step:?}");
    bench.sweep(SweepTask::ExpiredSessions).await;
    assert_eq!(bench.inspector.count(&writer.tenant, "session WHERE data IS NOT NULL").await, 2);
    assert_eq!(bench.inspector.count(&writer.tenant, "session WHERE deleted AND data IS NULL").await, 250);
    assert_eq!((bench.session(&writer, &long.id).await, bench.session(&writer, &session("touched")).await), before);
    assert_eq!(bench.session(&writer, &session("short0")).await, Lookup::Gone(version(1)), "the same version");
    assert_eq!(bench.inspector.log(&writer.tenant).await, log);
    assert_eq!(bench.watcher.committed(&writer.tenant), [], "nothing to tell");
    let again = bench.put_session(&writer, &session("short0"), &lasting(60)).await;
    assert_eq!((again.version, again.life), (version(2), version(2)));
    bench.clock.advance_seconds(11 * DAY);
    bench.sweep(SweepTask::ExpiredSessions).await;
    assert_eq!(bench.inspector.count(&writer.tenant, "session WHERE NOT deleted").await, 0, "what lived on is found later");
}

pub(super) async fn expired_variables_become_tombstones(bench: &Bench) {
    let writer = bench.writer();
    let short = VariableDocument { expiry: Expiry::In(60), description: Some("what".into()), ..plain("1") };
    for number in 0..150 {
        applied(bench.store.put_variable(&writer, &global(&format!("v{number}")), None, Expected::Any, &short).await.unwrap());
    }
    let kept = bench.put_variable(&writer, &global("kept"), "1").await;
    let lasting_variable = VariableDocument { expiry: Expiry::In(40 * DAY), ..plain("1") };
    let later = applied(bench.store.put_variable(&writer, &global("later"), None, Expected::Any, &lasting_variable).await.unwrap()).1;
    bench.clock.advance_seconds(3 * 3600);
    bench.sweep(SweepTask::ExpiredVariables).await;
    assert_eq!(bench.inspector.count(&writer.tenant, "variable WHERE deleted AND value IS NULL AND description IS NULL").await, 150);
    assert_eq!(bench.variable(&writer, &global("v0")).await, Lookup::Gone(version(1)));
    assert_eq!(live(bench.variable(&writer, &kept.key).await), kept);
    assert_eq!(live(bench.variable(&writer, &later.key).await), later);
    assert_eq!(bench.put_variable(&writer, &global("v0"), "2").await.version, version(2));
    bench.clock.advance_seconds(41 * DAY);
    bench.sweep(SweepTask::ExpiredVariables).await;
    assert_eq!(bench.inspector.count(&writer.tenant, "variable WHERE NOT deleted").await, 2);
}

pub(super) async fn variables_go_with_their_sessions(bench: &Bench) {
    let writer = bench.writer();
    let mut lives = Vec::new();
    for id in ["lives", "ends", "goes", "again"] {
        let life = Some(bench.put_session(&writer, &session(id), &lasting(if id == "ends" { 60 } else { 30 * DAY })).await.life);
        let key = variable(Scope::Session(session(id)), "v");
        applied(bench.store.put_variable(&writer, &key, life, Expected::Any, &plain("1")).await.unwrap());
        let short = VariableDocument { expiry: Expiry::In(60), ..plain("1") };
        let key = variable(Scope::Session(session(id)), "short");
        applied(bench.store.put_variable(&writer, &key, life, Expected::Any, &short).await.unwrap());
        lives.push(life);
    }
    let all = nworkflow_state::domain::session::Reach::All;
    for id in ["goes", "again"] {
        applied(bench.store.delete_session(&writer, &session(id), &all, Expected::Any).await.unwrap());
    }
    let second = Some(bench.put_session(&writer, &session("again"), &lasting(30 * DAY)).await.life);
    let anew = variable(Scope::Session(session("again")), "new");
    applied(bench.store.put_variable(&writer, &anew, second, Expected::Any, &plain("1")).await.unwrap());
    bench.clock.advance_seconds(2 * DAY);
    bench.sweep(SweepTask::ExpiredSessions).await;
    bench.sweep(SweepTask::ExpiredVariables).await;
    assert_eq!(bench.inspector.count(&writer.tenant, "variable WHERE NOT deleted").await, 2, "v of lives, new of again");
    for (id, name, life) in [("lives", "v", lives[0]), ("again", "new", second)] {
        let found = bench.store.get_variable(&writer.tenant, &variable(Scope::Session(session(id)), name), life).await.unwrap();
        assert!(matches!(found, Lookup::Live(_)), "{id} {name}: {found:?}");
    }
    applied(bench.store.delete_session(&writer, &session("lives"), &all, Expected::Any).await.unwrap());
    bench.clock.advance_seconds(2 * DAY);
    bench.sweep(SweepTask::ExpiredVariables).await;
    assert_eq!(bench.inspector.count(&writer.tenant, "variable WHERE NOT deleted").await, 1, "looked at again after a day");
}

pub(super) async fn tombstones_go_in_two_phases(bench: &Bench) {
    for kind in [Kind::Session, Kind::Variable] {
        let rows = if kind == Kind::Session { "session WHERE true" } else { "variable WHERE true" };
        let writer = bench.writer();
        for _ in 0..5 {
            bench.put(kind, &writer, "gone", Expected::Any).await;
        }
        bench.delete(kind, &writer, "gone", Expected::Any).await;
        bench.put(kind, &writer, "lives", Expected::Any).await;
        let floor = || bench.inspector.count(&writer.tenant, "tenant WHERE version_floor = 6");
        bench.sweep(SweepTask::VersionFloors).await;
        bench.sweep(SweepTask::Tombstones).await;
        assert_eq!((floor().await, bench.inspector.count(&writer.tenant, rows).await), (0, 2), "{kind:?}: not due for a day");

        bench.clock.advance_seconds(2 * DAY);
        bench.sweep(SweepTask::Tombstones).await;
        assert_eq!(bench.inspector.count(&writer.tenant, rows).await, 2, "{kind:?}: never before the floor is raised");
        bench.sweep(SweepTask::VersionFloors).await;
        assert_eq!(floor().await, 1, "{kind:?}");
        bench.sweep(SweepTask::Tombstones).await;
        assert_eq!(bench.inspector.count(&writer.tenant, rows).await, 2, "{kind:?}: the second phase waits");
        assert_eq!(bench.get(kind, &writer, "gone").await, Lookup::Gone(version(6)));
        bench.clock.advance_seconds(SWEEP_LIMITS.floor_seconds + 1);
        bench.sweep(SweepTask::VersionFloors).await;
        bench.sweep(SweepTask::Tombstones).await;
        assert_eq!(bench.inspector.count(&writer.tenant, rows).await, 1, "{kind:?}");
        assert_eq!(bench.get(kind, &writer, "gone").await, Lookup::Absent);
        assert_eq!(bench.get(kind, &writer, "lives").await, Lookup::Live(version(1)));
        let created = applied(bench.put(kind, &writer, "gone", Expected::Absent).await);
        assert_eq!(created, (true, version(7)), "{kind:?}: behind what it ever had");

        bench.delete(kind, &writer, "gone", Expected::Any).await;
        bench.clock.advance_seconds(2 * DAY);
        bench.sweep(SweepTask::Tombstones).await;
        assert_eq!(bench.get(kind, &writer, "gone").await, Lookup::Gone(version(8)), "{kind:?}: it is above a floor raised long ago");
    }
}

/// Rising for new tombstones must not put off the removal of the old ones for ever.
pub(super) async fn a_steady_stream_is_removed(bench: &Bench) {
    let writer = bench.writer();
    let mut least = i64::MAX;
    for round in 0..60 {
        let key = global(&format!("v{round}"));
        for _ in 0..=round % 7 {
            bench.put_variable(&writer, &key, "1").await;
        }
        bench.delete_variable(&writer, &key).await;
        bench.clock.advance_seconds(3600);
        for task in SweepTask::ALL {
            bench.sweep(task).await;
        }
        if round > 40 {
            least = least.min(bench.inspector.count(&writer.tenant, "variable WHERE deleted").await);
        }
    }
    assert!(least < 32, "{least} tombstones of a day are left, and more each hour");
}

pub(super) async fn versions_never_repeat(bench: &Bench) {
    let writer = bench.writer();
    let mut last = std::collections::HashMap::new();
    for round in 0..6 {
        let storm = (0..180).map(|step| {
            let writer = &writer;
            async move {
                let (kind, number) = (Kind::ALL[step % 3], step / 3 % 5);
                let name = format!("k{number}");
                let outcome = match step / 15 % 3 {
                    2 => bench.delete(kind, writer, &name, Expected::Any).await,
                    _ => bench.put(kind, writer, &name, Expected::Any).await,
                };
                ((kind as u8, number), outcome)
            }
        });
        let mut versions: Vec<_> = join_all(storm)
            .await
            .into_iter()
            .filter_map(|(key, outcome)| match outcome {
                Outcome::Applied { record, .. } => Some((key, record.get())),
                _ => None,
            })
            .collect();
        versions.sort_unstable();
        for (key, version) in versions {
            let highest = last.entry(key).or_insert(0);
            assert!(version > *highest, "round {round}: {key:?} had {highest} and then {version}");
            *highest = version;
        }
        for kind in Kind::ALL {
            for number in 0..5 {
                let name = format!("k{number}");
                let tombstone = match kind {
                    Kind::State => {
                        let outcome = bench.store.delete_execution(&writer, &state(&name), Expected::Any).await.unwrap();
                        applied(outcome).1.version
                    }
                    Kind::Session | Kind::Variable => match bench.delete(kind, &writer, &name, Expected::Any).await {
                        Outcome::Applied { record, .. } => record,
                        _ => continue,
                    },
                };
                let highest = last.insert((kind as u8, number), tombstone.get()).unwrap_or(0);
                assert!(tombstone.get() > highest, "round {round}: {kind:?} {name} had {highest} and then {tombstone}");
            }
        }
        for task in SweepTask::ALL {
            bench.sweep(task).await;
        }
        remove_tombstones(bench).await;
        for rows in ["execution_state WHERE true", "session WHERE true", "variable WHERE true"] {
            assert_eq!(bench.inspector.count(&writer.tenant, rows).await, 0, "round {round}: {rows}");
        }
    }
}

pub(super) async fn a_state_with_a_past_stays(bench: &Bench) {
    let writer = bench.writer();
    bench.put_state(&writer, &state("history"), SMALL).await;
    bench.delete_state(&writer, &state("history")).await;
    let held = checkpoint("held", "c");
    bench.put_state(&writer, &held.state, SMALL).await;
    applied(bench.store.delete_execution(&writer, &held.state, Expected::Any).await.unwrap());
    applied(bench.store.create_checkpoint(&writer, &held, &of_given(SMALL)).await.unwrap());
    for _ in 0..2 {
        remove_tombstones(bench).await;
        bench.sweep(SweepTask::RemovedExecutions).await;
    }
    let history = bench.store.state_history(&writer.tenant, &state("history"), HISTORY).await.unwrap().unwrap();
    assert_eq!(history.items.len(), 2);
    assert_eq!(bench.state(&writer, &state("history")).await, Lookup::Gone(version(2)));
    live(bench.store.get_checkpoint(&writer.tenant, &held).await.unwrap());
    let restored = applied(bench.store.restore_checkpoint(&writer, &held, Expected::Any).await.unwrap()).1;
    assert_eq!(restored.version, version(3), "its head was kept");
    assert_eq!(bench.put_state(&writer, &state("history"), SMALL).await.version, version(3));
}

/// Also a head that only a checkpoint needed goes in the end.
pub(super) async fn an_empty_head_goes(bench: &Bench) {
    let writer = bench.writer();
    let key = checkpoint("e", "c");
    applied(bench.store.create_checkpoint(&writer, &key, &of_given(SMALL)).await.unwrap());
    applied(bench.store.delete_checkpoint(&writer, &key, Expected::Any).await.unwrap());
    assert_eq!(bench.inspector.count(&writer.tenant, "execution_state WHERE true").await, 1);
    for _ in 0..4 {
        remove_tombstones(bench).await;
    }
    for rows in ["checkpoint WHERE true", "execution_state WHERE true"] {
        assert_eq!(bench.inspector.count(&writer.tenant, rows).await, 0, "{rows}");
    }
    let again = applied(bench.store.create_checkpoint(&writer, &key, &of_given(SMALL)).await.unwrap()).1;
    assert!(again.item.version > version(2), "{:?}", again.item.version);
}

pub(super) async fn removed_executions_lose_their_rows(bench: &Bench) {
    let writer = bench.writer();
    let key = checkpoint("e", "c");
    for _ in 0..250 {
        bench.put_state(&writer, &key.state, SMALL).await;
    }
    bench.checkpoint(&writer, &key).await;
    let keyed = under_key(&writer, 1, 1);
    bench.put_state(&keyed, &key.state, SMALL).await;
    applied(bench.store.delete_execution(&writer, &key.state, Expected::Any).await.unwrap());
    bench.put_state(&writer, &key.state, SMALL).await;
    bench.put_state(&writer, &state("other"), SMALL).await;
    let step = bench.store.sweep(SweepTask::RemovedExecutions, SWEEP_LIMITS).await.unwrap();
    assert!(step.more && step.rows > 0 && step.rows <= 100, "{step:?}");
    bench.sweep(SweepTask::RemovedExecutions).await;
    for (rows, count) in [("state_version WHERE true", 2), ("checkpoint WHERE true", 0), ("removed_state WHERE true", 0)] {
        assert_eq!(bench.inspector.count(&writer.tenant, rows).await, count, "{rows}");
    }
    assert!(matches!(bench.state(&writer, &key.state).await, Lookup::Live(_)));
    let replay = super::bench::replayed(
        bench
            .store
            .put_state(&keyed, &key.state, Expected::Any, &super::bench::document(SMALL), nworkflow_state::domain::state::Operation::Put)
            .await
            .unwrap(),
    );
    assert_eq!((replay.status, replay.version, replay.record), (200, version(251), None), "a version that is no longer kept");
}

pub(super) async fn old_keys_and_log_rows_go(bench: &Bench) {
    let writer: WriteContext = bench.writer();
    bench.put_state(&under_key(&writer, 1, 1), &state("e"), SMALL).await;
    bench.clock.advance_seconds(IDEMPOTENCY_SECONDS - 60);
    bench.put_state(&under_key(&writer, 2, 1), &state("e"), SMALL).await;
    bench.sweep(SweepTask::IdempotencyKeys).await;
    assert_eq!(bench.inspector.idempotency_rows(&writer.tenant).await, 2, "never early");
    bench.clock.advance_seconds(3 * 3600);
    bench.sweep(SweepTask::IdempotencyKeys).await;
    assert_eq!(bench.inspector.idempotency_rows(&writer.tenant).await, 1);
    bench.sweep(SweepTask::ChangeLog).await;
    assert_eq!(bench.inspector.log(&writer.tenant).await.len(), 2);
    let limits = SweepLimits { log_seconds: DAY, ..SWEEP_LIMITS };
    while bench.store.sweep(SweepTask::ChangeLog, limits).await.unwrap().more {}
    let left = bench.inspector.log(&writer.tenant).await;
    assert_eq!(left.iter().map(|row| row.version).collect::<Vec<_>>(), [2]);
}

pub(super) async fn sweepers_do_not_collide(bench: &Bench) {
    let writer = bench.writer();
    for number in 0..30 {
        bench.put_session(&writer, &session(&format!("s{number}")), &lasting(60)).await;
    }
    bench.clock.advance_seconds(3 * 3600);
    let limits = SweepLimits { rows: 5, ..SWEEP_LIMITS };
    let swept = join_all((0..4).map(|_| bench.store.sweep(SweepTask::ExpiredSessions, limits))).await;
    for step in swept {
        let step = step.unwrap();
        assert!(step.rows <= 5 && (!step.busy || step.rows == 0), "{step:?}");
    }
    bench.sweep(SweepTask::ExpiredSessions).await;
    assert_eq!(bench.inspector.count(&writer.tenant, "session WHERE deleted").await, 30);
}
