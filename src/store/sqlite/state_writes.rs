//! Saving and deleting states.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::error::store_error;
use super::record::{self, Answer, Change, Known, Previous};
use super::row::Columns;
use super::states;
use super::writer::Write;
use crate::domain::clock::Timestamp;
use crate::domain::id::TenantId;
use crate::domain::state::{ForkedFrom, Operation, StateDocument, StateKey, StateRecord};
use crate::domain::version::{Expected, Version};
use crate::store::change::{ChangeKind, ChangeOperation};
use crate::store::{Outcome, Replay, Result, Tombstone, WriteContext};

const SELECT_HEAD: &str = "
    SELECT state_id, version, created_version, created_at, updated_at, deleted, status,
           forked_workflow, forked_execution, forked_version, forked_checkpoint
    FROM execution_state WHERE tenant_id = ?1 AND workflow_id = ?2 AND execution_id = ?3";

const UPSERT_HEAD: &str = "
    INSERT INTO execution_state (tenant_id, workflow_id, execution_id, version, created_version, created_at, updated_at, listed_at,
                                 schema_version, status, forked_workflow, forked_execution, forked_version, forked_checkpoint)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
    ON CONFLICT (tenant_id, workflow_id, execution_id) DO UPDATE SET
        version = excluded.version, created_version = excluded.created_version, created_at = excluded.created_at,
        updated_at = excluded.updated_at, listed_at = excluded.listed_at, schema_version = excluded.schema_version,
        status = excluded.status, deleted = 0, sweep_at = NULL, forked_workflow = excluded.forked_workflow,
        forked_execution = excluded.forked_execution, forked_version = excluded.forked_version,
        forked_checkpoint = excluded.forked_checkpoint
    RETURNING state_id";

