//! Checkpoints: named copies of a state, to come back to.

use std::sync::Arc;

use super::clock::Timestamp;
use super::document::{self, Fault, FaultKind, Kind, Object};
use super::id::{CheckpointId, ExecutionId, WorkflowId};
use super::state::{StateDocument, StateKey};
use super::version::Version;

/// Longest label, in bytes of UTF-8.
pub const MAX_LABEL_BYTES: usize = 256;

/// Names one checkpoint within a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckpointKey {
    /// The execution that it belongs to.
    pub state: StateKey,
    /// Its id there.
    pub checkpoint: CheckpointId,
}

/// A checkpoint to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCheckpoint {
    /// What a person calls it.
    pub label: Option<String>,
    /// The bytes of an object that goes with it.
    pub metadata: Arc<str>,
    /// The state to keep; `None`: the current one.
    pub document: Option<StateDocument>,
}

/// A request body, read: the checkpoint and the id that the client chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInput {
    /// The member `checkpoint_id`.
    pub id: Option<CheckpointId>,
    /// The rest.
    pub checkpoint: NewCheckpoint,
}

impl CheckpointInput {
    /// Reads a validated request body.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(body: &str) -> Result<Self, Vec<Fault>> {
        let mut object = Object::read(body).map_err(|fault| vec![fault])?;
        let mut faults = Vec::new();
        let id = object.take("checkpoint_id").and_then(|raw| match document::text(raw, usize::MAX) {
            Ok(text) => {
                CheckpointId::parse(&text).map_err(|error| faults.push(Fault::member("checkpoint_id", FaultKind::InvalidId(error)))).ok()
            }
            Err(kind) => {
                faults.push(Fault::member("checkpoint_id", kind));
                None
            }
        });
        let label = object.take("label").and_then(|raw| match document::text(raw, MAX_LABEL_BYTES) {
            Ok(text) => Some(text),
            Err(kind) => {
                faults.push(Fault::member("label", kind));
                None
            }
        });
        let metadata = object.take("metadata").unwrap_or("{}");
        if document::kind(metadata) != Kind::Object {
            faults.push(Fault::member("metadata", FaultKind::InvalidType { expected: "an object" }));
        }
        let document = object.take("state").and_then(|raw| match StateDocument::parse(raw) {
            Ok(document) => Some(document),
            Err(inner) => {
                faults.extend(inner.into_iter().map(|fault| fault.below("state")));
                None
            }
        });
        faults.extend(object.unknown());
        if faults.is_empty() {
            Ok(Self { id, checkpoint: NewCheckpoint { label, metadata: metadata.into(), document } })
        } else {
            Err(faults)
        }
    }
}

/// A checkpoint, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// What lists show of it.
    pub item: CheckpointItem,
    /// The state that it keeps.
    pub document: StateDocument,
}

/// A checkpoint without its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointItem {
    /// Which checkpoint.
    pub key: CheckpointKey,
    /// Grows over deletion and re-creation of the id.
    pub version: Version,
    /// What a person calls it.
    pub label: Option<String>,
    /// The bytes of its metadata, an object.
    pub metadata: Arc<str>,
    /// The version of the state that was copied; `None` when the state came with the request.
    pub state_version: Option<Version>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// Bytes of the kept state.
    pub size: i64,
}

/// Where a page of checkpoints, newest first, ended. `incarnation` tells checkpoints of the same moment and id apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointPosition {
    /// When the last one was made.
    pub created_at: Timestamp,
    /// Its id.
    pub checkpoint: CheckpointId,
    /// A number of the store's for its execution.
    pub incarnation: i64,
}

/// Which checkpoints to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointQuery {
    /// Only of this workflow.
    pub workflow: Option<WorkflowId>,
    /// Only of executions of this id.
    pub execution: Option<ExecutionId>,
    /// Only made after this moment.
    pub created_after: Option<Timestamp>,
    /// Only older than this one.
    pub after: Option<CheckpointPosition>,
    /// Most items.
    pub limit: usize,
}
