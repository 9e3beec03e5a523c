//! Tells the observer of transactions: before COMMIT, and then exactly once what became of it.

use std::fmt;
use std::sync::Arc;

use crate::domain::commit::{Change, CommitObserver};

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
    pub(super) fn before_commit(&self, changes: Vec<Change>) -> Told<'_> {
        let is_open = !changes.is_empty();
        if is_open {
            self.0.before_commit(&changes);
        }
        Told { observer: &*self.0, changes, is_open }
    }
}

/// A transaction of which the observer waits to hear the end. When it is dropped on the way, because its future is, nobody knows whether
/// COMMIT arrived: the observer is told that it did.
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

    pub(super) fn committed(self) {
        drop(self);
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
            self.observer.committed(&self.changes);
        }
    }
}
