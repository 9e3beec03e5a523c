//! What became of a COMMIT whose answer was lost: the server knows, as long as it is the same server.

use std::time::Duration;

use sqlx::PgConnection;

use super::failure::Failure;
use super::transaction::{self, Limits};
use crate::domain::clock::Timestamp;
use crate::domain::id::TenantId;

/// How long the fate of a transaction is asked for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// One life of a cluster: its identity, and the timeline that each fail-over raises. Transaction ids mean something within it only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Epoch {
    system: i64,
    timeline: String,
}

impl Epoch {
    /// The server's epoch now. Fails on a standby.
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let (system, timeline) =
            sqlx::query_as("SELECT system_identifier, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) FROM pg_control_system()")
                .fetch_one(connection)
                .await?;
        Ok(Self { system, timeline })
    }
}

/// The fate of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    RolledBack,
    Unknown,
}

/// What a transaction that writes can be told by: its id, and the time of a row that it has put into the change log.
///
/// The id alone does not do. A crash forgets the ids of transactions whose commit it lost, and PostgreSQL gives them out again: a
/// later write would be taken for the lost one. The timeline stays the same, and so does the postmaster when only a session was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) xid: String,
    pub(super) at: Timestamp,
}

impl Mark {
    /// The mark of the transaction at work, after its rows of the change log have been written. For writes whose statements do not tell it.
    pub(super) async fn read(connection: &mut PgConnection, tenant: &TenantId) -> Result<Option<Self>, sqlx::Error> {
        let sql = "SELECT xid::text, (extract(epoch FROM at) * 1000000)::int8 FROM change_log
                   WHERE tenant_id = $1 AND xid = pg_current_xact_id_if_assigned() LIMIT 1";
        let found: Option<(String, i64)> = sqlx::query_as(sql).bind(tenant.as_str()).fetch_optional(connection).await?;
        Ok(found.map(|(xid, at)| Self { xid, at: Timestamp::from_microseconds(at) }))
    }
}

/// Asks what became of the transaction of this mark, which began when `then` was, or was followed by, the server's epoch. Epochs only
/// follow each other, so if the server's is the same now, it was when the COMMIT was sent. Returns the server's epoch too, when it was
/// seen.
pub(super) async fn fate_of(limits: Limits<'_>, tenant: &TenantId, mark: &Mark, then: &Epoch) -> (Fate, Option<Epoch>) {
    let mut seen = None;
    let asking = async {
        loop {
            match ask(limits, tenant, mark).await {
                Ok((now, _)) if now != *then => {
                    seen = Some(now);
                    return Fate::Unknown;
                }
                Ok((_, Some(fate))) => return fate,
                // In progress: the server has not noticed yet that its client is gone. Or not reachable: it may be starting.
                Ok((_, None)) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    let fate = tokio::time::timeout(PATIENCE, asking).await.unwrap_or(Fate::Unknown);
    (fate, seen)
}

/// The epoch, and the fate unless the transaction is in progress.
async fn ask(limits: Limits<'_>, tenant: &TenantId, mark: &Mark) -> Result<(Epoch, Option<Fate>), Failure> {
    transaction::read(limits, Some(tenant), async |connection| {
        let epoch = Epoch::read(connection).await?;
        let status = sqlx::query_scalar("SELECT pg_xact_status($1::text::xid8)").bind(&mark.xid).fetch_one(&mut *connection).await;
        let status: Option<String> = match status {
            Ok(status) => status,
            // An id that was not given out yet: a crash forgot the transaction.
            Err(error) if is_from_the_future(&error) => return Ok((epoch, Some(Fate::RolledBack))),
            Err(error) => return Err(error.into()),
        };
        let fate = match status.as_deref() {
            // Asked only now: this statement sees all that was committed before it.
            Some("committed") if is_there(connection, tenant, mark).await? => Some(Fate::Committed),
            // The id belongs to another transaction by now, so a crash forgot this one.
            Some("committed") | Some("aborted") => Some(Fate::RolledBack),
            Some(_) => None,
            None => Some(Fate::Unknown),
        };
        Ok((epoch, fate))
    })
    .await
}

async fn is_there(connection: &mut PgConnection, tenant: &TenantId, mark: &Mark) -> Result<bool, sqlx::Error> {
    let sql = "SELECT EXISTS (SELECT FROM change_log WHERE tenant_id = $1 AND xid = $2::text::xid8
                 AND at = timestamptz 'epoch' + $3::int8 * interval '1 microsecond')";
    sqlx::query_scalar(sql).bind(tenant.as_str()).bind(&mark.xid).bind(mark.at.as_microseconds()).fetch_one(connection).await
}

/// PostgreSQL refuses to tell of such an id as an invalid parameter.
fn is_from_the_future(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "22023")
}
