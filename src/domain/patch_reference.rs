//! Patches of trees, written from RFC 7396 and RFC 6902 alone: the other opinion that fuzzing holds `patch` against.

use serde_json::{Map, Value};

use super::patch::MAX_OPERATIONS;

/// What becomes of a JSON Patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    Malformed,
    TestFailed(usize),
    NotApplicable(usize),
}

/// RFC 7396 section 2.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// RFC 6902. The patch is read as a whole before any of it is done; the target of one that fails is of no use.
pub(super) fn operate(target: &mut Value, patch: &Value) -> Verdict {
    let Some(list) = patch.as_array().filter(|list| list.len() <= MAX_OPERATIONS) else { return Verdict::Malformed };
    if !list.iter().all(is_operation) {
        return Verdict::Malformed;
    }
    for (index, operation) in list.iter().enumerate() {
        match one(target, operation) {
            Some(true) => {}
            Some(false) => return Verdict::TestFailed(index),
            None => return Verdict::NotApplicable(index),
        }
    }
    Verdict::Done
}

fn is_operation(operation: &Value) -> bool {
    let Some(members) = operation.as_object() else { return false };
    let text = |name: &str| members.get(name).is_some_and(Value::is_string);
    let needed = match members.get("op").and_then(Value::as_str) {
        Some("add" | "replace" | "test") => members.contains_key("value"),
        Some("move" | "copy") => text("from"),
        Some("remove") => true,
        _ => false,
    };
    let known = members.keys().all(|name| matches!(name.as_str(), "op" | "path" | "from" | "value"));
    needed && known && text("path") && (text("from") || !members.contains_key("from"))
}

/// `Some(false)`: a test found another value; `None`: it does not apply.
fn one(target: &mut Value, operation: &Value) -> Option<bool> {
    let path = operation["path"].as_str()?;
    let from = || operation["from"].as_str();
    match operation["op"].as_str()? {
        "add" => add(target, path, operation["value"].clone())?,
        "remove" => drop(remove(target, path)?),
        "replace" => {
            segments(path)?;
            *target.pointer_mut(path)? = operation["value"].clone();
        }
        "move" => {
            let (from, to) = (segments(from()?)?, segments(path)?);
            if to.len() > from.len() && to.starts_with(&from) {
                return None;
            }
            let value = if from.is_empty() { target.clone() } else { remove(target, operation["from"].as_str()?)? };
            add(target, path, value)?;
        }
        "copy" => {
            segments(from()?)?;
            let value = target.pointer(from()?)?.clone();
            add(target, path, value)?;
        }
        _ => {
            segments(path)?;
            return Some(equal(target.pointer(path)?, &operation["value"]));
        }
    }
    Some(true)
}

/// RFC 6901: the segments, with their escapes read.
fn segments(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let read = |segment: &str| {
        let mut text = String::new();
        let mut rest = segment.chars();
        while let Some(own) = rest.next() {
            text.push(match own {
                '~' => match rest.next() {
                    Some('0') => '~',
                    Some('1') => '/',
                    _ => return None,
                },
                other => other,
            });
        }
        Some(text)
    };
    pointer.strip_prefix('/')?.split('/').map(read).collect()
}

/// The container of what a pointer names, and the last segment.
fn parent<'a>(target: &'a mut Value, pointer: &str) -> Option<(&'a mut Value, String)> {
    let last = segments(pointer)?.pop()?;
    let above = pointer.rfind('/').map(|at| &pointer[..at])?;
    Some((target.pointer_mut(above)?, last))
}

fn index(segment: &str) -> Option<usize> {
    let digits = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    let leading = segment.len() > 1 && segment.starts_with('0');
    if digits && !leading { segment.parse().ok() } else { None }
}

fn add(target: &mut Value, pointer: &str, value: Value) -> Option<()> {
    if pointer.is_empty() {
        *target = value;
        return Some(());
    }
    match parent(target, pointer)? {
        (Value::Object(members), name) => drop(members.insert(name, value)),
        (Value::Array(elements), segment) => {
            let at = if segment == "-" { elements.len() } else { index(&segment)? };
            if at > elements.len() {
                return None;
            }
            elements.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn remove(target: &mut Value, pointer: &str) -> Option<Value> {
    match parent(target, pointer)? {
        (Value::Object(members), name) => members.remove(&name),
        (Value::Array(elements), segment) => {
            let at = index(&segment).filter(|at| *at < elements.len())?;
            Some(elements.remove(at))
        }
        _ => None,
    }
}

/// RFC 6902 section 4.6, numbers by value: `1` is `1.0`.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let integer = |number: &serde_json::Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
            match (integer(left), integer(right)) {
                (Some(left), Some(right)) => left == right,
                _ => left.as_f64() == right.as_f64(),
            }
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len() && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| equal(value, other)))
        }
        _ => left == right,
    }
}

/// Whether an operation's `path` or `from` is the whole document or goes through this member of the top object.
pub(super) fn names(patch: &Value, member: &str) -> bool {
    let through = |pointer: &Value| {
        let path = pointer.as_str().and_then(segments);
        path.is_some_and(|path| path.first().is_none_or(|first| first == member))
    };
    patch.as_array().into_iter().flatten().any(|operation| through(&operation["path"]) || through(&operation["from"]))
}
