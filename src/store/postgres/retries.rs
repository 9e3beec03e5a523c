//! When a transaction that failed by chance is begun again: at most once, while most of its time is left, after a pause that varies, and
//! never so often that the retries themselves are what the database has to do.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::failure::Failure;
use crate::deadline;

/// What a first attempt puts into the budget, and what a retry takes out of it: one retry for each ten requests.
const SHARE: u64 = 1;
const PRICE: u64 = 10;
/// Most that the budget holds, in retries: as many connections break at once when a database restarts under a server that has had none to do.
const MOST_SAVED: u64 = 64;
/// Longest pause before a retry. Two transactions that were each other's deadlock must not meet again.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How often transactions of one database may be begun again.
#[derive(Debug)]
pub(super) struct Retries {
    /// In shares.
    budget: AtomicU64,
    /// A number between 0 and `u64::MAX`.
    random: fn() -> u64,
}

/// A piece of work that may be begun again.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    retries: &'a Retries,
    /// The time that it had when it began.
    time: Option<Duration>,
    is_first: bool,
}

impl Default for Retries {
    fn default() -> Self {
        // Its keys are new each time.
        Self::new(|| RandomState::new().hash_one(()))
    }
}

impl Retries {
    /// A full budget.
    pub(super) fn new(random: fn() -> u64) -> Self {
        Self { budget: AtomicU64::new(MOST_SAVED * PRICE), random }
    }

    /// Begins a piece of work of the request at hand.
    pub(super) fn begin(&self) -> Attempts<'_> {
        let save = |budget: u64| Some((budget + SHARE).min(MOST_SAVED * PRICE));
        // The closure always answers.
        let _ = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, save);
        Attempts { retries: self, time: time_left(), is_first: true }
    }

    /// Takes a retry out of the budget.
    fn spend(&self) -> bool {
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |budget| budget.checked_sub(PRICE)).is_ok()
    }

    fn pause(&self) -> Duration {
        LONGEST_PAUSE.mul_f64((self.random)() as f64 / u64::MAX as f64)
    }
}

impl Attempts<'_> {
    /// Whether the work is to be begun again after this failure, once it is time for that.
    pub(super) async fn again(&mut self, failure: &Failure) -> bool {
        if !std::mem::take(&mut self.is_first) {
            return false;
        }
        // A lost race is no failure: what the other has written is the answer, and only a new transaction sees it.
        if matches!(failure, Failure::Raced) {
            return true;
        }
        // Who has waited for a silent server for the whole time limit does not wait for it again.
        let may_pass = failure.is_transient() || (failure.lost_connection() && !matches!(failure, Failure::Silent));
        if !may_pass || !self.has_time() || !self.retries.spend() {
            return false;
        }
        tokio::time::sleep(self.retries.pause()).await;
        true
    }

    /// Whether half of the time is left. Less of it is better spent on whoever comes next.
    fn has_time(&self) -> bool {
        match (self.time, time_left()) {
            (Some(time), Some(left)) => left * 2 >= time,
            _ => true,
        }
    }
}

fn time_left() -> Option<Duration> {
    deadline::current().map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Failure {
        Failure::Driver(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()))
    }

    #[tokio::test]
    async fn a_failure_is_tried_again_once_after_a_pause() {
        let retries = Retries::new(|| u64::MAX / 2);
        let begin = Instant::now();
        let mut attempts = retries.begin();
        assert!(attempts.again(&broken()).await && !attempts.again(&broken()).await);
        assert!(begin.elapsed() >= LONGEST_PAUSE.mul_f64(0.49));
        let refused = Failure::Driver(sqlx::Error::RowNotFound);
        assert!(!retries.begin().again(&refused).await && !retries.begin().again(&Failure::Silent).await);
    }

    #[tokio::test]
    async fn retries_are_a_tenth_of_all_requests_and_some_that_were_saved() {
        let retries = Retries::new(|| 0);
        let mut tried = 0;
        for _ in 0..10_000 {
            tried += u64::from(retries.begin().again(&broken()).await);
        }
        assert!((1000..=1000 + MOST_SAVED).contains(&tried), "{tried}");
        // What was lost to another is not a matter of the budget.
        while retries.spend() {}
        assert!(retries.begin().again(&Failure::Raced).await);
        // Nothing is saved beyond the limit.
        (0..100_000).for_each(|_| assert!(retries.begin().is_first));
        assert_eq!((0..1000).filter(|_| retries.spend()).count() as u64, MOST_SAVED);
    }

    #[tokio::test]
    async fn a_request_that_has_spent_half_of_its_time_is_not_tried_again() {
        const SPENT: Duration = Duration::from_millis(60);
        for (time, spent, is_tried) in [(SPENT * 1000, SPENT, true), (SPENT * 3 / 2, SPENT, false)] {
            let retries = Retries::new(|| 0);
            let again = deadline::within(Some(Instant::now() + time), async {
                let mut attempts = retries.begin();
                tokio::time::sleep(spent).await;
                attempts.again(&broken()).await
            });
            assert_eq!(again.await, is_tried, "{time:?}");
        }
    }
}
