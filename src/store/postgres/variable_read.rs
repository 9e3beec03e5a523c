//! Reading variables. One that has expired, or is of another life of its session, is not there, whatever a sweeper does.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::rows;
use super::work::Work;
use crate::domain::id::{TenantId, VariableName};
use crate::domain::page::Page;
use crate::domain::variable::{Scope, ScopeLife, VariableKey, VariableRecord};
use crate::domain::version::Version;
use crate::store::name_range::NameRange;
use crate::store::{Lookup, VariableQuery};

/// One row for each of $3 to $6 in their order; $2 is the clock's offset. Of an absent one nothing.
const CURRENT: &str = "
    SELECT x.version, x.value, x.secret, x.description, x.created_at, x.updated_at, x.updated_by, x.expires_at,
           x.deleted OR x.session_life IS DISTINCT FROM u.life
             OR coalesce(x.expires_at <= clock_timestamp() + $2::int8 * interval '1 microsecond', false) AS gone
    FROM unnest($3::int2[], $4::text[], $5::text[], $6::int8[]) WITH ORDINALITY AS u(sk, si, name, life, n)
      LEFT JOIN LATERAL (SELECT * FROM variable y
        WHERE y.tenant_id = $1 AND y.scope_kind = u.sk AND y.scope_id = u.si AND y.name = u.name LIMIT 1) x ON true
    ORDER BY u.n";

/// The rows of a page, cut where the values before a row have filled it. `found` counts one row more than the page may hold, so that
/// it tells whether more follow. Neither counting nor `octet_length` reads a value that is stored apart.
const PAGE: &str = "
    WITH found AS MATERIALIZED (
      SELECT x.name, octet_length(x.value) AS size FROM variable x
      WHERE x.tenant_id = $1 AND x.scope_kind = $2 AND x.scope_id = $3 AND x.name >= $5 AND x.name < $6
        AND ($7::text[] IS NULL OR x.name = ANY ($7)) AND NOT x.deleted AND x.session_life IS NOT DISTINCT FROM $10
        AND (x.expires_at IS NULL OR x.expires_at > (SELECT clock_timestamp() + $4::int8 * interval '1 microsecond'))
      ORDER BY x.name LIMIT $8 + 1),
    page AS MATERIALIZED (
      SELECT name FROM (SELECT name, row_number() OVER w AS position, sum(size) OVER w - size AS before FROM found WINDOW w AS (ORDER BY name)) f
      WHERE f.position <= $8 AND f.before < $9)
    SELECT x.name, x.version, x.value, x.secret, x.description, x.created_at, x.updated_at, x.updated_by, x.expires_at,
           (SELECT count(*) FROM found) AS found
    FROM page p CROSS JOIN LATERAL (
      SELECT * FROM variable y WHERE y.tenant_id = $1 AND y.scope_kind = $2 AND y.scope_id = $3 AND y.name = p.name LIMIT 1) x
    ORDER BY p.name";

/// Greater than every name, in bytes: the greatest character more often than a name can hold it.
pub(super) fn behind_all_names() -> String {
    "\u{10FFFF}".repeat(crate::domain::id::MAX_NAME_BYTES / 4 + 1)
}

/// A variable to read.
#[derive(Clone)]
pub(super) struct VariableGet {
    pub(super) tenant: TenantId,
    pub(super) key: VariableKey,
    pub(super) life: ScopeLife,
}

/// Reads variables.
pub(super) struct GetVariables<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [VariableGet],
}

impl Work for GetVariables<'_> {
    type Output = Vec<Lookup<VariableRecord>>;
    const TABLE: &'static str = "variable";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let rows = sqlx::query(CURRENT)
            .bind(self.tenant.as_str())
            .bind(offset)
            .bind(self.rows.iter().map(|row| row.key.scope.kind() as i16).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.key.scope.id()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.key.name.as_str()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.life.map(Version::get)).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
        self.rows.iter().zip(&rows).map(|(get, row)| current(&get.key, row)).collect()
    }
}

fn current(key: &VariableKey, row: &PgRow) -> Result<Lookup<VariableRecord>, Failure> {
    if row.try_get::<Option<i64>, _>("version")?.is_none() {
        return Ok(Lookup::Absent);
    }
    if row.try_get("gone")? {
        return Ok(Lookup::Gone(rows::version(row, "version")?));
    }
    Ok(Lookup::Live(record(key.clone(), row)?))
}

/// Reads a page of a scope.
pub(super) struct ListVariables<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) scope: &'a Scope,
    pub(super) life: ScopeLife,
    pub(super) query: &'a VariableQuery,
}

impl Work for ListVariables<'_> {
    type Output = Page<VariableRecord>;
    const TABLE: &'static str = "variable";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let range = NameRange::of(self.query);
        let names: Vec<&str> = self.query.names.iter().map(VariableName::as_str).collect();
        let rows = sqlx::query(PAGE)
            .bind(self.tenant.as_str())
            .bind(self.scope.kind() as i16)
            .bind(self.scope.id())
            .bind(offset)
            .bind(range.from)
            .bind(range.to.unwrap_or_else(behind_all_names))
            .bind((!names.is_empty()).then_some(names))
            .bind(i64::try_from(self.query.limit).unwrap_or(i64::MAX - 1))
            .bind(i64::try_from(self.query.max_bytes.max(1)).unwrap_or(i64::MAX))
            .bind(self.life.map(Version::get))
            .fetch_all(connection)
            .await?;
        let items = rows.iter().map(|row| self.item(row)).collect::<Result<Vec<_>, _>>()?;
        Ok(Page { more: rows::found_more(&rows, items.len())?, items })
    }
}

impl ListVariables<'_> {
    fn item(&self, row: &PgRow) -> Result<VariableRecord, Failure> {
        let name: &str = row.try_get("name")?;
        let name = VariableName::parse(name).map_err(|why| Failure::corrupt(format!("name {why}")))?;
        record(VariableKey { scope: self.scope.clone(), name }, row)
    }
}

/// The record in a row of `variable`.
pub(super) fn record(key: VariableKey, row: &PgRow) -> Result<VariableRecord, Failure> {
    let version: Version = rows::version(row, "version")?;
    let value: Option<&str> = row.try_get("value")?;
    Ok(VariableRecord {
        key,
        version,
        value: value.ok_or_else(|| Failure::corrupt(format!("version {version} has no value")))?.into(),
        secret: row.try_get("secret")?,
        description: row.try_get("description")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        updated_by: row.try_get("updated_by")?,
        expires_at: row.try_get("expires_at")?,
    })
}
