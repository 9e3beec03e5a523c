//! Keys that are created and deleted while their tombstones are swept: a version that was ever given is never given again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nworkflow_state::domain::principal::Principal;
use nworkflow_state::domain::session::SessionDocument;
use nworkflow_state::domain::variable::{MAX_TTL_SECONDS, Scope};
use nworkflow_state::domain::version::Version;
use nworkflow_state::error::{Code, Error};
use nworkflow_state::store::SweepTask;
use tokio::sync::{Mutex, RwLock};

use super::{Random, jobs, newcomer, plain, report, session, state, tokens, value, variable};
use crate::api::app::TestApp;

const TASKS: u64 = 8;
const WRITES: usize = 150;
const DAY: i64 = 24 * 3600;

/// Versions that were given, by key.
type Given = Mutex<HashMap<String, HashSet<Version>>>;

fn version_of<T>(what: &str, done: Result<T, Error>, version: impl Fn(T) -> Version, passed_over: &[Code]) -> Option<Version> {
    match done {
        Ok(done) => Some(version(done)),
        Err(error) if passed_over.contains(&error.code) => None,
        Err(error) => panic!("{what}: {error:?}"),
    }
}

/// One write of one of nine keys.
async fn write(app: &TestApp, caller: &Arc<Principal>, random: &mut Random) -> Option<(String, Version)> {
    let (services, request) = (&app.services, plain(caller));
    let (kind, key, deletes) = (random.below(4), format!("k{}", random.below(2)), random.below(2) == 0);
    let version = match (kind, deletes) {
        (0, false) => version_of("put", services.states.put(&request, state(&key), tokens(1)).await, |done| done.version, &[]),
        // The whole execution, because a state that has history keeps its tombstone.
        (0, true) => {
            let done = services.executions.delete(&request, state(&key)).await;
            version_of("delete", done, |done| done.version, &[Code::ExecutionNotFound])
        }
        (1, false) => {
            let document = SessionDocument { data: "1".into(), ttl_seconds: Some(MAX_TTL_SECONDS), sliding: false, max_ttl_seconds: None };
            version_of("put", services.sessions.put(&request, session(&key), document).await, |done| done.version, &[])
        }
        (1, true) => {
            let done = services.sessions.delete(&request, session(&key)).await;
            version_of("delete", done, |done| done.version, &[Code::SessionNotFound])
        }
        (_, false) => {
            let done = services.variables.put(&request, variable(Scope::Global, &key), value("1")).await;
            version_of("put", done, |done| done.version, &[])
        }
        (_, true) => {
            let done = services.variables.delete(&request, variable(Scope::Global, &key)).await;
            version_of("delete", done, |done| done.version, &[Code::VariableNotFound])
        }
    };
    version.map(|version| (format!("{} {key}", kind.min(2)), version))
}

/// Whether a version is given for the first time.
async fn is_new(given: &Given, key: String, version: Version) -> bool {
    given.lock().await.entry(key).or_default().insert(version)
}

/// Runs of the sweeper with time passing between the two phases of the removal of tombstones. `writes` is held by every write: the pause
/// between the phases is longer than any statement may take, and so is it here.
async fn sweep_phases(app: &TestApp, writes: &RwLock<()>, removed: &AtomicUsize) {
    let limits = nworkflow_state::store::SweepLimits { rows: 50, log_seconds: jobs().log_seconds, floor_seconds: jobs().floor_seconds };
    for task in SweepTask::ALL {
        if task == SweepTask::VersionFloors {
            app.clock.advance_seconds(2 * DAY);
        }
        loop {
            let step = app.services.housekeeping.step(task, limits).await.unwrap();
            if task == SweepTask::Tombstones {
                removed.fetch_add(usize::try_from(step.rows).unwrap(), Ordering::Relaxed);
            }
            if !step.more {
                break;
            }
        }
        if task == SweepTask::VersionFloors {
            drop(writes.write().await);
            app.clock.advance_seconds(limits.floor_seconds + 1);
        }
    }
}

async fn no_version_repeats_while_tombstones_are_swept(app: TestApp) {
    let (app, caller) = (Arc::new(app), newcomer());
    let (given, writes) = (Arc::new(Given::default()), Arc::new(RwLock::new(())));
    let (removed, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (app, caller, given, writes) = (Arc::clone(&app), Arc::clone(&caller), Arc::clone(&given), Arc::clone(&writes));
        let lifecycle = app.lifecycle.clone();
        tasks.push(lifecycle.spawn(async move {
            let (mut random, mut applied) = (Random(task), 0);
            for _ in 0..WRITES {
                let written = {
                    let _at_work = writes.read().await;
                    write(&app, &caller, &mut random).await
                };
                let Some((key, version)) = written else { continue };
                applied += 1;
                assert!(is_new(&given, key.clone(), version).await, "{key}: version {version} was given twice");
            }
            applied
        }));
    }
    let sweeper = {
        let (app, writes) = (Arc::clone(&app), Arc::clone(&writes));
        let (removed, over) = (Arc::clone(&removed), Arc::clone(&over));
        let lifecycle = app.lifecycle.clone();
        lifecycle.spawn(async move {
            let mut runs = 0;
            while !over.load(Ordering::Relaxed) {
                sweep_phases(&app, &writes, &removed).await;
                runs += 1;
                tokio::task::yield_now().await;
            }
            runs
        })
    };
    let mut applied = 0;
    for task in tasks {
        applied += task.await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    let runs: usize = sweeper.await.unwrap();
    // Once more, with everything gone in between.
    let mut random = Random(99);
    for _ in 0..3 {
        for _ in 0..40 {
            if let Some((key, version)) = write(&app, &caller, &mut random).await {
                assert!(is_new(&given, key.clone(), version).await, "{key}: version {version} was given twice");
            }
        }
        sweep_phases(&app, &writes, &removed).await;
    }
    let backend = app.services.operations.levels(true).backend;
    let removed = removed.load(Ordering::Relaxed);
    report(&format!(
        "{backend}: {applied} writes of {} keys by {TASKS} tasks, {runs} sweeps removed {removed} tombstones",
        given.lock().await.len()
    ));
    assert!(removed > 0 && runs > 0, "something was swept");
}

crate::api::on_both_stores!(no_version_repeats_while_tombstones_are_swept);
