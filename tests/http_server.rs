//! The accept loop: what a client can hold open, and how the server stops.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use nworkflow_state::config::{ServerConfig, Source, load};
use nworkflow_state::http::server::serve;
use nworkflow_state::lifecycle::Lifecycle;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer that no kernel buffers.
const LARGE_BYTES: usize = 64 * 1024 * 1024;

/// A running server whose route `/gate` announces each request and answers once it is let through.
struct Server {
    address: SocketAddr,
    lifecycle: Lifecycle,
    entered: Arc<Semaphore>,
    gate: Arc<Semaphore>,
}

impl Server {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let config = server_config(settings);
        let lifecycle = Lifecycle::new();
        let (entered, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (announce, wait) = (Arc::clone(&entered), Arc::clone(&gate));
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/large", get(async || vec![b'x'; LARGE_BYTES]))
            .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
            .route("/panic", get(panicking))
            .route(
                "/gate",
                get(async move || {
                    announce.add_permits(1);
                    wait.acquire().await.expect("the gate is never closed").forget();
                    "through"
                }),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("the listener has an address");
        lifecycle.supervise("accept", serve(listener, router, &config, &lifecycle));
        Self { address, lifecycle, entered, gate }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.expect("the server listens"))
    }

    async fn at_work(&self) {
        within("a request at work", self.entered.acquire()).await.expect("never closed").forget();
    }
}

async fn panicking() -> &'static str {
    panic!("a handler that fails")
}

fn server_config(settings: &[(&str, &str)]) -> ServerConfig {
    let flags = settings.iter().map(|(name, value)| (format!("server.{name}"), (*value).to_owned())).collect();
    load(&Source { flags, ..Source::default() }).expect("the settings are valid").server
}

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}

struct Client(TcpStream);

impl Client {
    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("the connection takes bytes");
    }

    async fn get(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
    }

    /// Reads one answer with a content length.
    async fn answer(&mut self) -> String {
        let read = async {
            let mut text = String::new();
            while !is_complete(&text) {
                let mut buffer = [0; 1024];
                let count = self.0.read(&mut buffer).await.expect("the connection can be read");
                assert_ne!(count, 0, "the connection ended within an answer: {text:?}");
                text.push_str(std::str::from_utf8(&buffer[..count]).expect("the answer is text"));
            }
            text
        };
        within("an answer", read).await
    }

    /// Reads until the server closes, and returns what came.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A reset is an end too: the server closes with bytes of ours unread.
        let _ = within("the end of the connection", self.0.read_to_end(&mut bytes)).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn is_complete(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("the answer has a length");
    body.len() >= length.parse::<usize>().expect("the length is a number")
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut() {
    let server = Server::start(&[("header_read_timeout_ms", "300")]).await;
    let mut client = server.connect().await;
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nhost: te").await;
    assert_eq!(client.rest().await, "", "an unfinished request has no answer");
    assert!(start.elapsed() >= Duration::from_millis(250), "it was cut for another reason");
}

#[tokio::test]
async fn a_silent_connection_is_cut() {
    let server = Server::start(&[("header_read_timeout_ms", "300")]).await;
    assert_eq!(server.connect().await.rest().await, "");
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_a_time_and_then_closed() {
    let server = Server::start(&[("header_read_timeout_ms", "300")]).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.get("/").await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_request_that_takes_longer_than_a_head_may_is_answered() {
    let server = Server::start(&[("header_read_timeout_ms", "50")]).await;
    let mut client = server.connect().await;
    client.get("/gate").await;
    server.at_work().await;
    // The silent connection's end shows that the time limit of heads has passed since.
    server.connect().await.rest().await;
    server.gate.add_permits(1);
    assert!(client.answer().await.ends_with("through"));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    // Heads up to twice the limits reach the routes, which answer with a problem; this is about those that do not.
    let server = Server::start(&[("max_header_bytes", "32768"), ("max_uri_bytes", "8192")]).await;
    let mut client = server.connect().await;
    client.send(&format!("GET / HTTP/1.1\r\nhost: test\r\nx-large: {}\r\n\r\n", "x".repeat(80_000))).await;
    assert!(client.answer().await.starts_with("HTTP/1.1 200"));
    let mut client = server.connect().await;
    client.send(&format!("GET / HTTP/1.1\r\nhost: test\r\nx-large: {}\r\n\r\n", "x".repeat(100_000))).await;
    assert!(client.rest().await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut() {
    let server = Server::start(&[("write_timeout_ms", "300"), ("max_connections", "1")]).await;
    let mut stalled = server.connect().await;
    stalled.get("/large").await;
    // The only place is free again once the first client is cut.
    let mut other = server.connect().await;
    other.get("/").await;
    assert!(other.answer().await.ends_with("hello"));
    assert!(stalled.rest().await.len() < LARGE_BYTES);
}

#[tokio::test]
async fn connections_above_the_cap_wait() {
    let server = Server::start(&[("max_connections", "1")]).await;
    let mut first = server.connect().await;
    first.get("/").await;
    first.answer().await;
    let mut second = server.connect().await;
    second.get("/").await;
    for _ in 0..50 {
        first.get("/").await;
        first.answer().await;
    }
    let unanswered = second.0.try_read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(unanswered, Err(std::io::ErrorKind::WouldBlock), "the second connection was served beside the first");
    drop(first);
    assert!(second.answer().await.ends_with("hello"));
}

#[tokio::test]
async fn requests_know_their_peer() {
    let server = Server::start(&[]).await;
    let mut client = server.connect().await;
    client.get("/peer").await;
    let address = client.0.local_addr().expect("the client has an address").to_string();
    assert!(client.answer().await.ends_with(&address));
}

#[tokio::test]
async fn a_panic_ends_its_connection_and_nothing_else() {
    let server = Server::start(&[]).await;
    let mut client = server.connect().await;
    client.get("/panic").await;
    assert_eq!(client.rest().await, "");
    let mut client = server.connect().await;
    client.get("/").await;
    assert!(client.answer().await.ends_with("hello"));
    assert!(!server.lifecycle.is_stopping());
}

#[tokio::test]
async fn idle_connections_close_at_once_when_the_server_stops() {
    let server = Server::start(&[("header_read_timeout_ms", "86400000")]).await;
    let mut silent = server.connect().await;
    let mut idle = server.connect().await;
    idle.get("/").await;
    idle.answer().await;
    server.lifecycle.stop();
    assert_eq!(idle.rest().await, "");
    assert_eq!(silent.rest().await, "");
    within("the end of all tasks", server.lifecycle.finished()).await;
    assert!(TcpStream::connect(server.address).await.is_err(), "the listener is still open");
    assert!(!server.lifecycle.has_failed());
}

#[tokio::test]
async fn a_request_at_work_is_answered_when_the_server_stops() {
    let server = Server::start(&[]).await;
    let mut client = server.connect().await;
    client.get("/gate").await;
    server.at_work().await;
    server.lifecycle.stop();
    // The next connection is refused as soon as the listener is closed; until then it may be accepted and closed.
    let closed = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("the end of the listener", closed).await;
    server.gate.add_permits(1);
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("through"), "{answer}");
    assert!(answer.contains("connection: close"), "the client is not told that the connection ends: {answer}");
    within("the end of all tasks", server.lifecycle.finished()).await;
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_by_a_hard_stop() {
    let server = Server::start(&[]).await;
    let mut client = server.connect().await;
    client.get("/gate").await;
    server.at_work().await;
    server.lifecycle.stop();
    server.lifecycle.hard().cancel();
    assert_eq!(client.rest().await, "");
    within("the end of all tasks", server.lifecycle.finished()).await;
}
