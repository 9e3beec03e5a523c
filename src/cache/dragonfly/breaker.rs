//! When the second tier is given up for a while: a server that does not answer must not cost every request its time limit.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row after which it is open.
const FAILURES_IN_A_ROW: u32 = 5;
/// The time over which the share of failures is counted.
const WINDOW: Duration = Duration::from_secs(1);
/// Calls in a window before their share counts.
const LEAST_CALLS: u32 = 20;

/// Counts calls and failures.
#[derive(Debug)]
pub(super) struct Breaker(Mutex<Counts>);

#[derive(Debug, Clone, Copy)]
struct Counts {
    begun: Instant,
    calls: u32,
    failures: u32,
    in_a_row: u32,
}

impl Counts {
    fn new(now: Instant) -> Self {
        Self { begun: now, calls: 0, failures: 0, in_a_row: 0 }
    }
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Counts::new(Instant::now())))
    }

    /// A call has ended. Says whether it is time to give up: five failures in a row, or half of at least twenty calls within a second.
    pub(super) fn record(&self, failed: bool) -> bool {
        self.record_at(failed, Instant::now())
    }

    fn record_at(&self, failed: bool, now: Instant) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(counts.begun) > WINDOW {
            *counts = Counts { in_a_row: counts.in_a_row, ..Counts::new(now) };
        }
        counts.calls = counts.calls.saturating_add(1);
        if failed {
            counts.failures = counts.failures.saturating_add(1);
            counts.in_a_row = counts.in_a_row.saturating_add(1);
        } else {
            counts.in_a_row = 0;
        }
        failed && (counts.in_a_row >= FAILURES_IN_A_ROW || (counts.calls >= LEAST_CALLS && counts.failures * 2 >= counts.calls))
    }

    /// Begins anew.
    pub(super) fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Counts::new(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_or_a_share_of_them() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        assert_eq!([true; 5].map(|failed| breaker.record_at(failed, now)), [false, false, false, false, true]);
        breaker.reset();
        for call in 0..19 {
            assert!(!breaker.record_at(call % 2 == 0, now), "{call}");
        }
        assert!(breaker.record_at(true, now), "11 of 20");
        breaker.reset();
        for call in 0..100 {
            assert!(!breaker.record_at(call % 3 == 0, now), "{call}");
        }
    }

    #[test]
    fn failures_of_long_ago_do_not_count_but_those_in_a_row_do() {
        let (breaker, now) = (Breaker::new(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!([0, 2, 4, 6].map(|second| breaker.record_at(true, later(second))), [false; 4]);
        assert!(breaker.record_at(true, later(8)));
    }
}
