//! Saving, extending, touching and deleting sessions.

use async_trait::async_trait;

use super::error::store_error;
use super::record::{self, Answer, Change, Known, Previous, TOMBSTONE_SECONDS, insert_log};
use super::sessions::Found;
use super::writer::{Unit, Write};
use crate::domain::clock::Timestamp;
use crate::domain::commit::Resource;
use crate::domain::id::{SessionId, TenantId, UserId};
use crate::domain::session::{DEFAULT_TTL_SECONDS, LAST_EXPIRY, Reach, SessionDocument, SessionRecord};
use crate::domain::version::{Expected, Version};
use crate::store::change::{ChangeKind, ChangeOperation};
use crate::store::{Outcome, Result, Tombstone, WriteContext, answer};

/// A live session keeps its `sweep_at`: the sweeper moves it when it finds that the session still lives. Parameters from 11 on: subject,
/// created_version, created_at, ttl_ms, max_expires_at, expires_at, sweep_at of a new life, sliding, data.
const WRITE_SESSION: &str = concat!(
    "INSERT INTO session (tenant_id, session_id, subject, version, created_version, created_at, updated_at, ttl_ms, max_expires_at,
                          written_expires_at, expires_at, sweep_at, sliding, data)
     VALUES ($1, $2, $11, $4, $12, $13, $5, $14, $15, $16, $16, $17, $18, $19)
     ON CONFLICT (tenant_id, session_id) DO UPDATE SET
         subject = excluded.subject, version = excluded.version, created_version = excluded.created_version,
         created_at = excluded.created_at, updated_at = excluded.updated_at, ttl_ms = excluded.ttl_ms,
         max_expires_at = excluded.max_expires_at, written_expires_at = excluded.written_expires_at, expires_at = excluded.expires_at,
         sweep_at = CASE WHEN excluded.version = excluded.created_version THEN excluded.sweep_at ELSE session.sweep_at END,
         sliding = excluded.sliding, deleted = 0, data = excluded.data;",
    insert_log!()
);

/// Parameters from 11 on: expires_at.
const EXTEND: &str = concat!(
    "UPDATE session SET version = $4, updated_at = $5, written_expires_at = $11, expires_at = $11 WHERE tenant_id = $1 AND session_id = $2;",
    insert_log!()
);

/// Parameters from 11 on: sweep_at.
const WRITE_TOMBSTONE: &str = concat!(
    "UPDATE session SET version = $4, updated_at = $5, sweep_at = $11, deleted = 1, data = NULL WHERE tenant_id = $1 AND session_id = $2;",
    insert_log!()
);

const TOUCH: &str = "
    UPDATE session SET expires_at = max(expires_at, min(?3 + ttl_ms * 1000, coalesce(max_expires_at, 9223372036854775807)))
    WHERE tenant_id = ?1 AND session_id = ?2 AND deleted = 0 AND expires_at > ?3 AND sliding = 1
    RETURNING expires_at";

fn change(id: &SessionId, operation: ChangeOperation, version: Version, at: Timestamp) -> Change<'_> {
    Change { kind: ChangeKind::Session, operation, keys: [id.as_str(), ""], third_key: None, version, at }
}

/// The time under the cap of a session that began at a moment.
fn capped(time: Timestamp, created_at: Timestamp, max_ttl_seconds: Option<i64>) -> Timestamp {
    max_ttl_seconds.map_or(time, |seconds| time.min(created_at.plus_seconds(seconds))).min(LAST_EXPIRY)
}

/// The bucket in which the sweeper first looks at what ends at a moment.
pub(super) fn bucket(end: Timestamp) -> Timestamp {
    end.plus_seconds(3600).hour()
}

/// [`Store::put_session`](crate::store::Store::put_session).
pub(super) struct PutSession {
    pub(super) context: WriteContext,
    pub(super) id: SessionId,
    pub(super) reach: Reach,
    pub(super) owner: UserId,
    pub(super) expected: Expected,
    pub(super) document: SessionDocument,
}

#[async_trait]
impl Write for PutSession {
    type Answer = Outcome<SessionRecord>;

    fn bytes(&self) -> usize {
        self.document.data.len()
    }

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<SessionRecord>> {
        let Self { context, id, reach, owner, expected, document } = self;
        let tenant = &context.tenant;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => return answered.replay(answer::to_session),
        }
        let (live, previous) = match Found::read(unit.connection, tenant, id, unit.now).await? {
            Some(Found::Live(record)) if !reach.covers(&record.owner) => return Ok(Outcome::Absent),
            Some(Found::Live(record)) => {
                let previous = Previous { version: record.version.get(), updated_at: record.updated_at };
                (Some(record), Some(previous))
            }
            Some(Found::Gone { previous, .. }) => (None, Some(previous)),
            None => (None, None),
        };
        let current = live.as_ref().map(|record| record.version);
        if !expected.is_met_by(current) {
            return Ok(Outcome::Refused { current });
        }
        let (version, at) = record::next(unit.connection, tenant, previous, unit.now).await?;
        let created = live.is_none();
        let record = renewed(live, id, owner, document, version, at);
        let operation = if created { ChangeOperation::Created } else { ChangeOperation::Replaced };
        record::bind_change(WRITE_SESSION, context, change(id, operation, version, at))
            .bind(record.owner.as_str())
            .bind(record.life.get())
            .bind(record.created_at.as_microseconds())
            .bind(record.ttl_seconds * 1000)
            .bind(record.max_ttl_seconds.map(|seconds| record.created_at.plus_seconds(seconds).as_microseconds()))
            .bind(record.expires_at.as_microseconds())
            .bind(bucket(record.expires_at).as_microseconds())
            .bind(record.sliding)
            .bind(record.data.clone())
            .execute(&mut *unit.connection)
            .await
            .map_err(store_error)?;
        unit.changed(tenant, Resource::Session(id.clone()), version);
        let status = if created { 201 } else { 200 };
        record::keep(unit.connection, context, status, version, at, || answer::from_session(&record).map(Answer::Text)).await?;
        Ok(Outcome::Applied { created, record })
    }
}

