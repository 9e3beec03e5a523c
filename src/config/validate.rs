//! What settings must be together and within which bounds, beyond their types.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;

use super::{
    AuthConfig, CacheConfig, Config, DatabaseConfig, DragonflyConfig, EmbeddedConfig, LimitsConfig, Milliseconds, Secret, SecretsConfig,
    ServerConfig,
};
use crate::domain::principal::Permission;

/// The smallest buffer that the HTTP implementation takes for a request's head, in bytes.
const MIN_HEADER_BYTES: usize = 8192;
/// Longest request target that the HTTP implementation reads, in bytes.
const MAX_URI_BYTES: usize = 65_534;
/// The longest time that a time limit may be set to, in milliseconds: a day.
const MAX_MILLISECONDS: u64 = 86_400_000;
/// Most bytes of a request's head, and so of a token in it.
const MAX_HEADER_BYTES: usize = 1024 * 1024;
/// Largest body that a limit may be set to, in bytes: a document must fit into a row.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;
/// Least and most bytes of the local cache tier: some entries, and more than any machine has.
const LOCAL_BYTES: [usize; 2] = [64 * 1024, 1 << 44];
/// Greatest number of a Redis database that any server can be configured to have.
const MAX_DATABASE: u32 = 0x7FFF_FFFF;
/// Rarest sample of cached answers.
const MAX_SAMPLE_EVERY: u64 = 1_000_000_000;
/// Length of the encryption key, in bytes.
const KEY_BYTES: usize = 32;

/// A setting that cannot be.
#[derive(Debug)]
pub(super) struct Problem {
    /// The setting's dotted name.
    pub path: String,
    /// A sentence that names the setting.
    pub message: String,
}

impl Problem {
    pub(super) fn new([section, key]: [&str; 2], message: String) -> Self {
        Self { path: format!("{section}.{key}"), message }
    }
}

/// Everything that is wrong, in the order of the settings.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    check(config).found
}

/// The least and the greatest value of each number, by the setting's dotted name, while the others are as given.
pub(super) fn bounds(config: &Config) -> BTreeMap<String, [String; 2]> {
    check(config).bounds
}

fn check(config: &Config) -> Problems {
    let mut found = Problems::default();
    if config.data_dir.as_os_str().is_empty() {
        found.found.push(Problem { path: "data_dir".to_owned(), message: "data_dir must name a folder".to_owned() });
    }
    server(&config.server, &mut found);
    web(&config.server, &mut found);
    database(&config.database, &mut found);
    embedded(&config.embedded, &mut found);
    dragonfly(&config.dragonfly, &mut found);
    auth(&config.auth, &config.server, &mut found);
    secrets(&config.secrets, &mut found);
    cache(&config.cache, &mut found);
    jobs(config, &mut found);
    limits(&config.limits, &mut found);
    log_level(&config.log.level, &mut found);
    found
}

#[derive(Default)]
struct Problems {
    found: Vec<Problem>,
    /// What each number was compared with, for the documentation: it cannot say anything else than what is checked.
    bounds: BTreeMap<String, [String; 2]>,
}

impl Problems {
    /// Records that the setting (`path`) is wrong; the message goes on after its name.
    fn add(&mut self, path: &str, message: impl AsRef<str>) {
        self.found.push(Problem { path: path.to_owned(), message: format!("{path} {}", message.as_ref()) });
    }

    fn range<T: PartialOrd + std::fmt::Display>(&mut self, path: &str, value: T, least: T, most: T) {
        self.bounds.insert(path.to_owned(), [least.to_string(), most.to_string()]);
        if value < least || value > most {
            self.add(path, format!("must be between {least} and {most}, and is {value}"));
        }
    }

    fn time(&mut self, path: &str, Milliseconds(value): Milliseconds) {
        self.range(path, value, 1, MAX_MILLISECONDS);
    }

    /// A connection URL and, beside it, the host and password that would replace it.
    fn connection(&mut self, section: &str, schemes: [&str; 2], url: &Secret, host: &str, port: u16, password: &Secret) {
        let key = format!("{section}.url");
        if !url.is_empty() {
            self.scheme(&key, schemes, url);
            if !host.is_empty() {
                self.add(&key, format!("and {section}.host are both set; keep one of them"));
            }
            if !password.is_empty() {
                self.add(
                    &key,
                    format!("and {section}.password are both set; put the password into the URL, or set {section}.host instead of the URL"),
                );
            }
        }
        self.range(&format!("{section}.port"), port, 1, u16::MAX);
    }

