//! Writes to many variables of a scope at once.

use std::collections::HashMap;

use async_trait::async_trait;

use super::error::store_error;
use super::record::{self, Answer, Known, TOMBSTONE_SECONDS};
use super::row::Columns;
use super::variable_heads::{self, Content, End, Head};
use super::writer::{Unit, Write};
use crate::domain::commit::Resource;
use crate::domain::id::VariableName;
use crate::domain::variable::{BatchOutcome, BatchRecord, Scope, ScopeLife, VariableBatch, VariableKey};
use crate::domain::version::Version;
use crate::store::change::{ChangeKind, ChangeOperation};
use crate::store::{Outcome, Result, ScopeDeletion, StoreError, WriteContext, answer};

/// [`Store::write_variables`](crate::store::Store::write_variables).
pub(super) struct WriteVariables {
    pub(super) context: WriteContext,
    pub(super) scope: Scope,
    pub(super) life: ScopeLife,
    pub(super) batch: VariableBatch,
}

#[async_trait]
impl Write for WriteVariables {
    type Answer = BatchOutcome;

    fn bytes(&self) -> usize {
        self.batch.set.iter().map(|(_, value)| value.len()).sum()
    }

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<BatchOutcome> {
        let Self { context, scope, life, batch } = self;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(BatchOutcome::KeyReused),
            Known::Answered(answered) => {
                return answer::to_batch(scope, answered.answer.as_deref().unwrap_or_default()).map(BatchOutcome::Replayed);
            }
        }
        let names = batch.set.iter().map(|(name, _)| name).chain(&batch.delete).chain(batch.if_versions.iter().map(|(name, _)| name));
        let names: Vec<&VariableName> = names.collect();
        let mut heads: HashMap<_, _> = Head::read_all(unit, &context.tenant, scope, *life, &names).await?.into_iter().collect();
        let live = |name: &VariableName| heads.get(name).and_then(|head| head.live_version);
        let differing: Vec<_> = batch.if_versions.iter().filter(|(name, expected)| live(name) != *expected).collect();
        if !differing.is_empty() {
            return Ok(BatchOutcome::Refused(differing.into_iter().map(|(name, _)| (name.clone(), live(name))).collect()));
        }
        let mut record = BatchRecord::default();
        let (mut version, mut at) = (Version::FIRST, unit.now);
        for (name, value) in &batch.set {
            let mut head = heads.remove(name);
            let content = match head.as_mut().filter(|head| head.is_live()) {
                Some(live) => Content {
                    value: value.clone(),
                    secret: live.secret,
                    description: live.description.take(),
                    end: End::At(live.expires_at),
                },
                None => Content { value: value.clone(), secret: false, description: None, end: End::After(None) },
            };
            let key = VariableKey { scope: scope.clone(), name: name.clone() };
            let (_, written) = variable_heads::write(unit, context, &key, *life, head.as_ref(), content).await?;
            (version, at) = (version.max(written.version), at.max(written.updated_at));
            record.set.push(written);
        }
        for name in &batch.delete {
            let Some(head) = heads.get(name).filter(|head| head.is_live()) else { continue };
            let key = VariableKey { scope: scope.clone(), name: name.clone() };
            let (tombstone, deleted_at) = variable_heads::delete(unit, context, &key, head).await?;
            (version, at) = (version.max(tombstone.version), at.max(deleted_at));
            record.deleted.push(name.clone());
        }
        record::keep(unit.connection, context, 200, version, at, || answer::from_batch(&record).map(Answer::Text)).await?;
        Ok(BatchOutcome::Applied(record))
    }
}

const SELECT_LIVE: &str = "
    SELECT rowid, name, version FROM variable
    WHERE tenant_id = ?1 AND scope_kind = ?2 AND scope_id = ?3 AND deleted = 0 AND (expires_at IS NULL OR expires_at > ?4)
      AND session_life IS ?5
    ORDER BY name LIMIT ?6";

/// All in two statements: a scope may hold ten thousand variables, and every other write waits.
const DELETE_ROWS: &str = "
    UPDATE variable SET version = version + 1, updated_at = max($2, updated_at + 1), updated_by = $3, sweep_at = $4, expires_at = NULL,
                        deleted = 1, secret = 0, description = NULL, value = NULL
    WHERE rowid IN (SELECT value FROM json_each($1));
    INSERT INTO change_log (tenant_id, at, version, kind, op, request_id, k1, k2, actor)
    SELECT tenant_id, updated_at, version, $5, $6, $7, $8, name, $3 FROM variable WHERE rowid IN (SELECT value FROM json_each($1))
    ORDER BY name";

/// [`Store::delete_variables`](crate::store::Store::delete_variables).
pub(super) struct DeleteVariables {
    pub(super) context: WriteContext,
    pub(super) scope: Scope,
    pub(super) life: ScopeLife,
    pub(super) limit: u32,
}

#[async_trait]
impl Write for DeleteVariables {
    type Answer = Outcome<ScopeDeletion>;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<ScopeDeletion>> {
        let Self { context, scope, life, limit } = self;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => return answered.replay(answer::to_scope_deletion),
        }
        let mut rows = sqlx::query(SELECT_LIVE)
            .bind(context.tenant.as_str())
            .bind(scope.kind() as i16)
            .bind(scope.id())
            .bind(unit.now.as_microseconds())
            .bind(life.map(Version::get))
            .bind(i64::from(*limit) + 1)
            .fetch_all(&mut *unit.connection)
            .await
            .map_err(store_error)?;
        let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let mut row_ids: Vec<i64> = Vec::new();
        let mut highest = Version::FIRST;
        for row in &rows {
            let columns = Columns::of("variable", row);
            row_ids.push(columns.get("rowid")?);
            let name = VariableName::parse(columns.get("name")?).map_err(|_| columns.corrupt("name"))?;
            let version = columns.get::<i64>("version")?.checked_add(1).and_then(Version::new).ok_or_else(|| columns.corrupt("version"))?;
            highest = highest.max(version);
            unit.changed(&context.tenant, Resource::Variable(VariableKey { scope: scope.clone(), name }), version);
        }
        if !row_ids.is_empty() {
            sqlx::query(DELETE_ROWS)
                .bind(serde_json::to_string(&row_ids).map_err(|error| StoreError::Internal(Box::new(error)))?)
                .bind(unit.now.as_microseconds())
                .bind(context.actor.as_str())
                .bind(unit.now.plus_seconds(TOMBSTONE_SECONDS).hour().as_microseconds())
                .bind(ChangeKind::Variable as i16)
                .bind(ChangeOperation::Deleted as i16)
                .bind(context.request_id)
                .bind(scope.to_string())
                .execute(&mut *unit.connection)
                .await
                .map_err(store_error)?;
        }
        let record = ScopeDeletion { deleted: row_ids.len().try_into().unwrap_or(u64::MAX), more };
        let make = || answer::from_scope_deletion(record).map(Answer::Text);
        record::keep(unit.connection, context, 200, highest, unit.now, make).await?;
        Ok(Outcome::Applied { created: false, record })
    }
}
