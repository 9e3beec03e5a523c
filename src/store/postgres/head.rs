//! The head of an execution under its lock: what everything that hangs on an execution goes through, so that it never meets another
//! incarnation of it.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::rows;
use super::state_read;
use crate::domain::clock::Timestamp;
use crate::domain::id::TenantId;
use crate::domain::state::{ForkedFrom, Operation, StateDocument, StateKey, StateRecord};
use crate::domain::version::Version;
use crate::store::WriteContext;

const LOCK: &str = "
    SELECT x.state_id, x.version, x.checkpoint_floor, x.deleted FROM execution_state x
    WHERE x.tenant_id = $1 AND x.workflow_id = $2 AND x.execution_id = $3 FOR NO KEY UPDATE";

/// A head without a state: it is deleted, and its version is the one in front of its first.
const MAKE: &str = "
    INSERT INTO execution_state AS x (tenant_id, workflow_id, execution_id, version, created_version, created_at, updated_at, listed_at,
                                      status, deleted)
    SELECT $1, $2, $3, f.version_floor, f.version_floor, m.at, m.at, date_trunc('hour', m.at), '', true
    FROM (SELECT clock_timestamp() + $4::int8 * interval '1 microsecond' AS at) m
      CROSS JOIN (SELECT coalesce((SELECT version_floor FROM tenant WHERE tenant_id = $1), 0) AS version_floor) f
    ON CONFLICT (tenant_id, workflow_id, execution_id) DO NOTHING
    RETURNING x.state_id, x.version, x.checkpoint_floor, x.deleted";

/// A new version of a locked head. $5 and $6 are the request and its user, $7 the operation, $8 the checkpoint, $9 to $11 status, schema
/// version and body, $12 to $15 the origin of a fork, which else stays for the rest of its life.
const WRITE: &str = "
    WITH h AS (
      UPDATE execution_state x SET version = x.version + 1, applied = true, deleted = false, sweep_at = NULL,
             created_version = CASE WHEN x.deleted THEN x.version + 1 ELSE x.created_version END,
             created_at = CASE WHEN x.deleted THEN greatest(m.at, x.updated_at + interval '1 microsecond') ELSE x.created_at END,
             updated_at = greatest(m.at, x.updated_at + interval '1 microsecond'),
             listed_at = greatest(date_trunc('hour', m.at), x.listed_at), status = $9, schema_version = $10,
             forked_workflow = CASE WHEN x.deleted THEN $12 ELSE x.forked_workflow END,
             forked_execution = CASE WHEN x.deleted THEN $13 ELSE x.forked_execution END,
             forked_version = CASE WHEN x.deleted THEN $14 ELSE x.forked_version END,
             forked_checkpoint = CASE WHEN x.deleted THEN $15 ELSE x.forked_checkpoint END
      FROM (SELECT clock_timestamp() + $4::int8 * interval '1 microsecond' AS at) m
      WHERE x.tenant_id = $1 AND x.workflow_id = $2 AND x.execution_id = $3
      RETURNING x.state_id, x.version, x.created_version, x.created_at, x.updated_at, x.forked_workflow, x.forked_execution,
                x.forked_version, x.forked_checkpoint),
    v AS (
      INSERT INTO state_version (tenant_id, state_id, version, created_at, at, size, operation, actor, status, checkpoint, body,
                                 forked_workflow, forked_execution, forked_version, forked_checkpoint)
      SELECT $1, state_id, version, created_at, updated_at, octet_length($11), $7, $6, $9, $8, $11,
             forked_workflow, forked_execution, forked_version, forked_checkpoint
      FROM h),
    l AS (
      INSERT INTO change_log (tenant_id, kind, op, k1, k2, version, request_id, actor, at)
      SELECT $1, 1, CASE WHEN version = created_version THEN 1 ELSE 2 END, $2, $3, version, $5, $6, updated_at FROM h)
    SELECT h.* FROM h";

/// A head under its lock.
pub(super) struct Head {
    /// The incarnation: history and checkpoints hang on it.
    pub(super) state_id: i64,
    /// The version, of a deletion too; 0 for a head that never had a state.
    pub(super) version: i64,
    /// Versions of its checkpoints are above this one, to which those of earlier incarnations come.
    pub(super) checkpoint_floor: i64,
    deleted: bool,
}

