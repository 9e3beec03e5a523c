//! Housekeeping: each step is one more write in the queue, alone while it works, and short because its rows are limited.
//!
//! Nothing of it is told to the observer or logged: what it removes was gone for every reader before.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

use super::error::store_error;
use super::free_space;
use super::record::TOMBSTONE_SECONDS;
use super::variable_heads::SESSION_CHECK_SECONDS;
use super::writer::{Unit, Write};
use crate::domain::clock::Timestamp;
use crate::store::{Result, SweepLimits, SweepTask, Swept};

/// The bucket of an hour behind a moment, as `session_writes::bucket` has it.
macro_rules! bucket {
    ($moment:literal) => {
        concat!("(", $moment, " + 3600000000 - (", $moment, " + 3600000000) % 3600000000)")
    };
}

/// 1 now, 2 rows, 3 bucket of the tombstone. One that lives on is looked at again when it may end.
const EXPIRED_SESSIONS: &str = concat!(
    "UPDATE session SET deleted = expires_at <= ?1, data = CASE WHEN expires_at <= ?1 THEN NULL ELSE data END,
                        sweep_at = CASE WHEN expires_at <= ?1 THEN ?3 ELSE ",
    bucket!("expires_at"),
    " END
     WHERE rowid IN (SELECT rowid FROM session WHERE sweep_at <= ?1 AND deleted = 0 ORDER BY sweep_at LIMIT ?2)"
);

