//! Saving and deleting variables.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::error::store_error;
use super::record::{self, Answer, Change, Known, Previous, TOMBSTONE_SECONDS};
use super::row::Columns;
use super::writer::Write;
use crate::domain::clock::Timestamp;
use crate::domain::id::TenantId;
use crate::domain::variable::{VariableDocument, VariableKey, VariableRecord};
use crate::domain::version::{Expected, Version};
use crate::store::change::{ChangeKind, ChangeOperation};
use crate::store::{Outcome, Replay, Result, Tombstone, WriteContext, answer};

const SELECT_HEAD: &str = "
    SELECT version, created_version, created_at, updated_at, expires_at, deleted FROM variable
    WHERE tenant_id = ?1 AND scope_kind = ?2 AND scope_id = ?3 AND name = ?4";

const UPSERT: &str = "
    INSERT INTO variable (tenant_id, scope_kind, scope_id, name, version, created_version, created_at, updated_at, expires_at, sweep_at,
                          updated_by, description, value)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
    ON CONFLICT (tenant_id, scope_kind, scope_id, name) DO UPDATE SET
        version = excluded.version, created_version = excluded.created_version, created_at = excluded.created_at,
        updated_at = excluded.updated_at, expires_at = excluded.expires_at, sweep_at = excluded.sweep_at, secret = 0, deleted = 0,
        updated_by = excluded.updated_by, description = excluded.description, value = excluded.value";

const DELETE: &str = "
    UPDATE variable SET version = ?5, updated_at = ?6, updated_by = ?7, sweep_at = ?8, expires_at = NULL, deleted = 1, secret = 0,
                        description = NULL, value = NULL
    WHERE tenant_id = ?1 AND scope_kind = ?2 AND scope_id = ?3 AND name = ?4";

/// The row as it stands before a write.
struct Head {
    previous: Previous,
    created_version: i64,
    created_at: Timestamp,
    /// `None` when it was deleted or has expired.
    live_version: Option<Version>,
}

impl Head {
    async fn read(connection: &mut SqliteConnection, tenant: &TenantId, key: &VariableKey, now: Timestamp) -> Result<Option<Self>> {
        let row = sqlx::query(SELECT_HEAD)
            .bind(tenant.as_str())
            .bind(key.scope.kind() as i16)
            .bind(key.scope.id())
            .bind(key.name.as_str())
            .fetch_optional(connection)
            .await
            .map_err(store_error)?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns::of("variable", &row);
        let gone = columns.flag("deleted")? || columns.optional_time("expires_at")?.is_some_and(|end| end <= now);
        let version = columns.version("version")?;
        Ok(Some(Self {
            previous: Previous { version: version.get(), updated_at: columns.time("updated_at")? },
            created_version: columns.get("created_version")?,
            created_at: columns.time("created_at")?,
            live_version: (!gone).then_some(version),
        }))
    }
}

/// [`Store::put_variable`](crate::store::Store::put_variable).
pub(super) struct PutVariable {
    pub(super) context: WriteContext,
    pub(super) key: VariableKey,
    pub(super) expected: Expected,
    pub(super) document: VariableDocument,
}

#[async_trait]
impl Write for PutVariable {
    type Record = VariableRecord;

    fn bytes(&self) -> usize {
        self.document.value.len()
    }

    async fn apply(&self, connection: &mut SqliteConnection, now: Timestamp) -> Result<Outcome<VariableRecord>> {
        let Self { context, key, expected, document } = self;
        let tenant = &context.tenant;
        match record::known(connection, context, now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => {
                let record = answered.answer.map(|text| answer::to_variable(key, &text)).transpose()?;
                return Ok(Outcome::Replayed(Replay { status: answered.status, version: answered.version, record }));
            }
        }
        let head = Head::read(connection, tenant, key, now).await?;
        let current = head.as_ref().and_then(|head| head.live_version);
        if !expected.is_met_by(current) {
            return Ok(Outcome::Refused { current });
        }
        let (version, at) = record::next(connection, tenant, head.as_ref().map(|head| head.previous), now).await?;
        let created = current.is_none();
        let (created_version, created_at) = match head {
            Some(head) if !created => (head.created_version, head.created_at),
            _ => (version.get(), at),
        };
        let record = VariableRecord {
            key: key.clone(),
            version,
            value: document.value.clone(),
            secret: false,
            description: document.description.clone(),
            created_at,
            updated_at: at,
            updated_by: context.actor.as_str().to_owned(),
            expires_at: document.ttl_seconds.map(|seconds| at.plus_seconds(seconds)),
        };
        upsert(connection, tenant, &record, created_version).await?;
        let operation = if created { ChangeOperation::Created } else { ChangeOperation::Replaced };
        let answer = if context.idempotency.is_some() { Answer::Text(answer::from_variable(&record)?) } else { Answer::Nothing };
        log(connection, context, key, operation, version, at, answer).await?;
        Ok(Outcome::Applied { created, record })
    }
}

async fn upsert(connection: &mut SqliteConnection, tenant: &TenantId, record: &VariableRecord, created_version: i64) -> Result<()> {
    sqlx::query(UPSERT)
        .bind(tenant.as_str())
        .bind(record.key.scope.kind() as i16)
        .bind(record.key.scope.id())
        .bind(record.key.name.as_str())
        .bind(record.version.get())
        .bind(created_version)
        .bind(record.created_at.as_microseconds())
        .bind(record.updated_at.as_microseconds())
        .bind(record.expires_at.map(Timestamp::as_microseconds))
        .bind(record.expires_at.map(|end| end.plus_seconds(3600).hour().as_microseconds()))
        .bind(record.updated_by.as_str())
        .bind(record.description.as_deref())
        .bind(record.value.clone())
        .execute(connection)
        .await
        .map_err(store_error)
        .map(drop)
}

async fn log(
    connection: &mut SqliteConnection,
    context: &WriteContext,
    key: &VariableKey,
    operation: ChangeOperation,
    version: Version,
    at: Timestamp,
    answer: Answer,
) -> Result<()> {
    let scope = key.scope.to_string();
    let change = Change { kind: ChangeKind::Variable, operation, keys: [&scope, key.name.as_str()], version, at };
    record::record(connection, context, change, answer).await
}

/// [`Store::delete_variable`](crate::store::Store::delete_variable).
pub(super) struct DeleteVariable {
    pub(super) context: WriteContext,
    pub(super) key: VariableKey,
    pub(super) expected: Expected,
}

#[async_trait]
impl Write for DeleteVariable {
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
        let live = Head::read(connection, tenant, key, now).await?.filter(|head| head.live_version.is_some());
        let current = live.as_ref().and_then(|head| head.live_version);
        let head = match live {
            Some(head) if expected.is_met_by(current) => head,
            None if expected.is_met_by(None) => return Ok(Outcome::Absent),
            _ => return Ok(Outcome::Refused { current }),
        };
        let (version, at) = record::next(connection, tenant, Some(head.previous), now).await?;
        sqlx::query(DELETE)
            .bind(tenant.as_str())
            .bind(key.scope.kind() as i16)
            .bind(key.scope.id())
            .bind(key.name.as_str())
            .bind(version.get())
            .bind(at.as_microseconds())
            .bind(context.actor.as_str())
            .bind(at.plus_seconds(TOMBSTONE_SECONDS).hour().as_microseconds())
            .execute(&mut *connection)
            .await
            .map_err(store_error)?;
        log(connection, context, key, ChangeOperation::Deleted, version, at, Answer::Nothing).await?;
        Ok(Outcome::Applied { created: false, record: Tombstone { version } })
    }
}
