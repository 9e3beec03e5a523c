//! Writing sessions.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::failure::Failure;
use super::keys::{self, Keep};
use super::rows::{Columns, Verdict, changes, mark};
use super::work::{Work, Written};
use super::{session_read, session_sql};
use crate::domain::clock::Timestamp;
use crate::domain::commit::Resource;
use crate::domain::id::{SessionId, TenantId, UserId};
use crate::domain::session::{DEFAULT_TTL_SECONDS, LAST_EXPIRY, Reach, SessionDocument, SessionRecord};
use crate::domain::version::Expected;
use crate::store::{IDEMPOTENCY_SECONDS, Outcome, Replay, Tombstone, WriteContext, answer};

/// One session to save.
#[derive(Clone)]
pub(super) struct SessionPut {
    pub(super) context: WriteContext,
    pub(super) id: SessionId,
    pub(super) reach: Reach,
    pub(super) owner: UserId,
    pub(super) expected: Expected,
    pub(super) document: SessionDocument,
}

/// Sessions to save, all of one tenant; no session and no idempotency key comes twice.
pub(super) struct PutSessions<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [SessionPut],
}

impl Work for PutSessions<'_> {
    type Output = Written<Vec<Outcome<SessionRecord>>>;
    const TABLE: &'static str = "session";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let columns = Columns::of(self.rows.iter().map(|row| (&row.context, row.expected)));
        let answers = sqlx::query(session_sql::PUT)
            .bind(self.tenant.as_str())
            .bind(offset)
            .bind(IDEMPOTENCY_SECONDS)
            .bind(columns.number)
            .bind(self.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
            .bind(columns.expected)
            .bind(columns.actor)
            .bind(columns.request_id)
            .bind(columns.idem)
            .bind(columns.fingerprint)
            .bind(self.rows.iter().map(|row| reached(&row.reach)).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.owner.as_str()).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.document.ttl_seconds).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.document.max_ttl_seconds).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.document.sliding).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| &*row.document.data).collect::<Vec<_>>())
            .bind(DEFAULT_TTL_SECONDS)
            .fetch_all(&mut *connection)
            .await?;
        let rows = self.rows.iter().map(|row| (&row.context, &row.id)).collect::<Vec<_>>();
        conclude(connection, self.tenant, offset, &rows, &answers).await
    }
}

/// One session to extend.
#[derive(Clone)]
pub(super) struct SessionExtension {
    pub(super) context: WriteContext,
    pub(super) id: SessionId,
    pub(super) reach: Reach,
    pub(super) expected: Expected,
    pub(super) additional_seconds: i64,
}

/// Sessions to extend, all of one tenant; no session and no idempotency key comes twice.
pub(super) struct ExtendSessions<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [SessionExtension],
}

impl Work for ExtendSessions<'_> {
    type Output = Written<Vec<Outcome<SessionRecord>>>;
    const TABLE: &'static str = "session";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let columns = Columns::of(self.rows.iter().map(|row| (&row.context, row.expected)));
        let answers = sqlx::query(session_sql::EXTEND)
            .bind(self.tenant.as_str())
            .bind(offset)
            .bind(IDEMPOTENCY_SECONDS)
            .bind(columns.number)
            .bind(self.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
            .bind(columns.expected)
            .bind(columns.actor)
            .bind(columns.request_id)
            .bind(columns.idem)
            .bind(columns.fingerprint)
            .bind(self.rows.iter().map(|row| reached(&row.reach)).collect::<Vec<_>>())
            .bind(self.rows.iter().map(|row| row.additional_seconds).collect::<Vec<_>>())
            .bind(LAST_EXPIRY)
            .fetch_all(&mut *connection)
            .await?;
        let rows = self.rows.iter().map(|row| (&row.context, &row.id)).collect::<Vec<_>>();
        conclude(connection, self.tenant, offset, &rows, &answers).await
    }
}

/// The user whose sessions are reached; `None`: all.
pub(super) fn reached(reach: &Reach) -> Option<&str> {
    match reach {
        Reach::Own(user) => Some(user.as_str()),
        Reach::All => None,
    }
}

