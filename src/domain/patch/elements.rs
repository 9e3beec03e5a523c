//! The elements of an array that was opened to change it: runs of its text, and between them what was changed.

use super::tree::{Extent, Node};
use super::work::{Spent, Work};
use crate::domain::document;

/// Longest text of a run, unless it is one element. Each place of an array costs a search for its run and the reading of one.
const RUN_BYTES: usize = 256;
/// What a piece takes at most: vectors grow to twice of what they need.
const PIECE_BYTES: usize = 2 * size_of::<Piece<'_>>();
/// What an array takes that was opened, beside its pieces.
const OPENED_BYTES: usize = 256;

/// Elements that follow each other in the text of the array.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    /// From the first byte of the first one to the last byte of the last.
    text: &'a str,
    count: u32,
    /// Bytes of the elements, without what is between them.
    bytes: u32,
}

#[derive(Debug, Clone)]
enum Piece<'a> {
    Run(Run<'a>),
    One(Node<'a>),
}

/// Elements in their order.
#[derive(Debug, Clone)]
pub(super) struct Elements<'a> {
    pieces: Vec<Piece<'a>>,
    len: usize,
}

/// Where the elements in a text are, from a place in front of the first one.
fn located(text: &str, from: usize) -> impl Iterator<Item = (usize, usize)> {
    let bytes = text.as_bytes();
    let mut position = from;
    std::iter::from_fn(move || {
        let start = document::next_value(bytes, position);
        if matches!(bytes.get(start), None | Some(b']')) {
            return None;
        }
        position = document::end_of_value(bytes, start);
        Some((start, position))
    })
}

impl<'a> Run<'a> {
    fn one(text: &'a str) -> Result<Self, Spent> {
        Ok(Self { text, count: 1, bytes: u32::try_from(text.len()).map_err(|_| Spent::Memory)? })
    }

    /// The elements before this one, and those from it on.
    fn cut(self, at: u32) -> (Option<Self>, Option<Self>) {
        let (mut bytes, mut end) = (0, 0);
        for (number, (start, stop)) in (0..).zip(located(self.text, 0)) {
            if number == at {
                let before = (at > 0).then(|| Self { text: self.text.get(..end).unwrap_or_default(), count: at, bytes });
                let text = self.text.get(start..).unwrap_or_default();
                return (before, Some(Self { text, count: self.count - at, bytes: self.bytes - bytes }));
            }
            bytes += u32::try_from(stop - start).unwrap_or_default();
            end = stop;
        }
        (Some(self), None)
    }

    /// Writes the elements, with commas alone between them.
    fn write(self, text: &mut String) {
        if self.text.len() + 1 == self.bytes as usize + self.count as usize {
            text.push_str(self.text);
            return;
        }
        for (number, (start, end)) in located(self.text, 0).enumerate() {
            if number > 0 {
                text.push(',');
            }
            text.push_str(self.text.get(start..end).unwrap_or_default());
        }
    }
}

impl<'a> From<Run<'a>> for Piece<'a> {
    fn from(run: Run<'a>) -> Self {
        if run.count == 1 { Self::One(Node::Raw(run.text)) } else { Self::Run(run) }
    }
}

