//! What a cache must know of the database beside its rows: which life of it this is, and what time it has.
//!
//! The store finds both out and says so here; the cache asks here. Neither knows the other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    away: Mutex<Away>,
}

/// Whether the database answers.
#[derive(Debug, Default)]
struct Away {
    /// When it was asked what it has answered last.
    answered: Option<Instant>,
    /// It has not answered since.
    is_away: bool,
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
        Self::over(clock, None)
    }

    /// Of a database, of which nothing is known yet. `clock` is for its offset only.
    #[must_use]
    pub fn database(clock: Clock) -> Self {
        Self::over(clock, Some(Mutex::default()))
    }

    fn over(clock: Clock, looks: Option<Mutex<VecDeque<Look>>>) -> Self {
        let (epoch, lives, away) = (ArcSwapOption::empty(), AtomicU64::new(0), Mutex::default());
        Self { shared: Arc::new(Shared { clock, looks, epoch, lives, away }) }
    }

    /// Whether the store is in this process, and all its writes are.
    #[must_use]
    pub fn is_in_process(&self) -> bool {
        self.shared.looks.is_none()
    }

    /// The database was asked, and has not answered. Says whether that is news.
    pub fn is_silent(&self) -> bool {
        self.shared.looks.is_some() && !std::mem::replace(&mut self.away().is_away, true)
    }

    /// How long ago the database last answered, while it does not. `None`: it answered when it was last asked, or it is in this process.
    #[must_use]
    pub fn away_for(&self) -> Option<Duration> {
        let away = self.away();
        away.is_away.then(|| away.answered.map_or(Duration::ZERO, |answered| answered.elapsed()))
    }

    fn away(&self) -> MutexGuard<'_, Away> {
        self.shared.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database was asked at `asked` and has answered, without the offset of tests, that it is `said`.
    pub fn clock_said(&self, asked: Instant, said: Timestamp) {
        let Some(looks) = &self.shared.looks else { return };
        *self.away() = Away { answered: Some(asked), is_away: false };
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
    fn a_database_is_away_until_it_answers() {
        let life = StoreLife::database(Clock::new());
        assert_eq!(life.away_for(), None, "it was not asked yet");
        assert!(life.is_silent());
        assert!(life.away_for().is_some());
        let asked = Instant::now().checked_sub(Duration::from_secs(3)).unwrap();
        life.clock_said(asked, Timestamp::from_microseconds(1));
        assert_eq!(life.away_for(), None);
        assert!(life.is_silent());
        assert!(!life.is_silent());
        assert!(life.away_for().unwrap() >= Duration::from_secs(3));
        let embedded = StoreLife::embedded(Clock::new());
        assert!(!embedded.is_silent());
        assert_eq!(embedded.away_for(), None);
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
