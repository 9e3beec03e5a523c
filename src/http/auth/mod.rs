//! Who makes a request: from a bearer token to a principal.
//!
//! A token is believed when its signature fits a key of the configured issuer that it names, and every claim that is read here is of
//! the right type and value. Nothing in a token ever causes a request: the unverified `iss` only selects among configured issuers, and
//! keys come from configured addresses. No store is touched, so a flood of bad tokens costs no connection.

mod bearer;
mod cache;
mod claims;
mod counters;
mod development;
mod explain;
mod fetch;
pub(crate) mod fuzzing;
mod issuer;
mod jwks;
mod keys;
mod roles;
mod tenant;
mod token;

use std::sync::Arc;

use http::HeaderMap;
use jsonwebtoken::errors::ErrorKind;

use crate::config::{AuthConfig, check_auth_numbers};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::principal::Principal;
use crate::error::{Code, Error};
use crate::lifecycle::Lifecycle;

use bearer::{Selection, invalid};
use cache::{TokenCache, Verified};
use claims::{Claims, text_of};
use issuer::{Issuer, Policy};
use keys::{Found, KeySet, KeySource};
use roles::RoleTable;
use token::Token;

pub use bearer::TENANT_HEADER;
pub use counters::{AuthCounters, REFUSALS};
pub use development::{
    DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, DEVELOPMENT_KEY_FILE, DevelopmentClaims, DevelopmentIssuer, DevelopmentKeyError,
};
pub use issuer::AuthConfigError;
pub use keys::IssuerStatus;

/// Turns request headers into principals.
#[derive(Debug)]
pub struct Authenticator {
    issuers: Vec<Issuer>,
    roles: RoleTable,
    cache: TokenCache,
    cache_seconds: i64,
    leeway_seconds: i64,
    max_token_bytes: usize,
    clock: Clock,
    counters: Arc<AuthCounters>,
}

impl Authenticator {
    /// Checks the configuration and begins to fetch the issuers' keys; an issuer that is away does not stop the start.
    ///
    /// With a development issuer that one is used alone: it may name any tenant, and a tenant belongs to one issuer. The caller makes
    /// sure that the server then listens on loopback only. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A setting that would let in what it should not, or that cannot work; it is named.
    pub fn new(
        config: &AuthConfig,
        development: Option<DevelopmentIssuer>,
        clock: Clock,
        lifecycle: &Lifecycle,
    ) -> Result<Self, AuthConfigError> {
        check_auth_numbers(config).map_err(AuthConfigError)?;
        let roles = RoleTable::new(&config.roles)?;
        let counters = Arc::new(AuthCounters::default());
        let issuers = match development {
            Some(development) => {
                if !config.issuers.is_empty() {
                    tracing::warn!("the development issuer is used alone: tokens of the configured issuers are refused");
                }
                let keys = KeySource::fixed("development", development.keys()?, clock.clone());
                vec![Policy::local(DEVELOPMENT_ISSUER, DEVELOPMENT_AUDIENCE, development::TENANT_CLAIM, keys)]
            }
            None => remote_issuers(config, &clock, lifecycle, &counters)?,
        };
        Ok(Self {
            issuers,
            roles,
            cache: TokenCache::new(config.token_cache_entries),
            cache_seconds: seconds(config.token_cache_seconds),
            leeway_seconds: seconds(config.leeway_seconds),
            max_token_bytes: config.max_token_bytes,
            clock,
            counters,
        })
    }

