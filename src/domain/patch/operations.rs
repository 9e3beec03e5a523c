//! The operations of JSON Patch (RFC 6902) and the pointers in them (RFC 6901).

use super::equal::equal;
use super::tree::{Extent, Node};
use super::work::{Spent, Work};
use super::{PatchFault, malformed};
use crate::domain::document::{self, FaultKind, Kind, MAX_DEPTH, Object};

/// Most operations in one patch.
pub const MAX_OPERATIONS: usize = 1000;

/// One operation, read.
enum Operation<'a> {
    Add(Pointer, &'a str),
    Remove(Pointer),
    Replace(Pointer, &'a str),
    Move(Pointer, Pointer),
    Copy(Pointer, Pointer),
    Test(Pointer, &'a str),
}

/// The segments of a pointer; `Err`: what is wrong with it.
type Pointer = Result<Vec<String>, &'static str>;

const NOWHERE: &str = "the path points nowhere";

/// Why an operation is not applied.
enum Refusal {
    NotApplicable(&'static str),
    TestFailed,
    TooLarge,
    TooDeep,
    Spent,
}

impl From<&'static str> for Refusal {
    fn from(reason: &'static str) -> Self {
        Self::NotApplicable(reason)
    }
}

impl From<Spent> for Refusal {
    fn from(_: Spent) -> Self {
        Self::Spent
    }
}

/// Applies the operations in their order.
pub(super) fn apply<'a>(root: &mut Node<'a>, patch: &'a str, limit: usize, work: &mut Work) -> Result<(), PatchFault> {
    let operations = read(patch)?;
    let total = work.limit();
    let bytes = root.extent(work).map_err(|Spent| PatchFault::TooCostly { limit: total })?.bytes;
    let mut size = Size { bytes, limit };
    for (index, operation) in operations.into_iter().enumerate() {
        apply_one(root, operation, &mut size, work).map_err(|refusal| match refusal {
            Refusal::NotApplicable(reason) => PatchFault::NotApplicable { index, reason },
            Refusal::TestFailed => PatchFault::TestFailed { index },
            Refusal::TooLarge => PatchFault::TooLarge { limit },
            Refusal::TooDeep => PatchFault::TooDeep { index },
            Refusal::Spent => PatchFault::TooCostly { limit: total },
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
    fn count(&mut self, root: &Node<'_>, work: &mut Work) -> Result<(), Spent> {
        self.bytes = root.extent(work)?.bytes;
        Ok(())
    }

    /// Something so large comes into the document.
    fn grow(&mut self, bytes: usize, root: &Node<'_>, work: &mut Work) -> Result<(), Refusal> {
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
    fn shrink(&mut self, gone: Option<&Node<'_>>, work: &mut Work) -> Result<(), Spent> {
        if let Some(gone) = gone {
            self.bytes = self.bytes.saturating_sub(gone.extent(work)?.bytes);
        }
        Ok(())
    }
}

fn apply_one<'a>(root: &mut Node<'a>, operation: Operation<'a>, size: &mut Size, work: &mut Work) -> Result<(), Refusal> {
    match operation {
        Operation::Add(path, value) => {
            let gone = add(root, &shallow(path)?, Node::Raw(value), work)?;
            size.shrink(gone.as_ref(), work)?;
            grown(root, value.len(), size, work)
        }
        Operation::Remove(path) => {
            let gone = remove(root, &shallow(path)?, work)?;
            Ok(size.shrink(Some(&gone), work)?)
        }
        Operation::Replace(path, value) => {
            let found = find(root, &shallow(path)?, work)?.ok_or(NOWHERE)?;
            let gone = std::mem::replace(found, Node::Raw(value));
            size.shrink(Some(&gone), work)?;
            grown(root, value.len(), size, work)
        }
        Operation::Move(from, path) => {
            let (from, path) = (shallow(from)?, shallow(path)?);
            if path.len() > from.len() && path.starts_with(&from) {
                return Err("a value cannot be moved into itself".into());
            }
            if from.is_empty() {
                // A move of the whole document leads onto itself: anything else is inside of it.
                return Ok(());
            }
            let value = remove(root, &from, work)?;
            fits_below(&path, value.extent(work)?)?;
            let gone = add(root, &path, value, work)?;
            Ok(size.shrink(gone.as_ref(), work)?)
        }
        Operation::Copy(from, path) => {
            let (from, path) = (shallow(from)?, shallow(path)?);
            let extent = find(root, &from, work)?.ok_or(NOWHERE)?.extent(work)?;
            // Before the copy is made: copies of copies double each time.
            fits_below(&path, extent)?;
            size.grow(extent.bytes, root, work)?;
            let copy = find(root, &from, work)?.ok_or(NOWHERE)?.clone();
            let gone = add(root, &path, copy, work)?;
            Ok(size.shrink(gone.as_ref(), work)?)
        }
        Operation::Test(path, value) => {
            let found = find(root, &shallow(path)?, work)?.ok_or(NOWHERE)?;
            let bytes = found.extent(work)?.bytes;
            work.read(bytes.saturating_add(value.len()))?;
            if equal(&found.text(bytes), value) { Ok(()) } else { Err(Refusal::TestFailed) }
        }
    }
}

/// A pointer that does not lead deeper than documents nest. What is opened on the way is gone through by recursion.
fn shallow(path: Pointer) -> Result<Vec<String>, Refusal> {
    let path = path?;
    if path.len() > MAX_DEPTH { Err(Refusal::TooDeep) } else { Ok(path) }
}

/// Refuses to hang what was opened below a path where both together are deeper than documents nest: moves and copies could heap up
/// thousands of levels otherwise.
fn fits_below(path: &[String], extent: Extent) -> Result<(), Refusal> {
    if path.len() + extent.height > MAX_DEPTH { Err(Refusal::TooDeep) } else { Ok(()) }
}

/// A value came into the document, which has it already.
fn grown(root: &Node<'_>, bytes: usize, size: &mut Size, work: &mut Work) -> Result<(), Refusal> {
    size.bytes = size.bytes.saturating_add(bytes);
    if size.bytes > size.limit {
        size.count(root, work)?;
    }
    if size.bytes > size.limit { Err(Refusal::TooLarge) } else { Ok(()) }
}

/// Whether an operation other than `test` goes to, or takes away, a member of the top object.
pub(super) fn touches(patch: &str, member: &str) -> bool {
    let at = |path: &Pointer| path.as_ref().is_ok_and(|path| path.first().is_none_or(|first| first == member));
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
    let mut text = |member: &str| {
        let raw = object.take(member);
        raw.map(|raw| document::text(raw, usize::MAX).map_err(|kind| at(member, kind))).transpose()
    };
    let name = text("op")?.ok_or_else(|| missing("op"))?;
    let path = pointer(&text("path")?.ok_or_else(|| missing("path"))?);
    // RFC 6902 section 4: what an operation does not define is ignored. Writers of patches send `value` and `from` with every operation.
    let from = text("from")?.map(|from| pointer(&from));
    let value = object.take("value");
    let (from, value) = (|| from.ok_or_else(|| missing("from")), || value.ok_or_else(|| missing("value")));
    let operation = match name.as_str() {
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

fn pointer(text: &str) -> Pointer {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let segments = text.strip_prefix('/').ok_or("the path does not begin with a slash")?.split('/');
    segments
        .map(|segment| {
            let escapes_hold = segment.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
            if escapes_hold { Ok(segment.replace("~1", "/").replace("~0", "~")) } else { Err("the path holds ~ without 0 or 1") }
        })
        .collect()
}

/// An index of an existing element.
fn index(segment: &str) -> Option<usize> {
    let canonical = segment == "0" || (!segment.starts_with('0') && !segment.is_empty());
    if canonical && segment.bytes().all(|byte| byte.is_ascii_digit()) { segment.parse().ok() } else { None }
}

fn find<'n, 'a>(root: &'n mut Node<'a>, path: &[String], work: &mut Work) -> Result<Option<&'n mut Node<'a>>, Spent> {
    let mut node = root;
    for segment in path {
        work.steps(1)?;
        let next = if node.members(work)?.is_some() {
            let Some(members) = node.members(work)? else { return Ok(None) };
            members.find(segment, work)?.and_then(|place| members.value(place))
        } else {
            node.elements(work)?.zip(index(segment)).and_then(|(elements, place)| elements.get_mut(place))
        };
        let Some(next) = next else { return Ok(None) };
        node = next;
    }
    Ok(Some(node))
}

/// Adds a value. Answers the one that it replaces.
fn add<'a>(root: &mut Node<'a>, path: &[String], value: Node<'a>, work: &mut Work) -> Result<Option<Node<'a>>, Refusal> {
    let Some((last, parents)) = path.split_last() else {
        return Ok(Some(std::mem::replace(root, value)));
    };
    let parent = find(root, parents, work)?.ok_or(NOWHERE)?;
    if let Some(members) = parent.members(work)? {
        return Ok(members.set(last, value, work)?);
    }
    let elements = parent.elements(work)?.ok_or("the path leads into a value that is neither object nor array")?;
    let place = if last == "-" { elements.len() } else { index(last).ok_or("the path does not name an element of the array")? };
    let behind = elements.len().checked_sub(place).ok_or("the path is behind the array's end")?;
    work.shift(behind)?;
    elements.insert(place, value);
    Ok(None)
}

/// Removes a value that is not the whole document.
fn remove<'a>(root: &mut Node<'a>, path: &[String], work: &mut Work) -> Result<Node<'a>, Refusal> {
    let (last, parents) = path.split_last().ok_or("the whole document cannot be removed")?;
    let parent = find(root, parents, work)?.ok_or(NOWHERE)?;
    if let Some(members) = parent.members(work)? {
        let place = members.find(last, work)?.ok_or(NOWHERE)?;
        return Ok(members.remove(place).ok_or(NOWHERE)?);
    }
    let elements = parent.elements(work)?.ok_or(NOWHERE)?;
    let place = index(last).filter(|place| *place < elements.len()).ok_or(NOWHERE)?;
    work.shift(elements.len() - place)?;
    Ok(elements.remove(place))
}
