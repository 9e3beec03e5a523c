//! The map of the entries, bounded by the bytes that it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::entry::Entry;
use super::key::Key;
use crate::domain::clock::Timestamp;

/// What an entry costs beside the texts of its key and its body: the map's place for it with what the map keeps free while it grows, and
/// the entry's own allocation with its reference counts.
const ENTRY_OVERHEAD: usize = 2 * (size_of::<Key>() + size_of::<Slot>() + 24) + size_of::<Entry>() + 32;
/// The map is divided into parts that are locked apart, each with its share of the capacity; this is the least share, in bytes.
const LEAST_PART_BYTES: usize = 4 * 1024 * 1024;
/// Most parts.
const MOST_PARTS: usize = 64;
/// What an entry is taken to weigh when the map decides how many evicted keys it remembers, in bytes.
const TYPICAL_ENTRY_BYTES: usize = 1024;

/// An entry in the map.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) entry: Arc<Entry>,
    /// When its reader began to read, or its writer had written.
    pub(super) read_at: Timestamp,
    weight: u64,
}

/// The map. Eviction prefers what was not asked for again (CLOCK-Pro).
#[derive(Debug)]
pub(super) struct Bounded {
    cache: Cache<Key, Slot, SlotWeight, DefaultHashBuilder, Evictions>,
    greatest_weight: u64,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    variables: AtomicUsize,
    evictions: AtomicU64,
}

#[derive(Debug, Clone)]
struct SlotWeight;

impl Weighter<Key, Slot> for SlotWeight {
    fn weight(&self, _: &Key, slot: &Slot) -> u64 {
        slot.weight
    }
}

#[derive(Debug, Clone)]
struct Evictions(Arc<Tally>);

impl Lifecycle<Key, Slot> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), key: Key, slot: Slot) {
        self.0.evictions.fetch_add(1, Ordering::Relaxed);
        self.0.left(&key, &slot);
    }
}

impl Tally {
    fn counts(key: &Key, slot: &Slot) -> bool {
        key.is_variable() && slot.entry.body().is_some()
    }

    fn left(&self, key: &Key, slot: &Slot) {
        if Self::counts(key, slot) {
            self.variables.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Bounded {
    pub(super) fn new(capacity_bytes: usize) -> Self {
        let parts = previous_power_of_two(capacity_bytes / LEAST_PART_BYTES).min(MOST_PARTS);
        let part_bytes = (capacity_bytes / parts).max(1);
        let tally = Arc::new(Tally::default());
        let mut options = OptionsBuilder::new();
        options.shards(parts).weight_capacity((part_bytes * parts) as u64);
        // The map would halve the number of parts below 32 entries each.
        options.estimated_items_capacity((capacity_bytes / TYPICAL_ENTRY_BYTES).max(32 * parts)).ghost_allocation(0.25);
        let cache = match options.build() {
            Ok(options) => Cache::with_options(options, SlotWeight, DefaultHashBuilder::default(), Evictions(Arc::clone(&tally))),
            // It only fails when one of the two capacities was not given.
            Err(_) => Cache::with(32, part_bytes as u64, SlotWeight, DefaultHashBuilder::default(), Evictions(Arc::clone(&tally))),
        };
        // The map evicts an entry at once that takes more than the part of its capacity that is for entries in use, 97 %.
        let greatest_weight = cache.shard_capacity() / 100 * 96;
        Self { cache, greatest_weight, tally }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Slot> {
        self.cache.get(key)
    }

    /// As [`Bounded::get`], but says nothing about how much the entry is asked for.
    pub(super) fn peek(&self, key: &Key) -> Option<Slot> {
        self.cache.peek(key)
    }

    /// Puts an entry in the place of whatever is there; says whether it was not too large. Called under the lock of the key's stripe.
    pub(super) fn put(&self, key: &Key, entry: Arc<Entry>, read_at: Timestamp) -> bool {
        let weight = (ENTRY_OVERHEAD + key.heap_bytes() + entry.heap_bytes()) as u64;
        // Removed and not replaced: of what is replaced the map does not tell, and it would not be counted.
        self.remove(key);
        if weight > self.greatest_weight {
            return false;
        }
        let slot = Slot { entry, read_at, weight };
        // Counted first, so that its eviction cannot be counted before it.
        if Tally::counts(key, &slot) {
            self.tally.variables.fetch_add(1, Ordering::Relaxed);
        }
        self.cache.insert(key.clone(), slot);
        true
    }

    pub(super) fn remove(&self, key: &Key) {
        self.remove_if(key, |_| true);
    }

    /// Removes this very entry, if it is still there.
    pub(super) fn remove_exactly(&self, key: &Key, entry: &Arc<Entry>) {
        self.remove_if(key, |slot| Arc::ptr_eq(&slot.entry, entry));
    }

    fn remove_if(&self, key: &Key, condition: impl FnOnce(&Slot) -> bool) {
        // Not `remove`, which also forgets that the key was evicted a short while ago.
        if let Some((key, slot)) = self.cache.remove_if(key, condition) {
            self.tally.left(&key, &slot);
        }
    }

    /// Removes everything and says how much it was.
    pub(super) fn clear(&self) -> usize {
        self.cache.drain().map(|(key, slot)| self.tally.left(&key, &slot)).count()
    }

    pub(super) fn entries(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    pub(super) fn capacity_bytes(&self) -> u64 {
        self.cache.capacity()
    }

    /// Entries that are a variable's value.
    pub(super) fn variables(&self) -> usize {
        self.tally.variables.load(Ordering::Relaxed)
    }

    pub(super) fn evictions(&self) -> u64 {
        self.tally.evictions.load(Ordering::Relaxed)
    }
}

/// The greatest power of two that is not greater; 1 for 0.
fn previous_power_of_two(number: usize) -> usize {
    number.checked_ilog2().map_or(1, |exponent| 1 << exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_large_and_not_many() {
        assert_eq!([0, 1, 2, 3, 4, 7].map(previous_power_of_two), [1, 1, 2, 2, 4, 4]);
        for (capacity, parts) in [(65_536, 1), (67_108_864, 16), (70_000_000, 16), (1 << 40, 64)] {
            let bounded = Bounded::new(capacity);
            assert_eq!(bounded.cache.num_shards(), parts, "{capacity}");
            assert!(bounded.capacity_bytes() <= capacity as u64, "{capacity}");
        }
    }
}
