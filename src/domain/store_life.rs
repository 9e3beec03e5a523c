//! What a cache must know of the database beside its rows: which life of it this is, and what time it has.
//!
//! The store finds both out and says so here; the cache asks here. Neither knows the other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::clock::{Clock, Timestamp};

/// How long a look at the database's clock counts. Two clocks drift apart by some 50 ms in a quarter of an hour at worst; in this time by less
/// than a network's round trip.
const CLOCK_LOOK_LIFE: Duration = Duration::from_secs(10);
/// Most looks that are kept.
const CLOCK_LOOKS: usize = 32;

/// One life of a database. What was read in another one may never have been committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// The database, over all its lives: what servers that share it agree on.
    pub database: String,
    /// This life of it: changes with every start, fail-over and restore.
    pub life: String,
}

/// Shared by the store, which tells, and the cache, which asks. Clones are the same.
#[derive(Debug, Clone)]
pub struct StoreLife {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// `None`: the store's clock is this process's own.
    looks: Option<Mutex<VecDeque<Look>>>,
    epoch: ArcSwapOption<Epoch>,
    lives: AtomicU64,
}

/// What the database's clock said, and when it was asked.
#[derive(Debug, Clone, Copy)]
struct Look {
    asked: Instant,
    said: Timestamp,
}

impl StoreLife {
    /// Of a store in this process, which has this process's clock and one life.
    #[must_use]
    pub fn embedded(clock: Clock) -> Self {
        Self { shared: Arc::new(Shared { clock, looks: None, epoch: ArcSwapOption::empty(), lives: AtomicU64::new(0) }) }
    }

    /// Of a database, of which nothing is known yet. `clock` is for its offset only.
    #[must_use]
    pub fn database(clock: Clock) -> Self {
        Self { shared: Arc::new(Shared { clock, looks: Some(Mutex::default()), epoch: ArcSwapOption::empty(), lives: AtomicU64::new(0) }) }
    }

    /// The database was asked at `asked` and has answered, without the offset of tests, that it is `said`.
    pub fn clock_said(&self, asked: Instant, said: Timestamp) {
        let Some(looks) = &self.shared.looks else { return };
        let mut looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= CLOCK_LOOKS {
            looks.pop_front();
        }
        looks.push_back(Look { asked, said });
    }

    /// The store's time, offset included: never earlier than it is there, and later by no more than a question takes. `None` when the
    /// database was not asked lately.
    ///
    /// What ends before this moment may still live; what ends after it does live. No clocks of two machines are compared but the
    /// database's with the time that has passed here.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        let Some(looks) = &self.shared.looks else { return Some(self.shared.clock.now()) };
        let now = Instant::now();
        let looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = looks.iter().filter_map(|look| {
            let passed = now.saturating_duration_since(look.asked);
            let passed_microseconds = i64::try_from(passed.as_micros()).ok().filter(|_| passed <= CLOCK_LOOK_LIFE)?;
            Some(look.said.as_microseconds().saturating_add(passed_microseconds))
        });
        // Each is an upper bound: asked before it was said. The quickest answer is the best.
        let best = recent.min()?;
        Some(Timestamp::from_microseconds(best.saturating_add(self.shared.clock.offset_microseconds())))
    }

    /// The store's time as well as it is known: this process's own when the store has not told it.
    #[must_use]
    pub fn about_now(&self) -> Timestamp {
        self.now().unwrap_or_else(|| self.shared.clock.now())
    }

    /// A connection to the database was opened, or it was asked: this is its epoch. Says whether it is another one than before. What the
    /// clock of another life said is forgotten.
    pub fn epoch_is(&self, epoch: Epoch) -> bool {
        let current = self.shared.epoch.load();
        if current.as_deref() == Some(&epoch) {
            return false;
        }
        if let Some(looks) = &self.shared.looks {
            looks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        self.shared.epoch.store(Some(Arc::new(epoch)));
        self.shared.lives.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// How many epochs there have been. Whoever keeps what was read in one of them compares.
    #[must_use]
    pub fn lives(&self) -> u64 {
        self.shared.lives.load(Ordering::Acquire)
    }

    /// The epoch, when it is known.
    #[must_use]
    pub fn epoch(&self) -> Option<Arc<Epoch>> {
        self.shared.epoch.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(life: &str) -> Epoch {
        Epoch { database: "1|main".to_owned(), life: life.to_owned() }
    }

    #[test]
    fn the_time_is_never_earlier_than_the_database_says() {
        let clock = Clock::new();
        let life = StoreLife::database(clock.clone());
        assert_eq!(life.now(), None);
        let asked = Instant::now();
        let said = Timestamp::from_microseconds(1_000_000_000);
        life.clock_said(asked, said);
        life.clock_said(asked, said.plus_seconds(5));
        let now = life.now().unwrap();
        assert!(now >= said && now < said.plus_seconds(5), "the quickest answer counts: {now}");
        clock.advance_seconds(7);
        assert!(life.now().unwrap() >= said.plus_seconds(7));
    }

    #[test]
    fn an_old_look_does_not_count() {
        let life = StoreLife::database(Clock::new());
        let asked = Instant::now().checked_sub(CLOCK_LOOK_LIFE + Duration::from_secs(1)).unwrap();
        life.clock_said(asked, Timestamp::from_microseconds(1));
        assert_eq!(life.now(), None);
    }

    #[test]
    fn another_life_forgets_the_clock() {
        let life = StoreLife::database(Clock::new());
        assert!(life.epoch_is(epoch("a")));
        life.clock_said(Instant::now(), Timestamp::from_microseconds(1));
        assert!(!life.epoch_is(epoch("a")));
        assert!(life.now().is_some());
        assert!(life.epoch_is(epoch("b")));
        assert_eq!((life.now(), life.epoch().unwrap().life.as_str()), (None, "b"));
    }
}
