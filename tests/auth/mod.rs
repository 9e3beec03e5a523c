//! Authentication, against an issuer on loopback.

pub(crate) mod attacks;
mod development;
mod refresh;
mod roles;
mod startup;
mod tenants;
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use nworkflow_state::config::{AuthConfig, IssuerConfig, Milliseconds, Source, load};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::principal::Principal;
use nworkflow_state::error::{Code, Error};
use nworkflow_state::http::auth::{Authenticator, TENANT_HEADER};
use nworkflow_state::lifecycle::Lifecycle;

use crate::support::issuer::TestIssuer;

/// The defaults, with a short time limit for issuers that hang.
fn defaults() -> AuthConfig {
    let mut config = load(&Source::default()).unwrap().auth;
    config.jwks_timeout_ms = Milliseconds(400);
    config
}

/// An issuer, and an authenticator that knows it.
struct Rig {
    issuer: TestIssuer,
    clock: Clock,
    lifecycle: Lifecycle,
    authenticator: Arc<Authenticator>,
}

impl Rig {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With the issuer's settings changed.
    async fn start_with(change: impl FnOnce(&mut IssuerConfig)) -> Self {
        Self::start_both(|issuer, _| change(issuer)).await
    }

    async fn start_both(change: impl FnOnce(&mut IssuerConfig, &mut AuthConfig)) -> Self {
        let clock = Clock::new();
        let issuer = TestIssuer::start(clock.clone()).await;
        let rig = Self::over(issuer, clock, change);
        rig.wait_for("the first keys", || rig.authenticator.status()[0].keys > 0).await;
        rig
    }

    /// Over an issuer in whatever state; waits for nothing.
    fn over(issuer: TestIssuer, clock: Clock, change: impl FnOnce(&mut IssuerConfig, &mut AuthConfig)) -> Self {
        let mut config = defaults();
        let mut settings = issuer.config();
        change(&mut settings, &mut config);
        config.issuers.insert("test".to_owned(), settings);
        let lifecycle = Lifecycle::new();
        let authenticator = Authenticator::new(&config, None, clock.clone(), &lifecycle).unwrap();
        Self { issuer, clock, lifecycle, authenticator: Arc::new(authenticator) }
    }

    async fn call(&self, token: &str) -> Result<Arc<Principal>, Error> {
        self.authenticator.authenticate(&bearer(token)).await
    }

    async fn call_as(&self, token: &str, tenant: &str) -> Result<Arc<Principal>, Error> {
        let mut headers = bearer(token);
        headers.insert(TENANT_HEADER, tenant.parse().unwrap());
        self.authenticator.authenticate(&headers).await
    }

    async fn code(&self, token: &str) -> Option<Code> {
        self.call(token).await.err().map(|error| error.code)
    }

    /// Polls until the condition holds; fails after ten seconds.
    async fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(10), "waited in vain for {what}: {:?}", self.authenticator.status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Polls until the token is answered like this.
    async fn wait_for_code(&self, token: &str, code: Option<Code>) {
        let begun = Instant::now();
        while self.code(token).await != code {
            assert!(begun.elapsed() < Duration::from_secs(10), "waited in vain for {code:?}: {:?}", self.authenticator.status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())])
}
