//! Settings: their order, what is refused and in which words, and that no error or print shows a secret.

use std::path::PathBuf;

use nworkflow_state::config::{Config, Source, TokenProfile, load};
use tempfile::TempDir;

/// Settings in the making.
#[derive(Default)]
struct Settings {
    source: Source,
    folder: Option<TempDir>,
}

impl Settings {
    fn new() -> Self {
        Self::default()
    }

    fn path(&mut self, name: &str) -> PathBuf {
        let folder = self.folder.get_or_insert_with(|| TempDir::new().expect("a temporary folder can be made"));
        folder.path().join(name)
    }

    fn file(mut self, text: &str) -> Self {
        let path = self.path("server.toml");
        std::fs::write(&path, text).expect("the file can be written");
        self.source.file = Some(path);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.source.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flag(mut self, name: &str, value: &str) -> Self {
        self.source.flags.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file with a secret, named by the setting `key` through the environment.
    fn secret_file(mut self, variable: &str, text: &str) -> Self {
        let path = self.path("secret");
        std::fs::write(&path, text).expect("the file can be written");
        self.env(variable, path.to_str().expect("the path is UTF-8"))
    }

    fn loaded(&self) -> Config {
        load(&self.source).expect("the settings are valid")
    }

    fn refused(&self) -> String {
        load(&self.source).expect_err("the settings are not valid").to_string()
    }
}

#[track_caller]
fn assert_says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "the error does not say {part:?}: {error}");
    }
}

#[test]
fn the_defaults_are_valid_and_embedded() {
    let config = Settings::new().loaded();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.metrics_listen.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9464"));
    assert!(config.database.is_embedded());
    assert!(config.auth.issuers.is_empty());
    assert_eq!(config.auth.roles["nworkflow-admin"], ["admin"]);
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let settings = Settings::new().file("[server]\nmax_connections = 2\nmax_in_flight = 2\ndocs = false\n");
    assert_eq!(settings.loaded().server.max_connections, 2);
    let settings = settings.env("NWORKFLOW__SERVER__MAX_CONNECTIONS", "3").env("NWORKFLOW__SERVER__MAX_IN_FLIGHT", "3");
    assert_eq!(settings.loaded().server.max_connections, 3);
    let settings = settings.flag("server.max_connections", "4");
    let config = settings.loaded();
    assert_eq!((config.server.max_connections, config.server.max_in_flight, config.server.docs), (4, 3, false));
    assert_eq!(config.server.max_uri_bytes, 8192);
}

#[test]
fn an_unknown_key_is_named_with_its_origin_and_a_hint() {
    let error = Settings::new().env("NWORKFLOW__SERVER__LISTN", "127.0.0.1:1").refused();
    assert_says(&error, &["NWORKFLOW__SERVER__LISTN", "did you mean NWORKFLOW__SERVER__LISTEN?"]);

    let settings = Settings::new().file("[databse]\nurl = \"postgres://u:hunter2@h/d\"\n");
    let error = settings.refused();
    assert_says(&error, &["server.toml", "databse"]);
    assert!(!error.contains("hunter2"));

    let error = Settings::new().file("[server]\nlistn = \"127.0.0.1:1\"\n").refused();
    assert_says(&error, &["server.toml", "server.listn", "did you mean server.listen?"]);

    let error = Settings::new().flag("log.formt", "json").refused();
    assert_says(&error, &["--set log.formt", "did you mean log.format?"]);

    let error = Settings::new().env("NWORKFLOW__AUTH__ISSUERS__ACME__AUDIENC", "x").refused();
    assert_says(&error, &["NWORKFLOW__AUTH__ISSUERS__ACME__AUDIENC", "did you mean NWORKFLOW__AUTH__ISSUERS__ACME__AUDIENCE?"]);

    let error = Settings::new().env("NWORKFLOW__SERVER", "x").refused();
    assert_says(&error, &["NWORKFLOW__SERVER", "is a section"]);
}

