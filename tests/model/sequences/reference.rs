//! The model: what is there, in plain maps. It knows neither tables nor caches.

use std::collections::{BTreeMap, HashMap};

use nworkflow_state::domain::clock::Timestamp;
use nworkflow_state::domain::version::{Precondition, Tags, Version};
use serde_json::Value;

use super::operation::{Guard, scope_of, session_of};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    State(usize),
    Checkpoint(usize, usize),
    Session(usize),
    Variable(usize, usize),
}

#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) version: Version,
    pub(super) marking: Value,
}

#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    pub(super) version: Version,
    pub(super) marking: Value,
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) version: Version,
    pub(super) life: Version,
    pub(super) data: Value,
    pub(super) ttl: i64,
    pub(super) sliding: bool,
    pub(super) cap: Option<i64>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

impl Session {
    /// The last moment that the cap allows.
    pub(super) fn latest(&self) -> Timestamp {
        self.cap.map_or(Timestamp::from_microseconds(i64::MAX), |cap| self.created_at.plus_seconds(cap))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub(super) version: Version,
    pub(super) value: Value,
    pub(super) expires_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) states: BTreeMap<usize, State>,
    /// Versions in the history of each execution, deletions included.
    pub(super) history: BTreeMap<usize, i64>,
    pub(super) checkpoints: BTreeMap<(usize, usize), Checkpoint>,
    pub(super) sessions: BTreeMap<usize, Session>,
    pub(super) variables: BTreeMap<(usize, usize), Variable>,
    /// The greatest version that was ever seen of a key.
    seen: HashMap<Key, Version>,
    /// The one before it.
    earlier: HashMap<Key, Version>,
}

impl Model {
    /// A write made this version.
    ///
    /// # Errors
    /// It is not greater than every version before.
    pub(super) fn grow(&mut self, key: Key, version: Version) -> Result<(), String> {
        let Some(before) = self.seen.insert(key.clone(), version) else { return Ok(()) };
        if before >= version {
            return Err(format!("{key:?}: version {version} after {before}"));
        }
        self.earlier.insert(key, before);
        Ok(())
    }

    /// The precondition of a guard over the live version of a key, and whether it is met.
    pub(super) fn precondition(&self, guard: Guard, key: &Key, live: Option<Version>) -> (Precondition, bool) {
        let matching = |tags| Precondition { if_match: Some(tags), if_none_match: None };
        let far = Version::new(self.seen.get(key).map_or(0, |seen| seen.get()) + 77).unwrap();
        let precondition = match (guard, live) {
            (Guard::None, _) => Precondition::default(),
            (Guard::Absent, _) => Precondition { if_match: None, if_none_match: Some(Tags::Any) },
            (Guard::Present, _) => matching(Tags::Any),
            (Guard::Current, Some(live)) => matching(Tags::Versions(vec![live])),
            // A list needs another way through the service than one version.
            (Guard::Current, None) => matching(Tags::Versions(vec![far, Version::FIRST])),
            (Guard::Unknown, _) => matching(Tags::Versions(vec![far])),
            (Guard::Earlier, _) => matching(Tags::Versions(vec![self.earlier.get(key).copied().unwrap_or(far)])),
        };
        let met = match guard {
            Guard::None => true,
            Guard::Absent => live.is_none(),
            Guard::Present | Guard::Current => live.is_some(),
            Guard::Unknown | Guard::Earlier => false,
        };
        (precondition, met)
    }

    pub(super) fn scope_lives(&self, scope: usize) -> bool {
        session_of(scope).is_none_or(|session| self.sessions.contains_key(&session))
    }

    /// Everything that ends until this moment ends.
    pub(super) fn pass(&mut self, now: Timestamp) {
        self.sessions.retain(|_, session| session.expires_at > now);
        let sessions = &self.sessions;
        self.variables.retain(|(scope, _), variable| {
            variable.expires_at.is_none_or(|end| end > now) && session_of(*scope).is_none_or(|session| sessions.contains_key(&session))
        });
    }

    /// Whether something ends within these seconds after the moment: answers of that time would be a matter of luck.
    pub(super) fn ends_within(&self, now: Timestamp, seconds: i64) -> bool {
        let ends = self.sessions.values().map(|session| session.expires_at);
        let ends = ends.chain(self.variables.values().filter_map(|variable| variable.expires_at));
        let until = now.plus_seconds(seconds);
        ends.into_iter().any(|end| end > now && end <= until)
    }

    /// A session is gone, or begins a new life: so are its variables.
    pub(super) fn drop_variables(&mut self, session: usize) {
        self.variables.retain(|(scope, _), _| *scope != scope_of(session));
    }

    pub(super) fn checkpoints_of(&self, execution: usize) -> usize {
        self.checkpoints.keys().filter(|(owner, _)| *owner == execution).count()
    }
}
