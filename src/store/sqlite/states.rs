//! Reading states and their history.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::error::store_error;
use super::row::Columns;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ExecutionId, TenantId, WorkflowId};
use crate::domain::page::Page;
use crate::domain::state::{ForkedFrom, HistoryItem, Operation, StateAt, StateDocument, StateKey, StateRecord};
use crate::domain::version::Version;
use crate::store::{HistoryQuery, Lookup, Result};

const TABLE: &str = "state_version";

/// Columns of [`record_of`].
macro_rules! record_columns {
    () => {
        "v.version, v.created_at, v.at, v.actor, v.forked_workflow, v.forked_execution, v.forked_version, v.forked_checkpoint, v.body"
    };
}

macro_rules! select_history {
    ($condition:literal) => {
        concat!(
            "SELECT v.version, v.operation, v.at, v.actor, v.status, v.size, v.transition, v.checkpoint
             FROM execution_state s JOIN state_version v ON v.tenant_id = s.tenant_id AND v.state_id = s.state_id
             WHERE s.tenant_id = ?1 AND s.workflow_id = ?2 AND s.execution_id = ?3 AND ",
            $condition,
            " LIMIT ?5"
        )
    };
}

const SELECT_CURRENT: &str = concat!(
    "SELECT s.version AS head_version, s.deleted AS head_deleted, ",
    record_columns!(),
    " FROM execution_state s
      LEFT JOIN state_version v ON v.tenant_id = s.tenant_id AND v.state_id = s.state_id AND v.version = s.version AND v.deleted = 0
      WHERE s.tenant_id = ?1 AND s.workflow_id = ?2 AND s.execution_id = ?3"
);
const SELECT_VERSION: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM execution_state s JOIN state_version v ON v.tenant_id = s.tenant_id AND v.state_id = s.state_id AND v.version = ?4
      WHERE s.tenant_id = ?1 AND s.workflow_id = ?2 AND s.execution_id = ?3 AND v.deleted = 0"
);
const SELECT_VERSION_OF_LIFE: &str = concat!(
    "SELECT ",
    record_columns!(),
    " FROM state_version v WHERE v.tenant_id = ?1 AND v.state_id = ?2 AND v.version = ?3 AND v.deleted = 0"
);
/// Times grow with versions, so the newest version up to the moment was in force.
const SELECT_AT: &str = concat!(
    "SELECT v.deleted, ",
    record_columns!(),
    " FROM execution_state s JOIN state_version v ON v.tenant_id = s.tenant_id AND v.state_id = s.state_id
      WHERE s.tenant_id = ?1 AND s.workflow_id = ?2 AND s.execution_id = ?3 AND v.at <= ?4 ORDER BY v.version DESC LIMIT 1"
);
const SELECT_NEWEST_FIRST: &str = select_history!("v.version < ?4 ORDER BY v.version DESC");
const SELECT_OLDEST_FIRST: &str = select_history!("v.version > ?4 ORDER BY v.version");
const SELECT_HAS_VERSIONS: &str = "
    SELECT EXISTS (SELECT 1 FROM execution_state s JOIN state_version v ON v.tenant_id = s.tenant_id AND v.state_id = s.state_id
                   WHERE s.tenant_id = ?1 AND s.workflow_id = ?2 AND s.execution_id = ?3)";

pub(super) async fn current(connection: &mut SqliteConnection, tenant: &TenantId, key: &StateKey) -> Result<Lookup<StateRecord>> {
    let row = sqlx::query(SELECT_CURRENT)
        .bind(tenant.as_str())
        .bind(key.workflow.as_str())
        .bind(key.execution.as_str())
        .fetch_optional(connection)
        .await
        .map_err(store_error)?;
    let Some(row) = row else { return Ok(Lookup::Absent) };
    let head = Columns::of("execution_state", &row);
    if head.flag("head_deleted")? {
        // An execution that has checkpoints and never had a state holds 0.
        return Ok(Version::new(head.get("head_version")?).map_or(Lookup::Absent, Lookup::Gone));
    }
    record_of(key, &row).map(Lookup::Live)
}

pub(super) async fn version(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    key: &StateKey,
    version: Version,
) -> Result<Option<StateRecord>> {
    let row = sqlx::query(SELECT_VERSION)
        .bind(tenant.as_str())
        .bind(key.workflow.as_str())
        .bind(key.execution.as_str())
        .bind(version.get())
        .fetch_optional(connection)
        .await
        .map_err(store_error)?;
    row.map(|row| record_of(key, &row)).transpose()
}

