//! Variables: set, read, delete, list, in four scopes.

use std::sync::Arc;

use super::memory::CurrentVersion;
use super::states::deleted;
use super::{Done, Freshness, Memory, WriteRequest};
use crate::domain::document::{Fault, FaultKind};
use crate::domain::id::VariableName;
use crate::domain::page::{CursorBinding, MAX_PAGE_BYTES};
use crate::domain::principal::{Permission, Principal};
use crate::domain::variable::{Scope, VariableDocument, VariableInput, VariableKey, VariableRecord};
use crate::error::{Code, Error, Result};
use crate::store::{Store, Tombstone, VariableQuery};

/// The use cases of variables.
#[derive(Clone)]
pub struct Variables {
    memory: Memory,
}

/// Which variables to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VariableFilter {
    /// Only names that begin so.
    pub prefix: String,
    /// Only these names, when there are any.
    pub names: Vec<VariableName>,
}

/// A page of variables and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariablePage {
    /// The items.
    pub items: Vec<VariableRecord>,
    /// The cursor of the next page, when there is one.
    pub next_cursor: Option<String>,
}

impl Variables {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// Sets a variable.
    ///
    /// # Errors
    /// A scope that is not the caller's, a missing value, a failed precondition, a reused key, a store that does not answer.
    pub async fn put(&self, request: &WriteRequest, key: VariableKey, input: VariableInput) -> Result<Done<VariableRecord>> {
        check_write(&request.caller, &key.scope, Code::ScopeNotFound)?;
        if input.secret == Some(true) {
            return Err(Error::new(Code::SecretsNotConfigured, "The server has no encryption key, so it keeps no secrets."));
        }
        let value = input.value.ok_or_else(|| Error::from(Fault::member("value", FaultKind::MissingMember)))?;
        let document = VariableDocument { value, description: input.description, ttl_seconds: input.ttl_seconds };
        let subject = key.clone();
        let write = move |store: Arc<dyn Store>, context, expected| {
            let (key, document) = (subject.clone(), document.clone());
            async move { store.put_variable(&context, &key, None, expected, &document).await }
        };
        let current = current_version(&request.caller, key);
        self.memory.write(request, write, current, |record: &VariableRecord| record.version, Code::VariableNotFound).await
    }

    /// Deletes a variable.
    ///
    /// # Errors
    /// Nothing to delete, a scope that is not the caller's, a failed precondition, a reused key, a store that does not answer.
    pub async fn delete(&self, request: &WriteRequest, key: VariableKey) -> Result<Done<()>> {
        check_write(&request.caller, &key.scope, Code::VariableNotFound)?;
        let subject = key.clone();
        let write = move |store: Arc<dyn Store>, context, expected| {
            let key = subject.clone();
            async move { store.delete_variable(&context, &key, None, expected).await }
        };
        let current = current_version(&request.caller, key);
        let done = self.memory.write(request, write, current, |tombstone: &Tombstone| tombstone.version, Code::VariableNotFound).await?;
        Ok(deleted(done))
    }

    /// Reads a variable.
    ///
    /// # Errors
    /// No such variable or none that the caller may see, nothing as recent as asked, a store that does not answer.
    pub async fn get(&self, caller: &Principal, key: &VariableKey, freshness: Freshness) -> Result<VariableRecord> {
        check_reach(caller, &key.scope, Code::VariableNotFound)?;
        let load = self.memory.store().get_variable(&caller.tenant, key, None);
        let found = self.memory.read(freshness, load, |record: &VariableRecord| record.version).await?;
        found.ok_or_else(|| not_found(Code::VariableNotFound))
    }

    /// Lists the variables of a scope by name.
    ///
    /// # Errors
    /// A scope that is not the caller's, a cursor of another list, a store that does not answer.
    pub async fn list(
        &self,
        caller: &Principal,
        scope: &Scope,
        filter: VariableFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<VariablePage> {
        check_reach(caller, scope, Code::ScopeNotFound)?;
        let scope_text = scope.to_string();
        let mut parts = vec![caller.tenant.as_str(), "variables", &scope_text, &filter.prefix];
        parts.extend(filter.names.iter().map(VariableName::as_str));
        let binding = CursorBinding(&parts);
        let after = match cursor {
            Some(cursor) => {
                let name = binding.decode(cursor).and_then(|name| VariableName::parse(&name).ok());
                Some(name.ok_or_else(|| Error::new(Code::InvalidCursor, "The cursor does not belong to this list."))?)
            }
            None => None,
        };
        let query = VariableQuery { prefix: filter.prefix.clone(), names: filter.names.clone(), after, limit, max_bytes: MAX_PAGE_BYTES };
        let page = self.memory.store().list_variables(&caller.tenant, scope, None, &query).await?;
        let next_cursor = page.items.last().filter(|_| page.more).map(|record| binding.encode(record.key.name.as_str()));
        Ok(VariablePage { items: page.items, next_cursor })
    }
}

fn current_version(caller: &Principal, key: VariableKey) -> impl Fn(Arc<dyn Store>) -> CurrentVersion + Send + Sync + 'static {
    let tenant = caller.tenant.clone();
    move |store| {
        let (tenant, key) = (tenant.clone(), key.clone());
        Box::pin(async move { Ok(store.get_variable(&tenant, &key, None).await?.live().map(|record| record.version)) })
    }
}

fn not_found(code: Code) -> Error {
    Error::new(code, format!("{}.", code.title()))
}

/// Whether the caller reaches the scope at all. A scope of another user looks like one that does not exist, for which `absent` is the
/// code of the operation at hand.
fn check_reach(caller: &Principal, scope: &Scope, absent: Code) -> Result<()> {
    match scope {
        Scope::User(user) if *user != caller.subject => {
            if !caller.may(Permission::Delegate) {
                return Err(not_found(absent));
            }
            tracing::info!(tenant = %caller.tenant, subject = %caller.subject, on_behalf_of = %user, "acted for another user");
            Ok(())
        }
        // No session exists yet, so none is live.
        Scope::Session(_) => Err(not_found(Code::SessionNotFound)),
        Scope::Global | Scope::Workflow(_) | Scope::User(_) => Ok(()),
    }
}

fn check_write(caller: &Principal, scope: &Scope, absent: Code) -> Result<()> {
    check_reach(caller, scope, absent)?;
    let needed = Permission::VariablesGlobalWrite;
    if *scope == Scope::Global && !caller.may(needed) {
        return Err(Error::new(Code::PermissionMissing, format!("The global scope is written with the permission {}.", needed.name())));
    }
    Ok(())
}
