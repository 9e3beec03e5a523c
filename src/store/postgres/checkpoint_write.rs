//! Making and deleting checkpoints. Each locks the head first, and in the next statement sees all that was committed before.

use sqlx::PgConnection;

use super::checkpoint_read;
use super::failure::Failure;
use super::head::Head;
use super::keys::{self, Found, Keep};
use super::rows;
use super::work::{Work, Written};
use crate::domain::checkpoint::{CheckpointKey, CheckpointRecord, NewCheckpoint};
use crate::domain::commit::{Change, Resource};
use crate::domain::state::StateDocument;
use crate::domain::version::{Expected, Version};
use crate::store::{IDEMPOTENCY_SECONDS, Outcome, Tombstone, WriteContext, answer};

/// $3 is the head's incarnation, $4 the checkpoint, $5 and $6 the workflow and the execution, $7 and $8 the request and its user, $9 and
/// $10 label and metadata, $11 the given body or, when there is none, $12 the version to copy. Versions are above $13, those of
/// earlier incarnations. No row is answered when the id is taken.
const CREATE: &str = "
    WITH c AS (
      INSERT INTO checkpoint AS c (tenant_id, state_id, checkpoint_id, workflow_id, execution_id, version, state_version, created_at, size,
                                   created_by, label, metadata, body)
      SELECT $1, $3, $4, $5, $6, 1 + greatest((SELECT version_floor FROM tenant WHERE tenant_id = $1), $13), v.version, m.at,
             octet_length(coalesce($11, v.body)), $8, $9, $10, coalesce($11, v.body)
      FROM (SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at) m
        LEFT JOIN state_version v ON v.tenant_id = $1 AND v.state_id = $3 AND v.version = $12
      ON CONFLICT (tenant_id, state_id, checkpoint_id) DO UPDATE SET
        version = c.version + 1, state_version = EXCLUDED.state_version, deleted = false, sweep_at = NULL,
        created_at = greatest(EXCLUDED.created_at, c.created_at + interval '1 microsecond'), created_by = EXCLUDED.created_by,
        size = EXCLUDED.size, label = EXCLUDED.label, metadata = EXCLUDED.metadata, body = EXCLUDED.body
      WHERE c.deleted
      RETURNING c.version, c.state_version, c.created_at, c.created_by, c.size, c.label, c.metadata, c.body),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, k3, version, request_id, actor, at)
      SELECT $1, 4, 1, $5, $6, $4, version, $7, $8, created_at FROM c)
    SELECT c.* FROM c";

/// $3 is the head's incarnation, $4 the checkpoint, $5 and $6 the workflow and the execution, $7 and $8 the request and its user, $9 the
/// seconds for which an idempotency key is kept. `created_at` of a tombstone is the time of the deletion, so that times grow.
/// It may be the last thing that held a head without a state, so the sweeper looks at that when the tombstone is due.
const DELETE: &str = "
    WITH c AS (
      UPDATE checkpoint x SET version = x.version + 1, deleted = true, label = NULL, metadata = NULL, body = NULL,
             created_at = greatest(m.at, x.created_at + interval '1 microsecond'),
             sweep_at = date_trunc('hour', m.at + $9::int8 * interval '1 second') + interval '1 hour'
      FROM (SELECT clock_timestamp() + $2::int8 * interval '1 microsecond' AS at) m
      WHERE x.tenant_id = $1 AND x.state_id = $3 AND x.checkpoint_id = $4
      RETURNING x.version, x.created_at, x.sweep_at),
    h AS (
      UPDATE execution_state x SET sweep_at = c.sweep_at FROM c
      WHERE x.tenant_id = $1 AND x.workflow_id = $5 AND x.execution_id = $6 AND x.deleted AND x.sweep_at IS NULL
        AND NOT EXISTS (SELECT FROM state_version v WHERE v.tenant_id = $1 AND v.state_id = $3)),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, k3, version, request_id, actor, at)
      SELECT $1, 4, 3, $5, $6, $4, version, $7, $8, created_at FROM c)
    SELECT c.version FROM c";

/// The version of a live checkpoint.
const LIVE: &str = "
    SELECT x.version FROM checkpoint x WHERE x.tenant_id = $1 AND x.state_id = $2 AND x.checkpoint_id = $3 AND NOT x.deleted";

async fn live(connection: &mut PgConnection, context: &WriteContext, head: &Head, key: &CheckpointKey) -> Result<Option<Version>, Failure> {
    let row = sqlx::query(LIVE)
        .bind(context.tenant.as_str())
        .bind(head.state_id)
        .bind(key.checkpoint.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(|row| rows::version(row, "version")).transpose()
}

fn change(context: &WriteContext, key: &CheckpointKey, version: Version) -> Vec<Change> {
    vec![Change { tenant: context.tenant.clone(), resource: Resource::Checkpoint(key.clone()), version }]
}

/// A checkpoint to make.
pub(super) struct CreateCheckpoint<'a> {
    pub(super) context: &'a WriteContext,
    pub(super) key: &'a CheckpointKey,
    pub(super) new: &'a NewCheckpoint,
}

