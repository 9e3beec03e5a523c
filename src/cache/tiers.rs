//! The protocol of the two tiers: MARK - COMMIT - PUT for writers, LEASE - READ - FILL for readers.
//!
//! One server's memory (the local tier) and one memory for all servers (the second tier) stand in front of the store, and neither may ever
//! show what an acknowledged write has replaced. docs/consistency.md says what that means for callers. The rules, each of which the model
//! check in the tests misses when it is taken away:
//!
//! - *Mark.* Before COMMIT, under the row's lock, the key's slot becomes a marker. While it is there readers ask the store and keep nothing.
//!   A writer that dies leaves a marker, and no old value; the marker ends by itself. A writer whose COMMIT takes long marks again.
//! - *Lease.* What a reader has loaded goes into the slot only if the lease that it put there before it asked the store is still there.
//! - *Empty stays empty.* A writer's value replaces its own marker or something older, never nothing.
//! - *Ticket.* The local tier keeps what was read only if nobody has told of a write since before the second tier was asked.
//! - *Floor.* For a while after a write was heard of, from here or elsewhere, nothing older is taken from the second tier.
//! - *Two words.* Each write is told to all servers twice, with its mark and with its value.
//!
//! ```text
//! read   local? ── ticket ── second: value ──────────────────> local, answer
//!                                  │ nothing: lease ── store ── fill accepted? ──> local, answer
//!                                  └ marker, another's lease, or away ── store ──> answer, nothing kept
//! write  row locks ── MARK ── COMMIT ── local: older goes, floor ── answer ── PUT
//! ```
//!
//! Without a second tier the local one is alone, and hears of all writes because all are made here.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::bus::BusCounters;
use super::dragonfly::{Dragonfly, Lookup};
use super::entry::{Entry, Facts, Wanted};
use super::flight::{Flights, Loaded};
use super::journal::{Event, Journal};
use super::key::Key;
use super::local::LocalTier;
use super::stripe::Ticket;
use crate::domain::commit::{Change, CommitObserver, Objection};
use crate::domain::tier::Tier;
use crate::domain::version::Version;
use crate::lifecycle::Lifecycle;

/// A writer leaves its value within this time, or its key is emptied.
const PUT_WITHIN: Duration = Duration::from_millis(100);

/// Both tiers. Clones are the same.
#[derive(Debug, Clone)]
pub struct Tiers {
    local: Arc<LocalTier>,
    second: Option<Arc<Dragonfly>>,
    bus: Arc<BusCounters>,
    journal: Arc<Journal>,
    lifecycle: Lifecycle,
}

impl Tiers {
    /// The local tier alone.
    #[must_use]
    pub fn local_only(local: Arc<LocalTier>, lifecycle: Lifecycle) -> Self {
        Self { local, second: None, bus: Arc::default(), journal: Arc::default(), lifecycle }
    }

    /// Both. The bus puts the local tier on and off; see [`super::bus::run`].
    #[must_use]
    pub fn both(local: Arc<LocalTier>, second: Arc<Dragonfly>, lifecycle: Lifecycle) -> Self {
        Self { local, second: Some(second), bus: Arc::default(), journal: Arc::default(), lifecycle }
    }

    /// The local tier.
    #[must_use]
    pub fn local(&self) -> &LocalTier {
        &self.local
    }

    /// What has happened to keys lately.
    #[must_use]
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What the bus has met.
    #[must_use]
    pub fn bus(&self) -> &Arc<BusCounters> {
        &self.bus
    }

    /// The second tier, when there is one.
    #[must_use]
    pub fn second(&self) -> Option<&Arc<Dragonfly>> {
        self.second.as_ref()
    }

    /// Reads a key: from a tier that has what is wanted, else with `load` from the store. Readers share loads. `from_store`: only the store's
    /// answer counts, and it is this caller's own.
    ///
    /// # Errors
    /// What `load` answered.
    pub async fn read<E, L, F>(
        &self,
        flights: &Flights<E, Loaded>,
        key: &Key,
        wanted: &Wanted,
        from_store: bool,
        load: L,
    ) -> Result<(Arc<Entry>, Tier), E>
    where
        E: Clone,
        L: Fn() -> F,
        F: Future<Output = Result<Arc<Entry>, E>>,
    {
        if !from_store && let Some(entry) = self.local.get(key, wanted) {
            return Ok((entry, Tier::Local));
        }
        let ticket = self.local.ticket(key);
        if from_store {
            let entry = load().await?;
            // With a second tier the ticket alone proves nothing: a writer elsewhere may have marked before it, and not committed yet.
            if self.second.is_none() {
                self.local.insert(key, ticket, Arc::clone(&entry));
            }
            return Ok((entry, Tier::Store { asked: from_store }));
        }
        // A load at work is shared by those only whom a write would have told: to others it may have begun before a write that they know of.
        let found = if self.local.hears_all_writes() {
            flights.load(key, ticket, wanted.life, || self.load(key, ticket, wanted, &load)).await?
        } else {
            self.load(key, ticket, wanted, &load).await?
        };
        if found.entry.answers(wanted) {
            return Ok((found.entry, if found.from_second_tier { Tier::Second } else { Tier::Store { asked: from_store } }));
        }
        // What was shared, or kept elsewhere, is behind what this reader knows of.
        Ok((load().await?, Tier::Store { asked: from_store }))
    }