#[test]
fn variables_of_others_are_ignored() {
    let settings = Settings::new().env("NWORKFLOW_PORT", "tcp://10.0.0.1:80").env("PATH", "/bin").env("nworkflow__server__x", "1");
    assert_eq!(settings.loaded().server.listen.port(), 8080);
}

#[test]
fn a_wrong_type_is_named_and_not_shown() {
    for (name, value, says) in [
        ("NWORKFLOW__SERVER__MAX_CONNECTIONS", "many", "must be a whole number"),
        ("NWORKFLOW__SERVER__DOCS", "yes", "must be true or false"),
        ("NWORKFLOW__SERVER__LISTEN", "localhost", "invalid socket address"),
        ("NWORKFLOW__DATABASE__PORT", "70000", "u16"),
        ("NWORKFLOW__SERVER__MAX_IN_FLIGHT", "-1", "usize"),
        ("NWORKFLOW__LOG__FORMAT", "xml", "unknown variant"),
    ] {
        assert_says(&Settings::new().env(name, value).refused(), &[name, says]);
    }
    let error = Settings::new().file("[database]\nhost = \"h\"\npassword = 12345\n").refused();
    assert_says(&error, &["server.toml", "database.password", "text in quotes"]);
    assert!(!error.contains("12345"), "{error}");
    let error = Settings::new().file("[server]\nlisten = { port = 1 }\n").refused();
    assert_says(&error, &["server.toml", "server.listen", "text"]);
    let error = Settings::new().file("server = 1\n").refused();
    assert_says(&error, &["server.toml: server: is a section"]);
}

#[test]
fn a_broken_file_is_named_with_its_line_and_not_quoted() {
    let error = Settings::new().file("[database]\nport = 5432\npassword = hunter2\n").refused();
    assert_says(&error, &["server.toml", "line 3"]);
    assert!(!error.contains("hunter2"), "{error}");
    let mut settings = Settings::new();
    settings.source.file = Some(PathBuf::from("/nowhere/server.toml"));
    assert_says(&settings.refused(), &["/nowhere/server.toml", "cannot be read"]);
}

#[test]
fn a_password_of_digits_stays_text() {
    let settings = Settings::new().env("NWORKFLOW__DATABASE__HOST", "db").env("NWORKFLOW__DATABASE__PASSWORD", "007");
    assert_eq!(settings.loaded().database.password.expose(), "007");
    let settings = Settings::new().flag("dragonfly.host", "cache").flag("dragonfly.password", "true");
    assert_eq!(settings.loaded().dragonfly.password.expose(), "true");
}

#[test]
fn a_secret_comes_from_its_file_without_one_newline() {
    for (text, secret) in [("007\n", "007"), ("007\r\n", "007"), ("007", "007"), ("a b \n\n", "a b \n")] {
        let settings = Settings::new().env("NWORKFLOW__DATABASE__HOST", "db").secret_file("NWORKFLOW__DATABASE__PASSWORD_FILE", text);
        assert_eq!(settings.loaded().database.password.expose(), secret, "{text:?}");
    }
}

#[test]
fn a_secrets_file_that_gives_none_is_named() {
    let error = Settings::new().env("NWORKFLOW__DATABASE__URL_FILE", "/nowhere/url").refused();
    assert_says(&error, &["database.url_file", "/nowhere/url", "cannot be read", "NWORKFLOW__DATABASE__URL_FILE"]);
    let error = Settings::new().secret_file("NWORKFLOW__DATABASE__URL_FILE", "\n").refused();
    assert_says(&error, &["database.url_file", "is empty"]);
    let settings = Settings::new().env("NWORKFLOW__DATABASE__PASSWORD", "hunter2");
    let error = settings.secret_file("NWORKFLOW__DATABASE__PASSWORD_FILE", "hunter2").refused();
    assert_says(&error, &["database.password and database.password_file are both set"]);
    assert!(!error.contains("hunter2"));
    // As compose files with ${VAR:-} set it: nothing.
    assert!(Settings::new().env("NWORKFLOW__DATABASE__URL_FILE", "").loaded().database.url_file.is_none());
}

