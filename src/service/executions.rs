//! Workflows and executions: lists, and the end of an execution.

use super::memory::{Calling, Memory, refusal};
use super::states::StateResource;
use super::{Done, WriteRequest};
use crate::domain::clock::Timestamp;
use crate::domain::id::{ExecutionId, WorkflowId};
use crate::domain::page::CursorBinding;
use crate::domain::principal::Principal;
use crate::domain::state::{
    ExecutionItem, ExecutionOrder, ExecutionQuery, MAX_COUNTED, Operation, RecentPosition, RemovedExecution, StateKey,
};
use crate::error::{Code, Result};
use crate::store::{Outcome, StoreError};

/// The use cases of workflows and executions.
#[derive(Clone)]
pub struct Executions {
    memory: Memory,
}

/// A page of workflows and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowList {
    /// The ids, in byte order.
    pub items: Vec<WorkflowId>,
    /// The cursor of the next page, when there is one.
    pub next_cursor: Option<String>,
}

/// Which executions to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecutionFilter {
    /// Only of this status.
    pub status: Option<String>,
    /// Only written after this moment.
    pub updated_after: Option<Timestamp>,
    /// Newest hour of change first, instead of by id.
    pub recent: bool,
}

/// A page of executions and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionList {
    /// The executions.
    pub items: Vec<ExecutionItem>,
    /// The cursor of the next page, when there is one.
    pub next_cursor: Option<String>,
}

impl Executions {
    pub(super) fn new(memory: Memory) -> Self {
        Self { memory }
    }

    /// Lists the workflows that have an execution with a state.
    ///
    /// # Errors
    /// A cursor of another list, a store that does not answer.
    pub async fn workflows(&self, caller: &Principal, cursor: Option<&str>, limit: usize) -> Result<WorkflowList> {
        let parts = [caller.tenant.as_str(), "workflows"];
        let binding = CursorBinding(&parts);
        let after = binding.position(cursor, |position| WorkflowId::parse(position).ok())?;
        let page = self.memory.store().list_workflows(&caller.tenant, after.as_ref(), limit).await?;
        let next_cursor = page.items.last().filter(|_| page.more).map(|last| binding.encode(last.as_str()));
        Ok(WorkflowList { items: page.items, next_cursor })
    }

    /// Lists the executions of a workflow that have a state.
    ///
    /// # Errors
    /// A cursor of another list, a store that does not answer.
    pub async fn list(
        &self,
        caller: &Principal,
        workflow: &WorkflowId,
        filter: ExecutionFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<ExecutionList> {
        let after = filter.updated_after.map(|after| after.as_microseconds().to_string()).unwrap_or_default();
        let order = if filter.recent { "recent" } else { "id" };
        let parts = [caller.tenant.as_str(), "executions", workflow.as_str(), order, filter.status.as_deref().unwrap_or_default(), &after];
        let binding = CursorBinding(&parts);
        let order = if filter.recent {
            ExecutionOrder::Recent(binding.position(cursor, parse_recent)?)
        } else {
            ExecutionOrder::Id(binding.position(cursor, |position| ExecutionId::parse(position).ok())?)
        };
        let query = ExecutionQuery { status: filter.status.clone(), updated_after: filter.updated_after, order, limit };
        let page = self.memory.store().list_executions(&caller.tenant, workflow, &query).await?;
        let last = match page.position {
            Some(position) => Some(format!("{} {}", position.listed_at.as_microseconds(), position.incarnation)),
            None => page.items.last().map(|item| item.key.execution.as_str().to_owned()),
        };
        let next_cursor = last.filter(|_| page.more).map(|last| binding.encode(&last));
        Ok(ExecutionList { items: page.items, next_cursor })
    }

    /// Removes an execution with its history and checkpoints.
    ///
    /// # Errors
    /// Nothing to remove, a failed precondition, a reused key, a store that does not answer.
    pub async fn delete(&self, request: &WriteRequest, key: StateKey) -> Result<Done<RemovedExecution>> {
        let resource = StateResource::new(&request.caller, key.clone(), Operation::Delete);
        let tiers = self.memory.tiers().clone();
        let outcome = self
            .memory
            .write(request, resource, move |store, context, expected| -> Calling<Outcome<RemovedExecution>> {
                let (key, tiers) = (key.clone(), tiers.clone());
                Box::pin(async move {
                    let outcome = store.delete_execution(&context, &key, expected).await;
                    // Of so many checkpoints the store does not tell each.
                    let untold = match &outcome {
                        Ok(Outcome::Applied { record, .. }) => record.checkpoints >= MAX_COUNTED,
                        Err(error) => matches!(error, StoreError::OutcomeUnknown(_)),
                        Ok(_) => false,
                    };
                    if untold {
                        tiers.clear().await;
                    }
                    outcome
                })
            })
            .await?;
        match outcome {
            Outcome::Applied { record, .. } => {
                Ok(Done { status: 200, version: record.version, record: Some(record), rendered: None, replayed: false })
            }
            Outcome::Replayed(replay) => {
                Ok(Done { status: 200, version: replay.version, record: replay.record, rendered: None, replayed: true })
            }
            other => Err(refusal(&other, Code::ExecutionNotFound)),
        }
    }
}

fn parse_recent(position: &str) -> Option<RecentPosition> {
    let (listed_at, incarnation) = position.split_once(' ')?;
    Some(RecentPosition { listed_at: Timestamp::from_microseconds(listed_at.parse().ok()?), incarnation: incarnation.parse().ok()? })
}
