//! The outermost layer: what holds for every request, whatever its route.
//!
//! In order: an id and who calls; what the layers below answer (`admission.rs`); problems rendered; what every answer says (`manners.rs`);
//! one log line and the metrics. Nothing here touches a store.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Extension;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{ALLOW, CACHE_CONTROL};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use uuid::Uuid;

use super::AppState;
use super::answer;
use super::extract::{RequestId, asks_store};
use super::manners;
use super::operation::Identified;
use super::peer::Peer;
use super::problem::{self, Unrendered};
use crate::domain::id::uuid_v7;
use crate::error::{Code, Error};
use crate::telemetry::in_request;

/// Longest request id that is taken over from the client.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Longest path that is repeated to the client: of a longer one the client knows it, and the answer stays short.
const MAX_INSTANCE_BYTES: usize = 2048;

/// Longest method that is repeated to the client; the registered ones are shorter.
const MAX_SHOWN_METHOD_BYTES: usize = 32;

/// All methods that some route has.
const ALL_METHODS: &str = "GET,HEAD,PUT,POST,PATCH,DELETE,OPTIONS";

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
    request.extensions_mut().insert(Extension(state.clone()));

    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let peer = connected.map(|address| Peer::of(&state.config.server, address, request.headers()));
    let is_read = method == Method::GET || method == Method::HEAD;
    let wants_csrf_token = is_read && manners::wants_csrf_token(request.headers());
    let asks_store = asks_store(request.headers());
    let mut record = Record {
        state: state.clone(),
        id: id.clone(),
        method,
        path: path.clone(),
        route,
        identified,
        started,
        address: peer.map(|peer| peer.address),
        is_told: false,
    };

    let mut response = in_request(Arc::clone(&id.text), next.run(request)).await;

    if response.status().is_client_error() || response.status().is_server_error() {
        let error = match response.extensions_mut().remove::<Unrendered>() {
            Some(Unrendered(error)) => error,
            None => Arc::new(problem::of_status(response.status())),
        };
        let instance = if path.len() > MAX_INSTANCE_BYTES { "" } else { &path };
        problem::render(&mut response, &error, instance, &id.text);
        response.extensions_mut().insert(Unrendered(error));
    }
    // Whatever it says: neither a state nor that there is none may be shared, or believed later without asking.
    if is_read {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    if asks_store {
        answer::asked_the_store(response.headers_mut());
    }
    if wants_csrf_token {
        response.headers_mut().insert(manners::CSRF_TOKEN, HeaderValue::from_static(manners::NO_CSRF_TOKEN));
    }
    manners::protect(&state.config.server, peer.is_some_and(|peer| peer.is_secure), response.headers_mut());
    if let Ok(value) = HeaderValue::from_str(&id.text) {
        response.headers_mut().insert("x-request-id", value);
    }
    let error = response.extensions().get::<Unrendered>().map(|Unrendered(error)| &**error);
    record.tell(response.status(), error);
    response
}

/// Every path has OPTIONS, which the framework does not know of. It adds `Allow` behind all layers, so this comes after it.
pub(super) fn allow_options(headers: &mut HeaderMap) {
    let Some(methods) = headers.get(ALLOW).and_then(|methods| methods.to_str().ok()) else { return };
    if methods.split(',').all(|method| method.trim() != Method::OPTIONS.as_str())
        && let Ok(methods) = HeaderValue::from_str(&format!("{methods}{}OPTIONS", if methods.is_empty() { "" } else { "," }))
    {
        headers.insert(ALLOW, methods);
    }
}

/// A path as it may be shown: some clients send bytes beyond ASCII as they are.
fn visible(path: &str) -> String {
    utf8_percent_encode(path, CONTROLS).to_string()
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

/// The status of a request that was not answered, as proxies log it: its connection ended first, or the server did.
const CONNECTION_ENDED: u16 = 499;

/// What is told of a request when it has ended, however that was: its work may be done although nobody reads the answer.
struct Record {
    state: AppState,
    id: RequestId,
    method: Method,
    path: String,
    route: Option<String>,
    identified: Identified,
    started: Instant,
    /// Whose request it is, as far as trusted proxies tell.
    address: Option<IpAddr>,
    is_told: bool,
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell(StatusCode::from_u16(CONNECTION_ENDED).unwrap_or_default(), None);
        }
    }
}

impl Record {
    /// One line a request. Paths hold ids and names, percent-encoded; queries, bodies, headers and tokens never appear.
    fn tell(&mut self, status: StatusCode, error: Option<&Error>) {
        self.is_told = true;
        let (metrics, elapsed) = (&self.state.metrics, self.started.elapsed());
        metrics.record_request(self.route.as_deref(), &self.method, status, elapsed);
        let principal = self.identified.get();
        let (tenant, subject) = principal.map_or(("", ""), |principal| (principal.tenant.as_str(), principal.subject.as_str()));
        let client = principal.and_then(|principal| principal.client.as_deref()).unwrap_or_default();
        let actor = principal.and_then(|principal| principal.actor.as_deref()).unwrap_or_default();
        let code = error.map_or("", |error| error.code.name());
        if let Some(error) = error {
            metrics.record_problem(error.code.name());
        }
        match error.map(|error| error.code) {
            _ if principal.is_some() => metrics.record_authentication("accepted"),
            Some(refused) if refused.status() == 401 || refused == Code::TenantForbidden => metrics.record_authentication(refused.name()),
            _ => {}
        }
        let cause = error.and_then(Error::cause).unwrap_or_default();
        let address = self.address.map(|address| address.to_string()).unwrap_or_default();
        let (route, duration_ms) = (self.route.as_deref().unwrap_or_default(), elapsed.as_micros() as f64 / 1000.0);
        macro_rules! request_line {
            ($level:ident) => {
                tracing::$level!(
                    request_id = %self.id.text, method = %self.method, route, path = self.path, status = status.as_u16(), duration_ms, address, tenant,
                    subject, client, actor, code, cause, "request"
                )
            };
        }
        if status.is_server_error() { request_line!(error) } else { request_line!(info) }
    }
}

/// The answer to a path that no route has; `OPTIONS *` is about the server as a whole (RFC 9110 section 9.3.7).
pub(super) async fn no_route(request: Request) -> Response {
    if request.method() == Method::OPTIONS && request.uri().path() == "*" {
        return (StatusCode::NO_CONTENT, [(ALLOW, ALL_METHODS)]).into_response();
    }
    Error::new(Code::RouteNotFound, "No such route. /openapi.json lists all.").into_response()
}

/// The answer to a method that the path does not have; OPTIONS is answered with what it has. The framework adds `Allow`.
pub(super) async fn no_method(State(state): State<AppState>, path: Option<MatchedPath>, method: Method) -> Response {
    if method != Method::OPTIONS {
        // Some clients send anything as a method.
        let name = if method.as_str().len() > MAX_SHOWN_METHOD_BYTES { "that was sent" } else { method.as_str() };
        return Error::new(Code::MethodNotAllowed, format!("The route does not have the method {name}.")).into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(accept_patch) = path.and_then(|path| state.patches.get(path.as_str()).copied()) {
        response.headers_mut().insert("accept-patch", HeaderValue::from_static(accept_patch));
    }
    response
}
