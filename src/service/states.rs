//! Workflow states: save, load, delete, history.

use std::sync::Arc;

use super::memory::CurrentVersion;
use super::{Done, Freshness, Memory, WriteRequest};
use crate::domain::page::{CursorBinding, MAX_PAGE_BYTES, Page};
use crate::domain::principal::Principal;
use crate::domain::state::{HistoryItem, Operation, StateDocument, StateKey, StateRecord};
use crate::domain::version::Version;
use crate::error::{Code, Error, Result};
use crate::store::{HistoryQuery, Store, Tombstone};

/// Bytes that a history item takes at most, for the limit of a page's size.
const HISTORY_ITEM_BYTES: usize = 2048;

/// The use cases of workflow states.
#[derive(Clone)]
pub struct States {
    memory: Memory,
}

/// A page of history and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// The items.
    pub items: Vec<HistoryItem>,
    /// The cursor of the next page, when there is one.
    pub next_cursor: Option<String>,
}

impl States {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// Saves a state.
    ///
    /// # Errors
    /// A failed precondition, a reused key, a store that does not answer.
    pub async fn put(&self, request: &WriteRequest, key: StateKey, document: StateDocument) -> Result<Done<StateRecord>> {
        let subject = key.clone();
        let write = move |store: Arc<dyn Store>, context, expected| {
            let (key, document) = (subject.clone(), document.clone());
            async move { store.put_state(&context, &key, expected, &document, Operation::Put).await }
        };
        let current = current_version(&request.caller, key);
        self.memory.write(request, write, current, |record: &StateRecord| record.version, Code::StateNotFound).await
    }

    /// Deletes a state. Its history stays.
    ///
    /// # Errors
    /// Nothing to delete, a failed precondition, a reused key, a store that does not answer.
    pub async fn delete(&self, request: &WriteRequest, key: StateKey) -> Result<Done<()>> {
        let subject = key.clone();
        let write = move |store: Arc<dyn Store>, context, expected| {
            let key = subject.clone();
            async move { store.delete_state(&context, &key, expected).await }
        };
        let current = current_version(&request.caller, key);
        let done = self.memory.write(request, write, current, |tombstone: &Tombstone| tombstone.version, Code::StateNotFound).await?;
        Ok(deleted(done))
    }

    /// Loads the current state.
    ///
    /// # Errors
    /// No such state, nothing as recent as asked, a store that does not answer.
    pub async fn get(&self, caller: &Principal, key: &StateKey, freshness: Freshness) -> Result<StateRecord> {
        let load = self.memory.store().get_state(&caller.tenant, key);
        self.memory.read(freshness, load, |record: &StateRecord| record.version).await?.ok_or_else(state_not_found)
    }

    /// Loads one version, current or past.
    ///
    /// # Errors
    /// No such version, a store that does not answer.
    pub async fn get_version(&self, caller: &Principal, key: &StateKey, version: Version) -> Result<StateRecord> {
        let found = self.memory.store().get_state_version(&caller.tenant, key, version).await?;
        found.ok_or_else(|| Error::new(Code::VersionNotFound, format!("The state has no version {version}, or it is a deletion.")))
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
        let after = match cursor {
            Some(cursor) => Some(position(binding, cursor)?),
            None => None,
        };
        let query = HistoryQuery { ascending, after, limit: limit.min(MAX_PAGE_BYTES / HISTORY_ITEM_BYTES) };
        let page = self.memory.store().state_history(&caller.tenant, key, query).await?.ok_or_else(state_not_found)?;
        let Page { items, more } = page;
        let next_cursor = items.last().filter(|_| more).map(|item| binding.encode(&item.version.to_string()));
        Ok(HistoryPage { items, next_cursor })
    }
}

fn position(binding: CursorBinding<'_>, cursor: &str) -> Result<Version> {
    let position = binding.decode(cursor).and_then(|position| position.parse().ok()).and_then(Version::new);
    position.ok_or_else(|| Error::new(Code::InvalidCursor, "The cursor does not belong to this list."))
}

fn state_not_found() -> Error {
    Error::new(Code::StateNotFound, "No such state.")
}

fn current_version(caller: &Principal, key: StateKey) -> impl Fn(Arc<dyn Store>) -> CurrentVersion + Send + Sync + 'static {
    let tenant = caller.tenant.clone();
    move |store| {
        let (tenant, key) = (tenant.clone(), key.clone());
        Box::pin(async move { Ok(store.get_state(&tenant, &key).await?.live().map(|record| record.version)) })
    }
}

/// The answer to a delete, which has no representation.
pub(super) fn deleted(done: Done<Tombstone>) -> Done<()> {
    Done { status: 204, version: done.version, record: None, replayed: done.replayed }
}
