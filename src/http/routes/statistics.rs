//! `/stats` and `/cache`: figures of the running server, and emptying its caches.

use axum::extract::State as FromState;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::domain::principal::Permission;
use crate::error::{Code, Error, Result};
use crate::http::AppState;
use crate::http::answer;
use crate::http::operation::{Api, Operation};
use crate::http::query::Query;
use crate::service::statistics::Figures;

pub(in crate::http) fn add(api: Api) -> Api {
    api.route(routes!(get_statistics), Operation::guarded(&[Permission::StatsRead]))
        .route(routes!(clear_cache), Operation::guarded(&[Permission::CacheClear]).refuses(&[Code::InvalidParameter]))
}

/// Figures of the running server.
#[derive(Serialize, ToSchema)]
#[schema(as = Statistics, example = json!({
    "postgres_connected": false, "dragonfly_connected": false, "local_variable_count": 12, "cache_entry_count": 40, "version": "0.1.0", "uptime_seconds": 3600,
    "store": {"backend": "sqlite", "connected": true, "connections": 5, "idle_connections": 5},
    "local_tier": {"enabled": true, "entries": 40, "bytes": 51200, "capacity_bytes": 67_108_864, "hits": 970, "misses": 30, "hit_rate": 0.97},
    "second_tier": {"enabled": false, "connected": false, "entries": 0, "hits": 0, "misses": 0, "hit_rate": 0.0, "breaker": "off"},
    "writes": {"queue_depth": 0, "queue_capacity": 1024, "groups": 100, "rows_per_group": 1.4}
}))]
struct StatisticsView {
    /// Whether PostgreSQL answers; false while the store is embedded.
    postgres_connected: bool,
    /// Whether the second cache tier answers.
    dragonfly_connected: bool,
    /// Variables in the cache of this process.
    #[schema(minimum = 0)]
    local_variable_count: usize,
    /// Entries of the second cache tier; of the cache of this process when there is none.
    #[schema(minimum = 0)]
    cache_entry_count: u64,
    /// The version of the server.
    version: &'static str,
    /// Seconds since its start.
    #[schema(minimum = 0)]
    uptime_seconds: u64,
    /// The store.
    store: StoreStatistics,
    /// The cache of this process.
    local_tier: LocalTierStatistics,
    /// The second cache tier.
    second_tier: SecondTierStatistics,
    /// The writes of this process.
    writes: WriteStatistics,
}

/// Figures of the store.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"backend": "sqlite", "connected": true, "connections": 5, "idle_connections": 5}))]
struct StoreStatistics {
    /// `postgres` or `sqlite`.
    backend: &'static str,
    /// Whether it answered just now.
    connected: bool,
    /// Open connections.
    #[schema(minimum = 0)]
    connections: u32,
    /// Those of them that are idle.
    #[schema(minimum = 0)]
    idle_connections: u32,
}

/// Figures of the cache of this process.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"enabled": true, "entries": 40, "bytes": 51200, "capacity_bytes": 67_108_864, "hits": 970, "misses": 30, "hit_rate": 0.97}))]
struct LocalTierStatistics {
    /// Whether it is on.
    enabled: bool,
    /// Entries.
    #[schema(minimum = 0)]
    entries: usize,
    /// Bytes that they take.
    #[schema(minimum = 0)]
    bytes: u64,
    /// Bytes that they may take.
    #[schema(minimum = 0)]
    capacity_bytes: u64,
    /// Reads that it answered.
    #[schema(minimum = 0)]
    hits: u64,
    /// Reads that it did not answer.
    #[schema(minimum = 0)]
    misses: u64,
    /// Hits of all reads, 0 to 1; 0 before the first one.
    #[schema(minimum = 0.0, maximum = 1.0)]
    hit_rate: f64,
}

/// Figures of the second cache tier, which all servers share.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"enabled": false, "connected": false, "entries": 0, "hits": 0, "misses": 0, "hit_rate": 0.0, "breaker": "off"}))]
struct SecondTierStatistics {
    /// Whether it is on.
    enabled: bool,
    /// Whether it answers.
    connected: bool,
    /// Keys that its servers hold, those of others included.
    #[schema(minimum = 0)]
    entries: u64,
    /// Reads of this process that it answered.
    #[schema(minimum = 0)]
    hits: u64,
    /// Reads of this process that it did not answer.
    #[schema(minimum = 0)]
    misses: u64,
    /// Hits of all reads, 0 to 1; 0 before the first one.
    #[schema(minimum = 0.0, maximum = 1.0)]
    hit_rate: f64,
    /// Its circuit breaker: `closed`, `open`, `half_open`, or `off` without a second tier.
    breaker: &'static str,
}

