//! Use cases. The one place where store and cache meet; handlers and jobs call these and nothing below.

pub mod checkpoints;
pub mod collector;
pub mod effective;
pub mod executions;
pub mod health;
pub mod housekeeping;
pub mod memory;
pub mod patch;
mod resource;
mod sampler;
pub mod sessions;
pub mod states;
pub mod statistics;
mod turns;
pub mod variables;

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::checkpoint::CheckpointRecord;
use crate::domain::principal::{Permission, Principal};
use crate::domain::session::{Reach, SessionRecord};
use crate::domain::state::StateRecord;
use crate::domain::variable::VariableRecord;
use crate::domain::version::{Precondition, Version};
use crate::error::{Code, Error, Result};
use crate::telemetry;

pub use crate::domain::tier::{Source, Tier};
pub use crate::store::IDEMPOTENCY_SECONDS;
pub use memory::{Memory, MemorySettings};
pub use patch::Patch;
pub use resource::{Render, Rendered};

/// How the records of each kind become representations.
#[derive(Clone, Copy)]
pub struct Renderers {
    /// Of states.
    pub state: Render<StateRecord>,
    /// Of checkpoints.
    pub checkpoint: Render<CheckpointRecord>,
    /// Of sessions.
    pub session: Render<SessionRecord>,
    /// Of variables.
    pub variable: Render<VariableRecord>,
}

/// All services. Clones share everything.
#[derive(Clone)]
pub struct Services {
    /// Workflow states.
    pub states: states::States,
    /// Workflows and executions.
    pub executions: executions::Executions,
    /// Checkpoints.
    pub checkpoints: checkpoints::Checkpoints,
    /// Sessions.
    pub sessions: sessions::Sessions,
    /// Variables.
    pub variables: variables::Variables,
    /// Variables over several scopes.
    pub effective: effective::EffectiveVariables,
    /// Whether the server can do its work.
    pub health: health::Health,
    /// Figures and caches.
    pub operations: statistics::Operations,
    /// What the sweeper does.
    pub housekeeping: housekeeping::Housekeeping,
}

impl Services {
    /// The services over one memory.
    #[must_use]
    pub fn new(memory: &Memory, renderers: Renderers) -> Self {
        let sessions = sessions::Sessions::new(memory.clone(), renderers.session);
        Self {
            states: states::States::new(memory.clone(), renderers.state),
            executions: executions::Executions::new(memory.clone()),
            checkpoints: checkpoints::Checkpoints::new(memory.clone(), renderers),
            variables: variables::Variables::new(memory.clone(), sessions.clone(), renderers.variable),
            effective: effective::EffectiveVariables::new(memory.clone(), sessions.clone()),
            sessions,
            health: health::Health::new(memory.clone()),
            operations: statistics::Operations::new(memory.clone()),
            housekeeping: housekeeping::Housekeeping::new(memory.clone()),
        }
    }
}

/// A request that writes, apart from what it writes.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// Who asks.
    pub caller: Arc<Principal>,
    /// The request's id, for the change log.
    pub request_id: Uuid,
    /// The preconditions.
    pub precondition: Precondition,
    /// The idempotency key and the fingerprint of the request, when it has a key.
    pub idempotency: Option<IdempotencyKey>,
}

/// The header `Idempotency-Key`, with a fingerprint of everything that must be equal for a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key as the client sent it.
    pub key: String,
    /// 128 bits of a hash over the request.
    pub fingerprint: Uuid,
}

/// A write that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done<R> {
    /// The status of its answer: 201 created, 200 replaced, 204 deleted.
    pub status: u16,
    /// The version that it made.
    pub version: Version,
    /// What is there now. `None` after a delete, and for a replay whose version is no longer kept.
    pub record: Option<R>,
    /// Its representation.
    pub rendered: Option<Rendered>,
    /// Whether this is the stored answer of an earlier, equal request.
    pub replayed: bool,
}

/// What a read asks of the caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    /// Read the store, not a cache (`Cache-Control: no-cache`).
    pub from_store: bool,
    /// The version that the answer must have reached (`X-Min-Version`).
    pub min_version: Option<Version>,
}

/// One resource, as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Representation {
    /// Its version.
    pub version: Version,
    /// Its body.
    pub body: Bytes,
    /// Where it came from.
    pub source: Source,
}

impl WriteRequest {
    /// Refuses preconditions, where an operation changes no single resource that they could be about.
    ///
    /// # Errors
    /// There are some.
    pub(crate) fn without_precondition(&self) -> Result<()> {
        if self.precondition == Precondition::default() {
            return Ok(());
        }
        Err(Error::new(Code::PreconditionNotAllowed, "If-Match and If-None-Match cannot guard this operation."))
    }
}

/// Whose sessions and user scopes a caller reaches.
fn reach(caller: &Principal) -> Reach {
    if caller.may(Permission::Delegate) { Reach::All } else { Reach::Own(caller.subject.clone()) }
}

/// Logs that a caller acted for someone else.
fn log_delegation(caller: &Principal, on_behalf_of: &crate::domain::id::UserId) {
    if *on_behalf_of != caller.subject {
        let request_id = telemetry::request_id();
        tracing::info!(request_id, tenant = %caller.tenant, subject = %caller.subject, %on_behalf_of, "acted for another user");
    }
}
