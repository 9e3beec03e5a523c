//! The members of an object that was opened to change it: its text, an index of it, and what was changed.

use std::borrow::Cow;
use std::rc::Rc;

use super::index::{Index, located, member};
use super::tree::{Extent, Node};
use super::work::{Spent, Work};
use crate::domain::document::quote;

/// What an object takes that was opened, beside its index and what was changed.
const OPENED_BYTES: usize = 512;
/// What a member takes that was changed or added, at most: vectors grow to twice of what they need.
const CHANGE_BYTES: usize = 2 * (size_of::<Added<'_>>() + 8);

/// What became of a member of the text.
#[derive(Debug, Clone)]
struct Change<'a> {
    /// Where it begins.
    start: u32,
    /// Bytes of its name as it is written.
    name: usize,
    /// `None`: it was removed.
    value: Option<Node<'a>>,
}

/// A member that the text does not have.
#[derive(Debug, Clone)]
struct Added<'a> {
    name: Cow<'a, str>,
    /// `None`: it was removed again.
    value: Option<Node<'a>>,
}

/// Where a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the text, from this byte on.
    Own(u32),
    /// Among those that were added.
    Added(usize),
}

/// Members in their order: those of the text, and behind them those that were added.
#[derive(Debug, Clone)]
pub(super) struct Members<'a> {
    text: &'a str,
    index: Rc<Index>,
    /// In the order of the text.
    changes: Vec<Change<'a>>,
    added: Vec<Added<'a>>,
    /// Hash of the name and place of each that was added, in the order of the hashes.
    table: Vec<(u32, u32)>,
    /// Bytes of the members of the text that are as they were, two for each counted for its colon and what separates it.
    kept: usize,
}

impl<'a> Members<'a> {
    /// Those of an object's text.
    pub(super) fn read(object: &'a str, work: &mut Work<'_>) -> Result<Self, Spent> {
        work.read(object.len())?;
        work.memory(OPENED_BYTES)?;
        let index = Index::read(object, work)?;
        let kept = index.bytes();
        Ok(Self { text: object, index: Rc::new(index), changes: Vec::new(), added: Vec::new(), table: Vec::new(), kept })
    }

    /// The place of a member.
    pub(super) fn find(&self, wanted: &str, work: &mut Work<'_>) -> Result<Option<Place>, Spent> {
        work.steps(1)?;
        work.read(wanted.len())?;
        if let Some((_, start)) = self.index.find(self.text, wanted, work)
            && !matches!(self.change(start), Ok(Change { value: None, .. }))
        {
            return Ok(Some(Place::Own(start)));
        }
        let hash = work.hash(wanted);
        let first = self.table.partition_point(|(own, _)| *own < hash);
        let mut same = self.table.iter().skip(first).take_while(|(own, _)| *own == hash);
        let is_it = |place: &usize| self.added.get(*place).is_some_and(|added| added.value.is_some() && added.name == wanted);
        Ok(same.find_map(|(_, place)| Some(*place as usize).filter(is_it)).map(Place::Added))
    }

