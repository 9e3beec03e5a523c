//! Reading sessions. One that has expired is not there, whatever a sweeper does, and neither is one that is out of reach.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::rows;
use super::session_sql::record;
use super::session_write::reached;
use super::work::Work;
use crate::domain::clock::Timestamp;
use crate::domain::id::{SessionId, TenantId, UserId};
use crate::domain::page::Page;
use crate::domain::session::{Reach, SessionQuery, SessionRecord};
use crate::store::Lookup;

/// One row for each of $3 in their order; $2 is the clock's offset. Of an absent one nothing.
const CURRENT: &str = concat!(
    "SELECT x.data, x.deleted OR x.expires_at <= clock_timestamp() + $2::int8 * interval '1 microsecond' AS gone, ",
    record!("x"),
    " FROM unnest($3::text[]) WITH ORDINALITY AS u(id, n)
        LEFT JOIN LATERAL (SELECT * FROM session y WHERE y.tenant_id = $1 AND y.session_id = u.id LIMIT 1) x ON true
      ORDER BY u.n"
);

/// The live sessions behind $2 and with `$filter`, without their data, which no list shows.
macro_rules! page {
    ($filter:literal) => {
        concat!(
            "SELECT 'null' AS data, ",
            record!("x"),
            " FROM session x WHERE x.tenant_id = $1 AND x.session_id > $2 AND NOT x.deleted
                AND x.expires_at > (SELECT clock_timestamp() + $3::int8 * interval '1 microsecond')",
            $filter,
            " ORDER BY x.session_id LIMIT $4"
        )
    };
}

const ALL: &str = page!("");
const OWN: &str = page!(" AND x.subject = $5");

/// A session to read.
#[derive(Clone)]
pub(super) struct SessionGet {
    pub(super) tenant: TenantId,
    pub(super) id: SessionId,
    pub(super) reach: Reach,
}

/// Reads sessions.
pub(super) struct GetSessions<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [SessionGet],
}

impl Work for GetSessions<'_> {
    type Output = Vec<Lookup<SessionRecord>>;
    const TABLE: &'static str = "session";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let rows = sqlx::query(CURRENT)
            .bind(self.tenant.as_str())
            .bind(offset)
            .bind(self.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
        self.rows.iter().zip(&rows).map(|(get, row)| current(get, row)).collect()
    }
}

fn current(get: &SessionGet, row: &PgRow) -> Result<Lookup<SessionRecord>, Failure> {
    // Its tombstone too says that it was there.
    if row.try_get::<Option<i64>, _>("version")?.is_none() || !get.reach.covers(&owner(row)?) {
        return Ok(Lookup::Absent);
    }
    if row.try_get("gone")? {
        return Ok(Lookup::Gone(rows::version(row, "version")?));
    }
    Ok(Lookup::Live(record(get.id.clone(), row)?))
}

/// Reads a page of sessions.
pub(super) struct ListSessions<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) query: &'a SessionQuery,
}

impl Work for ListSessions<'_> {
    type Output = Page<SessionRecord>;
    const TABLE: &'static str = "session";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let owner = reached(&self.query.reach);
        // No id is empty, so all of them lie behind the empty one.
        let query = sqlx::query(if owner.is_some() { OWN } else { ALL })
            .bind(self.tenant.as_str())
            .bind(self.query.after.as_ref().map_or("", SessionId::as_str))
            .bind(offset)
            .bind(rows::one_more(self.query.limit));
        let query = if let Some(owner) = owner { query.bind(owner) } else { query };
        let rows = query.fetch_all(connection).await?;
        let items = rows.iter().take(self.query.limit).map(item).collect::<Result<_, _>>()?;
        Ok(Page { items, more: rows.len() > self.query.limit })
    }
}

fn item(row: &PgRow) -> Result<SessionRecord, Failure> {
    let id: &str = row.try_get("session_id")?;
    record(SessionId::parse(id).map_err(|why| Failure::corrupt(format!("session_id {why}")))?, row)
}

fn owner(row: &PgRow) -> Result<UserId, Failure> {
    let subject: &str = row.try_get("subject")?;
    UserId::parse(subject).map_err(|why| Failure::corrupt(format!("subject {why}")))
}

/// The record in a row of `session`.
pub(super) fn record(id: SessionId, row: &PgRow) -> Result<SessionRecord, Failure> {
    let version = rows::version(row, "version")?;
    let data: Option<&str> = row.try_get("data")?;
    let created_at: Timestamp = row.try_get("created_at")?;
    let cap: Option<Timestamp> = row.try_get("max_expires_at")?;
    Ok(SessionRecord {
        id,
        owner: owner(row)?,
        version,
        life: rows::version(row, "created_version")?,
        data: data.ok_or_else(|| Failure::corrupt(format!("version {version} has no data")))?.into(),
        ttl_seconds: row.try_get::<i64, _>("ttl_ms")? / 1000,
        sliding: row.try_get("sliding")?,
        max_ttl_seconds: cap.map(|cap| (cap.as_microseconds() - created_at.as_microseconds()) / 1_000_000),
        created_at,
        updated_at: row.try_get("updated_at")?,
        written_expires_at: row.try_get("written_expires_at")?,
        expires_at: row.try_get("expires_at")?,
    })
}
