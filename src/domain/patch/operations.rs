//! The operations of JSON Patch (RFC 6902).

use std::borrow::Cow;

use super::equal::equal;
use super::pointer::{Pointer, Unusable, index};
use super::tree::{Extent, Node, Opened};
use super::work::{Spent, Work};
use super::{PatchFault, malformed};
use crate::domain::document::{self, FaultKind, Kind, MAX_DEPTH, Object};

/// Most operations in one patch.
pub const MAX_OPERATIONS: usize = 1000;

/// One operation, read.
enum Operation<'a> {
    Add(Path<'a>, &'a str),
    Remove(Path<'a>),
    Replace(Path<'a>, &'a str),
    Move(Path<'a>, Path<'a>),
    Copy(Path<'a>, Path<'a>),
    Test(Path<'a>, &'a str),
}

/// A pointer that is looked at in its turn: what is wrong with it counts for its operation alone.
type Path<'a> = Result<Pointer<'a>, Unusable>;
/// A pointer's segments.
type Segment<'a> = Cow<'a, str>;

const NOWHERE: &str = "the path points nowhere";

/// Why an operation is not applied.
enum Refusal {
    NotApplicable(&'static str),
    TestFailed,
    TooLarge,
    TooDeep,
    Spent(Spent),
}

impl From<&'static str> for Refusal {
    fn from(reason: &'static str) -> Self {
        Self::NotApplicable(reason)
    }
}

impl From<Spent> for Refusal {
    fn from(spent: Spent) -> Self {
        Self::Spent(spent)
    }
}

impl From<Unusable> for Refusal {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Malformed(reason) => Self::NotApplicable(reason),
            Unusable::TooDeep => Self::TooDeep,
        }
    }
}

/// Applies the operations in their order.
pub(super) fn apply<'a>(root: &mut Node<'a>, patch: &'a str, limit: usize, work: &mut Work<'_>) -> Result<(), PatchFault> {
    let operations = read(patch)?;
    let limits = work.limits();
    let bytes = root.extent(work).map_err(|spent| limits.fault(spent))?.bytes;
    let mut size = Size { bytes, limit };
    for (index, operation) in operations.into_iter().enumerate() {
        apply_one(root, operation, &mut size, work).map_err(|refusal| match refusal {
            Refusal::NotApplicable(reason) => PatchFault::NotApplicable { index, reason },
            Refusal::TestFailed => PatchFault::TestFailed { index },
            Refusal::TooLarge => PatchFault::TooLarge { limit },
            Refusal::TooDeep => PatchFault::TooDeep { index },
            Refusal::Spent(spent) => limits.fault(spent),
        })?;
    }
    Ok(())
}

/// The size of the document while it is patched. Never less than it is, but for some bytes of names and commas.
struct Size {
    bytes: usize,
    limit: usize,
}

impl Size {
    fn count(&mut self, root: &Node<'_>, work: &mut Work<'_>) -> Result<(), Spent> {
        self.bytes = root.extent(work)?.bytes;
        Ok(())
    }

    /// Something so large comes into the document.
    fn grow(&mut self, bytes: usize, root: &Node<'_>, work: &mut Work<'_>) -> Result<(), Refusal> {
        if self.bytes.saturating_add(bytes) > self.limit {
            self.count(root, work)?;
            if self.bytes.saturating_add(bytes) > self.limit {
                return Err(Refusal::TooLarge);
            }
        }
        self.bytes += bytes;
        Ok(())
    }

    /// This went.
    fn shrink(&mut self, gone: Option<&Node<'_>>, work: &mut Work<'_>) -> Result<(), Spent> {
        if let Some(gone) = gone {
            let extent = gone.extent(work)?;
            self.bytes = self.bytes.saturating_sub(extent.bytes);
            work.release(extent.memory.saturating_add(extent.shared));
        }
        Ok(())
    }
}

