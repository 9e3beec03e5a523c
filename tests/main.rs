//! The integration tests, one binary.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of tests fails the test by panicking")]

mod auth;
mod config;
mod contract;
mod http_server;
mod process;
mod sqlite;
mod support;
