//! The steps of a sequence: plain data that means something in every state of affairs.

use nworkflow_state::domain::version::Version;
use nworkflow_state::service::Freshness;

use super::reference::Key;
use crate::model::{CACHED, FROM_STORE};

pub(super) const EXECUTIONS: [&str; 3] = ["e0", "e1", "e2"];
pub(super) const CHECKPOINTS: [&str; 2] = ["c0", "c1"];
pub(super) const SESSIONS: [&str; 2] = ["s0", "s1"];
pub(super) const NAMES: [&str; 3] = ["n0", "n1", "n2"];
/// Global, workflow, user, and one for each session.
pub(super) const SCOPES: usize = 3 + SESSIONS.len();
pub(super) const DAY: i64 = 24 * 3600;

/// The session whose scope this is.
pub(super) fn session_of(scope: usize) -> Option<usize> {
    scope.checked_sub(3)
}

pub(super) fn scope_of(session: usize) -> usize {
    session + 3
}

/// What a write asks of the version that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    None,
    Absent,
    Present,
    Current,
    /// A version that the key never had.
    Unknown,
    /// The version that the key had before its last write.
    Earlier,
}

/// A session's document.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) number: i64,
    pub(super) ttl: Option<i64>,
    pub(super) sliding: bool,
    pub(super) cap: Option<i64>,
}

/// What a batch does with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Untouched,
    Set,
    Delete,
}

/// Which version a batch expects of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    Live,
    Absent,
    Unknown,
}

/// Resources are numbers: places in the lists above.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    ClearCache,
    Effective {
        session: Option<usize>,
    },
    Advance {
        seconds: i64,
    },
    /// Work of the sweeper; with days that pass, tombstones and floors go too.
    Sweep {
        days_pass: bool,
    },

    PutState {
        execution: usize,
        number: i64,
        guard: Guard,
    },
    PatchState {
        execution: usize,
        number: i64,
        guard: Guard,
    },
    DeleteState {
        execution: usize,
        guard: Guard,
    },
    /// Of a document of its own, or of the live state.
    CreateCheckpoint {
        execution: usize,
        id: usize,
        own: Option<i64>,
    },
    Restore {
        execution: usize,
        id: usize,
        guard: Guard,
    },
    Fork {
        execution: usize,
        id: usize,
        into: usize,
    },
    DeleteCheckpoint {
        execution: usize,
        id: usize,
        guard: Guard,
    },
    DeleteExecution {
        execution: usize,
        guard: Guard,
    },

    CreateSession {
        session: usize,
        terms: Terms,
    },
    PutSession {
        session: usize,
        terms: Terms,
        guard: Guard,
    },
    PatchSession {
        session: usize,
        number: i64,
        guard: Guard,
    },
    Extend {
        session: usize,
        seconds: i64,
        guard: Guard,
    },
    DeleteSession {
        session: usize,
        guard: Guard,
    },
    GetSession {
        session: usize,
        reading: Reading,
    },

    /// Without a number: a text, that nobody can increment.
    PutVariable {
        scope: usize,
        name: usize,
        number: Option<i64>,
        ttl: Option<i64>,
        guard: Guard,
    },
    PatchVariable {
        scope: usize,
        name: usize,
        number: i64,
        guard: Guard,
    },
    Increment {
        scope: usize,
        name: usize,
        number: i64,
        guard: Guard,
    },
    DeleteVariable {
        scope: usize,
        name: usize,
        guard: Guard,
    },
    Batch {
        scope: usize,
        roles: [Role; NAMES.len()],
        number: i64,
        expects: Option<(usize, Expectation)>,
    },
    DeleteScope {
        scope: usize,
    },
}

impl Operation {
    /// The key whose version the operation looks at, and how.
    pub(super) fn guarded(&self) -> Option<(Key, Guard)> {
        match *self {
            Self::PutState { execution, guard, .. }
            | Self::PatchState { execution, guard, .. }
            | Self::DeleteState { execution, guard }
            | Self::Restore { execution, guard, .. }
            | Self::DeleteExecution { execution, guard } => Some((Key::State(execution), guard)),
            Self::DeleteCheckpoint { execution, id, guard } => Some((Key::Checkpoint(execution, id), guard)),
            Self::PutSession { session, guard, .. }
            | Self::PatchSession { session, guard, .. }
            | Self::Extend { session, guard, .. }
            | Self::DeleteSession { session, guard } => Some((Key::Session(session), guard)),
            Self::PutVariable { scope, name, guard, .. }
            | Self::PatchVariable { scope, name, guard, .. }
            | Self::Increment { scope, name, guard, .. }
            | Self::DeleteVariable { scope, name, guard } => Some((Key::Variable(scope, name), guard)),
            _ => None,
        }
    }
}

/// How a read asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Cached,
    /// From the cache, if that is as new as what the reader knows.
    Known,
    FromStore,
}

impl Reading {
    pub(super) fn freshness(self, live: Option<Version>) -> Freshness {
        match self {
            Self::Cached => CACHED,
            Self::Known => Freshness { from_store: false, min_version: live },
            Self::FromStore => FROM_STORE,
        }
    }
}

/// One answer that can be held against the model.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sight {
    Executions,
    Checkpoints,
    Sessions,
    State(usize),
    History(usize),
    Checkpoint(usize, usize),
    /// Whether the session is there.
    Life(usize),
    Variable(usize, usize),
    Scope(usize),
    Effective(Option<usize>),
}

/// An operation; what it can have changed is compared, and every other time a sight from anywhere.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) operation: Operation,
    pub(super) sight: Option<Sight>,
    pub(super) reading: Reading,
}
