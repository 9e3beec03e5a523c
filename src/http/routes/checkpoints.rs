//! Checkpoints of an execution, and the list over all executions.

use axum::extract::State as FromState;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::domain::checkpoint::{CheckpointInput, CheckpointItem, CheckpointKey, CheckpointRecord};
use crate::domain::clock::Timestamp;
use crate::domain::document::{self, Fault, FaultKind, Object};
use crate::domain::id::{CheckpointId, ExecutionId, WorkflowId};
use crate::domain::principal::Permission;
use crate::domain::state::StateDocument;
use crate::error::{Code, Error, Result};
use crate::http::AppState;
use crate::http::answer;
use crate::http::extract::{Caller, CheckpointPath, ReadHeaders, StatePath};
use crate::http::operation::{Api, Operation};
use crate::http::query::Query;
use crate::http::routes::states::{DOCUMENT, PATH, StateView, StateWrite};
use crate::http::write::{NoBody, SmallBody, StateBody, Write};
use crate::service::Rendered;
use crate::service::checkpoints::{CheckpointFilter, CheckpointList};

const READ: &[Permission] = &[Permission::CheckpointsRead];
const WRITE: &[Permission] = &[Permission::CheckpointsWrite];
const RESTORE: &[Permission] = &[Permission::CheckpointsRead, Permission::StatesWrite];

pub(in crate::http) fn add(api: Api) -> Api {
    api.route(
        routes!(create_checkpoint),
        Operation::guarded(WRITE).acts().takes_optional_json().refuses(PATH).refuses(DOCUMENT).refuses(&[
            Code::TextTooLong,
            Code::CheckpointExists,
            Code::StateNotFound,
        ]),
    )
    .route(routes!(list_execution_checkpoints), Operation::guarded(READ).reads().refuses(PATH).refuses(&[Code::InvalidCursor]))
    .route(routes!(list_checkpoints), Operation::guarded(READ).reads().refuses(&[Code::InvalidCursor]))
    .route(routes!(get_checkpoint), Operation::guarded(READ).reads_one("headCheckpoint").refuses(PATH).refuses(&[Code::CheckpointNotFound]))
    .route(routes!(delete_checkpoint), Operation::guarded(WRITE).writes().refuses(PATH).refuses(&[Code::CheckpointNotFound]))
    .route(
        routes!(restore_checkpoint),
        Operation::guarded(RESTORE).writes().takes_optional_json().refuses(PATH).refuses(&[Code::CheckpointNotFound]),
    )
    .route(
        routes!(fork_checkpoint),
        Operation::guarded(RESTORE).writes().takes_json().refuses(PATH).refuses(&[Code::CheckpointNotFound, Code::ExecutionExists]),
    )
}

/// A checkpoint to make.
#[derive(ToSchema)]
#[schema(example = json!({"checkpoint_id": "before-payment", "label": "Before payment"}))]
#[expect(dead_code, reason = "describes what domain::checkpoint::CheckpointInput reads")]
struct CheckpointWrite {
    /// Its id; left out: the server makes one.
    #[schema(required = false, nullable = false, pattern = "^[A-Za-z0-9._~-]{1,128}$", max_length = 128)]
    checkpoint_id: Option<String>,
    /// What a person calls it, at most 256 bytes.
    #[schema(required = false, nullable = false, max_length = 256)]
    label: Option<String>,
    /// Anything that goes with it. Default: {}.
    #[schema(required = false, nullable = false, value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    metadata: Option<serde_json::Value>,
    /// The state to keep; left out: the current one.
    #[schema(required = false, nullable = false)]
    state: Option<StateWrite>,
}

/// What a restore takes: nothing.
#[derive(ToSchema)]
#[schema(example = json!({}))]
struct RestoreWrite {}

/// The execution that a fork begins.
#[derive(ToSchema)]
#[schema(example = json!({"execution_id": "e1-retry"}))]
#[expect(dead_code, reason = "describes the body of fork_checkpoint")]
struct ForkWrite {
    /// Its id, which must be new.
    #[schema(pattern = "^[A-Za-z0-9._~-]{1,128}$", max_length = 128)]
    execution_id: String,
}

/// A checkpoint: a named copy of a state.
#[derive(Serialize, ToSchema)]
#[schema(as = Checkpoint, example = json!({
    "workflow_id": "order", "execution_id": "e1", "checkpoint_id": "before-payment", "version": 1, "label": "Before payment", "metadata": {}, "state_version": 3,
    "created_at": "2026-11-22T10:15:30.123456Z", "created_by": "ada", "size": 71,
    "state": {"marking": {"review": 1}, "status": "running", "metadata": {}, "schema_version": 1}
}))]
struct CheckpointView<'a> {
    /// The workflow.
    workflow_id: &'a str,
    /// The execution.
    execution_id: &'a str,
    /// Its id.
    checkpoint_id: &'a str,
    /// The version, which is also the entity tag; grows over deletion and re-creation of the id.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    version: i64,
    /// What a person calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, max_length = 256)]
    label: Option<&'a str>,
    /// What goes with it, byte for byte.
    #[schema(value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    metadata: &'a RawValue,
    /// The version of the state that was copied; left out when the state came with the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    state_version: Option<i64>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Who made it.
    created_by: &'a str,
    /// Bytes of the kept state.
    #[schema(minimum = 0)]
    size: i64,
    /// The kept state; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    state: Option<KeptState<'a>>,
}

