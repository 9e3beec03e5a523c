//! What a patch costs, counted in steps: a member or an element that is looked at, eight bytes that are read.
//!
//! A document of many small members and a patch of many operations could otherwise cost the product of both.

/// Bytes that are read in one step.
const BYTES_PER_STEP: usize = 8;
/// Places of a list that are moved in one step.
const MOVES_PER_STEP: usize = 32;
/// Steps that any patch has.
const FLOOR: u64 = 65_536;

/// The steps of a patch are spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent;

/// The steps that are left.
#[derive(Debug)]
pub(super) struct Work {
    limit: u64,
    left: u64,
}

impl Work {
    /// So many steps for each byte of document and patch, and some for those that are small.
    pub(super) fn new(bytes: usize, steps_per_byte: u32) -> Self {
        let limit = (bytes as u64).saturating_mul(u64::from(steps_per_byte)).saturating_add(FLOOR);
        Self { limit, left: limit }
    }

    /// The steps that there were.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// The steps that are left.
    #[cfg(test)]
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Takes steps before they are made.
    pub(super) fn steps(&mut self, steps: usize) -> Result<(), Spent> {
        self.left = self.left.checked_sub(steps as u64).ok_or(Spent)?;
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
}
