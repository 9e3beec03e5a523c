//! Removing an execution with everything that hangs on it: its head begins a new incarnation, and the old one waits for the sweeper.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::error::store_error;
use super::heads::Head;
use super::record::{self, Answer, Change, Known, TOMBSTONE_SECONDS, insert_log};
use super::row::Columns;
use super::writer::{Unit, Write};
use crate::domain::checkpoint::CheckpointKey;
use crate::domain::commit::Resource;
use crate::domain::id::{CheckpointId, TenantId};
use crate::domain::state::{MAX_COUNTED, RemovedExecution, StateKey};
use crate::domain::version::{Expected, Version};
use crate::store::change::{ChangeKind, ChangeOperation};
use crate::store::{Outcome, Result, WriteContext, answer};

const COUNT_VERSIONS: &str = "
    SELECT count(*) FROM (SELECT 1 FROM state_version WHERE tenant_id = ?1 AND state_id = ?2 LIMIT ?3)";

const SELECT_CHECKPOINTS: &str = "
    SELECT checkpoint_id, version FROM checkpoint WHERE tenant_id = ?1 AND state_id = ?2 AND deleted = 0 LIMIT ?3";

/// The head is inserted anew, for a new incarnation of the table's own making, whose checkpoints begin behind all that this one had.
/// Parameters from 11 on: state_id, listed_at, sweep_at, schema_version, status, checkpoint_floor.
const REMOVE: &str = concat!(
    "DELETE FROM execution_state WHERE tenant_id = $1 AND state_id = $11;
     INSERT INTO execution_state (tenant_id, workflow_id, execution_id, version, created_version, created_at, updated_at, listed_at,
                                  sweep_at, schema_version, deleted, status, checkpoint_floor)
     VALUES ($1, $2, $3, $4, $4, $5, $5, $12, $13, $14, 1, $15,
             max($16, (SELECT coalesce(max(version) + 1, 0) FROM checkpoint WHERE tenant_id = $1 AND state_id = $11)));
     INSERT INTO removed_state (tenant_id, state_id, queued_at) VALUES ($1, $11, $5);",
    insert_log!()
);

/// [`Store::delete_execution`](crate::store::Store::delete_execution).
pub(super) struct DeleteExecution {
    pub(super) context: WriteContext,
    pub(super) key: StateKey,
    pub(super) expected: Expected,
}

#[async_trait]
impl Write for DeleteExecution {
    type Answer = Outcome<RemovedExecution>;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<RemovedExecution>> {
        let Self { context, key, expected } = self;
        let tenant = &context.tenant;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => return answered.replay(answer::to_removed_execution),
        }
        let head = Head::read(unit.connection, tenant, key).await?;
        let current = head.as_ref().and_then(Head::live_version);
        if !expected.is_met_by(current) {
            return Ok(Outcome::Refused { current });
        }
        let Some(head) = head else { return Ok(Outcome::Absent) };
        let versions: i64 = count_versions(unit.connection, tenant, head.state_id).await?;
        let checkpoints = live_checkpoints(unit.connection, tenant, head.state_id).await?;
        if versions == 0 && checkpoints.is_empty() {
            return Ok(Outcome::Absent);
        }
        let (version, at) = head.previous.next(unit.now)?;
        let keys = [key.workflow.as_str(), key.execution.as_str()];
        let change = Change { kind: ChangeKind::State, operation: ChangeOperation::Deleted, keys, third_key: None, version, at };
        record::bind_change(REMOVE, context, change)
            .bind(head.state_id)
            .bind(at.hour().as_microseconds())
            .bind(at.plus_seconds(TOMBSTONE_SECONDS).hour().as_microseconds())
            .bind(head.schema_version)
            .bind(head.status)
            .bind(head.checkpoint_floor)
            .execute(&mut *unit.connection)
            .await
            .map_err(store_error)?;
        let record = RemovedExecution { version, versions, checkpoints: i64::try_from(checkpoints.len()).unwrap_or(MAX_COUNTED) };
        unit.changed(tenant, Resource::State(key.clone()), version);
        for (checkpoint, version) in checkpoints {
            unit.changed(tenant, Resource::Checkpoint(CheckpointKey { state: key.clone(), checkpoint }), version);
        }
        let make = || answer::from_removed_execution(record).map(Answer::Text);
        record::keep(unit.connection, context, 200, version, at, make).await?;
        Ok(Outcome::Applied { created: false, record })
    }
}

async fn count_versions(connection: &mut SqliteConnection, tenant: &TenantId, state_id: i64) -> Result<i64> {
    let query = sqlx::query_scalar(COUNT_VERSIONS).bind(tenant.as_str()).bind(state_id).bind(MAX_COUNTED);
    query.fetch_one(connection).await.map_err(store_error)
}

/// The checkpoints that go, each with the version of its end.
async fn live_checkpoints(connection: &mut SqliteConnection, tenant: &TenantId, state_id: i64) -> Result<Vec<(CheckpointId, Version)>> {
    let query = sqlx::query(SELECT_CHECKPOINTS).bind(tenant.as_str()).bind(state_id).bind(MAX_COUNTED);
    let rows = query.fetch_all(connection).await.map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("checkpoint", row);
            let id = CheckpointId::parse(columns.get("checkpoint_id")?).map_err(|_| columns.corrupt("checkpoint_id"))?;
            let end = columns.get::<i64>("version")?.checked_add(1).and_then(Version::new);
            Ok((id, end.ok_or_else(|| columns.corrupt("version"))?))
        })
        .collect()
}
