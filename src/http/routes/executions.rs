//! `/workflows` and `/workflows/{workflow_id}/executions`: lists, and the end of an execution.

use axum::extract::State as FromState;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::domain::clock::Timestamp;
use crate::domain::principal::Permission;
use crate::domain::state::{ExecutionItem, STATUS_GRAMMAR, is_status};
use crate::error::{Code, Error, Result};
use crate::http::AppState;
use crate::http::answer;
use crate::http::extract::{Caller, StatePath, WorkflowPath};
use crate::http::operation::{Api, Operation};
use crate::http::query::Query;
use crate::http::routes::states::PATH;
use crate::http::write::{NoBody, Write};
use crate::service::executions::ExecutionFilter;

const READ: &[Permission] = &[Permission::StatesRead];
const REMOVE: &[Permission] = &[Permission::StatesWrite, Permission::CheckpointsWrite];

pub(in crate::http) fn add(api: Api) -> Api {
    api.route(routes!(list_workflows), Operation::guarded(READ).reads().refuses(&[Code::InvalidCursor]))
        .route(routes!(list_executions), Operation::guarded(READ).reads().refuses(PATH).refuses(&[Code::InvalidCursor]))
        .route(routes!(delete_execution), Operation::guarded(REMOVE).writes().refuses(PATH).refuses(&[Code::ExecutionNotFound]))
}

/// A page of workflows.
#[derive(Serialize, ToSchema)]
#[schema(as = WorkflowPage, example = json!({"items": [{"workflow_id": "order"}]}))]
struct WorkflowPageView<'a> {
    /// The workflows, by id.
    items: Vec<WorkflowView<'a>>,
    /// Where the next page begins; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    next_cursor: Option<&'a str>,
}

/// A workflow that has an execution with a state.
#[derive(Serialize, ToSchema)]
#[schema(as = WorkflowItem, example = json!({"workflow_id": "order"}))]
struct WorkflowView<'a> {
    /// Its id.
    #[schema(pattern = "^[A-Za-z0-9._~-]{1,128}$", max_length = 128)]
    workflow_id: &'a str,
}

/// A page of executions.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecutionPage, example = json!({"items": [{
    "workflow_id": "order", "execution_id": "e1", "version": 3, "status": "running",
    "created_at": "2026-11-22T10:15:30.123456Z", "updated_at": "2026-11-22T10:20:00.000001Z"
}]}))]
struct ExecutionPageView<'a> {
    /// The executions.
    items: Vec<ExecutionView<'a>>,
    /// Where the next page begins; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false)]
    next_cursor: Option<&'a str>,
}

/// An execution, without its marking.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecutionItem, example = json!({
    "workflow_id": "order", "execution_id": "e1", "version": 3, "status": "running",
    "created_at": "2026-11-22T10:15:30.123456Z", "updated_at": "2026-11-22T10:20:00.000001Z"
}))]
struct ExecutionView<'a> {
    /// The workflow.
    #[schema(pattern = "^[A-Za-z0-9._~-]{1,128}$", max_length = 128)]
    workflow_id: &'a str,
    /// The execution.
    #[schema(pattern = "^[A-Za-z0-9._~-]{1,128}$", max_length = 128)]
    execution_id: &'a str,
    /// The version of its state.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    version: i64,
    /// Its status.
    #[schema(pattern = "^[a-z][a-z_]{0,31}$", max_length = 32)]
    status: &'a str,
    /// When this life of the execution began.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When its state was last written.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl<'a> From<&'a ExecutionItem> for ExecutionView<'a> {
    fn from(item: &'a ExecutionItem) -> Self {
        Self {
            workflow_id: item.key.workflow.as_str(),
            execution_id: item.key.execution.as_str(),
            version: item.version.get(),
            status: &item.status,
            created_at: item.created_at,
            updated_at: item.updated_at,
        }
    }
}

/// What the end of an execution took away.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecutionDeletion, example = json!({"deleted": {"versions": 12, "checkpoints": 2}}))]
struct DeletionView {
    /// The counts.
    deleted: DeletionCounts,
}

