//! nworkflow-state: the memory of the nWorkflow engine.
//!
//! A REST server that keeps workflow states and variables in PostgreSQL or, embedded, in SQLite. Three layers, one direction:
//!
//! ```text
//! http (and jobs)  ->  service  ->  store, cache        everyone -> domain
//! ```
//!
//! `docs/ARCHITECTURE.md` is the map, file by file; `tests/architecture.rs` keeps both true.

pub mod app;
pub mod cache;
pub mod command;
pub mod config;
pub mod deadline;
pub mod domain;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod jobs;
pub mod lifecycle;
pub mod places;
pub mod service;
pub mod store;
pub mod telemetry;
