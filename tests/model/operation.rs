//! The steps of a random sequence. Each is plain data that means something in every state of affairs, so that any part of a sequence is
//! a sequence too.

use super::Random;

pub(super) const EXECUTIONS: [&str; 3] = ["e0", "e1", "e2"];
pub(super) const CHECKPOINTS: [&str; 2] = ["c0", "c1"];
pub(super) const SESSIONS: [&str; 2] = ["s0", "s1"];
pub(super) const NAMES: [&str; 3] = ["n0", "n1", "n2"];
/// Global, workflow, user, and one for each session.
pub(super) const SCOPES: usize = 3 + SESSIONS.len();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PutState,
    PatchState,
    DeleteState,
    CreateCheckpoint,
    Restore,
    Fork,
    DeleteCheckpoint,
    DeleteExecution,
    CreateSession,
    PutSession,
    PatchSession,
    Extend,
    DeleteSession,
    GetSession,
    PutVariable,
    PatchVariable,
    Increment,
    DeleteVariable,
    Batch,
    DeleteScope,
    Effective,
    Advance,
    Sweep,
    ClearCache,
}

/// How often each kind comes, and nothing else.
const WEIGHTS: [(Kind, usize); 24] = [
    (Kind::PutState, 10),
    (Kind::PatchState, 6),
    (Kind::DeleteState, 4),
    (Kind::CreateCheckpoint, 8),
    (Kind::Restore, 5),
    (Kind::Fork, 5),
    (Kind::DeleteCheckpoint, 3),
    (Kind::DeleteExecution, 3),
    (Kind::CreateSession, 6),
    (Kind::PutSession, 6),
    (Kind::PatchSession, 4),
    (Kind::Extend, 4),
    (Kind::DeleteSession, 2),
    (Kind::GetSession, 8),
    (Kind::PutVariable, 12),
    (Kind::PatchVariable, 5),
    (Kind::Increment, 6),
    (Kind::DeleteVariable, 5),
    (Kind::Batch, 8),
    (Kind::DeleteScope, 2),
    (Kind::Effective, 4),
    (Kind::Advance, 6),
    (Kind::Sweep, 3),
    (Kind::ClearCache, 2),
];

/// What a write asks of the version that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    None,
    Absent,
    Present,
    Current,
    Stale,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    /// Which resource, and which second one.
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) c: usize,
    /// A value, or bits that choose.
    pub(super) number: i64,
    pub(super) guard: Guard,
}

pub(super) fn sequence(random: &mut Random, length: usize) -> Vec<Operation> {
    let total: usize = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    (0..length)
        .map(|_| {
            let mut left = random.below(total);
            let (kind, _) = WEIGHTS
                .iter()
                .find(|(_, weight)| {
                    let here = left < *weight;
                    left = left.saturating_sub(*weight);
                    here
                })
                .unwrap();
            let guard = match random.below(12) {
                0 => Guard::Absent,
                1 => Guard::Present,
                2 | 3 => Guard::Current,
                4 => Guard::Stale,
                _ => Guard::None,
            };
            let number = i64::try_from(random.below(1000)).unwrap();
            Operation { kind: *kind, a: random.below(60), b: random.below(60), c: random.below(60), number, guard }
        })
        .collect()
}
