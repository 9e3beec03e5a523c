//! The integration tests, one binary.
//!
//! Each module says `cfg(test)` although this file is compiled in no other way: that is how clippy knows that its helpers are tests,
//! where a failed `expect` is the verdict.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod support;
