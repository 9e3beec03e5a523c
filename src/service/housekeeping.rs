//! Housekeeping: removing what no reader can see any more.

use super::Memory;
use crate::error::Result;
use crate::store::{SweepLimits, SweepTask, Swept};

/// The use case of the sweeper.
#[derive(Clone)]
pub struct Housekeeping {
    memory: Memory,
}

/// A kind of housekeeping.
pub type Task = SweepTask;
/// The limits of one step.
pub type Limits = SweepLimits;
/// What one step did.
pub type Step = Swept;

impl Housekeeping {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// All kinds, in the order in which one run does them.
    #[must_use]
    pub fn tasks(&self) -> &'static [Task] {
        &SweepTask::ALL
    }

    /// One step of one kind.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn step(&self, task: Task, limits: Limits) -> Result<Step> {
        Ok(self.memory.store().sweep(task, limits).await?)
    }
}
