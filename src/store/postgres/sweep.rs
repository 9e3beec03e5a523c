//! Housekeeping: steps that walk the tenants, each in a short transaction of its own, on connections apart from those of requests.
//!
//! One server at a time: a step holds an advisory lock in a transaction that does nothing else, so it is free again however the step ends.
//! That transaction writes nothing, so it stands in nobody's way.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::PostgresStore;
use super::failure::Failure;
use super::pool::Pool;
use super::sweep_task;
use super::transaction::{self, Durability, Limits};
use crate::domain::clock::Timestamp;
use crate::domain::id::TenantId;
use crate::store::{Result, StoreError, SweepLimits, SweepTask, Swept};

/// The sweeper's connections: one holds the lock, the other works.
pub(super) const CONNECTIONS: u32 = 2;
/// Key of the advisory lock.
const LOCK: i64 = 0x6e77_6f72_6b73_7765;
/// Tenants that are read at a time.
const TENANTS: i64 = 500;

const NEXT_TENANTS: &str = "SELECT t.tenant_id FROM tenant t WHERE t.tenant_id > $1 ORDER BY t.tenant_id LIMIT $2";

/// The sweeper of this process.
#[derive(Debug)]
pub(super) struct Sweeper {
    pool: Pool,
    /// Longest time of a statement, and time after which a step ends with the next tenant.
    budget: Duration,
    /// Of each task the last tenant that is done, while more of them follow: so that a busy tenant does not keep the others waiting.
    places: Mutex<HashMap<&'static str, TenantId>>,
}

impl Sweeper {
    /// A sweeper that has not connected yet. No statement on the pool's connections takes longer than `budget`.
    pub(super) fn new(pool: Pool, budget: Duration) -> Self {
        Self { pool, budget, places: Mutex::default() }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    fn limits(&self) -> Limits<'_> {
        // A step is the work of the transaction that holds the lock: a statement may begin just before its time is over.
        Limits { pool: &self.pool, answer: self.budget * 2 + transaction::GRACE, statement: self.budget, deadline: None }
    }

    fn place(&self, task: SweepTask) -> Option<TenantId> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).get(task.as_str()).cloned()
    }

    fn set_place(&self, task: SweepTask, place: Option<TenantId>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        match place {
            Some(place) => places.insert(task.as_str(), place),
            None => places.remove(task.as_str()),
        };
    }

    /// One step of a task. `offset` is the clock's, in microseconds.
    async fn step(&self, task: SweepTask, limits: SweepLimits, offset: i64) -> std::result::Result<Swept, Failure> {
        transaction::hold(self.limits(), async |connection| {
            // In one text without parameters, so that no portal keeps a snapshot while the transaction is idle.
            let statement = format!(
                "SELECT pg_try_advisory_xact_lock({LOCK}) AS is_ours,
                        ((extract(epoch FROM clock_timestamp()) * 1000000)::int8 + {offset})::text AS now"
            );
            let row = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_one(connection).await?;
            if !row.try_get::<bool, _>("is_ours")? {
                return Ok(Swept { busy: true, ..Swept::default() });
            }
            let now: &str = row.try_get("now")?;
            let now = now.parse().map(Timestamp::from_microseconds).map_err(|_| Failure::corrupt("the server has no time"))?;
            self.walk(task, limits, now).await
        })
        .await
    }

    /// Walks the tenants until the rows or the time are used up.
    async fn walk(&self, task: SweepTask, limits: SweepLimits, now: Timestamp) -> std::result::Result<Swept, Failure> {
        let begun = Instant::now();
        let mut swept = Swept::default();
        let mut last = self.place(task);
        loop {
            let tenants = self.tenants_behind(last.as_ref()).await?;
            if tenants.is_empty() {
                self.set_place(task, None);
                return Ok(swept);
            }
            for tenant in tenants {
                let left = u64::from(limits.rows).saturating_sub(swept.rows);
                if left == 0 || begun.elapsed() >= self.budget {
                    self.set_place(task, last);
                    return Ok(Swept { more: true, ..swept });
                }
                let rows = self.sweep_tenant(task, &tenant, limits, now, left).await?;
                swept.rows += rows;
                // A tenant that has used up the rows may have more.
                if rows < left {
                    last = Some(tenant);
                }
            }
        }
    }

    async fn tenants_behind(&self, last: Option<&TenantId>) -> std::result::Result<Vec<TenantId>, Failure> {
        let tenants: Vec<String> = transaction::read(self.limits(), None, async |connection| {
            // No id is empty, so all of them lie behind the empty one.
            let query = sqlx::query_scalar(NEXT_TENANTS).bind(last.map_or("", TenantId::as_str)).bind(TENANTS);
            Ok(query.fetch_all(connection).await?)
        })
        .await?;
        tenants.iter().map(|id| TenantId::parse(id).map_err(|why| Failure::corrupt(format!("tenant_id {why}")))).collect()
    }

    /// One transaction. It may be lost in a crash, then the next step does it again: of the two phases of a removal, no later one
    /// survives an earlier one that is lost.
    async fn sweep_tenant(
        &self,
        task: SweepTask,
        tenant: &TenantId,
        limits: SweepLimits,
        now: Timestamp,
        rows: u64,
    ) -> std::result::Result<u64, Failure> {
        let work = async |connection: &mut PgConnection| sweep_task::run(connection, task, tenant, limits, now, rows).await;
        let (rows, committed) =
            transaction::write(self.limits(), tenant, Durability::Relaxed, |_| true, async |_| pending().await, work).await?;
        committed?;
        Ok(rows)
    }
}

impl PostgresStore {
    /// One step of housekeeping.
    pub(super) async fn sweep_step(&self, task: SweepTask, limits: SweepLimits) -> Result<Swept> {
        if task == SweepTask::FreeSpace {
            return Ok(Swept::default());
        }
        let swept = self.sweeper.step(task, limits, self.runner.clock.offset_microseconds()).await;
        swept.map_err(|failure| match failure {
            // An outcome does not matter here: the next step sees it.
            Failure::Store(error) => error,
            failure if failure.lost_connection() => StoreError::Unavailable(format!("{} broke off: {failure:?}", task.as_str()).into()),
            failure => failure.into_store_error("tenant"),
        })
    }
}
