//! Who gets in: limits of the address and headers, a place among the requests at work or 503 at once, the deadline, a net under panics, and
//! the rest of a refused body. All of it before a token is looked at.

use std::net::Ipv6Addr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::header::{CONNECTION, EXPECT, HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderValue, Method, Version};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::AppState;
use super::body::SharedBody;
use super::extract::single_header;
use super::heads::Doubt;
use super::problem::Unrendered;
use crate::config::ServerConfig;
use crate::deadline;
use crate::error::{Code, Error, Result};
use crate::places::{self, Held};

/// How much is read of what a client still sends behind a refusal, so that it gets to read the answer.
pub(super) const DRAIN_BYTES: usize = 16 * 1024 * 1024;
/// How long that may take.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long after its deadline a request is given up: until then whatever it waits for has the time to end by itself and to say so.
const GRACE: Duration = Duration::from_millis(100);

/// The layer.
pub(super) async fn admission(State(state): State<AppState>, request: Request, next: Next) -> Response {
    // To another reader what follows a CONNECT is what goes through the tunnel.
    let is_lost = request.extensions().get() == Some(&Doubt::Lost);
    let is_ambiguous = is_lost || request.method() == Method::CONNECT || check_framing(&request).is_err();
    let mut response = admit(&state, request, next).await.unwrap_or_else(Error::into_response);
    if is_ambiguous {
        // What stands behind such a head is not believed to be a request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn admit(state: &AppState, request: Request, next: Next) -> Result<Response> {
    // Whoever asks whether to send the body is not asked for it only to have it thrown away.
    let waits = request.headers().contains_key(EXPECT);
    let has_no_chunks = request.extensions().get() == Some(&Doubt::NoChunks);
    let (request, body) = share_body(request);
    let entrance = enter(state, &request, body.is_some());
    let (limit, place) = match entrance {
        Ok(entrance) => entrance,
        Err(error) => {
            // Behind what is no chunk nothing comes any more: the connection ends.
            if let Some(body) = body.filter(|_| !waits && !has_no_chunks) {
                drain(state, body);
            }
            return Err(error);
        }
    };
    let _in_flight = state.metrics.enter_request();
    let work = deadline::within(Some(Instant::now() + limit), AssertUnwindSafe(next.run(request)).catch_unwind());
    let work = places::within(Held::default(), async {
        // Held by whatever works for the request, also when nobody waits for it any more; by nothing else, for the body is still to be drained:
        // a caller without a token must not keep others out by sending a refused body slowly.
        places::hold(place);
        work.await
    });
    let mut response = match tokio::time::timeout(limit + GRACE, work).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Error::new(Code::Internal, "Something went wrong in the server.").with_cause("the handler panicked").into_response(),
        Err(_) => Error::new(Code::DeadlineExceeded, format!("The request took longer than {} ms.", limit.as_millis())).into_response(),
    };
    // A body that came too slowly is not waited for once more.
    let is_late = response.extensions().get::<Unrendered>().is_some_and(|Unrendered(error)| error.code == Code::BodyTimeout);
    match body {
        // The library closes the connection behind what is left of the body.
        Some(body) if is_late || (waits && !body.was_asked_for()) => {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Some(body) => drain(state, body),
        None => {}
    }
    Ok(response)
}

/// How long a request may take, and its place among those at work: what is for operators is answered also when there is none.
fn enter(state: &AppState, request: &Request, has_body: bool) -> Result<(Duration, Option<OwnedSemaphorePermit>)> {
    check_size(state, request)?;
    check_framing(request)?;
    let limit = time_limit(state, request, has_body)?;
    let is_for_operators = request.extensions().get() == Some(&ForOperators) || request.uri().path().starts_with("/health/");
    match Arc::clone(&state.places).try_acquire_owned() {
        Ok(place) => Ok((limit, Some(place))),
        Err(_) if is_for_operators => Ok((limit, None)),
        Err(_) => {
            Err(Error::new(Code::Overloaded, "The server has too many requests at work.")
                .with_limit(state.config.server.max_in_flight as u64))
        }
    }
}

/// An extension of requests that need no place: those to the metrics' own port, which is looked at when all places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ForOperators;

/// Reads the rest of a body while the answer is on its way: a client that still sends when the connection closes would not read why, and
/// one that sends nothing more is answered at once.
fn drain(state: &AppState, body: SharedBody) {
    if !body.is_end_stream() {
        state.lifecycle.spawn(body.drain(DRAIN_BYTES, DRAIN_TIMEOUT));
    }
}

fn share_body(request: Request) -> (Request, Option<SharedBody>) {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return (Request::from_parts(parts, body), None);
    }
    let shared = SharedBody::new(body);
    (Request::from_parts(parts, Body::new(shared.clone())), Some(shared))
}

