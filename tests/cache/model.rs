//! Readers, writers and accidents around one key, in random order, one step at a time: no read is ever behind a write that was acknowledged
//! before it began. All tasks are polled by hand in one thread, so a seed is a run.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use nworkflow_state::cache::{Entry, Flights, Key, LocalTier, Wanted};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::version::Version;

use super::{Random, change, fill, key, live, tier, version};

const STEPS: usize = 100_000;
const READERS: usize = 6;
const WRITERS: usize = 3;
/// How far the place that may be behind the store is behind it, in seconds: less than a floor lasts.
const LAG_SECONDS: i64 = 4;

/// What the store holds. A version of 0 is no trace of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Row {
    version: i64,
    live: bool,
}

#[derive(Debug, Default)]
struct Seen {
    hits: u64,
    shared: u64,
    refused: u64,
    written: u64,
    below_floor: u64,
    abandoned: u64,
}

struct World {
    seed: u64,
    tier: LocalTier,
    clock: Clock,
    flights: Flights<()>,
    key: Key,
    random: RefCell<Random>,
    row: Cell<Row>,
    /// Every version with the time of its commit, for the place that is behind and to check what is read.
    history: RefCell<VecDeque<(i64, Row)>>,
    row_lock: Cell<bool>,
    acknowledged: Cell<i64>,
    seen: RefCell<Seen>,
}

