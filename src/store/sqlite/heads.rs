//! The head of an execution, as writes find it.

use sqlx::SqliteConnection;

use super::error::store_error;
use super::record::Previous;
use super::row::Columns;
use super::states;
use crate::domain::clock::Timestamp;
use crate::domain::id::TenantId;
use crate::domain::state::{ForkedFrom, StateKey};
use crate::domain::version::Version;
use crate::store::Result;

const SELECT_HEAD: &str = "
    SELECT state_id, version, created_version, checkpoint_floor, created_at, updated_at, deleted, status, schema_version,
           forked_workflow, forked_execution, forked_version, forked_checkpoint
    FROM execution_state WHERE tenant_id = ?1 AND workflow_id = ?2 AND execution_id = ?3";

/// A head without a state, for what hangs on one: it is deleted, at the version behind which the key begins.
const INSERT_EMPTY_HEAD: &str = "
    INSERT OR IGNORE INTO tenant (tenant_id) VALUES ($1);
    INSERT INTO execution_state (tenant_id, workflow_id, execution_id, version, created_version, created_at, updated_at, listed_at,
                                 schema_version, deleted, status)
    SELECT $1, $2, $3, version_floor, version_floor, $4, $4, $5, 1, 1, '' FROM tenant WHERE tenant_id = $1
    RETURNING state_id, version";

const SELECT_HAS_VERSIONS: &str = "SELECT EXISTS (SELECT 1 FROM state_version WHERE tenant_id = ?1 AND state_id = ?2)";

const SELECT_HAS_CHECKPOINTS: &str = "
    SELECT EXISTS (SELECT 1 FROM checkpoint WHERE tenant_id = ?1 AND state_id = ?2 AND deleted = 0)";

/// The head as it stands before a write.
pub(super) struct Head {
    pub(super) state_id: i64,
    pub(super) previous: Previous,
    pub(super) created_version: i64,
    /// Checkpoints of this incarnation begin behind this version.
    pub(super) checkpoint_floor: i64,
    pub(super) created_at: Timestamp,
    pub(super) deleted: bool,
    pub(super) status: String,
    pub(super) schema_version: i64,
    pub(super) forked_from: Option<ForkedFrom>,
}

impl Head {
    pub(super) async fn read(connection: &mut SqliteConnection, tenant: &TenantId, key: &StateKey) -> Result<Option<Self>> {
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
            checkpoint_floor: columns.get("checkpoint_floor")?,
            created_at: columns.time("created_at")?,
            deleted: columns.flag("deleted")?,
            status: columns.get("status")?,
            schema_version: columns.get("schema_version")?,
            forked_from: states::forked_from(&columns)?,
        }))
    }

    /// Makes the head of an execution that has no row.
    pub(super) async fn insert(connection: &mut SqliteConnection, tenant: &TenantId, key: &StateKey, now: Timestamp) -> Result<Self> {
        let row = sqlx::query(INSERT_EMPTY_HEAD)
            .bind(tenant.as_str())
            .bind(key.workflow.as_str())
            .bind(key.execution.as_str())
            // So that the first version, which comes behind it, may have the time of now.
            .bind(now.as_microseconds().saturating_sub(1))
            .bind(now.hour().as_microseconds())
            .fetch_one(connection)
            .await
            .map_err(store_error)?;
        let columns = Columns::of("execution_state", &row);
        let version = columns.get("version")?;
        Ok(Self {
            state_id: columns.get("state_id")?,
            previous: Previous { version, updated_at: Timestamp::from_microseconds(i64::MIN) },
            created_version: version,
            checkpoint_floor: 0,
            created_at: now,
            deleted: true,
            status: String::new(),
            schema_version: 1,
            forked_from: None,
        })
    }

    /// The version of the state, when there is one.
    pub(super) fn live_version(&self) -> Option<Version> {
        if self.deleted { None } else { Version::new(self.previous.version) }
    }

    /// Whether this incarnation has a history.
    pub(super) async fn has_versions(&self, connection: &mut SqliteConnection, tenant: &TenantId) -> Result<bool> {
        exists(SELECT_HAS_VERSIONS, self.state_id, connection, tenant).await
    }

    /// Whether this incarnation has checkpoints.
    pub(super) async fn has_checkpoints(&self, connection: &mut SqliteConnection, tenant: &TenantId) -> Result<bool> {
        exists(SELECT_HAS_CHECKPOINTS, self.state_id, connection, tenant).await
    }
}

async fn exists(sql: &'static str, state_id: i64, connection: &mut SqliteConnection, tenant: &TenantId) -> Result<bool> {
    sqlx::query_scalar(sql).bind(tenant.as_str()).bind(state_id).fetch_one(connection).await.map_err(store_error)
}
