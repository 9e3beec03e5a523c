//! The life of the process: when to stop taking work, when to stop at once, and which tasks still run.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Two stages of ending and the tasks that must end with them. Clones are the same lifecycle.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
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

    /// Begins the shutdown.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Whether the shutdown has begun.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Waits until every spawned task has ended.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
