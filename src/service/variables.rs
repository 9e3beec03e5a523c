//! Variables: set, read, patch, increment, delete, list and batch, in four scopes.

use std::borrow::Cow;

use async_trait::async_trait;
use bytes::Bytes;

use super::memory::{Calling, Memory, absent, finish, key_reused, never, refusal};
use super::patch::{Patch, Patchable};
use super::resource::{Render, Resource};
use super::sessions::Sessions;
use super::{Done, Freshness, Representation, WriteRequest, log_delegation};
use crate::cache::Entry;
use crate::domain::commit;
use crate::domain::document::{Fault, FaultKind, quote};
use crate::domain::id::{TenantId, VariableName};
use crate::domain::page::{CursorBinding, MAX_PAGE_BYTES};
use crate::domain::patch;
use crate::domain::principal::{Permission, Principal};
use crate::domain::variable::{
    BatchOutcome, BatchRecord, Expiry, IncrementFault, Number, Scope, ScopeLife, VariableBatch, VariableDocument, VariableInput,
    VariableKey, VariableRecord,
};
use crate::domain::version::{Expected, Version};
use crate::error::{Code, Error, FieldError, Result};
use crate::store::{self, IncrementOutcome, Lookup, Outcome, ScopeDeletion, Store, Tombstone, VariableQuery, WriteContext};

/// Most variables that one call deletes.
pub const MAX_SCOPE_DELETION: u32 = 10_000;

/// The use cases of variables.
#[derive(Clone)]
pub struct Variables {
    memory: Memory,
    sessions: Sessions,
    render: Render<VariableRecord>,
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

/// One variable, for the one read and write path.
#[derive(Debug, Clone)]
struct VariableResource {
    tenant: TenantId,
    key: VariableKey,
    life: ScopeLife,
}

#[async_trait]
impl Resource for VariableResource {
    type Record = VariableRecord;
    type Document = VariableDocument;

    const ABSENT: Code = Code::VariableNotFound;

    fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    fn name(&self) -> commit::Resource {
        commit::Resource::Variable(self.key.clone())
    }

    fn life(&self) -> ScopeLife {
        self.life
    }

    fn version(record: &VariableRecord) -> Version {
        record.version
    }

    fn entry(&self, record: &VariableRecord, body: Bytes) -> Entry {
        Entry::variable(record.version, body, self.life, record.expires_at)
    }

    fn absence(&self, tombstone: Option<Version>) -> Entry {
        Entry::absent_variable(tombstone, self.life)
    }

    async fn load(&self, store: &dyn Store) -> store::Result<Lookup<VariableRecord>> {
        store.get_variable(&self.tenant, &self.key, self.life).await
    }

    async fn save(
        &self,
        store: &dyn Store,
        context: &WriteContext,
        expected: Expected,
        document: &VariableDocument,
    ) -> store::Result<Outcome<VariableRecord>> {
        store.put_variable(context, &self.key, self.life, expected, document).await
    }

