//! Sessions: begin, save, load, patch, extend, end, list.

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
    fn target(record: &SessionRecord) -> String {
        let cap = record.max_ttl_seconds.map(|cap| format!(r#","max_ttl_seconds":{cap}"#)).unwrap_or_default();
        format!(r#"{{"data":{},"ttl_seconds":{},"sliding":{}{cap}}}"#, record.data, record.ttl_seconds, record.sliding)
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
        // An id tells that it is taken, whoever has it.
        let outcome = self.memory.run(request, move |store, context| -> Calling<Outcome<SessionRecord>> {
            Box::pin(async move { store.put_session(&context, &id, &Reach::All, &owner, Expected::Absent, &document).await })
        });
        match outcome.await? {
            Outcome::Refused { .. } => Err(Error::new(Code::SessionExists, "There is a session of this id.")),
            outcome => finish(outcome, SessionResource::version, Code::SessionNotFound, self.render),
        }
    }

    /// Saves a session.
    ///
    /// # Errors
    /// Another user's live session, a failed precondition, a reused key, a store that does not answer.
    pub async fn put(&self, request: &WriteRequest, id: SessionId, document: SessionDocument) -> Result<Done<SessionRecord>> {
        let done = self.memory.save(request, Self::resource(&request.caller, id), document, self.render).await?;
        Ok(logged(&request.caller, done))
    }

    /// Patches a session.
    ///
    /// # Errors
    /// No such session, a patch that does not apply, a failed precondition, a reused key, a store that does not answer.
    pub async fn patch(&self, request: &WriteRequest, id: SessionId, patch: Patch) -> Result<Done<SessionRecord>> {
        let done = self.memory.patch(request, Self::resource(&request.caller, id), patch, self.render).await?;
        Ok(logged(&request.caller, done))
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
    async fn read(&self, caller: &Principal, id: SessionId, freshness: Freshness) -> Result<(Read, SessionResource)> {
        let resource = SessionResource { reach: Reach::All, ..Self::resource(caller, id) };
        let read = self.memory.read(freshness, &resource, self.render).await?;
        match read.entry.session_facts() {
            Some(facts) if reach(caller).covers(facts.owner()) => log_delegation(caller, facts.owner()),
            _ => return Err(absent(Code::SessionNotFound)),
        }
        Ok((read, resource))
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
        let resource = Self::resource(&request.caller, id);
        let (target, written) = (resource.clone(), resource.clone());
        let outcome = self
            .memory
            .write(request, resource, move |store, context, expected| -> Calling<Outcome<SessionRecord>> {
                let target = target.clone();
                Box::pin(async move { store.extend_session(&context, &target.id, &target.reach, expected, additional_seconds).await })
            })
            .await?;
        if matches!(outcome, Outcome::Absent) && !request.precondition.is_met_by(None) {
            return Err(Error::precondition_failed(None));
        }
        let done = finish(outcome, SessionResource::version, Code::SessionNotFound, self.render)?;
        self.memory.keep(&written, &done);
        Ok(logged(&request.caller, done))
    }

    /// Ends a session; its variables end with it.
    ///
    /// # Errors
    /// No such session, a failed precondition, a reused key, a store that does not answer.
    pub async fn delete(&self, request: &WriteRequest, id: SessionId) -> Result<Done<()>> {
        self.memory.remove(request, Self::resource(&request.caller, id)).await
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
        let next_cursor = page.items.last().filter(|_| page.more).map(|last| binding.encode(last.id.as_str()));
        Ok(SessionList { items: page.items, next_cursor })
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

fn logged(caller: &Principal, done: Done<SessionRecord>) -> Done<SessionRecord> {
    if let Some(record) = &done.record {
        log_delegation(caller, &record.owner);
    }
    done
}
