//! The cache in this process, through the services: no read is older than what its reader knows, and a crowd costs the store one read.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use nworkflow_state::cache::LocalTier;
use nworkflow_state::domain::checkpoint::{CheckpointKey, NewCheckpoint};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::{Change, CommitObserver, Objection};
use nworkflow_state::domain::id::CheckpointId;
use nworkflow_state::domain::principal::Principal;
use nworkflow_state::domain::state::MAX_COUNTED;
use nworkflow_state::domain::variable::Scope;
use nworkflow_state::domain::version::{Precondition, Tags, Version};
use nworkflow_state::error::Code;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::service::{Freshness, Tier};
use nworkflow_state::store::sqlite::SqliteStore;

use super::{CACHED, FROM_STORE, Random, newcomer, plain, report, request, session, state, tokens, value, variable};
use crate::api::app::{Options, TestApp};
use crate::support::faulty::Behaviour;

async fn put(app: &TestApp, caller: &Arc<Principal>, key: &str, number: i64) -> Version {
    app.services.states.put(&plain(caller), state(key), tokens(number)).await.unwrap().version
}

/// The version that a read answers; `None`: there is nothing.
async fn get(app: &TestApp, caller: &Principal, key: &str, freshness: Freshness) -> Option<Version> {
    match app.services.states.get(caller, state(key), freshness).await {
        Ok(found) => Some(found.version),
        Err(error) if error.code == Code::StateNotFound => None,
        Err(error) => panic!("{error:?}"),
    }
}

fn clear(app: &TestApp) {
    let _entries = app.services.operations.clear_cache();
}

/// C2 and C18: a load that read before a write ends after it. What it found is not kept, and who came after the write does not share it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_load_neither_fills_nor_answers_after_a_write() {
    const ROUNDS: i64 = 300;
    let (app, caller) = (Arc::new(TestApp::sqlite().await), newcomer());
    let (mut stale_fills, mut stale_answers, mut old_loads) = (0, 0, 0);
    for round in 0..ROUNDS {
        let key = format!("k{}", round % 7);
        let before = put(&app, &caller, &key, round).await;
        let negative = round % 3 == 0;
        if negative {
            app.services.states.delete(&plain(&caller), state(&key)).await.unwrap();
        }
        clear(&app);
        app.faults.set(Behaviour::HoldAnswers);
        let reader = |freshness| {
            let (app, caller, key) = (Arc::clone(&app), Arc::clone(&caller), key.clone());
            let lifecycle = app.lifecycle.clone();
            lifecycle.spawn(async move { get(&app, &caller, &key, freshness).await })
        };
        let slow = reader(CACHED);
        app.faults.wait_for_held(1).await;
        let after = put(&app, &caller, &key, round + 1000).await;
        // Without the entry that the write left, the next reader has to load, and finds a load at work.
        if round % 2 == 0 {
            clear(&app);
        }
        let late = reader(CACHED);
        if round % 2 == 0 {
            app.faults.wait_for_held(2).await;
        }
        app.faults.set(Behaviour::Pass);
        let (slow, late) = (slow.await.unwrap(), late.await.unwrap());
        old_loads += usize::from(slow == if negative { None } else { Some(before) });
        stale_answers += usize::from(late != Some(after));
        stale_fills += usize::from(get(&app, &caller, &key, CACHED).await != Some(after));
    }
    report(&format!("C2: {ROUNDS} fills against writes, {old_loads} loads had the old state, stale reads {stale_fills}"));
    report(&format!("C18: {ROUNDS} readers after a write beside a load from before it, stale reads {stale_answers}"));
    assert_eq!((stale_fills, stale_answers), (0, 0));
    assert_eq!(old_loads, usize::try_from(ROUNDS).unwrap(), "every load was from before its write");
}

/// An execution with more checkpoints than its end is told of one by one: nobody reads any of them afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_checkpoint_outlives_its_execution_in_a_cache() {
    let most = MAX_COUNTED + 40;
    let (app, caller) = (TestApp::sqlite().await, newcomer());
    put(&app, &caller, "e", 1).await;
    let key = |number: i64| CheckpointKey { state: state("e"), checkpoint: CheckpointId::parse(&format!("c{number}")).unwrap() };
    let made = stream::iter(0..most).map(|number| {
        let (request, new) = (plain(&caller), NewCheckpoint { label: None, metadata: "{}".into(), document: None });
        let (app, key) = (&app, key(number));
        async move { app.services.checkpoints.create(&request, key, new).await.unwrap() }
    });
    assert_eq!(made.buffer_unordered(64).count().await, usize::try_from(most).unwrap());
    let mut cached = 0;
    for number in 0..most {
        app.services.checkpoints.get(&caller, key(number), CACHED).await.unwrap();
        let found = app.services.checkpoints.get(&caller, key(number), CACHED).await.unwrap();
        cached += usize::from(found.source.tier == Tier::Local);
    }
    assert!(cached > 0, "no cache takes part");
    let removed = app.services.executions.delete(&plain(&caller), state("e")).await.unwrap();
    assert_eq!(removed.record.unwrap().checkpoints, MAX_COUNTED);
    for number in 0..most {
        let found = app.services.checkpoints.get(&caller, key(number), CACHED).await;
        assert!(found.is_err_and(|error| error.code == Code::CheckpointNotFound), "c{number}");
    }
}

