//! The task of a lane: it takes what is waiting, begins groups, and hears of their end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::queue::{Job, Queue, Ticket};
use super::{Grouped, Shared, run};
use crate::store::StoreError;

/// Most groups that a lane has at work at once: of several tenants, or beside one that takes long.
const AT_ONCE: usize = 6;

/// A lane. It ends when it is closed, or nobody can submit any more, and everything is answered.
pub(super) struct Lane<R: Grouped> {
    shared: Arc<Shared>,
    receiver: mpsc::UnboundedReceiver<Job<R>>,
    /// Nothing will come any more.
    is_drained: bool,
    queue: Queue<R>,
    at_work: FuturesUnordered<BoxFuture<'static, Ticket<R::Key>>>,
    /// Not after the wait of the oldest request in the queue is over.
    look_at: Option<Instant>,
    closing: CancellationToken,
    _ended: DropGuard,
}

impl<R: Grouped> Lane<R> {
    /// A lane whose end `ended` tells.
    pub(super) fn new(
        shared: Arc<Shared>,
        receiver: mpsc::UnboundedReceiver<Job<R>>,
        closing: CancellationToken,
        ended: DropGuard,
    ) -> Self {
        let (queue, at_work) = (Queue::new(), FuturesUnordered::new());
        Self { shared, receiver, is_drained: false, queue, at_work, look_at: None, closing, _ended: ended }
    }

    /// Serves until the end.
    pub(super) async fn run(mut self) {
        while AssertUnwindSafe(self.serve()).catch_unwind().await.is_err() {
            tracing::error!(table = R::TABLE, "a lane broke off and begins anew");
            // What it had taken is in no known state: its callers hear that the outcome is unknown.
            self.queue = Queue::new();
            self.at_work = FuturesUnordered::new();
        }
    }

    async fn serve(&mut self) {
        loop {
            self.take_all();
            let now = Instant::now();
            self.begin(now);
            if self.is_drained && self.queue.is_empty() && self.at_work.is_empty() {
                return;
            }
            let wake = self.next_wake(now);
            tokio::select! {
                () = self.closing.cancelled(), if !self.receiver.is_closed() => self.receiver.close(),
                received = self.receiver.recv(), if !self.is_drained => match received {
                    Some(job) => self.take(job),
                    None => self.is_drained = true,
                },
                Some(ticket) = self.at_work.next(), if !self.at_work.is_empty() => self.queue.end(&ticket),
                () = tokio::time::sleep_until(wake.unwrap_or(now)), if wake.is_some() => self.expire(),
            }
        }
    }

    fn take(&mut self, job: Job<R>) {
        if self.queue.is_empty() {
            self.look_at = Some(job.queued_at + self.shared.limits.queue_wait);
        }
        self.queue.push(job);
    }

    /// Takes all that is waiting, so that it goes into the group that begins now.
    fn take_all(&mut self) {
        while let Ok(job) = self.receiver.try_recv() {
            self.take(job);
        }
    }

    fn begin(&mut self, now: Instant) {
        while self.at_work.len() < AT_ONCE
            && let Some(group) = self.queue.next_group(now, &self.shared.limits)
        {
            self.at_work.push(run::run(Arc::clone(&self.shared), group).boxed());
        }
    }

    /// When something is to be done although nothing comes and nothing ends.
    fn next_wake(&mut self, now: Instant) -> Option<Instant> {
        if self.queue.is_empty() {
            self.look_at = None;
            return None;
        }
        let patience = if self.at_work.len() < AT_ONCE { self.queue.next_patience(now) } else { None };
        patience.into_iter().chain(self.look_at).min()
    }

    /// Answers those that have waited for too long: nothing was written.
    fn expire(&mut self) {
        let (now, limit) = (Instant::now(), self.shared.limits.queue_wait);
        if self.look_at.is_none_or(|moment| moment > now) {
            return;
        }
        for job in now.checked_sub(limit).map(|before| self.queue.expire(before)).unwrap_or_default() {
            let why = "other requests in the queue did not end in time";
            // Of a database that is away one group after the other finds that out, each by its own time limit.
            let answers = self.shared.runner.pool.answers_since(job.begun);
            let _ = job.reply.send(Err(if answers { StoreError::Contended(why.into()) } else { StoreError::Unavailable(why.into()) }));
        }
        self.look_at = self.queue.oldest().map(|moment| moment + limit);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::super::{GroupLimits, Lanes};
    use super::*;
    use crate::domain::clock::Clock;
    use crate::domain::commit::NoObserver;
    use crate::domain::id::TenantId;
    use crate::domain::store_life::StoreLife;
    use crate::lifecycle::Lifecycle;
    use crate::store::postgres::failure::Failure;
    use crate::store::postgres::observer::Observer;
    use crate::store::postgres::pool::Pool;
    use crate::store::postgres::work::Runner;

    /// A request that breaks the lane that looks at it, or none.
    struct Asked {
        tenant: TenantId,
        breaks: bool,
    }

    impl Grouped for Asked {
        type Answer = ();
        type Key = bool;
        const TABLE: &'static str = "nothing";
        const WRITES: bool = true;
        const TOGETHER: usize = 1;

        fn tenant(&self) -> &TenantId {
            &self.tenant
        }

        fn key(&self) -> &bool {
            &self.breaks
        }

        fn bytes(&self) -> usize {
            assert!(!self.breaks, "as a fault in a lane would");
            0
        }

        async fn run(_: &Runner, _: &TenantId, rows: &[Self]) -> std::result::Result<Vec<()>, Failure> {
            Ok(rows.iter().map(|_| ()).collect())
        }
    }

    #[tokio::test]
    async fn a_lane_that_breaks_off_begins_anew() {
        let second = Duration::from_secs(60);
        let pool = Pool::new(sqlx::PgPool::connect_lazy("postgres://127.0.0.1:1/none").unwrap(), 8, second, None);
        let runner =
            Arc::new(Runner::new(pool, Clock::new(), StoreLife::database(Clock::new()), second, None, Observer::new(Arc::new(NoObserver))));
        let limits = GroupLimits { queue_capacity: 8, queue_wait: second, lanes: 1, rows: 8, bytes: 1000, places: 2, place_wait: second };
        let lifecycle = Lifecycle::new();
        let lanes = Lanes::start(&Arc::new(Shared { runner, limits, places: Semaphore::new(2) }), &lifecycle);
        let ask = |breaks| lanes.submit(Asked { tenant: TenantId::parse("t").unwrap(), breaks });
        for _ in 0..3 {
            assert!(ask(false).await.is_ok());
            // Whether it was written nobody knows: that is what its caller hears.
            assert!(matches!(ask(true).await, Err(StoreError::OutcomeUnknown(_))));
        }
        assert!(ask(false).await.is_ok());
    }
}
