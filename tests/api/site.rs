//! A whole server that believes an issuer on loopback, over a store that counts its calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nworkflow_state::config::{AuthConfig, IssuerConfig, Milliseconds};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::NoObserver;
use nworkflow_state::http::auth::Authenticator;
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::store::sqlite::SqliteStore;
use nworkflow_state::store::{Backend, Store};

use super::app::{Caller, Options, TestApp, no_local_tier};
use crate::support::counted_store::CountedStore;
use crate::support::issuer::TestIssuer;
use crate::support::postgres::TestDatabase;

/// The server with its surroundings.
pub struct Site {
    pub app: TestApp,
    pub(crate) issuer: TestIssuer,
    pub authenticator: Arc<Authenticator>,
    pub(crate) store: Arc<CountedStore>,
    /// Dropped after the server.
    _database: Option<TestDatabase>,
}

impl Site {
    pub async fn on(backend: Backend) -> Self {
        Self::with(backend, |_, _| {}).await
    }

    /// On the embedded store, with the settings changed.
    pub async fn sqlite_with(change: impl FnOnce(&mut IssuerConfig, &mut AuthConfig)) -> Self {
        Self::with(Backend::Sqlite, change).await
    }

    async fn with(backend: Backend, change: impl FnOnce(&mut IssuerConfig, &mut AuthConfig)) -> Self {
        let (clock, lifecycle) = (Clock::new(), Lifecycle::new());
        let folder = tempfile::tempdir().unwrap();
        let mut config = Options::default().config();
        // The cache is off: the calls of the store are counted here.
        let local = no_local_tier(&config, clock.clone());
        let (store, database): (Arc<dyn Store>, _) = match backend {
            Backend::Sqlite => {
                let store = SqliteStore::open(folder.path(), &config.embedded, clock.clone(), &lifecycle, Arc::new(NoObserver)).await;
                (Arc::new(store.unwrap()), None)
            }
            Backend::Postgres => {
                let database = TestDatabase::migrated().await;
                (Arc::new(database.store(clock.clone()).await), Some(database))
            }
        };
        let store = CountedStore::over(store);
        let issuer = TestIssuer::start(clock.clone()).await;
        let mut settings = issuer.config();
        config.auth.jwks_timeout_ms = Milliseconds(400);
        change(&mut settings, &mut config.auth);
        config.auth.issuers.insert("test".to_owned(), settings);
        let authenticator = Arc::new(Authenticator::new(&config.auth, None, clock.clone(), &lifecycle).unwrap());
        let app = TestApp::with_authenticator(
            Arc::clone(&store) as Arc<dyn Store>,
            local,
            Arc::clone(&authenticator),
            config,
            folder,
            clock,
            lifecycle,
        )
        .await;
        let site = Self { app, issuer, authenticator, store, _database: database };
        site.wait_for("the first keys", || site.authenticator.status()[0].keys > 0).await;
        site
    }

    /// A caller with these realm roles, whose token lives for a day.
    pub fn caller(&self, tenant: &str, subject: &str, roles: &[&str]) -> Caller {
        self.app.bearer(self.token(tenant, subject, roles))
    }

    /// The token of [`Site::caller`].
    pub fn token(&self, tenant: &str, subject: &str, roles: &[&str]) -> String {
        self.issuer.token().tenant(tenant).subject(subject).realm_roles(roles).expires_in(86_400).build()
    }

    /// A caller with all permissions.
    pub fn admin(&self, tenant: &str) -> Caller {
        self.caller(tenant, "admin", &["nworkflow-admin"])
    }

    /// Polls until the condition holds; fails after ten seconds.
    pub async fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(10), "waited in vain for {what}: {:?}", self.authenticator.status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