/// C12: a small cache that always makes room, and others that write and empty it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_reads_what_was_written() {
    const TASKS: u64 = 8;
    const WRITES: usize = 500;
    // A million of them in full.
    let reads_each = crate::support::size(10, 250);
    let (app, caller) = (Arc::new(TestApp::sqlite_with(Options::default().set("cache.local_bytes", "65536")).await), newcomer());
    let violations = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (app, caller, violations) = (Arc::clone(&app), Arc::clone(&caller), Arc::clone(&violations));
        let lifecycle = app.lifecycle.clone();
        tasks.push(lifecycle.spawn(async move {
            let mut random = Random(task);
            for number in 0..WRITES {
                let key = variable(Scope::Global, &format!("v{}", random.below(400)));
                let written = app.services.variables.put(&plain(&caller), key.clone(), value(number.to_string())).await.unwrap();
                if random.below(40) == 0 {
                    clear(&app);
                }
                for read in 0..reads_each {
                    let min_version = (read % 2 == 1).then_some(written.version);
                    let freshness = Freshness { from_store: false, min_version };
                    let found = app.services.variables.get(&caller, key.clone(), freshness).await;
                    // Another task may have written since: never older is the promise.
                    let right = found.is_ok_and(|found| found.version >= written.version);
                    violations.fetch_add(usize::from(!right), Ordering::Relaxed);
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let statistics = app.local.statistics();
    let reads = usize::try_from(TASKS).unwrap() * WRITES * reads_each;
    let violations = violations.load(Ordering::Relaxed);
    let (hits, evictions) = (statistics.hits, statistics.evictions);
    report(&format!("C12: {reads} reads after writes, {hits} hits, {evictions} evictions, violations {violations}"));
    assert_eq!(violations, 0);
    assert!(statistics.hits > 0 && statistics.evictions > 0, "{statistics:?}");
}

/// C15: creations, deletions and reads of one key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_stays_deleted_and_what_is_created_is_there() {
    const WRITERS: u64 = 4;
    const WRITES: usize = 300;
    const READERS: usize = 4;
    let (app, caller) = (Arc::new(TestApp::sqlite().await), newcomer());
    // The greatest version that a writer was told, deletions included.
    let acknowledged = Arc::new(AtomicI64::new(0));
    let running = Arc::new(AtomicUsize::new(usize::try_from(WRITERS).unwrap()));
    let mut writers = Vec::new();
    for task in 0..WRITERS {
        let (app, caller) = (Arc::clone(&app), Arc::clone(&caller));
        let (acknowledged, running) = (Arc::clone(&acknowledged), Arc::clone(&running));
        let lifecycle = app.lifecycle.clone();
        writers.push(lifecycle.spawn(async move {
            let (mut random, mut sticky) = (Random(task), 0);
            for number in 0..WRITES {
                if random.below(2) == 0 {
                    let version = put(&app, &caller, "key", i64::try_from(number).unwrap()).await;
                    acknowledged.fetch_max(version.get(), Ordering::SeqCst);
                    let found = get(&app, &caller, "key", CACHED).await;
                    // Nothing there: only because someone deleted it since.
                    let deleted_since = || async {
                        let current = Precondition { if_match: Some(Tags::Versions(vec![version])), if_none_match: None };
                        app.services.states.delete(&request(&caller, current), state("key")).await.is_err()
                    };
                    sticky += usize::from(found.is_none() && !deleted_since().await);
                } else if let Ok(done) = app.services.states.delete(&plain(&caller), state("key")).await {
                    acknowledged.fetch_max(done.version.get(), Ordering::SeqCst);
                    let found = get(&app, &caller, "key", CACHED).await;
                    sticky += usize::from(found.is_some_and(|found| found <= done.version));
                }
            }
            running.fetch_sub(1, Ordering::SeqCst);
            sticky
        }));
    }
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let (app, caller) = (Arc::clone(&app), Arc::clone(&caller));
        let (acknowledged, running) = (Arc::clone(&acknowledged), Arc::clone(&running));
        let lifecycle = app.lifecycle.clone();
        readers.push(lifecycle.spawn(async move {
            let (mut reads, mut risen) = (0, 0);
            while running.load(Ordering::SeqCst) > 0 {
                let known = acknowledged.load(Ordering::SeqCst);
                let found = get(&app, &caller, "key", CACHED).await;
                reads += 1;
                risen += usize::from(found.is_some_and(|found| found.get() < known));
                tokio::task::yield_now().await;
            }
            (reads, risen)
        }));
    }
    let (mut wrong, mut reads) = (0, 0);
    for writer in writers {
        wrong += writer.await.unwrap();
    }
    for reader in readers {
        let (more, risen) = reader.await.unwrap();
        (reads, wrong) = (reads + more, wrong + risen);
    }
    let hits = app.local.statistics().hits;
    report(&format!("C15: {reads} reads in a storm of creations and deletions, {hits} hits, risen or sticky {wrong}"));
    assert_eq!(wrong, 0);
    assert_eq!(get(&app, &caller, "key", CACHED).await, get(&app, &caller, "key", FROM_STORE).await);
}

/// C16: an absence that many have seen ends with the creation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absence_ends_with_the_creation() {
    const KEYS: usize = 200;
    const READERS: usize = 6;
    let (app, caller) = (Arc::new(TestApp::sqlite().await), newcomer());
    let (current, created) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let (app, caller) = (Arc::clone(&app), Arc::clone(&caller));
        let (current, created) = (Arc::clone(&current), Arc::clone(&created));
        let lifecycle = app.lifecycle.clone();
        readers.push(lifecycle.spawn(async move {
            let (mut absent, mut late) = (0, 0);
            loop {
                let number = current.load(Ordering::SeqCst);
                if number == KEYS {
                    return (absent, late);
                }
                let is_created = created.load(Ordering::SeqCst) > number;
                let found = get(&app, &caller, &format!("k{number}"), CACHED).await;
                absent += usize::from(found.is_none());
                late += usize::from(is_created && found.is_none());
                tokio::task::yield_now().await;
            }
        }));
    }
    let mut unseen = 0;
    for number in 0..KEYS {
        let key = format!("k{number}");
        for _ in 0..20 {
            assert_eq!(get(&app, &caller, &key, CACHED).await, None);
        }
        let version = put(&app, &caller, &key, 1).await;
        created.store(number + 1, Ordering::SeqCst);
        unseen += usize::from(get(&app, &caller, &key, CACHED).await != Some(version));
        tokio::task::yield_now().await;
        current.store(number + 1, Ordering::SeqCst);
    }
    let (mut absent, mut late) = (KEYS * 20, 0);
    for reader in readers {
        let (more, after) = reader.await.unwrap();
        (absent, late) = (absent + more, late + after);
    }
    let (statistics, calls) = (app.local.statistics(), app.faults.calls());
    let (hits, misses) = (statistics.hits, statistics.misses);
    report(&format!(
        "C16: {absent} absences read, {hits} hits, {misses} misses, {calls} calls of the store, {KEYS} creations: unseen by their writer {unseen}, by others {late}"
    ));
    assert_eq!((unseen, late), (0, 0));
    assert!(hits > u64::try_from(KEYS).unwrap(), "absences were kept");
}

