//! The pool, and whether what is behind it answers: a pool that is busy is no database that is away.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{Error, Postgres};

use super::failure::Failure;
use crate::domain::store_life::StoreLife;
use crate::store::StoreError;

tokio::task_local! {
    /// Of work that has waited for something else before: until when it waits for a connection.
    static WAIT_UNTIL: tokio::time::Instant;
}

/// Does work that waits for a connection until then at most, while all are busy.
pub(super) async fn waiting_until<T>(until: tokio::time::Instant, work: impl Future<Output = T>) -> T {
    WAIT_UNTIL.scope(until, work).await
}

/// Connections, and the transactions on them.
#[derive(Debug)]
pub(super) struct Pool {
    connections: PgPool,
    at_work: AtomicUsize,
    waiting: AtomicUsize,
    most_waiting: usize,
    longest_wait: Duration,
    /// Tells whether the server answers, where that is asked.
    life: Option<StoreLife>,
    begun: AtomicU64,
    made: Instant,
    /// When the last transaction began, in milliseconds since the pool was made.
    last_begun: AtomicU64,
}

/// How many transactions have begun, at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Begun(u64);

/// A transaction that has begun and has not ended.
#[derive(Debug)]
pub(super) struct AtWork<'a>(&'a Pool);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A caller who waits for a connection.
#[derive(Debug)]
struct Seat<'a>(&'a Pool);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pool {
    /// A pool for whose connections so many may wait, and for so long while all of them are busy.
    pub(super) fn new(connections: PgPool, most_waiting: usize, longest_wait: Duration, life: Option<StoreLife>) -> Self {
        Self {
            connections,
            at_work: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            most_waiting,
            longest_wait,
            life,
            begun: AtomicU64::new(0),
            made: Instant::now(),
            last_begun: AtomicU64::new(0),
        }
    }

    /// Most connections.
    pub(super) fn size(&self) -> u32 {
        self.connections.options().get_max_connections()
    }

    /// Open connections.
    pub(super) fn connections(&self) -> u32 {
        self.connections.size()
    }

    /// Those of them that nobody uses.
    pub(super) fn idle_connections(&self) -> u32 {
        u32::try_from(self.connections.num_idle()).unwrap_or(u32::MAX)
    }

    /// A connection. Whether it lives is for BEGIN to find out.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, Failure> {
        let before = self.begun();
        let acquired = match self.take_seat()? {
            Some(_seat) => match tokio::time::timeout_at(self.wait_until(), self.connections.acquire()).await {
                Ok(acquired) => acquired,
                Err(_) if self.answers_lately(before) => return Err(StoreError::Contended("all connections are busy".into()).into()),
                Err(_) => Err(Error::PoolTimedOut),
            },
            None => self.connections.acquire().await,
        };
        acquired.map_err(|error| match error {
            Error::PoolTimedOut if self.answers_since(before) => StoreError::Contended("all connections are busy".into()).into(),
            error => Failure::Unconnected(error),
        })
    }

    /// How long whoever comes now waits while all connections are busy.
    fn wait_until(&self) -> tokio::time::Instant {
        let now = tokio::time::Instant::now();
        // Who has used up the time on the way here still gets what is free a moment later.
        WAIT_UNTIL.try_with(|until| *until).map_or(now + self.longest_wait, |until| until.max(now + self.longest_wait / 10))
    }

    /// A seat among those who wait, when all connections are busy.
    fn take_seat(&self) -> Result<Option<Seat<'_>>, Failure> {
        if self.idle_connections() > 0 || self.connections() < self.size() {
            return Ok(None);
        }
        let seat = Seat(self);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most_waiting { Err(StoreError::Full.into()) } else { Ok(Some(seat)) }
    }

    /// Counts a transaction that the server has begun, until the guard is dropped.
    pub(super) fn count(&self) -> AtWork<'_> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.last_begun.store(self.milliseconds(), Ordering::Relaxed);
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(self)
    }

    fn milliseconds(&self) -> u64 {
        self.made.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }

    /// Whether no transaction has begun for this long, though there may have been none to begin.
    pub(super) fn is_quiet_for(&self, time: Duration) -> bool {
        let quiet = self.milliseconds().saturating_sub(self.last_begun.load(Ordering::Relaxed));
        u128::from(quiet) >= time.as_millis()
    }

    /// The moment from which [`Pool::answers_since`] counts.
    pub(super) fn begun(&self) -> Begun {
        Begun(self.begun.load(Ordering::Relaxed))
    }

    /// Whether a transaction has begun since that moment, or is at work: the server answers, although not this caller.
    pub(super) fn answers_since(&self, before: Begun) -> bool {
        self.at_work.load(Ordering::Relaxed) > 0 || self.begun.load(Ordering::Relaxed) != before.0
    }

    /// The same for whoever has waited for a moment only, in which a slow server begins nothing.
    pub(super) fn answers_lately(&self, before: Begun) -> bool {
        self.answers_since(before) || self.life.as_ref().is_some_and(|life| life.away_for().is_none())
    }

    /// Waits for transactions at work and closes the connections.
    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}
