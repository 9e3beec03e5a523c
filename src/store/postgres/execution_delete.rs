//! Removing an execution: its head gets a new incarnation, and history and checkpoints, which hang on the old one, are gone at once.

use sqlx::PgConnection;

use super::failure::Failure;
use super::head::Head;
use super::keys::{self, Found, Keep};
use super::rows;
use super::work::{Work, Written};
use crate::domain::checkpoint::CheckpointKey;
use crate::domain::commit::{Change, Resource};
use crate::domain::id::CheckpointId;
use crate::domain::state::{MAX_COUNTED, RemovedExecution, StateKey};
use crate::domain::version::{Expected, Version};
use crate::store::{IDEMPOTENCY_SECONDS, Outcome, WriteContext, answer};

const VERSIONS: &str = "
    SELECT count(*) FROM (SELECT FROM state_version v WHERE v.tenant_id = $1 AND v.state_id = $2 LIMIT $3) v";

const CHECKPOINTS: &str = "
    SELECT c.checkpoint_id, c.version FROM checkpoint c WHERE c.tenant_id = $1 AND c.state_id = $2 AND NOT c.deleted LIMIT $3";

/// Later checkpoints begin above the versions at which the present ones end, so that nobody takes them for these. $5 and $6 are the
/// request and its user, $7 the seconds for which an idempotency key is kept, $8 the old incarnation.
const REMOVE: &str = "
    WITH moment AS MATERIALIZED (SELECT clock_timestamp() + $4::int8 * interval '1 microsecond' AS at),
    h AS (
      UPDATE execution_state x SET state_id = DEFAULT, version = x.version + 1, created_version = x.version + 1, deleted = true,
             applied = true,
             checkpoint_floor = greatest(x.checkpoint_floor, (SELECT max(c.version) + 1 FROM checkpoint c
                                                              WHERE c.tenant_id = $1 AND c.state_id = $8)),
             updated_at = greatest(m.at, x.updated_at + interval '1 microsecond'),
             listed_at = greatest(date_trunc('hour', m.at), x.listed_at),
             sweep_at = date_trunc('hour', m.at + $7::int8 * interval '1 second') + interval '1 hour',
             forked_workflow = NULL, forked_execution = NULL, forked_version = NULL, forked_checkpoint = NULL
      FROM moment m WHERE x.tenant_id = $1 AND x.workflow_id = $2 AND x.execution_id = $3
      RETURNING x.version, x.updated_at),
    q AS (INSERT INTO removed_state (tenant_id, state_id, queued_at) SELECT $1, $8, updated_at FROM h),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 1, 3, $2, $3, version, $5, $6, updated_at FROM h)
    SELECT h.version FROM h";

/// An execution to remove.
///
/// The observer is told of the state, and of each live checkpoint with the version of its end; of more than [`MAX_COUNTED`] checkpoints not
/// of the others: whoever keeps a cache forgets all of it then.
pub(super) struct DeleteExecution<'a> {
    pub(super) context: &'a WriteContext,
    pub(super) key: &'a StateKey,
    pub(super) expected: Expected,
}

impl Work for DeleteExecution<'_> {
    type Output = Written<Outcome<RemovedExecution>>;
    const TABLE: &'static str = "execution_state";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        match keys::find(connection, self.context, offset).await? {
            Found::Free => {}
            Found::Reused => return Ok(Written::nothing(Outcome::KeyReused)),
            Found::Kept(kept) => return Ok(Written::nothing(Outcome::Replayed(kept.replay(answer::to_removed_execution)?))),
        }
        let tenant = &self.context.tenant;
        let Some(head) = Head::lock(connection, tenant, self.key).await? else {
            return Ok(Written::nothing(rows::nothing_to_delete(self.expected)));
        };
        let current = head.live()?;
        let versions: i64 =
            sqlx::query_scalar(VERSIONS).bind(tenant.as_str()).bind(head.state_id).bind(MAX_COUNTED).fetch_one(&mut *connection).await?;
        let checkpoints: Vec<(String, i64)> =
            sqlx::query_as(CHECKPOINTS).bind(tenant.as_str()).bind(head.state_id).bind(MAX_COUNTED).fetch_all(&mut *connection).await?;
        if current.is_none() && versions == 0 && checkpoints.is_empty() {
            return Ok(Written::nothing(rows::nothing_to_delete(self.expected)));
        }
        if !self.expected.is_met_by(current) {
            return Ok(Written::nothing(Outcome::Refused { current }));
        }
        let row = sqlx::query(REMOVE)
            .bind(tenant.as_str())
            .bind(self.key.workflow.as_str())
            .bind(self.key.execution.as_str())
            .bind(offset)
            .bind(self.context.request_id)
            .bind(self.context.actor.as_str())
            .bind(IDEMPOTENCY_SECONDS)
            .bind(head.state_id)
            .fetch_one(&mut *connection)
            .await?;
        let version = rows::version(&row, "version")?;
        let removed = RemovedExecution { version, versions, checkpoints: i64::try_from(checkpoints.len()).unwrap_or(MAX_COUNTED) };
        if self.context.idempotency.is_some() {
            let answer = Some(answer::from_removed_execution(removed)?);
            let row = Keep { context: self.context, status: 200, version: version.get(), state_id: None, answer };
            keys::keep(connection, tenant, offset, vec![row]).await?;
        }
        let mut changes = vec![Change { tenant: tenant.clone(), resource: Resource::State(self.key.clone()), version }];
        for (id, last) in checkpoints {
            let version = Version::new(last.saturating_add(1)).ok_or_else(|| Failure::corrupt(format!("version {last}")))?;
            let checkpoint = CheckpointId::parse(&id).map_err(|why| Failure::corrupt(format!("checkpoint_id {why}")))?;
            let resource = Resource::Checkpoint(CheckpointKey { state: self.key.clone(), checkpoint });
            changes.push(Change { tenant: tenant.clone(), resource, version });
        }
        Ok(Written::kept(None, Outcome::Applied { created: false, record: removed }, changes))
    }
}
