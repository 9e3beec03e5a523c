//! Running a piece of work in a transaction: time limits, second attempts, and the answer to a COMMIT whose answer was lost.

use std::collections::HashSet;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgConnection;

use super::epoch::{self, Epoch, Fate, Mark};
use super::failure::Failure;
use super::observer::{Observer, Told};
use super::pool::Pool;
use super::retries::Retries;
use super::transaction::{self, Durability, Limits};
use crate::deadline;
use crate::domain::clock::Clock;
use crate::domain::commit::Change;
use crate::domain::id::TenantId;
use crate::domain::store_life::StoreLife;
use crate::store::StoreError;

/// A server that has not answered for so long is not waited for.
const SILENCE: Duration = Duration::from_millis(1500);
/// Pause between two looks of a read at work whether the server is silent.
const SILENCE_LOOK: Duration = Duration::from_millis(250);
/// Tenants whose row is known to exist. Only a hint that spares a statement: when full it is emptied.
const MAX_KNOWN_TENANTS: usize = 10_000;

/// Statements that run in one transaction.
pub(super) trait Work: Sync {
    /// What they answer.
    type Output: Send;
    /// What they are about, for errors.
    const TABLE: &'static str;

    /// Runs them. `offset` is the clock's, in microseconds.
    fn run(&self, connection: &mut PgConnection, offset: i64) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// What a write answers, when its transaction commits.
pub(super) struct Written<T> {
    /// How the transaction can be told afterwards, when it has anything to commit.
    mark: Option<Mark>,
    /// The answer.
    output: T,
    /// What the transaction changes, for the observer.
    changes: Vec<Change>,
    is_kept: bool,
}

impl<T> Written<T> {
    /// The transaction is to be committed.
    pub(super) fn kept(mark: Option<Mark>, output: T, changes: Vec<Change>) -> Self {
        Self { mark, output, changes, is_kept: true }
    }

    /// Whatever the transaction has done is to be undone: the answer is that nothing was written.
    pub(super) fn nothing(output: T) -> Self {
        Self { mark: None, output, changes: Vec::new(), is_kept: false }
    }
}

/// The tenants that have a row.
#[derive(Debug, Default)]
pub(super) struct KnownTenants(Mutex<HashSet<TenantId>>);

impl KnownTenants {
    fn contains(&self, tenant: &TenantId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(tenant)
    }

    fn insert(&self, tenant: &TenantId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN_TENANTS {
            known.clear();
        }
        known.insert(tenant.clone());
    }
}

/// Runs transactions, for requests and for lanes.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) pool: Pool,
    pub(super) clock: Clock,
    /// Tells whether the server answers.
    life: StoreLife,
    /// The time that the server gives a statement.
    statement_limit: Duration,
    tenants: KnownTenants,
    retries: Retries,
    /// Unknown when the server does not tell.
    epoch: Mutex<Option<Epoch>>,
    observer: Observer,
    /// Transactions that changed something, and the changes in them.
    groups: AtomicU64,
    rows: AtomicU64,
}

impl Runner {
    /// A runner of a server that was in this epoch when it was opened.
    pub(super) fn new(
        pool: Pool,
        clock: Clock,
        life: StoreLife,
        statement_limit: Duration,
        epoch: Option<Epoch>,
        observer: Observer,
    ) -> Self {
        Self {
            pool,
            life,
            clock,
            statement_limit,
            tenants: KnownTenants::default(),
            retries: Retries::default(),
            epoch: Mutex::new(epoch),
            observer,
            groups: AtomicU64::new(0),
            rows: AtomicU64::new(0),
        }
    }