    fn scheme(&mut self, path: &str, schemes: [&str; 2], url: &Secret) {
        if !schemes.iter().any(|scheme| url.expose().strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://"))) {
            self.add(path, format!("must begin with {}:// or {}://", schemes[0], schemes[1]));
        }
    }
}

fn server(server: &ServerConfig, found: &mut Problems) {
    found.range("server.max_connections", server.max_connections, 1, 1_000_000);
    found.range("server.max_connections_per_address", server.max_connections_per_address, 1, 1_000_000);
    found.range("server.listen_backlog", server.listen_backlog, 1, 65_535);
    found.range("server.max_in_flight", server.max_in_flight, 1, 1_000_000);
    found.range("server.max_in_flight_per_tenant", server.max_in_flight_per_tenant, 1, 1_000_000);
    found.range("server.tenant_requests_per_second", server.tenant_requests_per_second, 0, 1_000_000);
    found.range("server.tenant_burst", server.tenant_burst, 1, 1_000_000);
    found.range("server.max_header_bytes", server.max_header_bytes, MIN_HEADER_BYTES, MAX_HEADER_BYTES);
    found.range("server.max_uri_bytes", server.max_uri_bytes, 1, MAX_URI_BYTES.min(server.max_header_bytes));
    found.time("server.header_read_timeout_ms", server.header_read_timeout_ms);
    found.time("server.body_read_timeout_ms", server.body_read_timeout_ms);
    found.time("server.request_timeout_ms", server.request_timeout_ms);
    found.time("server.write_timeout_ms", server.write_timeout_ms);
    found.range("server.max_headers", server.max_headers, 16, 16_384);
    found.range("server.stop_delay_ms", server.stop_delay_ms.0, 0, MAX_MILLISECONDS);
    found.time("server.drain_timeout_ms", server.drain_timeout_ms);
    found.time("server.stop_timeout_ms", server.stop_timeout_ms);
    if server.drain_timeout_ms.0 > server.stop_timeout_ms.0 {
        let stop = server.stop_timeout_ms.0;
        found.add("server.drain_timeout_ms", format!("must not be longer than server.stop_timeout_ms, which is {stop}"));
    }
    if server.metrics_listen == Some(server.listen) && server.listen.port() != 0 {
        found.add("server.metrics_listen", "is the address of server.listen; leave it empty to serve metrics there, with a token");
    }
}

/// What browsers and proxies are told and believed.
fn web(server: &ServerConfig, found: &mut Problems) {
    for origin in &server.cors_origins {
        if !is_origin(origin) {
            found.add(
                "server.cors_origins",
                format!("names {origin:?}, which is no origin such as https://app.example or http://localhost:5173"),
            );
        }
    }
    for network in server.trusted_proxies.iter().filter(|network| network.prefix_len() == 0) {
        found.add("server.trusted_proxies", format!("names {network}, and so trusts whoever connects"));
    }
    found.range("server.hsts_seconds", server.hsts_seconds, 0, 63_072_000);
    found.range("server.compress_above_bytes", server.compress_above_bytes, 0, MAX_BODY_BYTES);
}

/// Whether a browser would send the text as the origin of a page: scheme, host and a port that is not the scheme's own, in lower case.
fn is_origin(text: &str) -> bool {
    let (host, own_port) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(host), _) => (host, ":443"),
        (_, Some(host)) => (host, ":80"),
        _ => return false,
    };
    let is_plain = host.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]_".contains(&byte));
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    is_plain && !name.is_empty() && !host.ends_with(own_port) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn database(database: &DatabaseConfig, found: &mut Problems) {
    let schemes = ["postgres", "postgresql"];
    found.connection("database", schemes, &database.url, &database.host, database.port, &database.password);
    if !database.migrate_url.is_empty() {
        found.scheme("database.migrate_url", schemes, &database.migrate_url);
    }
    if database.is_embedded() {
        if !database.migrate_url.is_empty() {
            found.add("database.migrate_url", "is set, but neither database.url nor database.host is");
        }
        if !database.role.is_empty() {
            found.add("database.role", "is set, but neither database.url nor database.host is");
        }
        if !database.password.is_empty() {
            found.add("database.password", "is set, but database.host is not");
        }
    }
    if !database.host.is_empty() {
        for (path, text) in [("database.database", &database.database), ("database.username", &database.username)] {
            if text.is_empty() {
                found.add(path, "must not be empty");
            }
        }
    }
    found.range("database.pool_size", database.pool_size, 1, 1000);
    found.time("database.acquire_timeout_ms", database.acquire_timeout_ms);
    found.time("database.pool_wait_ms", database.pool_wait_ms);
    found.range("database.pool_queue", database.pool_queue, 1, 1_000_000);
    found.time("database.statement_timeout_ms", database.statement_timeout_ms);
    found.time("database.lock_timeout_ms", database.lock_timeout_ms);
    found.time("database.idle_in_transaction_timeout_ms", database.idle_in_transaction_timeout_ms);
    found.range("database.queue_capacity", database.queue_capacity, 1, 1_000_000);
    found.time("database.queue_timeout_ms", database.queue_timeout_ms);
    found.range("database.lanes", database.lanes, 1, 64);
    found.range("database.group_writes", database.group_writes, 1, 100_000);
    found.range("database.group_bytes", database.group_bytes, 1, 1024 * 1024 * 1024);
    found.time("database.sweep_timeout_ms", database.sweep_timeout_ms);
}

