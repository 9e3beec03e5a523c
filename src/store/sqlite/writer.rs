//! The one writer: a task that owns the one connection that writes.
//!
//! It takes what is waiting in its queue, no timer, as one group into one transaction: each write in a savepoint of its own, so that a
//! bad one fails alone, then one commit, one flush, and all answers. It serves until the store is closed, also while the process is
//! stopping: the requests at work finish then.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::GroupFailure;
use crate::config::EmbeddedConfig;
use crate::deadline;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::commit::{Change, CommitObserver, Objection, Resource};
use crate::domain::id::TenantId;
use crate::domain::version::Version;
use crate::lifecycle::Lifecycle;
use crate::store::{Result, StoreError};

/// What a write works with: the connection within its savepoint, and what it changed.
pub(super) struct Unit<'c> {
    pub(super) connection: &'c mut SqliteConnection,
    /// When the write began.
    pub(super) now: Timestamp,
    changes: Vec<Change>,
}

impl Unit<'_> {
    /// Notes a new version of a resource for the observer.
    pub(super) fn changed(&mut self, tenant: &TenantId, resource: Resource, version: Version) {
        self.changes.push(Change { tenant: tenant.clone(), resource, version });
    }
}

/// A write: what happens between the beginning and the end of its savepoint.
#[async_trait]
pub(super) trait Write: Send + Sync + 'static {
    /// What the caller is told.
    type Answer: Send + 'static;

    /// Bytes of its document, about.
    fn bytes(&self) -> usize {
        0
    }

    /// Does it. An error undoes all of it.
    async fn apply(&self, unit: &mut Unit<'_>) -> Result<Self::Answer>;
}

/// What the writer has done since its start: groups that committed new versions, and how many. A group of refused and replayed writes, or
/// of housekeeping, is none.
#[derive(Debug, Default)]
struct Counters {
    groups: AtomicU64,
    versions: AtomicU64,
    /// Whether a group is at work.
    busy: AtomicBool,
}

/// Figures of the writer.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriterFigures {
    pub(super) queue_depth: u64,
    pub(super) queue_capacity: u64,
    pub(super) groups: u64,
    pub(super) versions: u64,
}

/// The way to the writer task.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Queued>>,
    counters: Arc<Counters>,
    closing: CancellationToken,
    ended: CancellationToken,
}

impl Writer {
    /// Starts the task. It keeps `lock` until its connection is closed.
    pub(super) fn start(
        connection: SqliteConnection,
        lock: File,
        config: &EmbeddedConfig,
        clock: Clock,
        lifecycle: &Lifecycle,
        observer: Arc<dyn CommitObserver>,
    ) -> Self {
        let (queue, receiver) = mpsc::channel(config.queue_capacity.max(1));
        let (closing, ended) = (CancellationToken::new(), CancellationToken::new());
        let counters = Arc::new(Counters::default());
        let task = Task {
            connection,
            receiver,
            observer,
            counters: Arc::clone(&counters),
            group_writes: config.group_writes,
            group_bytes: config.group_bytes,
            closing: closing.clone(),
            clock,
            lock,
            ended: ended.clone().drop_guard(),
        };
        // Not joined: `ended` tells, whichever way the task ends.
        drop(lifecycle.spawn(task.run()));
        Self { queue, counters, closing, ended }
    }

    /// Queues a write and waits for its outcome. Once queued it happens, whether or not someone still waits, unless its turn comes after the
    /// deadline of its request.
    pub(super) async fn submit<W: Write>(&self, write: W) -> Result<W::Answer> {
        let (reply, outcome) = oneshot::channel();
        let job = Box::new(Job { write, reply, deadline: deadline::current(), outcome: None });
        self.queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Full,
            mpsc::error::TrySendError::Closed(_) => StoreError::Unavailable(CLOSED.into()),
        })?;
        outcome.await.unwrap_or_else(|_| Err(StoreError::OutcomeUnknown("the writer ended without an answer".into())))
    }

    /// Waits until no write is at work or waiting, but no longer than this.
    pub(super) async fn wait_for_calm(&self, patience: Duration) {
        let calm = async {
            while self.counters.busy.load(Ordering::Relaxed) || self.queue.capacity() < self.queue.max_capacity() {
                tokio::time::sleep(LULL).await;
            }
        };
        let _ = tokio::time::timeout(patience, calm).await;
    }

    /// Whether the task serves.
    pub(super) fn check(&self) -> Result<()> {
        if self.queue.is_closed() { Err(StoreError::Unavailable(CLOSED.into())) } else { Ok(()) }
    }

    /// What waits, and what was done.
    pub(super) fn figures(&self) -> WriterFigures {
        let (free, most) = (self.queue.capacity(), self.queue.max_capacity());
        WriterFigures {
            queue_depth: most.saturating_sub(free).try_into().unwrap_or(u64::MAX),
            queue_capacity: most.try_into().unwrap_or(u64::MAX),
            groups: self.counters.groups.load(Ordering::Relaxed),
            versions: self.counters.versions.load(Ordering::Relaxed),
        }
    }

    /// Takes no further writes, waits for those in the queue, and for the connection and the lock to be given up.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.ended.cancelled().await;
    }
}

