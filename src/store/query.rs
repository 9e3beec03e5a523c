//! What part of a list to read, and a page of checkpoints.

use crate::domain::checkpoint::{CheckpointItem, CheckpointPosition};
use crate::domain::id::VariableName;
use crate::domain::version::Version;

/// Which part of a state's history to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Oldest first instead of newest first.
    pub ascending: bool,
    /// Only versions behind this one, in the chosen order.
    pub after: Option<Version>,
    /// Most items.
    pub limit: usize,
}

/// Which variables of a scope to read, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VariableQuery {
    /// Only names that begin with these bytes.
    pub prefix: String,
    /// Only these names, when there are any.
    pub names: Vec<VariableName>,
    /// Only names behind this one.
    pub after: Option<VariableName>,
    /// Most items.
    pub limit: usize,
    /// The page ends once its values hold this many bytes; it holds at least one item.
    pub max_bytes: usize,
}

/// A page of checkpoints and the place of its last item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointPage {
    /// The items, newest first.
    pub items: Vec<CheckpointItem>,
    /// Whether more follow.
    pub more: bool,
    /// The place of the last item.
    pub position: Option<CheckpointPosition>,
}
