//! What fuzzing asserts of documents, patches, cursors and identifiers. Called by `crate::fuzzing`, never by the server.
//!
//! Where a rule of ours is one of JSON, the other opinion is a tree of `serde_json`.

use serde_json::{Map, Value};

use super::batch::VariableBatch;
use super::checkpoint::CheckpointInput;
use super::clock::Timestamp;
use super::document::{self, FaultKind, Kind, MAX_FAULTS};
use super::id::{UserId, check_id, check_name, check_user_id};
use super::page::CursorBinding;
use super::patch::{self, PatchFault, PatchKind, PatchLimits};
use super::patch_reference::{self, Verdict};
use super::session::SessionInput;
use super::state::StateDocument;
use super::variable::{Number, Scope, VariableInput};

/// Far above what a fuzzer sends, and below what a patch of copies could grow to.
const LIMIT: usize = 1 << 20;
/// Steps enough for every patch that the fuzzers write.
const STEPS: u32 = 1_000_000;

fn within(bytes: usize) -> PatchLimits {
    PatchLimits { bytes, steps_per_byte: STEPS, memory_bytes: 16 << 20 }
}

fn apply(kind: PatchKind, target: &str, patch: &str, limits: PatchLimits) -> Result<String, PatchFault> {
    patch::apply(kind, target, patch, limits, &|| false)
}

/// A tree of a validated document, built with the walkers of `document`.
fn tree(text: &str) -> Value {
    match document::kind(text) {
        Kind::Object => Value::Object(document::members(text).map(|(name, value)| (name.into_owned(), tree(value))).collect::<Map<_, _>>()),
        Kind::Array => document::elements(text).map(tree).collect(),
        Kind::String => document::unescape(text).into(),
        // One scalar.
        _ => serde_json::from_str(text).unwrap_or_default(),
    }
}

/// The two parts of an input, at its first NUL, which no JSON text holds.
fn halves(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = data.iter().position(|byte| *byte == 0)?;
    Some((&data[..at], &data[at + 1..]))
}

/// A document is taken exactly when it is JSON that keeps our rules, its walkers see what a parser sees, and no reader panics on it.
pub(crate) fn document(data: &[u8]) {
    let theirs = serde_json::from_slice::<Value>(data);
    match document::validate(data) {
        Ok(text) => {
            assert_eq!(theirs.ok(), Some(tree(text)), "the walkers see another document than a parser");
            assert_eq!(document::validate(text.as_bytes()), Ok(text));
            readers(text);
        }
        Err(fault) => {
            assert!(fault.pointer.starts_with('#') && fault.pointer.len() < 600, "{}", fault.pointer);
            match fault.kind {
                FaultKind::Syntax { offset, .. } => assert!(theirs.is_err() && offset <= data.len(), "{fault:?}"),
                FaultKind::LoneSurrogate => assert!(theirs.is_err(), "{fault:?}"),
                FaultKind::DuplicateMember | FaultKind::NulNotAllowed | FaultKind::NumberOutOfRange | FaultKind::TooDeep { .. } => {}
                other => unexpected(&other),
            }
        }
    }
}

fn unexpected(what: &dyn std::fmt::Debug) {
    assert!(std::hint::black_box(false), "unexpected: {what:?}");
}

/// The readers of request bodies, on anything that is valid JSON.
fn readers(text: &str) {
    match StateDocument::parse(text) {
        Ok(state) => {
            let parts = state.parts();
            assert!(text.contains(parts.marking) && (parts.metadata == "{}" || text.contains(parts.metadata)), "bytes are kept");
            assert_eq!(document::validate(state.text().as_bytes()), Ok(state.text()));
            assert_eq!(StateDocument::from_stored(state.text().to_owned()), Some(state));
        }
        Err(faults) => assert!(!faults.is_empty() && faults.len() <= 2 * MAX_FAULTS + 4),
    }
    if let Ok(input) = VariableInput::parse(text)
        && let Some(value) = input.value
    {
        assert!(text.contains(&*value));
        for number in [Number::Integer(i64::MAX), Number::Integer(-1), Number::Float(f64::MAX), Number::Float(0.1)] {
            if let Ok(sum) = number.add_to(Some(&value)) {
                assert_eq!(document::validate(sum.as_bytes()), Ok(&*sum));
                assert_eq!(document::kind(&sum), Kind::Number);
            }
        }
    }
    for names in [true, false] {
        if let Ok(input) = SessionInput::parse(text, names) {
            assert!(text.contains(&*input.document.data) && (names || (input.id.is_none() && input.owner.is_none())));
        }
    }
    let _ = CheckpointInput::parse(text);
    let _ = VariableBatch::parse(text);
}

/// A target and a patch, both valid, out of an input.
fn target_and_patch(data: &[u8]) -> Option<(&str, &str)> {
    let (target, patch) = halves(data)?;
    Some((document::validate(target).ok()?, document::validate(patch).ok()?))
}