fn apply_one<'a>(root: &mut Node<'a>, operation: Operation<'a>, size: &mut Size, work: &mut Work<'_>) -> Result<(), Refusal> {
    match operation {
        Operation::Add(path, value) => {
            let gone = add(root, path?.segments(), Node::Raw(value), work)?;
            size.shrink(gone.as_ref(), work)?;
            grown(root, value.len(), size, work)
        }
        Operation::Remove(path) => {
            let gone = remove(root, &path?.segments(), work)?;
            Ok(size.shrink(Some(&gone), work)?)
        }
        Operation::Replace(path, value) => {
            let found = find(root, &path?.segments(), work)?.ok_or(NOWHERE)?;
            let gone = std::mem::replace(found, Node::Raw(value));
            size.shrink(Some(&gone), work)?;
            grown(root, value.len(), size, work)
        }
        Operation::Move(from, path) => {
            let (from, path) = (from?.segments(), path?.segments());
            if path.len() > from.len() && path.starts_with(&from) {
                return Err("a value cannot be moved into itself".into());
            }
            if from == path {
                // It has no effect, as long as there is something to move.
                return if find(root, &from, work)?.is_some() { Ok(()) } else { Err(NOWHERE.into()) };
            }
            let value = remove(root, &from, work)?;
            fits_below(&path, value.extent(work)?)?;
            let gone = add(root, path, value, work)?;
            Ok(size.shrink(gone.as_ref(), work)?)
        }
        Operation::Copy(from, path) => {
            let (from, path) = (from?.segments(), path?.segments());
            let extent = find(root, &from, work)?.ok_or(NOWHERE)?.extent(work)?;
            // Before the copy is made: copies of copies double each time.
            fits_below(&path, extent)?;
            size.grow(extent.bytes, root, work)?;
            work.memory(extent.memory)?;
            let copy = find(root, &from, work)?.ok_or(NOWHERE)?.clone();
            let gone = add(root, path, copy, work)?;
            Ok(size.shrink(gone.as_ref(), work)?)
        }
        Operation::Test(path, value) => {
            let found = find(root, &path?.segments(), work)?.ok_or(NOWHERE)?;
            let bytes = found.extent(work)?.bytes;
            work.read(bytes.saturating_add(value.len()))?;
            work.memory(bytes)?;
            let is_equal = equal(&found.text(bytes), value, work)?;
            work.release(bytes);
            if is_equal { Ok(()) } else { Err(Refusal::TestFailed) }
        }
    }
}

/// Refuses to hang what was opened below a path where both together are deeper than documents nest: moves and copies could heap up
/// thousands of levels otherwise.
fn fits_below(path: &[Segment<'_>], extent: Extent) -> Result<(), Refusal> {
    if path.len() + extent.height > MAX_DEPTH { Err(Refusal::TooDeep) } else { Ok(()) }
}

/// A value came into the document, which has it already.
fn grown(root: &Node<'_>, bytes: usize, size: &mut Size, work: &mut Work<'_>) -> Result<(), Refusal> {
    size.bytes = size.bytes.saturating_add(bytes);
    if size.bytes > size.limit {
        size.count(root, work)?;
    }
    if size.bytes > size.limit { Err(Refusal::TooLarge) } else { Ok(()) }
}

/// Whether an operation other than `test` goes to, or takes away, a member of the top object.
pub(super) fn touches(patch: &str, member: &str) -> bool {
    let at = |path: &Path<'_>| path.as_ref().is_ok_and(|path| path.first().is_none_or(|first| first == member));
    read(patch).is_ok_and(|operations| {
        operations.iter().any(|operation| match operation {
            Operation::Add(path, _) | Operation::Remove(path) | Operation::Replace(path, _) | Operation::Copy(_, path) => at(path),
            Operation::Move(from, path) => at(from) || at(path),
            Operation::Test(..) => false,
        })
    })
}

fn read(patch: &str) -> Result<Vec<Operation<'_>>, PatchFault> {
    if document::kind(patch) != Kind::Array {
        return Err(malformed("#".into(), FaultKind::InvalidType { expected: "an array of operations" }));
    }
    let operations: Vec<&str> = document::elements(patch).take(MAX_OPERATIONS + 1).collect();
    if operations.len() > MAX_OPERATIONS {
        return Err(malformed("#".into(), FaultKind::TooMany { limit: MAX_OPERATIONS }));
    }
    operations.into_iter().enumerate().map(|(index, operation)| read_one(index, operation)).collect()
}