    /// What became of the member that begins there; `Err`: nothing, and where it would stand.
    fn change(&self, start: u32) -> Result<&Change<'a>, usize> {
        let at = self.changes.binary_search_by_key(&start, |change| change.start)?;
        self.changes.get(at).ok_or(at)
    }

    /// The value at this place.
    pub(super) fn value(&mut self, place: Place, work: &mut Work<'_>) -> Result<Option<&mut Node<'a>>, Spent> {
        Ok(self.slot(place, work)?.and_then(Option::as_mut))
    }

    /// Removes the member at this place.
    pub(super) fn remove(&mut self, place: Place, work: &mut Work<'_>) -> Result<Option<Node<'a>>, Spent> {
        Ok(self.slot(place, work)?.and_then(Option::take))
    }

    fn slot(&mut self, place: Place, work: &mut Work<'_>) -> Result<Option<&mut Option<Node<'a>>>, Spent> {
        let start = match place {
            Place::Added(place) => return Ok(self.added.get_mut(place).map(|added| &mut added.value)),
            Place::Own(start) => start,
        };
        let at = match self.changes.binary_search_by_key(&start, |change| change.start) {
            Ok(at) => at,
            Err(at) => {
                let Some((name, value)) = member(self.text, start as usize) else { return Ok(None) };
                work.read(name.len() + value.len())?;
                work.shift(self.changes.len() - at)?;
                work.memory(CHANGE_BYTES)?;
                self.kept = self.kept.saturating_sub(name.len() + value.len() + 2);
                self.changes.insert(at, Change { start, name: name.len(), value: Some(Node::Raw(value)) });
                at
            }
        };
        Ok(self.changes.get_mut(at).map(|change| &mut change.value))
    }

    /// Sets a member: in its place when it is there, else at the end. Answers the value that it had.
    pub(super) fn set(&mut self, wanted: Cow<'a, str>, value: Node<'a>, work: &mut Work<'_>) -> Result<Option<Node<'a>>, Spent> {
        if let Some(place) = self.find(&wanted, work)? {
            return Ok(self.slot(place, work)?.and_then(|found| found.replace(value)));
        }
        let place = u32::try_from(self.added.len()).map_err(|_| Spent::Memory)?;
        let entry = (work.hash(&wanted), place);
        let at = self.table.partition_point(|own| *own < entry);
        work.shift(self.table.len() - at)?;
        work.memory(CHANGE_BYTES.saturating_add(if matches!(wanted, Cow::Owned(_)) { wanted.len() } else { 0 }))?;
        self.table.insert(at, entry);
        self.added.push(Added { name: wanted, value: Some(value) });
        Ok(None)
    }

    /// How large they are: each member with one byte behind it, and one in front of all.
    pub(super) fn extent(&self, work: &mut Work<'_>) -> Result<Extent, Spent> {
        work.steps(self.changes.len() + self.added.len() + 1)?;
        // An index is gone with the last of those who share it.
        let shared = if Rc::strong_count(&self.index) == 1 { self.index.memory() } else { 0 };
        let mut extent = Extent { bytes: 1 + self.kept, height: 1, memory: OPENED_BYTES, shared };
        for Change { name, value, .. } in &self.changes {
            extent.memory += CHANGE_BYTES;
            if let Some(value) = value {
                extent.add(name + 1, value.extent(work)?);
            }
        }
        for Added { name, value } in &self.added {
            extent.memory += CHANGE_BYTES + name.len();
            if let Some(value) = value {
                work.read(name.len())?;
                extent.add(quoted_bytes(name) + 1, value.extent(work)?);
            }
        }
        Ok(extent)
    }

    /// Writes the object.
    pub(super) fn write(&self, text: &mut String) {
        text.push('{');
        let mut is_first = true;
        let mut comma = |text: &mut String| {
            if !std::mem::replace(&mut is_first, false) {
                text.push(',');
            }
        };
        let mut changes = self.changes.iter().peekable();
        for (start, raw, value) in located(self.text) {
            let change = changes.next_if(|change| change.start as usize == start);
            if matches!(change, Some(Change { value: None, .. })) {
                continue;
            }
            comma(text);
            text.push_str(raw);
            text.push(':');
            match change.and_then(|change| change.value.as_ref()) {
                Some(changed) => changed.write(text),
                None => text.push_str(value),
            }
        }
        for (name, value) in self.added.iter().filter_map(|added| Some((&added.name, added.value.as_ref()?))) {
            comma(text);
            if is_plain(name) {
                text.push('"');
                text.push_str(name);
                text.push('"');
            } else {
                text.push_str(&quote(name));
            }
            text.push(':');
            value.write(text);
        }
        text.push('}');
    }
}

/// Whether a text is the same within quotes.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| !matches!(byte, 0..0x20 | b'"' | b'\\'))
}

/// Bytes of a text as a JSON string.
fn quoted_bytes(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | 8 | 9 | 10 | 12 | 13 => 2,
        0..0x20 => 6,
        _ => 1,
    });
    escaped.sum::<usize>() + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_as_long_as_it_is_counted() {
        let all: String = (0_u8..=0x7F).map(char::from).chain("é\u{2028}😀".chars()).collect();
        assert_eq!(quoted_bytes(&all), quote(&all).len());
        for own in all.chars().map(String::from) {
            assert_eq!(quoted_bytes(&own), quote(&own).len(), "{own:?}");
            assert_eq!(is_plain(&own), quote(&own) == format!("\"{own}\""), "{own:?}");
        }
    }
}