impl Head {
    fn read(row: &PgRow) -> Result<Self, Failure> {
        Ok(Self {
            state_id: row.try_get("state_id")?,
            version: row.try_get("version")?,
            checkpoint_floor: row.try_get("checkpoint_floor")?,
            deleted: row.try_get("deleted")?,
        })
    }

    /// Locks the head of an execution.
    pub(super) async fn lock(connection: &mut PgConnection, tenant: &TenantId, key: &StateKey) -> Result<Option<Self>, Failure> {
        let row = sqlx::query(LOCK)
            .bind(tenant.as_str())
            .bind(key.workflow.as_str())
            .bind(key.execution.as_str())
            .fetch_optional(connection)
            .await?;
        row.as_ref().map(Self::read).transpose()
    }

    /// Locks the head of an execution, after making one without a state when there is none.
    pub(super) async fn lock_or_make(
        connection: &mut PgConnection,
        tenant: &TenantId,
        key: &StateKey,
        offset: i64,
    ) -> Result<Self, Failure> {
        if let Some(head) = Self::lock(connection, tenant, key).await? {
            return Ok(head);
        }
        let made = sqlx::query(MAKE)
            .bind(tenant.as_str())
            .bind(key.workflow.as_str())
            .bind(key.execution.as_str())
            .bind(offset)
            .fetch_optional(&mut *connection)
            .await?;
        match made {
            Some(row) => Self::read(&row),
            // Somebody else has made it meanwhile.
            None => Self::lock(connection, tenant, key).await?.ok_or(Failure::Raced),
        }
    }

    /// The version of the state, when there is one.
    pub(super) fn live(&self) -> Result<Option<Version>, Failure> {
        if self.deleted {
            return Ok(None);
        }
        Version::new(self.version).map(Some).ok_or_else(|| Failure::corrupt(format!("version {}", self.version)))
    }
}

/// What a checkpoint turns into a new version of a state.
pub(super) struct NewVersion<'a> {
    pub(super) context: &'a WriteContext,
    pub(super) key: &'a StateKey,
    pub(super) operation: Operation,
    pub(super) checkpoint: &'a str,
    pub(super) document: StateDocument,
    /// Where a fork comes from.
    pub(super) origin: Option<ForkedFrom>,
}

/// A version that was written.
pub(super) struct NewRecord {
    pub(super) record: StateRecord,
    pub(super) state_id: i64,
    pub(super) created: bool,
}

impl NewVersion<'_> {
    /// Writes it. The head is locked.
    pub(super) async fn write(self, connection: &mut PgConnection, offset: i64) -> Result<NewRecord, Failure> {
        let origin = self.origin.as_ref();
        let row = sqlx::query(WRITE)
            .bind(self.context.tenant.as_str())
            .bind(self.key.workflow.as_str())
            .bind(self.key.execution.as_str())
            .bind(offset)
            .bind(self.context.request_id)
            .bind(self.context.actor.as_str())
            .bind(self.operation as i16)
            .bind(self.checkpoint)
            .bind(self.document.status())
            .bind(self.document.schema_version())
            .bind(self.document.text())
            .bind(origin.map(|origin| origin.workflow.as_str()))
            .bind(origin.map(|origin| origin.execution.as_str()))
            .bind(origin.and_then(|origin| origin.version).map(Version::get))
            .bind(origin.and_then(|origin| origin.checkpoint.as_deref()))
            .fetch_one(connection)
            .await?;
        let version = rows::version(&row, "version")?;
        let created_at: Timestamp = row.try_get("created_at")?;
        Ok(NewRecord {
            state_id: row.try_get("state_id")?,
            created: row.try_get::<i64, _>("created_version")? == version.get(),
            record: StateRecord {
                key: self.key.clone(),
                version,
                document: self.document,
                created_at,
                updated_at: row.try_get("updated_at")?,
                updated_by: self.context.actor.as_str().to_owned(),
                forked_from: state_read::forked_from(&row)?,
            },
        })
    }
}
