//! Tokens shaped like those of Keycloak 26.7, to be changed in one place each.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nworkflow_state::domain::clock::Clock;
use serde_json::{Map, Value, json};

use super::keys::SigningKey;

/// A token in the making.
#[derive(Debug, Clone)]
pub(crate) struct TokenBuilder {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    raw_header: Option<String>,
    raw_claims: Option<String>,
    key: SigningKey,
    now: i64,
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("not an object") };
    map
}

impl TokenBuilder {
    /// A user's access token by the password grant with the scopes `openid organization`: realm roles none, tenant `acme`, user `ada`.
    pub(crate) fn user(issuer: &str, key: &SigningKey, clock: &Clock) -> Self {
        let now = clock.now().as_seconds();
        let claims = json!({
            "exp": now + 300, "iat": now, "jti": "onrtro:3f0c7c1e-4c5a-4df4-b1ee-0f9d0e0cd5c2", "iss": issuer, "aud": "nworkflow-state",
            "sub": "f1c4f64e-2a77-4a37-8b52-6ecb2f1f2f0a", "typ": "Bearer", "azp": "workflow-ui", "sid": "4c0a3a8aBvN5nqkWcXyZ12-_",
            "acr": "1", "allowed-origins": ["http://localhost:*"], "scope": "openid profile email", "email_verified": true,
            "name": "Ada L", "preferred_username": "ada", "given_name": "Ada", "family_name": "L", "email": "ada@acme.example",
            "tenant_id": "acme",
        });
        Self::new(key, claims, now)
    }

    /// A service account's access token: no session, no client id but `azp`.
    pub(crate) fn service_account(issuer: &str, key: &SigningKey, clock: &Clock) -> Self {
        let now = clock.now().as_seconds();
        let claims = json!({
            "exp": now + 300, "iat": now, "jti": "trrtcc:9b1d0c9e-8d76-4c39-94f5-5a9ce3f6e8d1", "iss": issuer, "aud": "nworkflow-state",
            "sub": "0b8a5f0a-64b5-4b2a-9a52-3d7b3f7d9c11", "typ": "Bearer", "azp": "workflow-engine", "acr": "1",
            "realm_access": {"roles": ["nworkflow-engine"]}, "scope": "profile email", "email_verified": false,
            "preferred_username": "service-account-workflow-engine", "tenant_id": "acme",
        });
        Self::new(key, claims, now)
    }

    /// A lightweight access token: no audience, no roles, no tenant.
    pub(crate) fn lightweight(issuer: &str, key: &SigningKey, clock: &Clock) -> Self {
        let now = clock.now().as_seconds();
        let claims = json!({
            "exp": now + 300, "iat": now, "jti": "trltcc:8b8bdc7e-1a0b-4d4b-8d4e-5a1f7a0f7a11", "iss": issuer,
            "sub": "5e6f0b8a-64b5-4b2a-9a52-3d7b3f7d9c11", "typ": "Bearer", "azp": "workflow-light", "scope": "profile email",
        });
        Self::new(key, claims, now)
    }

    /// An ID token, signed by the same key.
    pub(crate) fn id_token(issuer: &str, key: &SigningKey, clock: &Clock) -> Self {
        let token =
            Self::user(issuer, key, clock).claim("typ", "ID").claim("aud", "workflow-ui").claim("at_hash", "8xYFyZ2mC0vKQ4Zc4xqU2A");
        token.claim("jti", "3f0c7c1e-4c5a-4df4-b1ee-0f9d0e0cd5c2").without("allowed-origins").without("scope")
    }

    /// A logout token.
    pub(crate) fn logout_token(issuer: &str, key: &SigningKey, clock: &Clock) -> Self {
        let token = Self::user(issuer, key, clock).header("typ", "logout+jwt").claim("typ", "Logout").claim("aud", "workflow-ui");
        token.claim("events", json!({"http://schemas.openid.net/event/backchannel-logout": {}})).without("azp")
    }

