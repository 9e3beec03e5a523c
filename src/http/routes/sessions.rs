//! `/sessions`: begin, save, load, patch, extend, end, list.

use axum::extract::State as FromState;
use axum::response::Response;
use http::HeaderValue;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::domain::clock::Timestamp;
use crate::domain::document::{Fault, FaultKind, Object};
use crate::domain::id::SessionId;
use crate::domain::principal::Permission;
use crate::domain::session::{SessionInput, SessionRecord};
use crate::domain::variable::parse_ttl_seconds;
use crate::error::{Code, Error, Result};
use crate::http::AppState;
use crate::http::answer;
use crate::http::extract::{Caller, ReadHeaders, SessionPath};
use crate::http::operation::{Api, Operation};
use crate::http::query::Query;
use crate::http::routes::patches::{JsonPatch, SessionMergePatch};
use crate::http::write::{NoBody, SmallBody, SmallPatch, Write};
use crate::service::{Done, Rendered};

const READ: &[Permission] = &[Permission::SessionsRead];
const WRITE: &[Permission] = &[Permission::SessionsWrite];
const PATH: &[Code] = &[Code::InvalidId, Code::InvalidPath];
const DOCUMENT: &[Code] = &[Code::OutOfRange, Code::SessionNotFound];
const FOR_OTHERS: &str = "for the session of another user";

pub(in crate::http) fn add(api: Api) -> Api {
    let guarded = |permissions| Operation::guarded(permissions).also(Permission::Delegate, FOR_OTHERS);
    api.route(
        routes!(create_session),
        guarded(WRITE).acts().tells_expiry().takes_json().refuses(&[Code::OutOfRange, Code::InvalidId, Code::SessionExists]),
    )
    .route(routes!(put_session), guarded(WRITE).writes().tells_expiry().takes_json().refuses(PATH).refuses(DOCUMENT))
    .route(routes!(patch_session), guarded(WRITE).writes().tells_expiry().takes_patch().refuses(PATH).refuses(DOCUMENT))
    .route(routes!(get_session), guarded(READ).reads_one("headSession").tells_expiry().refuses(PATH).refuses(&[Code::SessionNotFound]))
    .route(routes!(delete_session), guarded(WRITE).writes().refuses(PATH).refuses(&[Code::SessionNotFound]))
    .route(routes!(extend_session), guarded(WRITE).writes().tells_expiry().takes_json().refuses(PATH).refuses(DOCUMENT))
    .route(routes!(list_sessions), guarded(READ).reads().refuses(&[Code::InvalidCursor]))
}

/// A session to begin.
#[derive(ToSchema)]
#[schema(example = json!({"data": {"step": 1}, "ttl_seconds": 3600, "sliding": true}))]
#[expect(dead_code, reason = "describes what domain::session::SessionInput reads")]
struct SessionCreate {
    /// Its id; left out: the server makes one.
    #[schema(required = false, nullable = false, pattern = "^[A-Za-z0-9._~-]{1,128}$", max_length = 128)]
    session_id: Option<String>,
    /// The user that it belongs to, or `me` for the caller; another than the caller with the permission `delegate`.
    #[schema(required = false, nullable = false, max_length = 255)]
    owner: Option<String>,
    /// Any JSON. The bytes are kept.
    #[schema(value_type = serde_json::Value)]
    data: serde_json::Value,
    /// Seconds to live, 1 to ten years. Default: 3600.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 315_360_000)]
    ttl_seconds: Option<i64>,
    /// Whether reads extend it. Default: false.
    #[schema(required = false, nullable = false)]
    sliding: Option<bool>,
    /// Seconds after its creation that it never outlives.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 315_360_000)]
    max_ttl_seconds: Option<i64>,
}

/// A session to save. `sliding` and `max_ttl_seconds` are replaced too.
#[derive(ToSchema)]
#[schema(example = json!({"data": {"step": 2}}))]
#[expect(dead_code, reason = "describes what domain::session::SessionInput reads")]
struct SessionWrite {
    /// Any JSON. The bytes are kept.
    #[schema(value_type = serde_json::Value)]
    data: serde_json::Value,
    /// Seconds to live from now on. Left out: a live session keeps its clock, a new one gets 3600.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 315_360_000)]
    ttl_seconds: Option<i64>,
    /// Whether reads extend it. Default: false.
    #[schema(required = false, nullable = false)]
    sliding: Option<bool>,
    /// Seconds after its creation that it never outlives.
    #[schema(required = false, nullable = false, minimum = 1, maximum = 315_360_000)]
    max_ttl_seconds: Option<i64>,
}

/// An extension.
#[derive(ToSchema)]
#[schema(example = json!({"additional_seconds": 1800}))]
#[expect(dead_code, reason = "describes the body of extend_session")]
struct SessionExtension {
    /// Seconds to add to the present expiry.
    #[schema(minimum = 1, maximum = 315_360_000)]
    additional_seconds: i64,
}