/// Lets the others have a turn, at least once.
async fn step(world: &World) {
    loop {
        let mut polled = false;
        std::future::poll_fn(|_| if std::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        if !world.one_in(3) {
            return;
        }
    }
}

impl World {
    fn one_in(&self, number: usize) -> bool {
        self.random.borrow_mut().one_in(number)
    }

    fn now(&self) -> i64 {
        self.clock.now().as_microseconds()
    }

    /// What a place that is behind holds.
    fn behind(&self) -> Row {
        let until = self.now() - LAG_SECONDS * 1_000_000;
        self.history.borrow().iter().rev().find(|(at, _)| *at <= until).map(|(_, row)| *row).unwrap_or_default()
    }

    fn entry(&self, row: Row) -> Arc<Entry> {
        match (row.version, row.live) {
            (0, _) => Arc::new(Entry::absent(None)),
            (number, true) => live(number),
            (number, false) => Arc::new(Entry::absent(Some(version(number)))),
        }
    }

    fn check(&self, entry: &Entry, acknowledged: i64, from: &str) {
        let read = entry.version().map_or(0, Version::get);
        let seed = self.seed;
        assert!(read >= acknowledged, "seed {seed}: {from} answered version {read} after {acknowledged} was acknowledged");
        let row = self.history.borrow().iter().rev().find(|(_, row)| row.version == read).map(|(_, row)| *row).unwrap_or_default();
        let body = row.live.then(|| Bytes::from(read.to_string()));
        assert_eq!(entry.body(), body.as_ref(), "seed {seed}: {from} answered something else than version {read}");
    }

    async fn read(&self) {
        let acknowledged = self.acknowledged.get();
        if let Some(entry) = self.tier.get(&self.key, &Wanted::default()) {
            self.seen.borrow_mut().hits += 1;
            return self.check(&entry, acknowledged, "the tier");
        }
        step(self).await;
        let ticket = self.tier.ticket(&self.key);
        let loads = Cell::new(false);
        let load = || async {
            loads.set(true);
            step(self).await;
            let mut row = self.row.get();
            if self.one_in(4) {
                let behind = self.behind();
                if self.tier.floor(&self.key).is_none_or(|floor| behind.version >= floor.get()) {
                    row = behind;
                } else {
                    self.seen.borrow_mut().below_floor += 1;
                }
            }
            step(self).await;
            let entry = self.entry(row);
            if !self.tier.insert(&self.key, ticket, Arc::clone(&entry)) {
                self.seen.borrow_mut().refused += 1;
            }
            step(self).await;
            Ok(entry)
        };
        let entry = self.flights.load(&self.key, ticket, None, load).await.unwrap();
        self.seen.borrow_mut().shared += u64::from(!loads.get());
        self.check(&entry, acknowledged, if loads.get() { "the store" } else { "a shared load" });
    }

    async fn write(&self) {
        while self.row_lock.replace(true) {
            step(self).await;
        }
        step(self).await;
        let row = Row { version: self.row.get().version + 1, live: !self.one_in(4) };
        let change = change(&self.key, row.version);
        self.tier.before_commit(&change);
        step(self).await;
        let (is_stored, is_told_so) = match self.random.borrow_mut().below(10) {
            0 => (false, false),
            1 => (false, true),
            _ => (true, true),
        };
        if is_stored {
            self.row.set(row);
            self.history.borrow_mut().push_back((self.now(), row));
            if self.history.borrow().len() > 10_000 {
                self.history.borrow_mut().pop_front();
            }
        }
        self.row_lock.set(false);
        step(self).await;
        if !is_told_so {
            return self.tier.rolled_back(&change);
        }
        self.tier.committed(&change);
        step(self).await;
        if is_stored {
            self.acknowledged.set(self.acknowledged.get().max(row.version));
            step(self).await;
            if self.tier.insert_written(&self.key, self.entry(row)) {
                self.seen.borrow_mut().written += 1;
            }
        }
    }

    /// Something that happens to the tier.
    fn accident(&self) {
        let kind = self.random.borrow_mut().below(8);
        match kind {
            0 => drop(self.tier.clear()),
            1 => self.tier.set_enabled(false),
            2 | 3 => self.tier.set_enabled(true),
            4 => {
                // The key is evicted by others.
                for number in 0..100 {
                    let other = key(&format!("other-{number}"));
                    fill(&self.tier, &other, Arc::new(Entry::plain(version(1), Bytes::from(vec![0; 2_000]))));
                }
            }
            _ => self.clock.advance_seconds(1),
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

fn run(seed: u64) -> Seen {
    let (tier, clock) = tier();
    let world = Rc::new(World {
        seed,
        tier,
        clock,
        flights: Flights::new(),
        key: key("e"),
        random: RefCell::new(Random(seed)),
        row: Cell::default(),
        history: RefCell::default(),
        row_lock: Cell::default(),
        acknowledged: Cell::default(),
        seen: RefCell::default(),
    });
    let begin = |index: usize| -> Task {
        let world = Rc::clone(&world);
        if index < READERS { Box::pin(async move { world.read().await }) } else { Box::pin(async move { world.write().await }) }
    };
    let mut tasks: Vec<Option<Task>> = (0..READERS + WRITERS).map(|_| None).collect();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..STEPS {
        // Readers come more often: between writes something is kept.
        let index =
            if world.one_in(4) { READERS + world.random.borrow_mut().below(WRITERS) } else { world.random.borrow_mut().below(READERS) };
        match &mut tasks[index] {
            Some(task) => {
                if task.as_mut().poll(&mut context).is_ready() {
                    tasks[index] = None;
                } else if index < READERS && world.one_in(50) {
                    tasks[index] = None;
                    world.seen.borrow_mut().abandoned += 1;
                }
            }
            None if index < READERS || world.one_in(12) => tasks[index] = Some(begin(index)),
            None => {}
        }
        if world.one_in(300) {
            world.accident();
        }
    }
    // Nobody waits for ever: what is left ends when it gets its turns.
    for _ in 0..10_000 {
        for slot in &mut tasks {
            if slot.as_mut().is_some_and(|task| task.as_mut().poll(&mut context).is_ready()) {
                *slot = None;
            }
        }
    }
    assert!(tasks.iter().all(Option::is_none), "seed {seed}: a task hangs");
    drop(tasks);
    world.seen.take()
}

#[test]
fn no_read_is_behind_an_acknowledged_write() {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    for seed in [1, 2, 3, random] {
        let seen = run(seed);
        // Each of these is a way to be wrong; a run without one would prove little.
        for (what, times) in [
            ("answers of the tier", seen.hits),
            ("shared loads", seen.shared),
            ("refused loads", seen.refused),
            ("kept writes", seen.written),
            ("answers below the floor", seen.below_floor),
            ("abandoned readers", seen.abandoned),
        ] {
            assert!(times >= 20, "seed {seed}: too few {what}: {seen:?}");
        }
    }
}
