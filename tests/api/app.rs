//! A server of its own for each test: the real router on a real socket over a real store, and a client that holds every answer it ever
//! sees against the API document.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use nworkflow_state::app::{App, Caches};
use nworkflow_state::cache::LocalTier;
use nworkflow_state::config::{self, Config, Source};
use nworkflow_state::domain::clock::Clock;
use nworkflow_state::domain::commit::CommitObserver;
use nworkflow_state::domain::id::{TenantId, UserId};
use nworkflow_state::http::auth::{Authenticator, DevelopmentClaims, DevelopmentIssuer};
use nworkflow_state::http::{server, surface};
use nworkflow_state::lifecycle::Lifecycle;
use nworkflow_state::service::Services;
use nworkflow_state::store::Store;
use nworkflow_state::store::sqlite::SqliteStore;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::faulty::{Faults, FaultyStore};
use crate::support::postgres::TestDatabase;

/// The API document as the server serves it.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_slice(&surface(true).unwrap().documents.openapi_31).unwrap());

/// A running server.
pub struct TestApp {
    pub address: SocketAddr,
    pub clock: Clock,
    pub store: Arc<dyn Store>,
    pub local: Arc<LocalTier>,
    pub services: Services,
    pub lifecycle: Lifecycle,
    /// What becomes of the calls of the store.
    pub faults: Faults,
    issuer: Option<DevelopmentIssuer>,
    client: reqwest::Client,
    _folder: TempDir,
    /// Dropped after the server: the database of a server on PostgreSQL.
    pub database: Option<TestDatabase>,
}

/// How a test's server differs from the default.
#[derive(Default)]
pub struct Options {
    pub settings: Vec<(String, String)>,
}

impl Options {
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn config(&self) -> Config {
        // A busy machine must not turn an answer into 504; tests of deadlines send their own.
        let flags = [("server.metrics_listen", ""), ("server.request_timeout_ms", "60000")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .chain(self.settings.clone())
            .collect();
        config::load(&Source { flags, ..Source::default() }).unwrap()
    }
}

impl TestApp {
    pub async fn sqlite() -> Self {
        Self::sqlite_with(Options::default()).await
    }

