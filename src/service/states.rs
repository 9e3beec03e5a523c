//! Workflow states: save, load, patch, delete, history, time travel.

use std::borrow::Cow;

use async_trait::async_trait;
use bytes::Bytes;

use super::memory::Memory;
use super::patch::{Patch, Patchable};
use super::resource::{Render, Resource};
use super::{Done, Freshness, Representation, Source, Tier, WriteRequest};
use crate::cache::Entry;
use crate::domain::clock::Timestamp;
use crate::domain::commit;
use crate::domain::id::TenantId;
use crate::domain::page::{CursorBinding, MAX_PAGE_BYTES, Page};
use crate::domain::principal::Principal;
use crate::domain::state::{HistoryItem, Operation, StateAt, StateDocument, StateKey, StateRecord};
use crate::domain::version::{Expected, Version};
use crate::error::{Code, Error, Result};
use crate::store::{self, HistoryQuery, Lookup, Outcome, Store, Tombstone, WriteContext};

/// Bytes that a history item takes at most, for the limit of a page's size.
const HISTORY_ITEM_BYTES: usize = 2048;

/// Where past versions come from: no cache holds them.
const PAST: Source = Source { tier: Tier::Store { asked: false }, store_away_seconds: None };

/// The use cases of workflow states.
#[derive(Clone)]
pub struct States {
    memory: Memory,
    render: Render<StateRecord>,
}

/// A page of history and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// The items.
    pub items: Vec<HistoryItem>,
    /// The cursor of the next page, when there is one.
    pub next_cursor: Option<String>,
}

/// The state of one execution, for the one read and write path.
#[derive(Debug, Clone)]
pub(super) struct StateResource {
    pub(super) tenant: TenantId,
    pub(super) key: StateKey,
    pub(super) operation: Operation,
}

impl StateResource {
    pub(super) fn new(caller: &Principal, key: StateKey, operation: Operation) -> Self {
        Self { tenant: caller.tenant.clone(), key, operation }
    }
}

#[async_trait]
impl Resource for StateResource {
    type Record = StateRecord;
    type Document = StateDocument;

    const ABSENT: Code = Code::StateNotFound;

    fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    fn name(&self) -> commit::Resource {
        commit::Resource::State(self.key.clone())
    }

    fn version(record: &StateRecord) -> Version {
        record.version
    }

    fn entry(&self, record: &StateRecord, body: Bytes) -> Entry {
        Entry::plain(record.version, body)
    }

    async fn load(&self, store: &dyn Store) -> store::Result<Lookup<StateRecord>> {
        store.get_state(&self.tenant, &self.key).await
    }

    async fn save(
        &self,
        store: &dyn Store,
        context: &WriteContext,
        expected: Expected,
        document: &StateDocument,
    ) -> store::Result<Outcome<StateRecord>> {
        store.put_state(context, &self.key, expected, document, self.operation).await
    }

    async fn remove(&self, store: &dyn Store, context: &WriteContext, expected: Expected) -> store::Result<Outcome<Tombstone>> {
        store.delete_state(context, &self.key, expected).await
    }
}

impl Patchable for StateResource {
    fn target(record: &StateRecord) -> Cow<'_, str> {
        record.document.text().into()
    }

    fn patched(_: &StateRecord, _: &Patch, text: &str) -> Result<StateDocument> {
        Ok(StateDocument::parse(text)?)
    }

    fn any_document() -> StateDocument {
        StateDocument::empty()
    }
}

impl States {
    pub(super) fn new(memory: Memory, render: Render<StateRecord>) -> Self {
        Self { memory, render }
    }

    /// Saves a state.
    ///
    /// # Errors
    /// A failed precondition, a reused key, a store that does not answer.
    pub async fn put(&self, request: &WriteRequest, key: StateKey, document: StateDocument) -> Result<Done<StateRecord>> {
        self.memory.save(request, StateResource::new(&request.caller, key, Operation::Put), document, self.render).await
    }

