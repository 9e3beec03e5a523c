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
        Ok(())
    }
}