    pub async fn sqlite_with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, lifecycle) = (Clock::new(), Lifecycle::new());
        let config = options.config();
        let local = Arc::new(LocalTier::new(&config.cache, clock.clone()));
        let observer = Arc::clone(&local) as Arc<dyn CommitObserver>;
        let store = Arc::new(SqliteStore::open(folder.path(), &config.embedded, clock.clone(), &lifecycle, observer).await.unwrap());
        Self::over(store, local, options, folder, clock, lifecycle).await
    }

    pub async fn postgres() -> Self {
        Self::postgres_with(Options::default()).await
    }

    pub async fn postgres_with(options: Options) -> Self {
        let database = TestDatabase::migrated().await;
        let (clock, lifecycle) = (Clock::new(), Lifecycle::new());
        let store = Arc::new(database.store(clock.clone()).await);
        let local = no_local_tier(&options.config(), clock.clone());
        let mut app = Self::over(store, local, options, tempfile::tempdir().unwrap(), clock, lifecycle).await;
        app.database = Some(database);
        app
    }

    /// A server over this store, with the development issuer.
    pub async fn over(
        store: Arc<dyn Store>,
        local: Arc<LocalTier>,
        options: Options,
        folder: TempDir,
        clock: Clock,
        lifecycle: Lifecycle,
    ) -> Self {
        let config = options.config();
        let issuer = DevelopmentIssuer::load_or_create(folder.path()).unwrap();
        let again = DevelopmentIssuer::load(folder.path()).unwrap();
        let authenticator = Arc::new(Authenticator::new(&config.auth, Some(again), clock.clone(), &lifecycle).unwrap());
        let mut app = Self::with_authenticator(store, local, authenticator, config, folder, clock, lifecycle).await;
        app.issuer = Some(issuer);
        app
    }

    /// A second server with other settings over the store and the clock of this one. The switch of faults stays with this one.
    pub async fn beside(&self, options: Options) -> Self {
        let local = no_local_tier(&options.config(), self.clock.clone());
        Self::over(Arc::clone(&self.store), local, options, tempfile::tempdir().unwrap(), self.clock.clone(), Lifecycle::new()).await
    }

    /// A server over this store that believes whom the authenticator believes.
    pub async fn with_authenticator(
        store: Arc<dyn Store>,
        local: Arc<LocalTier>,
        authenticator: Arc<Authenticator>,
        config: Config,
        folder: TempDir,
        clock: Clock,
        lifecycle: Lifecycle,
    ) -> Self {
        let server_config = config.server.clone();
        let (store, faults) = FaultyStore::new(store);
        let store: Arc<dyn Store> = Arc::new(store);
        let caches = Caches::local_only(Arc::clone(&local), clock.clone(), &lifecycle);
        let app = App::with_store(config, Arc::clone(&store), caches, authenticator, clock.clone(), &lifecycle).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = lifecycle.clone();
        drop(lifecycle.spawn(async move { server::serve(listener, app.router, &server_config, &serving).await }));
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self {
            address,
            clock,
            store,
            local,
            services: app.services,
            lifecycle,
            faults,
            issuer: None,
            client,
            _folder: folder,
            database: None,
        }
    }

    /// A token of the development issuer.
    pub fn token(&self, tenant: &str, subject: &str, roles: &[&str]) -> String {
        let claims = DevelopmentClaims {
            tenant: TenantId::parse(tenant).unwrap(),
            subject: UserId::parse(subject).unwrap(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ttl_seconds: 3600,
        };
        self.issuer.as_ref().expect("a server with the development issuer").sign(&claims, &self.clock).unwrap()
    }

    /// A client of this server that sends this token.
    pub fn bearer(&self, token: String) -> Caller {
        Caller { base: format!("http://{}", self.address), client: self.client.clone(), token: Some(token) }
    }

    /// A client that sends no token.
    pub fn anonymous(&self) -> Caller {
        Caller { base: format!("http://{}", self.address), client: self.client.clone(), token: None }
    }

    /// A client with all permissions, user `admin` of the tenant.
    pub fn admin(&self, tenant: &str) -> Caller {
        self.bearer(self.token(tenant, "admin", &["nworkflow-admin"]))
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.lifecycle.stop();
        self.lifecycle.hard().cancel();
    }
}

/// A cache that is off: nothing tells it of the store's commits.
pub fn no_local_tier(config: &Config, clock: Clock) -> Arc<LocalTier> {
    let local = LocalTier::new(&config.cache, clock);
    local.set_enabled(false);
    Arc::new(local)
}

/// Someone who calls the server.
#[derive(Clone)]
pub struct Caller {
    base: String,
    client: reqwest::Client,
    token: Option<String>,
}

impl Caller {
    pub fn call(&self, method: Method, path: &str) -> Call {
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        }
        Call { caller: self.clone(), method, path: path.to_owned(), headers, body: None, checked: true }
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub fn head(&self, path: &str) -> Call {
        self.call(Method::HEAD, path)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    /// A POST of this JSON text.
    pub fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Call {
        self.call(Method::POST, path).body(body).header("content-type", "application/json")
    }

    /// A PATCH with this merge patch.
    pub fn merge(&self, path: &str, body: impl Into<Vec<u8>>) -> Call {
        self.call(Method::PATCH, path).body(body).header("content-type", "application/merge-patch+json")
    }

    /// A PATCH with this JSON Patch.
    pub fn operate(&self, path: &str, body: impl Into<Vec<u8>>) -> Call {
        self.call(Method::PATCH, path).body(body).header("content-type", "application/json-patch+json")
    }

    /// A PUT of this JSON text.
    pub fn put(&self, path: &str, body: impl Into<Vec<u8>>) -> Call {
        self.call(Method::PUT, path).body(body).header("content-type", "application/json")
    }
}

/// A request in the making.
#[must_use]
pub struct Call {
    caller: Caller,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    checked: bool,
}

impl Call {
    /// Adds a header, beside one of the same name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    /// Removes a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends a request that the document does not know, on purpose.
    pub fn unchecked(mut self) -> Self {
        self.checked = false;
        self
    }

