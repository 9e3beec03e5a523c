//! The tier in this process's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::bounded::{Bounded, Slot};
use super::entry::{Entry, Wanted};
use super::key::Key;
use super::stripe::{Locked, Stripes, Ticket};
use crate::config::{CacheConfig, Milliseconds};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::commit::{Change, CommitObserver, Objection};
use crate::domain::store_life::StoreLife;
use crate::domain::version::Version;

/// Finished answers, bounded in bytes and age. See the module [`super`] for the rules that keep it right.
///
/// It hears of all writes also while it is off, so it can be put on at any moment.
#[derive(Debug)]
pub struct LocalTier {
    clock: Clock,
    life: StoreLife,
    ttl_microseconds: i64,
    negative_ttl_microseconds: i64,
    floor_microseconds: i64,
    floor_entries: usize,
    enabled: AtomicBool,
    /// What [`LocalTier::milliseconds`] counts from.
    begun: Instant,
    /// Until then entries are believed; `u64::MAX`: for as long as the tier is on.
    trusted_until: AtomicU64,
    /// The database's lives that were seen.
    lives: AtomicU64,
    stripes: Stripes,
    entries: Bounded,
    hits: AtomicU64,
    misses: AtomicU64,
    floor_overflows: AtomicU64,
}

/// Figures of the tier. Counters are since its making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Whether it is on.
    pub enabled: bool,
    /// Entries, those included that are past their time and were not asked for since.
    pub entries: usize,
    /// Bytes that they take, keys and bookkeeping included.
    pub bytes: u64,
    /// Bytes that they may take.
    pub capacity_bytes: u64,
    /// Entries that are a variable's value.
    pub variables: usize,
    /// Answers that it gave.
    pub hits: u64,
    /// Answers that it did not have, while it was on.
    pub misses: u64,
    /// Entries that made room for others.
    pub evictions: u64,
    /// How often everything was dropped because more keys were written than floors are kept.
    pub floor_overflows: u64,
}

impl LocalTier {
    /// An empty tier over a store in this process; on when the setting `cache.local` says so.
    #[must_use]
    pub fn new(config: &CacheConfig, clock: Clock) -> Self {
        Self::over(config, clock.clone(), StoreLife::embedded(clock))
    }

