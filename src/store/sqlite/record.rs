//! What goes with every write: the next version and time of its key, its row in the log, and its idempotency key.

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::error::store_error;
use super::row::Columns;
use crate::domain::clock::Timestamp;
use crate::domain::id::TenantId;
use crate::domain::version::Version;
use crate::store::change::{ChangeKind, ChangeOperation};
use crate::store::{IDEMPOTENCY_SECONDS, Result, StoreError, WriteContext};

/// How long a tombstone stays before the sweeper may begin to remove it: no request that is older can still be at work, and no
/// idempotency key is kept longer.
pub(super) const TOMBSTONE_SECONDS: i64 = 25 * 3600;

const INSERT_TENANT_AND_READ_FLOOR: &str = "
    INSERT OR IGNORE INTO tenant (tenant_id) VALUES (?1);
    SELECT version_floor FROM tenant WHERE tenant_id = ?1";

const SELECT_KNOWN: &str = "
    SELECT fingerprint, version, status, state_id, answer FROM idempotency WHERE tenant_id = ?1 AND idem = ?2 AND at > ?3";

macro_rules! insert_log {
    () => {
        "INSERT INTO change_log (tenant_id, at, version, kind, op, request_id, k1, k2, actor)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
    };
}

const INSERT_LOG: &str = insert_log!();

/// A row that is replaced here is too old to count, else [`known`] had found it.
const INSERT_LOG_AND_KEY: &str = concat!(
    insert_log!(),
    "; INSERT OR REPLACE INTO idempotency (tenant_id, idem, fingerprint, version, status, state_id, at, sweep_at, answer)
         VALUES (?1, ?10, ?11, ?3, ?12, ?13, ?2, ?14, ?15)"
);

/// What stands at a key before a write: the row of a live one, or of a tombstone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Previous {
    /// As stored: 0 where an execution has checkpoints and never had a state.
    pub(super) version: i64,
    pub(super) updated_at: Timestamp,
}

/// The version and time of the next write to a key. A key without a row begins behind the tenant's floor.
pub(super) async fn next(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    previous: Option<Previous>,
    now: Timestamp,
) -> Result<(Version, Timestamp)> {
    let (last, at) = match previous {
        Some(Previous { version, updated_at }) => {
            (version, now.max(Timestamp::from_microseconds(updated_at.as_microseconds().saturating_add(1))))
        }
        None => (version_floor(connection, tenant).await?, now),
    };
    let version = last.checked_add(1).and_then(Version::new);
    Ok((version.ok_or_else(|| StoreError::Internal("the versions of a key are used up".into()))?, at))
}

/// The versions up to this one may have been those of removed tombstones. Every write to a key without a row asks for it, so every
/// tenant that has rows has its own.
async fn version_floor(connection: &mut SqliteConnection, tenant: &TenantId) -> Result<i64> {
    let row = sqlx::query(INSERT_TENANT_AND_READ_FLOOR).bind(tenant.as_str()).fetch_one(connection).await.map_err(store_error)?;
    Columns::of("tenant", &row).get("version_floor")
}

/// What is known of a request's idempotency key.
pub(super) enum Known {
    /// The request has none, or it was not used in time.
    No,
    /// An equal request used it.
    Answered(Answered),
    /// Another request used it.
    Reused,
}

/// The stored answer.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) state_id: Option<i64>,
    pub(super) answer: Option<String>,
}

/// Looks the request's idempotency key up.
pub(super) async fn known(connection: &mut SqliteConnection, context: &WriteContext, now: Timestamp) -> Result<Known> {
    let Some(idempotency) = context.idempotency else { return Ok(Known::No) };
    let row = sqlx::query(SELECT_KNOWN)
        .bind(context.tenant.as_str())
        .bind(idempotency.key)
        .bind(now.plus_seconds(-IDEMPOTENCY_SECONDS).as_microseconds())
        .fetch_optional(connection)
        .await
        .map_err(store_error)?;
    let Some(row) = row else { return Ok(Known::No) };
    let columns = Columns::of("idempotency", &row);
    if columns.get::<Uuid>("fingerprint")? != idempotency.fingerprint {
        return Ok(Known::Reused);
    }
    Ok(Known::Answered(Answered {
        status: u16::try_from(columns.get::<i64>("status")?).map_err(|_| columns.corrupt("status"))?,
        version: columns.version("version")?,
        state_id: columns.get("state_id")?,
        answer: columns.get("answer")?,
    }))
}

/// An applied write.
pub(super) struct Change<'a> {
    pub(super) kind: ChangeKind,
    pub(super) operation: ChangeOperation,
    pub(super) keys: [&'a str; 2],
    pub(super) version: Version,
    pub(super) at: Timestamp,
}

/// Where the answer of an applied write is found again.
pub(super) enum Answer {
    /// In the history of this state.
    State(i64),
    /// In this text.
    Text(String),
    /// Nowhere: there is none but the status.
    Nothing,
}

/// Writes the log row and, when the request has an idempotency key, the key's.
pub(super) async fn record(connection: &mut SqliteConnection, context: &WriteContext, change: Change<'_>, answer: Answer) -> Result<()> {
    let [k1, k2] = change.keys;
    let sql = if context.idempotency.is_some() { INSERT_LOG_AND_KEY } else { INSERT_LOG };
    let mut query = sqlx::query(sql)
        .bind(context.tenant.as_str())
        .bind(change.at.as_microseconds())
        .bind(change.version.get())
        .bind(change.kind as i16)
        .bind(change.operation as i16)
        .bind(context.request_id)
        .bind(k1)
        .bind(k2)
        .bind(context.actor.as_str());
    if let Some(idempotency) = context.idempotency {
        let status = match change.operation {
            ChangeOperation::Created => 201,
            ChangeOperation::Replaced => 200,
            ChangeOperation::Deleted => 204,
        };
        let (state_id, text) = match answer {
            Answer::State(state_id) => (Some(state_id), None),
            Answer::Text(text) => (None, Some(text)),
            Answer::Nothing => (None, None),
        };
        query = query
            .bind(idempotency.key)
            .bind(idempotency.fingerprint)
            .bind(status)
            .bind(state_id)
            .bind(change.at.plus_seconds(IDEMPOTENCY_SECONDS + 3600).hour().as_microseconds())
            .bind(text);
    }
    query.execute(connection).await.map_err(store_error).map(drop)
}
