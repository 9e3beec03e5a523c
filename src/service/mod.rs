//! Use cases. The one place where store and cache meet; handlers and jobs call these and nothing below.

pub mod health;
pub mod memory;
pub mod states;
pub mod variables;

use std::sync::Arc;

use uuid::Uuid;

use crate::domain::principal::Principal;
use crate::domain::version::{Precondition, Version};

pub use crate::store::IDEMPOTENCY_SECONDS;
pub use memory::Memory;

/// All services. Clones share everything.
#[derive(Clone)]
pub struct Services {
    /// Workflow states.
    pub states: states::States,
    /// Variables.
    pub variables: variables::Variables,
    /// Whether the server can do its work.
    pub health: health::Health,
}

impl Services {
    /// The services over one memory.
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        Self {
            states: states::States::new(memory.clone()),
            variables: variables::Variables::new(memory.clone()),
            health: health::Health::new(memory),
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