/// Hears of commits before the cache does, and holds them back while it is closed.
struct Gate {
    local: Arc<LocalTier>,
    closed: (Mutex<bool>, Condvar),
    held: AtomicUsize,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.0.lock().unwrap() = closed;
        self.closed.1.notify_all();
    }
}

#[async_trait]
impl CommitObserver for Gate {
    async fn before_commit(&self, changes: &[Change]) -> Result<(), Objection> {
        self.local.before_commit(changes);
        self.held.fetch_add(1, Ordering::SeqCst);
        // It holds its thread as well: the test below has one to spare. Not for ever, or a test that fails would not end.
        let (closed, opens) = &self.closed;
        drop(opens.wait_timeout_while(closed.lock().unwrap(), Duration::from_secs(20), |closed| *closed).unwrap());
        self.held.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    fn committed(&self, changes: &[Change]) {
        self.local.committed(changes);
    }

    fn rolled_back(&self, changes: &[Change]) {
        self.local.rolled_back(changes);
    }
}

async fn gated() -> (TestApp, Arc<Gate>) {
    let (folder, clock, lifecycle) = (tempfile::tempdir().unwrap(), Clock::new(), Lifecycle::new());
    let config = Options::default().config();
    let local = Arc::new(LocalTier::new(&config.cache, clock.clone()));
    let gate = Arc::new(Gate { local: Arc::clone(&local), closed: (Mutex::new(false), Condvar::new()), held: AtomicUsize::new(0) });
    let observer = Arc::clone(&gate) as Arc<dyn CommitObserver>;
    let store = SqliteStore::open(folder.path(), &config.embedded, clock.clone(), &lifecycle, observer).await.unwrap();
    (TestApp::over(Arc::new(store), local, Options::default(), folder, clock, lifecycle).await, gate)
}

/// Of absences the store is asked once in their time, whatever the kind; but between the announcement of a commit and its end nothing of the
/// key is kept, absent or not, because the commit may be visible already: then each reader, or crowd of readers, asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_absence_costs_the_store_one_read() {
    const READERS: usize = 4;
    const READS: usize = 500;
    let ((app, gate), caller) = (gated().await, newcomer());
    let app = Arc::new(app);
    // Deleted or never there.
    put(&app, &caller, "deleted", 1).await;
    app.services.states.delete(&plain(&caller), state("deleted")).await.unwrap();
    let calls_for = async |kind: usize| {
        app.faults.set(Behaviour::Pass);
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let (app, caller) = (Arc::clone(&app), Arc::clone(&caller));
            let lifecycle = app.lifecycle.clone();
            readers.push(lifecycle.spawn(async move {
                for _ in 0..READS {
                    let services = &app.services;
                    let code = match kind {
                        0 => services.states.get(&caller, state("deleted"), CACHED).await.map(drop),
                        1 => services.states.get(&caller, state("never"), CACHED).await.map(drop),
                        2 => services.variables.get(&caller, variable(Scope::Global, "never"), CACHED).await.map(drop),
                        _ => services.sessions.get(&caller, session("never"), CACHED).await.map(drop),
                    };
                    let codes = [Code::StateNotFound, Code::VariableNotFound, Code::SessionNotFound];
                    assert!(code.is_err_and(|error| codes.contains(&error.code)));
                }
            }));
        }
        for reader in readers {
            reader.await.unwrap();
        }
        app.faults.calls()
    };
    for kind in 0..4 {
        // The deletion has left its own absence.
        let first = usize::from(kind > 0);
        assert_eq!(calls_for(kind).await, first, "kind {kind}: {} reads", READERS * READS);
        assert_eq!(calls_for(kind).await, 0, "kind {kind}: within its time");
        app.clock.advance_seconds(5);
        assert_eq!(calls_for(kind).await, 1, "kind {kind}: after its time");
    }

    assert_eq!(calls_for(2).await, 1);
    gate.set(true);
    let writing = {
        let (app, caller) = (Arc::clone(&app), Arc::clone(&caller));
        let lifecycle = app.lifecycle.clone();
        lifecycle.spawn(async move { put(&app, &caller, "never", 1).await })
    };
    while gate.held.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let calls = calls_for(1).await;
    assert!((READS..=READERS * READS).contains(&calls), "beside the commit {calls} of {} reads go to the store", READERS * READS);
    assert_eq!(calls_for(2).await, 0, "other keys are served");
    gate.set(false);
    let version = writing.await.unwrap();
    app.faults.set(Behaviour::Pass);
    assert_eq!(get(&app, &caller, "never", CACHED).await, Some(version));
    assert_eq!(app.faults.calls(), 0, "what the write left answers");
    report(&format!("absences: {} reads, 1 of the store; beside a commit {calls}", READERS * READS));
}

