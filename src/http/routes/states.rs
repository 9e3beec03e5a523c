//! `/workflows/{workflow_id}/executions/{execution_id}/state`: save, load, delete, history.

use axum::extract::State as FromState;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::domain::clock::Timestamp;
use crate::domain::principal::Permission;
use crate::domain::state::{ForkedFrom, HistoryItem, StateDocument, StateRecord};
use crate::error::{Code, Error, Result};
use crate::http::AppState;
use crate::http::answer;
use crate::http::extract::{Caller, ReadHeaders, StatePath, StateVersionPath};
use crate::http::operation::{Api, Operation};
use crate::http::query::Query;
use crate::http::routes::patches::{JsonPatch, StateMergePatch};
use crate::http::write::{NoBody, StateBody, StatePatch, Write};
use crate::service::Rendered;

const READ: &[Permission] = &[Permission::StatesRead];
const WRITE: &[Permission] = &[Permission::StatesWrite];
/// What a path with workflow and execution can be refused for.
pub(in crate::http) const PATH: &[Code] = &[Code::InvalidId, Code::InvalidPath];
/// What a state's body can be refused for, beside what every JSON body can.
pub(in crate::http) const DOCUMENT: &[Code] = &[Code::InvalidName, Code::InvalidValue, Code::OutOfRange, Code::TooManyElements];

pub(in crate::http) fn add(api: Api) -> Api {
    api.route(routes!(put_state), Operation::guarded(WRITE).writes().takes_json().refuses(PATH).refuses(DOCUMENT))
        .route(
            routes!(get_state),
            Operation::guarded(READ).reads_one("headState").refuses(PATH).refuses(&[
                Code::InvalidParameter,
                Code::StateNotFound,
                Code::VersionNotFound,
            ]),
        )
        .route(
            routes!(patch_state),
            Operation::guarded(WRITE).writes().takes_patch().refuses(PATH).refuses(DOCUMENT).refuses(&[Code::StateNotFound]),
        )
        .route(routes!(delete_state), Operation::guarded(WRITE).writes().refuses(PATH).refuses(&[Code::StateNotFound]))
        .route(
            routes!(list_state_history),
            Operation::guarded(READ).reads().refuses(PATH).refuses(&[Code::InvalidCursor, Code::StateNotFound]),
        )
        .route(
            routes!(get_state_version),
            Operation::guarded(READ).reads_one("headStateVersion").refuses(PATH).refuses(&[Code::InvalidParameter, Code::VersionNotFound]),
        )
}

/// A state to save. Members that are left out take their defaults, whatever the present version has.
#[derive(ToSchema)]
#[schema(example = json!({"marking": {"start": 0, "review": [{"document": "d-17", "colour": "red"}]}, "status": "running", "metadata": {"initiator": "ada"}}))]
#[expect(dead_code, reason = "describes what domain::state::StateDocument reads")]
pub(in crate::http) struct StateWrite {
    /// The marking: each place with a count of plain tokens (0 ... 2^53-1) or an array of at most 10000 coloured tokens (any JSON each).
    /// The bytes of counts and tokens are kept.
    #[schema(value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    marking: serde_json::Value,
    /// A word. Well known: running, waiting, completed, failed, cancelled. Default: running.
    #[schema(required = false, nullable = false, pattern = "^[a-z][a-z_]{0,31}$", max_length = 32)]
    status: Option<String>,
    /// Anything that goes with the state. Default: {}.
    #[schema(required = false, nullable = false, value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    metadata: Option<serde_json::Value>,
    /// Version of the schema that marking and metadata follow, as the client counts it. Default: 1.
    #[schema(required = false, nullable = false, minimum = 1)]
    schema_version: Option<i32>,
}

/// One version of the state of an execution.
#[derive(Serialize, ToSchema)]
#[schema(as = State, example = json!({
    "workflow_id": "order", "execution_id": "e1", "version": 1, "marking": {"start": 0, "review": [{"document": "d-17", "colour": "red"}]},
    "status": "running", "metadata": {"initiator": "ada"}, "schema_version": 1,
    "created_at": "2026-11-22T10:15:30.123456Z", "updated_at": "2026-11-22T10:15:30.123456Z", "updated_by": "ada"
}))]
pub(in crate::http) struct StateView<'a> {
    /// The workflow.
    #[schema(pattern = "^[A-Za-z0-9._~-]{1,128}$", max_length = 128)]
    workflow_id: &'a str,
    /// The execution.
    #[schema(pattern = "^[A-Za-z0-9._~-]{1,128}$", max_length = 128)]
    execution_id: &'a str,
    /// The version, which is also the entity tag.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    version: i64,
    /// The marking, byte for byte as it was saved.
    #[schema(value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    marking: &'a RawValue,
    /// The status.
    #[schema(pattern = "^[a-z][a-z_]{0,31}$", max_length = 32)]
    status: &'a str,
    /// The metadata, byte for byte as they were saved.
    #[schema(value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    metadata: &'a RawValue,
    /// Version of the schema that marking and metadata follow.
    #[schema(minimum = 1)]
    schema_version: i32,
    /// When this life of the execution began.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When this version was written.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Who wrote this version.
    #[schema(max_length = 255)]
    updated_by: &'a str,
    /// Where the execution was forked from, when it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    forked_from: Option<ForkedFromView<'a>>,
}

