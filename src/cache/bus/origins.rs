//! Which messages of the other servers have arrived, and whether any is missing.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Most numbers that are remembered above a gap, over all origins: beyond, something is wrong anyway.
const MOST_PENDING: usize = 100_000;
/// Most processes that are listened to.
const MOST_ORIGINS: usize = 1000;

/// What has arrived. Pure: it is told the time.
#[derive(Debug)]
pub(super) struct Origins {
    /// How long a message may be late.
    patience: Duration,
    /// How long an origin may be silent.
    silence: Duration,
    origins: HashMap<String, Origin>,
}

#[derive(Debug)]
struct Origin {
    /// All numbers up to this one have arrived.
    complete: u64,
    /// Those above it that have.
    above: BTreeSet<u64>,
    /// The numbers up to which heartbeats have covered, and since when; the earliest first.
    covered: Option<(u64, Instant)>,
    heard_at: Instant,
}

/// Why the local tier must be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// A process is there that was not before: what it said earlier was not heard.
    Newcomer,
    /// A message is missing.
    Gap,
    /// A process has fallen silent. What it still writes may not be heard.
    Silence,
    /// There are more numbers or processes than are remembered.
    Overflow,
}

impl Origins {
    pub(super) fn new(patience: Duration, silence: Duration) -> Self {
        Self { patience, silence, origins: HashMap::new() }
    }

    /// A message has arrived. Of a process that has sent no heartbeat yet nothing is counted: its first one raises a doubt anyway.
    pub(super) fn message(&mut self, origin: &str, number: u64) {
        let Some(origin) = self.origins.get_mut(origin) else { return };
        if number > origin.complete {
            origin.above.insert(number);
            while origin.above.remove(&(origin.complete + 1)) {
                origin.complete += 1;
            }
        }
    }

    /// A heartbeat has arrived: all numbers up to `settled` have been sent.
    pub(super) fn heartbeat(&mut self, origin: &str, settled: u64, now: Instant) -> Option<Doubt> {
        let Some(known) = self.origins.get_mut(origin) else {
            if self.origins.len() >= MOST_ORIGINS {
                return Some(Doubt::Overflow);
            }
            self.origins.insert(origin.to_owned(), Origin { complete: settled, above: BTreeSet::new(), covered: None, heard_at: now });
            return Some(Doubt::Newcomer);
        };
        known.heard_at = now;
        if settled > known.complete && known.covered.is_none() {
            known.covered = Some((settled, now));
        }
        None
    }

    /// Looks for what is missing, late or silent. After a doubt the numbers are taken as they are.
    pub(super) fn check(&mut self, now: Instant) -> Option<Doubt> {
        let mut doubt = None;
        let pending: usize = self.origins.values().map(|origin| origin.above.len()).sum();
        if pending > MOST_PENDING {
            doubt = Some(Doubt::Overflow);
        }
        for origin in self.origins.values_mut() {
            let Some((covered, since)) = origin.covered else { continue };
            if origin.complete >= covered {
                origin.covered = None;
            } else if now.saturating_duration_since(since) >= self.patience {
                doubt = Some(Doubt::Gap);
                origin.skip_to(covered);
            }
        }
        let before = self.origins.len();
        self.origins.retain(|_, origin| now.saturating_duration_since(origin.heard_at) < self.silence);
        if self.origins.len() < before {
            doubt = doubt.or(Some(Doubt::Silence));
        }
        if doubt == Some(Doubt::Overflow) {
            self.origins.clear();
        }
        doubt
    }
}

impl Origin {
    fn skip_to(&mut self, number: u64) {
        self.complete = self.complete.max(number);
        self.above = self.above.split_off(&(self.complete + 1));
        while self.above.remove(&(self.complete + 1)) {
            self.complete += 1;
        }
        self.covered = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins() -> (Origins, Instant) {
        (Origins::new(Duration::from_millis(500), Duration::from_millis(1500)), Instant::now())
    }

    fn after(begin: Instant, milliseconds: u64) -> Instant {
        begin + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_newcomer_raises_a_doubt_once() {
        let (mut origins, now) = origins();
        origins.message("a", 5);
        assert_eq!(origins.heartbeat("a", 7, now), Some(Doubt::Newcomer));
        assert_eq!(origins.heartbeat("a", 7, now), None);
        assert_eq!(origins.check(after(now, 1000)), None);
    }

    #[test]
    fn a_message_may_come_late_but_not_never() {
        let (mut origins, now) = origins();
        assert_eq!(origins.heartbeat("a", 7, now), Some(Doubt::Newcomer));
        origins.message("a", 9);
        assert_eq!(origins.heartbeat("a", 9, after(now, 100)), None);
        assert_eq!(origins.check(after(now, 599)), None);
        origins.message("a", 8);
        assert_eq!(origins.check(after(now, 700)), None, "out of order is no gap");
        assert_eq!(origins.heartbeat("a", 10, after(now, 800)), None);
        origins.message("a", 11);
        assert_eq!(origins.heartbeat("a", 11, after(now, 1200)), None);
        assert_eq!(origins.check(after(now, 1299)), None);
        assert_eq!(origins.check(after(now, 1300)), Some(Doubt::Gap), "10 is missing since the first heartbeat that covers it");
        assert_eq!(origins.heartbeat("a", 11, after(now, 1400)), None);
        assert_eq!(origins.check(after(now, 2000)), None, "and is missed once");
    }

    #[test]
    fn silence_raises_a_doubt_and_the_return_another() {
        let (mut origins, now) = origins();
        assert_eq!(origins.heartbeat("a", 7, now), Some(Doubt::Newcomer));
        assert_eq!(origins.check(after(now, 1499)), None);
        assert_eq!(origins.check(after(now, 1500)), Some(Doubt::Silence));
        assert_eq!(origins.check(after(now, 3000)), None);
        assert_eq!(origins.heartbeat("a", 7, after(now, 3000)), Some(Doubt::Newcomer));
    }
}