    pub async fn send(self) -> Answer {
        let mut request =
            self.caller.client.request(self.method.clone(), format!("{}{}", self.caller.base, self.path)).headers(self.headers);
        if let Some(body) = self.body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{} {}: {error:?}", self.method, self.path));
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.unwrap();
        let answer = Answer { what: format!("{} {}", self.method, self.path), status, headers, body: body.to_vec() };
        if self.checked {
            answer.check_against_document(&self.method, &self.path);
        }
        answer
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub what: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error}: {}", self.what, self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn etag(&self) -> &str {
        self.header("etag").unwrap_or_else(|| panic!("{}: no ETag", self.what))
    }

    /// Asserts the status, and shows the body when it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.what, self.text());
        self
    }

    /// Asserts that this is a problem with this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.json()["code"], code, "{}: {}", answer.what, answer.text());
        answer
    }

    /// The status and the code of a problem (empty for anything else).
    pub fn verdict(&self) -> (u16, String) {
        let code = serde_json::from_slice::<Value>(&self.body).ok().and_then(|body| body["code"].as_str().map(str::to_owned));
        (self.status.as_u16(), code.filter(|_| self.status.as_u16() >= 400).unwrap_or_default())
    }

    fn check_against_document(&self, method: &Method, path: &str) {
        assert!(self.headers.contains_key("x-request-id"), "{}: no X-Request-Id", self.what);
        let status = self.status.as_u16();
        if status >= 400 && *method != Method::HEAD {
            let problem = self.json();
            let code = problem["code"].as_str().unwrap();
            assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.what);
            assert_eq!(problem["status"], status, "{}", self.what);
            assert_eq!(problem["type"], format!("/errors/{code}"), "{}", self.what);
            assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{}", self.what);
            assert_eq!(problem["instance"].as_str(), path.split('?').next(), "{}", self.what);
            assert_eq!(status == 401, self.headers.contains_key("www-authenticate"), "{}", self.what);
            assert!(status != 503 || self.headers.contains_key("retry-after"), "{}", self.what);
        }
        let Some(operation) = operation_of(method, path) else {
            assert!(matches!(status, 204 | 404 | 405 | 414 | 431), "{}: the document does not have it: {status}", self.what);
            return;
        };
        let declared = &operation["responses"][status.to_string()];
        assert!(declared.is_object(), "{}: answered {status}, which its operation does not declare: {}", self.what, self.text());
        for name in [
            "ETag",
            "Location",
            "Cache-Status",
            "Session-Expires",
            "Idempotency-Replayed",
            "Preference-Applied",
            "Retry-After",
            "Accept-Patch",
            "X-CSRF-Token",
        ] {
            let is_declared = declared["headers"].get(name).is_some();
            assert!(
                !self.headers.contains_key(name) || is_declared,
                "{}: answered {status} with {name}, which its operation does not declare",
                self.what
            );
        }
        if status >= 400 && *method != Method::HEAD {
            let code = self.json()["code"].clone();
            let codes = declared["x-codes"].as_array().unwrap();
            assert!(codes.contains(&code), "{}: answered {code}, which its operation does not declare (http/routes)", self.what);
        }
    }
}

/// The operation of the document that a request meets.
pub fn operation_of(method: &Method, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        parts.len() == segments.len()
            && !path.ends_with('/')
            && parts.iter().zip(&segments).all(|(part, segment)| part.starts_with('{') || part == segment)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let (_, item) = paths
        .iter()
        .find(|(template, _)| !template.contains('{') && fits(template))
        .or_else(|| paths.iter().find(|(template, _)| fits(template)))?;
    // Wherever GET answers, HEAD does; the document names it where a client would use it.
    item.get(method.as_str().to_lowercase()).or_else(|| item.get("get").filter(|_| *method == Method::HEAD))
}
