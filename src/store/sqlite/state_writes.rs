//! Saving and deleting states.

use async_trait::async_trait;

use super::error::store_error;
use super::heads::Head;
use super::record::{self, Answer, Change, Known, insert_log};
use super::states;
use super::writer::{Unit, Write};
use crate::domain::clock::Timestamp;
use crate::domain::commit::Resource;
use crate::domain::state::{ForkedFrom, Operation, StateDocument, StateKey, StateRecord};
use crate::domain::version::{Expected, Version};
use crate::store::change::{ChangeKind, ChangeOperation};
use crate::store::{Outcome, Replay, Result, Tombstone, WriteContext};

/// Head, version and log row. Parameters from 11 on: state_id, created_version, created_at, listed_at, schema_version, status, origin
/// (4), operation, size, checkpoint, body.
const WRITE_VERSION: &str = concat!(
    "UPDATE execution_state SET version = $4, created_version = $12, created_at = $13, updated_at = $5, listed_at = $14,
            schema_version = $15, status = $16, deleted = 0, sweep_at = NULL, forked_workflow = $17, forked_execution = $18,
            forked_version = $19, forked_checkpoint = $20
     WHERE tenant_id = $1 AND state_id = $11;
     INSERT INTO state_version (tenant_id, state_id, version, created_at, at, operation, size, status, actor, checkpoint,
                                forked_workflow, forked_execution, forked_version, forked_checkpoint, body)
     VALUES ($1, $11, $4, $13, $5, $21, $22, $16, $6, $23, $17, $18, $19, $20, $24);",
    insert_log!()
);

/// The head stays: history and checkpoints hang on it. Parameters from 11 on: state_id, created_at, listed_at, operation, status.
const WRITE_TOMBSTONE: &str = concat!(
    "UPDATE execution_state SET version = $4, updated_at = $5, listed_at = $13, deleted = 1 WHERE tenant_id = $1 AND state_id = $11;
     INSERT INTO state_version (tenant_id, state_id, version, created_at, at, operation, size, deleted, status, actor)
     VALUES ($1, $11, $4, $12, $5, $14, 0, 1, $15, $6);",
    insert_log!()
);

/// What becomes the current state, and how.
pub(super) struct NewVersion<'a> {
    pub(super) key: &'a StateKey,
    pub(super) document: StateDocument,
    pub(super) operation: Operation,
    /// The checkpoint that it comes from.
    pub(super) checkpoint: Option<&'a str>,
    /// The origin of a new life; a life that goes on keeps its own.
    pub(super) forked_from: Option<ForkedFrom>,
    /// What is answered when the request comes again; `None`: 201 for a new life, else 200.
    pub(super) status: Option<u16>,
}

/// Makes something the current state.
pub(super) async fn write_version(
    unit: &mut Unit<'_>,
    context: &WriteContext,
    head: Option<Head>,
    new: NewVersion<'_>,
) -> Result<Outcome<StateRecord>> {
    let (tenant, key) = (&context.tenant, new.key);
    let head = match head {
        Some(head) => head,
        None => Head::insert(unit.connection, tenant, key, unit.now).await?,
    };
    let created = head.deleted;
    let (version, at) = head.previous.next(unit.now)?;
    let (created_version, created_at, forked_from) =
        if created { (version.get(), at, new.forked_from) } else { (head.created_version, head.created_at, head.forked_from) };
    let record = StateRecord {
        key: key.clone(),
        version,
        document: new.document,
        created_at,
        updated_at: at,
        updated_by: context.actor.as_str().to_owned(),
        forked_from,
    };
    let (document, forked) = (&record.document, record.forked_from.as_ref());
    record::bind_change(
        WRITE_VERSION,
        context,
        change(key, if created { ChangeOperation::Created } else { ChangeOperation::Replaced }, version, at),
    )
    .bind(head.state_id)
    .bind(created_version)
    .bind(created_at.as_microseconds())
    .bind(at.hour().as_microseconds())
    .bind(document.schema_version())
    .bind(document.status())
    .bind(forked.map(|forked| forked.workflow.as_str()))
    .bind(forked.map(|forked| forked.execution.as_str()))
    .bind(forked.and_then(|forked| forked.version).map(Version::get))
    .bind(forked.and_then(|forked| forked.checkpoint.as_deref()))
    .bind(new.operation as i16)
    .bind(i64::try_from(document.text().len()).unwrap_or(i64::MAX))
    .bind(new.checkpoint)
    .bind(document.shared_text())
    .execute(&mut *unit.connection)
    .await
    .map_err(store_error)?;
    unit.changed(tenant, Resource::State(key.clone()), version);
    let status = new.status.unwrap_or(if created { 201 } else { 200 });
    record::keep(unit.connection, context, status, version, at, || Ok(Answer::State(head.state_id))).await?;
    Ok(Outcome::Applied { created, record })
}