    async fn remove(&self, store: &dyn Store, context: &WriteContext, expected: Expected) -> store::Result<Outcome<Tombstone>> {
        store.delete_variable(context, &self.key, self.life, expected).await
    }
}

impl Patchable for VariableResource {
    fn target(record: &VariableRecord) -> Cow<'_, str> {
        let description = record.description.as_deref().map(|text| format!(r#","description":{}"#, quote(text))).unwrap_or_default();
        let ttl = record.ttl_seconds().map(|seconds| format!(r#","ttl_seconds":{seconds}"#)).unwrap_or_default();
        format!(r#"{{"value":{}{description}{ttl},"secret":{}}}"#, record.value, record.secret).into()
    }

    fn patched(_: &VariableRecord, applied: &Patch, text: &str) -> Result<VariableDocument> {
        // The clock starts again only when the patch says something about it.
        let is_timed = patch::touches(applied.kind, &applied.text, "ttl_seconds");
        document(VariableInput::parse(text)?, |seconds| match seconds {
            _ if !is_timed => Expiry::Unchanged,
            Some(seconds) => Expiry::In(seconds),
            None => Expiry::Never,
        })
    }

    fn any_document() -> VariableDocument {
        VariableDocument { value: "null".into(), description: None, expiry: Expiry::Never }
    }
}

impl Variables {
    pub(super) fn new(memory: Memory, sessions: Sessions, render: Render<VariableRecord>) -> Self {
        Self { memory, sessions, render }
    }

    /// A variable that the caller reaches; `absent_code` is the answer when not.
    async fn resource(&self, caller: &Principal, key: VariableKey, absent_code: Code) -> Result<VariableResource> {
        let life = reach_scope(&self.sessions, caller, &key.scope, absent_code).await?;
        Ok(VariableResource { tenant: caller.tenant.clone(), key, life })
    }

    /// The same for a write.
    async fn written(&self, request: &WriteRequest, key: VariableKey, absent_code: Code) -> Result<VariableResource> {
        let life = self.life(request, &key.scope, absent_code).await?;
        Ok(VariableResource { tenant: request.caller.tenant.clone(), key, life })
    }

    /// The life of a scope that a write is about. Whoever repeats a request with its key is answered as before for as long as keys are kept,
    /// also when the session is gone since, or is another's: then it is a life that no session has, of which only stored answers come back.
    async fn life(&self, request: &WriteRequest, scope: &Scope, absent_code: Code) -> Result<ScopeLife> {
        match reach_scope(&self.sessions, &request.caller, scope, absent_code).await {
            Err(error) if error.code == Code::SessionNotFound => {
                if self.is_known(request, scope).await? {
                    Ok(Version::new(Version::MAX))
                } else {
                    Err(error)
                }
            }
            life => life,
        }
    }

    /// Whether the request's key was used by its caller before. To learn that, the store is asked for a deletion that it never makes.
    async fn is_known(&self, request: &WriteRequest, scope: &Scope) -> Result<bool> {
        let Ok(name) = VariableName::parse("any") else { return Ok(false) };
        if request.idempotency.is_none() {
            return Ok(false);
        }
        let key = VariableKey { scope: scope.clone(), name };
        let asked = self.memory.run(request, move |store, context| -> Calling<Outcome<Tombstone>> {
            Box::pin(async move { store.delete_variable(&context, &key, Version::new(Version::MAX), never()).await })
        });
        Ok(matches!(asked.await?, Outcome::Replayed(_) | Outcome::KeyReused))
    }

    /// Sets a variable.
    ///
    /// # Errors
    /// A scope that is not the caller's, a missing value, a failed precondition, a reused key, a store that does not answer.
    pub async fn put(&self, request: &WriteRequest, key: VariableKey, input: VariableInput) -> Result<Done<VariableRecord>> {
        check_global(&request.caller, &key.scope)?;
        let document = document(input, |seconds| seconds.map_or(Expiry::Never, Expiry::In))?;
        let resource = self.written(request, key, Code::ScopeNotFound).await?;
        self.memory.save(request, resource, document, self.render).await
    }

    /// Patches a variable. A time to live that the patch does not name goes on.
    ///
    /// # Errors
    /// No such variable, a patch that does not apply, a failed precondition, a reused key, a store that does not answer.
    pub async fn patch(&self, request: &WriteRequest, key: VariableKey, patch: Patch) -> Result<Done<VariableRecord>> {
        check_global(&request.caller, &key.scope)?;
        let resource = self.written(request, key, Code::VariableNotFound).await?;
        self.memory.patch(request, resource, patch, self.render).await
    }

    /// Adds a number to a variable; one that is not there begins with the number.
    ///
    /// # Errors
    /// Not a number, a sum out of range, a scope that is not the caller's, a failed precondition, a reused key, a store that does not answer.
    pub async fn increment(&self, request: &WriteRequest, key: VariableKey, by: Number) -> Result<Done<VariableRecord>> {
        check_global(&request.caller, &key.scope)?;
        let resource = self.written(request, key, Code::ScopeNotFound).await?;
        let (target, written) = (resource.clone(), resource.clone());
        let outcome = self
            .memory
            .write(
                request,
                resource,
                move |store, context, expected| -> Calling<Outcome<std::result::Result<VariableRecord, IncrementFault>>> {
                    let target = target.clone();
                    Box::pin(async move {
                        Ok(match store.increment_variable(&context, &target.key, target.life, expected, by).await? {
                            IncrementOutcome::Done(outcome) => outcome.map(Ok),
                            IncrementOutcome::Fault(fault) => Outcome::Applied { created: false, record: Err(fault) },
                        })
                    })
                },
            )
            .await?;
        let outcome = match outcome.transpose() {
            Ok(outcome) => outcome,
            Err(IncrementFault::NotANumber) => return Err(Error::new(Code::NotANumber, "The variable's value is not a number.")),
            Err(IncrementFault::OutOfRange) => {
                return Err(Error::new(Code::OutOfRange, "The sum does not fit: integers fit i64, other numbers f64."));
            }
        };
        let done = finish(outcome, VariableResource::version, Code::VariableNotFound, self.render)?;
        self.memory.keep(&written, &done);
        Ok(Done { status: 200, ..done })
    }

    /// Deletes a variable.
    ///
    /// # Errors
    /// Nothing to delete, a scope that is not the caller's, a failed precondition, a reused key, a store that does not answer.
    pub async fn delete(&self, request: &WriteRequest, key: VariableKey) -> Result<Done<()>> {
        check_global(&request.caller, &key.scope)?;
        let resource = self.written(request, key, Code::VariableNotFound).await?;
        self.memory.remove(request, resource).await
    }

    /// Writes several variables of a scope, all or none.
    ///
    /// # Errors
    /// A scope that is not the caller's, versions other than expected, a precondition, a reused key, a store that does not answer.
    pub async fn batch(&self, request: &WriteRequest, scope: Scope, batch: VariableBatch) -> Result<(BatchRecord, bool)> {
        request.without_precondition()?;
        check_global(&request.caller, &scope)?;
        let life = self.life(request, &scope, Code::ScopeNotFound).await?;
        let outcome = self.memory.run(request, move |store, context| -> Calling<BatchOutcome> {
            Box::pin(async move { store.write_variables(&context, &scope, life, &batch).await })
        });
        match outcome.await? {
            BatchOutcome::Applied(record) => {
                let tenant = &request.caller.tenant;
                let written = record.set.iter().map(|set| (VariableResource { tenant: tenant.clone(), key: set.key.clone(), life }, set));
                self.memory.keep_all(written, self.render);
                Ok((record, false))
            }
            BatchOutcome::Replayed(record) => Ok((record, true)),
            BatchOutcome::KeyReused => Err(key_reused()),
            BatchOutcome::Refused(differing) => Err(refused_batch(&differing)),
        }
    }

    /// Deletes the variables of a scope, at most 10 000 in one call.
    ///
    /// # Errors
    /// A scope that is not the caller's, a precondition, a reused key, a store that does not answer.
    pub async fn delete_scope(&self, request: &WriteRequest, scope: Scope) -> Result<(ScopeDeletion, bool)> {
        request.without_precondition()?;
        check_global(&request.caller, &scope)?;
        let life = self.life(request, &scope, Code::ScopeNotFound).await?;
        let outcome = self.memory.run(request, move |store, context| -> Calling<Outcome<ScopeDeletion>> {
            Box::pin(async move { store.delete_variables(&context, &scope, life, MAX_SCOPE_DELETION).await })
        });
        match outcome.await? {
            Outcome::Applied { record, .. } => Ok((record, false)),
            Outcome::Replayed(replay) => Ok((replay.record.unwrap_or(ScopeDeletion { deleted: 0, more: false }), true)),
            other => Err(refusal(&other, Code::ScopeNotFound)),
        }
    }

    /// Reads a variable.
    ///
    /// # Errors
    /// No such variable or none that the caller may see, nothing as recent as asked, a store that does not answer.
    pub async fn get(&self, caller: &Principal, key: VariableKey, freshness: Freshness) -> Result<Representation> {
        let resource = self.resource(caller, key, Code::VariableNotFound).await?;
        self.memory.read(freshness, &resource, self.render).await?.representation(Code::VariableNotFound)
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
        let life = reach_scope(&self.sessions, caller, scope, Code::ScopeNotFound).await?;
        let scope_text = scope.to_string();
        let mut parts = vec![caller.tenant.as_str(), "variables", &scope_text, &filter.prefix];
        parts.extend(filter.names.iter().map(VariableName::as_str));
        let binding = CursorBinding(&parts);
        let after = binding.position(cursor, |name| VariableName::parse(name).ok())?;
        let query = VariableQuery { prefix: filter.prefix.clone(), names: filter.names.clone(), after, limit, max_bytes: MAX_PAGE_BYTES };
        let page = self.memory.store().list_variables(&caller.tenant, scope, life, &query).await?;
        let next_cursor = page.items.last().filter(|_| page.more).map(|record| binding.encode(record.key.name.as_str()));
        Ok(VariablePage { items: page.items, next_cursor })
    }
}

/// The document of a request body, set or patched; `expiry` reads its seconds to live.
fn document(input: VariableInput, expiry: impl FnOnce(Option<i64>) -> Expiry) -> Result<VariableDocument> {
    if input.secret == Some(true) {
        return Err(Error::new(
            Code::SecretsNotConfigured,
            "This server keeps no secrets: it has no encryption key, or none that this version uses.",
        ));
    }
    let value = input.value.ok_or_else(|| Error::from(Fault::member("value", FaultKind::MissingMember)))?;
    Ok(VariableDocument { value, description: input.description, expiry: expiry(input.ttl_seconds) })
}

/// The 412 of a batch: each name that has another version than expected, with the one that it has.
fn refused_batch(differing: &[(VariableName, Option<Version>)]) -> Error {
    let mut error = Error::new(Code::PreconditionFailed, "Some variables have other versions than expected; nothing was written.");
    error.errors = differing
        .iter()
        .map(|(name, version)| FieldError {
            pointer: Fault::member(name.as_str(), FaultKind::MissingMember).below("if_versions").pointer,
            code: Code::PreconditionFailed,
            detail: version.map_or("is absent".to_owned(), |version| format!("has version {version}")),
        })
        .collect();
    error
}

/// The life of a scope that the caller reaches. A scope of another user looks like one that does not exist, for which `absent_code` is the
/// code of the operation at hand.
pub(super) async fn reach_scope(sessions: &Sessions, caller: &Principal, scope: &Scope, absent_code: Code) -> Result<ScopeLife> {
    match scope {
        Scope::User(user) if *user != caller.subject => {
            if !caller.may(Permission::Delegate) {
                return Err(absent(absent_code));
            }
            log_delegation(caller, user);
            Ok(None)
        }
        Scope::Session(id) => sessions.life(caller, id).await,
        Scope::Global | Scope::Workflow(_) | Scope::User(_) => Ok(None),
    }
}

/// The global scope is written with a permission of its own.
fn check_global(caller: &Principal, scope: &Scope) -> Result<()> {
    let needed = Permission::VariablesGlobalWrite;
    if *scope == Scope::Global && !caller.may(needed) {
        return Err(Error::new(Code::PermissionMissing, format!("The global scope is written with the permission {}.", needed.name())));
    }
    Ok(())
}
