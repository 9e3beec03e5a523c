//! Tells the observer of transactions: before COMMIT, and then exactly once what became of it.

use std::fmt;
use std::sync::Arc;

use crate::domain::commit::{Change, CommitObserver, Objection};

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
        let told = Told { observer: &*self.0, is_open: !changes.is_empty(), changes };
        if told.is_open
            && let Err(objection) = self.0.before_commit(&told.changes).await
        {
            told.rolled_back();
            return Err(objection);
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
