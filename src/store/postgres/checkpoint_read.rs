//! Reading checkpoints. All go through the head: those of another incarnation of the execution are not there.

use sqlx::postgres::PgRow;
use sqlx::query::Query;
use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::rows;
use super::time::{FIRST_MOMENT, LAST_MOMENT};
use super::work::Work;
use crate::domain::checkpoint::{CheckpointItem, CheckpointKey, CheckpointPosition, CheckpointQuery, CheckpointRecord};
use crate::domain::id::{CheckpointId, ExecutionId, TenantId, WorkflowId};
use crate::domain::page::MAX_PAGE_BYTES;
use crate::domain::state::{StateDocument, StateKey};
use crate::domain::version::Version;
use crate::store::{CheckpointPage, Lookup};

/// One row for each of $2 to $4 in their order. Of an absent one nothing.
const CURRENT: &str = "
    SELECT c.* FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS u(workflow, execution, checkpoint, n)
      LEFT JOIN LATERAL (SELECT y.state_id FROM execution_state y
        WHERE y.tenant_id = $1 AND y.workflow_id = u.workflow AND y.execution_id = u.execution LIMIT 1) x ON true
      LEFT JOIN LATERAL (
        SELECT y.version, y.state_version, y.created_at, y.created_by, y.size, y.label, y.metadata, y.body, y.deleted
        FROM checkpoint y WHERE y.tenant_id = $1 AND y.state_id = x.state_id AND y.checkpoint_id = u.checkpoint LIMIT 1) c ON true
    ORDER BY u.n";

/// Whether `$table` is live, newer than $2, and behind the position $3 to $5.
macro_rules! behind {
    ($table:literal) => {
        concat!(
            " AND NOT ",
            $table,
            ".deleted AND ",
            $table,
            ".created_at > $2 AND ",
            $table,
            ".created_at <= $3
              AND (",
            $table,
            ".created_at, ",
            $table,
            ".state_id, ",
            $table,
            ".checkpoint_id) < ($3, $4, $5)
              ORDER BY ",
            $table,
            ".created_at DESC, ",
            $table,
            ".state_id DESC, ",
            $table,
            ".checkpoint_id DESC LIMIT $6 + 1"
        )
    };
}

/// Newest first, cut where the metadata before a row have filled a page. `found` counts one row more than the page may hold.
macro_rules! page {
    ($($found:expr),+) => {
        concat!(
            "WITH found AS MATERIALIZED (",
            $($found,)+
            "),
             page AS MATERIALIZED (
               SELECT * FROM (SELECT state_id, checkpoint_id, row_number() OVER w AS position, sum(size) OVER w - size AS before
                              FROM found WINDOW w AS (ORDER BY created_at DESC, state_id DESC, checkpoint_id DESC)) f
               WHERE f.position <= $6 AND f.before < $7)
             SELECT c.state_id, c.checkpoint_id, c.workflow_id, c.execution_id, c.version, c.state_version, c.created_at, c.created_by,
                    c.size, c.label, c.metadata, (SELECT count(*) FROM found) AS found
             FROM page p CROSS JOIN LATERAL (
               SELECT * FROM checkpoint y WHERE y.tenant_id = $1 AND y.state_id = p.state_id AND y.checkpoint_id = p.checkpoint_id LIMIT 1) c
             ORDER BY p.position"
        )
    };
}

/// The checkpoints whose incarnations are those of their heads, with `$filter`.
macro_rules! found {
    ($filter:literal) => {
        concat!(
            "SELECT c.state_id, c.checkpoint_id, c.created_at, octet_length(c.metadata) AS size FROM checkpoint c
               JOIN LATERAL (SELECT y.state_id FROM execution_state y WHERE y.tenant_id = $1 AND y.workflow_id = c.workflow_id
                               AND y.execution_id = c.execution_id LIMIT 1) x ON x.state_id = c.state_id
             WHERE c.tenant_id = $1",
            $filter,
            behind!("c")
        )
    };
}

/// Each of the lists has its index.
const OF_ALL: &str = page!(found!(""));
const OF_WORKFLOW: &str = page!(found!(" AND c.workflow_id = $8"));
const OF_EXECUTION_ID: &str = page!(found!(" AND c.execution_id = $8"));

/// Of one execution its incarnation gives the rows, and OFFSET keeps the planner from looking for them in the order of another list.
const OF_EXECUTION: &str = page!(
    "SELECT c.* FROM execution_state x CROSS JOIN LATERAL (
       SELECT y.state_id, y.checkpoint_id, y.created_at, octet_length(y.metadata) AS size, y.deleted FROM checkpoint y
       WHERE y.tenant_id = $1 AND y.state_id = x.state_id OFFSET 0) c
     WHERE x.tenant_id = $1 AND x.workflow_id = $8 AND x.execution_id = $9",
    behind!("c")
);

/// A checkpoint to read.
#[derive(Clone)]
pub(super) struct CheckpointGet {
    pub(super) tenant: TenantId,
    pub(super) key: CheckpointKey,
}

/// Reads checkpoints.
pub(super) struct GetCheckpoints<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [CheckpointGet],
}

impl Work for GetCheckpoints<'_> {
    type Output = Vec<Lookup<CheckpointRecord>>;
    const TABLE: &'static str = "checkpoint";

    async fn run(&self, connection: &mut PgConnection, _offset: i64) -> Result<Self::Output, Failure> {
        let keys: Vec<_> = self.rows.iter().map(|row| &row.key).collect();
        find_all(connection, self.tenant, &keys).await
    }
}

