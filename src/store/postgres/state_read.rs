//! Reading states. Every statement names the tenant although row level security does too.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::rows;
use super::work::Work;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ExecutionId, TenantId, WorkflowId};
use crate::domain::page::Page;
use crate::domain::state::{ForkedFrom, HistoryItem, Operation, StateAt, StateDocument, StateKey, StateRecord};
use crate::domain::version::Version;
use crate::store::{HistoryQuery, Lookup};

// LATERAL with a LIMIT: a plan from the time when the tables were small would else join by reading all of the tenant's versions.

/// The current versions of heads, one row for each of $2 and $3 in their order; of a deleted one the head alone, of an absent one nothing.
const CURRENT: &str = "
    SELECT x.version AS head_version, x.deleted AS head_deleted, v.*
    FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS u(w, e, n)
      LEFT JOIN LATERAL (SELECT y.state_id, y.version, y.deleted FROM execution_state y
        WHERE y.tenant_id = $1 AND y.workflow_id = u.w AND y.execution_id = u.e LIMIT 1) x ON true
      LEFT JOIN LATERAL (
        SELECT y.version, y.body, y.created_at, y.at, y.actor,
               y.forked_workflow, y.forked_execution, y.forked_version, y.forked_checkpoint
        FROM state_version y WHERE y.tenant_id = $1 AND y.state_id = x.state_id AND y.version = x.version AND NOT y.deleted LIMIT 1) v ON true
    ORDER BY u.n";

/// One version by the key of its history.
const VERSION: &str = "
    SELECT v.version, v.body, v.created_at, v.at, v.actor,
           v.forked_workflow, v.forked_execution, v.forked_version, v.forked_checkpoint
    FROM state_version v WHERE v.tenant_id = $1 AND v.state_id = $2 AND v.version = $3 AND NOT v.deleted";

/// Versions by the keys of their histories.
const VERSIONS: &str = "
    SELECT u.state_id, v.* FROM unnest($2::int8[], $3::int8[]) AS u(state_id, version) CROSS JOIN LATERAL (
      SELECT y.version, y.body, y.created_at, y.at, y.actor, y.forked_workflow, y.forked_execution, y.forked_version, y.forked_checkpoint
      FROM state_version y WHERE y.tenant_id = $1 AND y.state_id = u.state_id AND y.version = u.version AND NOT y.deleted LIMIT 1) v";

/// One version by the key of its execution.
const PAST: &str = "
    SELECT v.* FROM execution_state x CROSS JOIN LATERAL (
      SELECT y.version, y.body, y.created_at, y.at, y.actor,
             y.forked_workflow, y.forked_execution, y.forked_version, y.forked_checkpoint
      FROM state_version y WHERE y.tenant_id = $1 AND y.state_id = x.state_id AND y.version = $4 AND NOT y.deleted LIMIT 1) v
    WHERE x.tenant_id = $1 AND x.workflow_id = $2 AND x.execution_id = $3";

/// The version that was in force at the moment $4: times grow with versions, so the newest one that is not younger is found by halving. All
/// versions up to `low` are of the moment or before, all from `high` on are later; between two versions there may be any number of numbers
/// that none has. $5 is the clock's offset.
const AT: &str = "
    WITH RECURSIVE x AS MATERIALIZED (
      SELECT state_id, version FROM execution_state WHERE tenant_id = $1 AND workflow_id = $2 AND execution_id = $3),
    search (low, high) AS (
      SELECT 0::int8, x.version + 1 FROM x
      UNION ALL
      SELECT CASE WHEN y.at <= $4 THEN y.version ELSE s.low END, CASE WHEN y.at <= $4 THEN s.high ELSE s.low + (s.high - s.low) / 2 END
      FROM search s CROSS JOIN x LEFT JOIN LATERAL (
        SELECT z.version, z.at FROM state_version z
        WHERE z.tenant_id = $1 AND z.state_id = x.state_id AND z.version >= s.low + (s.high - s.low) / 2 AND z.version < s.high
        ORDER BY z.version LIMIT 1) y ON true
      WHERE s.high - s.low > 1)
    SELECT $4::timestamptz > clock_timestamp() + $5::int8 * interval '1 microsecond' AS is_future, coalesce(v.deleted, true) AS is_absent,
           v.version, v.body, v.created_at, v.at, v.actor, v.forked_workflow, v.forked_execution, v.forked_version, v.forked_checkpoint
    FROM (SELECT) one
      LEFT JOIN x ON true
      LEFT JOIN LATERAL (
        SELECT y.* FROM state_version y
        WHERE y.tenant_id = $1 AND y.state_id = x.state_id AND y.version = (SELECT max(low) FROM search) LIMIT 1) v ON true";