pub(super) async fn at(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    key: &StateKey,
    at: Timestamp,
    now: Timestamp,
) -> Result<StateAt> {
    if at > now {
        return Ok(StateAt::Future);
    }
    let row = sqlx::query(SELECT_AT)
        .bind(tenant.as_str())
        .bind(key.workflow.as_str())
        .bind(key.execution.as_str())
        .bind(at.as_microseconds())
        .fetch_optional(connection)
        .await
        .map_err(store_error)?;
    match row {
        Some(row) if !Columns::of(TABLE, &row).flag("deleted")? => record_of(key, &row).map(StateAt::Live),
        _ => Ok(StateAt::Absent),
    }
}

/// A version that an idempotency key names: also of an execution that has been deleted and begun anew since.
pub(super) async fn version_of_life(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    key: &StateKey,
    state_id: i64,
    version: Version,
) -> Result<Option<StateRecord>> {
    let row = sqlx::query(SELECT_VERSION_OF_LIFE)
        .bind(tenant.as_str())
        .bind(state_id)
        .bind(version.get())
        .fetch_optional(connection)
        .await
        .map_err(store_error)?;
    row.map(|row| record_of(key, &row)).transpose()
}

pub(super) async fn history(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    key: &StateKey,
    query: HistoryQuery,
) -> Result<Option<Page<HistoryItem>>> {
    let (sql, beginning) = if query.ascending { (SELECT_OLDEST_FIRST, 0) } else { (SELECT_NEWEST_FIRST, i64::MAX) };
    let rows = sqlx::query(sql)
        .bind(tenant.as_str())
        .bind(key.workflow.as_str())
        .bind(key.execution.as_str())
        .bind(query.after.map_or(beginning, Version::get))
        .bind(i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(store_error)?;
    if rows.is_empty() && !has_versions(connection, tenant, key).await? {
        return Ok(None);
    }
    let items = rows.iter().take(query.limit).map(history_item_of).collect::<Result<_>>()?;
    Ok(Some(Page { items, more: rows.len() > query.limit }))
}

async fn has_versions(connection: &mut SqliteConnection, tenant: &TenantId, key: &StateKey) -> Result<bool> {
    sqlx::query_scalar(SELECT_HAS_VERSIONS)
        .bind(tenant.as_str())
        .bind(key.workflow.as_str())
        .bind(key.execution.as_str())
        .fetch_one(connection)
        .await
        .map_err(store_error)
}

fn record_of(key: &StateKey, row: &SqliteRow) -> Result<StateRecord> {
    let columns = Columns::of(TABLE, row);
    Ok(StateRecord {
        key: key.clone(),
        version: columns.version("version")?,
        document: StateDocument::from_stored(columns.get("body")?).ok_or_else(|| columns.corrupt("body"))?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("at")?,
        updated_by: columns.get("actor")?,
        forked_from: forked_from(&columns)?,
    })
}

/// The origin of a forked execution; every version of its life repeats it.
pub(super) fn forked_from(columns: &Columns<'_>) -> Result<Option<ForkedFrom>> {
    let Some(workflow) = columns.get::<Option<&str>>("forked_workflow")? else { return Ok(None) };
    Ok(Some(ForkedFrom {
        workflow: WorkflowId::parse(workflow).map_err(|_| columns.corrupt("forked_workflow"))?,
        execution: ExecutionId::parse(columns.get("forked_execution")?).map_err(|_| columns.corrupt("forked_execution"))?,
        version: columns.get::<Option<i64>>("forked_version")?.map(|_| columns.version("forked_version")).transpose()?,
        checkpoint: columns.get("forked_checkpoint")?,
    }))
}

fn history_item_of(row: &SqliteRow) -> Result<HistoryItem> {
    let columns = Columns::of(TABLE, row);
    Ok(HistoryItem {
        version: columns.version("version")?,
        operation: Operation::from_number(columns.get("operation")?).ok_or_else(|| columns.corrupt("operation"))?,
        at: columns.time("at")?,
        by: columns.get("actor")?,
        status: columns.get("status")?,
        size: columns.get("size")?,
        transition: columns.get("transition")?,
        checkpoint: columns.get("checkpoint")?,
    })
}
