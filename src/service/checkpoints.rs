//! Checkpoints: make, load, list, delete, restore, fork.

use async_trait::async_trait;
use bytes::Bytes;

use super::memory::{Calling, Memory, absent, finish, key_reused, never};
use super::resource::Resource;
use super::states::StateResource;
use super::{Done, Freshness, Renderers, Representation, WriteRequest};
use crate::cache::Entry;
use crate::domain::checkpoint::{CheckpointItem, CheckpointKey, CheckpointPosition, CheckpointQuery, CheckpointRecord, NewCheckpoint};
use crate::domain::clock::Timestamp;
use crate::domain::commit;
use crate::domain::id::{CheckpointId, ExecutionId, TenantId, WorkflowId};
use crate::domain::page::CursorBinding;
use crate::domain::principal::Principal;
use crate::domain::state::{Operation, StateKey, StateRecord};
use crate::domain::version::{Expected, Version};
use crate::error::{Code, Error, Result};
use crate::store::{self, Lookup, Outcome, Store, StoreError, Tombstone, WriteContext};

/// The use cases of checkpoints.
#[derive(Clone)]
pub struct Checkpoints {
    memory: Memory,
    renderers: Renderers,
}

/// Which checkpoints to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointFilter {
    /// Only of this workflow.
    pub workflow: Option<WorkflowId>,
    /// Only of executions of this id.
    pub execution: Option<ExecutionId>,
    /// Only made after this moment.
    pub created_after: Option<Timestamp>,
}

/// A page of checkpoints and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointList {
    /// The checkpoints, newest first.
    pub items: Vec<CheckpointItem>,
    /// The cursor of the next page, when there is one.
    pub next_cursor: Option<String>,
}

/// One checkpoint, for the one read and write path. It is never saved over: [`Checkpoints::create`] makes it.
#[derive(Debug, Clone)]
struct CheckpointResource {
    tenant: TenantId,
    key: CheckpointKey,
}

#[async_trait]
impl Resource for CheckpointResource {
    type Record = CheckpointRecord;
    type Document = NewCheckpoint;

    const ABSENT: Code = Code::CheckpointNotFound;

    fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    fn name(&self) -> commit::Resource {
        commit::Resource::Checkpoint(self.key.clone())
    }

    fn version(record: &CheckpointRecord) -> Version {
        record.item.version
    }

    fn entry(&self, record: &CheckpointRecord, body: Bytes) -> Entry {
        Entry::plain(record.item.version, body)
    }

    async fn load(&self, store: &dyn Store) -> store::Result<Lookup<CheckpointRecord>> {
        store.get_checkpoint(&self.tenant, &self.key).await
    }

    async fn save(
        &self,
        store: &dyn Store,
        context: &WriteContext,
        expected: Expected,
        new: &NewCheckpoint,
    ) -> store::Result<Outcome<CheckpointRecord>> {
        match expected {
            Expected::Absent | Expected::Any => store.create_checkpoint(context, &self.key, new).await,
            Expected::Present | Expected::Exactly(_) => Err(StoreError::Internal("a checkpoint is not saved over".into())),
        }
    }

    async fn remove(&self, store: &dyn Store, context: &WriteContext, expected: Expected) -> store::Result<Outcome<Tombstone>> {
        store.delete_checkpoint(context, &self.key, expected).await
    }
}

impl Checkpoints {
    pub(super) fn new(memory: Memory, renderers: Renderers) -> Self {
        Self { memory, renderers }
    }

    fn resource(caller: &Principal, key: CheckpointKey) -> CheckpointResource {
        CheckpointResource { tenant: caller.tenant.clone(), key }
    }

    /// Makes a checkpoint.
    ///
    /// # Errors
    /// The id is taken, there is no state to keep, a precondition, a reused key, a store that does not answer.
    pub async fn create(&self, request: &WriteRequest, key: CheckpointKey, new: NewCheckpoint) -> Result<Done<CheckpointRecord>> {
        request.without_precondition()?;
        let resource = Self::resource(&request.caller, key.clone());
        let outcome = self.memory.run(request, move |store, context| -> Calling<Outcome<CheckpointRecord>> {
            Box::pin(async move { store.create_checkpoint(&context, &key, &new).await })
        });
        let done = match outcome.await? {
            Outcome::Refused { .. } => return Err(Error::new(Code::CheckpointExists, "The execution has a checkpoint of this id.")),
            outcome => finish(outcome, CheckpointResource::version, Code::StateNotFound, self.renderers.checkpoint)?,
        };
        self.memory.keep(&resource, &done);
        Ok(done)
    }