    /// Transactions that changed something, since the start.
    pub(super) fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// The changes in them.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Where and within which limits transactions of the request at work run.
    pub(super) fn limits(&self) -> Limits<'_> {
        self.limits_of(&self.pool)
    }

    /// The same on another pool.
    pub(super) fn limits_of<'a>(&self, pool: &'a Pool) -> Limits<'a> {
        let statement = self.statement_limit;
        Limits { pool, answer: statement + transaction::GRACE, statement, deadline: deadline::current() }
    }

    /// Runs a read. It has no effect, so it may be begun again after any loss of the connection.
    ///
    /// # Errors
    /// The last attempt's failure.
    pub(super) async fn read<W: Work>(&self, tenant: &TenantId, work: &W) -> Result<W::Output, Failure> {
        let mut attempts = self.retries.begin();
        loop {
            match self.try_read(tenant, work).await {
                Err(failure) if attempts.again(&failure).await => tracing::debug!(?failure, table = W::TABLE, "a read is begun again"),
                ended => return ended,
            }
        }
    }

    async fn try_read<W: Work>(&self, tenant: &TenantId, work: &W) -> Result<W::Output, Failure> {
        self.check_answers()?;
        let offset = self.clock.offset_microseconds();
        let reading = transaction::read(self.limits(), Some(tenant), async |connection| work.run(connection, offset).await);
        tokio::select! {
            biased;
            answer = reading => answer,
            failure = self.silence() => Err(failure),
        }
    }

    /// Refuses at once what would only wait for its time limit: the server was asked lately whether it is there, and no connection has heard
    /// of it since. It is asked every second, so this ends soon after it is back.
    fn check_answers(&self) -> Result<(), Failure> {
        let is_silent = self.life.away_for().is_some_and(|away| away >= SILENCE) && self.pool.is_quiet_for(SILENCE);
        if is_silent { Err(StoreError::Unavailable("the server has not answered lately".into()).into()) } else { Ok(()) }
    }

    /// Ends when the server is found to be silent.
    async fn silence(&self) -> Failure {
        loop {
            tokio::time::sleep(SILENCE_LOOK).await;
            if let Err(failure) = self.check_answers() {
                return failure;
            }
        }
    }

    /// Runs a write; once more after a failure that is known to have written nothing and is likely to pass.
    ///
    /// # Errors
    /// The last attempt's failure. All but [`StoreError::OutcomeUnknown`] have written nothing.
    pub(super) async fn write<T: Send, W: Work<Output = Written<T>>>(&self, tenant: &TenantId, work: &W) -> Result<T, Failure> {
        let mut attempts = self.retries.begin();
        loop {
            match self.try_write(tenant, work).await {
                Err(failure) if attempts.again(&failure).await => tracing::debug!(?failure, table = W::TABLE, "a write is begun again"),
                ended => return ended,
            }
        }
    }

    /// One transaction. Every failure but [`StoreError::OutcomeUnknown`] has written nothing.
    async fn try_write<T: Send, W: Work<Output = Written<T>>>(&self, tenant: &TenantId, work: &W) -> Result<T, Failure> {
        self.check_answers()?;
        let epoch = self.epoch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_known = self.tenants.contains(tenant);
        let offset = self.clock.offset_microseconds();
        let is_kept = |(written, _): &(Written<T>, Told<'_>)| written.is_kept;
        let beside = async |(_, told): &(Written<T>, Told<'_>)| told.remind().await;
        let ((written, told), committed) =
            transaction::write(self.limits(), tenant, Durability::Full, is_kept, beside, async |connection| {
                if !is_known {
                    let insert = sqlx::query("INSERT INTO tenant (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING");
                    insert.bind(tenant.as_str()).execute(&mut *connection).await?;
                }
                let mut written = work.run(connection, offset).await?;
                if written.mark.is_none() && !written.changes.is_empty() {
                    written.mark = Mark::read(connection, tenant).await?;
                }
                // The last thing before COMMIT, so that nothing can fail between them.
                let told = self.observer.before_commit(std::mem::take(&mut written.changes)).await;
                let told = told.map_err(|objection| StoreError::Refused(objection.into()))?;
                Ok((written, told))
            })
            .await?;
        let settled = match committed {
            Ok(()) => Ok(()),
            Err(failure) => tokio::select! {
                biased;
                settled = self.settle(failure, tenant, written.mark.as_ref(), epoch.as_ref()) => settled,
                never = told.remind() => match never {},
            },
        };
        let writes = told.count();
        match settled {
            Ok(()) => told.committed(),
            Err(failure @ Failure::Store(StoreError::OutcomeUnknown(_))) => {
                // Nobody knows: that is what its end without a word says.
                drop(told);
                return Err(failure);
            }
            Err(failure) => {
                told.rolled_back();
                return Err(failure);
            }
        }
        if written.is_kept {
            self.tenants.insert(tenant);
        }
        if writes > 0 {
            self.groups.fetch_add(1, Ordering::Relaxed);
            self.rows.fetch_add(writes, Ordering::Relaxed);
        }
        Ok(written.output)
    }

    /// Runs a write that is only a hint, which a crash of the database may take away: without version, observer or row of its tenant.
    pub(super) async fn hint<W: Work>(&self, tenant: &TenantId, work: &W) -> Result<W::Output, StoreError> {
        let mut attempts = self.retries.begin();
        loop {
            let offset = self.clock.offset_microseconds();
            let run = transaction::write(
                self.limits(),
                tenant,
                Durability::Relaxed,
                |_| true,
                async |_| pending().await,
                async |connection| work.run(connection, offset).await,
            );
            match run.await.and_then(|(output, committed)| committed.map(|()| output)) {
                Ok(output) => return Ok(output),
                Err(failure) if attempts.again(&failure).await => tracing::debug!(?failure, table = W::TABLE, "a hint is written again"),
                Err(failure) => return Err(failure.into_store_error(W::TABLE)),
            }
        }
    }

    /// Finds out whether a transaction is committed although COMMIT failed. Without a mark it had nothing to commit that counts.
    async fn settle(&self, failure: Failure, tenant: &TenantId, mark: Option<&Mark>, epoch: Option<&Epoch>) -> Result<(), Failure> {
        if !failure.lost_connection() {
            return Err(failure);
        }
        let Some(mark) = mark else { return Ok(()) };
        let (fate, now) = match epoch {
            Some(epoch) => epoch::fate_of(Limits { deadline: None, ..self.limits() }, tenant, mark, epoch).await,
            None => (Fate::Unknown, None),
        };
        if now.is_some() {
            *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
        tracing::warn!(?fate, ?failure, "the answer to a COMMIT was lost");
        match fate {
            Fate::Committed => Ok(()),
            Fate::RolledBack => Err(failure),
            Fate::Unknown => {
                let cause = match failure {
                    Failure::Driver(error) => error.into(),
                    _ => "the server did not answer COMMIT in time".into(),
                };
                Err(StoreError::OutcomeUnknown(cause).into())
            }
        }
    }
}