/// The state that a checkpoint keeps.
#[derive(Serialize, ToSchema)]
#[schema(as = CheckpointState, example = json!({"marking": {"review": 1}, "status": "running", "metadata": {}, "schema_version": 1}))]
struct KeptState<'a> {
    /// The marking, byte for byte.
    #[schema(value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    marking: &'a RawValue,
    /// The status.
    status: &'a str,
    /// The metadata, byte for byte.
    #[schema(value_type = std::collections::BTreeMap<String, serde_json::Value>)]
    metadata: &'a RawValue,
    /// Version of the schema that marking and metadata follow.
    #[schema(minimum = 1)]
    schema_version: i32,
}

/// A page of checkpoints, without their states.
#[derive(Serialize, ToSchema)]
#[schema(as = CheckpointPage, example = json!({"items": [{
    "workflow_id": "order", "execution_id": "e1", "checkpoint_id": "before-payment", "version": 1, "metadata": {}, "state_version": 3,
    "created_at": "2026-11-22T10:15:30.123456Z", "created_by": "ada", "size": 71
}]}))]
struct CheckpointPageView<'a> {
    /// The checkpoints, newest first.
    items: Vec<CheckpointView<'a>>,
    /// Where the next page begins; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    next_cursor: Option<&'a str>,
}

impl<'a> CheckpointView<'a> {
    fn of(item: &'a CheckpointItem, document: Option<&'a StateDocument>) -> Result<Self> {
        let state = match document {
            Some(document) => {
                let parts = document.parts();
                let (marking, metadata) = (answer::raw(parts.marking)?, answer::raw(parts.metadata)?);
                Some(KeptState { marking, status: document.status(), metadata, schema_version: document.schema_version() })
            }
            None => None,
        };
        Ok(Self {
            workflow_id: item.key.state.workflow.as_str(),
            execution_id: item.key.state.execution.as_str(),
            checkpoint_id: item.key.checkpoint.as_str(),
            version: item.version.get(),
            label: item.label.as_deref(),
            metadata: answer::raw(&item.metadata)?,
            state_version: item.state_version.map(crate::domain::version::Version::get),
            created_at: item.created_at,
            created_by: &item.created_by,
            size: item.size,
            state,
        })
    }
}

/// The representation of a checkpoint, for the services.
pub(in crate::http) fn render(record: &CheckpointRecord) -> Result<Rendered> {
    let key = &record.item.key;
    let (workflow, execution) = (key.state.workflow.as_str(), key.state.execution.as_str());
    let location = answer::path(&["workflows", workflow, "executions", execution, "checkpoints", key.checkpoint.as_str()]);
    let documents = record.item.metadata.len() + record.document.text().len();
    answer::rendered(&CheckpointView::of(&record.item, Some(&record.document))?, documents, location)
}

fn page(list: &CheckpointList) -> Result<Response> {
    let items = list.items.iter().map(|item| CheckpointView::of(item, None)).collect::<Result<_>>()?;
    answer::list(&CheckpointPageView { items, next_cursor: list.next_cursor.as_deref() })
}

/// Make a checkpoint
///
/// Of the current state, or of the one in the request, also where no execution exists yet. It does not change while it lives.
#[utoipa::path(post, path = "/workflows/{workflow_id}/executions/{execution_id}/checkpoints", operation_id = "createCheckpoint", tag = "Checkpoints",
    request_body(content = CheckpointWrite, content_type = "application/json"),
    responses((status = 201, description = "Made", body = CheckpointView)))]
async fn create_checkpoint(
    FromState(state): FromState<AppState>,
    StatePath(key): StatePath,
    mut write: Write<StateBody>,
) -> Result<Response> {
    let input = write.read_or_empty(CheckpointInput::parse).await?;
    let checkpoint = input.id.unwrap_or_else(|| CheckpointId::generate(state.clock.now()));
    let done = state.services.checkpoints.create(&write.request, CheckpointKey { state: key, checkpoint }, input.checkpoint).await?;
    Ok(answer::written(done, write.minimal))
}

/// List the checkpoints of an execution
///
/// Newest first, without their states.
#[utoipa::path(get, path = "/workflows/{workflow_id}/executions/{execution_id}/checkpoints", operation_id = "listExecutionCheckpoints", tag = "Checkpoints",
    params(
        ("limit" = Option<i64>, Query, description = "Items on a page; above 1000 is 1000. Default 50.", minimum = 1, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.", max_length = 2048, nullable = false)),
    responses((status = 200, description = "A page of checkpoints", body = CheckpointPageView)))]
async fn list_execution_checkpoints(
    FromState(state): FromState<AppState>,
    Caller(caller): Caller,
    StatePath(key): StatePath,
    query: Query,
) -> Result<Response> {
    let filter = CheckpointFilter { workflow: Some(key.workflow), execution: Some(key.execution), created_after: None };
    page(&state.services.checkpoints.list(&caller, filter, query.one("cursor")?, query.limit()?).await?)
}

