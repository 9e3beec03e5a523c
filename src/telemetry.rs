//! What the process tells about itself: the log and the metrics.
//!
//! The log goes to the standard error stream, unbuffered, so there is nothing to flush. At no level, `trace` and the libraries' own lines
//! included, does it hold a token, a value, a marking, metadata, any other part of a body, a query or the value of a header that is not
//! named here. It does hold paths (ids and names), tenants, subjects, clients, actors and request ids that are one safe word: clients must
//! not put secrets there. Metrics live in a registry that the application
//! owns; there are no globals, so that two servers in one test process count apart.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// The media type of [`Metrics::encode`]: OpenMetrics 1.0 text, which Prometheus reads.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The label `route` of a request that no route matched: raw paths would make as many series as a client likes.
pub const UNMATCHED_ROUTE: &str = "unmatched";

/// Upper bounds of the duration histogram, in seconds: from a hit in the local tier to the default request time limit.
const DURATION_BUCKETS: [f64; 14] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is not a filter.
    #[error("log.level is not a filter: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a log already.
    #[error("the log is open already: {0}")]
    Open(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// Opens the log of the process, and writes panics into it. Once per process.
///
/// # Errors
/// A filter that cannot be read, or a log that is open already.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter: EnvFilter = config.level.parse()?;
    let terminal = std::io::stderr().is_terminal();
    let human = match config.format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if human {
        builder.with_ansi(terminal).try_init()?;
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()?;
    }
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(location, message, "a task panicked");
    }));
    Ok(())
}

tokio::task_local! {
    static REQUEST_ID: Arc<str>;
}

/// Does the work of a request. Lines of the log that it writes by itself can name the request's id.
pub async fn in_request<T>(id: Arc<str>, work: impl Future<Output = T>) -> T {
    REQUEST_ID.scope(id, work).await
}

/// The id of the request at work; empty where there is none.
#[must_use]
pub fn request_id() -> String {
    REQUEST_ID.try_with(|id| id.to_string()).unwrap_or_default()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

/// The metrics of one server. Names begin with `nworkflow_` and end with their unit.
pub struct Metrics {
    registry: Registry,
    started: Instant,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    authentications: Family<OutcomeLabels, Counter>,
    problems: Family<CodeLabels, Counter>,
    excesses: Family<LimitLabels, Counter>,
    uptime: Gauge,
}

impl Metrics {
    /// Metrics that all stand at zero.
    #[must_use]
    pub fn new() -> Self {
        let durations: fn() -> Histogram = || Histogram::new(DURATION_BUCKETS);
        let mut metrics = Self {
            registry: Registry::with_prefix("nworkflow"),
            started: Instant::now(),
            requests: Family::default(),
            durations: Family::new_with_constructor(durations),
            in_flight: Gauge::default(),
            authentications: Family::default(),
            problems: Family::default(),
            excesses: Family::default(),
            uptime: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("http_requests", "Answered requests by route, method and status", metrics.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time from the end of a request's head to its answer's head",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register("http_requests_in_flight", "Requests at work", metrics.in_flight.clone());
        registry.register("authentications", "Checked tokens by outcome: accepted, or an error code", metrics.authentications.clone());
        registry.register("http_problems", "Answered problems by code", metrics.problems.clone());
        let help = "Requests that were refused because their tenant has or sends too many, by limit: in_flight, rate";
        registry.register("tenant_refusals", help, metrics.excesses.clone());
        registry.register_with_unit("uptime", "Time since the start", Unit::Seconds, metrics.uptime.clone());
        registry.register("build", "The version of the server", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
        metrics
    }

    /// The registry, for parts that bring their own metrics (pools, queues, caches) while the application is put together.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Counts an answered request. `route` is the template that matched (`/workflows/{workflow_id}`), `None` when none did.
    pub fn record_request(&self, route: Option<&str>, method: &http::Method, status: http::StatusCode, duration: Duration) {
        let route = route.unwrap_or(UNMATCHED_ROUTE);
        let method = method_label(method);
        self.requests.get_or_create(&RequestLabels { route: route.to_owned(), method, status: status.as_u16() }).inc();
        self.durations.get_or_create(&RouteLabels { route: route.to_owned(), method }).observe(duration.as_secs_f64());
    }

    /// Counts a request as at work until the guard is dropped, also when its future is dropped before it ends.
    #[must_use]
    pub fn enter_request(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts a checked token: `accepted`, or the error code.
    pub fn record_authentication(&self, outcome: &'static str) {
        self.authentications.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts an answered problem by its code.
    pub fn record_problem(&self, code: &'static str) {
        self.problems.get_or_create(&CodeLabels { code }).inc();
    }

    /// Counts a request that was refused because its tenant has or sends too many, by the name of the limit.
    pub fn record_excess(&self, limit: &'static str) {
        self.excesses.get_or_create(&LimitLabels { limit }).inc();
    }

    /// Time since the start.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// All metrics as [`METRICS_CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        self.uptime.set(i64::try_from(self.uptime().as_secs()).unwrap_or(i64::MAX));
        let mut text = String::with_capacity(16 * 1024);
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("started", &self.started).finish_non_exhaustive()
    }
}

/// A request at work; see [`Metrics::enter_request`].
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Methods of our own making would be as many series as a client likes.
fn method_label(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "GET",
        http::Method::HEAD => "HEAD",
        http::Method::PUT => "PUT",
        http::Method::POST => "POST",
        http::Method::PATCH => "PATCH",
        http::Method::DELETE => "DELETE",
        http::Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::*;

    #[test]
    fn requests_are_counted_by_template_method_and_status() {
        let metrics = Metrics::new();
        metrics.record_request(Some("/workflows/{workflow_id}"), &Method::GET, StatusCode::OK, Duration::from_millis(2));
        let unknown = Method::from_bytes(b"BREW").expect("a method may be any token");
        metrics.record_request(None, &unknown, StatusCode::NOT_FOUND, Duration::ZERO);
        let text = metrics.encode();
        for line in [
            r#"nworkflow_http_requests_total{route="/workflows/{workflow_id}",method="GET",status="200"} 1"#,
            r#"nworkflow_http_requests_total{route="unmatched",method="other",status="404"} 1"#,
            r#"nworkflow_http_request_duration_seconds_bucket{le="0.0025",route="/workflows/{workflow_id}",method="GET"} 1"#,
            concat!(r#"nworkflow_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
            "# EOF",
        ] {
            assert!(text.lines().any(|have| have == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn a_dropped_request_is_no_longer_in_flight() {
        let metrics = Metrics::new();
        let guard = metrics.enter_request();
        assert!(metrics.encode().contains("nworkflow_http_requests_in_flight 1\n"));
        drop(guard);
        assert!(metrics.encode().contains("nworkflow_http_requests_in_flight 0\n"));
    }

    #[test]
    fn outcomes_and_problems_are_counted_by_code() {
        let metrics = Metrics::new();
        metrics.record_authentication("token_expired");
        metrics.record_problem("store_unavailable");
        let text = metrics.encode();
        assert!(text.contains("nworkflow_authentications_total{outcome=\"token_expired\"} 1\n"), "{text}");
        assert!(text.contains("nworkflow_http_problems_total{code=\"store_unavailable\"} 1\n"), "{text}");
        assert!(text.contains("nworkflow_uptime_seconds 0\n"), "{text}");
    }
}
