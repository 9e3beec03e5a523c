//! What fuzzing asserts of what comes from the second tier and its bus. Called by `crate::fuzzing`, never by the server.

use super::bus::message;
use super::codec;
use super::key::Key;
use super::key_text;
use super::slot::Slot;
use crate::domain::checkpoint::CheckpointKey;
use crate::domain::commit::Resource;
use crate::domain::id::{CheckpointId, ExecutionId, SessionId, TenantId, UserId, VariableName, WorkflowId};
use crate::domain::state::StateKey;
use crate::domain::variable::{Scope, VariableKey};

const KEY: &str = "acme:session:s";

/// A slot is read as it is written; its payload is read, or not, without a panic, and what was read is written and read again as the same.
pub(crate) fn slot(data: &[u8]) {
    let Slot::Value { version, live, payload } = Slot::read(data.to_vec()) else { return };
    assert_eq!(Slot::value(version, live, &payload), data);
    let _ = codec::read(KEY, version, live, payload.clone());
    // With a checksum that fits: what a program of ours of another version may have left.
    let Some(entry) = codec::read(KEY, version, live, codec::sealed(version, live, &payload)) else { return };
    assert_eq!((entry.version(), entry.body().is_some()), (version, live));
    let again = codec::read(KEY, version, live, codec::write(KEY, &entry));
    assert_eq!(again.map(|again| format!("{again:?}")), Some(format!("{entry:?}")));
    assert!(codec::read("acme:session:t", version, live, codec::write(KEY, &entry)).is_none());
}

/// A key is read as it is written, and its text holds nothing that means something to a Redis-protocol server.
pub(crate) fn key_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(key) = key_text::read(text) {
        round_trip(&key);
    }
    let parts: Vec<&str> = text.split('\0').collect();
    if let Some(key) = key_of(&parts) {
        round_trip(&key);
    }
}

fn round_trip(key: &Key) {
    let text = key_text::write(key);
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-%:".contains(&byte)), "{text}");
    assert_eq!(key_text::read(&text).as_ref(), Some(key), "{text}");
}

/// A key of these parts: tenant, kind, and what the kind has.
fn key_of(parts: &[&str]) -> Option<Key> {
    let [tenant, kind, rest @ ..] = parts else { return None };
    let variable = |scope, name: &str| Some(Resource::Variable(VariableKey { scope, name: VariableName::parse(name).ok()? }));
    let state = |workflow, execution| {
        Some(StateKey { workflow: WorkflowId::parse(workflow).ok()?, execution: ExecutionId::parse(execution).ok()? })
    };
    let resource = match (*kind, rest) {
        ("s", [workflow, execution]) => Resource::State(state(workflow, execution)?),
        ("c", [workflow, execution, id]) => {
            Resource::Checkpoint(CheckpointKey { state: state(workflow, execution)?, checkpoint: CheckpointId::parse(id).ok()? })
        }
        ("i", [id]) => Resource::Session(SessionId::parse(id).ok()?),
        ("g", [name]) => variable(Scope::Global, name)?,
        ("w", [id, name]) => variable(Scope::Workflow(WorkflowId::parse(id).ok()?), name)?,
        ("n", [id, name]) => variable(Scope::Session(SessionId::parse(id).ok()?), name)?,
        ("u", [id, name]) => variable(Scope::User(UserId::parse(id).ok()?), name)?,
        _ => return None,
    };
    Some(Key::new(TenantId::parse(tenant).ok()?, resource))
}

/// A line of the bus that can be read names a key and a version that can be written again.
pub(crate) fn bus_message(data: &[u8]) {
    let Some(read) = message::read(data) else { return };
    let line = match &read.content {
        message::Content::Write { key, version } => message::write(&read.origin, read.number, &key_text::write(key), version.get()),
        message::Content::Clear => message::clear(&read.origin, read.number),
        message::Content::Alive { sent } => message::alive(&read.origin, read.number, *sent),
    };
    assert_eq!(message::read(line.as_bytes()), Some(read));
}