    /// The payload of a refresh token; the real one is signed with HS512.
    pub(crate) fn refresh_token(issuer: &str, key: &SigningKey, clock: &Clock) -> Self {
        Self::user(issuer, key, clock).claim("typ", "Refresh").claim("aud", issuer).claim("aud_x", "nworkflow-state")
    }

    /// An access token of RFC 9068, with its roles in the claim `roles`.
    pub(crate) fn rfc9068(issuer: &str, key: &SigningKey, clock: &Clock) -> Self {
        let now = clock.now().as_seconds();
        let claims = json!({
            "exp": now + 300, "iat": now, "jti": "dbe39bf3a3ba4238a513f51d6e1691c4", "iss": issuer, "aud": "nworkflow-state",
            "sub": "auth0|5ba552d67", "client_id": "s6BhdRkqt3", "roles": ["nworkflow-reader"], "tenant_id": "acme",
        });
        Self::new(key, claims, now).header("typ", "at+jwt")
    }

    fn new(key: &SigningKey, claims: Value, now: i64) -> Self {
        let header = object(json!({"alg": key.algorithm, "typ": "JWT", "kid": key.kid}));
        Self { header, claims: object(claims), raw_header: None, raw_claims: None, key: key.clone(), now }
    }

    /// Sets a claim.
    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a claim.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a header member.
    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Removes a header member.
    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    /// The tenant in the claim `tenant_id`.
    pub(crate) fn tenant(self, tenant: &str) -> Self {
        self.claim("tenant_id", tenant)
    }

    /// The user.
    pub(crate) fn subject(self, subject: &str) -> Self {
        self.claim("sub", subject)
    }

    /// Keycloak's realm roles.
    pub(crate) fn realm_roles(self, roles: &[&str]) -> Self {
        self.claim("realm_access", json!({"roles": roles}))
    }

    /// Keycloak's roles of one client.
    pub(crate) fn client_roles(self, client: &str, roles: &[&str]) -> Self {
        self.claim("resource_access", json!({client: {"roles": roles}}))
    }

    /// Seconds from the builder's making until `exp`; negative for the past.
    pub(crate) fn expires_in(self, seconds: i64) -> Self {
        let now = self.now;
        self.claim("exp", now + seconds)
    }

    /// Signs with another key and leaves the header as it is.
    pub(crate) fn signed_with(mut self, key: &SigningKey) -> Self {
        self.key = key.clone();
        self
    }

    /// Replaces the header's text.
    pub(crate) fn raw_header(mut self, text: &str) -> Self {
        self.raw_header = Some(text.to_owned());
        self
    }

    /// Replaces the payload's text.
    pub(crate) fn raw_claims(mut self, text: &str) -> Self {
        self.raw_claims = Some(text.to_owned());
        self
    }

    /// The payload's text as it is now.
    pub(crate) fn claims_text(&self) -> String {
        Value::Object(self.claims.clone()).to_string()
    }

    /// Replaces the payload's text by what the function makes of it.
    pub(crate) fn map_claims(self, change: impl FnOnce(&str) -> String) -> Self {
        let text = change(&self.claims_text());
        self.raw_claims(&text)
    }

    /// Header and payload, encoded, without a signature.
    pub(crate) fn message(&self) -> String {
        let header = self.raw_header.clone().unwrap_or_else(|| Value::Object(self.header.clone()).to_string());
        let claims = self.raw_claims.clone().unwrap_or_else(|| self.claims_text());
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    /// The token with a signature of its own.
    pub(crate) fn with_signature(&self, signature: &[u8]) -> String {
        format!("{}.{}", self.message(), URL_SAFE_NO_PAD.encode(signature))
    }

    /// The token.
    pub(crate) fn build(&self) -> String {
        self.with_signature(&self.key.sign(self.message().as_bytes()))
    }
}