const NEWEST_FIRST: &str = "
    SELECT v.* FROM execution_state x CROSS JOIN LATERAL (
      SELECT y.version, y.operation, y.at, y.actor, y.status, y.size, y.transition, y.checkpoint
      FROM state_version y WHERE y.tenant_id = $1 AND y.state_id = x.state_id AND y.version < $4 ORDER BY y.version DESC LIMIT $5) v
    WHERE x.tenant_id = $1 AND x.workflow_id = $2 AND x.execution_id = $3 ORDER BY v.version DESC";

const OLDEST_FIRST: &str = "
    SELECT v.* FROM execution_state x CROSS JOIN LATERAL (
      SELECT y.version, y.operation, y.at, y.actor, y.status, y.size, y.transition, y.checkpoint
      FROM state_version y WHERE y.tenant_id = $1 AND y.state_id = x.state_id AND y.version > $4 ORDER BY y.version LIMIT $5) v
    WHERE x.tenant_id = $1 AND x.workflow_id = $2 AND x.execution_id = $3 ORDER BY v.version";

const HAS_HISTORY: &str = "
    SELECT EXISTS (SELECT FROM execution_state x CROSS JOIN LATERAL (
        SELECT FROM state_version y WHERE y.tenant_id = $1 AND y.state_id = x.state_id LIMIT 1) v
      WHERE x.tenant_id = $1 AND x.workflow_id = $2 AND x.execution_id = $3)";

/// The versions of a history that are still kept and are no deletions, of those whose states and numbers are given.
pub(super) async fn kept_versions(
    connection: &mut PgConnection,
    tenant: &TenantId,
    (states, versions): (Vec<i64>, Vec<i64>),
) -> Result<Vec<PgRow>, Failure> {
    Ok(sqlx::query(VERSIONS).bind(tenant.as_str()).bind(states).bind(versions).fetch_all(connection).await?)
}

/// The row of one version; `None` when it is no longer kept, or a deletion.
pub(super) async fn kept_version(
    connection: &mut PgConnection,
    tenant: &TenantId,
    state_id: i64,
    version: i64,
) -> Result<Option<PgRow>, Failure> {
    Ok(sqlx::query(VERSION).bind(tenant.as_str()).bind(state_id).bind(version).fetch_optional(connection).await?)
}

/// A state to read.
#[derive(Clone)]
pub(super) struct StateGet {
    pub(super) tenant: TenantId,
    pub(super) key: StateKey,
}

/// Reads current versions.
pub(super) struct GetStates<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [StateGet],
}

impl Work for GetStates<'_> {
    type Output = Vec<Lookup<StateRecord>>;
    const TABLE: &'static str = "execution_state";

    async fn run(&self, connection: &mut PgConnection, _offset: i64) -> Result<Self::Output, Failure> {
        let rows = sqlx::query(CURRENT)
            .bind(self.tenant.as_str())
            .bind(self.rows.iter().map(|row| row.key.workflow.as_str()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.key.execution.as_str()).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
        self.rows.iter().zip(&rows).map(|(get, row)| current(&get.key, row)).collect()
    }
}

fn current(key: &StateKey, row: &PgRow) -> Result<Lookup<StateRecord>, Failure> {
    let Some(is_deleted) = row.try_get::<Option<bool>, _>("head_deleted")? else { return Ok(Lookup::Absent) };
    if is_deleted {
        // A head that never had a state, because only a checkpoint was put under it, has the version floor: 0 at first.
        return Ok(Version::new(row.try_get("head_version")?).map_or(Lookup::Absent, Lookup::Gone));
    }
    if row.try_get::<Option<i64>, _>("version")?.is_none() {
        return Err(Failure::corrupt("the head's version has no row in state_version"));
    }
    Ok(Lookup::Live(record(key, row)?))
}

/// Reads one version.
pub(super) struct GetStateVersion<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) key: &'a StateKey,
    pub(super) version: Version,
}

impl Work for GetStateVersion<'_> {
    type Output = Option<StateRecord>;
    const TABLE: &'static str = "state_version";

    async fn run(&self, connection: &mut PgConnection, _offset: i64) -> Result<Self::Output, Failure> {
        let row = sqlx::query(PAST)
            .bind(self.tenant.as_str())
            .bind(self.key.workflow.as_str())
            .bind(self.key.execution.as_str())
            .bind(self.version.get())
            .fetch_optional(connection)
            .await?;
        row.map(|row| record(self.key, &row)).transpose()
    }
}

