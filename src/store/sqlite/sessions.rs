//! Reading sessions.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::error::store_error;
use super::record::Previous;
use super::row::Columns;
use crate::domain::clock::Timestamp;
use crate::domain::id::{SessionId, TenantId, UserId};
use crate::domain::page::Page;
use crate::domain::session::{Reach, SessionQuery, SessionRecord};
use crate::domain::version::Version;
use crate::store::{Lookup, Result};

const TABLE: &str = "session";

/// Columns of [`record_of`] but the data.
macro_rules! record_columns {
    () => {
        "subject, version, created_version, ttl_ms, sliding, max_expires_at, created_at, updated_at, written_expires_at, expires_at"
    };
}

macro_rules! select_list {
    ($reach:literal) => {
        concat!(
            "SELECT session_id, 'null' AS data, ",
            record_columns!(),
            " FROM session WHERE tenant_id = ?1 AND session_id > ?2 AND deleted = 0 AND expires_at > ?3",
            $reach,
            " ORDER BY session_id LIMIT ?4"
        )
    };
}

const SELECT_ONE: &str = concat!("SELECT deleted, ", record_columns!(), ", data FROM session WHERE tenant_id = ?1 AND session_id = ?2");
const SELECT_ALL: &str = select_list!("");
const SELECT_OWN: &str = select_list!(" AND subject = ?5");

/// A session with its row's owner, whether or not it still lives.
pub(super) enum Found {
    Live(SessionRecord),
    Gone { owner: UserId, previous: Previous },
}

impl Found {
    pub(super) async fn read(connection: &mut SqliteConnection, tenant: &TenantId, id: &SessionId, now: Timestamp) -> Result<Option<Self>> {
        let query = sqlx::query(SELECT_ONE).bind(tenant.as_str()).bind(id.as_str());
        let Some(row) = query.fetch_optional(connection).await.map_err(store_error)? else { return Ok(None) };
        let columns = Columns::of(TABLE, &row);
        if columns.flag("deleted")? || columns.time("expires_at")? <= now {
            let version = columns.version("version")?.get();
            let previous = Previous { version, updated_at: columns.time("updated_at")? };
            return Ok(Some(Self::Gone { owner: owner(&columns)?, previous }));
        }
        record_of(id.clone(), &row).map(Self::Live).map(Some)
    }
}

pub(super) async fn current(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    id: &SessionId,
    reach: &Reach,
    now: Timestamp,
) -> Result<Lookup<SessionRecord>> {
    Ok(match Found::read(connection, tenant, id, now).await? {
        Some(Found::Live(record)) if reach.covers(&record.owner) => Lookup::Live(record),
        Some(Found::Gone { owner, previous }) if reach.covers(&owner) => {
            Version::new(previous.version).map_or(Lookup::Absent, Lookup::Gone)
        }
        _ => Lookup::Absent,
    })
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    query: &SessionQuery,
    now: Timestamp,
) -> Result<Page<SessionRecord>> {
    let sql = match &query.reach {
        Reach::Own(_) => SELECT_OWN,
        Reach::All => SELECT_ALL,
    };
    let mut select = sqlx::query(sql)
        .bind(tenant.as_str())
        .bind(query.after.as_ref().map(SessionId::as_str).unwrap_or_default())
        .bind(now.as_microseconds())
        .bind(i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX));
    if let Reach::Own(user) = &query.reach {
        select = select.bind(user.as_str());
    }
    let rows = select.fetch_all(connection).await.map_err(store_error)?;
    let item = |row: &SqliteRow| {
        let columns = Columns::of(TABLE, row);
        let id = SessionId::parse(columns.get("session_id")?).map_err(|_| columns.corrupt("session_id"))?;
        record_of(id, row)
    };
    Ok(Page { items: rows.iter().take(query.limit).map(item).collect::<Result<_>>()?, more: rows.len() > query.limit })
}

fn owner(columns: &Columns<'_>) -> Result<UserId> {
    UserId::parse(columns.get("subject")?).map_err(|_| columns.corrupt("subject"))
}

fn record_of(id: SessionId, row: &SqliteRow) -> Result<SessionRecord> {
    let columns = Columns::of(TABLE, row);
    let created_at = columns.time("created_at")?;
    let cap = columns.optional_time("max_expires_at")?;
    Ok(SessionRecord {
        id,
        owner: owner(&columns)?,
        version: columns.version("version")?,
        life: columns.version("created_version")?,
        data: columns.get::<&str>("data")?.into(),
        ttl_seconds: columns.get::<i64>("ttl_ms")? / 1000,
        sliding: columns.flag("sliding")?,
        max_ttl_seconds: cap.map(|cap| (cap.as_microseconds() - created_at.as_microseconds()) / 1_000_000),
        created_at,
        updated_at: columns.time("updated_at")?,
        written_expires_at: columns.time("written_expires_at")?,
        expires_at: columns.time("expires_at")?,
    })
}
