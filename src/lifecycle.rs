//! The life of the process: when to stop taking work, when to stop at once, and which tasks still run.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Two stages of ending and the tasks that must end with them. Clones are the same lifecycle.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    announced: CancellationToken,
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    failed: Arc<AtomicBool>,
}

impl Lifecycle {
    /// A lifecycle that has just begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that shutdown waits for. It ends by itself or watches [`Lifecycle::soft`].
    #[expect(clippy::disallowed_methods, reason = "the one place where tasks are spawned, so that shutdown knows all of them")]
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tasks.track_future(task))
    }

    /// Spawns a task that the process cannot do without. When it panics, or ends before the shutdown has begun, the shutdown begins and
    /// [`Lifecycle::has_failed`] says so: a process that limps is worse than one that is started anew.
    pub fn supervise<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let lifecycle = self.clone();
        // The handle is not needed: the tracker waits for the task, and the task reports its own end.
        drop(self.spawn(async move {
            let panicked = AssertUnwindSafe(task).catch_unwind().await.is_err();
            if panicked || !lifecycle.soft.is_cancelled() {
                tracing::error!(task = name, panicked, "a task that must not end has ended: the server stops");
                lifecycle.failed.store(true, Ordering::Release);
                lifecycle.stop();
            }
        }));
    }

    /// Whether a supervised task has died.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The same life with tasks of its own, which [`Lifecycle::finished`] of this one does not wait for. For the tasks of a store, which
    /// end when it is closed, after everything that writes.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { tasks: TaskTracker::new(), ..self.clone() }
    }

    /// Cancelled when the process takes no new work: listeners close, background work stops at its next step, requests at work go on.
    #[must_use]
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when whatever still runs is given up.
    #[must_use]
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Tells that the shutdown begins soon: the process still takes work, but says that it is not ready for more.
    pub fn announce_stop(&self) {
        self.announced.cancel();
    }

    /// Begins the shutdown.
    pub fn stop(&self) {
        self.announced.cancel();
        self.soft.cancel();
    }

    /// Whether the shutdown has begun, or is announced.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.announced.is_cancelled()
    }

    /// Waits until every spawned task has ended.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_dies_stops_the_process() {
        for panics in [true, false] {
            let lifecycle = Lifecycle::new();
            lifecycle.supervise("example", async move { assert!(!panics, "the task dies") });
            lifecycle.soft().cancelled().await;
            assert!(lifecycle.has_failed());
        }
    }

    #[tokio::test]
    async fn tasks_apart_are_not_waited_for() {
        let lifecycle = Lifecycle::new();
        let apart = lifecycle.apart();
        let hard = apart.hard().clone();
        drop(apart.spawn(async move { hard.cancelled().await }));
        lifecycle.stop();
        lifecycle.finished().await;
        assert!(apart.is_stopping());
        lifecycle.hard().cancel();
        apart.finished().await;
    }

    #[tokio::test]
    async fn a_task_that_ends_with_the_process_has_not_failed() {
        let lifecycle = Lifecycle::new();
        let soft = lifecycle.soft().clone();
        lifecycle.supervise("example", async move { soft.cancelled().await });
        lifecycle.stop();
        lifecycle.finished().await;
        assert!(!lifecycle.has_failed());
    }
}