/// C19: two thousand readers of one key that no cache has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_costs_the_store_one_read() {
    const READERS: usize = 2000;
    let (app, caller) = (Arc::new(TestApp::sqlite().await), newcomer());
    let version = put(&app, &caller, "hot", 1).await;
    clear(&app);
    app.faults.set(Behaviour::Hold);
    let begun = Arc::new(AtomicUsize::new(0));
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let (app, caller, begun) = (Arc::clone(&app), Arc::clone(&caller), Arc::clone(&begun));
        let lifecycle = app.lifecycle.clone();
        readers.push(lifecycle.spawn(async move {
            begun.fetch_add(1, Ordering::SeqCst);
            app.services.states.get(&caller, state("hot"), CACHED).await.unwrap()
        }));
    }
    app.faults.wait_for_calls(1).await;
    while begun.load(Ordering::SeqCst) < READERS {
        tokio::task::yield_now().await;
    }
    let calls = app.faults.calls();
    app.faults.set(Behaviour::Pass);
    let (mut right, mut from_cache) = (0, 0);
    for reader in readers {
        let found = reader.await.unwrap();
        right += usize::from(found.version == version);
        from_cache += usize::from(found.source.tier == Tier::Local);
    }
    let calls = calls + app.faults.calls();
    report(&format!("C19: {READERS} readers of a cold key, {calls} reads of the store, {right} right answers, {from_cache} of them hits"));
    assert_eq!(right, READERS);
    assert!(calls <= 2, "the store was read {calls} times");
}
