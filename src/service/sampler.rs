//! An eye on the caches: some of their answers are compared with the store, again after a while, and counted when they were wrong.
//!
//! After M. Bronson and others at Meta ("Cache made consistent", 2022): an observer that knows nothing of the protocol finds what the
//! protocol's tests have missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::resource::Resource;
use crate::cache::{Key, Tiers, Wanted, key_text};
use crate::domain::version::Version;
use crate::store::{Lookup, Store};

/// Checks at work at a time; beyond, answers are not checked.
const MOST_AT_WORK: usize = 64;

/// How many seconds after a cached answer the store is asked again, and then the caches. No clocks are compared: what the store has said was true
/// before the cache is asked.
const CHECKS: [u64; 3] = [0, 1, 5];

/// Picks answers and counts what was found.
#[derive(Debug)]
pub(super) struct Sampler {
    every: u64,
    answers: AtomicU64,
    places: Arc<Semaphore>,
    sampled: AtomicU64,
    inconsistent: [AtomicU64; CHECKS.len()],
}

/// What the sampler has found since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SamplerFigures {
    /// Keys of cached answers of which the store was asked.
    pub sampled: u64,
    /// Of them, those of which a cache told something older than the store had said just before: at once, 1 and 5 seconds later.
    pub inconsistent: [u64; CHECKS.len()],
}

impl Sampler {
    /// One answer in so many is checked; 0: none.
    pub(super) fn new(every: u64) -> Self {
        Self {
            every,
            answers: AtomicU64::new(0),
            places: Arc::new(Semaphore::new(MOST_AT_WORK)),
            sampled: AtomicU64::new(0),
            inconsistent: Default::default(),
        }
    }

    /// Whether this answer is to be checked; the place is kept while it is.
    pub(super) fn pick(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        if self.every == 0 || !number.is_multiple_of(self.every) {
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.sampled.fetch_add(1, Ordering::Relaxed);
        Some(place)
    }

    /// Asks the store, and then sees that no cache tells anything older; at once and again later.
    pub(super) async fn check<R: Resource>(&self, store: &dyn Store, tiers: &Tiers, resource: R, key: &Key, wanted: &Wanted) {
        let begin = Instant::now();
        for (check, seconds) in CHECKS.into_iter().enumerate() {
            sleep_until(begin + Duration::from_secs(seconds)).await;
            let Ok(stored) = resource.load(store).await else { continue };
            let Some(entry) = tiers.peek(key, wanted).await else { continue };
            let (is_behind, stored) = match stored {
                Lookup::Live(record) => (entry.version() < Some(R::version(&record)), R::version(&record).get()),
                Lookup::Gone(version) => (entry.version() < Some(version), version.get()),
                // It may have been made since: then the store has it now.
                Lookup::Absent => (entry.body().is_some() && matches!(resource.load(store).await, Ok(Lookup::Absent)), 0),
            };
            if is_behind {
                self.found_wrong(check);
                let said = entry.version().map_or(0, Version::get);
                let (key, events) = (key_text::write(key), tiers.journal().of(key));
                tracing::error!(key, said, stored, after_seconds = seconds, events, "a cache tells what was replaced");
            }
        }
    }

    /// Notes that an answer was wrong at a check.
    fn found_wrong(&self, check: usize) {
        if let Some(counter) = self.inconsistent.get(check) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn figures(&self) -> SamplerFigures {
        let mut inconsistent = [0; CHECKS.len()];
        for (figure, counter) in inconsistent.iter_mut().zip(&self.inconsistent) {
            *figure = counter.load(Ordering::Relaxed);
        }
        SamplerFigures { sampled: self.sampled.load(Ordering::Relaxed), inconsistent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_picked() {
        let sampler = Sampler::new(10);
        assert_eq!((0..100).filter(|_| sampler.pick().is_some()).count(), 10);
        assert_eq!(Sampler::new(0).pick().map(drop), None);
        let busy = Sampler::new(1);
        let places: Vec<_> = (0..100).filter_map(|_| busy.pick()).collect();
        assert_eq!((places.len(), busy.figures().sampled), (64, 64));
    }
}