/// A session.
#[derive(Serialize, ToSchema)]
#[schema(as = Session, example = json!({
    "session_id": "0199b2f5-6a4e-7cc1-b0a5-3f6d2f0a9c11", "owner": "ada", "version": 1, "data": {"step": 1}, "ttl_seconds": 3600, "sliding": true,
    "created_at": "2026-11-22T10:15:30.123456Z", "updated_at": "2026-11-22T10:15:30.123456Z", "expires_at": "2026-11-22T11:15:30.123456Z"
}))]
struct SessionView<'a> {
    /// Its id.
    session_id: &'a str,
    /// The user that it belongs to.
    owner: &'a str,
    /// The version, which is also the entity tag.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    version: i64,
    /// The data, byte for byte; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = serde_json::Value)]
    data: Option<&'a RawValue>,
    /// Seconds to live that were last asked for.
    #[schema(minimum = 1, maximum = 315_360_000)]
    ttl_seconds: i64,
    /// Whether reads extend it.
    sliding: bool,
    /// Seconds after its creation that it never outlives.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, minimum = 1, maximum = 315_360_000)]
    max_ttl_seconds: Option<i64>,
    /// When this life of the session began.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When this version was written.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When it will be gone, as the last write set it; the exact moment, after reads of a sliding session, is in `Session-Expires`.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// A page of sessions, without their data.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionPage, example = json!({"items": [{
    "session_id": "s1", "owner": "ada", "version": 1, "ttl_seconds": 3600, "sliding": true,
    "created_at": "2026-11-22T10:15:30.123456Z", "updated_at": "2026-11-22T10:15:30.123456Z", "expires_at": "2026-11-22T11:15:30.123456Z"
}]}))]
struct SessionPageView<'a> {
    /// The sessions, by id.
    items: Vec<SessionView<'a>>,
    /// Where the next page begins; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    next_cursor: Option<&'a str>,
}

impl<'a> SessionView<'a> {
    fn of(record: &'a SessionRecord, data: Option<&'a RawValue>) -> Self {
        Self {
            session_id: record.id.as_str(),
            owner: record.owner.as_str(),
            version: record.version.get(),
            data,
            ttl_seconds: record.ttl_seconds,
            sliding: record.sliding,
            max_ttl_seconds: record.max_ttl_seconds,
            created_at: record.created_at,
            updated_at: record.updated_at,
            expires_at: record.written_expires_at,
        }
    }
}

/// The representation of a session, for the services.
pub(in crate::http) fn render(record: &SessionRecord) -> Result<Rendered> {
    let location = answer::path(&["sessions", record.id.as_str()]);
    answer::rendered(&SessionView::of(record, Some(answer::raw(&record.data)?)), record.data.len(), location)
}

/// A written session, with its exact expiry.
fn written(done: Done<SessionRecord>, minimal: Option<bool>) -> Response {
    let expires_at = done.record.as_ref().map(|record| record.expires_at);
    let response = answer::written(done, minimal);
    match expires_at {
        Some(expires_at) => with_expiry(response, expires_at),
        None => response,
    }
}

fn with_expiry(mut response: Response, expires_at: Timestamp) -> Response {
    if let Ok(value) = HeaderValue::from_str(&expires_at.to_string()) {
        response.headers_mut().insert("session-expires", value);
    }
    response
}

/// Begin a session
///
/// It belongs to the caller, or to `owner`. Ids that the server makes are long and hard to guess; a chosen id tells when it is taken.
#[utoipa::path(post, path = "/sessions", operation_id = "createSession", tag = "Sessions",
    request_body(content = SessionCreate, content_type = "application/json"),
    responses((status = 201, description = "Begun", body = SessionView)))]
async fn create_session(FromState(state): FromState<AppState>, mut write: Write<SmallBody>) -> Result<Response> {
    let input = write.read(|body| SessionInput::parse(body, true)).await?;
    let id = input.id.unwrap_or_else(|| SessionId::generate(state.clock.now()));
    let done = state.services.sessions.create(&write.request, id, input.owner, input.document).await?;
    Ok(written(done, write.minimal))
}

/// Save a session
///
/// Replaces the session as a whole, or begins it: without `sliding` it slides no longer, without `max_ttl_seconds` it has no cap any more. Only the
/// clock goes on without `ttl_seconds`. A PATCH leaves what it does not name. Another user's live session is 404.
#[utoipa::path(put, path = "/sessions/{session_id}", operation_id = "putSession", tag = "Sessions",
    request_body(content = SessionWrite, content_type = "application/json"),
    responses((status = 200, description = "Replaced", body = SessionView), (status = 201, description = "Begun", body = SessionView)))]
