//! Numbers of the messages of this process, so that those who miss one notice.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Gives out numbers and knows up to which all have been sent, or given up.
#[derive(Debug, Default)]
pub struct Sequence(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: u64,
    at_work: BTreeSet<u64>,
}

/// A message on its way. When it is dropped the message has reached the server, or it is not known to have: then those who listen shall miss it.
#[derive(Debug)]
pub struct Numbered<'a> {
    sequence: &'a Sequence,
    number: u64,
}

impl Sequence {
    /// The next number.
    pub fn next(&self) -> Numbered<'_> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last += 1;
        let number = state.last;
        state.at_work.insert(number);
        Numbered { sequence: self, number }
    }

    /// The number up to which no message is on its way any more.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.at_work.first().map_or(state.last, |first| first - 1)
    }
}

impl Numbered<'_> {
    /// The number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Numbered<'_> {
    fn drop(&mut self) {
        self.sequence.0.lock().unwrap_or_else(PoisonError::into_inner).at_work.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_is_not_settled() {
        let sequence = Sequence::default();
        let [first, second, third] = [sequence.next(), sequence.next(), sequence.next()];
        assert_eq!((first.number(), second.number(), third.number(), sequence.settled()), (1, 2, 3, 0));
        drop(second);
        assert_eq!(sequence.settled(), 0);
        drop(first);
        assert_eq!(sequence.settled(), 2);
        drop(third);
        assert_eq!(sequence.settled(), 3);
    }
}
