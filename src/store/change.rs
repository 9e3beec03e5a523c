//! What the change log keeps of a write. The numbers are stored, by both backends.

/// What kind of resource changed (`change_log.kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum ChangeKind {
    /// A state: `k1` is the workflow, `k2` the execution.
    State = 1,
    /// A variable: `k1` is the scope as in the API (`workflow:ID`), `k2` the name.
    Variable = 2,
    /// A session: `k1` is its id, `k2` empty.
    Session = 3,
    /// A checkpoint.
    Checkpoint = 4,
}

/// What became of it (`change_log.op`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum ChangeOperation {
    /// It was absent and is there now.
    Created = 1,
    /// It was there and has a new version.
    Replaced = 2,
    /// It is gone.
    Deleted = 3,
}
