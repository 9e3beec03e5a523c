//! Making and deleting checkpoints, and coming back to one.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::error::store_error;
use super::heads::Head;
use super::record::{self, Answer, Change, Known, Previous, TOMBSTONE_SECONDS, insert_log};
use super::row::Columns;
use super::state_writes::{self, NewVersion};
use super::writer::{Unit, Write};
use super::{checkpoints, states};
use crate::domain::checkpoint::{CheckpointItem, CheckpointKey, CheckpointRecord, NewCheckpoint};
use crate::domain::clock::Timestamp;
use crate::domain::commit::Resource;
use crate::domain::id::{ExecutionId, TenantId};
use crate::domain::state::{ForkedFrom, Operation, StateKey, StateRecord};
use crate::domain::version::{Expected, Version};
use crate::store::change::{ChangeKind, ChangeOperation};
use crate::store::{Lookup, Outcome, Result, Tombstone, WriteContext, answer};

const SELECT_ROW: &str = "
    SELECT version, created_at, deleted FROM checkpoint WHERE tenant_id = ?1 AND state_id = ?2 AND checkpoint_id = ?3";

/// Parameters from 11 on: state_id, state_version, size, label, metadata, body.
const WRITE_CHECKPOINT: &str = concat!(
    "INSERT OR REPLACE INTO checkpoint (tenant_id, state_id, checkpoint_id, workflow_id, execution_id, version, state_version, created_at,
                                        size, label, created_by, metadata, body)
     VALUES ($1, $11, $10, $2, $3, $4, $12, $5, $13, $14, $6, $15, $16);",
    insert_log!()
);

/// Parameters from 11 on: state_id, sweep_at.
const WRITE_TOMBSTONE: &str = concat!(
    "UPDATE checkpoint SET version = $4, created_at = $5, sweep_at = $12, size = 0, deleted = 1, label = NULL, metadata = NULL, body = NULL
     WHERE tenant_id = $1 AND state_id = $11 AND checkpoint_id = $10;",
    insert_log!()
);

/// The row of a checkpoint, as a write finds it.
struct Row {
    previous: Previous,
    live_version: Option<Version>,
}

impl Row {
    async fn read(connection: &mut SqliteConnection, tenant: &TenantId, state_id: i64, key: &CheckpointKey) -> Result<Option<Self>> {
        let query = sqlx::query(SELECT_ROW).bind(tenant.as_str()).bind(state_id).bind(key.checkpoint.as_str());
        let Some(row) = query.fetch_optional(connection).await.map_err(store_error)? else { return Ok(None) };
        let columns = Columns::of("checkpoint", &row);
        let version = columns.version("version")?;
        Ok(Some(Self {
            previous: Previous { version: version.get(), updated_at: columns.time("created_at")? },
            live_version: (!columns.flag("deleted")?).then_some(version),
        }))
    }
}

fn change(key: &CheckpointKey, operation: ChangeOperation, version: Version, at: Timestamp) -> Change<'_> {
    let keys = [key.state.workflow.as_str(), key.state.execution.as_str()];
    Change { kind: ChangeKind::Checkpoint, operation, keys, third_key: Some(key.checkpoint.as_str()), version, at }
}

/// [`Store::create_checkpoint`](crate::store::Store::create_checkpoint).
pub(super) struct CreateCheckpoint {
    pub(super) context: WriteContext,
    pub(super) key: CheckpointKey,
    pub(super) new: NewCheckpoint,
}

#[async_trait]
impl Write for CreateCheckpoint {
    type Answer = Outcome<CheckpointRecord>;

    fn bytes(&self) -> usize {
        self.new.metadata.len() + self.new.document.as_ref().map_or(0, |document| document.text().len())
    }

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<CheckpointRecord>> {
        let Self { context, key, new } = self;
        let tenant = &context.tenant;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => return answered.replay(|text| answer::to_checkpoint(&key.state, text)),
        }
        let head = Head::read(unit.connection, tenant, &key.state).await?;
        let row = match &head {
            Some(head) => Row::read(unit.connection, tenant, head.state_id, key).await?,
            None => None,
        };
        if let Some(taken) = row.as_ref().and_then(|row| row.live_version) {
            return Ok(Outcome::Refused { current: Some(taken) });
        }
        let (document, state_version) = match &new.document {
            Some(document) => (document.clone(), None),
            None => match states::current(unit.connection, tenant, &key.state).await? {
                Lookup::Live(state) => (state.document, Some(state.version)),
                Lookup::Gone(_) | Lookup::Absent => return Ok(Outcome::Absent),
            },
        };
        let head = match head {
            Some(head) => head,
            None => Head::insert(unit.connection, tenant, &key.state, unit.now).await?,
        };
        let previous = match row {
            Some(row) => row.previous,
            None => {
                let floor = record::version_floor(unit.connection, tenant).await?.max(head.checkpoint_floor);
                Previous { version: floor, updated_at: Timestamp::from_microseconds(i64::MIN) }
            }
        };
        let (version, at) = previous.next(unit.now)?;
        let item = CheckpointItem {
            key: key.clone(),
            version,
            label: new.label.clone(),
            metadata: new.metadata.clone(),
            state_version,
            created_at: at,
            created_by: context.actor.as_str().to_owned(),
            size: i64::try_from(document.text().len()).unwrap_or(i64::MAX),
        };
        record::bind_change(WRITE_CHECKPOINT, context, change(key, ChangeOperation::Created, version, at))
            .bind(head.state_id)
            .bind(state_version.map(Version::get))
            .bind(item.size)
            .bind(item.label.as_deref())
            .bind(Arc::clone(&item.metadata))
            .bind(document.shared_text())
            .execute(&mut *unit.connection)
            .await
            .map_err(store_error)?;
        unit.changed(tenant, Resource::Checkpoint(key.clone()), version);
        let record = CheckpointRecord { item, document };
        record::keep(unit.connection, context, 201, version, at, || answer::from_checkpoint(&record).map(Answer::Text)).await?;
        Ok(Outcome::Applied { created: true, record })
    }
}

