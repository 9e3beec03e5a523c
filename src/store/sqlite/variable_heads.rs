//! The rows of variables, as writes find and leave them.

use std::sync::Arc;

use sqlx::sqlite::SqliteRow;

use super::error::store_error;
use super::record::{self, Change, Previous, TOMBSTONE_SECONDS, insert_log};
use super::row::Columns;
use super::session_writes::bucket;
use super::writer::Unit;
use crate::domain::clock::Timestamp;
use crate::domain::commit::Resource;
use crate::domain::id::{TenantId, VariableName};
use crate::domain::variable::{Scope, ScopeKind, ScopeLife, VariableKey, VariableRecord};
use crate::domain::version::Version;
use crate::store::change::{ChangeKind, ChangeOperation};
use crate::store::{Result, StoreError, Tombstone, WriteContext};

/// A variable of a session is looked at by the sweeper at least as often as this, because it ends with its session.
pub(super) const SESSION_CHECK_SECONDS: i64 = 24 * 3600;

macro_rules! select_heads {
    ($value:literal, $names:literal) => {
        concat!(
            "SELECT name, version, created_version, session_life, created_at, updated_at, expires_at, deleted, secret, description, ",
            $value,
            " FROM variable WHERE tenant_id = ?1 AND scope_kind = ?2 AND scope_id = ?3 AND name ",
            $names
        )
    };
}

const SELECT_HEAD: &str = select_heads!("NULL AS value", "= ?4");
const SELECT_HEAD_WITH_VALUE: &str = select_heads!("value", "= ?4");
const SELECT_HEADS: &str = select_heads!("NULL AS value", "IN (SELECT value FROM json_each(?4))");

/// Parameters from 11 on: scope_kind, scope_id, created_version, session_life, created_at, expires_at, sweep_at, secret, description,
/// value.
const WRITE_VARIABLE: &str = concat!(
    "INSERT INTO variable (tenant_id, scope_kind, scope_id, name, version, created_version, session_life, created_at, updated_at,
                           expires_at, sweep_at, secret, updated_by, description, value)
     VALUES ($1, $11, $12, $3, $4, $13, $14, $15, $5, $16, $17, $18, $6, $19, $20)
     ON CONFLICT (tenant_id, scope_kind, scope_id, name) DO UPDATE SET
         version = excluded.version, created_version = excluded.created_version, session_life = excluded.session_life,
         created_at = excluded.created_at, updated_at = excluded.updated_at, expires_at = excluded.expires_at,
         sweep_at = excluded.sweep_at, secret = excluded.secret, deleted = 0, updated_by = excluded.updated_by,
         description = excluded.description, value = excluded.value;",
    insert_log!()
);

/// Parameters from 11 on: scope_kind, scope_id, sweep_at.
const WRITE_TOMBSTONE: &str = concat!(
    "UPDATE variable SET version = $4, updated_at = $5, updated_by = $6, sweep_at = $13, expires_at = NULL, deleted = 1, secret = 0,
                         description = NULL, value = NULL
     WHERE tenant_id = $1 AND scope_kind = $11 AND scope_id = $12 AND name = $3;",
    insert_log!()
);

/// The row as it stands before a write.
pub(super) struct Head {
    pub(super) previous: Previous,
    created_version: i64,
    created_at: Timestamp,
    /// `None` when it was deleted, has expired or is of another life of its scope.
    pub(super) live_version: Option<Version>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) secret: bool,
    pub(super) description: Option<String>,
    /// When it was asked for.
    pub(super) value: Option<String>,
}

impl Head {
    pub(super) async fn read(unit: &mut Unit<'_>, tenant: &TenantId, key: &VariableKey, life: ScopeLife) -> Result<Option<Self>> {
        Self::read_one(SELECT_HEAD, unit, tenant, key, life).await
    }

    pub(super) async fn read_with_value(
        unit: &mut Unit<'_>,
        tenant: &TenantId,
        key: &VariableKey,
        life: ScopeLife,
    ) -> Result<Option<Self>> {
        Self::read_one(SELECT_HEAD_WITH_VALUE, unit, tenant, key, life).await
    }

    async fn read_one(
        sql: &'static str,
        unit: &mut Unit<'_>,
        tenant: &TenantId,
        key: &VariableKey,
        life: ScopeLife,
    ) -> Result<Option<Self>> {
        let row = sqlx::query(sql)
            .bind(tenant.as_str())
            .bind(key.scope.kind() as i16)
            .bind(key.scope.id())
            .bind(key.name.as_str())
            .fetch_optional(&mut *unit.connection)
            .await
            .map_err(store_error)?;
        row.map(|row| Self::of(&row, life, unit.now)).transpose()
    }

    /// The rows of several names of a scope.
    pub(super) async fn read_all(
        unit: &mut Unit<'_>,
        tenant: &TenantId,
        scope: &Scope,
        life: ScopeLife,
        names: &[&VariableName],
    ) -> Result<Vec<(VariableName, Self)>> {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let names = serde_json::to_string(&names).map_err(|error| StoreError::Internal(Box::new(error)))?;
        let rows = sqlx::query(SELECT_HEADS)
            .bind(tenant.as_str())
            .bind(scope.kind() as i16)
            .bind(scope.id())
            .bind(names)
            .fetch_all(&mut *unit.connection)
            .await
            .map_err(store_error)?;
        rows.iter()
            .map(|row| {
                let columns = Columns::of("variable", row);
                let name = VariableName::parse(columns.get("name")?).map_err(|_| columns.corrupt("name"))?;
                Ok((name, Self::of(row, life, unit.now)?))
            })
            .collect()
    }

