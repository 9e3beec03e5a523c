//! Group commit: requests of one kind that wait at the same moment are answered by one statement in one transaction.
//!
//! Every kind of request has a bounded queue and some lanes. A key always goes to the same lane, and a lane never has two writes of one key,
//! or of one idempotency key, at work at once: the second one waits for the next group, in its order. A lane takes what is waiting, without any
//! timer, so a request that comes alone is begun at once. Groups are of one tenant, because a transaction is.
//!
//! - `queue`: what waits, and what of it may go into the next group.
//! - `lane`: the task that begins groups and hears of their end.
//! - `run`: one group from its transaction to its answers.
//! - `kinds`: which requests there are.

mod kinds;
mod lane;
mod queue;
mod run;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, TryAcquireError, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::lane::Lane;
use self::queue::Job;
use super::failure::Failure;
use super::work::Runner;
use crate::config::DatabaseConfig;
use crate::deadline;
use crate::domain::id::TenantId;
use crate::lifecycle::Lifecycle;
use crate::store::{Result, StoreError};

pub(super) use self::kinds::Groups;

const CLOSED: &str = "the store is closed";

/// A request that can be answered together with others of its kind.
pub(super) trait Grouped: Send + Sync + Sized + 'static {
    /// What the caller is told.
    type Answer: Send + 'static;
    /// What it is about, within its tenant.
    type Key: Hash + Eq + Clone + Send + Sync + 'static;
    /// What it is about, for errors.
    const TABLE: &'static str;
    /// Whether it writes: then no two of the same key or idempotency key are at work at once, and it happens although nobody waits for it.
    const WRITES: bool;
    /// How many groups of one tenant a lane has at work at once, as long as none of them takes long.
    const TOGETHER: usize;

    /// The tenant, which all of a group have in common.
    fn tenant(&self) -> &TenantId;

    /// What it is about.
    fn key(&self) -> &Self::Key;

    /// Its idempotency key, when it has one.
    fn idempotency(&self) -> Option<Uuid> {
        None
    }

    /// Bytes of its document, about.
    fn bytes(&self) -> usize {
        0
    }

    /// Answers requests of one tenant in one transaction, each for itself and in their order.
    fn run(
        runner: &Runner,
        tenant: &TenantId,
        rows: &[Self],
    ) -> impl Future<Output = std::result::Result<Vec<Self::Answer>, Failure>> + Send;
}

/// Limits of groups and of the queues in front of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupLimits {
    /// Most requests of a kind that wait.
    queue_capacity: usize,
    /// Longest wait of one of them.
    queue_wait: Duration,
    /// Lanes of a kind.
    lanes: usize,
    /// Most rows of a group.
    rows: usize,
    /// A group takes no further row once its documents hold so many bytes.
    bytes: usize,
    /// Most groups at work, of all kinds together: a part of the pool is left to everything else.
    places: usize,
    /// Longest wait for one of these places.
    place_wait: Duration,
}

impl GroupLimits {
    /// The limits in these settings.
    pub(super) fn of(config: &DatabaseConfig) -> Self {
        let connections = usize::try_from(config.pool_size).unwrap_or(usize::MAX);
        Self {
            queue_capacity: config.queue_capacity,
            queue_wait: config.queue_timeout_ms.into(),
            lanes: config.lanes.max(1),
            rows: config.group_writes.max(1),
            bytes: config.group_bytes,
            places: (connections - connections / 4).max(1),
            place_wait: config.pool_wait_ms.into(),
        }
    }
}

/// What all lanes have in common.
#[derive(Debug)]
struct Shared {
    runner: Arc<Runner>,
    limits: GroupLimits,
    places: Semaphore,
}

/// The queue of a kind of request, and the way to its lanes.
pub(super) struct Lanes<R: Grouped> {
    lanes: Box<[mpsc::UnboundedSender<Job<R>>]>,
    /// Places in the queue. A request keeps its own until a group takes it.
    queue: Arc<Semaphore>,
    hasher: RandomState,
    shared: Arc<Shared>,
    closing: CancellationToken,
    ended: Vec<CancellationToken>,
}

impl<R: Grouped> fmt::Debug for Lanes<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("table", &R::TABLE).field("depth", &self.depth_and_capacity().0).finish_non_exhaustive()
    }
}

impl<R: Grouped> Lanes<R> {
    /// Starts the lanes as tasks of `lifecycle`. They end when they are closed, or when nobody can submit any more.
    fn start(shared: &Arc<Shared>, lifecycle: &Lifecycle) -> Self {
        let (closing, mut lanes, mut ended) = (CancellationToken::new(), Vec::new(), Vec::new());
        for _ in 0..shared.limits.lanes {
            let (sender, receiver) = mpsc::unbounded_channel();
            let end = CancellationToken::new();
            let lane = Lane::new(Arc::clone(shared), receiver, closing.clone(), end.clone().drop_guard());
            // Not joined: `ended` tells, whichever way the task ends.
            drop(lifecycle.spawn(lane.run()));
            lanes.push(sender);
            ended.push(end);
        }
        let queue = Arc::new(Semaphore::new(shared.limits.queue_capacity));
        Self { lanes: lanes.into(), queue, hasher: RandomState::new(), shared: Arc::clone(shared), closing, ended }
    }

    /// Queues a request and waits for its answer. A write that is queued happens, whether or not someone still waits, unless it waits for
    /// longer than the queue's limit, or until the deadline of its request.
    ///
    /// # Errors
    /// [`StoreError::Full`]: the queue is. [`StoreError::Unavailable`]: the store is closed. [`StoreError::Contended`] or
    /// [`StoreError::Late`]: it waited for too long. Else
    /// whatever kept its group, or itself alone, from being answered.
    async fn submit(&self, row: R) -> Result<R::Answer> {
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => StoreError::Full,
            TryAcquireError::Closed => StoreError::Unavailable(CLOSED.into()),
        })?;
        let (reply, answer) = oneshot::channel();
        let lane = self.lane(&row);
        let job =
            Job { row, reply, queued_at: Instant::now(), deadline: deadline::current(), begun: self.shared.runner.pool.begun(), place };
        if lane.is_none_or(|lane| lane.send(job).is_err()) {
            return Err(StoreError::Unavailable(CLOSED.into()));
        }
        answer.await.unwrap_or_else(|_| {
            let why = "the lane broke off without an answer";
            Err(if R::WRITES { StoreError::OutcomeUnknown(why.into()) } else { StoreError::Internal(why.into()) })
        })
    }

    fn lane(&self, row: &R) -> Option<&mpsc::UnboundedSender<Job<R>>> {
        let hash = self.hasher.hash_one((row.tenant(), row.key()));
        self.lanes.get(usize::try_from(hash % self.lanes.len().max(1) as u64).unwrap_or_default())
    }

    /// How many wait, and how many may.
    fn depth_and_capacity(&self) -> (u64, u64) {
        let capacity = self.shared.limits.queue_capacity;
        (capacity.saturating_sub(self.queue.available_permits()) as u64, capacity as u64)
    }

    /// Takes no further requests. What it answers tells the end of the lanes, which comes when all that they have is answered.
    fn close(&self) -> Vec<CancellationToken> {
        self.queue.close();
        self.closing.cancel();
        self.ended.clone()
    }
}