fn check_size(state: &AppState, request: &Request) -> Result<()> {
    let server = &state.config.server;
    let uri = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if uri > server.max_uri_bytes {
        return Err(uri_too_long(server));
    }
    if request.headers().len() > server.max_headers {
        return Err(too_many_headers(server));
    }
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers > server.max_header_bytes { Err(headers_too_large(server)) } else { Ok(()) }
}

/// The refusal of a path and query that are too long.
pub(super) fn uri_too_long(server: &ServerConfig) -> Error {
    let limit = server.max_uri_bytes;
    Error::new(Code::UriTooLong, format!("Path and query are longer than {limit} bytes.")).with_limit(limit as u64)
}

/// The refusal of a head with too many headers.
pub(super) fn too_many_headers(server: &ServerConfig) -> Error {
    let limit = server.max_headers;
    Error::new(Code::HeadersTooLarge, format!("There are more than {limit} headers.")).with_limit(limit as u64)
}

/// The refusal of a head with too large headers.
pub(super) fn headers_too_large(server: &ServerConfig) -> Error {
    let limit = server.max_header_bytes;
    Error::new(Code::HeadersTooLarge, format!("The headers are larger than {limit} bytes.")).with_limit(limit as u64)
}

/// How long the request may take. A body has time of its own, unless the client set the whole time.
fn time_limit(state: &AppState, request: &Request, has_body: bool) -> Result<Duration> {
    let server = &state.config.server;
    let body = if has_body { server.body_read_timeout_ms.into() } else { Duration::ZERO };
    let limit = Duration::from(server.request_timeout_ms) + body;
    let Some(text) = single_header(request.headers(), "x-request-timeout-ms")? else { return Ok(limit) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<i64>().map(u64::try_from) {
        Ok(Ok(milliseconds @ 1..)) if digits => Ok(limit.min(Duration::from_millis(milliseconds))),
        _ => Err(Error::new(Code::InvalidHeader, format!("X-Request-Timeout-Ms must be an integer between 1 and {}.", i64::MAX))),
    }
}

/// Refuses heads that two readers may read differently (RFC 9112 sections 3.2 and 6.1). Some of it only the raw
/// head shows (`heads.rs`).
fn check_framing(request: &Request) -> Result<()> {
    match request.extensions().get() {
        Some(Doubt::BareLineFeed) => return Err(Error::new(Code::InvalidRequest, "Each line of the head must end with CR LF.")),
        Some(Doubt::LengthBesideChunks) => {
            return Err(Error::new(Code::InvalidRequest, "The head must not have both Content-Length and Transfer-Encoding."));
        }
        Some(Doubt::Fragment) => return Err(Error::new(Code::InvalidRequest, "The target of the request must not have a fragment.")),
        Some(Doubt::NoChunks) => return Err(Error::new(Code::InvalidRequest, "The chunks of the body are malformed.")),
        Some(Doubt::Lost) | None => {}
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Err(Error::new(Code::InvalidHeader, "The header Host must be there once."));
    }
    let host = request.headers().get(HOST).map_or(Some(""), |host| host.to_str().ok());
    if !host.is_some_and(is_host) || request.uri().authority().is_some_and(|authority| !is_host(authority.as_str())) {
        return Err(Error::new(Code::InvalidHeader, "The host of the request must be a name or an address, and maybe a port."));
    }
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let is_chunked = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !is_chunked || codings.next().is_some() {
        return Err(Error::new(Code::InvalidHeader, "The header Transfer-Encoding must be chunked, once."));
    }
    Ok(())
}

/// Whether this is a host, and maybe a port (RFC 9110 section 7.2). A client that has none to name sends an empty one.
fn is_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else { return text.is_empty() };
    let port = text.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    let is_port = port.is_none_or(|port| port.is_empty() || (port.parse::<u16>().is_ok() && !port.starts_with('+')));
    // In brackets there are addresses alone.
    let bracketed = authority.host().strip_prefix('[').map(|host| host.trim_end_matches(']'));
    !authority.host().is_empty() && !text.contains('@') && is_port && bracketed.is_none_or(|address| address.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_maybe_a_port() {
        for good in [
            "",
            "a",
            "A.example",
            "a.example:8080",
            "a:",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:443",
            "my_host",
            "xn--grsse-lva.de",
            "a.",
            "a:65535",
        ] {
            assert!(is_host(good), "{good:?}");
        }
        for bad in [
            "a b", "a/b", "a?b", "a#b", "u@a", "u:p@a", "a:b", "a:1:2", "::1", "[::1", "[a]", "[::1]x", "[::1]:x", "a:65536", "a:+1",
            "a:-1", "a\\b", "<a>", "a\"b", "a%20b", "a%", "http://a", " ", ":80", "größe", "[v1.x]", "a\t",
        ] {
            assert!(!is_host(bad), "{bad:?}");
        }
    }
}