/// Counts, up to 10 000 each.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecutionDeletionCounts, example = json!({"versions": 12, "checkpoints": 2}))]
struct DeletionCounts {
    /// Versions of its history.
    #[schema(minimum = 0, maximum = 10_000)]
    versions: i64,
    /// Checkpoints.
    #[schema(minimum = 0, maximum = 10_000)]
    checkpoints: i64,
}

/// List the workflows
///
/// Those that have an execution with a state, by id.
#[utoipa::path(get, path = "/workflows", operation_id = "listWorkflows", tag = "States",
    params(
        ("limit" = Option<i64>, Query, description = "Items on a page; above 1000 is 1000. Default 50.", minimum = 1, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.", max_length = 2048, nullable = false)),
    responses((status = 200, description = "A page of workflows", body = WorkflowPageView)))]
async fn list_workflows(FromState(state): FromState<AppState>, Caller(caller): Caller, query: Query) -> Result<Response> {
    let page = state.services.executions.workflows(&caller, query.one("cursor")?, query.limit()?).await?;
    let items = page.items.iter().map(|id| WorkflowView { workflow_id: id.as_str() }).collect();
    answer::list(&WorkflowPageView { items, next_cursor: page.next_cursor.as_deref() })
}

/// List the executions of a workflow
///
/// Those that have a state; by id, or with `order=recent` the newest hour of change first, stable within the hour. `updated_after` is exact.
#[utoipa::path(get, path = "/workflows/{workflow_id}/executions", operation_id = "listExecutions", tag = "States",
    params(
        ("status" = Option<String>, Query, description = "Only of this status.", pattern = "^[a-z][a-z_]{0,31}$", max_length = 32, nullable = false),
        ("updated_after" = Option<String>, Query, description = "Only written after this moment, RFC 3339.", format = DateTime, nullable = false),
        ("order" = Option<String>, Query, description = "`id` (default) or `recent`.", pattern = "^(id|recent)$", nullable = false),
        ("limit" = Option<i64>, Query, description = "Items on a page; above 1000 is 1000. Default 50.", minimum = 1, nullable = false),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.", max_length = 2048, nullable = false)),
    responses((status = 200, description = "A page of executions", body = ExecutionPageView)))]
async fn list_executions(
    FromState(state): FromState<AppState>,
    Caller(caller): Caller,
    WorkflowPath(workflow): WorkflowPath,
    query: Query,
) -> Result<Response> {
    let recent = match query.one("order")? {
        None | Some("id") => false,
        Some("recent") => true,
        Some(_) => return Err(Error::new(Code::InvalidParameter, "The parameter order must be id or recent.")),
    };
    let status = query.one("status")?;
    if status.is_some_and(|status| !is_status(status)) {
        return Err(Error::new(Code::InvalidParameter, format!("The parameter status must match {STATUS_GRAMMAR}.")));
    }
    let filter = ExecutionFilter { status: status.map(str::to_owned), updated_after: query.time("updated_after")?, recent };
    let page = state.services.executions.list(&caller, &workflow, filter, query.one("cursor")?, query.limit()?).await?;
    answer::list(&ExecutionPageView { items: page.items.iter().map(Into::into).collect(), next_cursor: page.next_cursor.as_deref() })
}

/// Remove an execution
///
/// State, history and checkpoints are gone at once; the counts go up to 10 000. The versions of the id go on growing. Preconditions are about
/// the state.
#[utoipa::path(delete, path = "/workflows/{workflow_id}/executions/{execution_id}", operation_id = "deleteExecution", tag = "States",
    responses((status = 200, description = "Removed", body = DeletionView)))]
async fn delete_execution(FromState(state): FromState<AppState>, StatePath(key): StatePath, write: Write<NoBody>) -> Result<Response> {
    let done = state.services.executions.delete(&write.request, key).await?;
    let counts = done.record.map_or(DeletionCounts { versions: 0, checkpoints: 0 }, |removed| DeletionCounts {
        versions: removed.versions,
        checkpoints: removed.checkpoints,
    });
    answer::done(&DeletionView { deleted: counts }, write.minimal, done.replayed)
}