const CLOSED: &str = "the store is closed";
/// How often whoever waits for a pause between writes looks for one.
const LULL: Duration = Duration::from_millis(1);

/// A write of any type with the way back to its caller.
#[async_trait]
trait Queued: Send {
    fn bytes(&self) -> usize;
    /// Does the write and keeps its outcome; `None`: it failed and must be undone.
    async fn run(&mut self, connection: &mut SqliteConnection, now: Timestamp) -> Option<Vec<Change>>;
    /// Tells the outcome, or the failure of the whole group.
    fn settle(self: Box<Self>, failure: Option<&GroupFailure>);
}

struct Job<W: Write> {
    write: W,
    reply: oneshot::Sender<Result<W::Answer>>,
    /// When nobody waits for the answer any more.
    deadline: Option<Instant>,
    outcome: Option<Result<W::Answer>>,
}

#[async_trait]
impl<W: Write> Queued for Job<W> {
    fn bytes(&self) -> usize {
        self.write.bytes()
    }

    async fn run(&mut self, connection: &mut SqliteConnection, now: Timestamp) -> Option<Vec<Change>> {
        // The time is for those who still wait.
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.outcome = Some(Err(StoreError::Late));
            return None;
        }
        let mut unit = Unit { connection, now, changes: Vec::new() };
        let outcome = self.write.apply(&mut unit).await;
        let changes = outcome.is_ok().then_some(unit.changes);
        self.outcome = Some(outcome);
        changes
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
    observer: Arc<dyn CommitObserver>,
    counters: Arc<Counters>,
    group_writes: usize,
    group_bytes: usize,
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
            self.counters.busy.store(true, Ordering::Relaxed);
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
            self.counters.busy.store(false, Ordering::Relaxed);
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
        while group.len() < self.group_writes && bytes < self.group_bytes {
            let Ok(job) = self.receiver.try_recv() else { break };
            bytes = bytes.saturating_add(job.bytes());
            group.push(job);
        }
        group
    }

    /// One transaction. `Err`: nothing of the group counts.
    async fn commit(&mut self, group: &mut [Box<dyn Queued>]) -> std::result::Result<(), GroupFailure> {
        let mut begin = "BEGIN IMMEDIATE; SAVEPOINT write";
        let mut changes = Vec::new();
        for job in group {
            self.execute(begin).await.map_err(GroupFailure::before_commit)?;
            match job.run(&mut self.connection, self.clock.now()).await {
                Some(own) => changes.extend(own),
                None => self.execute("ROLLBACK TO write").await.map_err(GroupFailure::before_commit)?,
            }
            begin = "RELEASE write; SAVEPOINT write";
        }
        let versions = changes.len() as u64;
        let announcement = Announcement::make(Arc::clone(&self.observer), changes).await.map_err(GroupFailure::refused)?;
        let outcome = self.execute("COMMIT").await.map_err(GroupFailure::at_commit);
        match &outcome {
            Err(failure) if !failure.is_unknown() => announcement.withdraw(),
            _ => drop(announcement),
        }
        if outcome.is_ok() && versions > 0 {
            self.counters.groups.fetch_add(1, Ordering::Relaxed);
            self.counters.versions.fetch_add(versions, Ordering::Relaxed);
        }
        outcome
    }

    async fn execute(&mut self, sql: &'static str) -> std::result::Result<(), sqlx::Error> {
        sqlx::query(sql).execute(&mut self.connection).await.map(drop)
    }
}

/// What the observer was told before the commit. Unless it is withdrawn, its end tells that the commit happened, or may have.
struct Announcement {
    observer: Arc<dyn CommitObserver>,
    changes: Vec<Change>,
}