    /// Patches a state.
    ///
    /// # Errors
    /// No such state, a patch that does not apply, a failed precondition, a reused key, a store that does not answer.
    pub async fn patch(&self, request: &WriteRequest, key: StateKey, patch: Patch) -> Result<Done<StateRecord>> {
        self.memory.patch(request, StateResource::new(&request.caller, key, Operation::Patch), patch, self.render).await
    }

    /// Deletes a state. Its history stays.
    ///
    /// # Errors
    /// Nothing to delete, a failed precondition, a reused key, a store that does not answer.
    pub async fn delete(&self, request: &WriteRequest, key: StateKey) -> Result<Done<()>> {
        self.memory.remove(request, StateResource::new(&request.caller, key, Operation::Delete)).await
    }

    /// Loads the current state.
    ///
    /// # Errors
    /// No such state, nothing as recent as asked, a store that does not answer.
    pub async fn get(&self, caller: &Principal, key: StateKey, freshness: Freshness) -> Result<Representation> {
        let resource = StateResource::new(caller, key, Operation::Put);
        self.memory.read(freshness, &resource, self.render).await?.representation(Code::StateNotFound)
    }

    /// Loads one version, current or past.
    ///
    /// # Errors
    /// No such version, a store that does not answer.
    pub async fn get_version(&self, caller: &Principal, key: &StateKey, version: Version) -> Result<Representation> {
        let found = self.memory.store().get_state_version(&caller.tenant, key, version).await?;
        let missing = || {
            Error::new(Code::VersionNotFound, format!("The state has no version {version}, or it is a deletion.")).with_source(Some(PAST))
        };
        self.represent(&found.ok_or_else(missing)?)
    }

    /// Loads the version that was in force at a moment.
    ///
    /// # Errors
    /// No state then, a moment that has not come yet, a store that does not answer.
    pub async fn get_at(&self, caller: &Principal, key: &StateKey, at: Timestamp) -> Result<Representation> {
        match self.memory.store().get_state_at(&caller.tenant, key, at).await? {
            StateAt::Live(record) => self.represent(&record),
            StateAt::Absent => {
                let detail = "There was no state at that time, or that version is no longer kept.";
                Err(Error::new(Code::VersionNotFound, detail).with_source(Some(PAST)))
            }
            StateAt::Future => Err(Error::new(Code::InvalidParameter, "The parameter at is in the future.")),
        }
    }

    fn represent(&self, record: &StateRecord) -> Result<Representation> {
        Ok(Representation { version: record.version, body: (self.render)(record)?.body, source: PAST })
    }

    /// Lists the versions of a state, newest first unless `ascending`.
    ///
    /// # Errors
    /// No such execution, a cursor of another list, a store that does not answer.
    pub async fn history(
        &self,
        caller: &Principal,
        key: &StateKey,
        ascending: bool,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<HistoryPage> {
        let order = if ascending { "asc" } else { "desc" };
        let parts = [caller.tenant.as_str(), "history", key.workflow.as_str(), key.execution.as_str(), order];
        let binding = CursorBinding(&parts);
        let after = binding.position(cursor, |position| position.parse().ok().and_then(Version::new))?;
        let query = HistoryQuery { ascending, after, limit: limit.min(MAX_PAGE_BYTES / HISTORY_ITEM_BYTES) };
        let page = self.memory.store().state_history(&caller.tenant, key, query).await?;
        let Page { items, more } = page.ok_or_else(|| super::memory::absent(Code::StateNotFound).with_source(Some(PAST)))?;
        let next_cursor = items.last().filter(|_| more).map(|item| binding.encode(&item.version.to_string()));
        Ok(HistoryPage { items, next_cursor })
    }
}

impl CursorBinding<'_> {
    /// Where the page of a cursor begins; `None` without a cursor.
    ///
    /// # Errors
    /// The cursor was made for another list.
    pub(super) fn position<T>(self, cursor: Option<&str>, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(cursor) = cursor else { return Ok(None) };
        let position = self.decode(cursor).and_then(|position| parse(&position));
        position.map(Some).ok_or_else(|| Error::new(Code::InvalidCursor, "The cursor does not belong to this list."))
    }
}