    fn of(row: &SqliteRow, life: ScopeLife, now: Timestamp) -> Result<Self> {
        let columns = Columns::of("variable", row);
        let expires_at = columns.optional_time("expires_at")?;
        let gone = columns.flag("deleted")?
            || expires_at.is_some_and(|end| end <= now)
            || columns.get::<Option<i64>>("session_life")? != life.map(Version::get);
        let version = columns.version("version")?;
        Ok(Self {
            previous: Previous { version: version.get(), updated_at: columns.time("updated_at")? },
            created_version: columns.get("created_version")?,
            created_at: columns.time("created_at")?,
            live_version: (!gone).then_some(version),
            expires_at,
            secret: columns.flag("secret")?,
            description: columns.get("description")?,
            value: columns.get("value")?,
        })
    }

    pub(super) const fn is_live(&self) -> bool {
        self.live_version.is_some()
    }
}

/// What a variable is to hold.
pub(super) struct Content {
    pub(super) value: Arc<str>,
    pub(super) secret: bool,
    pub(super) description: Option<String>,
    pub(super) end: End,
}

/// When a variable is to end.
pub(super) enum End {
    /// So many seconds after the write; `None`: never.
    After(Option<i64>),
    /// When it did so far.
    At(Option<Timestamp>),
}

/// Writes a variable over the row that stands there, with its log row.
pub(super) async fn write(
    unit: &mut Unit<'_>,
    context: &WriteContext,
    key: &VariableKey,
    life: ScopeLife,
    head: Option<&Head>,
    content: Content,
) -> Result<(bool, VariableRecord)> {
    let (version, at) = record::next(unit.connection, &context.tenant, head.map(|head| head.previous), unit.now).await?;
    let live = head.filter(|head| head.is_live());
    let created = live.is_none();
    let (created_version, created_at) = live.map_or((version.get(), at), |head| (head.created_version, head.created_at));
    let record = VariableRecord {
        key: key.clone(),
        version,
        value: content.value,
        secret: content.secret,
        description: content.description,
        created_at,
        updated_at: at,
        updated_by: context.actor.as_str().to_owned(),
        expires_at: match content.end {
            End::After(seconds) => seconds.map(|seconds| at.plus_seconds(seconds)),
            End::At(end) => end,
        },
    };
    let scope = key.scope.to_string();
    let operation = if created { ChangeOperation::Created } else { ChangeOperation::Replaced };
    record::bind_change(WRITE_VARIABLE, context, change(&scope, &key.name, operation, version, at))
        .bind(key.scope.kind() as i16)
        .bind(key.scope.id())
        .bind(created_version)
        .bind(life.map(Version::get))
        .bind(created_at.as_microseconds())
        .bind(record.expires_at.map(Timestamp::as_microseconds))
        .bind(sweep_at(key.scope.kind(), record.expires_at, at).map(Timestamp::as_microseconds))
        .bind(record.secret)
        .bind(record.description.as_deref())
        .bind(record.value.clone())
        .execute(&mut *unit.connection)
        .await
        .map_err(store_error)?;
    unit.changed(&context.tenant, Resource::Variable(key.clone()), version);
    Ok((created, record))
}

/// Makes a live variable a tombstone, with its log row.
pub(super) async fn delete(unit: &mut Unit<'_>, context: &WriteContext, key: &VariableKey, head: &Head) -> Result<(Tombstone, Timestamp)> {
    let (version, at) = head.previous.next(unit.now)?;
    let scope = key.scope.to_string();
    record::bind_change(WRITE_TOMBSTONE, context, change(&scope, &key.name, ChangeOperation::Deleted, version, at))
        .bind(key.scope.kind() as i16)
        .bind(key.scope.id())
        .bind(at.plus_seconds(TOMBSTONE_SECONDS).hour().as_microseconds())
        .execute(&mut *unit.connection)
        .await
        .map_err(store_error)?;
    unit.changed(&context.tenant, Resource::Variable(key.clone()), version);
    Ok((Tombstone { version }, at))
}

fn change<'a>(scope: &'a str, name: &'a VariableName, operation: ChangeOperation, version: Version, at: Timestamp) -> Change<'a> {
    Change { kind: ChangeKind::Variable, operation, keys: [scope, name.as_str()], third_key: None, version, at }
}

/// When the sweeper looks at a variable that is written now.
fn sweep_at(kind: ScopeKind, expires_at: Option<Timestamp>, at: Timestamp) -> Option<Timestamp> {
    let end = match kind {
        ScopeKind::Session => {
            let check = at.plus_seconds(SESSION_CHECK_SECONDS);
            Some(expires_at.map_or(check, |end| end.min(check)))
        }
        ScopeKind::Global | ScopeKind::Workflow | ScopeKind::User => expires_at,
    };
    end.map(bucket)
}
