//! Writes to variables in which the server computes with what is there.

use std::collections::{BTreeMap, HashMap};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::batch_sql;
use super::failure::Failure;
use super::keys::{self, Found, Keep};
use super::rows;
use super::variable_read::record;
use super::variable_write::resource;
use super::work::{Work, Written};
use crate::domain::commit::Change;
use crate::domain::id::VariableName;
use crate::domain::variable::{BatchOutcome, BatchRecord, Number, Scope, ScopeLife, VariableBatch, VariableKey, VariableRecord};
use crate::domain::version::{Expected, Version};
use crate::store::{IDEMPOTENCY_SECONDS, IncrementOutcome, Outcome, ScopeDeletion, WriteContext, answer};

/// The version that stands beside the key of a write that has none of its own.
const NO_VERSION: i64 = 1;

/// The scope that a write is about, and who writes.
#[derive(Clone, Copy)]
struct Target<'a> {
    context: &'a WriteContext,
    scope: &'a Scope,
    life: ScopeLife,
    offset: i64,
}

/// A row under its lock.
struct Locked {
    /// The version, when the variable is there.
    live: Option<Version>,
    value: Option<String>,
}

impl Target<'_> {
    /// The key of a variable in the scope.
    fn key(&self, name: &str) -> Result<VariableKey, Failure> {
        let name = VariableName::parse(name).map_err(|why| Failure::corrupt(format!("name {why}")))?;
        Ok(VariableKey { scope: self.scope.clone(), name })
    }

    fn life(&self) -> Option<i64> {
        self.life.map(Version::get)
    }

    /// Locks the rows of these names, in their order, and makes those that are to be made.
    async fn lock(
        &self,
        connection: &mut PgConnection,
        names: &BTreeMap<&str, bool>,
        with_values: bool,
    ) -> Result<HashMap<String, Locked>, Failure> {
        let rows = sqlx::query(batch_sql::LOCK)
            .bind(self.context.tenant.as_str())
            .bind(self.offset)
            .bind(self.scope.kind() as i16)
            .bind(self.scope.id())
            .bind(self.life())
            .bind(names.keys().copied().collect::<Vec<_>>())
            .bind(names.values().copied().collect::<Vec<_>>())
            .bind(with_values)
            .fetch_all(connection)
            .await?;
        let locked = rows.iter().map(|row| {
            let is_live: bool = row.try_get("is_live")?;
            let live = is_live.then(|| rows::version(row, "version")).transpose()?;
            Ok((row.try_get("name")?, Locked { live, value: row.try_get("value")? }))
        });
        locked.collect()
    }

    /// Sets locked rows.
    async fn set(&self, connection: &mut PgConnection, values: &[(&str, bool, &str)]) -> Result<Vec<PgRow>, Failure> {
        let rows = sqlx::query(batch_sql::SET)
            .bind(self.context.tenant.as_str())
            .bind(self.offset)
            .bind(self.scope.kind() as i16)
            .bind(self.scope.id())
            .bind(self.life())
            .bind(self.context.request_id)
            .bind(self.context.actor.as_str())
            .bind(self.scope.to_string())
            .bind((0..).take(values.len()).collect::<Vec<i32>>())
            .bind(values.iter().map(|(name, _, _)| *name).collect::<Vec<_>>())
            .bind(values.iter().map(|(_, is_live, _)| *is_live).collect::<Vec<_>>())
            .bind(values.iter().map(|(_, _, value)| *value).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
        if rows.len() == values.len() { Ok(rows) } else { Err(Failure::corrupt("a locked row is gone")) }
    }

    /// Deletes locked live rows.
    async fn delete(&self, connection: &mut PgConnection, names: &[&str]) -> Result<Vec<PgRow>, Failure> {
        Ok(sqlx::query(batch_sql::DELETE)
            .bind(self.context.tenant.as_str())
            .bind(self.offset)
            .bind(self.scope.kind() as i16)
            .bind(self.scope.id())
            .bind(self.life())
            .bind(self.context.request_id)
            .bind(self.context.actor.as_str())
            .bind(self.scope.to_string())
            .bind(IDEMPOTENCY_SECONDS)
            .bind((0..).take(names.len()).collect::<Vec<i32>>())
            .bind(names)
            .fetch_all(connection)
            .await?)
    }

    /// What the observer is told of changed rows.
    fn changes<'r>(&self, rows: impl Iterator<Item = &'r PgRow>) -> Result<Vec<Change>, Failure> {
        rows.map(|row| {
            let resource = resource(&self.key(row.try_get("name")?)?);
            Ok(Change { tenant: self.context.tenant.clone(), resource, version: rows::version(row, "version")? })
        })
        .collect()
    }

    /// Keeps the answer.
    async fn keep(&self, connection: &mut PgConnection, version: i64, answer: String) -> Result<(), Failure> {
        let row = Keep { context: self.context, status: 200, version, state_id: None, answer: Some(answer) };
        keys::keep(connection, &self.context.tenant, self.offset, vec![row]).await
    }
}

