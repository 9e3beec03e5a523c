//! Effective variables: what is in force where several scopes are looked through, the nearest first.

use super::memory::Memory;
use super::sessions::Sessions;
use super::variables::{VariablePage, reach_scope};
use crate::domain::id::{SessionId, UserId, VariableName, WorkflowId};
use crate::domain::page::{CursorBinding, MAX_PAGE_BYTES};
use crate::domain::principal::Principal;
use crate::domain::variable::Scope;
use crate::error::{Code, Result};
use crate::store::VariableQuery;

/// The use case of effective variables.
#[derive(Clone)]
pub struct EffectiveVariables {
    memory: Memory,
    sessions: Sessions,
}

/// Which scopes to look through beside the global one, and for which names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectiveFilter {
    /// The session, which goes before all others.
    pub session: Option<SessionId>,
    /// The user.
    pub user: Option<UserId>,
    /// The workflow.
    pub workflow: Option<WorkflowId>,
    /// Only these names, when there are any.
    pub names: Vec<VariableName>,
}

impl EffectiveVariables {
    pub(super) fn new(memory: Memory, sessions: Sessions) -> Self {
        Self { memory, sessions }
    }

    /// Lists them by name, each from the first of session, user, workflow and global scope that has it.
    ///
    /// # Errors
    /// An unknown or foreign session or user, a cursor of another list, a store that does not answer.
    pub async fn list(&self, caller: &Principal, filter: EffectiveFilter, cursor: Option<&str>, limit: usize) -> Result<VariablePage> {
        let wanted =
            [filter.session.map(Scope::Session), filter.user.map(Scope::User), filter.workflow.map(Scope::Workflow), Some(Scope::Global)];
        let mut scopes = Vec::new();
        for scope in wanted.into_iter().flatten() {
            let life = reach_scope(&self.sessions, caller, &scope, Code::ScopeNotFound).await?;
            scopes.push((scope, life));
        }
        let texts: Vec<String> = scopes.iter().map(|(scope, _)| scope.to_string()).collect();
        let mut parts = vec![caller.tenant.as_str(), "effective-variables"];
        parts.extend(texts.iter().map(String::as_str));
        // Apart from the scopes: a name may look like one.
        parts.push("");
        parts.extend(filter.names.iter().map(VariableName::as_str));
        let binding = CursorBinding(&parts);
        let after = binding.position(cursor, |name| VariableName::parse(name).ok())?;
        let query = VariableQuery { prefix: String::new(), names: filter.names.clone(), after, limit, max_bytes: MAX_PAGE_BYTES };
        let page = self.memory.store().effective_variables(&caller.tenant, &scopes, &query).await?;
        let next_cursor = page.items.last().filter(|_| page.more).map(|record| binding.encode(record.key.name.as_str()));
        Ok(VariablePage { items: page.items, next_cursor })
    }
}
