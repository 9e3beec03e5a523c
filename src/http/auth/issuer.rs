//! The configured issuers, checked before the server starts.

use std::collections::BTreeSet;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation};

use crate::config::{AuthConfig, IssuerConfig, TokenProfile};
use crate::domain::id::TenantId;

use super::fetch::{Endpoint, check_url};
use super::keys::KeySource;
use super::tenant::TenantRule;
use super::token::ALGORITHMS;

/// Why there is no authentication with this configuration. Names the setting; for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuthConfigError(pub String);

/// An issuer and how its tokens are read.
#[derive(Debug)]
pub(super) struct Issuer {
    /// The part of `auth.issuers.NAME` that names it.
    pub(super) name: String,
    /// Compared byte for byte with the claim `iss`.
    pub(super) issuer: Arc<str>,
    pub(super) audience: String,
    pub(super) tenant: TenantRule,
    /// When not empty: the only tenants that the issuer may name.
    pub(super) tenants: BTreeSet<TenantId>,
    pub(super) profile: TokenProfile,
    pub(super) roles_claim: String,
    pub(super) clients: Vec<String>,
    pub(super) keys: Arc<KeySource>,
    validations: Vec<(Algorithm, Validation)>,
}

impl Issuer {
    /// What the library checks besides the signature. Times are not among it: it would compare them with the system's clock.
    pub(super) fn validation(&self, algorithm: Algorithm) -> Option<&Validation> {
        self.validations.iter().find(|(name, _)| *name == algorithm).map(|(_, validation)| validation)
    }
}

/// An issuer's settings after their check, still without keys.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
    issuer: String,
    audience: String,
    tenant: TenantRule,
    tenants: BTreeSet<TenantId>,
    profile: TokenProfile,
    roles_claim: String,
    clients: Vec<String>,
}

impl Policy {
    /// An issuer without an address: its keys are here.
    pub(super) fn local(issuer: &str, audience: &str, tenant_claim: &str, keys: Arc<KeySource>) -> Issuer {
        Issuer {
            name: "development".to_owned(),
            issuer: issuer.into(),
            audience: audience.to_owned(),
            tenant: TenantRule::Claim(tenant_claim.to_owned()),
            tenants: BTreeSet::new(),
            profile: TokenProfile::Keycloak,
            roles_claim: String::new(),
            clients: Vec::new(),
            keys,
            validations: validations(issuer, audience),
        }
    }

    pub(super) fn with_keys(self, keys: Arc<KeySource>) -> Issuer {
        Issuer {
            validations: validations(&self.issuer, &self.audience),
            name: self.name,
            issuer: self.issuer.into(),
            audience: self.audience,
            tenant: self.tenant,
            tenants: self.tenants,
            profile: self.profile,
            roles_claim: self.roles_claim,
            clients: self.clients,
            keys,
        }
    }

    fn check(name: &str, config: &IssuerConfig) -> Result<Self, AuthConfigError> {
        let wrong = |setting: &str, why: &str| AuthConfigError(format!("auth.issuers.{name}.{setting} {why}"));
        let issuer = check_url(&config.issuer).map_err(|why| wrong("issuer", &why))?;
        if issuer.query().is_some() {
            return Err(wrong("issuer", "has a query"));
        }
        let endpoint = if config.jwks_url.is_empty() {
            let address = format!("{}/.well-known/openid-configuration", config.issuer.trim_end_matches('/'));
            Endpoint::Discovery { url: check_url(&address).map_err(|why| wrong("issuer", &why))?, issuer: config.issuer.clone() }
        } else {
            Endpoint::Keys(check_url(&config.jwks_url).map_err(|why| wrong("jwks_url", &why))?)
        };
        if config.audience.trim().is_empty() {
            return Err(wrong("audience", "is empty: a token for any other service would be accepted"));
        }
        let tenant = TenantRule::parse(&config.tenant, &config.issuer).map_err(|AuthConfigError(why)| wrong("tenant", &why))?;
        let mut tenants = BTreeSet::new();
        for text in &config.tenants {
            tenants.insert(TenantId::parse(text).map_err(|why| wrong("tenants", &format!("holds {text:?}, which {why}")))?);
        }
        if let TenantRule::Fixed(tenant) = &tenant
            && !tenants.is_empty()
            && !tenants.contains(tenant)
        {
            return Err(wrong("tenants", &format!("does not hold {tenant}, the only tenant of the rule {}", config.tenant)));
        }
        let roles_claim = if config.roles_claim.is_empty() { "roles" } else { &config.roles_claim };
        if config.profile == TokenProfile::Keycloak && !config.roles_claim.is_empty() {
            return Err(wrong("roles_claim", "is read with the profile rfc9068 only"));
        }
        if matches!(roles_claim, "scope" | "scp") {
            return Err(wrong("roles_claim", "is a scope: what a client asked for is not what a user may do"));
        }
        Ok(Self {
            name: name.to_owned(),
            endpoint,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            tenant,
            tenants,
            profile: config.profile,
            roles_claim: roles_claim.to_owned(),
            clients: config.clients.clone(),
        })
    }
}

fn validations(issuer: &str, audience: &str) -> Vec<(Algorithm, Validation)> {
    let validation = |algorithm| {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation
    };
    ALGORITHMS.into_iter().map(|algorithm| (algorithm, validation(algorithm))).collect()
}

/// Checks the issuers of the configuration, each by itself and with the others.
pub(super) fn policies(config: &AuthConfig) -> Result<Vec<Policy>, AuthConfigError> {
    let policies: Vec<Policy> = config.issuers.iter().map(|(name, issuer)| Policy::check(name, issuer)).collect::<Result<_, _>>()?;
    if policies.is_empty() {
        let hint = "no issuer is configured: set auth.issuers.NAME.issuer, .audience and .tenant, or use the command dev";
        return Err(AuthConfigError(hint.to_owned()));
    }
    for (index, one) in policies.iter().enumerate() {
        for other in policies.iter().skip(index + 1) {
            apart(one, other)?;
        }
    }
    Ok(policies)
}

/// A tenant belongs to one issuer: otherwise the administrator of one could make users of the other's tenant.
fn apart(one: &Policy, other: &Policy) -> Result<(), AuthConfigError> {
    let pair = format!("auth.issuers.{} and auth.issuers.{}", one.name, other.name);
    if one.issuer == other.issuer {
        return Err(AuthConfigError(format!("{pair} are the same issuer")));
    }
    let (Some(mine), Some(theirs)) = (one.tenant.reach(&one.tenants), other.tenant.reach(&other.tenants)) else {
        return Err(AuthConfigError(format!(
            "{pair} could name the same tenant: give each whose tenant is claim:NAME or organization a list tenants = [...]"
        )));
    };
    match mine.intersection(&theirs).next() {
        Some(tenant) => Err(AuthConfigError(format!("{pair} can both name the tenant {tenant}: a tenant belongs to one issuer"))),
        None => Ok(()),
    }
}
