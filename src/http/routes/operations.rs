//! Routes for operators: health, limits, metrics.

use axum::extract::State as FromState;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::domain::principal::Permission;
use crate::domain::{document, id, marking, page, variable};
use crate::error::{Code, Result};
use crate::http::AppState;
use crate::http::answer;
use crate::http::operation::{Api, Operation};
use crate::service::IDEMPOTENCY_SECONDS;
use crate::telemetry::METRICS_CONTENT_TYPE;

pub(in crate::http) fn add(api: Api, metrics_here: bool) -> Api {
    let api = api
        .route(routes!(get_liveness), Operation::open().probes())
        .route(routes!(get_readiness), Operation::open().probes().refuses(&[Code::StoreUnavailable, Code::ShuttingDown]))
        .route(routes!(get_limits), Operation::open());
    if metrics_here { api.route(routes!(get_metrics), Operation::guarded(&[Permission::StatsRead]).uncounted()) } else { api }
}

/// That the process runs.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "up"}))]
struct Liveness {
    /// Always `up`.
    status: &'static str,
}

/// That the server can do its work.
#[derive(Serialize, ToSchema)]
#[schema(as = Readiness, example = json!({"status": "ready", "store": {"backend": "sqlite", "connected": true}, "issuers": [{"name": "development", "ready": true}]}))]
struct ReadinessView {
    /// `ready`, or `degraded` when it works, but not all of it: the keys of an issuer are not there, or the second cache tier is away.
    #[schema(pattern = "^(ready|degraded)$")]
    status: &'static str,
    /// The store.
    store: StoreReadiness,
    /// The second cache tier. Not there when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    second_tier: Option<SecondTierReadiness>,
    /// The token issuers.
    issuers: Vec<IssuerReadiness>,
}

/// The state of the store.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"backend": "sqlite", "connected": true}))]
struct StoreReadiness {
    /// `postgres` or `sqlite`.
    backend: &'static str,
    /// Whether it answered just now.
    connected: bool,
}

/// The state of the second cache tier.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"connected": true}))]
struct SecondTierReadiness {
    /// Whether it is used; while it is not, all reads are answered by the store.
    connected: bool,
}

/// The state of one issuer.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"name": "development", "ready": true}))]
struct IssuerReadiness {
    /// Its name in the configuration.
    name: String,
    /// Whether its keys are there, so that its tokens can be verified.
    ready: bool,
}

/// The limits of requests, documents and lists.
#[derive(Serialize, ToSchema)]
#[schema(as = Limits, example = json!({
    "state_body_bytes": 8_388_608, "body_bytes": 1_048_576, "header_bytes": 32_768, "headers": 256, "uri_bytes": 8192, "depth": 64, "id_bytes": 128, "user_id_bytes": 255, "name_bytes": 256,
    "description_bytes": 1024, "tokens_per_place": 10_000, "page_items": 1000, "page_items_default": 50, "page_bytes": 4_194_304, "batch_names": 1000,
    "ttl_seconds": 315_360_000, "idempotency_key_bytes": 255, "idempotency_seconds": 86_400, "requests_in_flight": 1024, "request_timeout_ms": 5000
}))]
struct LimitsView {
    /// Bytes of the body of a state.
    state_body_bytes: usize,
    /// Bytes of any other body.
    body_bytes: usize,
    /// Bytes of all request headers together.
    header_bytes: usize,
    /// Request headers.
    headers: usize,
    /// Bytes of path and query.
    uri_bytes: usize,
    /// Levels that arrays and objects nest in a body.
    depth: usize,
    /// Bytes of an id.
    id_bytes: usize,
    /// Bytes of a user id.
    user_id_bytes: usize,
    /// Bytes of the name of a variable, place or transition.
    name_bytes: usize,
    /// Bytes of a variable's description.
    description_bytes: usize,
    /// Coloured tokens on one place.
    tokens_per_place: usize,
    /// Items on a page at most.
    page_items: usize,
    /// Items on a page unless `limit` says otherwise.
    page_items_default: usize,
    /// Bytes after which a page ends early.
    page_bytes: usize,
    /// Names in one filter or batch.
    batch_names: usize,
    /// Seconds of a time to live.
    ttl_seconds: i64,
    /// Characters of an `Idempotency-Key`.
    idempotency_key_bytes: usize,
    /// Seconds for which an `Idempotency-Key` is remembered.
    idempotency_seconds: i64,
    /// Requests at work at the same time.
    requests_in_flight: usize,
    /// Milliseconds that a request may take, the time for its body not counted.
    request_timeout_ms: u64,
}