#[test]
fn an_issuer_comes_from_the_environment_alone() {
    let config = Settings::new()
        .env("NWORKFLOW__AUTH__ISSUERS__ACME__ISSUER", "https://sso.example/realms/acme")
        .env("NWORKFLOW__AUTH__ISSUERS__ACME__AUDIENCE", "nworkflow-state")
        .env("NWORKFLOW__AUTH__ISSUERS__ACME__TENANT", "claim:tenant_id")
        .env("NWORKFLOW__AUTH__ISSUERS__ACME__TENANTS", "acme, 007 ,")
        .env("NWORKFLOW__AUTH__ISSUERS__ACME__PROFILE", "rfc9068")
        .loaded();
    let issuer = &config.auth.issuers["acme"];
    assert_eq!(issuer.issuer, "https://sso.example/realms/acme");
    assert_eq!(issuer.tenants, ["acme", "007"]);
    assert_eq!(issuer.profile, TokenProfile::Rfc9068);
}

#[test]
fn an_issuer_of_the_file_is_completed_by_the_environment() {
    let file = "[auth.issuers.Acme-Main]\nissuer = \"https://sso.example\"\ntenant = \"realm\"\ntenants = [\"a\"]\n";
    let settings = Settings::new().file(file);
    assert_says(&settings.refused(), &["auth.issuers.Acme-Main.audience is missing"]);
    let config = settings.env("NWORKFLOW__AUTH__ISSUERS__ACME_MAIN__AUDIENCE", "nworkflow-state").loaded();
    assert_eq!(config.auth.issuers.len(), 1);
    assert_eq!(config.auth.issuers["Acme-Main"].audience, "nworkflow-state");
    assert_eq!(config.auth.issuers["Acme-Main"].tenants, ["a"]);
}

#[test]
fn a_role_can_be_added_and_replaced() {
    let config = Settings::new()
        .file("[auth.roles]\nauditor = [\"audit:read\"]\n")
        .env("NWORKFLOW__AUTH__ROLES__NWORKFLOW_ADMIN", "states:read, states:write")
        .loaded();
    assert_eq!(config.auth.roles["auditor"], ["audit:read"]);
    assert_eq!(config.auth.roles["nworkflow-admin"], ["states:read", "states:write"]);
    assert_eq!(config.auth.roles.len(), 5);
}