/// A batch to write.
pub(super) struct WriteVariables<'a> {
    pub(super) context: &'a WriteContext,
    pub(super) scope: &'a Scope,
    pub(super) life: ScopeLife,
    pub(super) batch: &'a VariableBatch,
}

impl Work for WriteVariables<'_> {
    type Output = Written<BatchOutcome>;
    const TABLE: &'static str = "variable";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        match keys::find(connection, self.context, offset).await? {
            Found::Free => {}
            Found::Reused => return Ok(Written::nothing(BatchOutcome::KeyReused)),
            Found::Kept(kept) => {
                let text = kept.answer.ok_or_else(|| Failure::corrupt("a batch has no answer"))?;
                return Ok(Written::nothing(BatchOutcome::Replayed(answer::to_batch(self.scope, &text)?)));
            }
        }
        let target = Target { context: self.context, scope: self.scope, life: self.life, offset };
        let locked = target.lock(connection, &self.names(), false).await?;
        let live = |name: &VariableName| locked.get(name.as_str()).and_then(|row| row.live);
        let others: Vec<_> = self.batch.if_versions.iter().filter(|(name, expected)| live(name) != *expected).collect();
        if !others.is_empty() {
            let others = others.into_iter().map(|(name, _)| (name.clone(), live(name))).collect();
            return Ok(Written::nothing(BatchOutcome::Refused(others)));
        }
        let values: Vec<_> = self.batch.set.iter().map(|(name, value)| (name.as_str(), live(name).is_some(), &**value)).collect();
        let set = target.set(connection, &values).await?;
        let names: Vec<_> = self.batch.delete.iter().filter(|name| live(name).is_some()).map(VariableName::as_str).collect();
        let deleted = target.delete(connection, &names).await?;
        let record = BatchRecord {
            set: set.iter().map(|row| record(target.key(row.try_get("name")?)?, row)).collect::<Result<_, _>>()?,
            deleted: deleted.iter().map(|row| Ok(target.key(row.try_get("name")?)?.name)).collect::<Result<_, Failure>>()?,
        };
        if self.context.idempotency.is_some() {
            target.keep(connection, NO_VERSION, answer::from_batch(&record)?).await?;
        }
        Ok(Written::kept(None, BatchOutcome::Applied(record), target.changes(set.iter().chain(&deleted))?))
    }
}

impl WriteVariables<'_> {
    /// All names of the batch, and whether each is to be made when it is not there.
    fn names(&self) -> BTreeMap<&str, bool> {
        let others = self.batch.delete.iter().chain(self.batch.if_versions.iter().map(|(name, _)| name));
        let mut names: BTreeMap<&str, bool> = others.map(|name| (name.as_str(), false)).collect();
        names.extend(self.batch.set.iter().map(|(name, _)| (name.as_str(), true)));
        names
    }
}

