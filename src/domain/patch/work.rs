//! What a patch costs: steps (a member or an element that is looked at, eight bytes that are read), memory beside document, patch and
//! result, and time.
//!
//! A document of many small members and a patch of many operations could otherwise cost the product of both.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use super::{PatchFault, PatchLimits};

/// Bytes that are read in one step.
const BYTES_PER_STEP: usize = 8;
/// Places of a list that are moved in one step.
const MOVES_PER_STEP: usize = 32;
/// Steps that any patch has.
const STEPS_FLOOR: u64 = 65_536;
/// Bytes of memory for each byte of document and patch.
const MEMORY_PER_BYTE: usize = 2;
/// After so many steps the clock is looked at.
const STEPS_PER_LOOK: u64 = 8192;

/// What a patch may not go on without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    /// The steps.
    Steps,
    /// The memory.
    Memory,
    /// The time.
    Time,
}

/// What a patch had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Steps.
    pub(super) steps: u64,
    /// Bytes of memory.
    pub(super) memory: usize,
}

impl Limits {
    /// The fault of a patch that needs more.
    pub(super) fn fault(self, spent: Spent) -> PatchFault {
        match spent {
            Spent::Steps => PatchFault::TooCostly { limit: self.steps },
            Spent::Memory => PatchFault::TooHeavy { limit: self.memory },
            Spent::Time => PatchFault::Late,
        }
    }
}

/// What is left of each.
pub(super) struct Work<'t> {
    limit: u64,
    left: u64,
    memory_limit: usize,
    memory: usize,
    is_late: &'t dyn Fn() -> bool,
    until_look: u64,
    /// Keyed by chance, so that nobody can choose names whose hashes are equal.
    hashes: RandomState,
}

impl fmt::Debug for Work<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Work").field("left", &self.left).field("memory", &self.memory).finish_non_exhaustive()
    }
}

impl<'t> Work<'t> {
    /// For a patch that has so many bytes together with its document: steps for each of them, and some for those that are small. `is_late` is
    /// asked now and then.
    pub(super) fn new(bytes: usize, limits: PatchLimits, is_late: &'t dyn Fn() -> bool) -> Self {
        let limit = (bytes as u64).saturating_mul(u64::from(limits.steps_per_byte)).saturating_add(STEPS_FLOOR);
        let memory_limit = bytes.saturating_mul(MEMORY_PER_BYTE).max(limits.memory_bytes);
        Self { limit, left: limit, memory_limit, memory: 0, is_late, until_look: 0, hashes: RandomState::new() }
    }

    /// What there was.
    pub(super) fn limits(&self) -> Limits {
        Limits { steps: self.limit, memory: self.memory_limit }
    }

    /// The steps that are left.
    #[cfg(test)]
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Takes steps before they are made.
    pub(super) fn steps(&mut self, steps: usize) -> Result<(), Spent> {
        let steps = steps as u64;
        match self.until_look.checked_sub(steps) {
            Some(left @ 1..) => self.until_look = left,
            _ => {
                self.until_look = STEPS_PER_LOOK;
                if (self.is_late)() {
                    return Err(Spent::Time);
                }
            }
        }
        self.left = self.left.checked_sub(steps).ok_or(Spent::Steps)?;
        Ok(())
    }

    /// Takes the steps of reading so many bytes.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), Spent> {
        self.steps(bytes.div_ceil(BYTES_PER_STEP))
    }

    /// Takes the steps of moving so many places of a list.
    pub(super) fn shift(&mut self, places: usize) -> Result<(), Spent> {
        self.steps(places.div_ceil(MOVES_PER_STEP))
    }

    /// Takes memory before it is asked for.
    pub(super) fn memory(&mut self, bytes: usize) -> Result<(), Spent> {
        let memory = self.memory.saturating_add(bytes);
        if memory > self.memory_limit {
            return Err(Spent::Memory);
        }
        self.memory = memory;
        Ok(())
    }

    /// Gives memory back.
    pub(super) fn release(&mut self, bytes: usize) {
        self.memory = self.memory.saturating_sub(bytes);
    }

    /// The hash of a name.
    pub(super) fn hash(&self, name: &str) -> u32 {
        // Half of a good hash is one.
        u32::try_from(self.hashes.hash_one(name) >> 32).unwrap_or_default()
    }
}
