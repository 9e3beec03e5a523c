//! The local cache tier: its rules one by one, and all of them at once against a model.

mod bounds;
mod model;
mod rules;
mod threads;

use std::sync::Arc;

use bytes::Bytes;
use nworkflow_state::cache::{Entry, Key, LocalTier, Wanted};
use nworkflow_state::config::{CacheConfig, Milliseconds};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::{Change, Resource};
use nworkflow_state::domain::id::{ExecutionId, TenantId, WorkflowId};
use nworkflow_state::domain::state::StateKey;
use nworkflow_state::domain::version::Version;

/// The settings of the tests: as the defaults, but small.
fn settings() -> CacheConfig {
    CacheConfig {
        single_server: false,
        local: true,
        local_bytes: 64 * 1024,
        local_ttl_ms: Milliseconds(10_000),
        negative_ttl_ms: Milliseconds(5_000),
        floor_ms: Milliseconds(5_000),
        floor_entries: 1_000,
        serve_cached_when_db_down: true,
        sample_every: 0,
    }
}

/// A tier and its clock.
fn tier() -> (LocalTier, Clock) {
    let clock = Clock::new();
    (LocalTier::new(&settings(), clock.clone()), clock)
}

/// The state of an execution of this name.
fn key(execution: &str) -> Key {
    let workflow = WorkflowId::parse("w").unwrap();
    let execution = ExecutionId::parse(execution).unwrap();
    Key::new(TenantId::parse("acme").unwrap(), Resource::State(StateKey { workflow, execution }))
}

fn version(number: i64) -> Version {
    Version::new(number).unwrap()
}

/// The change that gives the key this version.
fn change(key: &Key, number: i64) -> [Change; 1] {
    [Change { tenant: key.tenant().clone(), resource: key.resource().clone(), version: version(number) }]
}

/// An entry of this version, with the version as its body.
fn live(number: i64) -> Arc<Entry> {
    Arc::new(Entry::plain(version(number), Bytes::from(number.to_string())))
}

/// The version of what the tier answers.
fn found(tier: &LocalTier, key: &Key) -> Option<i64> {
    tier.get(key, &Wanted::default()).map(|entry| entry.version().map_or(0, Version::get))
}

/// Keeps an entry that was read just now.
fn fill(tier: &LocalTier, key: &Key, entry: Arc<Entry>) -> bool {
    tier.insert(key, tier.ticket(key), entry)
}

/// Random numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }
}
