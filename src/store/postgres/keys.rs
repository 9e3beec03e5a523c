//! Idempotency keys of writes that are more than one statement: looked up before anything is locked, kept at the end.

use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::key_sql::{FIND, KEEP};
use crate::domain::id::TenantId;
use crate::domain::version::Version;
use crate::store::{IDEMPOTENCY_SECONDS, Replay, WriteContext};

/// What stands under a request's key.
pub(super) enum Found {
    /// Nothing, or the request has no key.
    Free,
    /// The answer of an equal request.
    Kept(Kept),
    /// The key of another request.
    Reused,
}

/// A kept answer.
pub(super) struct Kept {
    pub(super) status: u16,
    pub(super) version: i64,
    pub(super) state_id: Option<i64>,
    pub(super) answer: Option<String>,
}

impl Kept {
    /// The version that was written.
    pub(super) fn version(&self) -> Result<Version, Failure> {
        Version::new(self.version).ok_or_else(|| Failure::corrupt(format!("version {} of a kept answer", self.version)))
    }

    /// The answer, when it is read from its text.
    pub(super) fn replay<R>(self, read: impl FnOnce(&str) -> crate::store::Result<R>) -> Result<Replay<R>, Failure> {
        let version = self.version()?;
        Ok(Replay { status: self.status, version, record: self.answer.as_deref().map(read).transpose()? })
    }
}

/// Looks the request's key up. A key that is too old counts as absent, swept or not.
pub(super) async fn find(connection: &mut PgConnection, context: &WriteContext, offset: i64) -> Result<Found, Failure> {
    let Some(idempotency) = context.idempotency else { return Ok(Found::Free) };
    let row = sqlx::query(FIND)
        .bind(context.tenant.as_str())
        .bind(offset)
        .bind(IDEMPOTENCY_SECONDS)
        .bind(idempotency.key)
        .bind(idempotency.fingerprint)
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(Found::Free) };
    if !row.try_get::<bool, _>("is_equal")? {
        return Ok(Found::Reused);
    }
    let status: i16 = row.try_get("status")?;
    Ok(Found::Kept(Kept {
        status: u16::try_from(status).map_err(|_| Failure::corrupt(format!("status {status} of a kept answer")))?,
        version: row.try_get("version")?,
        state_id: row.try_get("state_id")?,
        answer: row.try_get("answer")?,
    }))
}

/// An answer to keep.
pub(super) struct Keep<'a> {
    pub(super) context: &'a WriteContext,
    pub(super) status: i16,
    pub(super) version: i64,
    /// Whose version is the answer, when it is a state.
    pub(super) state_id: Option<i64>,
    /// The answer's text, when it is not.
    pub(super) answer: Option<String>,
}

/// Keeps the answers of those requests that have a key. [`Failure::Raced`] when another transaction has kept one meanwhile.
pub(super) async fn keep(connection: &mut PgConnection, tenant: &TenantId, offset: i64, rows: Vec<Keep<'_>>) -> Result<(), Failure> {
    let (mut keys, mut fingerprints, mut versions, mut statuses, mut states, mut answers) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for row in rows {
        let Some(idempotency) = row.context.idempotency else { continue };
        keys.push(idempotency.key);
        fingerprints.push(idempotency.fingerprint);
        versions.push(row.version);
        statuses.push(row.status);
        states.push(row.state_id);
        answers.push(row.answer);
    }
    if keys.is_empty() {
        return Ok(());
    }
    let expected = keys.len();
    let kept = sqlx::query(KEEP)
        .bind(tenant.as_str())
        .bind(offset)
        .bind(IDEMPOTENCY_SECONDS)
        .bind(keys)
        .bind(fingerprints)
        .bind(versions)
        .bind(statuses)
        .bind(states)
        .bind(answers)
        .fetch_all(connection)
        .await?;
    if kept.len() == expected { Ok(()) } else { Err(Failure::Raced) }
}
