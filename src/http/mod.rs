//! The edge: what comes in over HTTP and what goes out.

pub mod auth;
pub mod server;
mod stall;
