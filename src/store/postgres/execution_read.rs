//! Lists of workflows and executions. Pages stay as fast as the first: each begins where an index says.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::rows;
use super::time::{FIRST_MOMENT, LAST_MOMENT};
use super::work::Work;
use crate::domain::id::{ExecutionId, TenantId, WorkflowId};
use crate::domain::page::Page;
use crate::domain::state::{ExecutionItem, ExecutionOrder, ExecutionPage, ExecutionQuery, RecentPosition, StateKey};

/// A loose scan: from each workflow the index leads to the next one, past all executions between them.
const WORKFLOWS: &str = "
    WITH RECURSIVE t AS (
      (SELECT x.workflow_id FROM execution_state x WHERE x.tenant_id = $1 AND x.workflow_id > $2 ORDER BY x.workflow_id LIMIT 1)
      UNION ALL
      SELECT (SELECT x.workflow_id FROM execution_state x WHERE x.tenant_id = $1 AND x.workflow_id > t.workflow_id
              ORDER BY x.workflow_id LIMIT 1)
      FROM t WHERE t.workflow_id IS NOT NULL)
    SELECT t.workflow_id FROM t CROSS JOIN LATERAL (
      SELECT FROM execution_state x WHERE x.tenant_id = $1 AND x.workflow_id = t.workflow_id AND NOT x.deleted LIMIT 1) x
    WHERE t.workflow_id IS NOT NULL LIMIT $3";

const BY_ID: &str = "
    SELECT x.execution_id, x.state_id, x.version, x.status, x.created_at, x.updated_at, x.listed_at FROM execution_state x
    WHERE x.tenant_id = $1 AND x.workflow_id = $2 AND NOT x.deleted AND x.execution_id > $6
      AND ($3::text IS NULL OR x.status = $3) AND x.updated_at > $4
    ORDER BY x.execution_id LIMIT $5";

/// Behind the position $6, $7. An execution moves at most once an hour; the hour of $4 bounds the scan, and the time itself decides.
const BY_RECENT_CHANGE: &str = "
    SELECT x.execution_id, x.state_id, x.version, x.status, x.created_at, x.updated_at, x.listed_at FROM execution_state x
    WHERE x.tenant_id = $1 AND x.workflow_id = $2 AND NOT x.deleted AND (x.listed_at, x.state_id) < ($6, $7)
      AND x.listed_at >= date_trunc('hour', $4::timestamptz) AND ($3::text IS NULL OR x.status = $3) AND x.updated_at > $4
    ORDER BY x.listed_at DESC, x.state_id DESC LIMIT $5";

/// Reads a page of workflows.
pub(super) struct ListWorkflows<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) after: Option<&'a WorkflowId>,
    pub(super) limit: usize,
}

impl Work for ListWorkflows<'_> {
    type Output = Page<WorkflowId>;
    const TABLE: &'static str = "execution_state";

    async fn run(&self, connection: &mut PgConnection, _offset: i64) -> Result<Self::Output, Failure> {
        // No id is empty, so all of them lie behind the empty one.
        let found: Vec<String> = sqlx::query_scalar(WORKFLOWS)
            .bind(self.tenant.as_str())
            .bind(self.after.map_or("", WorkflowId::as_str))
            .bind(rows::one_more(self.limit))
            .fetch_all(connection)
            .await?;
        let more = found.len() > self.limit;
        let items =
            found.iter().take(self.limit).map(|id| WorkflowId::parse(id).map_err(|why| Failure::corrupt(format!("workflow_id {why}"))));
        Ok(Page { items: items.collect::<Result<_, _>>()?, more })
    }
}

/// Reads a page of executions.
pub(super) struct ListExecutions<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) workflow: &'a WorkflowId,
    pub(super) query: &'a ExecutionQuery,
}

impl Work for ListExecutions<'_> {
    type Output = ExecutionPage;
    const TABLE: &'static str = "execution_state";

    async fn run(&self, connection: &mut PgConnection, _offset: i64) -> Result<Self::Output, Failure> {
        let statement = match &self.query.order {
            ExecutionOrder::Id(_) => BY_ID,
            ExecutionOrder::Recent(_) => BY_RECENT_CHANGE,
        };
        let query = sqlx::query(statement)
            .bind(self.tenant.as_str())
            .bind(self.workflow.as_str())
            .bind(self.query.status.as_deref())
            .bind(self.query.updated_after.unwrap_or(FIRST_MOMENT))
            .bind(rows::one_more(self.query.limit));
        let query = match &self.query.order {
            ExecutionOrder::Id(after) => query.bind(after.as_ref().map_or("", ExecutionId::as_str)),
            ExecutionOrder::Recent(after) => query
                .bind(after.map_or(LAST_MOMENT, |position| position.listed_at))
                .bind(after.map_or(i64::MAX, |position| position.incarnation)),
        };
        let found = query.fetch_all(connection).await?;
        let more = found.len() > self.query.limit;
        let shown: Vec<&PgRow> = found.iter().take(self.query.limit).collect();
        let position = match (&self.query.order, shown.last()) {
            (ExecutionOrder::Recent(_), Some(row)) => {
                Some(RecentPosition { listed_at: row.try_get("listed_at")?, incarnation: row.try_get("state_id")? })
            }
            _ => None,
        };
        let items = shown.into_iter().map(|row| self.item(row)).collect::<Result<_, _>>()?;
        Ok(ExecutionPage { items, more, position })
    }
}

impl ListExecutions<'_> {
    fn item(&self, row: &PgRow) -> Result<ExecutionItem, Failure> {
        let execution: &str = row.try_get("execution_id")?;
        let execution = ExecutionId::parse(execution).map_err(|why| Failure::corrupt(format!("execution_id {why}")))?;
        Ok(ExecutionItem {
            key: StateKey { workflow: self.workflow.clone(), execution },
            version: rows::version(row, "version")?,
            status: row.try_get("status")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}
