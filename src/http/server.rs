//! The accept loop and the life of a connection: HTTP/1.1 with a limit on everything that a client can hold open.
//!
//! It is our own because the framework's has no time limit on heads, no cap on connections, and a graceful stop that waits for idle
//! connections without end.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use futures_util::FutureExt as _;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::Service as _;

use super::addresses::Addresses;
use super::edge::allow_options;
use super::heads::Heads;
use super::refusal::{Maker, Refusals};
use super::stall::StallLimit;
use crate::config::ServerConfig;
use crate::lifecycle::Lifecycle;

/// The least buffer that the HTTP library takes.
const MIN_BUFFER_BYTES: usize = 8192;
/// First pause after an accept that failed for want of a resource.
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause; each failure doubles it up to here.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What is served.
#[derive(Clone)]
pub struct Site {
    /// Answers requests.
    pub router: Router,
    /// Says why something is no request; without it the HTTP library's bare answer stays.
    pub refusals: Option<Router>,
}

impl From<Router> for Site {
    fn from(router: Router) -> Self {
        Self { router, refusals: None }
    }
}

/// Serves the site on the listener. The future ends when the lifecycle stops softly and the listener is closed; each connection is a
/// task of the lifecycle, which ends after the request at work (idle: at once), or is cut when the lifecycle stops hard.
///
/// Limits, all from the configuration: connections (further ones wait in the kernel's queue), connections of one address (further ones are
/// closed), bytes and time of a request's head (the time also bounds how long an idle connection is kept), time in which a client takes
/// next to nothing of an answer.
///
/// Requests carry the peer's address as [`ConnectInfo`].
pub fn serve<S: Into<Site>>(
    listener: TcpListener,
    site: S,
    config: &ServerConfig,
    lifecycle: &Lifecycle,
) -> impl Future<Output = ()> + use<S> {
    let head = head_bytes(config);
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from(config.header_read_timeout_ms))
        .max_headers(2 * config.max_headers)
        .max_header_size(head)
        .max_buf_size(head)
        // Who says that nothing more comes (RFC 9112 section 9.6) is answered. Nor does the end of a connection cut a request off in the middle.
        .half_close(true);
    let connections = Arc::new(Semaphore::new(config.max_connections));
    let addresses = Addresses::new(config.max_connections_per_address);
    let config = Arc::new(config.clone());
    let site = site.into();
    let lifecycle = lifecycle.clone();
    async move {
        loop {
            let next = async {
                // The semaphore is never closed, so there always comes a permit.
                let permit = Arc::clone(&connections).acquire_owned().await;
                (permit, accept(&listener).await)
            };
            let (permit, (stream, peer)) = tokio::select! {
                biased;
                () = lifecycle.soft().cancelled() => return,
                next = next => next,
            };
            let Some(counted) = addresses.enter(&config, peer.ip()) else {
                tracing::debug!(%peer, "an address holds too many connections: this one is closed");
                continue;
            };
            let (site, builder, config, of_connection) = (site.clone(), builder.clone(), Arc::clone(&config), lifecycle.clone());
            lifecycle.spawn(async move {
                let (_permit, _counted) = (permit, counted);
                let connection = serve_connection(stream, peer, site, builder, &config, of_connection);
                // The panic itself is in the log by now. It ends this connection and nothing else.
                let _ = AssertUnwindSafe(connection).catch_unwind().await;
            });
        }
    }
}

/// The next connection. An error of one connection (its client went away) is passed over; a lack of descriptors or memory is waited out,
/// since an immediate second try would only burn the processor that the connections at work need to end.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = MIN_PAUSE;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // As u64: a u128 would be a text in the log.
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(%error, pause_ms, "no connection can be accepted");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The library's limit of a head, and of what it has read and not used: above the limits of `admission.rs`; what does not even fit here is refused
/// from below. It can have twice as much at hand.
fn head_bytes(config: &ServerConfig) -> usize {
    2 * (config.max_header_bytes + config.max_uri_bytes) + MIN_BUFFER_BYTES
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, site: Site, builder: Builder, config: &ServerConfig, lifecycle: Lifecycle) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "TCP_NODELAY cannot be set");
    }
    let heads = Heads::new(2 * head_bytes(config));
    let maker = site.refusals.map(|router| Maker { router, peer, heads: heads.clone() });
    let router = site.router;
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(doubt) = heads.became_request(request.body().size_hint().exact()) {
            request.extensions_mut().insert(doubt);
        }
        request.extensions_mut().insert(ConnectInfo(peer));
        // A router is always ready.
        let answer = router.clone().call(request);
        async move {
            let mut answer = answer.await?;
            allow_options(answer.headers_mut());
            if answer.status() == StatusCode::NOT_MODIFIED {
                // The framework takes the length from the body, and there it would be that of the 200 (RFC 9110 section 8.6).
                answer.headers_mut().remove(CONTENT_LENGTH);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let io = TokioIo::new(Refusals::new(StallLimit::new(stream, config.write_timeout_ms.into()), maker));
    let mut connection = pin!(builder.serve_connection(io, service));
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        () = lifecycle.soft().cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                result = connection => result,
                () = lifecycle.hard().cancelled() => {
                    tracing::warn!(%peer, "a connection is cut at the end of the shutdown");
                    return;
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "a connection ended with an error");
    }
}