/// Tell that the process runs
///
/// Touches nothing else: for liveness probes.
#[utoipa::path(get, path = "/health/live", operation_id = "getLiveness", tag = "Operations",
    responses((status = 200, description = "It runs", body = Liveness)))]
async fn get_liveness() -> Result<Response> {
    answer::json(&Liveness { status: "up" })
}

/// Tell whether the server can do its work
///
/// Needs the store only. 503 while the store does not answer and from the beginning of a shutdown on: for readiness probes.
#[utoipa::path(get, path = "/health/ready", operation_id = "getReadiness", tag = "Operations",
    responses((status = 200, description = "It can", body = ReadinessView)))]
async fn get_readiness(FromState(state): FromState<AppState>) -> Result<Response> {
    let backend = state.services.health.ready().await?;
    let issuers: Vec<_> =
        state.authenticator.status().into_iter().map(|issuer| IssuerReadiness { ready: issuer.keys > 0, name: issuer.name }).collect();
    let second_tier = state.services.health.second_tier_connected().map(|connected| SecondTierReadiness { connected });
    let is_whole = issuers.iter().all(|issuer| issuer.ready) && second_tier.as_ref().is_none_or(|tier| tier.connected);
    let status = if is_whole { "ready" } else { "degraded" };
    answer::json(&ReadinessView { status, store: StoreReadiness { backend: backend.as_str(), connected: true }, second_tier, issuers })
}

/// Tell the limits
#[utoipa::path(get, path = "/limits", operation_id = "getLimits", tag = "Operations", responses((status = 200, description = "The limits", body = LimitsView)))]
async fn get_limits(FromState(state): FromState<AppState>) -> Result<Response> {
    let (server, limits) = (&state.config.server, &state.config.limits);
    answer::json(&LimitsView {
        state_body_bytes: limits.state_body_bytes,
        body_bytes: limits.body_bytes,
        header_bytes: server.max_header_bytes,
        headers: server.max_headers,
        uri_bytes: server.max_uri_bytes,
        depth: document::MAX_DEPTH,
        id_bytes: id::MAX_ID_BYTES,
        user_id_bytes: id::MAX_USER_ID_BYTES,
        name_bytes: id::MAX_NAME_BYTES,
        description_bytes: variable::MAX_DESCRIPTION_BYTES,
        tokens_per_place: marking::MAX_TOKENS,
        page_items: page::MAX_LIMIT,
        page_items_default: page::DEFAULT_LIMIT,
        page_bytes: page::MAX_PAGE_BYTES,
        batch_names: 1000,
        ttl_seconds: variable::MAX_TTL_SECONDS,
        idempotency_key_bytes: 255,
        idempotency_seconds: IDEMPOTENCY_SECONDS,
        requests_in_flight: server.max_in_flight,
        request_timeout_ms: server.request_timeout_ms.0,
    })
}

/// Show the metrics
///
/// In the text format of OpenMetrics. Here only while `server.metrics_listen` is empty; else on that address, without a token.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "Operations",
    responses((status = 200, description = "The metrics", content_type = "application/openmetrics-text", body = String)))]
pub(in crate::http) async fn get_metrics(FromState(state): FromState<AppState>) -> Response {
    let text = state.metrics.encode();
    ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response()
}
