//! Tells the observer of transactions: before COMMIT, and then exactly once what became of it.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::domain::commit::{Change, CommitObserver, Objection};

/// After this time without an end the observer is reminded: several times within the least `marker_ttl_ms`.
const REMINDER: Duration = Duration::from_millis(500);

/// Who hears of transactions.
pub(super) struct Observer(Arc<dyn CommitObserver>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Observer {
    pub(super) fn new(observer: Arc<dyn CommitObserver>) -> Self {
        Self(observer)
    }

    /// Tells of the changes of a transaction that is about to be committed. One without changes is not told.
    ///
    /// # Errors
    /// The observer objects: the transaction is to be rolled back, and the observer knows.
    pub(super) async fn before_commit(&self, changes: Vec<Change>) -> Result<Told<'_>, Objection> {
        let (told, began) = (Told { observer: &*self.0, is_open: !changes.is_empty(), changes }, Instant::now());
        if told.is_open
            && let Err(objection) = self.0.before_commit(&told.changes).await
        {
            told.rolled_back();
            return Err(objection);
        }
        // A process that was suspended meanwhile may wake when what it announced is over.
        if told.is_open && began.elapsed() > REMINDER {
            told.observer.still_at_work(&told.changes).await;
        }
        Ok(told)
    }
}

/// A transaction of which the observer waits to hear the end. When it is dropped on the way, because its future is, nobody knows whether
/// COMMIT arrived, and the observer is told so.
pub(super) struct Told<'a> {
    observer: &'a dyn CommitObserver,
    changes: Vec<Change>,
    is_open: bool,
}

impl Told<'_> {
    /// How many changes were told.
    pub(super) fn count(&self) -> u64 {
        self.changes.len() as u64
    }

    /// Reminds the observer again and again. Does not end: it is for running beside what ends the transaction.
    pub(super) async fn remind(&self) -> Infallible {
        loop {
            sleep(REMINDER).await;
            if self.is_open {
                self.observer.still_at_work(&self.changes).await;
            }
        }
    }

    pub(super) fn committed(mut self) {
        if std::mem::take(&mut self.is_open) {
            self.observer.committed(&self.changes);
        }
    }

    pub(super) fn rolled_back(mut self) {
        if std::mem::take(&mut self.is_open) {
            self.observer.rolled_back(&self.changes);
        }
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.observer.unknown(&self.changes);
        }
    }
}
