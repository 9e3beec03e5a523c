//! States out of checkpoints: restored, and forked.

use sqlx::PgConnection;

use super::checkpoint_read;
use super::failure::Failure;
use super::head::{Head, NewRecord, NewVersion};
use super::keys::{self, Found, Keep};
use super::state_read;
use super::state_write::resource;
use super::work::{Work, Written};
use crate::domain::checkpoint::CheckpointKey;
use crate::domain::commit::Change;
use crate::domain::id::ExecutionId;
use crate::domain::state::{ForkedFrom, Operation, StateKey, StateRecord};
use crate::domain::version::Expected;
use crate::store::{Outcome, Replay, WriteContext};

/// Whether an incarnation has versions or checkpoints.
const HAS_PAST: &str = "
    SELECT EXISTS (SELECT FROM state_version v WHERE v.tenant_id = $1 AND v.state_id = $2)
        OR EXISTS (SELECT FROM checkpoint c WHERE c.tenant_id = $1 AND c.state_id = $2 AND NOT c.deleted)";

/// The answer to a request with a known key; `None` when there is none.
async fn known(
    connection: &mut PgConnection,
    context: &WriteContext,
    key: &StateKey,
    offset: i64,
) -> Result<Option<Outcome<StateRecord>>, Failure> {
    let kept = match keys::find(connection, context, offset).await? {
        Found::Free => return Ok(None),
        Found::Reused => return Ok(Some(Outcome::KeyReused)),
        Found::Kept(kept) => kept,
    };
    let row = match kept.state_id {
        Some(state_id) => state_read::kept_version(connection, &context.tenant, state_id, kept.version).await?,
        None => None,
    };
    let record = row.map(|row| state_read::record(key, &row)).transpose()?;
    Ok(Some(Outcome::Replayed(Replay { status: kept.status, version: kept.version()?, record })))
}

/// Keeps the answer and closes the work.
async fn conclude(
    connection: &mut PgConnection,
    context: &WriteContext,
    offset: i64,
    status: i16,
    written: NewRecord,
) -> Result<Written<Outcome<StateRecord>>, Failure> {
    let NewRecord { record, state_id, created } = written;
    let row = Keep { context, status, version: record.version.get(), state_id: Some(state_id), answer: None };
    keys::keep(connection, &context.tenant, offset, vec![row]).await?;
    let change = Change { tenant: context.tenant.clone(), resource: resource(&record.key), version: record.version };
    Ok(Written::kept(None, Outcome::Applied { created, record }, vec![change]))
}

/// A checkpoint to come back to.
pub(super) struct RestoreCheckpoint<'a> {
    pub(super) context: &'a WriteContext,
    pub(super) key: &'a CheckpointKey,
    pub(super) expected: Expected,
}

impl Work for RestoreCheckpoint<'_> {
    type Output = Written<Outcome<StateRecord>>;
    const TABLE: &'static str = "execution_state";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let (tenant, key) = (&self.context.tenant, &self.key.state);
        if let Some(outcome) = known(connection, self.context, key, offset).await? {
            return Ok(Written::nothing(outcome));
        }
        let Some(head) = Head::lock(connection, tenant, key).await? else { return Ok(Written::nothing(Outcome::Absent)) };
        let Some(checkpoint) = checkpoint_read::find(connection, tenant, self.key).await?.live() else {
            return Ok(Written::nothing(Outcome::Absent));
        };
        let current = head.live()?;
        if !self.expected.is_met_by(current) {
            return Ok(Written::nothing(Outcome::Refused { current }));
        }
        let version = NewVersion {
            context: self.context,
            key,
            operation: Operation::Restore,
            checkpoint: self.key.checkpoint.as_str(),
            document: checkpoint.document,
            origin: None,
        };
        let written = version.write(connection, offset).await?;
        conclude(connection, self.context, offset, 200, written).await
    }
}

/// A checkpoint to begin another execution with.
pub(super) struct ForkCheckpoint<'a> {
    pub(super) context: &'a WriteContext,
    pub(super) key: &'a CheckpointKey,
    pub(super) target: &'a ExecutionId,
    pub(super) expected: Expected,
}

impl Work for ForkCheckpoint<'_> {
    type Output = Written<Outcome<StateRecord>>;
    const TABLE: &'static str = "execution_state";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let tenant = &self.context.tenant;
        let target = StateKey { workflow: self.key.state.workflow.clone(), execution: self.target.clone() };
        if let Some(outcome) = known(connection, self.context, &target, offset).await? {
            return Ok(Written::nothing(outcome));
        }
        // A checkpoint does not change while it is there, so its execution need not be locked: if it is removed meanwhile, the fork came
        // before.
        let Some(checkpoint) = checkpoint_read::find(connection, tenant, self.key).await?.live() else {
            return Ok(Written::nothing(Outcome::Absent));
        };
        let head = Head::lock_or_make(connection, tenant, &target, offset).await?;
        let current = head.live()?;
        let has_past: bool = sqlx::query_scalar(HAS_PAST).bind(tenant.as_str()).bind(head.state_id).fetch_one(&mut *connection).await?;
        if current.is_some() || has_past || !self.expected.is_met_by(current) {
            return Ok(Written::nothing(Outcome::Refused { current }));
        }
        let version = NewVersion {
            context: self.context,
            key: &target,
            operation: Operation::Fork,
            checkpoint: self.key.checkpoint.as_str(),
            document: checkpoint.document,
            origin: Some(ForkedFrom {
                workflow: self.key.state.workflow.clone(),
                execution: self.key.state.execution.clone(),
                version: checkpoint.item.state_version,
                checkpoint: Some(self.key.checkpoint.as_str().to_owned()),
            }),
        };
        let written = version.write(connection, offset).await?;
        conclude(connection, self.context, offset, 201, written).await
    }
}
