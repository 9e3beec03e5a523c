//! Reading variables.

use futures_util::TryStreamExt as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::error::store_error;
use super::row::Columns;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TenantId, VariableName};
use crate::domain::page::Page;
use crate::domain::variable::{Scope, ScopeLife, VariableKey, VariableRecord};
use crate::domain::version::Version;
use crate::store::name_range::NameRange;
use crate::store::{Lookup, Result, StoreError, VariableQuery};

const TABLE: &str = "variable";
/// Scopes that are looked through at once: one of each kind.
const MOST_SCOPES: usize = 4;

/// Columns of [`record_of`].
macro_rules! record_columns {
    () => {
        "version, secret, description, created_at, updated_at, updated_by, expires_at, value"
    };
}

/// A blob sorts behind every text, so an empty one ends a range that is open.
macro_rules! select_list {
    ($names:literal) => {
        concat!(
            "SELECT name, ",
            record_columns!(),
            " FROM variable
              WHERE tenant_id = ?1 AND scope_kind = ?2 AND scope_id = ?3 AND name >= ?4 AND name < coalesce(?5, x'')
                AND deleted = 0 AND (expires_at IS NULL OR expires_at > ?6) AND session_life IS ?9",
            $names,
            " ORDER BY name LIMIT ?7"
        )
    };
}

const SELECT_ONE: &str = concat!(
    "SELECT deleted, session_life IS ?5 AS of_this_life, ",
    record_columns!(),
    " FROM variable WHERE tenant_id = ?1 AND scope_kind = ?2 AND scope_id = ?3 AND name = ?4"
);
const SELECT_LIST: &str = select_list!("");
const SELECT_LIST_OF_NAMES: &str = select_list!(" AND name IN (SELECT value FROM json_each(?8))");

macro_rules! select_effective {
    ($(($rank:literal, $kind:literal, $id:literal, $life:literal)),+) => {
        concat!($(
            "SELECT ", $rank, " AS rank, name, ", record_columns!(), " FROM variable
             WHERE tenant_id = ?1 AND scope_kind = ", $kind, " AND scope_id = ", $id, " AND name >= ?2 AND name < coalesce(?3, x'')
               AND deleted = 0 AND (expires_at IS NULL OR expires_at > ?4) AND session_life IS ", $life, "
               AND (?5 IS NULL OR name IN (SELECT value FROM json_each(?5)))
             UNION ALL "),+,
            "SELECT 0, '', 0, 0, NULL, 0, 0, '', NULL, '' WHERE 0 ORDER BY name, rank"
        )
    };
}

const SELECT_EFFECTIVE: &str =
    select_effective!(("0", "?6", "?7", "?8"), ("1", "?9", "?10", "?11"), ("2", "?12", "?13", "?14"), ("3", "?15", "?16", "?17"));

pub(super) async fn current(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    key: &VariableKey,
    life: ScopeLife,
    now: Timestamp,
) -> Result<Lookup<VariableRecord>> {
    let row = sqlx::query(SELECT_ONE)
        .bind(tenant.as_str())
        .bind(key.scope.kind() as i16)
        .bind(key.scope.id())
        .bind(key.name.as_str())
        .bind(life.map(Version::get))
        .fetch_optional(connection)
        .await
        .map_err(store_error)?;
    let Some(row) = row else { return Ok(Lookup::Absent) };
    let columns = Columns::of(TABLE, &row);
    let ended = columns.optional_time("expires_at")?.is_some_and(|end| end <= now);
    if columns.flag("deleted")? || ended || !columns.flag("of_this_life")? {
        return columns.version("version").map(Lookup::Gone);
    }
    record_of(key.clone(), &row).map(Lookup::Live)
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    scope: &Scope,
    life: ScopeLife,
    query: &VariableQuery,
    now: Timestamp,
) -> Result<Page<VariableRecord>> {
    let range = NameRange::of(query);
    let select = sqlx::query(if query.names.is_empty() { SELECT_LIST } else { SELECT_LIST_OF_NAMES })
        .bind(tenant.as_str())
        .bind(scope.kind() as i16)
        .bind(scope.id())
        .bind(range.from)
        .bind(range.to)
        .bind(now.as_microseconds())
        .bind(i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX))
        .bind(names_of(query)?)
        .bind(life.map(Version::get));
    let mut rows = select.fetch(connection);
    let mut page = PageOfRecords::new(query);
    while let Some(row) = rows.try_next().await.map_err(store_error)? {
        if !page.take(scope, &row)? {
            break;
        }
    }
    Ok(page.0)
}

