//! Settings: their names, types and validation. The defaults are in `config/default.toml` and nowhere else.

mod load;
mod reference;
mod schema;
mod secret;
mod validate;
mod value;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use load::{ConfigError, Source, load};
pub use reference::reference;
pub use secret::Secret;
pub use validate::check_auth_numbers;

/// The text of `config/default.toml`.
pub const DEFAULTS: &str = include_str!("../config/default.toml");

/// A time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Milliseconds(pub u64);

impl From<Milliseconds> for Duration {
    fn from(time: Milliseconds) -> Self {
        Self::from_millis(time.0)
    }
}

/// All settings.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of the embedded database and the development key.
    pub data_dir: PathBuf,
    /// The HTTP server.
    pub server: ServerConfig,
    /// The store.
    pub database: DatabaseConfig,
    /// The store when none is configured.
    pub embedded: EmbeddedConfig,
    /// The second cache tier.
    pub dragonfly: DragonflyConfig,
    /// Tokens and roles.
    pub auth: AuthConfig,
    /// Encryption of secret variables.
    pub secrets: SecretsConfig,
    /// The caches.
    pub cache: CacheConfig,
    /// Limits of requests.
    pub limits: LimitsConfig,
    /// Work in the background.
    pub jobs: JobsConfig,
    /// The log.
    pub log: LogConfig,
}

/// `[server]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each is, with its unit")]
pub struct ServerConfig {
    pub listen: SocketAddr,
    #[serde(with = "value::optional_address")]
    pub metrics_listen: Option<SocketAddr>,
    pub docs: bool,
    pub max_connections: usize,
    pub max_connections_per_address: usize,
    pub listen_backlog: u32,
    pub max_in_flight: usize,
    pub max_in_flight_per_tenant: usize,
    pub tenant_requests_per_second: u64,
    pub tenant_burst: u64,
    pub max_header_bytes: usize,
    pub max_headers: usize,
    pub max_uri_bytes: usize,
    pub header_read_timeout_ms: Milliseconds,
    pub body_read_timeout_ms: Milliseconds,
    pub request_timeout_ms: Milliseconds,
    pub write_timeout_ms: Milliseconds,
    pub stop_delay_ms: Milliseconds,
    pub drain_timeout_ms: Milliseconds,
    pub stop_timeout_ms: Milliseconds,
    #[serde(with = "value::networks")]
    pub trusted_proxies: Vec<IpNet>,
    pub proxy_header: ProxyHeader,
    #[serde(deserialize_with = "value::list")]
    pub cors_origins: Vec<String>,
    pub hsts: bool,
    pub hsts_seconds: u64,
    pub compress_above_bytes: usize,
}

/// The header in which trusted proxies say who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ServerConfig {
    /// Whether this address is that of a trusted proxy.
    #[must_use]
    pub fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

/// `[database]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each is, with its unit")]
pub struct DatabaseConfig {
    pub url: Secret,
    pub url_file: Option<PathBuf>,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub username: String,
    pub password: Secret,
    pub password_file: Option<PathBuf>,
    pub migrate_url: Secret,
    pub migrate_url_file: Option<PathBuf>,
    pub role: String,
    pub pool_size: u32,
    pub acquire_timeout_ms: Milliseconds,
    pub pool_wait_ms: Milliseconds,
    pub pool_queue: usize,
    pub statement_timeout_ms: Milliseconds,
    pub lock_timeout_ms: Milliseconds,
    pub idle_in_transaction_timeout_ms: Milliseconds,
    pub queue_capacity: usize,
    pub queue_timeout_ms: Milliseconds,
    pub lanes: usize,
    pub group_writes: usize,
    pub group_bytes: usize,
    pub sweep_timeout_ms: Milliseconds,
}

impl DatabaseConfig {
    /// Whether the store is the embedded one.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.url.is_empty() && self.host.is_empty()
    }
}

/// `[embedded]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each is, with its unit")]
pub struct EmbeddedConfig {
    pub queue_capacity: usize,
    pub group_writes: usize,
    pub group_bytes: usize,
    pub busy_timeout_ms: Milliseconds,
    pub readers: u32,
    pub acquire_timeout_ms: Milliseconds,
}