    /// Loads a checkpoint with its state.
    ///
    /// # Errors
    /// No such checkpoint, nothing as recent as asked, a store that does not answer.
    pub async fn get(&self, caller: &Principal, key: CheckpointKey, freshness: Freshness) -> Result<Representation> {
        let read = self.memory.read(freshness, &Self::resource(caller, key), self.renderers.checkpoint).await?;
        read.representation(Code::CheckpointNotFound)
    }

    /// Deletes a checkpoint.
    ///
    /// # Errors
    /// No such checkpoint, a failed precondition, a reused key, a store that does not answer.
    pub async fn delete(&self, request: &WriteRequest, key: CheckpointKey) -> Result<Done<()>> {
        self.memory.remove(request, Self::resource(&request.caller, key)).await
    }

    /// Lists checkpoints, newest first.
    ///
    /// # Errors
    /// A cursor of another list, a store that does not answer.
    pub async fn list(&self, caller: &Principal, filter: CheckpointFilter, cursor: Option<&str>, limit: usize) -> Result<CheckpointList> {
        let after = filter.created_after.map(|after| after.as_microseconds().to_string()).unwrap_or_default();
        let workflow = filter.workflow.as_ref().map_or("", WorkflowId::as_str);
        let execution = filter.execution.as_ref().map_or("", ExecutionId::as_str);
        let parts = [caller.tenant.as_str(), "checkpoints", workflow, execution, &after];
        let binding = CursorBinding(&parts);
        let query = CheckpointQuery {
            workflow: filter.workflow.clone(),
            execution: filter.execution.clone(),
            created_after: filter.created_after,
            after: binding.position(cursor, parse_position)?,
            limit,
        };
        let page = self.memory.store().list_checkpoints(&caller.tenant, &query).await?;
        let next_cursor = page.position.filter(|_| page.more).map(|position| {
            let (at, id) = (position.created_at.as_microseconds(), position.checkpoint.as_str());
            binding.encode(&format!("{at} {} {id}", position.incarnation))
        });
        Ok(CheckpointList { items: page.items, next_cursor })
    }

    /// Makes what a checkpoint keeps the current state.
    ///
    /// # Errors
    /// No such checkpoint, a failed precondition on the state, a reused key, a store that does not answer.
    pub async fn restore(&self, request: &WriteRequest, key: CheckpointKey) -> Result<Done<StateRecord>> {
        let state = StateResource::new(&request.caller, key.state.clone(), Operation::Restore);
        let written = state.clone();
        let outcome = self
            .memory
            .write(request, state, move |store, context, expected| -> Calling<Outcome<StateRecord>> {
                let key = key.clone();
                Box::pin(async move { store.restore_checkpoint(&context, &key, expected).await })
            })
            .await?;
        let done = finish(outcome, StateResource::version, Code::CheckpointNotFound, self.renderers.state)?;
        self.memory.keep(&written, &done);
        Ok(Done { status: 200, ..done })
    }

    /// Begins a new execution with what a checkpoint keeps. Preconditions are about the new execution's state: whatever they are, it is begun
    /// only where none is.
    ///
    /// # Errors
    /// No such checkpoint, a target that exists, a failed precondition, a reused key, a store that does not answer.
    pub async fn fork(&self, request: &WriteRequest, key: CheckpointKey, target: ExecutionId) -> Result<Done<StateRecord>> {
        let forked = StateKey { workflow: key.state.workflow.clone(), execution: target.clone() };
        let precondition = &request.precondition;
        let expected = if precondition.is_met_by(None) { Expected::Absent } else { never() };
        let outcome = self.memory.run(request, move |store, context| -> Calling<Outcome<StateRecord>> {
            Box::pin(async move { store.fork_checkpoint(&context, &key, &target, expected).await })
        });
        let done = match outcome.await? {
            Outcome::Refused { current } if precondition.is_met_by(current) => {
                return Err(Error::new(Code::ExecutionExists, "The workflow has an execution of this id."));
            }
            Outcome::Refused { current } => return Err(Error::precondition_failed(current)),
            Outcome::KeyReused => return Err(key_reused()),
            Outcome::Absent => return Err(absent(Code::CheckpointNotFound)),
            outcome @ (Outcome::Applied { .. } | Outcome::Replayed(_)) => {
                finish(outcome, StateResource::version, Code::CheckpointNotFound, self.renderers.state)?
            }
        };
        self.memory.keep(&StateResource::new(&request.caller, forked, Operation::Fork), &done);
        Ok(Done { status: 201, ..done })
    }
}

fn parse_position(position: &str) -> Option<CheckpointPosition> {
    let mut parts = position.splitn(3, ' ');
    Some(CheckpointPosition {
        created_at: Timestamp::from_microseconds(parts.next()?.parse().ok()?),
        incarnation: parts.next()?.parse().ok()?,
        checkpoint: CheckpointId::parse(parts.next()?).ok()?,
    })
}