fn change(key: &StateKey, operation: ChangeOperation, version: Version, at: Timestamp) -> Change<'_> {
    let keys = [key.workflow.as_str(), key.execution.as_str()];
    Change { kind: ChangeKind::State, operation, keys, third_key: None, version, at }
}

/// The stored answer of an equal request, when there is one: of a write whose answer is a state.
pub(super) async fn known(unit: &mut Unit<'_>, context: &WriteContext, key: &StateKey) -> Result<Option<Outcome<StateRecord>>> {
    Ok(match record::known(unit.connection, context, unit.now).await? {
        Known::No => None,
        Known::Reused => Some(Outcome::KeyReused),
        Known::Answered(answered) => {
            let record = match answered.state_id {
                Some(state_id) => states::version_of_life(unit.connection, &context.tenant, key, state_id, answered.version).await?,
                None => None,
            };
            Some(Outcome::Replayed(Replay { status: answered.status, version: answered.version, record }))
        }
    })
}

/// [`Store::put_state`](crate::store::Store::put_state).
pub(super) struct PutState {
    pub(super) context: WriteContext,
    pub(super) key: StateKey,
    pub(super) expected: Expected,
    pub(super) document: StateDocument,
    pub(super) operation: Operation,
}

#[async_trait]
impl Write for PutState {
    type Answer = Outcome<StateRecord>;

    fn bytes(&self) -> usize {
        self.document.text().len()
    }

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<StateRecord>> {
        let Self { context, key, expected, document, operation } = self;
        if let Some(known) = known(unit, context, key).await? {
            return Ok(known);
        }
        let head = Head::read(unit.connection, &context.tenant, key).await?;
        let current = head.as_ref().and_then(Head::live_version);
        if !expected.is_met_by(current) {
            return Ok(Outcome::Refused { current });
        }
        let new = NewVersion { key, document: document.clone(), operation: *operation, checkpoint: None, forked_from: None, status: None };
        write_version(unit, context, head, new).await
    }
}

/// [`Store::delete_state`](crate::store::Store::delete_state).
pub(super) struct DeleteState {
    pub(super) context: WriteContext,
    pub(super) key: StateKey,
    pub(super) expected: Expected,
}

#[async_trait]
impl Write for DeleteState {
    type Answer = Outcome<Tombstone>;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<Tombstone>> {
        let Self { context, key, expected } = self;
        let tenant = &context.tenant;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => return Ok(answered.replay_of_delete()),
        }
        let live = Head::read(unit.connection, tenant, key).await?.filter(|head| !head.deleted);
        let current = live.as_ref().and_then(Head::live_version);
        let head = match live {
            Some(head) if expected.is_met_by(current) => head,
            None if expected.is_met_by(None) => return Ok(Outcome::Absent),
            _ => return Ok(Outcome::Refused { current }),
        };
        let (version, at) = head.previous.next(unit.now)?;
        record::bind_change(WRITE_TOMBSTONE, context, change(key, ChangeOperation::Deleted, version, at))
            .bind(head.state_id)
            .bind(head.created_at.as_microseconds())
            .bind(at.hour().as_microseconds())
            .bind(Operation::Delete as i16)
            .bind(head.status)
            .execute(&mut *unit.connection)
            .await
            .map_err(store_error)?;
        unit.changed(tenant, Resource::State(key.clone()), version);
        record::keep(unit.connection, context, 204, version, at, || Ok(Answer::Nothing)).await?;
        Ok(Outcome::Applied { created: false, record: Tombstone { version } })
    }
}
