//! The integration tests, one binary.
//!
//! Each module says `cfg(test)` although this file is compiled in no other way: that is how clippy knows that its helpers are tests,
//! where a failed `expect` is the verdict.

#![expect(unreachable_pub, reason = "helpers are shared by modules of one binary, which has no outside")]

#[cfg(test)]
mod api;
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod auth;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod cache_protocol;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod config;
#[cfg(test)]
mod container;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod fuzz_corpus;
#[cfg(test)]
mod http_server;
#[cfg(test)]
mod manners;
#[cfg(test)]
mod model;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod postgres_groups;
#[cfg(test)]
mod postgres_memory;
#[cfg(test)]
mod postgres_plans;
#[cfg(test)]
mod postgres_sweep;
#[cfg(test)]
mod process;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tour;
