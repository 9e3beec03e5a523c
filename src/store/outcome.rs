//! What becomes of writes and reads: the answers of a store.

use uuid::Uuid;

use crate::domain::id::{TenantId, UserId};
use crate::domain::variable::{BatchOutcome, IncrementFault, VariableRecord};
use crate::domain::version::Version;

/// Seconds for which the answer of an idempotency key is kept: 24 hours. An older row counts as absent, swept or not.
pub const IDEMPOTENCY_SECONDS: i64 = 24 * 3600;

/// Who writes, and under which idempotency key.
#[derive(Debug, Clone)]
pub struct WriteContext {
    /// The tenant that the write happens in.
    pub tenant: TenantId,
    /// The user that is recorded with the version.
    pub actor: UserId,
    /// The request, for the change log.
    pub request_id: Uuid,
    /// The idempotency key, when the request has one.
    pub idempotency: Option<Idempotency>,
}

/// An idempotency key, hashed: 128 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    /// Hash of issuer, subject and key.
    pub key: Uuid,
    /// Hash of everything in the request that must be equal for a replay.
    pub fingerprint: Uuid,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It was written.
    Applied {
        /// Whether the key did not exist before (also: was deleted or expired).
        created: bool,
        /// What is there now.
        record: R,
    },
    /// Its precondition failed. The current version is `None` when the key does not exist.
    Refused {
        /// The live version, read under the lock or at the statement's snapshot.
        current: Option<Version>,
    },
    /// There is nothing to delete, and the precondition did not ask for anything.
    Absent,
    /// The idempotency key was used by an equal request before, whose stored answer this is. Nothing was written.
    Replayed(Replay<R>),
    /// The idempotency key was used by another request before. Nothing was written.
    KeyReused,
}

impl<R> Outcome<R> {
    /// The outcome with its record changed.
    #[must_use]
    pub fn map<T>(self, change: impl FnOnce(R) -> T) -> Outcome<T> {
        match self {
            Self::Applied { created, record } => Outcome::Applied { created, record: change(record) },
            Self::Refused { current } => Outcome::Refused { current },
            Self::Absent => Outcome::Absent,
            Self::Replayed(Replay { status, version, record }) => Outcome::Replayed(Replay { status, version, record: record.map(change) }),
            Self::KeyReused => Outcome::KeyReused,
        }
    }
}

/// An answer of a write that may say that nothing was written.
pub trait Refusable {
    /// Whether the write was refused by what is there: its precondition, or that there is nothing.
    fn is_refusal(&self) -> bool;
}

impl<R> Refusable for Outcome<R> {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Absent)
    }
}

impl Refusable for BatchOutcome {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl Refusable for IncrementOutcome {
    fn is_refusal(&self) -> bool {
        match self {
            Self::Done(outcome) => outcome.is_refusal(),
            Self::Fault(_) => true,
        }
    }
}

impl<R, E> Outcome<std::result::Result<R, E>> {
    /// The outcome of a record that is a result, the other way round.
    ///
    /// # Errors
    /// The record is an error.
    pub fn transpose(self) -> std::result::Result<Outcome<R>, E> {
        Ok(match self {
            Self::Applied { created, record } => Outcome::Applied { created, record: record? },
            Self::Refused { current } => Outcome::Refused { current },
            Self::Absent => Outcome::Absent,
            Self::Replayed(Replay { status, version, record }) => {
                Outcome::Replayed(Replay { status, version, record: record.transpose()? })
            }
            Self::KeyReused => Outcome::KeyReused,
        })
    }
}

/// A stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay<R> {
    /// The HTTP status that was answered: 200, 201 or 204.
    pub status: u16,
    /// The version that was written.
    pub version: Version,
    /// What was written; `None` for a delete, and for a version that is no longer kept.
    pub record: Option<R>,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<R> {
    /// The key is there.
    Live(R),
    /// The key was deleted or expired; its tombstone has this version.
    Gone(Version),
    /// There is no trace of the key.
    Absent,
}

impl<R> Lookup<R> {
    /// The record, when the key is there.
    #[must_use]
    pub fn live(self) -> Option<R> {
        match self {
            Self::Live(record) => Some(record),
            Self::Gone(_) | Self::Absent => None,
        }
    }
}

/// A tombstone that a delete left: its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// The version of the deletion.
    pub version: Version,
}

/// What became of an increment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncrementOutcome {
    /// As any write.
    Done(Outcome<VariableRecord>),
    /// The value and the number do not add up. Nothing was written.
    Fault(IncrementFault),
}

/// What the deletion of a scope took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeDeletion {
    /// Variables that were deleted by this call.
    pub deleted: u64,
    /// Whether some are left.
    pub more: bool,
}