/// [`Store::delete_checkpoint`](crate::store::Store::delete_checkpoint).
pub(super) struct DeleteCheckpoint {
    pub(super) context: WriteContext,
    pub(super) key: CheckpointKey,
    pub(super) expected: Expected,
}

#[async_trait]
impl Write for DeleteCheckpoint {
    type Answer = Outcome<Tombstone>;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<Tombstone>> {
        let Self { context, key, expected } = self;
        let tenant = &context.tenant;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => return Ok(answered.replay_of_delete()),
        }
        let mut found = None;
        if let Some(head) = Head::read(unit.connection, tenant, &key.state).await? {
            let row = Row::read(unit.connection, tenant, head.state_id, key).await?;
            found = row.filter(|row| row.live_version.is_some()).map(|row| (head.state_id, row));
        }
        let current = found.as_ref().and_then(|(_, row)| row.live_version);
        let (state_id, row) = match found {
            Some(found) if expected.is_met_by(current) => found,
            None if expected.is_met_by(None) => return Ok(Outcome::Absent),
            _ => return Ok(Outcome::Refused { current }),
        };
        let (version, at) = row.previous.next(unit.now)?;
        record::bind_change(WRITE_TOMBSTONE, context, change(key, ChangeOperation::Deleted, version, at))
            .bind(state_id)
            .bind(at.plus_seconds(TOMBSTONE_SECONDS).hour().as_microseconds())
            .execute(&mut *unit.connection)
            .await
            .map_err(store_error)?;
        unit.changed(tenant, Resource::Checkpoint(key.clone()), version);
        record::keep(unit.connection, context, 204, version, at, || Ok(Answer::Nothing)).await?;
        Ok(Outcome::Applied { created: false, record: Tombstone { version } })
    }
}

/// [`Store::restore_checkpoint`](crate::store::Store::restore_checkpoint).
pub(super) struct RestoreCheckpoint {
    pub(super) context: WriteContext,
    pub(super) key: CheckpointKey,
    pub(super) expected: Expected,
}

#[async_trait]
impl Write for RestoreCheckpoint {
    type Answer = Outcome<StateRecord>;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<StateRecord>> {
        let Self { context, key, expected } = self;
        if let Some(known) = state_writes::known(unit, context, &key.state).await? {
            return Ok(known);
        }
        let Lookup::Live(checkpoint) = checkpoints::current(unit.connection, &context.tenant, key).await? else {
            return Ok(Outcome::Absent);
        };
        let head = Head::read(unit.connection, &context.tenant, &key.state).await?;
        let current = head.as_ref().and_then(Head::live_version);
        if !expected.is_met_by(current) {
            return Ok(Outcome::Refused { current });
        }
        let new = NewVersion {
            key: &key.state,
            document: checkpoint.document,
            operation: Operation::Restore,
            checkpoint: Some(key.checkpoint.as_str()),
            forked_from: None,
            status: Some(200),
        };
        state_writes::write_version(unit, context, head, new).await
    }
}

/// [`Store::fork_checkpoint`](crate::store::Store::fork_checkpoint).
pub(super) struct ForkCheckpoint {
    pub(super) context: WriteContext,
    pub(super) key: CheckpointKey,
    pub(super) target: ExecutionId,
    pub(super) expected: Expected,
}

#[async_trait]
impl Write for ForkCheckpoint {
    type Answer = Outcome<StateRecord>;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<StateRecord>> {
        let Self { context, key, target, expected } = self;
        let tenant = &context.tenant;
        let target = StateKey { workflow: key.state.workflow.clone(), execution: target.clone() };
        if let Some(known) = state_writes::known(unit, context, &target).await? {
            return Ok(known);
        }
        let Lookup::Live(checkpoint) = checkpoints::current(unit.connection, tenant, key).await? else {
            return Ok(Outcome::Absent);
        };
        let head = Head::read(unit.connection, tenant, &target).await?;
        let current = head.as_ref().and_then(Head::live_version);
        if !expected.is_met_by(current) {
            return Ok(Outcome::Refused { current });
        }
        if let Some(head) = &head {
            let taken = head.has_versions(unit.connection, tenant).await? || head.has_checkpoints(unit.connection, tenant).await?;
            if taken {
                return Ok(Outcome::Refused { current });
            }
        }
        let new = NewVersion {
            key: &target,
            document: checkpoint.document,
            operation: Operation::Fork,
            checkpoint: Some(key.checkpoint.as_str()),
            forked_from: Some(ForkedFrom {
                workflow: key.state.workflow.clone(),
                execution: key.state.execution.clone(),
                version: checkpoint.item.state_version,
                checkpoint: Some(key.checkpoint.as_str().to_owned()),
            }),
            status: Some(201),
        };
        state_writes::write_version(unit, context, head, new).await
    }
}
