//! The routes, one file a resource: what goes over the wire, its documentation, and the handlers.

pub mod documents;
pub mod operations;
pub mod states;
pub mod variables;