    /// An empty tier over a store whose time `life` tells; on when the setting `cache.local` says so.
    #[must_use]
    pub fn over(config: &CacheConfig, clock: Clock, life: StoreLife) -> Self {
        Self {
            clock,
            life,
            ttl_microseconds: microseconds(config.local_ttl_ms),
            negative_ttl_microseconds: microseconds(config.negative_ttl_ms),
            floor_microseconds: microseconds(config.floor_ms),
            floor_entries: config.floor_entries,
            enabled: AtomicBool::new(config.local),
            begun: Instant::now(),
            trusted_until: AtomicU64::new(u64::MAX),
            lives: AtomicU64::new(0),
            stripes: Stripes::new(),
            entries: Bounded::new(config.local_bytes),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            floor_overflows: AtomicU64::new(0),
        }
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Whether this process hears of every write in time: because all are made here, or because whoever puts the tier on has proved it.
    pub(super) fn hears_all_writes(&self) -> bool {
        self.life.is_in_process() || self.is_enabled()
    }

    /// Puts it on or off. Off it is empty, answers nothing and keeps nothing, loads at work included. What was being loaded while it was
    /// off is not kept either: nobody may have told of the writes of that time.
    pub fn set_enabled(&self, enabled: bool) {
        if enabled && !self.is_enabled() {
            for stripe in self.stripes.lock_each() {
                stripe.void_tickets();
            }
        }
        self.enabled.store(enabled, Ordering::Release);
        if !enabled {
            self.clear();
        }
    }

    /// What is kept under the key, when it is of this moment and answers what is wanted.
    ///
    /// Nothing older than a version that was committed here is ever found: [`CommitObserver::committed`] removes it under the lock under
    /// which insertions look at the floor.
    #[must_use]
    pub fn get(&self, key: &Key, wanted: &Wanted) -> Option<Arc<Entry>> {
        if !self.is_enabled() {
            return None;
        }
        let until = self.trusted_until.load(Ordering::Acquire);
        if until != u64::MAX && self.milliseconds() >= until {
            return None;
        }
        self.notice_another_life();
        let found = self.find(key, wanted);
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Milliseconds since the tier was made, on a clock that nobody sets.
    pub(super) fn milliseconds(&self) -> u64 {
        self.begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }

    /// Entries are believed until then. For who hears of writes from others: a process that was suspended must not answer, when it wakes, before
    /// it has heard what it missed.
    pub(super) fn trust_until(&self, milliseconds: u64) {
        self.trusted_until.store(milliseconds, Ordering::Release);
    }

    /// Entries are believed for this long from now on.
    pub fn trust_for(&self, time: Duration) {
        self.trust_until(self.milliseconds().saturating_add(time.as_millis().try_into().unwrap_or(u64::MAX)));
    }

    /// What was read in an earlier life of the database goes: it may never have been committed.
    fn notice_another_life(&self) {
        let lives = self.life.lives();
        if self.lives.load(Ordering::Acquire) != lives && self.lives.swap(lives, Ordering::AcqRel) != lives {
            self.clear();
        }
    }

    fn find(&self, key: &Key, wanted: &Wanted) -> Option<Arc<Entry>> {
        let slot = self.entries.get(key)?;
        if !self.is_current(&slot, self.clock.now()) {
            self.entries.remove_exactly(key, &slot.entry);
            return None;
        }
        slot.entry.answers(wanted).then_some(slot.entry)
    }

    /// Whether the entry is within its time. A clock that was set back makes entries of the future, which are as good as old ones.
    fn is_current(&self, slot: &Slot, now: Timestamp) -> bool {
        let limit = if slot.entry.body().is_some() { self.ttl_microseconds } else { self.negative_ttl_microseconds };
        let age = now.as_microseconds().saturating_sub(slot.read_at.as_microseconds());
        (0..limit).contains(&age) && !self.is_over(&slot.entry)
    }

    /// Whether the resource is gone, or may be: of a database that has not told its time lately.
    pub(super) fn is_over(&self, entry: &Entry) -> bool {
        entry.deadline().is_some_and(|deadline| self.life.now().is_none_or(|now| now >= deadline))
    }

    /// Another process writes, or has written, this version of the key. What is older goes, and what is being loaded is not kept. Said before
    /// its commit and again after it, so the store may not have it.
    pub fn heard_of(&self, key: &Key, version: Version) {
        let mut stripe = self.stripes.lock(key);
        stripe.void_tickets();
        let now = self.clock.now();
        // A writer here that commits an older version may come to leave it only now; and the second tier may not have been told.
        let until = Timestamp::from_microseconds(now.as_microseconds().saturating_add(self.floor_microseconds));
        stripe.raise_floor(key.clone(), version, now, until);
        if self.entries.peek(key).is_some_and(|slot| slot.entry.version() < Some(version)) {
            self.entries.remove(key);
        }
        drop(stripe);
        self.limit_floors(now);
    }

    /// A ticket for a load of the key that begins now.
    #[must_use]
    pub fn ticket(&self, key: &Key) -> Ticket {
        self.notice_another_life();
        Ticket { changes: self.stripes.changes(key), at: self.clock.now() }
    }

    /// The version that an answer about the key must have reached, when it comes from a place that may be behind the store.
    #[must_use]
    pub fn floor(&self, key: &Key) -> Option<Version> {
        self.stripes.lock(key).floor(key, self.clock.now())
    }

    /// Keeps what was loaded with the ticket, unless a write was heard of since, the load came from a place that is behind, or what is there
    /// is newer. Says whether it is kept now.
    pub fn insert(&self, key: &Key, ticket: Ticket, entry: Arc<Entry>) -> bool {
        self.notice_another_life();
        let stripe = self.stripes.lock(key);
        stripe.honours(ticket) && self.keep(&stripe, key, ticket.at, entry)
    }

    /// Keeps what a write of this process made, when its version is the last that was committed here and no further write is at work. Says
    /// whether it is kept now. Needs no ticket: a writer that comes late finds a higher floor, or none.
    pub fn insert_written(&self, key: &Key, entry: Arc<Entry>) -> bool {
        self.notice_another_life();
        let stripe = self.stripes.lock(key);
        let now = self.clock.now();
        let is_last = entry.version().is_some_and(|version| stripe.floor(key, now) == Some(version));
        stripe.is_quiet() && is_last && self.keep(&stripe, key, now, entry)
    }

    /// The last steps of an insertion, under the lock of the key's stripe.
    fn keep(&self, stripe: &Locked<'_>, key: &Key, read_at: Timestamp, entry: Arc<Entry>) -> bool {
        // Looked at under the lock: switching off goes through all locks before it empties the map.
        if !self.is_enabled() {
            return false;
        }
        let now = self.clock.now();
        // `None`, no trace of the key, is less than every version.
        let is_behind = |version| entry.version() < Some(version);
        if stripe.floor(key, now).is_some_and(is_behind) {
            return false;
        }
        let present = self.entries.peek(key).filter(|slot| self.is_current(slot, now));
        if present.and_then(|slot| slot.entry.version()).is_some_and(is_behind) {
            return false;
        }
        self.entries.put(key, entry, read_at)
    }

    /// A sliding session was touched in the store. Its entry, if it is of this version, ends later now; loads that may have read the earlier
    /// end are not kept.
    pub fn touched(&self, key: &Key, version: Version, expires_at: Timestamp, deadline: Timestamp) {
        let stripe = self.stripes.lock(key);
        stripe.void_tickets();
        if let Some(slot) = self.entries.peek(key).filter(|slot| slot.entry.version() == Some(version)) {
            slot.entry.touched(expires_at, deadline);
        }
    }

    /// Drops all entries and makes all tickets worthless, and says how many entries there were. Floors stay.
    pub fn clear(&self) -> usize {
        for stripe in self.stripes.lock_each() {
            stripe.void_tickets();
        }
        self.entries.clear()
    }

    /// The figures now.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics {
            enabled: self.is_enabled(),
            entries: self.entries.entries(),
            bytes: self.entries.bytes(),
            capacity_bytes: self.entries.capacity_bytes(),
            variables: self.entries.variables(),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.entries.evictions(),
            floor_overflows: self.floor_overflows.load(Ordering::Relaxed),
        }
    }

