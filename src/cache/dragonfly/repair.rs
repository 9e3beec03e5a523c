//! Keys of which the second tier may hold something old, because it could not be told of a write.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::version::Version;

/// A word that may come by itself does so within this time. Whoever waits for longer waits for a marker to end.
const BY_ITSELF: Duration = Duration::from_secs(1);

/// What is to be repaired. When it is full, everything is: then the whole tier is emptied.
#[derive(Debug)]
pub(super) struct Repair {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: HashMap<String, Wanting>,
    everything: bool,
}

#[derive(Debug, Clone, Copy)]
struct Wanting {
    version: Version,
    /// Until then the word may still come by itself.
    not_before: Instant,
}

/// What was to be repaired at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Texts of keys, with the newest version that was written.
    Keys(Vec<(String, Version)>),
    Everything,
}

impl Repair {
    /// At most so many keys are remembered.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tier was not told of a write of this key, or has to be within this time.
    pub(super) fn add(&self, key: &str, version: Version, within: Duration) {
        let not_before = Instant::now() + within;
        let mut state = self.state();
        if state.everything {
            return;
        }
        if let Some(known) = state.keys.get_mut(key) {
            known.version = known.version.max(version);
            known.not_before = known.not_before.min(not_before);
        } else if state.keys.len() < self.limit {
            state.keys.insert(key.to_owned(), Wanting { version, not_before });
        } else {
            state.keys = HashMap::new();
            state.everything = true;
        }
    }

    /// The whole tier is to be emptied.
    pub(super) fn add_everything(&self) {
        *self.state() = State { keys: HashMap::new(), everything: true };
    }

    /// What is to be repaired; at most `limit` keys. It stays due until [`Repair::done`].
    pub(super) fn due(&self, limit: usize) -> Due {
        let state = self.state();
        if state.everything {
            return Due::Everything;
        }
        let now = Instant::now();
        let due = state.keys.iter().filter(|(_, wanting)| wanting.not_before <= now).take(limit);
        let keys: Vec<_> = due.map(|(key, wanting)| (key.clone(), wanting.version)).collect();
        if keys.is_empty() { Due::Nothing } else { Due::Keys(keys) }
    }

    /// What would be due soon is due now. Keys whose write has an unknown outcome keep their marker: it ends by itself, and until then the
    /// write may still come.
    pub(super) fn hurry(&self) {
        let now = Instant::now();
        for wanting in self.state().keys.values_mut().filter(|wanting| wanting.not_before <= now + BY_ITSELF) {
            wanting.not_before = now;
        }
    }

    /// The tier was told of this version of the key. A newer one stays due.
    pub(super) fn done(&self, key: &str, version: Version) {
        let mut state = self.state();
        if state.keys.get(key).is_some_and(|known| known.version <= version) {
            state.keys.remove(key);
        }
    }

    /// The tier was emptied after everything had become due.
    pub(super) fn everything_done(&self) {
        self.state().everything = false;
    }

    /// How many keys are due; `usize::MAX`: all.
    pub(super) fn len(&self) -> usize {
        let state = self.state();
        if state.everything { usize::MAX } else { state.keys.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: i64) -> Version {
        Version::new(number).unwrap()
    }

    #[test]
    fn a_newer_version_stays_due() {
        let repair = Repair::new(2);
        repair.add("a", version(3), Duration::ZERO);
        repair.add("a", version(5), Duration::from_secs(60));
        repair.add("a", version(4), Duration::ZERO);
        assert_eq!(repair.due(10), Due::Keys(vec![("a".to_owned(), version(5))]));
        repair.done("a", version(4));
        assert_eq!(repair.len(), 1);
        repair.done("a", version(5));
        assert_eq!(repair.due(10), Due::Nothing);
        repair.add("b", version(1), Duration::from_secs(60));
        assert_eq!((repair.due(10), repair.len()), (Due::Nothing, 1), "its time has not come");
        repair.hurry();
        assert_eq!(repair.due(10), Due::Nothing, "its marker is to stay");
        repair.add("c", version(1), BY_ITSELF / 2);
        repair.hurry();
        assert_eq!(repair.due(10), Due::Keys(vec![("c".to_owned(), version(1))]));
    }

    #[test]
    fn too_many_keys_are_everything() {
        let repair = Repair::new(2);
        for key in ["a", "b", "a", "c"] {
            repair.add(key, version(1), Duration::ZERO);
        }
        assert_eq!((repair.due(10), repair.len()), (Due::Everything, usize::MAX));
        repair.everything_done();
        assert_eq!(repair.due(10), Due::Nothing);
    }
}
