//! Writing variables.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::keys::{self, Keep};
use super::rows::{Columns, Verdict, changes, mark};
use super::variable_sql;
use super::work::{Work, Written};
use crate::domain::commit::Resource;
use crate::domain::id::TenantId;
use crate::domain::variable::{Expiry, ScopeLife, VariableDocument, VariableKey, VariableRecord};
use crate::domain::version::{Expected, Version};
use crate::store::{IDEMPOTENCY_SECONDS, Outcome, Replay, Tombstone, WriteContext, answer};

/// One variable to save.
#[derive(Clone)]
pub(super) struct VariablePut {
    pub(super) context: WriteContext,
    pub(super) key: VariableKey,
    pub(super) life: ScopeLife,
    pub(super) expected: Expected,
    pub(super) document: VariableDocument,
}

/// Variables to save, all of one tenant; no key and no idempotency key comes twice.
pub(super) struct PutVariables<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [VariablePut],
}

impl Work for PutVariables<'_> {
    type Output = Written<Vec<Outcome<VariableRecord>>>;
    const TABLE: &'static str = "variable";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let columns = Columns::of(self.rows.iter().map(|row| (&row.context, row.expected)));
        let answers = sqlx::query(variable_sql::PUT)
            .bind(self.tenant.as_str())
            .bind(offset)
            .bind(IDEMPOTENCY_SECONDS)
            .bind(columns.number)
            .bind(self.rows.iter().map(|row| row.key.scope.kind() as i16).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.key.scope.id()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.key.name.as_str()).collect::<Vec<_>>())
            .bind(columns.expected)
            .bind(columns.actor)
            .bind(columns.request_id)
            .bind(columns.idem)
            .bind(columns.fingerprint)
            .bind(self.rows.iter().map(|row| row.key.scope.to_string()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.document.description.as_deref()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(seconds_to_live).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| &*row.document.value).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.life.map(Version::get)).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await?;
        let outcomes = self.rows.iter().zip(&answers).map(|(row, answer)| outcome(row, answer)).collect::<Result<Vec<_>, _>>()?;
        keys::keep(connection, self.tenant, offset, self.answers(&outcomes)?).await?;
        let changes = changes(self.tenant, self.rows.iter().map(|row| resource(&row.key)), &outcomes, |record| record.version);
        Ok(Written::kept(mark(&answers, self.rows.len())?, outcomes, changes))
    }
}

impl PutVariables<'_> {
    fn answers<'a>(&'a self, outcomes: &[Outcome<VariableRecord>]) -> Result<Vec<Keep<'a>>, Failure> {
        let mut answers = Vec::new();
        for (row, outcome) in self.rows.iter().zip(outcomes) {
            let Outcome::Applied { created, record } = outcome else { continue };
            if row.context.idempotency.is_some() {
                let (status, version) = (if *created { 201 } else { 200 }, record.version.get());
                answers.push(Keep { context: &row.context, status, version, state_id: None, answer: Some(answer::from_variable(record)?) });
            }
        }
        Ok(answers)
    }
}

/// What a cache knows a variable as.
pub(super) fn resource(key: &VariableKey) -> Resource {
    Resource::Variable(key.clone())
}

fn outcome(put: &VariablePut, row: &PgRow) -> Result<Outcome<VariableRecord>, Failure> {
    Ok(match Verdict::read(row)? {
        Verdict::Applied { created, version } => Outcome::Applied { created, record: written(put, version, row)? },
        Verdict::Refused { current } => Outcome::Refused { current },
        Verdict::Absent => return Err(Failure::corrupt("a put was answered as a delete")),
        Verdict::Replayed { status, version } => {
            let text: Option<&str> = row.try_get("answer")?;
            Outcome::Replayed(Replay { status, version, record: text.map(|text| answer::to_variable(&put.key, text)).transpose()? })
        }
        Verdict::KeyReused => Outcome::KeyReused,
    })
}

/// What a put has just written: the document is the request's, the rest the statement's.
fn written(put: &VariablePut, version: Version, row: &PgRow) -> Result<VariableRecord, Failure> {
    Ok(VariableRecord {
        key: put.key.clone(),
        version,
        value: put.document.value.clone(),
        secret: false,
        description: put.document.description.clone(),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        updated_by: put.context.actor.as_str().to_owned(),
        expires_at: row.try_get("expires_at")?,
    })
}

/// Seconds to live as the statement takes them: NULL never, -1 as before. The latter is for a version that is there only.
fn seconds_to_live(row: &VariablePut) -> Option<i64> {
    match row.document.expiry {
        Expiry::In(seconds) => Some(seconds),
        Expiry::Unchanged if matches!(row.expected, Expected::Exactly(_)) => Some(-1),
        Expiry::Never | Expiry::Unchanged => None,
    }
}

/// One variable to delete.
#[derive(Clone)]
pub(super) struct VariableDelete {
    pub(super) context: WriteContext,
    pub(super) key: VariableKey,
    pub(super) life: ScopeLife,
    pub(super) expected: Expected,
}

/// Variables to delete, all of one tenant; no key and no idempotency key comes twice.
pub(super) struct DeleteVariables<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [VariableDelete],
}

impl Work for DeleteVariables<'_> {
    type Output = Written<Vec<Outcome<Tombstone>>>;
    const TABLE: &'static str = "variable";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let columns = Columns::of(self.rows.iter().map(|row| (&row.context, row.expected)));
        let answers = sqlx::query(variable_sql::DELETE)
            .bind(self.tenant.as_str())
            .bind(offset)
            .bind(IDEMPOTENCY_SECONDS)
            .bind(columns.number)
            .bind(self.rows.iter().map(|row| row.key.scope.kind() as i16).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.key.scope.id()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.key.name.as_str()).collect::<Vec<_>>())
            .bind(columns.expected)
            .bind(columns.actor)
            .bind(columns.request_id)
            .bind(columns.idem)
            .bind(columns.fingerprint)
            .bind(self.rows.iter().map(|row| row.key.scope.to_string()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.life.map(Version::get)).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
        let outcomes = answers.iter().map(|answer| Verdict::read(answer).map(Verdict::of_delete)).collect::<Result<Vec<_>, _>>()?;
        let changes = changes(self.tenant, self.rows.iter().map(|row| resource(&row.key)), &outcomes, |tombstone| tombstone.version);
        Ok(Written::kept(mark(&answers, self.rows.len())?, outcomes, changes))
    }
}