/// 1 now, 2 rows, 3 bucket of the tombstone, 4 the next look at a session's variable.
const EXPIRED_VARIABLES: &str = concat!(
    "WITH due AS MATERIALIZED (
         SELECT v.rowid AS id, coalesce(v.expires_at <= ?1, 0) OR (v.scope_kind = 3 AND NOT EXISTS (
             SELECT 1 FROM session s WHERE s.tenant_id = v.tenant_id AND s.session_id = v.scope_id AND s.deleted = 0
                                       AND s.expires_at > ?1 AND s.created_version = v.session_life)) AS gone
         FROM variable v WHERE v.sweep_at <= ?1 AND v.deleted = 0 ORDER BY v.sweep_at LIMIT ?2)
     UPDATE variable SET deleted = due.gone, secret = CASE WHEN due.gone THEN 0 ELSE secret END,
         description = CASE WHEN due.gone THEN NULL ELSE description END, value = CASE WHEN due.gone THEN NULL ELSE value END,
         sweep_at = CASE WHEN due.gone THEN ?3 WHEN scope_kind = 3 THEN min(?4, coalesce(",
    bucket!("expires_at"),
    ", ?4)) ELSE ",
    bucket!("expires_at"),
    " END,
         expires_at = CASE WHEN due.gone THEN NULL ELSE expires_at END
     FROM due WHERE variable.rowid = due.id"
);

/// 1 now, 2 rows. A tenant's floor rises when none of its tombstones below the present one is left to remove, so that the second phase
/// is not put off for ever.
const VERSION_FLOORS: &str = "
    WITH due AS (
        SELECT tenant_id, max(version, checkpoint_floor) AS version FROM execution_state WHERE sweep_at <= ?1 AND deleted = 1
        UNION ALL SELECT tenant_id, version FROM checkpoint WHERE sweep_at <= ?1 AND deleted = 1
        UNION ALL SELECT tenant_id, version FROM session WHERE sweep_at <= ?1 AND deleted = 1
        UNION ALL SELECT tenant_id, version FROM variable WHERE sweep_at <= ?1 AND deleted = 1),
    raised AS MATERIALIZED (
        SELECT t.tenant_id, max(due.version) AS highest FROM due JOIN tenant t ON t.tenant_id = due.tenant_id GROUP BY t.tenant_id
        HAVING t.floor_raised_at IS NULL OR min(due.version) > t.version_floor LIMIT ?2)
    UPDATE tenant SET version_floor = max(version_floor, raised.highest), floor_raised_at = ?1
    FROM raised WHERE raised.tenant_id = tenant.tenant_id";

/// Tombstones of one table that may be removed. 1 now, 2 rows, 3 the latest time of a floor that counts.
macro_rules! removable {
    ($table:literal) => {
        removable!($table, "x.version")
    };
    ($table:literal, $version:literal) => {
        concat!(
            "SELECT x.rowid FROM ",
            $table,
            " x JOIN tenant t ON t.tenant_id = x.tenant_id
              WHERE x.sweep_at <= ?1 AND x.deleted = 1 AND ",
            $version,
            " <= t.version_floor AND t.floor_raised_at <= ?3
              ORDER BY x.sweep_at LIMIT ?2"
        )
    };
}

macro_rules! removable_heads {
    () => {
        removable!("execution_state", "max(x.version, x.checkpoint_floor)")
    };
}

macro_rules! remove_tombstones {
    ($table:literal) => {
        concat!("DELETE FROM ", $table, " WHERE rowid IN (", removable!($table), ")")
    };
}

const VARIABLE_TOMBSTONES: &str = remove_tombstones!("variable");
const SESSION_TOMBSTONES: &str = remove_tombstones!("session");
const CHECKPOINT_TOMBSTONES: &str = remove_tombstones!("checkpoint");
/// The last tombstone of a checkpoint may be all that held an empty head. 1 now, 2 rows, 3 as above.
const FREE_HEADS: &str = concat!(
    "UPDATE execution_state SET sweep_at = ?1
     WHERE deleted = 1 AND sweep_at IS NULL AND state_id IN (SELECT state_id FROM checkpoint WHERE rowid IN (",
    removable!("checkpoint"),
    ")) AND NOT EXISTS (SELECT 1 FROM state_version v WHERE v.tenant_id = execution_state.tenant_id AND v.state_id = execution_state.state_id)"
);
/// A head that something hangs on stays, and is not looked at again until that is gone.
const KEEP_HEADS: &str = concat!(
    "UPDATE execution_state SET sweep_at = NULL WHERE state_id IN (",
    removable_heads!(),
    ") AND (EXISTS (SELECT 1 FROM state_version v WHERE v.tenant_id = execution_state.tenant_id AND v.state_id = execution_state.state_id)
         OR EXISTS (SELECT 1 FROM checkpoint c WHERE c.tenant_id = execution_state.tenant_id AND c.state_id = execution_state.state_id))"
);
const HEADS: &str = concat!(
    "DELETE FROM execution_state WHERE rowid IN (",
    removable_heads!(),
    ") AND NOT EXISTS (SELECT 1 FROM state_version v WHERE v.tenant_id = execution_state.tenant_id AND v.state_id = execution_state.state_id)
      AND NOT EXISTS (SELECT 1 FROM checkpoint c WHERE c.tenant_id = execution_state.tenant_id AND c.state_id = execution_state.state_id)"
);

/// 1 now, 2 rows.
const IDEMPOTENCY_KEYS: &str = "
    DELETE FROM idempotency WHERE rowid IN (SELECT rowid FROM idempotency WHERE sweep_at <= ?1 ORDER BY sweep_at LIMIT ?2)";

/// 1 the time up to which rows go, 2 rows. In the order of the log, so that no row behind a younger one goes before it.
const CHANGE_LOG: &str = "
    DELETE FROM change_log WHERE seq IN (SELECT seq FROM (SELECT seq, at FROM change_log ORDER BY seq LIMIT ?2) WHERE at < ?1)";

/// 2 rows.
const REMOVED_VERSIONS: &str = "
    DELETE FROM state_version WHERE rowid IN (
        SELECT v.rowid FROM removed_state r CROSS JOIN state_version v ON v.tenant_id = r.tenant_id AND v.state_id = r.state_id LIMIT ?2)";
const REMOVED_CHECKPOINTS: &str = "
    DELETE FROM checkpoint WHERE rowid IN (
        SELECT c.rowid FROM removed_state r CROSS JOIN checkpoint c ON c.tenant_id = r.tenant_id AND c.state_id = r.state_id LIMIT ?2)";
const REMOVED_STATES: &str = "
    DELETE FROM removed_state WHERE rowid IN (
        SELECT r.rowid FROM removed_state r
        WHERE NOT EXISTS (SELECT 1 FROM state_version v WHERE v.tenant_id = r.tenant_id AND v.state_id = r.state_id)
          AND NOT EXISTS (SELECT 1 FROM checkpoint c WHERE c.tenant_id = r.tenant_id AND c.state_id = r.state_id)
        LIMIT ?2)";

/// [`Store::sweep`](crate::store::Store::sweep). No other server can be at it: the folder belongs to this one.
pub(super) struct Sweep {
    pub(super) task: SweepTask,
    pub(super) limits: SweepLimits,
}

#[async_trait]
impl Write for Sweep {
    type Answer = Swept;

    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Swept> {
        if self.task == SweepTask::FreeSpace {
            return free_space::give_back(unit.connection, self.limits.rows).await;
        }
        let mut step = Step { connection: unit.connection, left: self.limits.rows.into(), rows: 0 };
        let now = unit.now;
        let tombstone = now.plus_seconds(TOMBSTONE_SECONDS).hour();
        match self.task {
            SweepTask::ExpiredSessions => step.run(EXPIRED_SESSIONS, now, &[tombstone]).await?,
            SweepTask::ExpiredVariables => {
                let check = super::session_writes::bucket(now.plus_seconds(SESSION_CHECK_SECONDS));
                step.run(EXPIRED_VARIABLES, now, &[tombstone, check]).await?;
            }
            SweepTask::VersionFloors => step.run(VERSION_FLOORS, now, &[]).await?,
            SweepTask::Tombstones => {
                let raised_before = [now.plus_seconds(-self.limits.floor_seconds)];
                step.run(VARIABLE_TOMBSTONES, now, &raised_before).await?;
                step.run(SESSION_TOMBSTONES, now, &raised_before).await?;
                // Its own budget is that of the statement after it, which removes the same rows.
                step.query(FREE_HEADS, now, &raised_before).execute(&mut *step.connection).await.map_err(store_error)?;
                step.run(CHECKPOINT_TOMBSTONES, now, &raised_before).await?;
                step.run(KEEP_HEADS, now, &raised_before).await?;
                step.run(HEADS, now, &raised_before).await?;
            }
            SweepTask::IdempotencyKeys => step.run(IDEMPOTENCY_KEYS, now, &[]).await?,
            SweepTask::ChangeLog => step.run(CHANGE_LOG, now.plus_seconds(-self.limits.log_seconds), &[]).await?,
            SweepTask::RemovedExecutions => {
                step.run(REMOVED_VERSIONS, now, &[]).await?;
                step.run(REMOVED_CHECKPOINTS, now, &[]).await?;
                step.run(REMOVED_STATES, now, &[]).await?;
            }
            SweepTask::FreeSpace => {}
        }
        Ok(Swept { rows: step.rows, more: step.left == 0, busy: false })
    }
}

/// A step at work: how many rows it may change yet, and how many it has.
struct Step<'c> {
    connection: &'c mut SqliteConnection,
    left: u64,
    rows: u64,
}

impl Step<'_> {
    fn query(&self, sql: &'static str, first: Timestamp, times: &[Timestamp]) -> Query<'static, Sqlite, SqliteArguments> {
        let rows = i64::try_from(self.left).unwrap_or(i64::MAX);
        let query = sqlx::query(sql).bind(first.as_microseconds()).bind(rows);
        times.iter().fold(query, |query, time| query.bind(time.as_microseconds()))
    }

    async fn run(&mut self, sql: &'static str, first: Timestamp, times: &[Timestamp]) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        let done = self.query(sql, first, times).execute(&mut *self.connection).await.map_err(store_error)?;
        self.rows += done.rows_affected();
        self.left = self.left.saturating_sub(done.rows_affected());
        Ok(())
    }
}
