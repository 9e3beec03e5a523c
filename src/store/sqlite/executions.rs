//! Lists of workflows and executions.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::error::store_error;
use super::row::Columns;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ExecutionId, TenantId, WorkflowId};
use crate::domain::page::Page;
use crate::domain::state::{ExecutionItem, ExecutionOrder, ExecutionPage, ExecutionQuery, RecentPosition, StateKey};
use crate::store::Result;

const TABLE: &str = "execution_state";

/// From workflow to workflow through the index of the key, however many executions each has.
const SELECT_WORKFLOWS: &str = "
    WITH RECURSIVE found (workflow_id) AS (
        SELECT (SELECT workflow_id FROM execution_state
                WHERE tenant_id = ?1 AND workflow_id > ?2 AND deleted = 0 ORDER BY workflow_id LIMIT 1)
        UNION ALL
        SELECT (SELECT s.workflow_id FROM execution_state s
                WHERE s.tenant_id = ?1 AND s.workflow_id > found.workflow_id AND s.deleted = 0 ORDER BY s.workflow_id LIMIT 1)
        FROM found WHERE found.workflow_id IS NOT NULL
        LIMIT ?3)
    SELECT workflow_id FROM found WHERE workflow_id IS NOT NULL";

macro_rules! select_executions {
    ($condition:literal) => {
        concat!(
            "SELECT state_id, execution_id, version, status, created_at, updated_at, listed_at FROM execution_state
             WHERE tenant_id = ?1 AND workflow_id = ?2 AND deleted = 0 AND updated_at > ?3 AND status = coalesce(?4, status) AND ",
            $condition,
            " LIMIT ?5"
        )
    };
}

const SELECT_BY_ID: &str = select_executions!("execution_id > ?6 ORDER BY execution_id");
/// The hour bounds the range of the index; the exact time is compared beside it.
const SELECT_RECENT: &str =
    select_executions!("listed_at >= ?6 AND (listed_at, state_id) < (?7, ?8) ORDER BY listed_at DESC, state_id DESC");

pub(super) async fn workflows(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    after: Option<&WorkflowId>,
    limit: usize,
) -> Result<Page<WorkflowId>> {
    let rows = sqlx::query(SELECT_WORKFLOWS)
        .bind(tenant.as_str())
        .bind(after.map(WorkflowId::as_str).unwrap_or_default())
        .bind(one_more(limit))
        .fetch_all(connection)
        .await
        .map_err(store_error)?;
    let id = |row: &SqliteRow| {
        let columns = Columns::of(TABLE, row);
        WorkflowId::parse(columns.get("workflow_id")?).map_err(|_| columns.corrupt("workflow_id"))
    };
    Ok(Page { items: rows.iter().take(limit).map(id).collect::<Result<_>>()?, more: rows.len() > limit })
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    workflow: &WorkflowId,
    query: &ExecutionQuery,
) -> Result<ExecutionPage> {
    let begin = |sql| {
        sqlx::query(sql)
            .bind(tenant.as_str())
            .bind(workflow.as_str())
            .bind(query.updated_after.map_or(i64::MIN, Timestamp::as_microseconds))
            .bind(query.status.as_deref())
            .bind(one_more(query.limit))
    };
    let select = match &query.order {
        ExecutionOrder::Id(after) => begin(SELECT_BY_ID).bind(after.as_ref().map(ExecutionId::as_str).unwrap_or_default()),
        ExecutionOrder::Recent(after) => begin(SELECT_RECENT)
            .bind(query.updated_after.map_or(i64::MIN, |moment| moment.hour().as_microseconds()))
            .bind(after.map_or(i64::MAX, |after| after.listed_at.as_microseconds()))
            .bind(after.map_or(i64::MAX, |after| after.incarnation)),
    };
    let rows = select.fetch_all(connection).await.map_err(store_error)?;
    let shown = &rows[..rows.len().min(query.limit)];
    let items = shown.iter().map(|row| item_of(workflow, row)).collect::<Result<_>>()?;
    let position = match query.order {
        ExecutionOrder::Id(_) => None,
        ExecutionOrder::Recent(_) => shown.last().map(position_of).transpose()?,
    };
    Ok(ExecutionPage { items, more: rows.len() > query.limit, position })
}

fn one_more(limit: usize) -> i64 {
    i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX)
}

fn item_of(workflow: &WorkflowId, row: &SqliteRow) -> Result<ExecutionItem> {
    let columns = Columns::of(TABLE, row);
    let execution = ExecutionId::parse(columns.get("execution_id")?).map_err(|_| columns.corrupt("execution_id"))?;
    Ok(ExecutionItem {
        key: StateKey { workflow: workflow.clone(), execution },
        version: columns.version("version")?,
        status: columns.get("status")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}

fn position_of(row: &SqliteRow) -> Result<RecentPosition> {
    let columns = Columns::of(TABLE, row);
    Ok(RecentPosition { listed_at: columns.time("listed_at")?, incarnation: columns.get("state_id")? })
}