impl Work for CreateCheckpoint<'_> {
    type Output = Written<Outcome<CheckpointRecord>>;
    const TABLE: &'static str = "checkpoint";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        match keys::find(connection, self.context, offset).await? {
            Found::Free => {}
            Found::Reused => return Ok(Written::nothing(Outcome::KeyReused)),
            Found::Kept(kept) => {
                let replay = kept.replay(|text| answer::to_checkpoint(&self.key.state, text))?;
                return Ok(Written::nothing(Outcome::Replayed(replay)));
            }
        }
        let tenant = &self.context.tenant;
        let (head, copied) = if self.new.document.is_some() {
            (Head::lock_or_make(connection, tenant, &self.key.state, offset).await?, None)
        } else {
            let Some(head) = Head::lock(connection, tenant, &self.key.state).await? else {
                return Ok(Written::nothing(Outcome::Absent));
            };
            let Some(version) = head.live()? else {
                // That the id is taken is told first: it stays true whatever becomes of the state.
                let taken = live(connection, self.context, &head, self.key).await?;
                return Ok(Written::nothing(taken.map_or(Outcome::Absent, |version| Outcome::Refused { current: Some(version) })));
            };
            (head, Some(version))
        };
        let row = sqlx::query(CREATE)
            .bind(tenant.as_str())
            .bind(offset)
            .bind(head.state_id)
            .bind(self.key.checkpoint.as_str())
            .bind(self.key.state.workflow.as_str())
            .bind(self.key.state.execution.as_str())
            .bind(self.context.request_id)
            .bind(self.context.actor.as_str())
            .bind(self.new.label.as_deref())
            .bind(&*self.new.metadata)
            .bind(self.new.document.as_ref().map(StateDocument::text))
            .bind(copied.map(Version::get))
            .bind(head.checkpoint_floor)
            .fetch_optional(&mut *connection)
            .await?;
        let Some(row) = row else {
            return Ok(Written::nothing(Outcome::Refused { current: live(connection, self.context, &head, self.key).await? }));
        };
        let record = checkpoint_read::record(self.key.clone(), &row)?;
        let version = record.item.version;
        if self.context.idempotency.is_some() {
            let answer = Some(answer::from_checkpoint(&record)?);
            let row = Keep { context: self.context, status: 201, version: version.get(), state_id: None, answer };
            keys::keep(connection, tenant, offset, vec![row]).await?;
        }
        Ok(Written::kept(None, Outcome::Applied { created: true, record }, change(self.context, self.key, version)))
    }
}

/// A checkpoint to delete.
pub(super) struct DeleteCheckpoint<'a> {
    pub(super) context: &'a WriteContext,
    pub(super) key: &'a CheckpointKey,
    pub(super) expected: Expected,
}

impl Work for DeleteCheckpoint<'_> {
    type Output = Written<Outcome<Tombstone>>;
    const TABLE: &'static str = "checkpoint";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        match keys::find(connection, self.context, offset).await? {
            Found::Free => {}
            Found::Reused => return Ok(Written::nothing(Outcome::KeyReused)),
            Found::Kept(kept) => {
                let replay = crate::store::Replay { status: kept.status, version: kept.version()?, record: None };
                return Ok(Written::nothing(Outcome::Replayed(replay)));
            }
        }
        let tenant = &self.context.tenant;
        let head = Head::lock(connection, tenant, &self.key.state).await?;
        let current = match &head {
            Some(head) => live(connection, self.context, head, self.key).await?,
            None => None,
        };
        let (Some(head), Some(_)) = (head, current) else {
            return Ok(Written::nothing(rows::nothing_to_delete(self.expected)));
        };
        if !self.expected.is_met_by(current) {
            return Ok(Written::nothing(Outcome::Refused { current }));
        }
        let row = sqlx::query(DELETE)
            .bind(tenant.as_str())
            .bind(offset)
            .bind(head.state_id)
            .bind(self.key.checkpoint.as_str())
            .bind(self.key.state.workflow.as_str())
            .bind(self.key.state.execution.as_str())
            .bind(self.context.request_id)
            .bind(self.context.actor.as_str())
            .bind(IDEMPOTENCY_SECONDS)
            .fetch_one(&mut *connection)
            .await?;
        let version = rows::version(&row, "version")?;
        let kept = Keep { context: self.context, status: 204, version: version.get(), state_id: None, answer: None };
        keys::keep(connection, tenant, offset, vec![kept]).await?;
        let outcome = Outcome::Applied { created: false, record: Tombstone { version } };
        Ok(Written::kept(None, outcome, change(self.context, self.key, version)))
    }
}