fn read_one(index: usize, operation: &str) -> Result<Operation<'_>, PatchFault> {
    let at = |member: &str, kind| malformed(format!("#/{index}/{member}"), kind);
    let Ok(mut object) = Object::read(operation) else {
        return Err(malformed(format!("#/{index}"), FaultKind::InvalidType { expected: "an operation" }));
    };
    let missing = |member: &str| at(member, FaultKind::MissingMember);
    let mut text = |member: &str| match object.take(member) {
        Some(raw) if document::kind(raw) != Kind::String => Err(at(member, FaultKind::InvalidType { expected: "a string" })),
        raw => Ok(raw.map(document::unescape)),
    };
    let name = text("op")?.ok_or_else(|| missing("op"))?;
    let path = Pointer::read(text("path")?.ok_or_else(|| missing("path"))?);
    // RFC 6902 section 4: what an operation does not define is ignored. Writers of patches send `value` and `from` with every operation.
    let from = text("from")?.map(Pointer::read);
    let value = object.take("value");
    let (from, value) = (|| from.ok_or_else(|| missing("from")), || value.ok_or_else(|| missing("value")));
    let operation = match &*name {
        "add" => Operation::Add(path, value()?),
        "remove" => Operation::Remove(path),
        "replace" => Operation::Replace(path, value()?),
        "move" => Operation::Move(from()?, path),
        "copy" => Operation::Copy(from()?, path),
        "test" => Operation::Test(path, value()?),
        _ => return Err(at("op", FaultKind::InvalidValue { grammar: "add|remove|replace|move|copy|test" })),
    };
    match object.unknown().into_iter().next() {
        Some(fault) => Err(malformed(format!("#/{index}{}", fault.pointer.trim_start_matches('#')), fault.kind)),
        None => Ok(operation),
    }
}

fn find<'n, 'a>(root: &'n mut Node<'a>, path: &[Segment<'_>], work: &mut Work<'_>) -> Result<Option<&'n mut Node<'a>>, Spent> {
    let mut node = root;
    for segment in path {
        work.steps(1)?;
        let next = match node.open(work)? {
            Opened::Object(members) => match members.find(segment, work)? {
                Some(place) => members.value(place, work)?,
                None => None,
            },
            Opened::Array(elements) => match index(segment) {
                Some(place) => elements.get(place, work)?,
                None => None,
            },
            Opened::Scalar => None,
        };
        let Some(next) = next else { return Ok(None) };
        node = next;
    }
    Ok(Some(node))
}

/// Adds a value. Answers the one that it replaces.
fn add<'a>(root: &mut Node<'a>, mut path: Vec<Segment<'a>>, value: Node<'a>, work: &mut Work<'_>) -> Result<Option<Node<'a>>, Refusal> {
    let Some(last) = path.pop() else {
        return Ok(Some(std::mem::replace(root, value)));
    };
    match find(root, &path, work)?.ok_or(NOWHERE)?.open(work)? {
        Opened::Object(members) => Ok(members.set(last, value, work)?),
        Opened::Array(elements) => {
            let end = elements.len();
            let place = if last == "-" { end } else { index(&last).ok_or("the path does not name an element of the array")? };
            if place > end {
                return Err("the path is behind the array's end".into());
            }
            elements.insert(place, value, work)?;
            Ok(None)
        }
        Opened::Scalar => Err("the path leads into a value that is neither object nor array".into()),
    }
}

/// Removes a value that is not the whole document.
fn remove<'a>(root: &mut Node<'a>, path: &[Segment<'_>], work: &mut Work<'_>) -> Result<Node<'a>, Refusal> {
    let (last, parents) = path.split_last().ok_or("the whole document cannot be removed")?;
    let gone = match find(root, parents, work)?.ok_or(NOWHERE)?.open(work)? {
        Opened::Object(members) => match members.find(last, work)? {
            Some(place) => members.remove(place, work)?,
            None => None,
        },
        Opened::Array(elements) => match index(last) {
            Some(place) => elements.remove(place, work)?,
            None => None,
        },
        Opened::Scalar => None,
    };
    Ok(gone.ok_or(NOWHERE)?)
}
