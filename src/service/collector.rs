//! The levels of store, queue and cache as metrics, read when they are asked for.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::statistics::Operations;

/// Reads [`Operations::levels`] at each scrape; it never asks the store, so a scrape costs nothing there.
pub struct Levels(Operations);

impl Levels {
    /// The levels that `operations` knows.
    #[must_use]
    pub fn new(operations: Operations) -> Self {
        Self(operations)
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Levels").finish()
    }
}

impl Collector for Levels {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.0.levels(true);
        let (store, local) = (figures.store, figures.local);
        for (name, help, value) in [
            ("store_connections", "Open connections to the store", u64::from(store.connections)),
            ("store_connections_idle", "Open connections to the store that are idle", u64::from(store.idle_connections)),
            ("write_queue_depth", "Writes that wait for their turn", store.queue_depth),
            ("write_queue_capacity", "Writes that may wait; 0: there is no queue", store.queue_capacity),
            ("cache_local_enabled", "Whether the cache of this process is on", u64::from(local.enabled)),
            ("cache_local_entries", "Entries of the cache of this process", local.entries as u64),
            ("cache_local_bytes", "Bytes that the cache of this process takes", local.bytes),
            ("cache_local_capacity_bytes", "Bytes that the cache of this process may take", local.capacity_bytes),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(descriptor)?;
        }
        for (name, help, value) in [
            ("write_groups", "Transactions that committed new versions", store.groups),
            ("write_rows", "New versions in them, deletions included", store.rows),
            ("cache_local_hits", "Reads that the cache of this process answered", local.hits),
            ("cache_local_misses", "Reads that it did not answer while it was on", local.misses),
            ("cache_local_evictions", "Entries that made room for others", local.evictions),
            ("cache_local_floor_overflows", "How often everything was dropped for want of floors", local.floor_overflows),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(descriptor)?;
        }
        let Some(second) = figures.second else { return Ok(()) };
        for (name, help, value) in [
            ("cache_second_connected", "Whether the second cache tier is used", u64::from(second.connected)),
            ("cache_second_repairs", "Keys that the second cache tier must be told of", second.repairs),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(descriptor)?;
        }
        for (name, help, value) in [
            ("cache_second_hits", "Reads that the second cache tier answered", second.hits),
            ("cache_second_misses", "Reads that it had nothing for", second.misses),
            ("cache_second_bypasses", "Reads that passed it by, because a write or another load was at work", second.bypasses),
            ("cache_second_failures", "Calls of it that failed", second.failures),
            ("cache_second_foreign", "Values in it that no server had written, or that were damaged", second.foreign),
            ("cache_second_refused_fills", "Loads that were not kept, because of a write meanwhile", second.refused_fills),
            ("cache_second_breaker_opened", "How often it was given up until it answers again", second.opened),
            ("cache_sampled", "Keys of cached answers of which the store was asked", figures.sampler.sampled),
            ("cache_inconsistency_0s", "Of them, those of which a cache then told an older version", figures.sampler.inconsistent[0]),
            ("cache_inconsistency_1s", "The same a second later", figures.sampler.inconsistent[1]),
            ("cache_inconsistency_5s", "The same 5 seconds later", figures.sampler.inconsistent[2]),
            ("cache_bus_messages", "Messages of other servers", figures.bus.messages),
            ("cache_bus_gaps", "Messages of other servers that were missed", figures.bus.gaps),
            ("cache_bus_doubts", "How often the local tier was emptied because something may have been missed", figures.bus.doubts),
            ("cache_bus_losses", "How often listening was interrupted", figures.bus.losses),
        ] {
            let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(descriptor)?;
        }
        Ok(())
    }
}