#[test]
fn impossible_settings_are_refused_with_their_name_and_origin() {
    let host = ("NWORKFLOW__DATABASE__HOST", "db");
    let development = ("NWORKFLOW__AUTH__DEVELOPMENT", "true");
    for (variables, says) in [
        (vec![("NWORKFLOW__SERVER__MAX_CONNECTIONS", "0")], "server.max_connections must be between 1"),
        (vec![("NWORKFLOW__SERVER__MAX_HEADER_BYTES", "4096")], "server.max_header_bytes must be between 8192"),
        (vec![("NWORKFLOW__SERVER__REQUEST_TIMEOUT_MS", "0")], "server.request_timeout_ms must be between 1"),
        (vec![("NWORKFLOW__SERVER__DRAIN_TIMEOUT_MS", "30000")], "server.drain_timeout_ms must not be longer than server.stop_timeout_ms"),
        (vec![("NWORKFLOW__SERVER__METRICS_LISTEN", "127.0.0.1:8080")], "server.metrics_listen is the address of server.listen"),
        (vec![("NWORKFLOW__DATABASE__URL", "mysql://u:hunter2@h/d")], "database.url must begin with postgres:// or postgresql://"),
        (vec![host, ("NWORKFLOW__DATABASE__URL", "postgres://u:hunter2@h/d")], "database.url and database.host are both set"),
        (vec![host, ("NWORKFLOW__DATABASE__POOL_SIZE", "0")], "database.pool_size must be between 1"),
        (vec![("NWORKFLOW__DATABASE__MIGRATE_URL", "postgres://o:hunter2@h/d")], "database.migrate_url is set, but neither"),
        (vec![("NWORKFLOW__EMBEDDED__QUEUE_CAPACITY", "0")], "embedded.queue_capacity must be between 1"),
        (vec![("NWORKFLOW__EMBEDDED__GROUP_WRITES", "0")], "embedded.group_writes must be between 1"),
        (vec![("NWORKFLOW__EMBEDDED__BUSY_TIMEOUT_MS", "0")], "embedded.busy_timeout_ms must be between 1"),
        (vec![("NWORKFLOW__DRAGONFLY__URL", "http://:hunter2@h")], "dragonfly.url must begin with redis:// or rediss://"),
        (vec![development, ("NWORKFLOW__SERVER__LISTEN", "0.0.0.0:8080")], "server.listen is 0.0.0.0:8080: with the development issuer"),
        (vec![development, ("NWORKFLOW__SERVER__METRICS_LISTEN", "[::]:9464")], "server.metrics_listen is [::]:9464"),
        (vec![("NWORKFLOW__AUTH__JWKS_STALE_SECONDS", "10")], "auth.jwks_stale_seconds must be between 300"),
        (vec![("NWORKFLOW__AUTH__ROLES__AUDITOR", "audit:read,audit:reed")], "auth.roles.auditor names \"audit:reed\", which is no"),
        (vec![("NWORKFLOW__SECRETS__KEY", "aHVudGVyMg==")], "secrets.key must be 32 bytes in base64"),
        (vec![("NWORKFLOW__CACHE__LOCAL_BYTES", "65535")], "cache.local_bytes must be between 65536"),
        (vec![("NWORKFLOW__CACHE__LOCAL_TTL_MS", "0")], "cache.local_ttl_ms must be between 1"),
        (vec![("NWORKFLOW__CACHE__NEGATIVE_TTL_MS", "0")], "cache.negative_ttl_ms must be between 1"),
        (vec![("NWORKFLOW__CACHE__FLOOR_MS", "0")], "cache.floor_ms must be between 1"),
        (vec![("NWORKFLOW__CACHE__FLOOR_ENTRIES", "0")], "cache.floor_entries must be between 1"),
        (vec![("NWORKFLOW__LIMITS__BODY_BYTES", "0")], "limits.body_bytes must be between 1"),
        (vec![("NWORKFLOW__LOG__LEVEL", "inof")], "log.level must be"),
        (vec![("NWORKFLOW__DATA_DIR", "")], "data_dir must name a folder"),
    ] {
        let settings = variables.iter().fold(Settings::new(), |settings, (name, value)| settings.env(name, value));
        let error = settings.refused();
        assert_says(&error, &[says, "set by the environment variable NWORKFLOW__"]);
        assert!(!error.contains("hunter2") && !error.contains("aHVudGVyMg"), "{error}");
    }
}

#[test]
fn settings_at_their_bounds_are_taken() {
    for (name, value) in [
        ("NWORKFLOW__AUTH__DEVELOPMENT", "true"),
        ("NWORKFLOW__SERVER__METRICS_LISTEN", ""),
        ("NWORKFLOW__DATABASE__URL", "postgresql://u@h/d"),
        ("NWORKFLOW__DRAGONFLY__URL", "rediss://h"),
        ("NWORKFLOW__LOG__LEVEL", "warn,nworkflow_state=debug"),
        ("NWORKFLOW__SECRETS__KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
    ] {
        let _ = Settings::new().env(name, value).loaded();
    }
}

#[test]
fn printed_settings_are_toml_that_shows_no_secret() {
    let config = Settings::new()
        .env("NWORKFLOW__DATABASE__URL", "postgres://u:hunter2@h/d")
        .env("NWORKFLOW__DRAGONFLY__HOST", "h")
        .secret_file("NWORKFLOW__DRAGONFLY__PASSWORD_FILE", "hunter2")
        .loaded();
    let text = toml::to_string(&config).expect("the settings are TOML");
    assert!(!text.contains("hunter2"), "{text}");
    let table: toml::Table = text.parse().expect("the text is TOML");
    assert_eq!(table["database"]["url"].as_str(), Some("***"));
    assert_eq!(table["database"]["password"].as_str(), Some(""));
    assert_eq!(table["dragonfly"]["password"].as_str(), Some("***"));
    assert!(!format!("{config:?}").contains("hunter2"));
}
