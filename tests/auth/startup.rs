//! Configurations with which the server does not start.

use nworkflow_state::config::{AuthConfig, IssuerConfig, Milliseconds, TokenProfile};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::http::auth::Authenticator;
use nworkflow_state::lifecycle::Lifecycle;

use super::defaults;

/// An issuer whose address nobody listens at, so that nothing leaves the machine.
fn issuer(realm: &str) -> IssuerConfig {
    IssuerConfig {
        issuer: format!("http://127.0.0.1:9/realms/{realm}"),
        jwks_url: String::new(),
        audience: "nworkflow-state".to_owned(),
        tenant: "realm".to_owned(),
        tenants: Vec::new(),
        profile: TokenProfile::Keycloak,
        roles_claim: String::new(),
        clients: Vec::new(),
    }
}

fn start(config: &AuthConfig) -> Result<Authenticator, String> {
    let lifecycle = Lifecycle::new();
    let result = Authenticator::new(config, None, Clock::new(), &lifecycle).map_err(|error| error.to_string());
    lifecycle.stop();
    result
}

fn with(issuers: &[IssuerConfig]) -> AuthConfig {
    let mut config = defaults();
    for (name, issuer) in ["one", "two", "three"].iter().zip(issuers) {
        config.issuers.insert((*name).to_owned(), issuer.clone());
    }
    config
}

#[track_caller]
fn refused(config: &AuthConfig, words: &str) {
    let why = start(config).expect_err(words);
    assert!(why.contains(words), "{why}");
}

#[tokio::test]
async fn an_issuer_needs_a_safe_address_an_audience_and_a_rule() {
    assert!(start(&with(&[issuer("acme")])).is_ok());
    refused(&defaults(), "no issuer is configured");
    for address in [
        "http://sso.example/realms/acme",
        "http://127.0.0.1.evil.example/realms/acme",
        "http://localhost.evil.example/realms/acme",
        "ftp://127.0.0.1/realms/acme",
        "file:///realms/acme",
        "sso.example/realms/acme",
        "https://user:password@sso.example/realms/acme",
        "https://sso.example/realms/acme#x",
        "https://sso.example/realms/acme?x=1",
        "",
    ] {
        refused(&with(&[IssuerConfig { issuer: address.to_owned(), ..issuer("acme") }]), "auth.issuers.one.issuer ");
    }
    refused(&with(&[IssuerConfig { jwks_url: "http://keycloak:8080/certs".to_owned(), ..issuer("acme") }]), "auth.issuers.one.jwks_url ");
    refused(&with(&[IssuerConfig { audience: " ".to_owned(), ..issuer("acme") }]), "auth.issuers.one.audience ");
    for rule in ["", "claim:", "claim", "fixed:", "fixed:a/b", "fixed", "realms", "organization:x", "Realm", "tenant_id"] {
        refused(&with(&[IssuerConfig { tenant: rule.to_owned(), ..issuer("acme") }]), "auth.issuers.one.tenant ");
    }
    refused(&with(&[issuer("a%20b")]), "auth.issuers.one.tenant ");
    refused(&with(&[IssuerConfig { issuer: "https://sso.example".to_owned(), ..issuer("") }]), "auth.issuers.one.tenant ");
    refused(&with(&[IssuerConfig { tenants: vec!["a/b".to_owned()], ..issuer("acme") }]), "auth.issuers.one.tenants ");
    refused(&with(&[IssuerConfig { tenants: vec!["other".to_owned()], ..issuer("acme") }]), "auth.issuers.one.tenants ");
    let scopes = IssuerConfig { profile: TokenProfile::Rfc9068, roles_claim: "scope".to_owned(), ..issuer("acme") };
    refused(&with(&[scopes]), "auth.issuers.one.roles_claim ");
    refused(&with(&[IssuerConfig { roles_claim: "groups".to_owned(), ..issuer("acme") }]), "auth.issuers.one.roles_claim ");
}

#[tokio::test]
async fn loopback_has_several_names() {
    for host in ["127.0.0.1:9", "localhost:9", "[::1]:9", "127.8.9.10:9"] {
        let here = IssuerConfig { issuer: format!("http://{host}/realms/acme"), ..issuer("acme") };
        assert!(start(&with(&[here])).is_ok(), "{host}");
    }
}

#[tokio::test]
async fn a_tenant_belongs_to_one_issuer() {
    let claim = |realm: &str, tenants: &[&str]| IssuerConfig {
        tenant: "claim:tenant_id".to_owned(),
        tenants: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
        ..issuer(realm)
    };
    let organization = |realm: &str, tenants: &[&str]| IssuerConfig { tenant: "organization".to_owned(), ..claim(realm, tenants) };
    let fixed = |realm: &str, tenant: &str| IssuerConfig { tenant: format!("fixed:{tenant}"), ..issuer(realm) };

    for good in [
        vec![claim("a", &[])],
        vec![issuer("a"), issuer("b")],
        vec![issuer("a"), fixed("b", "c")],
        vec![claim("a", &["x", "y"]), organization("b", &["z"])],
        vec![claim("a", &["x"]), issuer("b"), fixed("c", "y")],
    ] {
        assert_eq!(start(&with(&good)).err(), None);
    }
    for same in [
        vec![issuer("a"), fixed("b", "a")],
        vec![fixed("a", "x"), fixed("b", "x")],
        vec![claim("a", &["x", "y"]), claim("b", &["y"])],
        vec![claim("a", &["x"]), fixed("b", "x")],
        vec![organization("a", &["b"]), issuer("b")],
    ] {
        refused(&with(&same), "can both name the tenant");
    }
    for open in [
        vec![claim("a", &[]), issuer("b")],
        vec![claim("a", &[]), claim("b", &["x"])],
        vec![claim("a", &["x"]), fixed("b", "y"), organization("c", &[])],
    ] {
        refused(&with(&open), "could name the same tenant");
    }
    refused(&with(&[fixed("a", "x"), fixed("a", "y")]), "are the same issuer");
}

#[tokio::test]
async fn roles_and_numbers_are_checked() {
    let mut config = with(&[issuer("acme")]);
    config.roles.insert("clerk".to_owned(), vec!["states:reed".to_owned()]);
    refused(&config, "auth.roles.clerk: \"states:reed\" is no permission");
    for change in [
        (|config: &mut AuthConfig| config.leeway_seconds = 301) as fn(&mut AuthConfig),
        |config| config.jwks_refresh_seconds = 0,
        |config| config.jwks_refresh_seconds = 86_401,
        |config| config.jwks_stale_seconds = 299,
        |config| config.jwks_stale_seconds = 30 * 86_400 + 1,
        |config| config.jwks_cooldown_seconds = 0,
        |config| config.jwks_timeout_ms = Milliseconds(0),
        |config| config.jwks_max_bytes = 0,
        |config| config.max_token_bytes = 0,
        |config| config.max_token_bytes = 1_048_577,
        |config| config.token_cache_entries = 10_000_001,
        |config| config.token_cache_seconds = 3601,
    ] {
        let mut config = with(&[issuer("acme")]);
        change(&mut config);
        refused(&config, "must be between");
    }
}
