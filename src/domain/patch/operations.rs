//! The operations of JSON Patch (RFC 6902) and the pointers in them (RFC 6901).

use super::equal::equal;
use super::tree::{Node, position, set};
use super::{PatchFault, malformed};
use crate::domain::document::{self, FaultKind, Kind, Object};

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

/// Applies the operations in their order.
pub(super) fn apply<'a>(root: &mut Node<'a>, patch: &'a str, limit: usize) -> Result<(), PatchFault> {
    let operations = read(patch)?;
    let mut size = root.len();
    for (index, operation) in operations.into_iter().enumerate() {
        let not_applicable = |reason| PatchFault::NotApplicable { index, reason };
        match operation {
            Operation::Add(path, value) => {
                size += value.len();
                add(root, &path.map_err(not_applicable)?, Node::Raw(value)).map_err(not_applicable)?;
            }
            Operation::Remove(path) => drop(remove(root, &path.map_err(not_applicable)?).map_err(not_applicable)?),
            Operation::Replace(path, value) => {
                size += value.len();
                *find(root, &path.map_err(not_applicable)?).ok_or_else(|| not_applicable(NOWHERE))? = Node::Raw(value);
            }
            Operation::Move(from, path) => {
                let (from, path) = (from.map_err(not_applicable)?, path.map_err(not_applicable)?);
                if path.len() > from.len() && path.starts_with(&from) {
                    return Err(not_applicable("a value cannot be moved into itself"));
                }
                let value = remove_any(root, &from).map_err(not_applicable)?;
                add(root, &path, value).map_err(not_applicable)?;
            }
            Operation::Copy(from, path) => {
                let value = find(root, &from.map_err(not_applicable)?).ok_or_else(|| not_applicable(NOWHERE))?;
                // Counted before the copy is made: copies of copies double each time.
                size += value.len();
                if size > limit {
                    return Err(PatchFault::TooLarge { limit });
                }
                let value = value.clone();
                add(root, &path.map_err(not_applicable)?, value).map_err(not_applicable)?;
            }
            Operation::Test(path, value) => {
                let found = find(root, &path.map_err(not_applicable)?).ok_or_else(|| not_applicable(NOWHERE))?;
                let mut text = String::new();
                found.write(&mut text);
                if !equal(&text, value) {
                    return Err(PatchFault::TestFailed { index });
                }
            }
        }
        if size > limit {
            // What was replaced and removed has been counted as if it were still there.
            size = root.len();
            if size > limit {
                return Err(PatchFault::TooLarge { limit });
            }
        }
    }
    Ok(())
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

fn find<'n, 'a>(root: &'n mut Node<'a>, path: &[String]) -> Option<&'n mut Node<'a>> {
    path.iter().try_fold(root, |node, segment| {
        if node.members().is_some() {
            let members = node.members()?;
            let place = position(members, segment)?;
            members.get_mut(place).map(|member| &mut member.value)
        } else {
            node.elements()?.get_mut(index(segment)?)
        }
    })
}

fn add<'a>(root: &mut Node<'a>, path: &[String], value: Node<'a>) -> Result<(), &'static str> {
    let Some((last, parents)) = path.split_last() else {
        *root = value;
        return Ok(());
    };
    let parent = find(root, parents).ok_or(NOWHERE)?;
    if let Some(members) = parent.members() {
        set(members, last, value);
        return Ok(());
    }
    let elements = parent.elements().ok_or("the path leads into a value that is neither object nor array")?;
    let place = if last == "-" { elements.len() } else { index(last).ok_or("the path does not name an element of the array")? };
    if place > elements.len() {
        return Err("the path is behind the array's end");
    }
    elements.insert(place, value);
    Ok(())
}

/// Removes a value that is not the whole document.
fn remove<'a>(root: &mut Node<'a>, path: &[String]) -> Result<Node<'a>, &'static str> {
    let (last, parents) = path.split_last().ok_or("the whole document cannot be removed")?;
    let parent = find(root, parents).ok_or(NOWHERE)?;
    if let Some(members) = parent.members() {
        let place = position(members, last).ok_or(NOWHERE)?;
        return Ok(members.remove(place).value);
    }
    let elements = parent.elements().ok_or(NOWHERE)?;
    let place = index(last).filter(|place| *place < elements.len()).ok_or(NOWHERE)?;
    Ok(elements.remove(place))
}

/// Removes a value; the whole document is taken and left in place, as only a move onto itself may do.
fn remove_any<'a>(root: &mut Node<'a>, path: &[String]) -> Result<Node<'a>, &'static str> {
    if path.is_empty() { Ok(root.clone()) } else { remove(root, path) }
}