/// `[dragonfly]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each is, with its unit")]
pub struct DragonflyConfig {
    pub url: Secret,
    pub url_file: Option<PathBuf>,
    pub host: String,
    pub port: u16,
    pub password: Secret,
    pub password_file: Option<PathBuf>,
    pub username: String,
    pub db: u32,
    pub cluster: bool,
    pub ca_file: String,
    pub connections: usize,
    pub operation_timeout_ms: Milliseconds,
    pub connect_timeout_ms: Milliseconds,
    pub strict: bool,
    pub marker_ttl_ms: Milliseconds,
    pub lease_ttl_ms: Milliseconds,
    pub state_ttl_ms: Milliseconds,
    pub checkpoint_ttl_ms: Milliseconds,
    pub session_ttl_ms: Milliseconds,
    pub variable_ttl_ms: Milliseconds,
    pub state_bytes: usize,
    pub checkpoint_bytes: usize,
    pub session_bytes: usize,
    pub variable_bytes: usize,
    pub repair_entries: usize,
    pub heartbeat_ms: Milliseconds,
    pub silence_ms: Milliseconds,
}

impl DragonflyConfig {
    /// Whether there is a second tier.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.url.is_empty() || !self.host.is_empty()
    }
}

/// `[auth]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each is, with its unit")]
pub struct AuthConfig {
    pub development: bool,
    pub leeway_seconds: u64,
    pub max_token_bytes: usize,
    pub jwks_refresh_seconds: u64,
    pub jwks_stale_seconds: u64,
    pub jwks_cooldown_seconds: u64,
    pub jwks_timeout_ms: Milliseconds,
    pub jwks_max_bytes: usize,
    pub token_cache_entries: usize,
    pub token_cache_seconds: u64,
    #[serde(default)]
    pub issuers: BTreeMap<String, IssuerConfig>,
    #[serde(deserialize_with = "value::roles")]
    pub roles: BTreeMap<String, Vec<String>>,
}

/// `[auth.issuers.NAME]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// Compared byte for byte with the claim `iss`.
    pub issuer: String,
    /// Where the keys are; empty: discovery.
    #[serde(default)]
    pub jwks_url: String,
    /// Must be in the claim `aud`.
    pub audience: String,
    /// Where the tenant comes from: `claim:NAME`, `organization`, `realm`, `fixed:NAME`.
    pub tenant: String,
    /// When not empty: the only tenants that the issuer may name.
    #[serde(default, deserialize_with = "value::list")]
    pub tenants: Vec<String>,
    /// What the tokens look like.
    #[serde(default)]
    pub profile: TokenProfile,
    /// With [`TokenProfile::Rfc9068`]: the claim with the roles; empty: `roles`.
    #[serde(default)]
    pub roles_claim: String,
    /// When not empty: the only clients that may call.
    #[serde(default, deserialize_with = "value::list")]
    pub clients: Vec<String>,
}

/// How an issuer's access tokens tell that they are access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenProfile {
    /// The claim `typ` is `Bearer`; roles are Keycloak's.
    #[default]
    Keycloak,
    /// The header `typ` is `at+jwt` (RFC 9068); roles are in one claim.
    Rfc9068,
}

/// `[secrets]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each is, with its unit")]
pub struct SecretsConfig {
    pub key: Secret,
    pub key_file: Option<PathBuf>,
    pub key_command: String,
}

/// `[cache]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each is, with its unit")]
pub struct CacheConfig {
    pub single_server: bool,
    pub local: bool,
    pub local_bytes: usize,
    pub local_ttl_ms: Milliseconds,
    pub negative_ttl_ms: Milliseconds,
    pub floor_ms: Milliseconds,
    pub floor_entries: usize,
    pub serve_cached_when_db_down: bool,
    pub sample_every: u64,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each is, with its unit")]
pub struct LimitsConfig {
    pub state_body_bytes: usize,
    pub body_bytes: usize,
    pub patch_steps_per_byte: u32,
    pub patch_memory_bytes: usize,
    pub idempotency_wait_ms: Milliseconds,
}

/// `[jobs]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each is, with its unit")]
pub struct JobsConfig {
    pub sweep: bool,
    pub sweep_interval_ms: Milliseconds,
    pub sweep_budget_ms: Milliseconds,
    pub sweep_rows: u32,
    pub log_seconds: i64,
    pub floor_seconds: i64,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each is, with its unit")]
pub struct LogConfig {
    pub level: String,
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For a person's eyes.
    Human,
}
