//! The cache tiers and their protocol. Knows neither a store nor HTTP; `service::memory` brings it together with them.
//!
//! One tier so far, the [`LocalTier`]: finished response bodies in this process's memory. It is never behind a write that was acknowledged
//! here, by four rules, each of which a test misses when it is broken:
//!
//! - *Ticket.* A reader takes a ticket before it asks the store, and what it read is kept only when no write has touched the key since.
//! - *Silence.* While a write of a key is between its row locks and the word of its outcome, nothing is kept under the key.
//! - *Floor.* For a while after a commit nothing older than its version is kept, wherever it was read.
//! - *Flight.* Readers share a load only with those that hold the same ticket: one that begins after a write never gets what an earlier
//!   one is still loading.
//!
//! The way of a read:
//!
//! ```text
//! get(key) ── found ──> answer
//!    └─ not ─> ticket(key) ─> Flights::load(key, ticket) ─> the store ─> insert(key, ticket) ─> answer
//! ```
//!
//! and of a write: the store tells `before_commit`, commits, tells `committed`; then the writer may leave what it wrote with
//! [`LocalTier::insert_written`].

mod bounded;
pub mod bus;
mod codec;
pub mod dragonfly;
pub mod entry;
pub mod flight;
pub(crate) mod fuzzing;
pub mod journal;
pub mod key;
pub mod key_text;
pub mod local;
mod slot;
mod stripe;
pub mod tiers;

pub use bus::BusFigures;
pub use dragonfly::{Dragonfly, SecondTierFigures};
pub use entry::{Entry, Facts, SessionFacts, Wanted};
pub use flight::{Flights, Loaded};
pub use key::Key;
pub use local::{LocalTier, Statistics};
pub use stripe::Ticket;
pub use tiers::Tiers;
