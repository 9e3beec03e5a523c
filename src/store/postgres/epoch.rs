//! What became of a COMMIT whose answer was lost: the server knows, as long as it is the same server.

use std::time::Duration;

use sqlx::PgConnection;

use super::failure::Failure;
use super::transaction::{self, Limits};

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

/// Asks what became of the transaction `xid`, which began when `then` was, or was followed by, the server's epoch. Epochs only follow
/// each other, so if the server's is the same now, it was when the COMMIT was sent. Returns the server's epoch too, when it was seen.
pub(super) async fn fate_of(limits: Limits<'_>, xid: &str, then: &Epoch) -> (Fate, Option<Epoch>) {
    let mut seen = None;
    let asking = async {
        loop {
            match ask(limits, xid).await {
                Ok((now, _)) if now != *then => {
                    seen = Some(now);
                    return Fate::Unknown;
                }
                Ok((_, Some(status))) if status == "committed" => return Fate::Committed,
                Ok((_, Some(status))) if status == "aborted" => return Fate::RolledBack,
                Ok((_, None)) => return Fate::Unknown,
                // In progress: the server has not noticed yet that its client is gone. Or not reachable: it may be starting.
                Ok(_) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    let fate = tokio::time::timeout(PATIENCE, asking).await.unwrap_or(Fate::Unknown);
    (fate, seen)
}

async fn ask(limits: Limits<'_>, xid: &str) -> Result<(Epoch, Option<String>), Failure> {
    transaction::read(limits, None, async |connection| {
        let epoch = Epoch::read(connection).await?;
        let status = sqlx::query_scalar("SELECT pg_xact_status($1::text::xid8)").bind(xid).fetch_one(connection).await?;
        Ok((epoch, status))
    })
    .await
}