/// A merge patch does what a merge of trees does, twice is once, and what it does not name keeps its bytes and its order.
pub(crate) fn merge_patch(data: &[u8]) {
    let Some((target, patch)) = target_and_patch(data) else { return };
    let Ok(once) = apply(PatchKind::Merge, target, patch, within(LIMIT)) else { return };
    let mut expected = tree(target);
    patch_reference::merge(&mut expected, &tree(patch));
    assert_eq!(tree(&once), expected, "{target} + {patch}");
    // What nests deeper than a document may is refused after the patch.
    if let Err(fault) = document::validate(once.as_bytes()) {
        assert!(matches!(fault.kind, FaultKind::TooDeep { .. }), "{fault:?}");
        return;
    }
    assert_eq!(apply(PatchKind::Merge, &once, patch, within(LIMIT)).as_deref(), Ok(&*once), "twice is not once: {target} + {patch}");
    assert_eq!(apply(PatchKind::Merge, target, patch, within(once.len())).as_deref(), Ok(&*once));
    assert!(apply(PatchKind::Merge, target, patch, within(once.len() - 1)).is_err());
    merge_keeps(target, patch, &once);
}

fn merge_keeps(target: &str, patch: &str, result: &str) {
    if document::kind(target) != Kind::Object || document::kind(patch) != Kind::Object {
        return;
    }
    let named: Map<String, Value> = document::members(patch).map(|(name, _)| (name.into_owned(), Value::Null)).collect();
    let untouched = |text| -> Vec<(&str, &str)> {
        document::raw_members(text).filter(|(name, _)| !named.contains_key(&*document::unescape(name))).collect()
    };
    assert_eq!(untouched(target), untouched(result));
    for (name, inner) in document::members(patch) {
        let of = |text| document::members(text).find(|(own, _)| *own == name).map(|(_, value)| value);
        if let (Some(before), Some(after)) = (of(target), of(result)) {
            merge_keeps(before, inner, after);
        }
    }
}

/// A JSON Patch does what RFC 6902 says of trees, fails where that fails, and keeps the bytes of members that it does not name.
pub(crate) fn json_patch(data: &[u8]) {
    let Some((target, patch)) = target_and_patch(data) else { return };
    let mut reference = tree(target);
    let ours = apply(PatchKind::Operations, target, patch, within(LIMIT));
    if matches!(ours, Err(PatchFault::TooLarge { .. } | PatchFault::TooDeep { .. })) {
        return;
    }
    let theirs = patch_reference::operate(&mut reference, &tree(patch));
    match (&ours, theirs) {
        (Ok(text), Verdict::Done) => assert_eq!(tree(text), reference, "{target} + {patch}"),
        (Err(PatchFault::Malformed(faults)), Verdict::Malformed) => assert!(!faults.is_empty()),
        (Err(PatchFault::TestFailed { index }), Verdict::TestFailed(at)) => assert_eq!(*index, at),
        (Err(PatchFault::NotApplicable { index, .. }), Verdict::NotApplicable(at)) => assert_eq!(*index, at),
        (_, theirs) => unexpected(&(target, patch, &ours, theirs)),
    }
    let Ok(text) = ours else { return };
    let touched = |name: &str| patch_reference::names(&tree(patch), name);
    let untouched = |text: &str| -> Vec<(String, String)> {
        let members = if document::kind(text) == Kind::Object { document::raw_members(text).collect() } else { Vec::new() };
        let own = members.into_iter().filter(|(name, _)| !touched(&document::unescape(name)));
        own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    if !patch_reference::names(&tree(patch), "") || document::kind(target) == Kind::Object {
        assert_eq!(untouched(target), untouched(&text), "{target} + {patch}");
    }
}

/// A cursor is read for its own list alone, and has one spelling.
pub(crate) fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parts: Vec<&str> = text.split('\0').collect();
    let Some((position, binding)) = parts.split_last() else { return };
    let own = CursorBinding(binding);
    if let Some(read) = own.decode(position) {
        assert_eq!(own.encode(&read), *position);
    }
    let cursor = own.encode(position);
    if cursor.len() <= 2048 {
        assert_eq!(own.decode(&cursor).as_deref(), Some(*position));
    }
    let longer: Vec<&str> = binding.iter().copied().chain([""]).collect();
    assert_eq!(CursorBinding(&longer).decode(&cursor), None);
    if let Some((_, fewer)) = binding.split_last() {
        assert_eq!(CursorBinding(fewer).decode(&cursor), None);
    }
}

/// Ids, names, users, scopes and times are what their grammars say, and a scope is read as it is written.
pub(crate) fn identifiers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let is_segment = !text.is_empty() && text != "." && text != "..";
    let in_alphabet = text.chars().all(|own| own.is_ascii_alphanumeric() || "._~-".contains(own));
    assert_eq!(check_id(text).is_ok(), is_segment && text.len() <= 128 && in_alphabet, "{text:?}");
    let invisible = |own: char| {
        own.is_control() || matches!(u32::from(own), 0x61C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF)
    };
    assert_eq!(check_name(text).is_ok(), is_segment && text.len() <= 256 && !text.contains(invisible), "{text:?}");
    let is_user = !text.is_empty() && text != "me" && text.len() <= 255 && !text.contains(char::is_control);
    assert_eq!(check_user_id(text).is_ok(), is_user, "{text:?}");
    if let Ok(me) = UserId::parse("ada")
        && let Ok(scope) = Scope::parse(text, &me)
    {
        assert_eq!(Scope::parse(&scope.to_string(), &me), Ok(scope.clone()));
        assert!(scope.to_string() == text || text == "user:me");
    }
    if let Some(time) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time), "{text}");
    }
}
