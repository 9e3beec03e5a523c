//! Where the members of an object's text are, by the hashes of their names: eight bytes for each.

use super::work::{Spent, Work};
use crate::domain::document;

/// Bytes of one member's entry.
const ENTRY_BYTES: usize = 8;

/// Where the members begin, in the order of the hashes of their names.
#[derive(Debug)]
pub(super) struct Index {
    entries: Vec<(u32, u32)>,
    /// Bytes of names and values, and two for each member: a colon and what separates it.
    bytes: usize,
}

/// The members of an object's text: where each begins, its name as it is written, and its value.
pub(super) fn located(object: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let bytes = object.as_bytes();
    let mut position = 1;
    std::iter::from_fn(move || {
        let start = document::next_value(bytes, position);
        if bytes.get(start) != Some(&b'"') {
            return None;
        }
        let name_end = document::end_of_value(bytes, start);
        let value = document::next_value(bytes, name_end);
        position = document::end_of_value(bytes, value);
        Some((start, object.get(start..name_end)?, object.get(value..position)?))
    })
}

/// The name and the value of the member that begins at `start`.
pub(super) fn member(object: &str, start: usize) -> Option<(&str, &str)> {
    let bytes = object.as_bytes();
    let name_end = document::end_of_value(bytes, start);
    let value = document::next_value(bytes, name_end);
    Some((object.get(start..name_end)?, object.get(value..document::end_of_value(bytes, value))?))
}

/// The name of the member that begins at `start`, as it is written.
pub(super) fn name(object: &str, start: usize) -> &str {
    object.get(start..document::end_of_value(object.as_bytes(), start)).unwrap_or_default()
}

impl Index {
    /// The index of an object's text. The steps of reading it are the caller's.
    pub(super) fn read(object: &str, work: &mut Work<'_>) -> Result<Self, Spent> {
        // Counted before, so that there is never more than what is needed.
        let count = located(object).count();
        work.steps(count)?;
        work.memory(count.saturating_mul(ENTRY_BYTES))?;
        let mut entries = Vec::with_capacity(count);
        let mut bytes = 0;
        for (start, raw, value) in located(object) {
            let start = u32::try_from(start).map_err(|_| Spent::Memory)?;
            entries.push((work.hash(&document::unescape(raw)), start));
            bytes += raw.len() + value.len() + 2;
        }
        entries.sort_unstable();
        Ok(Self { entries, bytes })
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of names and values, and two for each member.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.entries.len().saturating_mul(ENTRY_BYTES)
    }

    /// Which entry, and where the member of this name begins.
    pub(super) fn find(&self, object: &str, wanted: &str, work: &Work<'_>) -> Option<(usize, u32)> {
        if self.entries.is_empty() {
            return None;
        }
        let hash = work.hash(wanted);
        let first = self.entries.partition_point(|(own, _)| *own < hash);
        let same = self.entries.iter().enumerate().skip(first).take_while(|(_, (own, _))| *own == hash);
        same.map(|(entry, (_, start))| (entry, *start)).find(|(_, start)| document::unescape(name(object, *start as usize)) == wanted)
    }

    /// Where those begin whose entries are not among `taken`, in the object's order. The index is of no other use then.
    pub(super) fn rest(mut self, taken: &Taken) -> impl Iterator<Item = usize> {
        let mut entry = 0;
        self.entries.retain(|_| {
            entry += 1;
            !taken.has(entry - 1)
        });
        self.entries.sort_unstable_by_key(|(_, start)| *start);
        self.entries.into_iter().map(|(_, start)| start as usize)
    }
}

/// Which entries of an index were taken: a bit for each.
#[derive(Debug)]
pub(super) struct Taken(Vec<u64>);

impl Taken {
    /// None of so many.
    pub(super) fn none(entries: usize) -> Self {
        Self(vec![0; entries.div_ceil(64)])
    }

    /// Takes one.
    pub(super) fn take(&mut self, entry: usize) {
        if let Some(bits) = self.0.get_mut(entry / 64) {
            *bits |= 1 << (entry % 64);
        }
    }

    fn has(&self, entry: usize) -> bool {
        self.0.get(entry / 64).is_some_and(|bits| bits & (1 << (entry % 64)) != 0)
    }
}
