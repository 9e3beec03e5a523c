//! The last things that happened to keys, for the log line about an entry that was wrong.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::key::Key;
use crate::domain::version::Version;

/// Events that are remembered, of all keys together.
const EVENTS: usize = 8192;
/// Events of one key that are told.
const TOLD: usize = 20;

/// A step of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A writer here has marked the key.
    Mark,
    /// A writer here has committed.
    Commit,
    /// A writer here has rolled back.
    Rollback,
    /// A writer here does not know its outcome.
    Unknown,
    /// A writer here has left its value.
    Put,
    /// A reader here has filled the second tier.
    Fill,
    /// What a reader here had loaded was not kept.
    Refused,
    /// A reader here was answered by the second tier.
    Second,
    /// Another server has told of a write.
    Heard,
}

/// Remembers events of all keys.
#[derive(Debug)]
pub struct Journal {
    hasher: RandomState,
    events: Mutex<VecDeque<Noted>>,
}

#[derive(Debug, Clone, Copy)]
struct Noted {
    key: u64,
    event: Event,
    version: Option<Version>,
    at: Instant,
}

impl Default for Journal {
    fn default() -> Self {
        Self { hasher: RandomState::new(), events: Mutex::new(VecDeque::new()) }
    }
}

impl Journal {
    /// Something has happened.
    pub fn note(&self, key: &Key, event: Event, version: Option<Version>) {
        let noted = Noted { key: self.hasher.hash_one(key), event, version, at: Instant::now() };
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= EVENTS {
            events.pop_front();
        }
        events.push_back(noted);
    }

    /// The last events of a key, the newest first, each with its version and how many milliseconds ago it was.
    #[must_use]
    pub fn of(&self, key: &Key) -> String {
        let (hash, now) = (self.hasher.hash_one(key), Instant::now());
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let told = events.iter().rev().filter(|noted| noted.key == hash).take(TOLD).map(|noted| {
            let version = noted.version.map_or(0, Version::get);
            format!("{:?} {version} ({} ms ago)", noted.event, now.saturating_duration_since(noted.at).as_millis())
        });
        told.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key_text;

    #[test]
    fn the_last_events_of_a_key_are_told() {
        let (one, other) = (key_text::read("acme:session:a").unwrap(), key_text::read("acme:session:b").unwrap());
        let journal = Journal::default();
        for number in 1..=25 {
            journal.note(&one, Event::Mark, Version::new(number));
            journal.note(&other, Event::Put, None);
        }
        let told = journal.of(&one);
        assert!(
            told.starts_with("Mark 25 (") && told.contains("Mark 6 (") && !told.contains("Mark 5 (") && !told.contains("Put"),
            "{told}"
        );
    }
}
