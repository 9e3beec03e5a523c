//! Sessions: begin, save, load, patch, extend, end, list.

use std::borrow::Cow;
use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;

use super::memory::{Calling, Memory, Read, absent, finish};
use super::patch::{Patch, Patchable};
use super::resource::{Render, Resource};
use super::{Done, Freshness, Representation, WriteRequest, log_delegation, reach};
use crate::cache::{Entry, SessionFacts};
use crate::domain::clock::Timestamp;
use crate::domain::commit;
use crate::domain::id::{SessionId, TenantId, UserId};
use crate::domain::page::CursorBinding;
use crate::domain::patch;
use crate::domain::principal::{Permission, Principal};
use crate::domain::session::{Reach, SessionDocument, SessionInput, SessionQuery, SessionRecord};
use crate::domain::variable::ScopeLife;
use crate::domain::version::{Expected, Version};
use crate::error::{Code, Error, Result};
use crate::store::{self, Lookup, Outcome, Store, Tombstone, WriteContext};

/// The use cases of sessions.
#[derive(Clone)]
pub struct Sessions {
    memory: Memory,
    render: Render<SessionRecord>,
}

/// A page of sessions and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionList {
    /// The sessions, by id.
    pub items: Vec<SessionRecord>,
    /// The cursor of the next page, when there is one.
    pub next_cursor: Option<String>,
}

/// A session that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRead {
    /// What is answered.
    pub representation: Representation,
    /// When it will be gone, touches included.
    pub expires_at: Timestamp,
}

/// One session within a caller's reach, for the one read and write path.
#[derive(Debug, Clone)]
struct SessionResource {
    tenant: TenantId,
    id: SessionId,
    reach: Reach,
    /// Whose a new one is.
    owner: UserId,
}

#[async_trait]
impl Resource for SessionResource {
    type Record = SessionRecord;
    type Document = SessionDocument;

    const ABSENT: Code = Code::SessionNotFound;

    fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    fn name(&self) -> commit::Resource {
        commit::Resource::Session(self.id.clone())
    }

    fn version(record: &SessionRecord) -> Version {
        record.version
    }

    fn entry(&self, record: &SessionRecord, body: Bytes) -> Entry {
        Entry::session(record, body, record.expires_at)
    }

    async fn load(&self, store: &dyn Store) -> store::Result<Lookup<SessionRecord>> {
        store.get_session(&self.tenant, &self.id, &self.reach).await
    }

    async fn save(
        &self,
        store: &dyn Store,
        context: &WriteContext,
        expected: Expected,
        document: &SessionDocument,
    ) -> store::Result<Outcome<SessionRecord>> {
        store.put_session(context, &self.id, &self.reach, &self.owner, expected, document).await
    }

    async fn remove(&self, store: &dyn Store, context: &WriteContext, expected: Expected) -> store::Result<Outcome<Tombstone>> {
        store.delete_session(context, &self.id, &self.reach, expected).await
    }
}