/// The variables that are in force where scopes are looked through in their order. One statement, so that all of them are of one moment;
/// it merges their indexes, and its rows of one name come in the order of the scopes.
pub(super) async fn effective(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    scopes: &[(Scope, ScopeLife)],
    query: &VariableQuery,
    now: Timestamp,
) -> Result<Page<VariableRecord>> {
    if scopes.len() > MOST_SCOPES {
        return Err(StoreError::Internal("there are four kinds of scopes, and each is looked through once".into()));
    }
    let range = NameRange::of(query);
    let mut select = sqlx::query(SELECT_EFFECTIVE)
        .bind(tenant.as_str())
        .bind(range.from)
        .bind(range.to)
        .bind(now.as_microseconds())
        .bind(names_of(query)?);
    for index in 0..MOST_SCOPES {
        let scope = scopes.get(index);
        select = select
            // No scope is of the kind 0.
            .bind(scope.map_or(0, |(scope, _)| scope.kind() as i16))
            .bind(scope.map(|(scope, _)| scope.id()).unwrap_or_default())
            .bind(scope.and_then(|(_, life)| life.map(Version::get)));
    }
    let mut rows = select.fetch(connection);
    let mut page = PageOfRecords::new(query);
    let mut last = None;
    while let Some(row) = rows.try_next().await.map_err(store_error)? {
        let columns = Columns::of(TABLE, &row);
        let name: String = columns.get("name")?;
        if last.as_ref() == Some(&name) {
            continue;
        }
        let rank: i64 = columns.get("rank")?;
        let (scope, _) = usize::try_from(rank).ok().and_then(|rank| scopes.get(rank)).ok_or_else(|| columns.corrupt("rank"))?;
        if !page.take(scope, &row)? {
            break;
        }
        last = Some(name);
    }
    Ok(page.0)
}

/// The names that a query asks for, as a JSON array; `None`: all.
fn names_of(query: &VariableQuery) -> Result<Option<String>> {
    if query.names.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = query.names.iter().map(VariableName::as_str).collect();
    serde_json::to_string(&names).map(Some).map_err(|error| StoreError::Internal(Box::new(error)))
}

/// A page that fills, and the limits that end it.
struct PageOfRecords<'q>(Page<VariableRecord>, usize, &'q VariableQuery);

impl<'q> PageOfRecords<'q> {
    fn new(query: &'q VariableQuery) -> Self {
        Self(Page { items: Vec::new(), more: false }, 0, query)
    }

    /// Takes one more row; `false`: the page is full without it.
    fn take(&mut self, scope: &Scope, row: &SqliteRow) -> Result<bool> {
        let Self(page, bytes, query) = self;
        if page.items.len() == query.limit || (*bytes >= query.max_bytes && !page.items.is_empty()) {
            page.more = true;
            return Ok(false);
        }
        let columns = Columns::of(TABLE, row);
        let name = VariableName::parse(columns.get("name")?).map_err(|_| columns.corrupt("name"))?;
        let record = record_of(VariableKey { scope: scope.clone(), name }, row)?;
        *bytes += record.value.len();
        page.items.push(record);
        Ok(true)
    }
}

pub(super) fn record_of(key: VariableKey, row: &SqliteRow) -> Result<VariableRecord> {
    let columns = Columns::of(TABLE, row);
    Ok(VariableRecord {
        key,
        version: columns.version("version")?,
        value: columns.get::<&str>("value")?.into(),
        secret: columns.flag("secret")?,
        description: columns.get("description")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        updated_by: columns.get("updated_by")?,
        expires_at: columns.optional_time("expires_at")?,
    })
}
