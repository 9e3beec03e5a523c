//! Reading variables.

use futures_util::TryStreamExt as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::error::store_error;
use super::row::Columns;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TenantId, VariableName};
use crate::domain::page::Page;
use crate::domain::variable::{Scope, VariableKey, VariableRecord};
use crate::store::name_range::NameRange;
use crate::store::{Lookup, Result, StoreError, VariableQuery};

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
                AND deleted = 0 AND (expires_at IS NULL OR expires_at > ?6)",
            $names,
            " ORDER BY name LIMIT ?7"
        )
    };
}

const SELECT_ONE: &str = concat!(
    "SELECT deleted, ",
    record_columns!(),
    " FROM variable WHERE tenant_id = ?1 AND scope_kind = ?2 AND scope_id = ?3 AND name = ?4"
);
const SELECT_LIST: &str = select_list!("");
const SELECT_LIST_OF_NAMES: &str = select_list!(" AND name IN (SELECT value FROM json_each(?8))");

pub(super) async fn current(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    key: &VariableKey,
    now: Timestamp,
) -> Result<Lookup<VariableRecord>> {
    let row = sqlx::query(SELECT_ONE)
        .bind(tenant.as_str())
        .bind(key.scope.kind() as i16)
        .bind(key.scope.id())
        .bind(key.name.as_str())
        .fetch_optional(connection)
        .await
        .map_err(store_error)?;
    let Some(row) = row else { return Ok(Lookup::Absent) };
    let columns = Columns::of("variable", &row);
    if columns.flag("deleted")? || columns.optional_time("expires_at")?.is_some_and(|end| end <= now) {
        return columns.version("version").map(Lookup::Gone);
    }
    record_of(key.clone(), &row).map(Lookup::Live)
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    tenant: &TenantId,
    scope: &Scope,
    query: &VariableQuery,
    now: Timestamp,
) -> Result<Page<VariableRecord>> {
    let range = NameRange::of(query);
    let mut select = sqlx::query(if query.names.is_empty() { SELECT_LIST } else { SELECT_LIST_OF_NAMES })
        .bind(tenant.as_str())
        .bind(scope.kind() as i16)
        .bind(scope.id())
        .bind(range.from)
        .bind(range.to)
        .bind(now.as_microseconds())
        .bind(i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX));
    if !query.names.is_empty() {
        let names: Vec<&str> = query.names.iter().map(VariableName::as_str).collect();
        select = select.bind(serde_json::to_string(&names).map_err(|error| StoreError::Internal(Box::new(error)))?);
    }
    let mut rows = select.fetch(connection);
    let mut page = Page { items: Vec::new(), more: false };
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await.map_err(store_error)? {
        if page.items.len() == query.limit || (bytes >= query.max_bytes && !page.items.is_empty()) {
            page.more = true;
            break;
        }
        let columns = Columns::of("variable", &row);
        let name = VariableName::parse(columns.get("name")?).map_err(|_| columns.corrupt("name"))?;
        let record = record_of(VariableKey { scope: scope.clone(), name }, &row)?;
        bytes += record.value.len();
        page.items.push(record);
    }
    Ok(page)
}

fn record_of(key: VariableKey, row: &SqliteRow) -> Result<VariableRecord> {
    let columns = Columns::of("variable", row);
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