    /// Keeps the number of floors within its limit: those that have passed go; if that is not enough, all go, and with them everything that
    /// they protect.
    fn limit_floors(&self, now: Timestamp) {
        if self.stripes.floors() <= self.floor_entries {
            return;
        }
        for mut stripe in self.stripes.lock_each() {
            stripe.drop_passed_floors(now);
        }
        // Room for a while, or the next commit would look through all of them again.
        if self.stripes.floors() <= self.floor_entries / 4 * 3 {
            return;
        }
        self.floor_overflows.fetch_add(1, Ordering::Relaxed);
        for mut stripe in self.stripes.lock_each() {
            stripe.drop_all_floors();
        }
        self.clear();
    }
}

/// What a writer tells of its transaction; see [`CommitObserver`].
impl LocalTier {
    /// The rows are locked: until the outcome is known nothing is kept under these keys.
    pub fn before_commit(&self, changes: &[Change]) {
        for change in changes {
            let key = Key::from(change);
            let mut stripe = self.stripes.lock(&key);
            stripe.begin_write();
            stripe.void_tickets();
            self.entries.remove(&key);
        }
    }

    /// The versions can be read: nothing older is kept from now on.
    pub fn committed(&self, changes: &[Change]) {
        let now = self.clock.now();
        let until = Timestamp::from_microseconds(now.as_microseconds().saturating_add(self.floor_microseconds));
        for change in changes {
            let key = Key::from(change);
            let mut stripe = self.stripes.lock(&key);
            stripe.end_write();
            stripe.void_tickets();
            self.entries.remove(&key);
            stripe.raise_floor(key, change.version, now, until);
        }
        self.limit_floors(now);
    }

    /// Nothing changed.
    pub fn rolled_back(&self, changes: &[Change]) {
        for change in changes {
            let mut stripe = self.stripes.lock(&Key::from(change));
            stripe.end_write();
            stripe.void_tickets();
        }
    }
}

#[async_trait]
impl CommitObserver for LocalTier {
    async fn before_commit(&self, changes: &[Change]) -> Result<(), Objection> {
        Self::before_commit(self, changes);
        Ok(())
    }

    fn committed(&self, changes: &[Change]) {
        Self::committed(self, changes);
    }

    fn rolled_back(&self, changes: &[Change]) {
        Self::rolled_back(self, changes);
    }
}

fn microseconds(time: Milliseconds) -> i64 {
    i64::try_from(Duration::from(time).as_micros()).unwrap_or(i64::MAX)
}