/// The origin of a forked execution.
#[derive(Serialize, ToSchema)]
#[schema(as = ForkedFrom, example = json!({"workflow_id": "order", "execution_id": "e1", "version": 7, "checkpoint_id": "before-payment"}))]
struct ForkedFromView<'a> {
    /// Workflow of the origin.
    workflow_id: &'a str,
    /// Execution of the origin.
    execution_id: &'a str,
    /// Version of the origin that was copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    version: Option<i64>,
    /// Checkpoint of the origin that was copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    checkpoint_id: Option<&'a str>,
}

impl<'a> From<&'a ForkedFrom> for ForkedFromView<'a> {
    fn from(origin: &'a ForkedFrom) -> Self {
        Self {
            workflow_id: origin.workflow.as_str(),
            execution_id: origin.execution.as_str(),
            version: origin.version.map(crate::domain::version::Version::get),
            checkpoint_id: origin.checkpoint.as_deref(),
        }
    }
}

impl<'a> StateView<'a> {
    fn of(record: &'a StateRecord) -> Result<Self> {
        let parts = record.document.parts();
        Ok(Self {
            workflow_id: record.key.workflow.as_str(),
            execution_id: record.key.execution.as_str(),
            version: record.version.get(),
            marking: answer::raw(parts.marking)?,
            status: record.document.status(),
            metadata: answer::raw(parts.metadata)?,
            schema_version: record.document.schema_version(),
            created_at: record.created_at,
            updated_at: record.updated_at,
            updated_by: &record.updated_by,
            forked_from: record.forked_from.as_ref().map(Into::into),
        })
    }
}

/// A page of a state's history.
#[derive(Serialize, ToSchema)]
#[schema(as = StateHistoryPage, example = json!({"items": [
    {"version": 2, "operation": "delete", "at": "2026-11-22T10:20:00.000001Z", "by": "ada", "status": "running", "size": 0},
    {"version": 1, "operation": "put", "at": "2026-11-22T10:15:30.123456Z", "by": "ada", "status": "running", "size": 85}
]}))]
struct HistoryPageView<'a> {
    /// The versions, newest first unless `order=asc`.
    items: Vec<HistoryItemView<'a>>,
    /// Where the next page begins; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    next_cursor: Option<&'a str>,
}

/// One version of a state, without its body.
#[derive(Serialize, ToSchema)]
#[schema(as = StateHistoryItem, example = json!({"version": 1, "operation": "put", "at": "2026-11-22T10:15:30.123456Z", "by": "ada", "status": "running", "size": 85}))]
struct HistoryItemView<'a> {
    /// The version.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    version: i64,
    /// What made it.
    #[schema(value_type = StateOperation)]
    operation: &'static str,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who.
    by: &'a str,
    /// Status of that version; a delete keeps the last one.
    status: &'a str,
    /// Bytes of the stored body; 0 for a delete.
    #[schema(minimum = 0)]
    size: i64,
    /// The transition that fired, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    transition: Option<&'a str>,
    /// The checkpoint that was restored or forked, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    checkpoint_id: Option<&'a str>,
}

/// What made a version of a state. More words may come.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", example = "put")]
#[expect(dead_code, reason = "describes domain::state::Operation")]
enum StateOperation {
    Put,
    Patch,
    Transition,
    Restore,
    Fork,
    Revert,
    Delete,
}

impl<'a> From<&'a HistoryItem> for HistoryItemView<'a> {
    fn from(item: &'a HistoryItem) -> Self {
        Self {
            version: item.version.get(),
            operation: item.operation.as_str(),
            at: item.at,
            by: &item.by,
            status: &item.status,
            size: item.size,
            transition: item.transition.as_deref(),
            checkpoint_id: item.checkpoint.as_deref(),
        }
    }
}

/// The representation of a state, for the services.
pub(in crate::http) fn render(record: &StateRecord) -> Result<Rendered> {
    let key = &record.key;
    let location = answer::path(&["workflows", key.workflow.as_str(), "executions", key.execution.as_str(), "state"]);
    answer::rendered(&StateView::of(record)?, record.document.text().len(), location)
}

/// Save a state
///
/// Replaces marking, status, metadata and schema version as a whole, as a new version; the former version stays in the history. Creates
/// the execution when it is not there. Marking and metadata come back byte for byte.
#[utoipa::path(put, path = "/workflows/{workflow_id}/executions/{execution_id}/state", operation_id = "putState", tag = "States",
    request_body(content = StateWrite, content_type = "application/json"),
    responses((status = 200, description = "Replaced", body = StateView), (status = 201, description = "Created", body = StateView)))]