impl Patchable for SessionResource {
    fn target(record: &SessionRecord) -> Cow<'_, str> {
        let cap = record.max_ttl_seconds.map(|cap| format!(r#","max_ttl_seconds":{cap}"#)).unwrap_or_default();
        format!(r#"{{"data":{},"ttl_seconds":{},"sliding":{}{cap}}}"#, record.data, record.ttl_seconds, record.sliding).into()
    }

    fn patched(_: &SessionRecord, applied: &Patch, text: &str) -> Result<SessionDocument> {
        let mut document = SessionInput::parse(text, false)?.document;
        // The clock starts again only when the patch says something about it.
        if !patch::touches(applied.kind, &applied.text, "ttl_seconds") {
            document.ttl_seconds = None;
        }
        Ok(document)
    }

    fn any_document() -> SessionDocument {
        SessionDocument { data: "null".into(), ttl_seconds: None, sliding: false, max_ttl_seconds: None }
    }
}

impl Sessions {
    pub(super) fn new(memory: Memory, render: Render<SessionRecord>) -> Self {
        Self { memory, render }
    }

    fn resource(caller: &Principal, id: SessionId) -> SessionResource {
        SessionResource { tenant: caller.tenant.clone(), id, reach: reach(caller), owner: caller.subject.clone() }
    }

    /// Begins a session; `owner`: for someone else.
    ///
    /// # Errors
    /// The id is taken, the permission to name an owner is missing, a precondition, a reused key, a store that does not answer.
    pub async fn create(
        &self,
        request: &WriteRequest,
        id: SessionId,
        owner: Option<UserId>,
        document: SessionDocument,
    ) -> Result<Done<SessionRecord>> {
        request.without_precondition()?;
        let caller = &request.caller;
        let owner = owner.unwrap_or_else(|| caller.subject.clone());
        if owner != caller.subject {
            if !caller.may(Permission::Delegate) {
                let name = Permission::Delegate.name();
                return Err(Error::new(Code::PermissionMissing, format!("A session of another user is begun with the permission {name}.")));
            }
            log_delegation(caller, &owner);
        }
        let resource = Self::resource(caller, id.clone());
        // An id tells that it is taken, whoever has it.
        let outcome = self.memory.run(request, move |store, context| -> Calling<Outcome<SessionRecord>> {
            Box::pin(async move { store.put_session(&context, &id, &Reach::All, &owner, Expected::Absent, &document).await })
        });
        let done = match outcome.await? {
            Outcome::Refused { .. } => return Err(Error::new(Code::SessionExists, "There is a session of this id.")),
            outcome => finish(outcome, SessionResource::version, Code::SessionNotFound, self.render)?,
        };
        self.memory.keep(&resource, &done);
        Ok(done)
    }

    /// Saves a session.
    ///
    /// # Errors
    /// Another user's live session, a failed precondition, a reused key, a store that does not answer.
    pub async fn put(&self, request: &WriteRequest, id: SessionId, document: SessionDocument) -> Result<Done<SessionRecord>> {
        let done = self.memory.save(request, Self::resource(&request.caller, id.clone()), document, self.render).await;
        self.logged(&request.caller, id, done.map_err(|error| conditional(request, error))).await
    }

    /// Patches a session.
    ///
    /// # Errors
    /// No such session, a patch that does not apply, a failed precondition, a reused key, a store that does not answer.
    pub async fn patch(&self, request: &WriteRequest, id: SessionId, patch: Patch) -> Result<Done<SessionRecord>> {
        let done = self.memory.patch(request, Self::resource(&request.caller, id.clone()), patch, self.render).await;
        self.logged(&request.caller, id, done).await
    }

    /// Loads a session. A sliding one lives on from now, at most once in a tenth of its time to live.
    ///
    /// # Errors
    /// No such session, nothing as recent as asked, a store that does not answer.
    pub async fn get(&self, caller: &Principal, id: SessionId, freshness: Freshness) -> Result<SessionRead> {
        let (read, resource) = self.read(caller, id, freshness).await?;
        let facts = read.entry.session_facts().ok_or_else(|| absent(Code::SessionNotFound))?;
        let expires_at =
            if facts.claim_touch(self.memory.now()) { self.touch(&resource, &read.entry, facts).await } else { facts.expires_at() };
        Ok(SessionRead { representation: read.representation(Code::SessionNotFound)?, expires_at })
    }

    /// Reads a session within reach. It is read whoever owns it, so that what a cache keeps of it serves everyone.
    ///
    /// One that is out of reach, one that is gone and one that never was are refused with the same words, whatever is asked about their
    /// versions and whichever tier knew it: every difference would tell of another user's session.
    async fn find(&self, caller: &Principal, id: SessionId, freshness: Freshness) -> Result<(Read, SessionResource)> {
        let resource = SessionResource { reach: Reach::All, ..Self::resource(caller, id) };
        let read = self.memory.read(freshness, &resource, self.render).await?;
        match read.entry.session_facts() {
            Some(facts) if reach(caller).covers(facts.owner()) => Ok((read, resource)),
            _ => Err(absent(Code::SessionNotFound)),
        }
    }

    /// The same, logged when it is another user's.
    async fn read(&self, caller: &Principal, id: SessionId, freshness: Freshness) -> Result<(Read, SessionResource)> {
        let found = self.find(caller, id, freshness).await?;
        if let Some(facts) = found.0.entry.session_facts() {
            log_delegation(caller, facts.owner());
        }
        Ok(found)
    }

    /// Moves the expiry. A touch that fails takes nothing from the read.
    async fn touch(&self, resource: &SessionResource, entry: &Entry, facts: &SessionFacts) -> Timestamp {
        match self.memory.store().touch_session(&resource.tenant, &resource.id).await {
            Ok(Some(expires_at)) => {
                if let Some(version) = entry.version() {
                    self.memory.touched(resource, version, expires_at);
                }
                expires_at
            }
            Ok(None) => facts.expires_at(),
            Err(error) => {
                tracing::warn!(%error, "a session was not touched");
                facts.expires_at()
            }
        }
    }

    /// Adds seconds to a session.
    ///
    /// # Errors
    /// No such session, a failed precondition, a reused key, a store that does not answer.
    pub async fn extend(&self, request: &WriteRequest, id: SessionId, additional_seconds: i64) -> Result<Done<SessionRecord>> {
        let resource = Self::resource(&request.caller, id.clone());
        let (target, written) = (resource.clone(), resource.clone());
        let outcome = self
            .memory
            .write(request, resource, move |store, context, expected| -> Calling<Outcome<SessionRecord>> {
                let target = target.clone();
                Box::pin(async move { store.extend_session(&context, &target.id, &target.reach, expected, additional_seconds).await })
            })
            .await?;
        let done = finish(outcome, SessionResource::version, Code::SessionNotFound, self.render);
        if let Ok(done) = &done {
            self.memory.keep(&written, done);
        }
        self.logged(&request.caller, id, done.map_err(|error| conditional(request, error))).await
    }

    /// Ends a session; its variables end with it.
    ///
    /// # Errors
    /// No such session, a failed precondition, a reused key, a store that does not answer.
    pub async fn delete(&self, request: &WriteRequest, id: SessionId) -> Result<Done<()>> {
        let caller = &request.caller;
        // Afterwards nobody could tell whose it was.
        let owner = if caller.may(Permission::Delegate) { self.owner(caller, &id).await? } else { None };
        let done = self.memory.remove(request, Self::resource(caller, id)).await;
        let is_use = done.as_ref().map_or_else(tells_of_a_session, |done| !done.replayed);
        if let Some(owner) = owner.filter(|_| is_use) {
            log_delegation(caller, &owner);
        }
        done
    }

    /// Lists the sessions within reach, by id.
    ///
    /// # Errors
    /// A cursor of another list, a store that does not answer.
    pub async fn list(&self, caller: &Principal, cursor: Option<&str>, limit: usize) -> Result<SessionList> {
        let reach = reach(caller);
        let whose = match &reach {
            Reach::Own(user) => user.as_str().to_owned(),
            Reach::All => String::new(),
        };
        let parts = [caller.tenant.as_str(), "sessions", &whose];
        let binding = CursorBinding(&parts);
        let after = binding.position(cursor, |position| SessionId::parse(position).ok())?;
        let page = self.memory.store().list_sessions(&caller.tenant, &SessionQuery { reach, after, limit }).await?;
        let owners: HashSet<&UserId> = page.items.iter().map(|session| &session.owner).collect();
        owners.into_iter().for_each(|owner| log_delegation(caller, owner));
        let next_cursor = page.items.last().filter(|_| page.more).map(|last| binding.encode(last.id.as_str()));
        Ok(SessionList { items: page.items, next_cursor })
    }

    /// Whose a session within reach is; `None`: there is no such session.
    async fn owner(&self, caller: &Principal, id: &SessionId) -> Result<Option<UserId>> {
        match self.find(caller, id.clone(), Freshness::default()).await {
            Ok((read, _)) => Ok(read.entry.session_facts().map(|facts| facts.owner().clone())),
            Err(error) if error.code == Code::SessionNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Logs a write to another user's session, and one that was refused as well when the refusal tells of the session.
    async fn logged(&self, caller: &Principal, id: SessionId, done: Result<Done<SessionRecord>>) -> Result<Done<SessionRecord>> {
        match &done {
            Ok(done) => done.record.iter().for_each(|record| log_delegation(caller, &record.owner)),
            Err(error) if caller.may(Permission::Delegate) && tells_of_a_session(error) => {
                // Reading it is what logs.
                let _ = self.read(caller, id, Freshness::default()).await;
            }
            Err(_) => {}
        }
        done
    }

    /// The life of a live session within reach, which its variables carry.
    ///
    /// # Errors
    /// No such session, a store that does not answer.
    pub(super) async fn life(&self, caller: &Principal, id: &SessionId) -> Result<ScopeLife> {
        let (read, _) = self.read(caller, id.clone(), Freshness::default()).await?;
        Ok(read.entry.session_facts().map(SessionFacts::life))
    }
}

/// Whether a refused write tells something of the session that it was about.
fn tells_of_a_session(error: &Error) -> bool {
    matches!(error.code.status(), 400 | 409 | 412 | 413 | 422)
        && !matches!(error.code, Code::IdempotencyKeyReused | Code::IdempotencyInFlight)
}

/// A condition on a session that is not there fails, and one that is out of reach is as one that is not there.
fn conditional(request: &WriteRequest, error: Error) -> Error {
    let is_failed = error.code == Code::SessionNotFound && !request.precondition.is_met_by(None);
    if is_failed { Error::precondition_failed(None) } else { error }
}