/// List the checkpoints of all executions
///
/// Newest first, without their states.
#[utoipa::path(get, path = "/checkpoints", operation_id = "listCheckpoints", tag = "Checkpoints",
    params(
        ("workflow_id" = Option<String>, Query, description = "Only of this workflow.", max_length = 128, nullable = false),
        ("execution_id" = Option<String>, Query, description = "Only of executions of this id.", max_length = 128, nullable = false),
        ("created_after" = Option<String>, Query, description = "Only made after this moment, RFC 3339.", format = DateTime, nullable = false),
        ("limit" = Option<i64>, Query, description = "Items on a page; above 1000 is 1000. Default 50.", minimum = 1, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.", max_length = 2048, nullable = false)),
    responses((status = 200, description = "A page of checkpoints", body = CheckpointPageView)))]
async fn list_checkpoints(FromState(state): FromState<AppState>, Caller(caller): Caller, query: Query) -> Result<Response> {
    let filter = CheckpointFilter {
        workflow: query.id("workflow_id", WorkflowId::parse)?,
        execution: query.id("execution_id", ExecutionId::parse)?,
        created_after: query.time("created_after")?,
    };
    page(&state.services.checkpoints.list(&caller, filter, query.one("cursor")?, query.limit()?).await?)
}

/// Load a checkpoint
#[utoipa::path(get, path = "/workflows/{workflow_id}/executions/{execution_id}/checkpoints/{checkpoint_id}", operation_id = "getCheckpoint", tag = "Checkpoints",
    responses((status = 200, description = "The checkpoint", body = CheckpointView)))]
async fn get_checkpoint(
    FromState(state): FromState<AppState>,
    Caller(caller): Caller,
    CheckpointPath(key): CheckpointPath,
    headers: ReadHeaders,
) -> Result<Response> {
    answer::read(&headers, state.services.checkpoints.get(&caller, key, headers.freshness).await)
}

/// Delete a checkpoint
#[utoipa::path(delete, path = "/workflows/{workflow_id}/executions/{execution_id}/checkpoints/{checkpoint_id}", operation_id = "deleteCheckpoint", tag = "Checkpoints",
    responses((status = 204, description = "Deleted")))]
async fn delete_checkpoint(
    FromState(state): FromState<AppState>,
    CheckpointPath(key): CheckpointPath,
    write: Write<NoBody>,
) -> Result<Response> {
    Ok(answer::written(state.services.checkpoints.delete(&write.request, key).await?, write.minimal))
}

/// Restore a checkpoint
///
/// What it keeps becomes the current state, as a new version; also of a deleted state. Preconditions are about the state.
#[utoipa::path(post, path = "/workflows/{workflow_id}/executions/{execution_id}/checkpoints/{checkpoint_id}/restore", operation_id = "restoreCheckpoint",
    tag = "Checkpoints", request_body(content = RestoreWrite, content_type = "application/json"),
    responses((status = 200, description = "Restored", body = StateView)))]
async fn restore_checkpoint(
    FromState(state): FromState<AppState>,
    CheckpointPath(key): CheckpointPath,
    mut write: Write<SmallBody>,
) -> Result<Response> {
    write.read_or_empty(nothing).await?;
    Ok(answer::written(state.services.checkpoints.restore(&write.request, key).await?, write.minimal))
}

/// Fork an execution from a checkpoint
///
/// Begins a new execution of the same workflow with what the checkpoint keeps. Nothing else is copied. Preconditions are about the new execution's
/// state; an execution that exists is never written over.
#[utoipa::path(post, path = "/workflows/{workflow_id}/executions/{execution_id}/checkpoints/{checkpoint_id}/fork", operation_id = "forkCheckpoint",
    tag = "Checkpoints", request_body(content = ForkWrite, content_type = "application/json"),
    responses((status = 201, description = "Begun", body = StateView)))]
async fn fork_checkpoint(
    FromState(state): FromState<AppState>,
    CheckpointPath(key): CheckpointPath,
    mut write: Write<SmallBody>,
) -> Result<Response> {
    let target = write.read(fork_target).await?;
    Ok(answer::written(state.services.checkpoints.fork(&write.request, key, target).await?, write.minimal))
}

fn nothing(body: &str) -> Result<()> {
    let faults = Object::read(body)?.unknown();
    if faults.is_empty() { Ok(()) } else { Err(Error::from(faults)) }
}

fn fork_target(body: &str) -> Result<ExecutionId> {
    let mut object = Object::read(body)?;
    let mut faults = Vec::new();
    let parse = |raw: &str| ExecutionId::parse(&document::text(raw, usize::MAX)?).map_err(FaultKind::InvalidId);
    let target = object.read_member("execution_id", parse, &mut faults);
    if target.is_none() && faults.is_empty() {
        faults.push(Fault::member("execution_id", FaultKind::MissingMember));
    }
    faults.extend(object.unknown());
    match target {
        Some(target) if faults.is_empty() => Ok(target),
        _ => Err(Error::from(faults)),
    }
}
