//! The routes, one file a resource: what goes over the wire, its documentation, and the handlers.

pub mod checkpoints;
pub mod documents;
pub mod executions;
pub mod operations;
pub mod patches;
pub mod scopes;
pub mod sessions;
pub mod states;
pub mod statistics;
pub mod variables;
