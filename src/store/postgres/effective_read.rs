//! Reading the variables that are in force where several scopes are looked through.

use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::rows;
use super::variable_read::{behind_all_names, record};
use super::work::Work;
use crate::domain::id::{TenantId, VariableName};
use crate::domain::page::Page;
use crate::domain::variable::{Scope, ScopeLife, VariableKey, VariableRecord};
use crate::domain::version::Version;
use crate::store::VariableQuery;
use crate::store::name_range::NameRange;

/// A page of the names that any of the scopes has, each from the first one. Of each scope the first names are enough: the page's last name
/// is not behind as many names of that scope. The page is cut where the values before a row have filled it; `found` counts one row more
/// than it may hold. Arrays from $8: number, kind, id, life of the scopes.
const PAGE: &str = "
    WITH scopes AS MATERIALIZED (SELECT * FROM unnest($8::int4[], $9::int2[], $10::text[], $11::int8[]) AS u(n, sk, si, life)),
    found AS MATERIALIZED (
      SELECT DISTINCT ON (x.name) x.name, s.n, s.sk, s.si, x.size
      FROM scopes s CROSS JOIN LATERAL (
        SELECT y.name, octet_length(y.value) AS size FROM variable y
        WHERE y.tenant_id = $1 AND y.scope_kind = s.sk AND y.scope_id = s.si AND y.name >= $3 AND y.name < $4
          AND ($5::text[] IS NULL OR y.name = ANY ($5)) AND NOT y.deleted AND y.session_life IS NOT DISTINCT FROM s.life
          AND (y.expires_at IS NULL OR y.expires_at > (SELECT clock_timestamp() + $2::int8 * interval '1 microsecond'))
        ORDER BY y.name LIMIT $6 + 1) x
      ORDER BY x.name, s.n LIMIT $6 + 1),
    page AS MATERIALIZED (
      SELECT * FROM (SELECT name, n, sk, si, row_number() OVER w AS position, sum(size) OVER w - size AS before
                     FROM found WINDOW w AS (ORDER BY name)) f
      WHERE f.position <= $6 AND f.before < $7)
    SELECT p.n, x.name, x.version, x.value, x.secret, x.description, x.created_at, x.updated_at, x.updated_by, x.expires_at,
           (SELECT count(*) FROM found) AS found
    FROM page p CROSS JOIN LATERAL (
      SELECT * FROM variable y WHERE y.tenant_id = $1 AND y.scope_kind = p.sk AND y.scope_id = p.si AND y.name = p.name LIMIT 1) x
    ORDER BY p.name";

/// Reads a page.
pub(super) struct EffectiveVariables<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) scopes: &'a [(Scope, ScopeLife)],
    pub(super) query: &'a VariableQuery,
}

impl Work for EffectiveVariables<'_> {
    type Output = Page<VariableRecord>;
    const TABLE: &'static str = "variable";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let range = NameRange::of(self.query);
        let names: Vec<&str> = self.query.names.iter().map(VariableName::as_str).collect();
        let rows = sqlx::query(PAGE)
            .bind(self.tenant.as_str())
            .bind(offset)
            .bind(range.from)
            .bind(range.to.unwrap_or_else(behind_all_names))
            .bind((!names.is_empty()).then_some(names))
            .bind(i64::try_from(self.query.limit).unwrap_or(i64::MAX - 1))
            .bind(i64::try_from(self.query.max_bytes.max(1)).unwrap_or(i64::MAX))
            .bind((0..).take(self.scopes.len()).collect::<Vec<i32>>())
            .bind(self.scopes.iter().map(|(scope, _)| scope.kind() as i16).collect::<Vec<_>>())
            .bind(self.scopes.iter().map(|(scope, _)| scope.id()).collect::<Vec<_>>())
            .bind(self.scopes.iter().map(|(_, life)| life.map(Version::get)).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
        let items = rows.iter().map(|row| {
            let number: i32 = row.try_get("n")?;
            let scope = usize::try_from(number).ok().and_then(|number| self.scopes.get(number));
            let (scope, _) = scope.ok_or_else(|| Failure::corrupt(format!("scope {number}")))?;
            let name: &str = row.try_get("name")?;
            let name = VariableName::parse(name).map_err(|why| Failure::corrupt(format!("name {why}")))?;
            record(VariableKey { scope: scope.clone(), name }, row)
        });
        let items = items.collect::<Result<Vec<_>, _>>()?;
        Ok(Page { more: rows::found_more(&rows, items.len())?, items })
    }
}
