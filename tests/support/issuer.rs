//! An OpenID Connect issuer on loopback, which can also misbehave.
//!
//! ```ignore
//! let issuer = TestIssuer::start(clock.clone()).await;
//! let config = issuer.config();                       // for auth.issuers.NAME
//! let token = issuer.token().realm_roles(&["nworkflow-writer"]).build();
//! ```

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nworkflow_state::config::{IssuerConfig, TokenProfile};
use nworkflow_state::domain::clock::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::keys::SigningKey;
use super::tokens::TokenBuilder;

/// How the issuer answers a request for its keys or its discovery document.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// As an issuer does.
    Serve,
    /// Closes the connection without an answer.
    Away,
    /// Never answers.
    Hang,
    /// Sends one byte now and then, without end.
    Dribble,
    /// This status and a page.
    Status(u16),
    /// Status 302 to this address.
    Redirect(String),
    /// Status 200 with this body instead of the key set.
    Keys(String),
    /// Status 200 with this body instead of the discovery document.
    Discovery(String),
}

/// The issuer; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct TestIssuer {
    issuer: String,
    clock: Clock,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    issuer: String,
    behaviour: Mutex<Behaviour>,
    published: Mutex<Vec<Value>>,
    signing: Mutex<SigningKey>,
    key_requests: AtomicUsize,
    discovery_requests: AtomicUsize,
    other_requests: AtomicUsize,
}

impl TestIssuer {
    /// The issuer of realm `acme`, with one RSA key for signing and one for encryption, as Keycloak has them.
    pub(crate) async fn start(clock: Clock) -> Self {
        Self::start_realm("acme", clock).await
    }

    /// The issuer of that realm.
    pub(crate) async fn start_realm(realm: &str, clock: Clock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}/realms/{realm}", listener.local_addr().unwrap());
        let key = SigningKey::rsa("rsa-1");
        let encryption = json!({"kid": "enc-1", "kty": "RSA", "alg": "RSA-OAEP", "use": "enc", "n": key.jwk()["n"], "e": "AQAB"});
        let shared = Arc::new(Shared {
            issuer: issuer.clone(),
            behaviour: Mutex::new(Behaviour::Serve),
            published: Mutex::new(vec![key.jwk(), encryption]),
            signing: Mutex::new(key),
            key_requests: AtomicUsize::new(0),
            discovery_requests: AtomicUsize::new(0),
            other_requests: AtomicUsize::new(0),
        });
        let task = spawn(serve(listener, Arc::clone(&shared)));
        Self { issuer, clock, shared, task }
    }

    /// The claim `iss`.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The address of the key set.
    pub(crate) fn jwks_url(&self) -> String {
        format!("{}/protocol/openid-connect/certs", self.issuer)
    }

    /// Settings for this issuer: discovery, Keycloak's profile, tenant from the claim `tenant_id`.
    pub(crate) fn config(&self) -> IssuerConfig {
        IssuerConfig {
            issuer: self.issuer.clone(),
            jwks_url: String::new(),
            audience: "nworkflow-state".to_owned(),
            tenant: "claim:tenant_id".to_owned(),
            tenants: Vec::new(),
            profile: TokenProfile::Keycloak,
            roles_claim: String::new(),
            clients: Vec::new(),
        }
    }

    /// A user's token, signed with the present key.
    pub(crate) fn token(&self) -> TokenBuilder {
        TokenBuilder::user(&self.issuer, &self.key(), &self.clock)
    }

    /// The key that signs now.
    pub(crate) fn key(&self) -> SigningKey {
        self.shared.signing.lock().unwrap().clone()
    }

    /// Signs with a new key from now on; the old ones stay published.
    pub(crate) fn rotate(&self, key: SigningKey) {
        self.shared.published.lock().unwrap().insert(0, key.jwk());
        *self.shared.signing.lock().unwrap() = key;
    }

    /// Publishes these keys and no others.
    pub(crate) fn publish(&self, keys: Vec<Value>) {
        *self.shared.published.lock().unwrap() = keys;
    }

    /// Takes a key out of the published set.
    pub(crate) fn withdraw(&self, kid: &str) {
        self.shared.published.lock().unwrap().retain(|key| key["kid"] != kid);
    }

    /// Answers like this from now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    /// Requests for the key set so far.
    pub(crate) fn key_requests(&self) -> usize {
        self.shared.key_requests.load(Ordering::SeqCst)
    }

    /// Requests for the discovery document so far.
    pub(crate) fn discovery_requests(&self) -> usize {
        self.shared.discovery_requests.load(Ordering::SeqCst)
    }

    /// Requests for anything else so far.
    pub(crate) fn other_requests(&self) -> usize {
        self.shared.other_requests.load(Ordering::SeqCst)
    }
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's helper ends with the test's runtime")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        spawn(answer(stream, Arc::clone(&shared)));
    }
}

async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let discovery = path.ends_with("/.well-known/openid-configuration");
    let keys = path.ends_with("/protocol/openid-connect/certs");
    let counter = match (discovery, keys) {
        (true, _) => &shared.discovery_requests,
        (_, true) => &shared.key_requests,
        _ => &shared.other_requests,
    };
    counter.fetch_add(1, Ordering::SeqCst);

    let behaviour = shared.behaviour.lock().unwrap().clone();
    let mut location = String::new();
    let (status, body) = match behaviour {
        Behaviour::Away => return,
        Behaviour::Hang => return std::future::pending().await,
        Behaviour::Dribble => return dribble(stream).await,
        Behaviour::Status(status) => (status, "<html><body>Sorry</body></html>".to_owned()),
        Behaviour::Redirect(target) => {
            location = format!("Location: {target}\r\n");
            (302, String::new())
        }
        Behaviour::Keys(body) if keys => (200, body),
        Behaviour::Discovery(body) if discovery => (200, body),
        _ if discovery => {
            let certs = format!("{}/protocol/openid-connect/certs", shared.issuer);
            (200, json!({"issuer": shared.issuer, "jwks_uri": certs, "token_endpoint": "http://127.0.0.1:1/token"}).to_string())
        }
        _ if keys => (200, json!({"keys": *shared.published.lock().unwrap()}).to_string()),
        _ => (404, "{}".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status} Test\r\nContent-Type: application/json\r\nCache-Control: no-cache\r\n{location}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

async fn dribble(mut stream: TcpStream) {
    if stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.is_err() {
        return;
    }
    while stream.write_all(b"1\r\n \r\n").await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
