//! Keys that are created and deleted while their tombstones are swept: a version that was ever given is never given again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nworkflow_state::domain::principal::Principal;
use nworkflow_state::domain::session::SessionDocument;
use nworkflow_state::domain::variable::{MAX_TTL_SECONDS, Scope};
use nworkflow_state::domain::version::{Precondition, Tags, Version};
use nworkflow_state::error::{Code, Error};
use nworkflow_state::store::{SweepLimits, SweepTask};
use tokio::sync::{Mutex, RwLock};

use super::{Random, jobs, newcomer, plain, report, request, session, state, tokens, value, variable};
use crate::api::app::TestApp;

const TASKS: u64 = 8;
const WRITES: usize = 150;
/// Keys of each kind: enough that most of them lie deleted when a sweep comes.
const KEYS: usize = 24;
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

/// One write of one of the keys of the three kinds.
async fn write(app: &TestApp, caller: &Arc<Principal>, random: &mut Random) -> Option<(String, Version)> {
    let (services, request) = (&app.services, plain(caller));
    let (kind, key, deletes) = (random.below(4), format!("k{}", random.below(KEYS)), random.below(2) == 0);
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
    let limits = SweepLimits { rows: 50, log_seconds: jobs().log_seconds, floor_seconds: jobs().floor_seconds };
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
    for _ in 0..6 {
        for _ in 0..120 {
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
    assert!(removed > 50 && runs > 0, "the sweeper met the storm: {removed} in {runs} runs");
}

/// A request that looked at its key before the floor was raised, and writes when the tombstone is gone: its time is not that of a statement,
/// and no pause between the phases is long enough for it.
async fn a_request_that_spans_both_phases_repeats_no_version(app: TestApp) {
    let (app, caller) = (Arc::new(app), newcomer());
    let (removed, sweeps) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    {
        // The interlude holds the store and the clock only: the store keeps what the server is made of alive.
        let (clock, removed, sweeps) = (app.clock.clone(), Arc::clone(&removed), Arc::clone(&sweeps));
        app.faults.after_reads(move |store| {
            let (clock, removed, sweeps) = (clock.clone(), Arc::clone(&removed), Arc::clone(&sweeps));
            Box::pin(async move {
                if sweeps.swap(false, Ordering::SeqCst) {
                    let limits = SweepLimits { rows: 50, log_seconds: jobs().log_seconds, floor_seconds: jobs().floor_seconds };
                    clock.advance_seconds(2 * DAY);
                    for task in [SweepTask::RemovedExecutions, SweepTask::VersionFloors, SweepTask::Tombstones] {
                        let step = store.sweep(task, limits).await.unwrap();
                        clock.advance_seconds(limits.floor_seconds + 1);
                        if task == SweepTask::Tombstones {
                            removed.fetch_add(usize::try_from(step.rows).unwrap(), Ordering::SeqCst);
                        }
                    }
                }
            })
        });
    }
    // A condition that the store cannot evaluate: the service reads, compares, and then writes what must not be there.
    let unless = Precondition { if_match: None, if_none_match: Some(Tags::Versions(vec![Version::new(1_000_000).unwrap()])) };
    let services = &app.services;
    for kind in 0..3 {
        let mut last = None;
        for round in 1..=10 {
            sweeps.store(round > 1, Ordering::SeqCst);
            let request = request(&caller, unless.clone());
            let (written, deleted) = match kind {
                0 => (
                    services.states.put(&request, state("k"), tokens(1)).await.unwrap().version,
                    services.executions.delete(&plain(&caller), state("k")).await.unwrap().version,
                ),
                1 => {
                    let document =
                        SessionDocument { data: "1".into(), ttl_seconds: Some(MAX_TTL_SECONDS), sliding: false, max_ttl_seconds: None };
                    (
                        services.sessions.put(&request, session("k"), document).await.unwrap().version,
                        services.sessions.delete(&plain(&caller), session("k")).await.unwrap().version,
                    )
                }
                _ => (
                    services.variables.put(&request, variable(Scope::Global, "k"), value("1")).await.unwrap().version,
                    services.variables.delete(&plain(&caller), variable(Scope::Global, "k")).await.unwrap().version,
                ),
            };
            assert!(Some(written) > last && deleted > written, "kind {kind}, round {round}: {written} after {last:?}");
            assert!(!sweeps.load(Ordering::SeqCst), "the sweep came between");
            last = Some(deleted);
        }
    }
    assert_eq!(removed.load(Ordering::SeqCst), 27 + 2, "each tombstone, and those of the kinds before");
}

crate::api::on_both_stores!(no_version_repeats_while_tombstones_are_swept, a_request_that_spans_both_phases_repeats_no_version);
