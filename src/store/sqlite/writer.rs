//! The one writer: a task that owns the one connection that writes.
//!
//! It takes what is waiting in its queue, no timer, as one group into one transaction: each write in a savepoint of its own, so that a
//! bad one fails alone, then one commit, one flush, and all answers. It serves until the store is closed, also while the process is
//! stopping: the requests at work finish then.

use std::fs::File;

use async_trait::async_trait;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::GroupFailure;
use crate::domain::clock::{Clock, Timestamp};
use crate::lifecycle::Lifecycle;
use crate::store::{Outcome, Result, StoreError};

/// Writes that may wait; further ones are refused as unavailable.
const QUEUE_CAPACITY: usize = 1024;
/// Most writes of one group.
const GROUP_WRITES: usize = 256;
/// A group takes no further write once its documents hold this many bytes, so that one transaction stays small beside the log.
const GROUP_BYTES: usize = 16 * 1024 * 1024;

/// A write: what happens between the beginning and the end of its savepoint.
#[async_trait]
pub(super) trait Write: Send + Sync + 'static {
    /// What is there once it was applied.
    type Record: Send + 'static;

    /// Bytes of its document, about.
    fn bytes(&self) -> usize;

    /// Does it. An error undoes all of it.
    async fn apply(&self, connection: &mut SqliteConnection, now: Timestamp) -> Result<Outcome<Self::Record>>;
}

/// The way to the writer task.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Queued>>,
    closing: CancellationToken,
    ended: CancellationToken,
}

impl Writer {
    /// Starts the task. It keeps `lock` until its connection is closed.
    pub(super) fn start(connection: SqliteConnection, lock: File, clock: Clock, lifecycle: &Lifecycle) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE_CAPACITY);
        let (closing, ended) = (CancellationToken::new(), CancellationToken::new());
        let task = Task { connection, receiver, closing: closing.clone(), clock, lock, ended: ended.clone().drop_guard() };
        // Not joined: `ended` tells, whichever way the task ends.
        drop(lifecycle.spawn(task.run()));
        Self { queue, closing, ended }
    }

    /// Queues a write and waits for its outcome. Once queued it happens, whether or not someone still waits.
    pub(super) async fn submit<W: Write>(&self, write: W) -> Result<Outcome<W::Record>> {
        let (reply, outcome) = oneshot::channel();
        let job = Box::new(Job { write, reply, outcome: None });
        self.queue.try_send(job).map_err(|error| {
            StoreError::Unavailable(match error {
                mpsc::error::TrySendError::Full(_) => "the queue of the writer is full".into(),
                mpsc::error::TrySendError::Closed(_) => CLOSED.into(),
            })
        })?;
        outcome.await.unwrap_or_else(|_| Err(StoreError::OutcomeUnknown("the writer ended without an answer".into())))
    }

    /// Whether the task serves.
    pub(super) fn check(&self) -> Result<()> {
        if self.queue.is_closed() { Err(StoreError::Unavailable(CLOSED.into())) } else { Ok(()) }
    }

    /// Takes no further writes, waits for those in the queue, and for the connection and the lock to be given up.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.ended.cancelled().await;
    }
}

const CLOSED: &str = "the store is closed";

/// A write of any type with the way back to its caller.
#[async_trait]
trait Queued: Send {
    fn bytes(&self) -> usize;
    /// Does the write and keeps its outcome; `false`: it failed and must be undone.
    async fn run(&mut self, connection: &mut SqliteConnection, now: Timestamp) -> bool;
    /// Tells the outcome, or the failure of the whole group.
    fn settle(self: Box<Self>, failure: Option<&GroupFailure>);
}

struct Job<W: Write> {
    write: W,
    reply: oneshot::Sender<Result<Outcome<W::Record>>>,
    outcome: Option<Result<Outcome<W::Record>>>,
}

#[async_trait]
impl<W: Write> Queued for Job<W> {
    fn bytes(&self) -> usize {
        self.write.bytes()
    }

    async fn run(&mut self, connection: &mut SqliteConnection, now: Timestamp) -> bool {
        let outcome = self.write.apply(connection, now).await;
        let applied = outcome.is_ok();
        self.outcome = Some(outcome);
        applied
    }

    fn settle(self: Box<Self>, failure: Option<&GroupFailure>) {
        let Self { reply, outcome, .. } = *self;
        let answer = match (outcome, failure) {
            (Some(Err(error)), _) => Err(error),
            (_, Some(failure)) => Err(failure.to_error()),
            (Some(outcome), None) => outcome,
            (None, None) => Err(StoreError::Internal("a write was skipped".into())),
        };
        // The caller may have gone away; the write happened all the same.
        let _ = reply.send(answer);
    }
}

struct Task {
    connection: SqliteConnection,
    receiver: mpsc::Receiver<Box<dyn Queued>>,
    closing: CancellationToken,
    clock: Clock,
    lock: File,
    ended: DropGuard,
}

impl Task {
    async fn run(mut self) {
        loop {
            let first = tokio::select! {
                biased;
                () = self.closing.cancelled(), if !self.receiver.is_closed() => {
                    self.receiver.close();
                    continue;
                }
                job = self.receiver.recv() => job,
            };
            let Some(first) = first else { break };
            let mut group = self.fill(first);
            let failure = self.commit(&mut group).await.err();
            if let Some(failure) = &failure {
                tracing::error!(error = %failure, writes = group.len(), "a group of writes failed");
                // Fails when SQLite has rolled back by itself, which is as well.
                let _ = self.execute("ROLLBACK").await;
            }
            for job in group {
                job.settle(failure.as_ref());
            }
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the embedded database was not closed cleanly");
        }
        drop(self.lock);
        drop(self.ended);
    }

    /// The group that begins with `first`: what is waiting, within the limits.
    fn fill(&mut self, first: Box<dyn Queued>) -> Vec<Box<dyn Queued>> {
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while group.len() < GROUP_WRITES && bytes < GROUP_BYTES {
            let Ok(job) = self.receiver.try_recv() else { break };
            bytes = bytes.saturating_add(job.bytes());
            group.push(job);
        }
        group
    }

    /// One transaction. `Err`: nothing of the group counts.
    async fn commit(&mut self, group: &mut [Box<dyn Queued>]) -> std::result::Result<(), GroupFailure> {
        let mut begin = "BEGIN IMMEDIATE; SAVEPOINT write";
        for job in group {
            self.execute(begin).await.map_err(GroupFailure::before_commit)?;
            if !job.run(&mut self.connection, self.clock.now()).await {
                self.execute("ROLLBACK TO write").await.map_err(GroupFailure::before_commit)?;
            }
            begin = "RELEASE write; SAVEPOINT write";
        }
        self.execute("COMMIT").await.map_err(GroupFailure::at_commit)
    }

    async fn execute(&mut self, sql: &'static str) -> std::result::Result<(), sqlx::Error> {
        sqlx::query(sql).execute(&mut self.connection).await.map(drop)
    }
}