fn embedded(embedded: &EmbeddedConfig, found: &mut Problems) {
    found.range("embedded.queue_capacity", embedded.queue_capacity, 1, 1_000_000);
    found.range("embedded.group_writes", embedded.group_writes, 1, 100_000);
    found.range("embedded.group_bytes", embedded.group_bytes, 1, 1024 * 1024 * 1024);
    found.time("embedded.busy_timeout_ms", embedded.busy_timeout_ms);
    found.range("embedded.readers", embedded.readers, 0, 1000);
    found.time("embedded.acquire_timeout_ms", embedded.acquire_timeout_ms);
}

fn dragonfly(dragonfly: &DragonflyConfig, found: &mut Problems) {
    found.connection("dragonfly", ["redis", "rediss"], &dragonfly.url, &dragonfly.host, dragonfly.port, &dragonfly.password);
    if dragonfly.cluster && dragonfly.db != 0 {
        found.add("dragonfly.db", "must be 0 with dragonfly.cluster, which has one database only");
    }
    found.range("dragonfly.db", dragonfly.db, 0, MAX_DATABASE);
    found.range("dragonfly.connections", dragonfly.connections, 1, 64);
    for (name, time) in [
        ("operation_timeout_ms", dragonfly.operation_timeout_ms),
        ("connect_timeout_ms", dragonfly.connect_timeout_ms),
        ("marker_ttl_ms", dragonfly.marker_ttl_ms),
        ("lease_ttl_ms", dragonfly.lease_ttl_ms),
        ("state_ttl_ms", dragonfly.state_ttl_ms),
        ("checkpoint_ttl_ms", dragonfly.checkpoint_ttl_ms),
        ("session_ttl_ms", dragonfly.session_ttl_ms),
        ("variable_ttl_ms", dragonfly.variable_ttl_ms),
        ("heartbeat_ms", dragonfly.heartbeat_ms),
    ] {
        found.time(&format!("dragonfly.{name}"), time);
    }
    for (name, bytes) in [
        ("state_bytes", dragonfly.state_bytes),
        ("checkpoint_bytes", dragonfly.checkpoint_bytes),
        ("session_bytes", dragonfly.session_bytes),
        ("variable_bytes", dragonfly.variable_bytes),
    ] {
        found.range(&format!("dragonfly.{name}"), bytes, 0, MAX_BODY_BYTES);
    }
    found.range("dragonfly.repair_entries", dragonfly.repair_entries, 1, 16 * 1024 * 1024);
    let least = u128::from(dragonfly.heartbeat_ms.0) * 2;
    found.range("dragonfly.silence_ms", u128::from(dragonfly.silence_ms.0), least, u128::from(MAX_MILLISECONDS));
}

fn auth(auth: &AuthConfig, server: &ServerConfig, found: &mut Problems) {
    if auth.development {
        let refuse = |path: &str, address: SocketAddr, found: &mut Problems| {
            if !address.ip().is_loopback() {
                found.add(path, format!("is {address}: with the development issuer it must be a loopback address, such as 127.0.0.1"));
            }
        };
        refuse("server.listen", server.listen, found);
        if let Some(address) = server.metrics_listen {
            refuse("server.metrics_listen", address, found);
        }
    }
    auth_numbers(auth, server.max_header_bytes, found);
    for (role, permissions) in &auth.roles {
        for permission in permissions.iter().filter(|name| Permission::from_name(name).is_none()) {
            found.add(&format!("auth.roles.{role}"), format!("names {permission:?}, which is no permission"));
        }
    }
    for (name, issuer) in &auth.issuers {
        for (key, text) in [("issuer", &issuer.issuer), ("audience", &issuer.audience), ("tenant", &issuer.tenant)] {
            if text.is_empty() {
                found.add(&format!("auth.issuers.{name}.{key}"), "is missing");
            }
        }
    }
}

