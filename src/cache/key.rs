//! What an entry is found by.

use crate::domain::commit::{Change, Resource};
use crate::domain::id::TenantId;
use crate::domain::variable::Scope;

/// What a text costs beside its own bytes: reference counts and the allocator's rounding.
const TEXT_OVERHEAD: usize = 24;

/// A resource of a tenant. Two keys are equal when all their parts are: no part can run into the next, whatever it holds.
///
/// The life of a variable's scope is no part of it, because a commit is told without; see [`super::Wanted::life`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    tenant: TenantId,
    resource: Resource,
}

impl Key {
    /// The key of a resource.
    #[must_use]
    pub const fn new(tenant: TenantId, resource: Resource) -> Self {
        Self { tenant, resource }
    }

    /// The tenant.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The resource in it.
    #[must_use]
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    pub(super) const fn is_variable(&self) -> bool {
        matches!(self.resource, Resource::Variable(_))
    }

    /// Bytes on the heap, as if no text were shared.
    pub(super) fn heap_bytes(&self) -> usize {
        let text = |text: &str| text.len() + TEXT_OVERHEAD;
        let resource = match &self.resource {
            Resource::State(key) => text(key.workflow.as_str()) + text(key.execution.as_str()),
            Resource::Checkpoint(key) => {
                text(key.state.workflow.as_str()) + text(key.state.execution.as_str()) + text(key.checkpoint.as_str())
            }
            Resource::Session(id) => text(id.as_str()),
            Resource::Variable(key) => {
                let scope = if key.scope == Scope::Global { 0 } else { text(key.scope.id()) };
                scope + text(key.name.as_str())
            }
        };
        text(self.tenant.as_str()) + resource
    }
}

impl From<&Change> for Key {
    fn from(change: &Change) -> Self {
        Self { tenant: change.tenant.clone(), resource: change.resource.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;
    use crate::domain::checkpoint::CheckpointKey;
    use crate::domain::id::{CheckpointId, ExecutionId, SessionId, UserId, VariableName, WorkflowId};
    use crate::domain::state::StateKey;
    use crate::domain::variable::VariableKey;

    /// Every key that can be made of these few texts: many pairs would be one text if their parts were written one after the other.
    fn keys() -> Vec<Key> {
        const TEXTS: [&str; 4] = ["a", "aa", "a-a", "-"];
        let mut keys = Vec::new();
        for tenant in TEXTS {
            let mut add = |resource| keys.push(Key::new(TenantId::parse(tenant).unwrap(), resource));
            for first in TEXTS {
                add(Resource::Session(SessionId::parse(first).unwrap()));
                let name = VariableName::parse(first).unwrap();
                add(Resource::Variable(VariableKey { scope: Scope::Global, name: name.clone() }));
                for second in TEXTS {
                    for scope in [
                        Scope::Workflow(WorkflowId::parse(second).unwrap()),
                        Scope::Session(SessionId::parse(second).unwrap()),
                        Scope::User(UserId::parse(second).unwrap()),
                    ] {
                        add(Resource::Variable(VariableKey { scope, name: name.clone() }));
                    }
                    let state = StateKey { workflow: WorkflowId::parse(first).unwrap(), execution: ExecutionId::parse(second).unwrap() };
                    add(Resource::State(state.clone()));
                    for third in TEXTS {
                        add(Resource::Checkpoint(CheckpointKey { state: state.clone(), checkpoint: CheckpointId::parse(third).unwrap() }));
                    }
                }
            }
        }
        keys
    }

    #[test]
    fn different_resources_have_different_keys_and_hashes() {
        let keys = keys();
        let hasher = RandomState::new();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        assert_eq!(keys.iter().map(|key| hasher.hash_one(key)).collect::<HashSet<_>>().len(), keys.len());
    }

    #[test]
    fn a_key_counts_all_its_texts() {
        for key in keys() {
            let texts = match key.resource() {
                Resource::Session(_) => 2,
                Resource::Variable(variable) if variable.scope == Scope::Global => 2,
                Resource::Variable(_) | Resource::State(_) => 3,
                Resource::Checkpoint(_) => 4,
            };
            assert!((texts * (TEXT_OVERHEAD + 1)..=texts * (TEXT_OVERHEAD + 3)).contains(&key.heap_bytes()), "{key:?}");
        }
    }
}