/// What a document makes of a live session, or of none.
fn renewed(
    live: Option<SessionRecord>,
    id: &SessionId,
    owner: &UserId,
    document: &SessionDocument,
    version: Version,
    at: Timestamp,
) -> SessionRecord {
    let (owner, life, created_at, kept) = match live {
        Some(live) => (live.owner, live.life, live.created_at, Some((live.ttl_seconds, live.expires_at))),
        None => (owner.clone(), version, at, None),
    };
    let (ttl_seconds, end) = match (document.ttl_seconds, kept) {
        (Some(seconds), _) => (seconds, at.plus_seconds(seconds)),
        (None, Some(kept)) => kept,
        (None, None) => (DEFAULT_TTL_SECONDS, at.plus_seconds(DEFAULT_TTL_SECONDS)),
    };
    let expires_at = capped(end, created_at, document.max_ttl_seconds);
    SessionRecord {
        id: id.clone(),
        owner,
        version,
        life,
        data: document.data.clone(),
        ttl_seconds,
        sliding: document.sliding,
        max_ttl_seconds: document.max_ttl_seconds,
        created_at,
        updated_at: at,
        written_expires_at: expires_at,
        expires_at,
    }
}

/// [`Store::extend_session`](crate::store::Store::extend_session).
pub(super) struct ExtendSession {
    pub(super) context: WriteContext,
    pub(super) id: SessionId,
    pub(super) reach: Reach,
    pub(super) expected: Expected,
    pub(super) additional_seconds: i64,
}

#[async_trait]
impl Write for ExtendSession {
    type Answer = Outcome<SessionRecord>;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<SessionRecord>> {
        let Self { context, id, reach, expected, additional_seconds } = self;
        let tenant = &context.tenant;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => return answered.replay(answer::to_session),
        }
        let live = match Found::read(unit.connection, tenant, id, unit.now).await? {
            Some(Found::Live(record)) if reach.covers(&record.owner) => record,
            _ => return Ok(Outcome::Absent),
        };
        if !expected.is_met_by(Some(live.version)) {
            return Ok(Outcome::Refused { current: Some(live.version) });
        }
        let (version, at) = Previous { version: live.version.get(), updated_at: live.updated_at }.next(unit.now)?;
        let expires_at = capped(live.expires_at.plus_seconds(*additional_seconds), live.created_at, live.max_ttl_seconds);
        record::bind_change(EXTEND, context, change(id, ChangeOperation::Replaced, version, at))
            .bind(expires_at.as_microseconds())
            .execute(&mut *unit.connection)
            .await
            .map_err(store_error)?;
        unit.changed(tenant, Resource::Session(id.clone()), version);
        let record = SessionRecord { version, updated_at: at, written_expires_at: expires_at, expires_at, ..live };
        record::keep(unit.connection, context, 200, version, at, || answer::from_session(&record).map(Answer::Text)).await?;
        Ok(Outcome::Applied { created: false, record })
    }
}

/// [`Store::touch_session`](crate::store::Store::touch_session).
pub(super) struct TouchSession {
    pub(super) tenant: TenantId,
    pub(super) id: SessionId,
}

#[async_trait]
impl Write for TouchSession {
    type Answer = Option<Timestamp>;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Option<Timestamp>> {
        let query = sqlx::query_scalar(TOUCH).bind(self.tenant.as_str()).bind(self.id.as_str()).bind(unit.now.as_microseconds());
        let end: Option<i64> = query.fetch_optional(&mut *unit.connection).await.map_err(store_error)?;
        Ok(end.map(Timestamp::from_microseconds))
    }
}

/// [`Store::delete_session`](crate::store::Store::delete_session).
pub(super) struct DeleteSession {
    pub(super) context: WriteContext,
    pub(super) id: SessionId,
    pub(super) reach: Reach,
    pub(super) expected: Expected,
}

#[async_trait]
impl Write for DeleteSession {
    type Answer = Outcome<Tombstone>;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Outcome<Tombstone>> {
        let Self { context, id, reach, expected } = self;
        let tenant = &context.tenant;
        match record::known(unit.connection, context, unit.now).await? {
            Known::No => {}
            Known::Reused => return Ok(Outcome::KeyReused),
            Known::Answered(answered) => return Ok(answered.replay_of_delete()),
        }
        // A session out of reach is answered as one that is not there, whatever is expected of it.
        let live = match Found::read(unit.connection, tenant, id, unit.now).await? {
            Some(Found::Live(record)) if reach.covers(&record.owner) => Some(record),
            _ => None,
        };
        let current = live.as_ref().map(|record| record.version);
        let live = match live {
            Some(live) if expected.is_met_by(current) => live,
            None if expected.is_met_by(None) => return Ok(Outcome::Absent),
            _ => return Ok(Outcome::Refused { current }),
        };
        let (version, at) = Previous { version: live.version.get(), updated_at: live.updated_at }.next(unit.now)?;
        record::bind_change(WRITE_TOMBSTONE, context, change(id, ChangeOperation::Deleted, version, at))
            .bind(at.plus_seconds(TOMBSTONE_SECONDS).hour().as_microseconds())
            .execute(&mut *unit.connection)
            .await
            .map_err(store_error)?;
        unit.changed(tenant, Resource::Session(id.clone()), version);
        record::keep(unit.connection, context, 204, version, at, || Ok(Answer::Nothing)).await?;
        Ok(Outcome::Applied { created: false, record: Tombstone { version } })
    }
}