/// A number to add to a variable.
pub(super) struct IncrementVariable<'a> {
    pub(super) context: &'a WriteContext,
    pub(super) key: &'a VariableKey,
    pub(super) life: ScopeLife,
    pub(super) expected: Expected,
    pub(super) by: Number,
}

impl Work for IncrementVariable<'_> {
    type Output = Written<IncrementOutcome>;
    const TABLE: &'static str = "variable";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        match keys::find(connection, self.context, offset).await? {
            Found::Free => {}
            Found::Reused => return Ok(Written::nothing(IncrementOutcome::Done(Outcome::KeyReused))),
            Found::Kept(kept) => {
                let replay = kept.replay(|text| answer::to_variable(self.key, text))?;
                return Ok(Written::nothing(IncrementOutcome::Done(Outcome::Replayed(replay))));
            }
        }
        let target = Target { context: self.context, scope: &self.key.scope, life: self.life, offset };
        let name = self.key.name.as_str();
        let locked = target.lock(connection, &BTreeMap::from([(name, true)]), true).await?;
        let locked = locked.get(name).ok_or_else(|| Failure::corrupt("a locked row is gone"))?;
        if !self.expected.is_met_by(locked.live) {
            return Ok(Written::nothing(IncrementOutcome::Done(Outcome::Refused { current: locked.live })));
        }
        let sum = match self.by.add_to(locked.live.and(locked.value.as_deref())) {
            Ok(sum) => sum,
            Err(fault) => return Ok(Written::nothing(IncrementOutcome::Fault(fault))),
        };
        let set = target.set(connection, &[(name, locked.live.is_some(), &sum)]).await?;
        let row = set.first().ok_or_else(|| Failure::corrupt("a locked row is gone"))?;
        let record: VariableRecord = record(self.key.clone(), row)?;
        if self.context.idempotency.is_some() {
            target.keep(connection, record.version.get(), answer::from_variable(&record)?).await?;
        }
        let changes = target.changes(set.iter())?;
        let outcome = Outcome::Applied { created: locked.live.is_none(), record };
        Ok(Written::kept(None, IncrementOutcome::Done(outcome), changes))
    }
}

/// A scope to empty.
pub(super) struct DeleteScope<'a> {
    pub(super) context: &'a WriteContext,
    pub(super) scope: &'a Scope,
    pub(super) life: ScopeLife,
    pub(super) limit: u32,
}

impl Work for DeleteScope<'_> {
    type Output = Written<Outcome<ScopeDeletion>>;
    const TABLE: &'static str = "variable";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        match keys::find(connection, self.context, offset).await? {
            Found::Free => {}
            Found::Reused => return Ok(Written::nothing(Outcome::KeyReused)),
            Found::Kept(kept) => return Ok(Written::nothing(Outcome::Replayed(kept.replay(answer::to_scope_deletion)?))),
        }
        let target = Target { context: self.context, scope: self.scope, life: self.life, offset };
        let names: Vec<String> = sqlx::query_scalar(batch_sql::LOCK_SCOPE)
            .bind(self.context.tenant.as_str())
            .bind(offset)
            .bind(self.scope.kind() as i16)
            .bind(self.scope.id())
            .bind(target.life())
            .bind(i64::from(self.limit))
            .fetch_all(&mut *connection)
            .await?;
        let deleted = target.delete(connection, &names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let more: bool = sqlx::query_scalar(batch_sql::HAS_LIVE)
            .bind(self.context.tenant.as_str())
            .bind(offset)
            .bind(self.scope.kind() as i16)
            .bind(self.scope.id())
            .bind(target.life())
            .fetch_one(&mut *connection)
            .await?;
        let record = ScopeDeletion { deleted: deleted.len() as u64, more };
        let changes = target.changes(deleted.iter())?;
        if self.context.idempotency.is_some() {
            let version = changes.iter().map(|change| change.version.get()).max().unwrap_or(NO_VERSION);
            target.keep(connection, version, answer::from_scope_deletion(record)?).await?;
        }
        Ok(Written::kept(None, Outcome::Applied { created: false, record }, changes))
    }
}
