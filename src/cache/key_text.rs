//! A key as a text: what the second tier stores an entry under, and what servers tell each other on the bus.
//!
//! The one place where it is made: `tenant:kind:part:...`, every part percent-encoded to `[A-Za-z0-9._~-]` and `%`, with as many parts as
//! the kind has. So no part runs into the next, and no text of a user means anything to the second tier.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::key::Key;
use crate::domain::checkpoint::CheckpointKey;
use crate::domain::commit::Resource;
use crate::domain::id::{CheckpointId, ExecutionId, SessionId, TenantId, UserId, VariableName, WorkflowId};
use crate::domain::state::StateKey;
use crate::domain::variable::{Scope, VariableKey};

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'~').remove(b'-');

/// The text of a key.
#[must_use]
pub fn write(key: &Key) -> String {
    let mut text = String::with_capacity(96);
    let (kind, parts): (&str, [&str; 3]) = match key.resource() {
        Resource::State(state) => ("state", [state.workflow.as_str(), state.execution.as_str(), ""]),
        Resource::Checkpoint(of) => ("checkpoint", [of.state.workflow.as_str(), of.state.execution.as_str(), of.checkpoint.as_str()]),
        Resource::Session(id) => ("session", [id.as_str(), "", ""]),
        Resource::Variable(of) => match &of.scope {
            Scope::Global => ("global", [of.name.as_str(), "", ""]),
            Scope::Workflow(id) => ("workflow", [id.as_str(), of.name.as_str(), ""]),
            Scope::Session(id) => ("in-session", [id.as_str(), of.name.as_str(), ""]),
            Scope::User(id) => ("user", [id.as_str(), of.name.as_str(), ""]),
        },
    };
    for part in [key.tenant().as_str(), kind].into_iter().chain(parts.into_iter().take_while(|part| !part.is_empty())) {
        if !text.is_empty() {
            text.push(':');
        }
        text.extend(utf8_percent_encode(part, ENCODED));
    }
    text
}

/// The key of a text; `None` when it is not the text of a key.
#[must_use]
pub fn read(text: &str) -> Option<Key> {
    let parts: Vec<Cow<'_, str>> = text.split(':').map(|part| percent_decode_str(part).decode_utf8()).collect::<Result<_, _>>().ok()?;
    let [tenant, kind, rest @ ..] = parts.as_slice() else { return None };
    let variable = |scope, name: &str| Some(Resource::Variable(VariableKey { scope, name: VariableName::parse(name).ok()? }));
    let state = |workflow: &str, execution: &str| {
        Some(StateKey { workflow: WorkflowId::parse(workflow).ok()?, execution: ExecutionId::parse(execution).ok()? })
    };
    let resource = match (&**kind, rest) {
        ("state", [workflow, execution]) => Resource::State(state(workflow, execution)?),
        ("checkpoint", [workflow, execution, id]) => {
            Resource::Checkpoint(CheckpointKey { state: state(workflow, execution)?, checkpoint: CheckpointId::parse(id).ok()? })
        }
        ("session", [id]) => Resource::Session(SessionId::parse(id).ok()?),
        ("global", [name]) => variable(Scope::Global, name)?,
        ("workflow", [id, name]) => variable(Scope::Workflow(WorkflowId::parse(id).ok()?), name)?,
        ("in-session", [id, name]) => variable(Scope::Session(SessionId::parse(id).ok()?), name)?,
        ("user", [id, name]) => variable(Scope::User(UserId::parse(id).ok()?), name)?,
        _ => return None,
    };
    Some(Key::new(TenantId::parse(tenant).ok()?, resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(scope: Scope, name: &str) -> Key {
        let resource = Resource::Variable(VariableKey { scope, name: VariableName::parse(name).unwrap() });
        Key::new(TenantId::parse("acme").unwrap(), resource)
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let state = || StateKey { workflow: WorkflowId::parse("w").unwrap(), execution: ExecutionId::parse("e-1.~_").unwrap() };
        let of = |resource| Key::new(TenantId::parse("acme").unwrap(), resource);
        for (key, text) in [
            (of(Resource::State(state())), "acme:state:w:e-1.~_"),
            (
                of(Resource::Checkpoint(CheckpointKey { state: state(), checkpoint: CheckpointId::parse("c").unwrap() })),
                "acme:checkpoint:w:e-1.~_:c",
            ),
            (of(Resource::Session(SessionId::parse("s").unwrap())), "acme:session:s"),
            (variable(Scope::Global, "a:b"), "acme:global:a%3Ab"),
            (variable(Scope::Workflow(WorkflowId::parse("a").unwrap()), "b:c"), "acme:workflow:a:b%3Ac"),
            (variable(Scope::Session(SessionId::parse("a").unwrap()), "{é} *"), "acme:in-session:a:%7B%C3%A9%7D%20%2A"),
            (variable(Scope::User(UserId::parse("a|b:c%").unwrap()), "n"), "acme:user:a%7Cb%3Ac%25:n"),
        ] {
            assert_eq!(write(&key), text);
            assert_eq!(read(text), Some(key));
        }
    }

    #[test]
    fn other_texts_are_no_keys() {
        for text in [
            "",
            "acme",
            "acme:state",
            "acme:state:w",
            "acme:state:w:e:x",
            "acme:global:",
            "a b:session:s",
            "acme:nothing:s",
            "acme:session:%ff",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
