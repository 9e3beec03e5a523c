//! What each task of housekeeping does for one tenant.

use sqlx::PgConnection;

use super::failure::Failure;
use super::sweep_sql::{self, OF_INCARNATION, TOMBSTONES};
use crate::domain::clock::Timestamp;
use crate::domain::id::TenantId;
use crate::store::{IDEMPOTENCY_SECONDS, SweepLimits, SweepTask};

/// Sweeps at most `left` rows of a tenant, in the transaction of the connection, and counts them.
pub(super) async fn run(
    connection: &mut PgConnection,
    task: SweepTask,
    tenant: &TenantId,
    limits: SweepLimits,
    now: Timestamp,
    left: u64,
) -> Result<u64, Failure> {
    let sweep = Sweep { tenant: tenant.as_str(), now, limits };
    match task {
        SweepTask::ExpiredSessions => sweep.rows_with(connection, sweep_sql::EXPIRED_SESSIONS, left, IDEMPOTENCY_SECONDS).await,
        SweepTask::ExpiredVariables => sweep.rows_with(connection, sweep_sql::EXPIRED_VARIABLES, left, IDEMPOTENCY_SECONDS).await,
        SweepTask::VersionFloors => sweep.raise_floor(connection).await,
        SweepTask::Tombstones => sweep.tombstones(connection, left).await,
        SweepTask::IdempotencyKeys => sweep.rows(connection, sweep_sql::IDEMPOTENCY_KEYS, left).await,
        SweepTask::ChangeLog => sweep.rows_with(connection, sweep_sql::CHANGE_LOG, left, limits.log_seconds).await,
        SweepTask::RemovedExecutions => sweep.removed_executions(connection, left).await,
        // Autovacuum's.
        SweepTask::FreeSpace => Ok(0),
    }
}

struct Sweep<'a> {
    tenant: &'a str,
    now: Timestamp,
    limits: SweepLimits,
}

fn limit(left: u64) -> i64 {
    i64::try_from(left).unwrap_or(i64::MAX)
}

impl Sweep<'_> {
    async fn rows(&self, connection: &mut PgConnection, statement: &'static str, left: u64) -> Result<u64, Failure> {
        let query = sqlx::query(statement).bind(self.tenant).bind(self.now).bind(limit(left));
        Ok(query.execute(connection).await?.rows_affected())
    }

    /// With one more number, as $4.
    async fn rows_with(&self, connection: &mut PgConnection, statement: &'static str, left: u64, number: i64) -> Result<u64, Failure> {
        let query = sqlx::query(statement).bind(self.tenant).bind(self.now).bind(limit(left)).bind(number);
        Ok(query.execute(connection).await?.rows_affected())
    }

    async fn raise_floor(&self, connection: &mut PgConnection) -> Result<u64, Failure> {
        let query = sqlx::query(sweep_sql::RAISE_FLOOR).bind(self.tenant).bind(self.now);
        Ok(query.execute(connection).await?.rows_affected())
    }

    async fn tombstones(&self, connection: &mut PgConnection, left: u64) -> Result<u64, Failure> {
        let floor: Option<i64> = sqlx::query_scalar(sweep_sql::FLOOR)
            .bind(self.tenant)
            .bind(self.now)
            .bind(self.limits.floor_seconds)
            .fetch_optional(&mut *connection)
            .await?;
        let Some(floor) = floor else { return Ok(0) };
        let mut done = 0;
        for statement in TOMBSTONES {
            if done < left {
                done += self.rows_with(connection, statement, left - done, floor).await?;
            }
        }
        if done < left {
            done += self.heads(connection, left - done, floor).await?;
        }
        if done < left {
            sqlx::query(sweep_sql::FREE_FLOOR).bind(self.tenant).execute(connection).await?;
        }
        Ok(done)
    }

    async fn heads(&self, connection: &mut PgConnection, left: u64, floor: i64) -> Result<u64, Failure> {
        let locked: Vec<(String, String)> = sqlx::query_as(sweep_sql::LOCK_HEADS)
            .bind(self.tenant)
            .bind(self.now)
            .bind(limit(left))
            .bind(floor)
            .fetch_all(&mut *connection)
            .await?;
        if locked.is_empty() {
            return Ok(0);
        }
        let (workflows, executions): (Vec<String>, Vec<String>) = locked.into_iter().unzip();
        let removed = sqlx::query(sweep_sql::REMOVE_HEADS).bind(self.tenant).bind(&workflows).bind(&executions);
        let removed = removed.execute(&mut *connection).await?.rows_affected();
        let kept = sqlx::query(sweep_sql::KEEP_HEADS).bind(self.tenant).bind(&workflows).bind(&executions).bind(self.now);
        Ok(removed + kept.execute(connection).await?.rows_affected())
    }

    async fn removed_executions(&self, connection: &mut PgConnection, left: u64) -> Result<u64, Failure> {
        let mut done = 0;
        while done < left {
            let removed: Option<i64> =
                sqlx::query_scalar(sweep_sql::REMOVED_STATE).bind(self.tenant).fetch_optional(&mut *connection).await?;
            let Some(state_id) = removed else { break };
            for statement in OF_INCARNATION {
                let query = sqlx::query(statement).bind(self.tenant).bind(state_id).bind(limit(left - done));
                done += query.execute(&mut *connection).await?.rows_affected();
            }
            // With rows left to remove, the incarnation has none any more.
            if done < left {
                let query = sqlx::query(sweep_sql::REMOVED).bind(self.tenant).bind(state_id);
                done += query.execute(&mut *connection).await?.rows_affected();
            }
        }
        Ok(done)
    }
}