/// Reads what a statement answered, and keeps the answers of those rows that have an idempotency key.
async fn conclude(
    connection: &mut PgConnection,
    tenant: &TenantId,
    offset: i64,
    rows: &[(&WriteContext, &SessionId)],
    answers: &[PgRow],
) -> Result<Written<Vec<Outcome<SessionRecord>>>, Failure> {
    let outcomes = rows.iter().zip(answers).map(|((_, id), answer)| outcome(id, answer)).collect::<Result<Vec<_>, _>>()?;
    let mut kept = Vec::new();
    for ((context, _), outcome) in rows.iter().zip(&outcomes) {
        let Outcome::Applied { created, record } = outcome else { continue };
        if context.idempotency.is_some() {
            let (status, version) = (if *created { 201 } else { 200 }, record.version.get());
            kept.push(Keep { context, status, version, state_id: None, answer: Some(answer::from_session(record)?) });
        }
    }
    keys::keep(connection, tenant, offset, kept).await?;
    let changes = changes(tenant, rows.iter().map(|(_, id)| Resource::Session((*id).clone())), &outcomes, |record| record.version);
    Ok(Written::kept(mark(answers, rows.len())?, outcomes, changes))
}

fn outcome(id: &SessionId, row: &PgRow) -> Result<Outcome<SessionRecord>, Failure> {
    Ok(match Verdict::read(row)? {
        Verdict::Applied { created, .. } => Outcome::Applied { created, record: session_read::record(id.clone(), row)? },
        Verdict::Refused { current } => Outcome::Refused { current },
        Verdict::Absent => Outcome::Absent,
        Verdict::Replayed { status, version } => {
            let text: Option<&str> = row.try_get("answer")?;
            Outcome::Replayed(Replay { status, version, record: text.map(answer::to_session).transpose()? })
        }
        Verdict::KeyReused => Outcome::KeyReused,
    })
}

/// One session to delete.
#[derive(Clone)]
pub(super) struct SessionDelete {
    pub(super) context: WriteContext,
    pub(super) id: SessionId,
    pub(super) reach: Reach,
    pub(super) expected: Expected,
}

/// Sessions to delete, all of one tenant; no session and no idempotency key comes twice.
pub(super) struct DeleteSessions<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) rows: &'a [SessionDelete],
}

impl Work for DeleteSessions<'_> {
    type Output = Written<Vec<Outcome<Tombstone>>>;
    const TABLE: &'static str = "session";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let columns = Columns::of(self.rows.iter().map(|row| (&row.context, row.expected)));
        let answers = sqlx::query(session_sql::DELETE)
            .bind(self.tenant.as_str())
            .bind(offset)
            .bind(IDEMPOTENCY_SECONDS)
            .bind(columns.number)
            .bind(self.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>())
            .bind(columns.expected)
            .bind(columns.actor)
            .bind(columns.request_id)
            .bind(columns.idem)
            .bind(columns.fingerprint)
            .bind(self.rows.iter().map(|row| reached(&row.reach)).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
        let outcomes = answers.iter().map(|answer| Verdict::read(answer).map(Verdict::of_delete)).collect::<Result<Vec<_>, _>>()?;
        let resources = self.rows.iter().map(|row| Resource::Session(row.id.clone()));
        let changes = changes(self.tenant, resources, &outcomes, |tombstone| tombstone.version);
        Ok(Written::kept(mark(&answers, self.rows.len())?, outcomes, changes))
    }
}

/// A session to touch.
pub(super) struct TouchSession<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) id: &'a SessionId,
}

impl Work for TouchSession<'_> {
    type Output = Option<Timestamp>;
    const TABLE: &'static str = "session";

    async fn run(&self, connection: &mut PgConnection, offset: i64) -> Result<Self::Output, Failure> {
        let query = sqlx::query_scalar(session_sql::TOUCH).bind(self.tenant.as_str()).bind(offset).bind(self.id.as_str());
        Ok(query.fetch_optional(connection).await?)
    }
}