const INSERT_VERSION: &str = "
    INSERT INTO state_version (tenant_id, state_id, version, created_at, at, operation, size, status, actor,
                               forked_workflow, forked_execution, forked_version, forked_checkpoint, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

/// The head stays for good: history and checkpoints hang on it.
const DELETE_HEAD_AND_INSERT_TOMBSTONE: &str = "
    UPDATE execution_state SET version = ?3, updated_at = ?4, listed_at = ?5, deleted = 1 WHERE tenant_id = ?1 AND state_id = ?2;
    INSERT INTO state_version (tenant_id, state_id, version, created_at, at, operation, size, deleted, status, actor)
    VALUES (?1, ?2, ?3, ?6, ?4, ?7, 0, 1, ?8, ?9)";

/// The head as it stands before a write.
struct Head {
    state_id: i64,
    previous: Previous,
    created_version: i64,
    created_at: Timestamp,
    deleted: bool,
    status: String,
    forked_from: Option<ForkedFrom>,
}

impl Head {
    async fn read(connection: &mut SqliteConnection, tenant: &TenantId, key: &StateKey) -> Result<Option<Self>> {
        let row = sqlx::query(SELECT_HEAD)
            .bind(tenant.as_str())
            .bind(key.workflow.as_str())
            .bind(key.execution.as_str())
            .fetch_optional(connection)
            .await
            .map_err(store_error)?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns::of("execution_state", &row);
        Ok(Some(Self {
            state_id: columns.get("state_id")?,
            previous: Previous { version: columns.get("version")?, updated_at: columns.time("updated_at")? },
            created_version: columns.get("created_version")?,
            created_at: columns.time("created_at")?,
            deleted: columns.flag("deleted")?,
            status: columns.get("status")?,
            forked_from: states::forked_from(&columns)?,
        }))
    }

    fn live_version(&self) -> Option<Version> {
        if self.deleted { None } else { Version::new(self.previous.version) }
    }
}

/// [`Store::put_state`](crate::store::Store::put_state).
pub(super) struct PutState {
    pub(super) context: WriteContext,
    pub(super) key: StateKey,
    pub(super) expected: Expected,
    pub(super) document: StateDocument,
}

#[async_trait]
impl Write for PutState {
    type Record = StateRecord;

    fn bytes(&self) -> usize {
        self.document.text().len()
    }

    async fn apply(&self, connection: &mut SqliteConnection, now: Timestamp) -> Result<Outcome<StateRecord>> {
        let Self { context, key, expected, document } = self;
        let tenant = &context.tenant;
        match record::known(connection, context, now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => {
                let record = match answered.state_id {
                    Some(state_id) => states::version_of_life(connection, tenant, key, state_id, answered.version).await?,
                    None => None,
                };
                return Ok(Outcome::Replayed(Replay { status: answered.status, version: answered.version, record }));
            }
        }
        let head = Head::read(connection, tenant, key).await?;
        let current = head.as_ref().and_then(Head::live_version);
        if !expected.is_met_by(current) {
            return Ok(Outcome::Refused { current });
        }
        let (version, at) = record::next(connection, tenant, head.as_ref().map(|head| head.previous), now).await?;
        let created = current.is_none();
        let (created_version, created_at, forked_from) = match head {
            Some(head) if !created => (head.created_version, head.created_at, head.forked_from),
            _ => (version.get(), at, None),
        };
        let record = StateRecord {
            key: key.clone(),
            version,
            document: document.clone(),
            created_at,
            updated_at: at,
            updated_by: context.actor.as_str().to_owned(),
            forked_from,
        };
        let state_id = upsert_head(connection, tenant, &record, created_version).await?;
        insert_version(connection, tenant, state_id, &record, Operation::Put).await?;
        let operation = if created { ChangeOperation::Created } else { ChangeOperation::Replaced };
        let keys = [key.workflow.as_str(), key.execution.as_str()];
        let change = Change { kind: ChangeKind::State, operation, keys, version, at };
        record::record(connection, context, change, Answer::State(state_id)).await?;
        Ok(Outcome::Applied { created, record })
    }
}

async fn upsert_head(connection: &mut SqliteConnection, tenant: &TenantId, record: &StateRecord, created_version: i64) -> Result<i64> {
    let forked = record.forked_from.as_ref();
    sqlx::query_scalar(UPSERT_HEAD)
        .bind(tenant.as_str())
        .bind(record.key.workflow.as_str())
        .bind(record.key.execution.as_str())
        .bind(record.version.get())
        .bind(created_version)
        .bind(record.created_at.as_microseconds())
        .bind(record.updated_at.as_microseconds())
        .bind(record.updated_at.hour().as_microseconds())
        .bind(record.document.schema_version())
        .bind(record.document.status())
        .bind(forked.map(|forked| forked.workflow.as_str()))
        .bind(forked.map(|forked| forked.execution.as_str()))
        .bind(forked.and_then(|forked| forked.version).map(Version::get))
        .bind(forked.and_then(|forked| forked.checkpoint.as_deref()))
        .fetch_one(connection)
        .await
        .map_err(store_error)
}

async fn insert_version(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    state_id: i64,
    record: &StateRecord,
    operation: Operation,
) -> Result<()> {
    let forked = record.forked_from.as_ref();
    let text = record.document.text();
    sqlx::query(INSERT_VERSION)
        .bind(tenant.as_str())
        .bind(state_id)
        .bind(record.version.get())
        .bind(record.created_at.as_microseconds())
        .bind(record.updated_at.as_microseconds())
        .bind(operation as i16)
        .bind(i64::try_from(text.len()).unwrap_or(i64::MAX))
        .bind(record.document.status())
        .bind(record.updated_by.as_str())
        .bind(forked.map(|forked| forked.workflow.as_str()))
        .bind(forked.map(|forked| forked.execution.as_str()))
        .bind(forked.and_then(|forked| forked.version).map(Version::get))
        .bind(forked.and_then(|forked| forked.checkpoint.as_deref()))
        .bind(text)
        .execute(connection)
        .await
        .map_err(store_error)
        .map(drop)
}

/// [`Store::delete_state`](crate::store::Store::delete_state).
pub(super) struct DeleteState {
    pub(super) context: WriteContext,
    pub(super) key: StateKey,
    pub(super) expected: Expected,
}

#[async_trait]
impl Write for DeleteState {
    type Record = Tombstone;

    fn bytes(&self) -> usize {
        0
    }

    async fn apply(&self, connection: &mut SqliteConnection, now: Timestamp) -> Result<Outcome<Tombstone>> {
        let Self { context, key, expected } = self;
        let tenant = &context.tenant;
        match record::known(connection, context, now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => {
                return Ok(Outcome::Replayed(Replay { status: answered.status, version: answered.version, record: None }));
            }
        }
        let live = Head::read(connection, tenant, key).await?.filter(|head| !head.deleted);
        let current = live.as_ref().and_then(Head::live_version);
        let head = match live {
            Some(head) if expected.is_met_by(current) => head,
            None if expected.is_met_by(None) => return Ok(Outcome::Absent),
            _ => return Ok(Outcome::Refused { current }),
        };
        let (version, at) = record::next(connection, tenant, Some(head.previous), now).await?;
        sqlx::query(DELETE_HEAD_AND_INSERT_TOMBSTONE)
            .bind(tenant.as_str())
            .bind(head.state_id)
            .bind(version.get())
            .bind(at.as_microseconds())
            .bind(at.hour().as_microseconds())
            .bind(head.created_at.as_microseconds())
            .bind(Operation::Delete as i16)
            .bind(head.status)
            .bind(context.actor.as_str())
            .execute(&mut *connection)
            .await
            .map_err(store_error)?;
        let keys = [key.workflow.as_str(), key.execution.as_str()];
        let change = Change { kind: ChangeKind::State, operation: ChangeOperation::Deleted, keys, version, at };
        record::record(connection, context, change, Answer::State(head.state_id)).await?;
        Ok(Outcome::Applied { created: false, record: Tombstone { version } })
    }
}