/// Checks the numbers of `[auth]` by themselves: for whoever has these settings without the others.
///
/// # Errors
/// The first that is out of its bounds, in a sentence that names it.
pub fn check_auth_numbers(auth: &AuthConfig) -> Result<(), String> {
    let mut found = Problems::default();
    auth_numbers(auth, MAX_HEADER_BYTES, &mut found);
    found.found.into_iter().next().map_or(Ok(()), |problem| Err(problem.message))
}

fn auth_numbers(auth: &AuthConfig, max_header_bytes: usize, found: &mut Problems) {
    found.range("auth.leeway_seconds", auth.leeway_seconds, 0, 300);
    found.range("auth.max_token_bytes", auth.max_token_bytes, 256, max_header_bytes);
    found.range("auth.jwks_refresh_seconds", auth.jwks_refresh_seconds, 1, 86_400);
    found.range("auth.jwks_stale_seconds", auth.jwks_stale_seconds, auth.jwks_refresh_seconds, 30 * 86_400);
    found.range("auth.jwks_cooldown_seconds", auth.jwks_cooldown_seconds, 1, 3600);
    found.range("auth.jwks_timeout_ms", auth.jwks_timeout_ms.0, 1, 60_000);
    found.range("auth.jwks_max_bytes", auth.jwks_max_bytes, 1024, 16 * 1024 * 1024);
    found.range("auth.token_cache_entries", auth.token_cache_entries, 0, 10_000_000);
    found.range("auth.token_cache_seconds", auth.token_cache_seconds, 0, 3600);
}

fn secrets(secrets: &SecretsConfig, found: &mut Problems) {
    if secrets.key.is_empty() {
        return;
    }
    if !secrets.key_command.is_empty() {
        found.add("secrets.key", "and secrets.key_command are both set; keep one of them");
    }
    let key = base64::engine::general_purpose::STANDARD.decode(secrets.key.expose());
    if key.map_or(true, |key| key.len() != KEY_BYTES) {
        found.add("secrets.key", format!("must be {KEY_BYTES} bytes in base64, as `openssl rand -base64 {KEY_BYTES}` prints them"));
    }
}

fn cache(cache: &CacheConfig, found: &mut Problems) {
    let [least, most] = LOCAL_BYTES;
    found.range("cache.local_bytes", cache.local_bytes, least, most);
    found.time("cache.local_ttl_ms", cache.local_ttl_ms);
    found.time("cache.negative_ttl_ms", cache.negative_ttl_ms);
    found.time("cache.floor_ms", cache.floor_ms);
    found.range("cache.floor_entries", cache.floor_entries, 1, 16 * 1024 * 1024);
    found.range("cache.sample_every", cache.sample_every, 0, MAX_SAMPLE_EVERY);
}

/// A statement that began before the first step of a removal must have ended before the second one.
fn jobs(config: &Config, found: &mut Problems) {
    let jobs = &config.jobs;
    found.time("jobs.sweep_interval_ms", jobs.sweep_interval_ms);
    found.time("jobs.sweep_budget_ms", jobs.sweep_budget_ms);
    found.range("jobs.sweep_rows", jobs.sweep_rows, 1, 100_000);
    found.range("jobs.log_seconds", jobs.log_seconds, 3600, 3_153_600_000);
    let least = i64::try_from(config.database.statement_timeout_ms.0.div_ceil(100)).unwrap_or(i64::MAX);
    found.range("jobs.floor_seconds", jobs.floor_seconds, least.max(1), i64::from(u32::MAX));
}

fn limits(limits: &LimitsConfig, found: &mut Problems) {
    found.range("limits.state_body_bytes", limits.state_body_bytes, 1, MAX_BODY_BYTES);
    found.range("limits.body_bytes", limits.body_bytes, 1, MAX_BODY_BYTES);
    found.range("limits.patch_steps_per_byte", limits.patch_steps_per_byte, 1, 1_000_000);
    found.range("limits.patch_memory_bytes", limits.patch_memory_bytes, 65_536, 1 << 30);
    let wait = Duration::from(limits.idempotency_wait_ms).as_millis();
    found.range("limits.idempotency_wait_ms", wait, 0, u128::from(MAX_MILLISECONDS));
}

/// A single word is a level or a mistake, although the filter would take it for the name of a module.
fn log_level(level: &str, found: &mut Problems) {
    let is_level = |word: &str| word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let misspelt = level.split(',').map(str::trim).any(|directive| !directive.contains(['=', '[']) && !is_level(directive));
    if misspelt || level.parse::<tracing_subscriber::EnvFilter>().is_err() {
        found.add("log.level", "must be error, warn, info, debug or trace, or directives such as info,nworkflow_state=debug");
    }
}