/// Reads one checkpoint.
pub(super) async fn find(
    connection: &mut PgConnection,
    tenant: &TenantId,
    key: &CheckpointKey,
) -> Result<Lookup<CheckpointRecord>, Failure> {
    Ok(find_all(connection, tenant, &[key]).await?.pop().unwrap_or(Lookup::Absent))
}

async fn find_all(
    connection: &mut PgConnection,
    tenant: &TenantId,
    keys: &[&CheckpointKey],
) -> Result<Vec<Lookup<CheckpointRecord>>, Failure> {
    let rows = sqlx::query(CURRENT)
        .bind(tenant.as_str())
        .bind(keys.iter().map(|key| key.state.workflow.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.state.execution.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.checkpoint.as_str()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    keys.iter().zip(&rows).map(|(key, row)| current(key, row)).collect()
}

fn current(key: &CheckpointKey, row: &PgRow) -> Result<Lookup<CheckpointRecord>, Failure> {
    match row.try_get::<Option<bool>, _>("deleted")? {
        None => Ok(Lookup::Absent),
        Some(true) => Ok(Lookup::Gone(rows::version(row, "version")?)),
        Some(false) => Ok(Lookup::Live(record(key.clone(), row)?)),
    }
}

/// Reads a page of checkpoints.
pub(super) struct ListCheckpoints<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) query: &'a CheckpointQuery,
}

impl Work for ListCheckpoints<'_> {
    type Output = CheckpointPage;
    const TABLE: &'static str = "checkpoint";

    async fn run(&self, connection: &mut PgConnection, _offset: i64) -> Result<Self::Output, Failure> {
        let query = self.query;
        let (workflow, execution) = (query.workflow.as_ref().map(WorkflowId::as_str), query.execution.as_ref().map(ExecutionId::as_str));
        let (statement, names) = match (workflow, execution) {
            (None, None) => (OF_ALL, vec![]),
            (Some(workflow), None) => (OF_WORKFLOW, vec![workflow]),
            (None, Some(execution)) => (OF_EXECUTION_ID, vec![execution]),
            (Some(workflow), Some(execution)) => (OF_EXECUTION, vec![workflow, execution]),
        };
        let after = query.after.as_ref();
        let statement = sqlx::query(statement)
            .bind(self.tenant.as_str())
            .bind(query.created_after.unwrap_or(FIRST_MOMENT))
            .bind(after.map_or(LAST_MOMENT, |position| position.created_at))
            .bind(after.map_or(i64::MAX, |position| position.incarnation))
            .bind(after.map_or("", |position| position.checkpoint.as_str()))
            .bind(i64::try_from(query.limit).unwrap_or(i64::MAX - 1))
            .bind(i64::try_from(MAX_PAGE_BYTES).unwrap_or(i64::MAX));
        let rows = names.into_iter().fold(statement, Query::bind).fetch_all(connection).await?;
        let items = rows.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
        let position = match (rows.last(), items.last()) {
            (Some(row), Some(item)) => Some(CheckpointPosition {
                created_at: item.created_at,
                checkpoint: item.key.checkpoint.clone(),
                incarnation: row.try_get("state_id")?,
            }),
            _ => None,
        };
        Ok(CheckpointPage { more: rows::found_more(&rows, items.len())?, items, position })
    }
}

fn listed(row: &PgRow) -> Result<CheckpointItem, Failure> {
    let (workflow, execution, checkpoint): (&str, &str, &str) =
        (row.try_get("workflow_id")?, row.try_get("execution_id")?, row.try_get("checkpoint_id")?);
    let key = CheckpointKey {
        state: StateKey {
            workflow: WorkflowId::parse(workflow).map_err(|why| Failure::corrupt(format!("workflow_id {why}")))?,
            execution: ExecutionId::parse(execution).map_err(|why| Failure::corrupt(format!("execution_id {why}")))?,
        },
        checkpoint: CheckpointId::parse(checkpoint).map_err(|why| Failure::corrupt(format!("checkpoint_id {why}")))?,
    };
    item(key, row)
}

fn item(key: CheckpointKey, row: &PgRow) -> Result<CheckpointItem, Failure> {
    let version: Version = rows::version(row, "version")?;
    let metadata: Option<&str> = row.try_get("metadata")?;
    Ok(CheckpointItem {
        key,
        version,
        label: row.try_get("label")?,
        metadata: metadata.ok_or_else(|| Failure::corrupt(format!("version {version} has no metadata")))?.into(),
        state_version: row.try_get::<Option<i64>, _>("state_version")?.map(|_| rows::version(row, "state_version")).transpose()?,
        created_at: row.try_get("created_at")?,
        created_by: row.try_get("created_by")?,
        size: row.try_get("size")?,
    })
}

/// The record in a row of `checkpoint`.
pub(super) fn record(key: CheckpointKey, row: &PgRow) -> Result<CheckpointRecord, Failure> {
    let item = item(key, row)?;
    let body: Option<String> = row.try_get("body")?;
    let document = body
        .and_then(StateDocument::from_stored)
        .ok_or_else(|| Failure::corrupt(format!("the body of version {} is not a state", item.version)))?;
    Ok(CheckpointRecord { item, document })
}