async fn put_state(FromState(state): FromState<AppState>, StatePath(key): StatePath, mut write: Write<StateBody>) -> Result<Response> {
    let document = write.read(StateDocument::parse).await?;
    let done = state.services.states.put(&write.request, key, document).await?;
    Ok(answer::written(done, write.minimal))
}

/// Patch a state
///
/// The patch applies to what a save takes: `marking`, `status`, `metadata`, `schema_version`. What it does not touch keeps its bytes and its
/// order. A merge patch cannot store `null`; a JSON Patch can. Without `If-Match` it is tried again when another writer was quicker, five times.
#[utoipa::path(patch, path = "/workflows/{workflow_id}/executions/{execution_id}/state", operation_id = "patchState", tag = "States",
    request_body(content(
        (StateMergePatch = "application/merge-patch+json"),
        (StateMergePatch = "application/json"),
        (JsonPatch = "application/json-patch+json"))),
    responses((status = 200, description = "Patched", body = StateView)))]
async fn patch_state(FromState(state): FromState<AppState>, StatePath(key): StatePath, mut write: Write<StatePatch>) -> Result<Response> {
    let patch = write.patch().await?;
    let done = state.services.states.patch(&write.request, key, patch).await?;
    Ok(answer::written(done, write.minimal))
}

/// Load a state
///
/// The current version; with `version`, an earlier one while it is kept; with `at`, the one that was in force at that moment. The version of
/// a deletion is 404, and so is a moment at which there was no state.
#[utoipa::path(get, path = "/workflows/{workflow_id}/executions/{execution_id}/state", operation_id = "getState", tag = "States",
    params(
        ("version" = Option<i64>, Query, description = "The version to load instead of the current one.", minimum = 1, maximum = 9_007_199_254_740_991_i64, nullable = false),
        ("at" = Option<String>, Query, description = "The moment to load, RFC 3339; not together with `version`, not in the future.", format = DateTime, nullable = false)),
    responses((status = 200, description = "The state", body = StateView)))]
async fn get_state(
    FromState(state): FromState<AppState>,
    Caller(caller): Caller,
    StatePath(key): StatePath,
    query: Query,
    headers: ReadHeaders,
) -> Result<Response> {
    let states = &state.services.states;
    let found = match (query.version("version")?, query.time("at")?) {
        (Some(_), Some(_)) => return Err(Error::new(Code::InvalidParameter, "The parameters version and at exclude each other.")),
        (Some(version), None) => states.get_version(&caller, &key, version).await,
        (None, Some(at)) => states.get_at(&caller, &key, at).await,
        (None, None) => states.get(&caller, key, headers.freshness).await,
    };
    answer::read(&headers, found)
}

/// Delete a state
///
/// Leaves a tombstone: history and checkpoints stay, and a later save continues the versions.
#[utoipa::path(delete, path = "/workflows/{workflow_id}/executions/{execution_id}/state", operation_id = "deleteState", tag = "States",
    responses((status = 204, description = "Deleted")))]
async fn delete_state(FromState(state): FromState<AppState>, StatePath(key): StatePath, write: Write<NoBody>) -> Result<Response> {
    Ok(answer::written(state.services.states.delete(&write.request, key).await?, write.minimal))
}

/// List the versions of a state
///
/// Newest first, without bodies; also of a deleted state.
#[utoipa::path(get, path = "/workflows/{workflow_id}/executions/{execution_id}/state/history", operation_id = "listStateHistory", tag = "States",
    params(
        ("order" = Option<String>, Query, description = "`desc` (default) or `asc`.", pattern = "^(asc|desc)$", nullable = false),
        ("limit" = Option<i64>, Query, description = "Items on a page; above 1000 is 1000. Default 50.", minimum = 1, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.", max_length = 2048, nullable = false)),
    responses((status = 200, description = "A page of versions", body = HistoryPageView)))]
async fn list_state_history(
    FromState(state): FromState<AppState>,
    Caller(caller): Caller,
    StatePath(key): StatePath,
    query: Query,
) -> Result<Response> {
    let ascending = match query.one("order")? {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(Error::new(Code::InvalidParameter, "The parameter order must be asc or desc.")),
    };
    let page = state.services.states.history(&caller, &key, ascending, query.one("cursor")?, query.limit()?).await?;
    answer::list(&HistoryPageView { items: page.items.iter().map(Into::into).collect(), next_cursor: page.next_cursor.as_deref() })
}

/// Load one version of a state
///
/// As it was; also of a deleted state. The version of a deletion is 404.
#[utoipa::path(get, path = "/workflows/{workflow_id}/executions/{execution_id}/state/history/{version}", operation_id = "getStateVersion", tag = "States",
    responses((status = 200, description = "The state at that version", body = StateView)))]
async fn get_state_version(
    FromState(state): FromState<AppState>,
    Caller(caller): Caller,
    StateVersionPath(key, version): StateVersionPath,
    headers: ReadHeaders,
) -> Result<Response> {
    answer::read(&headers, state.services.states.get_version(&caller, &key, version).await)
}
