//! The outermost layer: what holds for every request, whatever its route.
//!
//! In order: an id; limits of the address and headers; a place among the requests at work, or 503 at once; the deadline; a net under
//! panics; the rest of a refused body; problems rendered; one log line and the metrics. Nothing here touches a store.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use axum::Extension;
use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use uuid::Uuid;

use super::AppState;
use super::body::SharedBody;
use super::extract::{RequestId, single_header};
use super::operation::Identified;
use super::problem::{self, Unrendered};
use crate::domain::id::uuid_v7;
use crate::domain::principal::Principal;
use crate::error::{Code, Error, Result};
use crate::telemetry::in_request;

/// Longest request id that is taken over from the client.
const MAX_REQUEST_ID_BYTES: usize = 128;
/// How much of a refused body is read, so that the client gets to read the answer.
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The layer.
pub(super) async fn edge(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&state, request.headers());
    let method = request.method().clone();
    let path = visible(request.uri().path());
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    request.extensions_mut().insert(id.clone());
    let identified = Identified::default();
    request.extensions_mut().insert(identified.clone());
    request.extensions_mut().insert(Extension(Arc::clone(&state.authenticator)));

    let admitted = in_request(Arc::clone(&id.text), admit(&state, request, next)).await;
    let mut response = admitted.unwrap_or_else(Error::into_response);

    if response.status().is_client_error() || response.status().is_server_error() {
        let error = match response.extensions_mut().remove::<Unrendered>() {
            Some(Unrendered(error)) => error,
            None => Arc::new(problem::of_status(response.status())),
        };
        problem::render(&mut response, &error, &path, &id.text);
        response.extensions_mut().insert(Unrendered(error));
    }
    // Whatever it says: neither a state nor that there is none may be shared, or believed later without asking.
    if method == Method::GET || method == Method::HEAD {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    if let Ok(value) = HeaderValue::from_str(&id.text) {
        response.headers_mut().insert("x-request-id", value);
    }
    let (route, caller, elapsed) = (route.as_deref(), identified.get(), started.elapsed());
    record(&state, &Line { id: &id, method: &method, path: &path, route, caller, elapsed }, &response);
    response
}

async fn admit(state: &AppState, request: Request, next: Next) -> Result<Response> {
    check_size(state, &request)?;
    check_framing(&request)?;
    let limit = deadline(state, &request)?;
    let is_probe = request.uri().path().starts_with("/health/");
    // Whoever asks whether to send the body is not asked for it only to have it thrown away.
    let waits = request.headers().contains_key(EXPECT);
    let (request, body) = share_body(request);
    let place = match Arc::clone(&state.places).try_acquire_owned() {
        Ok(place) => Some(place),
        Err(_) if is_probe => None,
        Err(_) => {
            // A client that still sends when the connection closes would not read why.
            if let Some(body) = body.filter(|_| !waits) {
                body.drain(DRAIN_BYTES, DRAIN_TIMEOUT).await;
            }
            return Err(Error::new(Code::Overloaded, "The server has too many requests at work.")
                .with_limit(state.config.server.max_in_flight as u64));
        }
    };
    let _in_flight = state.metrics.enter_request();
    let response = match tokio::time::timeout(limit, AssertUnwindSafe(next.run(request)).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Error::new(Code::Internal, "Something went wrong in the server.").with_cause("the handler panicked").into_response(),
        Err(_) => Error::new(Code::DeadlineExceeded, format!("The request took longer than {} ms.", limit.as_millis())).into_response(),
    };
    // Nothing is at work any more: a caller without a token must not keep others out by sending a refused body slowly.
    drop(place);
    // A body that came too slowly is not waited for once more.
    let is_late = response.extensions().get::<Unrendered>().is_some_and(|Unrendered(error)| error.code == Code::BodyTimeout);
    if let Some(body) = body.filter(|body| !is_late && (!waits || body.was_asked_for())) {
        body.drain(DRAIN_BYTES, DRAIN_TIMEOUT).await;
    }
    Ok(response)
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
        return Err(Error::new(Code::UriTooLong, format!("Path and query are longer than {} bytes.", server.max_uri_bytes))
            .with_limit(server.max_uri_bytes as u64));
    }
    if request.headers().len() > server.max_headers {
        let limit = server.max_headers;
        return Err(Error::new(Code::HeadersTooLarge, format!("There are more than {limit} headers.")).with_limit(limit as u64));
    }
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers > server.max_header_bytes {
        let limit = server.max_header_bytes;
        return Err(Error::new(Code::HeadersTooLarge, format!("The headers are larger than {limit} bytes.")).with_limit(limit as u64));
    }
    Ok(())
}

