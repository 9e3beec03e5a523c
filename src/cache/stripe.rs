//! What is known of the writes of keys: tickets, writes at work, floors. Keys share stripes, so that this takes little memory; a key whose
//! stripe another key shares is kept a little less often, and never wrongly.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::key::Key;
use crate::domain::clock::Timestamp;
use crate::domain::version::Version;

/// How many stripes there are.
const STRIPES: usize = 4096;

/// Taken before the store is asked; what was read with it is kept only while no write of the key was heard of since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub(super) changes: u64,
    /// When it was taken: what is read with it counts as that old.
    pub(super) at: Timestamp,
}

/// All stripes. Whatever is done to the entry of a key besides finding it is done under the lock of the key's stripe.
#[derive(Debug)]
pub(super) struct Stripes {
    /// Of this tier's own seed: nobody can choose keys that meet in one stripe.
    hasher: RandomState,
    stripes: Box<[Stripe]>,
    /// All floors, those included that have passed and were not noticed yet.
    floors: AtomicUsize,
}

#[derive(Debug, Default)]
struct Stripe {
    changes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    writes_at_work: usize,
    floors: Vec<Floor>,
}

/// The newest version of a key that was committed here.
#[derive(Debug)]
struct Floor {
    key: Key,
    version: Version,
    until: Timestamp,
}

impl Stripes {
    pub(super) fn new() -> Self {
        let stripes = std::iter::repeat_with(Stripe::default).take(STRIPES).collect();
        Self { hasher: RandomState::new(), stripes, floors: AtomicUsize::new(0) }
    }

    fn of(&self, key: &Key) -> &Stripe {
        // In range whatever the hash is: the remainder is below the length.
        let index = usize::try_from(self.hasher.hash_one(key) % STRIPES as u64).unwrap_or(0);
        &self.stripes[index]
    }

    /// How often the key's stripe was touched by a write.
    pub(super) fn changes(&self, key: &Key) -> u64 {
        // Acquire: whoever sees the number of a commit reads the store after it.
        self.of(key).changes.load(Ordering::Acquire)
    }

    /// Takes the lock of the key's stripe.
    pub(super) fn lock(&self, key: &Key) -> Locked<'_> {
        self.of(key).lock(&self.floors)
    }

    /// All stripes, locked one after the other.
    pub(super) fn lock_each(&self) -> impl Iterator<Item = Locked<'_>> {
        self.stripes.iter().map(|stripe| stripe.lock(&self.floors))
    }

    /// How many floors there are, those included that have passed and were not noticed yet.
    pub(super) fn floors(&self) -> usize {
        self.floors.load(Ordering::Relaxed)
    }
}

impl Stripe {
    fn lock<'a>(&'a self, floors: &'a AtomicUsize) -> Locked<'a> {
        // Nothing under the lock leaves it half done: a poisoned one is as good.
        Locked { changes: &self.changes, all_floors: floors, state: self.state.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// A stripe, locked.
pub(super) struct Locked<'a> {
    changes: &'a AtomicU64,
    all_floors: &'a AtomicUsize,
    state: MutexGuard<'a, State>,
}

impl Locked<'_> {
    /// Whether what was read with the ticket may be kept.
    pub(super) fn honours(&self, ticket: Ticket) -> bool {
        self.is_quiet() && self.changes.load(Ordering::Relaxed) == ticket.changes
    }

    /// Whether no write is between its row locks and the word of its outcome.
    pub(super) fn is_quiet(&self) -> bool {
        self.state.writes_at_work == 0
    }

    /// Makes all tickets of the stripe worthless.
    pub(super) fn void_tickets(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// A write has its row locks.
    pub(super) fn begin_write(&mut self) {
        self.state.writes_at_work = self.state.writes_at_work.saturating_add(1);
    }

    /// The outcome of a write is known.
    pub(super) fn end_write(&mut self) {
        self.state.writes_at_work = self.state.writes_at_work.saturating_sub(1);
    }

    /// The version below which nothing of the key is kept now.
    pub(super) fn floor(&self, key: &Key, now: Timestamp) -> Option<Version> {
        self.state.floors.iter().find(|floor| floor.until > now && floor.key == *key).map(|floor| floor.version)
    }

    /// Raises the floor of the key.
    pub(super) fn raise_floor(&mut self, key: Key, version: Version, now: Timestamp, until: Timestamp) {
        self.drop_floors(|floor| floor.until <= now);
        match self.state.floors.iter_mut().find(|floor| floor.key == key) {
            Some(floor) => {
                floor.version = floor.version.max(version);
                floor.until = floor.until.max(until);
            }
            None => {
                self.state.floors.push(Floor { key, version, until });
                self.all_floors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Drops the floors that have passed.
    pub(super) fn drop_passed_floors(&mut self, now: Timestamp) {
        self.drop_floors(|floor| floor.until <= now);
    }

    /// Drops all floors.
    pub(super) fn drop_all_floors(&mut self) {
        self.drop_floors(|_| true);
        self.state.floors.shrink_to_fit();
    }

    fn drop_floors(&mut self, drops: impl Fn(&Floor) -> bool) {
        let before = self.state.floors.len();
        self.state.floors.retain(|floor| !drops(floor));
        self.all_floors.fetch_sub(before - self.state.floors.len(), Ordering::Relaxed);
    }
}