impl<'a> Elements<'a> {
    /// Those of an array's text.
    pub(super) fn read(array: &'a str, work: &mut Work<'_>) -> Result<Self, Spent> {
        work.read(array.len())?;
        work.memory(OPENED_BYTES)?;
        let mut elements = Self { pieces: Vec::new(), len: 0 };
        let mut run: Option<(usize, Run<'a>)> = None;
        for (start, end) in located(array, 1) {
            let text = |from: usize| array.get(from..end).unwrap_or_default();
            let one = Run::one(text(start))?;
            elements.len += 1;
            run = match run {
                Some((from, run)) if end - from <= RUN_BYTES => {
                    Some((from, Run { text: text(from), count: run.count + 1, bytes: run.bytes + one.bytes }))
                }
                full => {
                    if let Some((_, full)) = full {
                        work.memory(PIECE_BYTES)?;
                        elements.pieces.push(full.into());
                    }
                    Some((start, one))
                }
            };
        }
        if let Some((_, last)) = run {
            work.memory(PIECE_BYTES)?;
            elements.pieces.push(last.into());
        }
        Ok(elements)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The piece that begins with the element of this index, which is one of them or the end.
    fn cut(&mut self, index: usize, work: &mut Work<'_>) -> Result<usize, Spent> {
        let mut before = 0;
        let mut at = 0;
        while before < index {
            let count = match self.pieces.get(at) {
                Some(Piece::Run(run)) => run.count as usize,
                Some(Piece::One(_)) => 1,
                None => break,
            };
            if before + count > index {
                break;
            }
            before += count;
            at += 1;
        }
        work.shift(at)?;
        let inner = u32::try_from(index - before).unwrap_or_default();
        let Some(Piece::Run(run)) = self.pieces.get(at).filter(|_| inner > 0) else { return Ok(at) };
        let (front, back) = run.cut(inner);
        work.read(run.text.len())?;
        work.shift(self.pieces.len() - at)?;
        work.memory(PIECE_BYTES)?;
        let halves = front.into_iter().chain(back).map(Piece::from);
        drop(self.pieces.splice(at..=at, halves));
        Ok(at + 1)
    }

    /// The piece that is the element of this index, and nothing else.
    fn isolate(&mut self, index: usize, work: &mut Work<'_>) -> Result<Option<usize>, Spent> {
        if index >= self.len {
            return Ok(None);
        }
        let at = self.cut(index, work)?;
        if matches!(self.pieces.get(at), Some(Piece::Run(_))) {
            self.cut(index + 1, work)?;
        }
        Ok(Some(at))
    }

    /// The element of this index.
    pub(super) fn get(&mut self, index: usize, work: &mut Work<'_>) -> Result<Option<&mut Node<'a>>, Spent> {
        let Some(at) = self.isolate(index, work)? else { return Ok(None) };
        Ok(match self.pieces.get_mut(at) {
            Some(Piece::One(node)) => Some(node),
            _ => None,
        })
    }

    /// Puts a value in front of the element of this index, which is one of them or the end.
    pub(super) fn insert(&mut self, index: usize, value: Node<'a>, work: &mut Work<'_>) -> Result<(), Spent> {
        let at = self.cut(index, work)?;
        work.shift(self.pieces.len() - at)?;
        work.memory(PIECE_BYTES)?;
        self.pieces.insert(at, Piece::One(value));
        self.len += 1;
        Ok(())
    }

    /// Removes the element of this index.
    pub(super) fn remove(&mut self, index: usize, work: &mut Work<'_>) -> Result<Option<Node<'a>>, Spent> {
        let Some(at) = self.isolate(index, work)? else { return Ok(None) };
        work.shift(self.pieces.len() - at)?;
        self.len -= 1;
        Ok(match self.pieces.remove(at) {
            Piece::One(node) => Some(node),
            Piece::Run(_) => None,
        })
    }

    /// How large they are: each with one byte behind it, and one in front of all.
    pub(super) fn extent(&self, work: &mut Work<'_>) -> Result<Extent, Spent> {
        work.shift(self.pieces.len())?;
        work.steps(1)?;
        let mut extent = Extent { bytes: 1, height: 1, memory: OPENED_BYTES, shared: 0 };
        for piece in &self.pieces {
            extent.memory += PIECE_BYTES;
            match piece {
                Piece::Run(run) => extent.bytes += run.bytes as usize + run.count as usize,
                Piece::One(node) => extent.add(0, node.extent(work)?),
            }
        }
        Ok(extent)
    }

    /// Writes the array.
    pub(super) fn write(&self, text: &mut String) {
        text.push('[');
        for (number, piece) in self.pieces.iter().enumerate() {
            if number > 0 {
                text.push(',');
            }
            match piece {
                Piece::Run(run) => run.write(text),
                Piece::One(node) => node.write(text),
            }
        }
        text.push(']');
    }
}