    async fn load<E, L, F>(&self, key: &Key, ticket: Ticket, wanted: &Wanted, load: &L) -> Result<Loaded, E>
    where
        L: Fn() -> F,
        F: Future<Output = Result<Arc<Entry>, E>>,
    {
        let of_store = |entry| Loaded { entry, from_second_tier: false };
        let Some(second) = &self.second else {
            let entry = load().await?;
            self.local.insert(key, ticket, Arc::clone(&entry));
            return Ok(of_store(entry));
        };
        let floor = self.local.floor(key);
        let suits = |entry: &Entry| !matches!(entry.facts(), Facts::Variable { life } if *life != wanted.life);
        match second.look(key, suits).await {
            Ok(Lookup::Found(entry)) if entry.version() >= floor && !self.local.is_over(&entry) => {
                second.count_hit();
                self.journal.note(key, Event::Second, entry.version());
                self.local.insert(key, ticket, Arc::clone(&entry));
                Ok(Loaded { entry, from_second_tier: true })
            }
            Ok(Lookup::Leased(lease)) => match load().await {
                Ok(entry) => {
                    let is_filled = second.fill(lease, key, &entry).await;
                    self.journal.note(key, if is_filled { Event::Fill } else { Event::Refused }, entry.version());
                    if is_filled {
                        self.local.insert(key, ticket, Arc::clone(&entry));
                    }
                    Ok(of_store(entry))
                }
                Err(error) => {
                    second.release(lease).await;
                    Err(error)
                }
            },
            Ok(Lookup::Found(_) | Lookup::Busy) | Err(_) => Ok(of_store(load().await?)),
        }
    }

    /// What a reader would be answered without the store, now. Loads nothing and changes nothing.
    pub async fn peek(&self, key: &Key, wanted: &Wanted) -> Option<Arc<Entry>> {
        if let Some(entry) = self.local.get(key, wanted) {
            return Some(entry);
        }
        let floor = self.local.floor(key);
        let entry = self.second.as_ref()?.peek(key).await?;
        (entry.answers(wanted) && entry.version() >= floor && !self.local.is_over(&entry)).then(|| Arc::new(entry))
    }

    /// Leaves what a write of this process has made, after its commit. Whoever writes the key again is told apart by the version.
    pub fn written(&self, key: Key, version: Version, entry: Entry) {
        self.written_together(vec![(key, version, entry)]);
    }

    /// The same for all that one write has made.
    pub fn written_together(&self, made: Vec<(Key, Version, Entry)>) {
        let made: Vec<_> = made.into_iter().map(|(key, version, entry)| (key, version, Arc::new(entry))).collect();
        for (key, version, entry) in &made {
            self.local.insert_written(key, Arc::clone(entry));
            self.journal.note(key, Event::Put, Some(*version));
        }
        if let Some(second) = &self.second {
            let second = Arc::clone(second);
            // Not waited for: the client has its answer. A key that is not put is emptied soon.
            drop(self.lifecycle.spawn(async move { second.put_all(made).await }));
        }
    }

    /// Whether anything would be kept now.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.second.is_some() || self.local.is_enabled()
    }

    /// Empties both tiers, of all servers, and voids what is being loaded: more was written than can be told key by key. A second tier that
    /// does not answer is emptied as soon as it does; meanwhile nobody uses it who cannot reach it either.
    pub async fn clear(&self) {
        let _entries = self.local.clear();
        if let Some(second) = &self.second {
            let _entries = second.clear().await;
        }
    }

    fn note(&self, changes: &[Change], event: Event) {
        // Alone, the local tier has no other servers to disagree with.
        if self.second.is_some() {
            for change in changes {
                self.journal.note(&Key::from(change), event, Some(change.version));
            }
        }
    }

    fn versions(changes: &[Change]) -> Vec<(Key, Version)> {
        changes.iter().map(|change| (Key::from(change), change.version)).collect()
    }
}

#[async_trait]
impl CommitObserver for Tiers {
    async fn before_commit(&self, changes: &[Change]) -> Result<(), Objection> {
        self.local.before_commit(changes);
        let Some(second) = &self.second else { return Ok(()) };
        self.note(changes, Event::Mark);
        let untold = second.mark(Self::versions(changes)).await;
        if untold > 0 && second.config().strict {
            return Err(Objection("the second cache tier cannot be told of the write, and dragonfly.strict is set"));
        }
        Ok(())
    }

    async fn still_at_work(&self, changes: &[Change]) {
        if let Some(second) = &self.second {
            // What cannot be told is due for repair.
            second.mark(Self::versions(changes)).await;
        }
    }

    fn committed(&self, changes: &[Change]) {
        self.local.committed(changes);
        self.note(changes, Event::Commit);
        if let Some(second) = &self.second {
            second.expect(changes, PUT_WITHIN);
        }
    }

    fn rolled_back(&self, changes: &[Change]) {
        self.local.rolled_back(changes);
        self.note(changes, Event::Rollback);
        if let Some(second) = &self.second {
            let (second, keys) = (Arc::clone(second), Self::versions(changes));
            drop(self.lifecycle.spawn(async move {
                for (key, version) in keys {
                    second.unmark(&key, version).await;
                }
            }));
        }
    }

    fn unknown(&self, changes: &[Change]) {
        self.local.committed(changes);
        self.note(changes, Event::Unknown);
        if let Some(second) = &self.second {
            // The marker stays, for a whole life from now: the commit may come as long as the database has not noticed that its client is gone.
            second.expect(changes, second.config().marker_ttl_ms.into());
            let (second, keys) = (Arc::clone(second), Self::versions(changes));
            drop(self.lifecycle.spawn(async move { second.mark(keys).await }));
        }
    }
}
