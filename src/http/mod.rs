//! HTTP.

pub mod server;
mod stall;