/// Figures of the writes of this process.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"queue_depth": 0, "queue_capacity": 1024, "groups": 100, "rows_per_group": 1.4}))]
struct WriteStatistics {
    /// Writes that wait.
    #[schema(minimum = 0)]
    queue_depth: u64,
    /// How many may wait; 0: there is no queue.
    #[schema(minimum = 0)]
    queue_capacity: u64,
    /// Transactions that committed new versions.
    #[schema(minimum = 0)]
    groups: u64,
    /// New versions in one of them, on average, deletions included.
    #[schema(minimum = 0.0)]
    rows_per_group: f64,
}

/// What was removed from the caches.
#[derive(Serialize, ToSchema)]
#[schema(as = CacheClearing, example = json!({"local_entries_removed": 40}))]
struct ClearingView {
    /// Entries of the cache of this process.
    #[schema(minimum = 0)]
    local_entries_removed: usize,
    /// Entries of the second tier, with `tier=all`. Not there when there is no second tier, or when it does not answer: then it is emptied as
    /// soon as it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, minimum = 0)]
    second_tier_entries_removed: Option<u64>,
}

#[expect(clippy::cast_precision_loss, reason = "a rate is read by people")]
fn rate(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn view(figures: &Figures, second_tier_entries: u64, uptime_seconds: u64) -> StatisticsView {
    let Figures { local, store, .. } = figures;
    let second = figures.second.unwrap_or_default();
    StatisticsView {
        postgres_connected: figures.postgres_connected,
        dragonfly_connected: second.connected,
        local_variable_count: local.variables,
        cache_entry_count: if figures.second.is_some() { second_tier_entries } else { local.entries as u64 },
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds,
        store: StoreStatistics {
            backend: figures.backend,
            connected: figures.connected,
            connections: store.connections,
            idle_connections: store.idle_connections,
        },
        local_tier: LocalTierStatistics {
            enabled: local.enabled,
            entries: local.entries,
            bytes: local.bytes,
            capacity_bytes: local.capacity_bytes,
            hits: local.hits,
            misses: local.misses,
            hit_rate: rate(local.hits, local.hits + local.misses),
        },
        second_tier: SecondTierStatistics {
            enabled: figures.second.is_some(),
            connected: second.connected,
            entries: second_tier_entries,
            hits: second.hits,
            misses: second.misses + second.bypasses,
            hit_rate: rate(second.hits, second.hits + second.misses + second.bypasses),
            breaker: match figures.second {
                None => "off",
                Some(second) if second.breaker_open => "open",
                Some(second) if second.connected => "closed",
                Some(_) => "half_open",
            },
        },
        writes: WriteStatistics {
            queue_depth: store.queue_depth,
            queue_capacity: store.queue_capacity,
            groups: store.groups,
            rows_per_group: rate(store.rows, store.groups),
        },
    }
}

/// Show the statistics
///
/// Of this server, now; counters are since its start.
#[utoipa::path(get, path = "/stats", operation_id = "getStatistics", tag = "Operations",
    responses((status = 200, description = "The figures", body = StatisticsView)))]
async fn get_statistics(FromState(state): FromState<AppState>) -> Result<Response> {
    let operations = &state.services.operations;
    let (figures, entries) = futures_util::future::join(operations.figures(), operations.second_tier_entries()).await;
    answer::json(&view(&figures, entries, state.metrics.uptime().as_secs()))
}

/// Empty the caches
///
/// That of this server, which its tenants share; with `tier=all` the second tier as well, and those of all servers. Nothing is lost: the next reads
/// come from the store.
#[utoipa::path(delete, path = "/cache", operation_id = "clearCache", tag = "Operations",
    params(("tier" = Option<String>, Query, description = "`local` (default) or `all`.", pattern = "^(local|all)$", nullable = false)),
    responses((status = 200, description = "Emptied", body = ClearingView)))]
async fn clear_cache(FromState(state): FromState<AppState>, query: Query) -> Result<Response> {
    let both = match query.one("tier")? {
        None | Some("local") => false,
        Some("all") => true,
        Some(_) => return Err(Error::new(Code::InvalidParameter, "The parameter tier must be local or all.")),
    };
    let operations = &state.services.operations;
    let local_entries_removed = operations.clear_cache();
    let second_tier_entries_removed = if both { operations.clear_second_tier().await } else { None };
    answer::json(&ClearingView { local_entries_removed, second_tier_entries_removed })
}
