//! All states that can be reached, nearest first.

use super::state::State;
use super::steps::{Model, Step};

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) bad: usize,
    /// The shortest way to a bad state.
    pub(super) trace: Option<Vec<Step>>,
}

impl Found {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        let trace = match (self.trace, other.trace) {
            (Some(one), Some(two)) => Some(if two.len() < one.len() { two } else { one }),
            (one, two) => one.or(two),
        };
        Self { states: self.states + other.states, bad: self.bad + other.bad, trace }
    }
}

/// The states in the order of their discovery, which is the queue too; and where each is. A table of its own, because the one of the standard
/// library takes several times as long without optimisation.
struct Seen {
    states: Vec<u128>,
    parents: Vec<u32>,
    /// One more than the index of a state, at the place that its hash gives, or the next that was free.
    table: Vec<u32>,
}

impl Seen {
    fn new() -> Self {
        Self { states: Vec::new(), parents: Vec::new(), table: vec![0; 1 << 12] }
    }

    fn add(&mut self, state: u128, parent: u32) {
        if self.states.len() * 2 >= self.table.len() {
            self.grow();
        }
        let place = self.place(state);
        if self.table[place] == 0 {
            self.states.push(state);
            self.parents.push(parent);
            self.table[place] = self.states.len() as u32;
        }
    }

    fn place(&self, state: u128) -> usize {
        let folded = (state as u64) ^ ((state >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = folded.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mask = self.table.len() - 1;
        let mut place = (mixed >> 32) as usize & mask;
        while self.table[place] != 0 && self.states[self.table[place] as usize - 1] != state {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        self.table = vec![0; self.table.len() * 4];
        for index in 0..self.states.len() {
            let place = self.place(self.states[index]);
            self.table[place] = index as u32 + 1;
        }
    }
}

/// Visits every state that `first` leads to.
pub(super) fn search(model: &Model, first: &State) -> Found {
    let mut seen = Seen::new();
    seen.add(first.pack(), 0);
    let mut found = Found::default();
    let mut index = 0;
    while let Some(packed) = seen.states.get(index).copied() {
        let state = State::unpack(packed);
        if model.is_bad(&state) {
            found.bad += 1;
            if found.trace.is_none() {
                found.trace = Some(trace(model, &seen, index));
            }
        }
        model.steps(&state, &mut |_, next| seen.add(next.pack(), index as u32));
        index += 1;
    }
    found.states = index;
    found
}

/// The steps from the first state to this one.
fn trace(model: &Model, seen: &Seen, mut index: usize) -> Vec<Step> {
    let mut trace = Vec::new();
    while index > 0 {
        let parent = seen.parents[index] as usize;
        let mut taken = None;
        model.steps(&State::unpack(seen.states[parent]), &mut |step, next| {
            if taken.is_none() && next.pack() == seen.states[index] {
                taken = Some(step);
            }
        });
        trace.push(taken.expect("a state is one step after its parent"));
        index = parent;
    }
    trace.reverse();
    trace
}
