//! What this process has written lately. When the second tier turns out to be in another life, the other servers may have noticed first, and
//! may hold under the new names what these writes have replaced.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::version::Version;

/// For how long: longer than a server can go without noticing.
const LATELY: Duration = Duration::from_secs(10);

/// Keys by the time of their writes.
#[derive(Debug)]
pub(super) struct Recent {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    writes: VecDeque<(Instant, String, Version)>,
    /// When a write was forgotten for want of room.
    forgotten: Option<Instant>,
}

impl Recent {
    /// At most so many writes are remembered.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// This version of the key was written.
    pub(super) fn add(&self, key: String, version: Version) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.writes.front().is_some_and(|(at, ..)| now.saturating_duration_since(*at) > LATELY) {
            state.writes.pop_front();
        }
        if state.writes.len() >= self.limit {
            state.writes.pop_front();
            state.forgotten = Some(now);
        }
        state.writes.push_back((now, key, version));
    }

    /// The writes of the last while; `None`: there were more than are remembered.
    pub(super) fn lately(&self) -> Option<Vec<(String, Version)>> {
        let now = Instant::now();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.forgotten.is_some_and(|at| now.saturating_duration_since(at) <= LATELY) {
            return None;
        }
        let lately = state.writes.iter().filter(|(at, ..)| now.saturating_duration_since(*at) <= LATELY);
        Some(lately.map(|(_, key, version)| (key.clone(), *version)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_is_remembered_is_everything() {
        let recent = Recent::new(2);
        let version = Version::new(1).unwrap();
        recent.add("a".to_owned(), version);
        recent.add("b".to_owned(), version);
        assert_eq!(recent.lately(), Some(vec![("a".to_owned(), version), ("b".to_owned(), version)]));
        recent.add("c".to_owned(), version);
        assert_eq!(recent.lately(), None);
    }
}