/// How long the request may take. A body has time of its own, unless the client set the whole time.
fn deadline(state: &AppState, request: &Request) -> Result<Duration> {
    let server = &state.config.server;
    let body = if request.body().is_end_stream() { Duration::ZERO } else { server.body_read_timeout_ms.into() };
    let limit = Duration::from(server.request_timeout_ms) + body;
    let Some(text) = single_header(request.headers(), "x-request-timeout-ms")? else { return Ok(limit) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<i64>().map(u64::try_from) {
        Ok(Ok(milliseconds @ 1..)) if digits => Ok(limit.min(Duration::from_millis(milliseconds))),
        _ => Err(Error::new(Code::InvalidHeader, format!("X-Request-Timeout-Ms must be an integer between 1 and {}.", i64::MAX))),
    }
}

/// A path as it may be shown: some clients send bytes beyond ASCII as they are.
fn visible(path: &str) -> String {
    utf8_percent_encode(path, CONTROLS).to_string()
}

/// Refuses heads that two readers may read differently (RFC 9112 sections 3.2 and 6.1).
fn check_framing(request: &Request) -> Result<()> {
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return Err(Error::new(Code::InvalidHeader, "The header Host must be there once."));
    }
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let is_chunked = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !is_chunked || codings.next().is_some() {
        return Err(Error::new(Code::InvalidHeader, "The header Transfer-Encoding must be chunked, once."));
    }
    Ok(())
}

/// The client's `X-Request-Id`, when it is one safe word; else a new UUIDv7.
fn request_id(state: &AppState, headers: &HeaderMap) -> RequestId {
    let safe = |text: &&str| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~:-".contains(&byte))
    };
    if let Some(text) = headers.get("x-request-id").and_then(|value| value.to_str().ok()).filter(safe) {
        let uuid = Uuid::try_parse(text).unwrap_or_else(|_| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..16]);
            uuid::Builder::from_custom_bytes(bytes).into_uuid()
        });
        return RequestId { text: text.into(), uuid };
    }
    let uuid = uuid_v7(state.clock.now());
    RequestId { text: uuid.to_string().into(), uuid }
}

/// What the log line says beside the answer.
struct Line<'a> {
    id: &'a RequestId,
    method: &'a Method,
    path: &'a str,
    route: Option<&'a str>,
    caller: Option<&'a Principal>,
    elapsed: Duration,
}

/// One line a request. Paths hold ids and names, percent-encoded; queries, bodies, headers and tokens never appear.
fn record(state: &AppState, line: &Line<'_>, response: &Response) {
    let status = response.status();
    state.metrics.record_request(line.route, line.method, status, line.elapsed);
    let error = response.extensions().get::<Unrendered>().map(|Unrendered(error)| &**error);
    let principal = line.caller;
    let (tenant, subject) = principal.map_or(("", ""), |principal| (principal.tenant.as_str(), principal.subject.as_str()));
    let client = principal.and_then(|principal| principal.client.as_deref()).unwrap_or_default();
    let actor = principal.and_then(|principal| principal.actor.as_deref()).unwrap_or_default();
    let code = error.map_or("", |error| error.code.name());
    if let Some(error) = error {
        state.metrics.record_problem(error.code.name());
    }
    match error.map(|error| error.code) {
        _ if principal.is_some() => state.metrics.record_authentication("accepted"),
        Some(refused) if refused.status() == 401 || refused == Code::TenantForbidden => state.metrics.record_authentication(refused.name()),
        _ => {}
    }
    let cause = error.and_then(Error::cause).unwrap_or_default();
    let duration_ms = line.elapsed.as_micros() as f64 / 1000.0;
    macro_rules! request_line {
        ($level:ident) => {
            tracing::$level!(
                request_id = %line.id.text, method = %line.method, route = line.route.unwrap_or_default(), path = line.path, status = status.as_u16(), duration_ms,
                tenant, subject, client, actor, code, cause, "request"
            )
        };
    }
    if status.is_server_error() { request_line!(error) } else { request_line!(info) }
}

/// The answer to a path that no route has.
pub(super) async fn no_route() -> Error {
    Error::new(Code::RouteNotFound, "No such route. /openapi.json lists all.")
}

/// The answer to a method that the path does not have; OPTIONS is answered with what it has. The framework adds `Allow`.
pub(super) async fn no_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        Error::new(Code::MethodNotAllowed, format!("The route does not have the method {method}.")).into_response()
    }
}
