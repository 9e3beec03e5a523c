//! Writing states.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::rows::{Columns, Verdict, changes, mark};
use super::state_read;
use super::state_sql;
use super::work::{Work, Written};
use crate::domain::commit::Resource;
use crate::domain::id::TenantId;
use crate::domain::state::{Operation, StateDocument, StateKey, StateRecord};
use crate::domain::version::{Expected, Version};
use crate::store::{IDEMPOTENCY_SECONDS, Outcome, Replay, Tombstone, WriteContext};

/// One state to save.
#[derive(Clone)]
pub(super) struct StatePut {
    pub(super) context: WriteContext,
    pub(super) key: StateKey,
    pub(super) expected: Expected,
    pub(super) operation: Operation,
    pub(super) document: StateDocument,
}

/// States to save, all of one tenant; no key and no idempotency key comes twice.
pub(super) struct PutStates<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [StatePut],
}

impl Work for PutStates<'_> {
    type Output = Written<Vec<Outcome<StateRecord>>>;
    const TABLE: &'static str = "execution_state";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let columns = Columns::of(self.rows.iter().map(|row| (&row.context, row.expected)));
        let answers = sqlx::query(state_sql::PUT)
            .bind(self.tenant.as_str())
            .bind(offset)
            .bind(IDEMPOTENCY_SECONDS)
            .bind(columns.number)
            .bind(self.rows.iter().map(|row| row.key.workflow.as_str()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.key.execution.as_str()).collect::<Vec<_>>())
            .bind(columns.expected)
            .bind(columns.actor)
            .bind(columns.request_id)
            .bind(columns.idem)
            .bind(columns.fingerprint)
            .bind(self.rows.iter().map(|row| row.operation as i16).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.document.status()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.document.schema_version()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.document.text()).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await?;
        let verdicts = answers.iter().map(Verdict::read).collect::<Result<Vec<_>, _>>()?;
        let mut kept = kept_versions(connection, self.tenant, &answers, &verdicts).await?;
        let outcomes = self.rows.iter().zip(&answers).zip(verdicts).map(|((row, answer), verdict)| match verdict {
            Verdict::Applied { created, version } => Ok(Outcome::Applied { created, record: written(row, version, answer)? }),
            Verdict::Refused { current } => Ok(Outcome::Refused { current }),
            Verdict::Replayed { status, version } => {
                let state_id: Option<i64> = answer.try_get("state_id")?;
                let kept = state_id.and_then(|state_id| kept.remove(&(state_id, version.get())));
                let record = kept.map(|kept| state_read::record(&row.key, &kept)).transpose()?;
                Ok(Outcome::Replayed(Replay { status, version, record }))
            }
            Verdict::KeyReused => Ok(Outcome::KeyReused),
            Verdict::Absent => Err(Failure::corrupt("a put was answered as a delete")),
        });
        let outcomes = outcomes.collect::<Result<Vec<_>, _>>()?;
        let changes = changes(self.tenant, self.rows.iter().map(|row| resource(&row.key)), &outcomes, |record| record.version);
        Ok(Written::kept(mark(&answers, self.rows.len())?, outcomes, changes))
    }
}

/// What a cache knows a state as.
pub(super) fn resource(key: &StateKey) -> Resource {
    Resource::State(key.clone())
}

/// What a put has just written: the document is the request's, the rest the statement's.
fn written(put: &StatePut, version: Version, answer: &PgRow) -> Result<StateRecord, Failure> {
    Ok(StateRecord {
        key: put.key.clone(),
        version,
        document: put.document.clone(),
        created_at: answer.try_get("created_at")?,
        updated_at: answer.try_get("updated_at")?,
        updated_by: put.context.actor.as_str().to_owned(),
        forked_from: state_read::forked_from(answer)?,
    })
}

/// The version rows that replays answer, by state and version; without those that are no longer kept.
async fn kept_versions(
    connection: &mut PgConnection,
    tenant: &TenantId,
    answers: &[PgRow],
    verdicts: &[Verdict],
) -> Result<HashMap<(i64, i64), PgRow>, Failure> {
    let (mut states, mut versions) = (Vec::new(), Vec::new());
    for (answer, verdict) in answers.iter().zip(verdicts) {
        let Verdict::Replayed { version, .. } = verdict else { continue };
        if let Some(state_id) = answer.try_get::<Option<i64>, _>("state_id")? {
            states.push(state_id);
            versions.push(version.get());
        }
    }
    if states.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = state_read::kept_versions(connection, tenant, (states, versions)).await?;
    rows.into_iter().map(|row| Ok(((row.try_get("state_id")?, row.try_get("version")?), row))).collect()
}

/// One state to delete.
#[derive(Clone)]
pub(super) struct StateDelete {
    pub(super) context: WriteContext,
    pub(super) key: StateKey,
    pub(super) expected: Expected,
}

/// States to delete, all of one tenant; no key and no idempotency key comes twice.
pub(super) struct DeleteStates<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [StateDelete],
}

impl Work for DeleteStates<'_> {
    type Output = Written<Vec<Outcome<Tombstone>>>;
    const TABLE: &'static str = "execution_state";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let columns = Columns::of(self.rows.iter().map(|row| (&row.context, row.expected)));
        let answers = sqlx::query(state_sql::DELETE)
            .bind(self.tenant.as_str())
            .bind(offset)
            .bind(IDEMPOTENCY_SECONDS)
            .bind(columns.number)
            .bind(self.rows.iter().map(|row| row.key.workflow.as_str()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.key.execution.as_str()).collect::<Vec<_>>())
            .bind(columns.expected)
            .bind(columns.actor)
            .bind(columns.request_id)
            .bind(columns.idem)
            .bind(columns.fingerprint)
            .bind(Operation::Delete as i16)
            .fetch_all(connection)
            .await?;
        let outcomes = answers.iter().map(|answer| Verdict::read(answer).map(Verdict::of_delete)).collect::<Result<Vec<_>, _>>()?;
        let changes = changes(self.tenant, self.rows.iter().map(|row| resource(&row.key)), &outcomes, |tombstone| tombstone.version);
        Ok(Written::kept(mark(&answers, self.rows.len())?, outcomes, changes))
    }
}
