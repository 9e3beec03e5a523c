//! Reading checkpoints.

use futures_util::TryStreamExt as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::error::store_error;
use super::row::Columns;
use crate::domain::checkpoint::{CheckpointItem, CheckpointKey, CheckpointPosition, CheckpointQuery, CheckpointRecord};
use crate::domain::id::{CheckpointId, ExecutionId, TenantId, WorkflowId};
use crate::domain::page::MAX_PAGE_BYTES;
use crate::domain::state::{StateDocument, StateKey};
use crate::store::{CheckpointPage, Lookup, Result};

const TABLE: &str = "checkpoint";

/// Columns of [`item_of`].
macro_rules! item_columns {
    () => {
        "c.version, c.label, c.metadata, c.state_version, c.created_at, c.created_by, c.size"
    };
}

/// The join with the head leaves out what belongs to removed incarnations.
macro_rules! select_list {
    ($index:literal, $condition:literal) => {
        concat!(
            "SELECT c.state_id, c.checkpoint_id, c.workflow_id, c.execution_id, ",
            item_columns!(),
            " FROM checkpoint c INDEXED BY ",
            $index,
            " CROSS JOIN execution_state s ON s.tenant_id = c.tenant_id AND s.state_id = c.state_id
              WHERE c.tenant_id = ?1 AND c.deleted = 0 AND c.created_at > ?2 AND (c.created_at, c.state_id, c.checkpoint_id) < (?3, ?4, ?5)",
            $condition,
            " ORDER BY c.created_at DESC, c.state_id DESC, c.checkpoint_id DESC LIMIT ?6"
        )
    };
}

const SELECT_ONE: &str = concat!(
    "SELECT c.state_id, c.deleted, ",
    item_columns!(),
    ", c.body FROM execution_state s JOIN checkpoint c ON c.tenant_id = s.tenant_id AND c.state_id = s.state_id
      WHERE s.tenant_id = ?1 AND s.workflow_id = ?2 AND s.execution_id = ?3 AND c.checkpoint_id = ?4"
);
const SELECT_LIST: &str = select_list!("checkpoint_listed", "");
const SELECT_LIST_OF_WORKFLOW: &str = select_list!("checkpoint_of_workflow", " AND c.workflow_id = ?7");
/// An id of an execution may occur in few workflows, so that the workflow need not be in the index.
const SELECT_LIST_OF_EXECUTION: &str =
    select_list!("checkpoint_of_execution", " AND c.execution_id = ?8 AND c.workflow_id = coalesce(?7, c.workflow_id)");

pub(super) async fn current(connection: &mut SqliteConnection, tenant: &TenantId, key: &CheckpointKey) -> Result<Lookup<CheckpointRecord>> {
    let row = sqlx::query(SELECT_ONE)
        .bind(tenant.as_str())
        .bind(key.state.workflow.as_str())
        .bind(key.state.execution.as_str())
        .bind(key.checkpoint.as_str())
        .fetch_optional(connection)
        .await
        .map_err(store_error)?;
    let Some(row) = row else { return Ok(Lookup::Absent) };
    let columns = Columns::of(TABLE, &row);
    if columns.flag("deleted")? {
        return columns.version("version").map(Lookup::Gone);
    }
    let document = StateDocument::from_stored(columns.get("body")?).ok_or_else(|| columns.corrupt("body"))?;
    Ok(Lookup::Live(CheckpointRecord { item: item_of(key.clone(), &row)?, document }))
}

pub(super) async fn list(connection: &mut SqliteConnection, tenant: &TenantId, query: &CheckpointQuery) -> Result<CheckpointPage> {
    let sql = match (&query.workflow, &query.execution) {
        (_, Some(_)) => SELECT_LIST_OF_EXECUTION,
        (Some(_), None) => SELECT_LIST_OF_WORKFLOW,
        (None, None) => SELECT_LIST,
    };
    let after = query.after.as_ref();
    let mut rows = sqlx::query(sql)
        .bind(tenant.as_str())
        .bind(query.created_after.map_or(i64::MIN, |moment| moment.as_microseconds()))
        .bind(after.map_or(i64::MAX, |after| after.created_at.as_microseconds()))
        .bind(after.map_or(i64::MAX, |after| after.incarnation))
        .bind(after.map(|after| after.checkpoint.as_str()).unwrap_or_default())
        .bind(i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX))
        .bind(query.workflow.as_ref().map(WorkflowId::as_str))
        .bind(query.execution.as_ref().map(ExecutionId::as_str))
        .fetch(connection);
    let mut page = CheckpointPage { items: Vec::new(), more: false, position: None };
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await.map_err(store_error)? {
        if page.items.len() == query.limit || bytes >= MAX_PAGE_BYTES {
            page.more = true;
            break;
        }
        let columns = Columns::of(TABLE, &row);
        let key = CheckpointKey {
            state: StateKey {
                workflow: WorkflowId::parse(columns.get("workflow_id")?).map_err(|_| columns.corrupt("workflow_id"))?,
                execution: ExecutionId::parse(columns.get("execution_id")?).map_err(|_| columns.corrupt("execution_id"))?,
            },
            checkpoint: CheckpointId::parse(columns.get("checkpoint_id")?).map_err(|_| columns.corrupt("checkpoint_id"))?,
        };
        let item = item_of(key, &row)?;
        bytes += item.metadata.len();
        page.position = Some(CheckpointPosition {
            created_at: item.created_at,
            checkpoint: item.key.checkpoint.clone(),
            incarnation: columns.get("state_id")?,
        });
        page.items.push(item);
    }
    Ok(page)
}

fn item_of(key: CheckpointKey, row: &SqliteRow) -> Result<CheckpointItem> {
    let columns = Columns::of(TABLE, row);
    Ok(CheckpointItem {
        key,
        version: columns.version("version")?,
        label: columns.get("label")?,
        metadata: columns.get::<&str>("metadata")?.into(),
        state_version: columns.get::<Option<i64>>("state_version")?.map(|_| columns.version("state_version")).transpose()?,
        created_at: columns.time("created_at")?,
        created_by: columns.get("created_by")?,
        size: columns.get("size")?,
    })
}