/// Reads the version that was in force at a moment.
pub(super) struct GetStateAt<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) key: &'a StateKey,
    pub(super) at: Timestamp,
}

impl Work for GetStateAt<'_> {
    type Output = StateAt;
    const TABLE: &'static str = "state_version";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let row = sqlx::query(AT)
            .bind(self.tenant.as_str())
            .bind(self.key.workflow.as_str())
            .bind(self.key.execution.as_str())
            .bind(self.at)
            .bind(offset)
            .fetch_one(connection)
            .await?;
        if row.try_get("is_future")? {
            return Ok(StateAt::Future);
        }
        if row.try_get("is_absent")? {
            return Ok(StateAt::Absent);
        }
        Ok(StateAt::Live(record(self.key, &row)?))
    }
}

/// Reads a page of the history.
pub(super) struct GetHistory<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) key: &'a StateKey,
    pub(super) query: HistoryQuery,
}

impl Work for GetHistory<'_> {
    type Output = Option<Page<HistoryItem>>;
    const TABLE: &'static str = "state_version";

    async fn run(&self, connection: &mut PgConnection, _offset: i64) -> Result<Self::Output, Failure> {
        let (statement, start) = if self.query.ascending { (OLDEST_FIRST, 0) } else { (NEWEST_FIRST, i64::MAX) };
        let rows = sqlx::query(statement)
            .bind(self.tenant.as_str())
            .bind(self.key.workflow.as_str())
            .bind(self.key.execution.as_str())
            .bind(self.query.after.map_or(start, Version::get))
            .bind(rows::one_more(self.query.limit))
            .fetch_all(&mut *connection)
            .await?;
        if rows.is_empty() && !self.has_history(connection).await? {
            return Ok(None);
        }
        let more = rows.len() > self.query.limit;
        let items = rows.iter().take(self.query.limit).map(history_item).collect::<Result<_, _>>()?;
        Ok(Some(Page { items, more }))
    }
}

impl GetHistory<'_> {
    async fn has_history(&self, connection: &mut PgConnection) -> Result<bool, Failure> {
        Ok(sqlx::query_scalar(HAS_HISTORY)
            .bind(self.tenant.as_str())
            .bind(self.key.workflow.as_str())
            .bind(self.key.execution.as_str())
            .fetch_one(connection)
            .await?)
    }
}

fn history_item(row: &PgRow) -> Result<HistoryItem, Failure> {
    let operation: i16 = row.try_get("operation")?;
    Ok(HistoryItem {
        version: rows::version(row, "version")?,
        operation: Operation::from_number(operation).ok_or_else(|| Failure::corrupt(format!("operation {operation}")))?,
        at: row.try_get("at")?,
        by: row.try_get("actor")?,
        status: row.try_get("status")?,
        size: row.try_get("size")?,
        transition: row.try_get("transition")?,
        checkpoint: row.try_get("checkpoint")?,
    })
}

/// The record in a row of `state_version`.
pub(super) fn record(key: &StateKey, row: &PgRow) -> Result<StateRecord, Failure> {
    let version = rows::version(row, "version")?;
    let body: String = row.try_get("body")?;
    Ok(StateRecord {
        key: key.clone(),
        version,
        document: StateDocument::from_stored(body)
            .ok_or_else(|| Failure::corrupt(format!("the body of version {version} is not a state")))?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("at")?,
        updated_by: row.try_get("actor")?,
        forked_from: forked_from(row)?,
    })
}

/// The origin in the columns `forked_*`.
pub(super) fn forked_from(row: &PgRow) -> Result<Option<ForkedFrom>, Failure> {
    let (workflow, execution): (Option<&str>, Option<&str>) = (row.try_get("forked_workflow")?, row.try_get("forked_execution")?);
    let (Some(workflow), Some(execution)) = (workflow, execution) else { return Ok(None) };
    Ok(Some(ForkedFrom {
        workflow: WorkflowId::parse(workflow).map_err(|why| Failure::corrupt(format!("forked_workflow {why}")))?,
        execution: ExecutionId::parse(execution).map_err(|why| Failure::corrupt(format!("forked_execution {why}")))?,
        version: row.try_get::<Option<i64>, _>("forked_version")?.map(|_| rows::version(row, "forked_version")).transpose()?,
        checkpoint: row.try_get("forked_checkpoint")?,
    }))
}