    /// The principal of a request.
    ///
    /// # Errors
    /// 401 `token_missing`, `token_invalid`, `token_expired`, `tenant_missing`; 403 `tenant_forbidden`. The detail says which check
    /// failed and what to do; it never repeats anything of the token, and it is the same for a key that is not known and for a
    /// signature that does not fit.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Principal>, Error> {
        let result = self.check(headers).await;
        match &result {
            Ok((_, from_cache)) => self.counters.count_accepted(*from_cache),
            Err(error) => self.counters.count_refused(error.code),
        }
        result.map(|(principal, _)| principal)
    }

    /// What is known about each issuer's keys, in the order of their names.
    #[must_use]
    pub fn status(&self) -> Vec<IssuerStatus> {
        self.issuers.iter().map(|issuer| issuer.keys.status()).collect()
    }

    /// The counts, which go on while they are read.
    #[must_use]
    pub fn counters(&self) -> &Arc<AuthCounters> {
        &self.counters
    }

    async fn check(&self, headers: &HeaderMap) -> Result<(Arc<Principal>, bool), Error> {
        let credentials = bearer::read(headers, self.max_token_bytes)?;
        let now = self.clock.now();
        let cache_key = match credentials.selection {
            Selection::None => Some(None),
            Selection::Tenant(tenant) => Some(Some(tenant)),
            Selection::Unusable => None,
        };
        if let Some(selection) = cache_key {
            let generation = |issuer: usize| self.issuers.get(issuer).and_then(|issuer| issuer.keys.generation(now));
            if let Some(principal) = self.cache.get(credentials.token, selection, now, generation) {
                return Ok((principal, true));
            }
        }

        let token = Token::parse(credentials.token)?;
        let claims = token.claims();
        let (index, issuer) = self.select(&claims)?;
        let set = match issuer.keys.find(&token.kid).await {
            Found::Known(set) => set,
            Found::Unknown => return Err(bad_signature()),
            Found::NoKeys => return Err(invalid("The keys of the token's issuer are not available now: try again later.")),
        };
        let now = self.clock.now();
        let principal = Arc::new(self.verify(issuer, &set, credentials.token, &token, credentials.selection, now)?);
        if let Some(selection) = cache_key {
            let fresh_until = principal.expires_at.min(now.plus_seconds(self.cache_seconds));
            if now < fresh_until {
                let verified = Verified { principal: Arc::clone(&principal), issuer: index, generation: set.generation, fresh_until };
                self.cache.insert(credentials.token, selection, verified);
            }
        }
        Ok((principal, false))
    }

    /// The configured issuer that the token names, byte for byte.
    fn select(&self, claims: &Claims<'_>) -> Result<(usize, &Issuer), Error> {
        let named = claims.raw("iss").and_then(text_of).ok_or_else(|| invalid("The token has no claim iss that is a string."))?;
        let found = self.issuers.iter().enumerate().find(|(_, issuer)| *issuer.issuer == *named);
        found.ok_or_else(|| invalid("The claim iss is none of the configured issuers, which are compared byte for byte."))
    }

    /// Signature first, so that nobody learns from an answer which claims would have been accepted without one.
    fn verify(
        &self,
        issuer: &Issuer,
        set: &KeySet,
        text: &str,
        token: &Token,
        selection: Selection<'_>,
        now: Timestamp,
    ) -> Result<Principal, Error> {
        let key = set.get(&token.kid).filter(|key| key.allows(token.algorithm)).ok_or_else(bad_signature)?;
        let validation = issuer.validation(token.algorithm).ok_or_else(bad_signature)?;
        let verdict = jsonwebtoken::decode::<serde::de::IgnoredAny>(text, &key.decoding, validation);
        if verdict.as_ref().is_err_and(|error| !is_about_claims(error.kind())) {
            return Err(bad_signature());
        }
        let claims = token.claims();
        let checked = claims::check(issuer, token.header_type, &claims, now, self.leeway_seconds)?;
        // The checks above say it in words; what they might miss, the library's verdict still refuses.
        if verdict.is_err() {
            return Err(invalid("A claim of the token is missing or of the wrong type."));
        }
        let tenant = issuer.tenant.tenant(&claims, selection)?;
        if !issuer.tenants.is_empty() && !issuer.tenants.contains(&tenant) {
            return Err(invalid("The token names a tenant that its issuer may not name: it is missing in the issuer's list of tenants."));
        }
        let roles = claims::roles(issuer, &claims)?;
        Ok(Principal {
            tenant,
            issuer: Arc::clone(&issuer.issuer),
            subject: checked.subject,
            client: checked.client.map(Into::into),
            actor: checked.actor.map(Into::into),
            permissions: self.roles.grant(roles.iter().map(String::as_str)),
            expires_at: checked.expires_at,
        })
    }
}

fn remote_issuers(
    config: &AuthConfig,
    clock: &Clock,
    lifecycle: &Lifecycle,
    counters: &Arc<AuthCounters>,
) -> Result<Vec<Issuer>, AuthConfigError> {
    let times = keys::RefreshTimes {
        refresh: seconds(config.jwks_refresh_seconds),
        stale: seconds(config.jwks_stale_seconds),
        cooldown: seconds(config.jwks_cooldown_seconds),
    };
    let mut issuers = Vec::new();
    for policy in issuer::policies(config)? {
        let fetcher = fetch::Fetcher::new(policy.endpoint.clone(), config.jwks_timeout_ms.into(), config.jwks_max_bytes)
            .map_err(|why| AuthConfigError(format!("auth.issuers.{}: {why}", policy.name)))?;
        let keys = KeySource::remote(&policy.name, fetcher, times, clock.clone(), lifecycle, Arc::clone(counters));
        issuers.push(policy.with_keys(keys));
    }
    Ok(issuers)
}

/// One answer for an unknown key, a key of another type and a signature that does not fit: which keys there are is nobody's business.
fn bad_signature() -> Error {
    invalid("No key of the token's issuer fits its signature: get a new token.")
}

fn is_about_claims(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::MissingRequiredClaim(_)
            | ErrorKind::InvalidClaimFormat(_)
            | ErrorKind::InvalidIssuer
            | ErrorKind::InvalidAudience
            | ErrorKind::InvalidSubject
    )
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// The value of `WWW-Authenticate` for a 401 (RFC 6750 section 3): without a reason where no token came.
#[must_use]
pub const fn challenge(code: Code) -> &'static str {
    match code {
        Code::TokenInvalid | Code::TokenExpired | Code::TenantMissing => "Bearer error=\"invalid_token\"",
        _ => "Bearer",
    }
}
