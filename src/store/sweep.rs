//! Housekeeping: what there is to do, its limits, and the figures of a store.

#[cfg(doc)]
use super::IDEMPOTENCY_SECONDS;

/// Housekeeping that no reader can notice: what it removes is gone for all of them already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepTask {
    /// Turns expired sessions into tombstones.
    ExpiredSessions,
    /// Turns expired variables, and variables of sessions that are gone, into tombstones.
    ExpiredVariables,
    /// First phase of the removal of tombstones: raises each tenant's version floor to its highest tombstone that is due.
    VersionFloors,
    /// Second phase, at least `floor_seconds` after the first: removes tombstones below the floor. A state's only when its incarnation has
    /// neither versions nor checkpoints.
    Tombstones,
    /// Removes idempotency rows older than [`IDEMPOTENCY_SECONDS`].
    IdempotencyKeys,
    /// Removes log rows older than the retention.
    ChangeLog,
    /// Removes the versions and checkpoints of removed incarnations.
    RemovedExecutions,
    /// Gives the space of what was removed back to the file system, where nothing else does: rows are pages of the file then.
    FreeSpace,
}

impl SweepTask {
    /// All tasks, in the order in which one run does them.
    pub const ALL: [Self; 8] = [
        Self::ExpiredSessions,
        Self::ExpiredVariables,
        Self::VersionFloors,
        Self::Tombstones,
        Self::IdempotencyKeys,
        Self::ChangeLog,
        Self::RemovedExecutions,
        Self::FreeSpace,
    ];

    /// The word in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExpiredSessions => "expired_sessions",
            Self::ExpiredVariables => "expired_variables",
            Self::VersionFloors => "version_floors",
            Self::Tombstones => "tombstones",
            Self::IdempotencyKeys => "idempotency_keys",
            Self::ChangeLog => "change_log",
            Self::RemovedExecutions => "removed_executions",
            Self::FreeSpace => "free_space",
        }
    }
}

/// Limits of one step of housekeeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepLimits {
    /// Most rows that the step changes.
    pub rows: u32,
    /// Seconds that log rows are kept.
    pub log_seconds: i64,
    /// Seconds between the two phases of the removal of tombstones; at least ten times the statement time limit.
    pub floor_seconds: i64,
}

/// What a step of housekeeping did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Rows that it changed or removed.
    pub rows: u64,
    /// Whether more are due.
    pub more: bool,
    /// Another server is at it; nothing was done.
    pub busy: bool,
}

/// Figures of a store for statistics and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreFigures {
    /// Open connections.
    pub connections: u32,
    /// Those of them that are idle.
    pub idle_connections: u32,
    /// Writes that wait for their turn.
    pub queue_depth: u64,
    /// How many may wait; 0: there is no queue.
    pub queue_capacity: u64,
    /// Transactions that committed new versions, since the start. Refused and replayed writes, touches and housekeeping make none.
    pub groups: u64,
    /// New versions in them, deletions included.
    pub rows: u64,
}