impl Announcement {
    async fn make(observer: Arc<dyn CommitObserver>, changes: Vec<Change>) -> std::result::Result<Self, Objection> {
        let announcement = Self { observer, changes };
        if !announcement.changes.is_empty()
            && let Err(objection) = announcement.observer.before_commit(&announcement.changes).await
        {
            announcement.withdraw();
            return Err(objection);
        }
        Ok(announcement)
    }

    fn withdraw(mut self) {
        let changes = std::mem::take(&mut self.changes);
        if !changes.is_empty() {
            self.observer.rolled_back(&changes);
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        if !self.changes.is_empty() {
            self.observer.committed(&self.changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::SessionId;
    use futures_util::future::join_all;
    use sqlx::ConnectOptions as _;
    use sqlx::sqlite::SqliteConnectOptions;
    use std::sync::Mutex;

    /// Adds a row, then runs something more.
    struct Add(&'static str);

    #[async_trait]
    impl Write for Add {
        type Answer = ();

        async fn apply(&self, unit: &mut Unit<'_>) -> Result<()> {
            for sql in ["INSERT INTO line (parent) VALUES (NULL)", self.0] {
                sqlx::query(sql).execute(&mut *unit.connection).await.map_err(super::super::error::store_error)?;
            }
            unit.changed(&TenantId::parse("acme").unwrap(), Resource::Session(SessionId::parse("s").unwrap()), Version::new(1).unwrap());
            Ok(())
        }
    }

    const NOTHING: &str = "SELECT 1";
    /// Is seen by the statement, so it fails the write alone.
    const BROKEN: &str = "INSERT INTO line (nowhere) VALUES (1)";
    /// Is seen by the commit only, so it fails the group.
    const DANGLING: &str = "INSERT INTO line (parent) VALUES (999)";

    async fn start(folder: &tempfile::TempDir) -> (Writer, SqliteConnection, Arc<Watcher>) {
        let options = SqliteConnectOptions::new().filename(folder.path().join("test")).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        let table = "CREATE TABLE line (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES line DEFERRABLE INITIALLY DEFERRED)";
        sqlx::query(table).execute(&mut connection).await.unwrap();
        let lock = File::create(folder.path().join("lock")).unwrap();
        let config = crate::config::load(&crate::config::Source::default()).unwrap().embedded;
        let watcher = Arc::new(Watcher::default());
        let writer = Writer::start(connection, lock, &config, Clock::new(), &Lifecycle::new(), Arc::clone(&watcher) as Arc<_>);
        (writer, options.connect().await.unwrap(), watcher)
    }

    /// How many changes were told, in which calls.
    #[derive(Default)]
    struct Watcher(Mutex<Vec<(&'static str, usize)>>);

    impl Watcher {
        fn take(&self) -> Vec<(&'static str, usize)> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    #[async_trait]
    impl CommitObserver for Watcher {
        async fn before_commit(&self, changes: &[Change]) -> std::result::Result<(), Objection> {
            self.0.lock().unwrap().push(("before", changes.len()));
            Ok(())
        }

        fn committed(&self, changes: &[Change]) {
            self.0.lock().unwrap().push(("committed", changes.len()));
        }

        fn rolled_back(&self, changes: &[Change]) {
            self.0.lock().unwrap().push(("rolled back", changes.len()));
        }
    }

    async fn lines(connection: &mut SqliteConnection) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM line").fetch_one(connection).await.unwrap()
    }

    async fn submit_all(writer: &Writer, writes: &[&'static str]) -> Vec<bool> {
        // One thread: all of them are in the queue before the task sees the first.
        join_all(writes.iter().map(|sql| writer.submit(Add(sql)))).await.into_iter().map(|outcome| outcome.is_ok()).collect()
    }

    #[tokio::test]
    async fn a_bad_write_fails_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, mut reader, watcher) = start(&folder).await;
        for writes in [vec![NOTHING, BROKEN, NOTHING], vec![BROKEN, BROKEN, NOTHING], vec![NOTHING, BROKEN], vec![BROKEN]] {
            let before = lines(&mut reader).await;
            let good: Vec<bool> = writes.iter().map(|sql| *sql == NOTHING).collect();
            assert_eq!(submit_all(&writer, &writes).await, good);
            let added = i64::try_from(good.iter().filter(|good| **good).count()).unwrap();
            assert_eq!(lines(&mut reader).await, before + added, "its other statements are undone");
            let told = good.iter().filter(|good| **good).count();
            let calls = if told == 0 { vec![] } else { vec![("before", told), ("committed", told)] };
            assert_eq!(watcher.take(), calls, "what was undone is not told");
        }
        writer.close().await;
    }

    #[tokio::test]
    async fn a_failed_commit_fails_its_group_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, mut reader, watcher) = start(&folder).await;
        assert_eq!(submit_all(&writer, &[NOTHING, DANGLING, NOTHING]).await, [false; 3]);
        assert_eq!(lines(&mut reader).await, 0);
        assert_eq!(watcher.take(), [("before", 3), ("rolled back", 3)]);
        assert_eq!(submit_all(&writer, &[NOTHING, NOTHING]).await, [true; 2]);
        assert_eq!(lines(&mut reader).await, 2);
        writer.close().await;
    }

    #[tokio::test]
    async fn a_transaction_that_is_lost_underway_fails_its_group_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, mut reader, watcher) = start(&folder).await;
        // What SQLite does by itself when the disk is full.
        let lost = join_all([NOTHING, "ROLLBACK", NOTHING].map(|sql| writer.submit(Add(sql)))).await;
        assert!(lost.iter().all(|outcome| matches!(outcome, Err(StoreError::Unavailable(_)))), "{lost:?}");
        assert_eq!(lines(&mut reader).await, 0);
        assert_eq!(watcher.take(), [], "its end was known before the commit");
        assert_eq!(submit_all(&writer, &[NOTHING]).await, [true]);
        writer.close().await;
    }

    #[tokio::test]
    async fn a_full_disk_is_unavailable_until_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, mut reader, watcher) = start(&folder).await;
        assert_eq!(submit_all(&writer, &["PRAGMA max_page_count = 1"]).await, [true], "SQLite takes the present size instead");
        let large = "INSERT INTO line WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n LIMIT 9999) SELECT i, NULL FROM n";
        let full = writer.submit(Add(large)).await;
        assert!(matches!(full, Err(StoreError::Unavailable(_))), "{full:?}");
        assert_eq!(lines(&mut reader).await, 1);
        assert_eq!(submit_all(&writer, &["PRAGMA max_page_count = 1000", large]).await, [true; 2]);
        assert_eq!(watcher.take(), [("before", 1), ("committed", 1), ("before", 2), ("committed", 2)]);
        writer.close().await;
    }

    #[tokio::test]
    async fn what_waits_is_written_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, mut reader, watcher) = start(&folder).await;
        let (outcomes, ()) = futures_util::future::join(submit_all(&writer, &[NOTHING; 600]), writer.close()).await;
        assert_eq!(outcomes, [true; 600]);
        assert_eq!(watcher.take().iter().filter(|(call, _)| *call == "committed").map(|(_, told)| told).sum::<usize>(), 600);
        let figures = writer.figures();
        assert_eq!((figures.versions, figures.queue_depth, figures.queue_capacity), (600, 0, 1024));
        assert!((3..=600).contains(&figures.groups), "{figures:?}");
        assert_eq!(lines(&mut reader).await, 600);
        assert!(writer.check().is_err());
        assert!(matches!(writer.submit(Add(NOTHING)).await, Err(StoreError::Unavailable(_))));
    }

    /// A write that takes until someone says so.
    struct Slow(Arc<tokio::sync::Notify>);

    #[async_trait]
    impl Write for Slow {
        type Answer = ();

        async fn apply(&self, _: &mut Unit<'_>) -> Result<()> {
            self.0.notified().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn who_waits_for_calm_lets_writes_pass_and_goes_in_the_end() {
        const SHORT: Duration = Duration::from_millis(20);
        const LONG: Duration = Duration::from_secs(600);
        let folder = tempfile::tempdir().unwrap();
        let (writer, ..) = start(&folder).await;
        writer.wait_for_calm(LONG).await;
        let end = Arc::new(tokio::sync::Notify::new());
        let begun = std::time::Instant::now();
        let waiting = async {
            writer.wait_for_calm(SHORT).await;
            assert!(begun.elapsed() >= SHORT, "the write is let through first");
            end.notify_one();
            writer.wait_for_calm(LONG).await;
            assert_eq!(writer.figures().queue_depth, 0);
        };
        let (done, ()) = tokio::join!(writer.submit(Slow(Arc::clone(&end))), waiting);
        assert!(done.is_ok() && begun.elapsed() < LONG);
        writer.close().await;
    }
}
