//! What goes with every write: the next version and time of its key, its row in the log, and its idempotency key.
//!
//! Several statements travel as one text, because each round trip to the connection's thread costs as much as a statement. Parameters of
//! such a text are `$1`, never `?1`: the driver would count the gaps between the latter over all statements, and leave the last unbound.

use sqlx::SqliteConnection;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use uuid::Uuid;

use super::error::store_error;
use super::row::Columns;
use crate::domain::clock::Timestamp;
use crate::domain::id::TenantId;
use crate::domain::version::Version;
use crate::store::change::{ChangeKind, ChangeOperation};
use crate::store::{IDEMPOTENCY_SECONDS, Outcome, Replay, Result, StoreError, Tombstone, WriteContext};

/// How long a tombstone stays before the sweeper may begin to remove it: no request that is older can still be at work, and no
/// idempotency key is kept longer.
pub(super) const TOMBSTONE_SECONDS: i64 = 25 * 3600;

const INSERT_TENANT_AND_READ_FLOOR: &str = "
    INSERT OR IGNORE INTO tenant (tenant_id) VALUES ($1);
    SELECT version_floor FROM tenant WHERE tenant_id = $1";

const SELECT_KNOWN: &str = "
    SELECT fingerprint, version, status, state_id, answer FROM idempotency WHERE tenant_id = ?1 AND idem = ?2 AND at > ?3";

/// The log row of a change, with the parameters of [`bind_change`].
macro_rules! insert_log {
    () => {
        "INSERT INTO change_log (tenant_id, at, version, kind, op, request_id, k1, k2, k3, actor)
             VALUES ($1, $5, $4, $8, $9, $7, $2, $3, $10, $6)"
    };
}
pub(super) use insert_log;

/// A row that is replaced here is too old to count, else [`known`] had found it.
const INSERT_KEY: &str = "
    INSERT OR REPLACE INTO idempotency (tenant_id, idem, fingerprint, version, status, state_id, at, sweep_at, answer)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// What stands at a key before a write: the row of a live one, or of a tombstone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Previous {
    /// As stored: 0 where an execution has checkpoints and never had a state.
    pub(super) version: i64,
    pub(super) updated_at: Timestamp,
}

impl Previous {
    /// The version and time of the next write.
    pub(super) fn next(self, now: Timestamp) -> Result<(Version, Timestamp)> {
        let version = self.version.checked_add(1).and_then(Version::new);
        let at = now.max(Timestamp::from_microseconds(self.updated_at.as_microseconds().saturating_add(1)));
        Ok((version.ok_or_else(|| StoreError::Internal("the versions of a key are used up".into()))?, at))
    }
}

/// The version and time of the next write to a key. A key without a row begins behind the tenant's floor.
pub(super) async fn next(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    previous: Option<Previous>,
    now: Timestamp,
) -> Result<(Version, Timestamp)> {
    match previous {
        Some(previous) => previous.next(now),
        None => {
            let floor = Previous { version: version_floor(connection, tenant).await?, updated_at: Timestamp::from_microseconds(i64::MIN) };
            floor.next(now)
        }
    }
}

/// The versions up to this one may have been those of removed tombstones. Every write to a key without a row asks for it, so every
/// tenant that has rows has its own.
pub(super) async fn version_floor(connection: &mut SqliteConnection, tenant: &TenantId) -> Result<i64> {
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

impl Answered {
    /// The answer of a write whose record is kept as text.
    pub(super) fn replay<R>(self, read: impl FnOnce(&str) -> Result<R>) -> Result<Outcome<R>> {
        let record = self.answer.as_deref().map(read).transpose()?;
        Ok(Outcome::Replayed(Replay { status: self.status, version: self.version, record }))
    }

    /// The answer of a delete.
    pub(super) fn replay_of_delete(self) -> Outcome<Tombstone> {
        Outcome::Replayed(Replay { status: self.status, version: self.version, record: None })
    }
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

/// A change of one key.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) kind: ChangeKind,
    pub(super) operation: ChangeOperation,
    pub(super) keys: [&'a str; 2],
    pub(super) third_key: Option<&'a str>,
    pub(super) version: Version,
    pub(super) at: Timestamp,
}

/// The query of a text that ends with the log row of a change. Its first parameters are bound: 1 tenant, 2 and 3 keys, 4 version, 5 time,
/// 6 actor, 7 request, 8 kind, 9 operation, 10 third key. Those of the rest of the text follow, from 11.
pub(super) fn bind_change<'q>(sql: &'static str, context: &'q WriteContext, change: Change<'q>) -> Query<'q, Sqlite, SqliteArguments> {
    let [k1, k2] = change.keys;
    sqlx::query(sql)
        .bind(context.tenant.as_str())
        .bind(k1)
        .bind(k2)
        .bind(change.version.get())
        .bind(change.at.as_microseconds())
        .bind(context.actor.as_str())
        .bind(context.request_id)
        .bind(change.kind as i16)
        .bind(change.operation as i16)
        .bind(change.third_key)
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

/// Keeps the answer of an applied write under its idempotency key, when the request has one. `make` is called only then.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    context: &WriteContext,
    status: u16,
    version: Version,
    at: Timestamp,
    make: impl FnOnce() -> Result<Answer>,
) -> Result<()> {
    let Some(idempotency) = context.idempotency else { return Ok(()) };
    let (state_id, text) = match make()? {
        Answer::State(state_id) => (Some(state_id), None),
        Answer::Text(text) => (None, Some(text)),
        Answer::Nothing => (None, None),
    };
    sqlx::query(INSERT_KEY)
        .bind(context.tenant.as_str())
        .bind(idempotency.key)
        .bind(idempotency.fingerprint)
        .bind(version.get())
        .bind(status)
        .bind(state_id)
        .bind(at.as_microseconds())
        .bind(at.plus_seconds(IDEMPOTENCY_SECONDS + 3600).hour().as_microseconds())
        .bind(text)
        .execute(connection)
        .await
        .map_err(store_error)
        .map(drop)
}
