//! The integration tests, one binary.
//!
//! Each module says `cfg(test)` although this file is compiled in no other way: that is how clippy knows that its helpers are tests,
//! where a failed `expect` is the verdict.

#[cfg(test)]
mod config;
#[cfg(test)]
mod http_server;
#[cfg(test)]
mod process;
