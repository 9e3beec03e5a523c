//! What fuzzing asserts of the readers of tokens and key sets. Called by `crate::fuzzing`, never by the server.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::bearer::{self, Selection};
use super::claims;
use super::issuer::{Issuer, Policy};
use super::jwks::{self, ParsedKeys};
use super::keys::KeySource;
use super::tenant::TenantRule;
use super::token::{ALGORITHMS, Token};
use crate::config::TokenProfile;
use crate::domain::clock::{Clock, Timestamp};

/// 2026-11-22T10:15:30Z.
const NOW: i64 = 1_795_342_530;
const LEEWAY: i64 = 10;

fn issuers() -> &'static [Issuer; 2] {
    static ISSUERS: OnceLock<[Issuer; 2]> = OnceLock::new();
    ISSUERS.get_or_init(|| {
        let keys = KeySource::fixed("fuzz", ParsedKeys::default(), Clock::new());
        let keycloak = Policy::local("urn:fuzz", "nworkflow-state", "tenant_id", keys.clone());
        let mut other = Policy::local("urn:fuzz", "nworkflow-state", "tenant_id", keys);
        other.profile = TokenProfile::Rfc9068;
        other.roles_claim = "roles".into();
        other.tenant = TenantRule::Organization;
        other.clients = vec!["console".into()];
        [keycloak, other]
    })
}

/// A token in compact form, or header, payload and signature apart at NULs, which is put into that form: read without a panic, and what is
/// accepted of its claims is within the rules.
pub(crate) fn token(data: &[u8]) {
    let text = if data.contains(&0) {
        let parts: Vec<String> = data.split(|byte| *byte == 0).map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
        parts.join(".")
    } else {
        String::from_utf8_lossy(data).into_owned()
    };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&format!("Bearer {text}")) {
        headers.insert(AUTHORIZATION, value);
    }
    if let Ok(credentials) = bearer::read(&headers, 16_384) {
        assert!(!credentials.token.is_empty() && credentials.token.len() <= 16_384);
    }
    let Ok(token) = Token::parse(&text) else { return };
    assert!(ALGORITHMS.contains(&token.algorithm) && !token.kid.is_empty() && text.split('.').count() == 3);
    let claims = token.claims();
    let now = Timestamp::from_microseconds(0).plus_seconds(NOW);
    for issuer in issuers() {
        if let Ok(checked) = claims::check(issuer, token.header_type, &claims, now, LEEWAY) {
            assert!(checked.expires_at.as_seconds() > NOW - LEEWAY);
            assert!(claims.raw("cnf").is_none() && claims.raw("nonce").is_none());
        }
        let _ = claims::roles(issuer, &claims);
        for selection in [Selection::None, Selection::Tenant("acme"), Selection::Unusable] {
            if let Ok(tenant) = issuer.tenant.tenant(&claims, selection) {
                assert!(selection == Selection::None || selection == Selection::Tenant(tenant.as_str()));
            }
        }
    }
}

/// A key set of an issuer: read without a panic, and no key without an id.
pub(crate) fn key_set(data: &[u8]) {
    if let Ok(parsed) = jwks::parse(data) {
        assert!(!parsed.keys.is_empty() && parsed.keys.keys().all(|kid| !kid.is_empty()));
    }
}