async fn put_session(FromState(state): FromState<AppState>, SessionPath(id): SessionPath, mut write: Write<SmallBody>) -> Result<Response> {
    let input = write.read(|body| SessionInput::parse(body, false)).await?;
    Ok(written(state.services.sessions.put(&write.request, id, input.document).await?, write.minimal))
}

/// Patch a session
///
/// The patch applies to what a save takes: `data`, `ttl_seconds`, `sliding`, `max_ttl_seconds`. Its clock starts again only when the patch
/// names `ttl_seconds`. What is not touched keeps its bytes. A merge patch cannot store `null`, which removes a member; a JSON Patch can.
#[utoipa::path(patch, path = "/sessions/{session_id}", operation_id = "patchSession", tag = "Sessions",
    request_body(content(
        (SessionMergePatch = "application/merge-patch+json"),
        (SessionMergePatch = "application/json"),
        (JsonPatch = "application/json-patch+json", example = json!([{"op": "replace", "path": "/data/step", "value": 3}, {"op": "add", "path": "/data/cart", "value": ["book"]}])))),
    responses((status = 200, description = "Patched", body = SessionView)))]
async fn patch_session(
    FromState(state): FromState<AppState>,
    SessionPath(id): SessionPath,
    mut write: Write<SmallPatch>,
) -> Result<Response> {
    let patch = write.patch().await?;
    Ok(written(state.services.sessions.patch(&write.request, id, patch).await?, write.minimal))
}

/// Load a session
///
/// A sliding one lives on from now; that changes no version. An expired one is gone at its instant.
#[utoipa::path(get, path = "/sessions/{session_id}", operation_id = "getSession", tag = "Sessions",
    responses((status = 200, description = "The session", body = SessionView)))]
async fn get_session(
    FromState(state): FromState<AppState>,
    Caller(caller): Caller,
    SessionPath(id): SessionPath,
    headers: ReadHeaders,
) -> Result<Response> {
    let (representation, expires_at) = match state.services.sessions.get(&caller, id, headers.freshness).await {
        Ok(read) => (Ok(read.representation), Some(read.expires_at)),
        Err(error) => (Err(error), None),
    };
    let response = answer::read(&headers, representation)?;
    Ok(match expires_at {
        Some(expires_at) => with_expiry(response, expires_at),
        None => response,
    })
}

/// End a session
///
/// Its variables end with it; a session that uses the id again inherits nothing.
#[utoipa::path(delete, path = "/sessions/{session_id}", operation_id = "deleteSession", tag = "Sessions",
    responses((status = 204, description = "Ended")))]
async fn delete_session(FromState(state): FromState<AppState>, SessionPath(id): SessionPath, write: Write<NoBody>) -> Result<Response> {
    Ok(answer::written(state.services.sessions.delete(&write.request, id).await?, write.minimal))
}

/// Extend a session
///
/// Adds seconds to its present expiry, under its cap, and to the end of the year 9999 at most. An expired session is 404 and never revived.
#[utoipa::path(post, path = "/sessions/{session_id}/extend", operation_id = "extendSession", tag = "Sessions",
    request_body(content = SessionExtension, content_type = "application/json"),
    responses((status = 200, description = "Extended", body = SessionView)))]
async fn extend_session(
    FromState(state): FromState<AppState>,
    SessionPath(id): SessionPath,
    mut write: Write<SmallBody>,
) -> Result<Response> {
    let seconds = write.read(extension).await?;
    Ok(written(state.services.sessions.extend(&write.request, id, seconds).await?, write.minimal))
}

fn extension(body: &str) -> Result<i64> {
    let mut object = Object::read(body)?;
    let mut faults = Vec::new();
    let seconds = object.read_member("additional_seconds", parse_ttl_seconds, &mut faults);
    if seconds.is_none() && faults.is_empty() {
        faults.push(Fault::member("additional_seconds", FaultKind::MissingMember));
    }
    faults.extend(object.unknown());
    match seconds {
        Some(seconds) if faults.is_empty() => Ok(seconds),
        _ => Err(Error::from(faults)),
    }
}

/// List the sessions
///
/// The caller's own by id, without their data; with the permission `delegate` all of the tenant.
#[utoipa::path(get, path = "/sessions", operation_id = "listSessions", tag = "Sessions",
    params(
        ("limit" = Option<i64>, Query, description = "Items on a page; above 1000 is 1000. Default 50.", minimum = 1, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.", max_length = 2048, nullable = false)),
    responses((status = 200, description = "A page of sessions", body = SessionPageView)))]
async fn list_sessions(FromState(state): FromState<AppState>, Caller(caller): Caller, query: Query) -> Result<Response> {
    let list = state.services.sessions.list(&caller, query.one("cursor")?, query.limit()?).await?;
    let items = list.items.iter().map(|record| SessionView::of(record, None)).collect();
    answer::list(&SessionPageView { items, next_cursor: list.next_cursor.as_deref() })
}
