//! HTTP.

pub mod auth;
pub mod server;
mod stall;
