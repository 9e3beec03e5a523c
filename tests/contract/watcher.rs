//! An observer that checks what every store promises of its commits: each is told before it can be read, and then ended exactly once.

use std::sync::Mutex;

use async_trait::async_trait;
use nworkflow_state::domain::commit::{Change, CommitObserver, Objection};
use nworkflow_state::domain::id::TenantId;

#[derive(Default)]
pub(super) struct Watcher(Mutex<Told>);

#[derive(Default)]
struct Told {
    open: Vec<Change>,
    committed: Vec<Change>,
    rolled_back: Vec<Change>,
    faults: Vec<String>,
}

impl Told {
    fn end(&mut self, changes: &[Change]) {
        for change in changes {
            match self.open.iter().position(|open| open == change) {
                Some(index) => drop(self.open.swap_remove(index)),
                None => self.faults.push(format!("ended without a beginning: {change:?}")),
            }
        }
    }
}

impl Watcher {
    /// The changes of a tenant that were committed, in their order, since the last call; none is open, rolled back, or was told otherwise
    /// than promised.
    pub(super) fn committed(&self, tenant: &TenantId) -> Vec<Change> {
        let mut told = self.0.lock().unwrap();
        assert_eq!(told.faults, Vec::<String>::new());
        assert!(told.open.iter().all(|change| change.tenant != *tenant), "without an end: {:?}", told.open);
        assert!(told.rolled_back.iter().all(|change| change.tenant != *tenant), "{:?}", told.rolled_back);
        let (own, others) = std::mem::take(&mut told.committed).into_iter().partition(|change| change.tenant == *tenant);
        told.committed = others;
        own
    }
}

#[async_trait]
impl CommitObserver for Watcher {
    async fn before_commit(&self, changes: &[Change]) -> Result<(), Objection> {
        self.0.lock().unwrap().open.extend_from_slice(changes);
        Ok(())
    }

    fn committed(&self, changes: &[Change]) {
        let mut told = self.0.lock().unwrap();
        told.end(changes);
        told.committed.extend_from_slice(changes);
    }

    fn rolled_back(&self, changes: &[Change]) {
        let mut told = self.0.lock().unwrap();
        told.end(changes);
        told.rolled_back.extend_from_slice(changes);
    }
}
