//! Answers that are kept beside an idempotency key, as JSON text. Both backends write and read them here.
//!
//! States do not need it: their answers are read back by version. What the path names is not part of a text, because a replay is a
//! request with an equal fingerprint, path included; an id that the server may have made is. The value of a secret is never part of it either. Times are microseconds since the epoch; JSON of
//! users stands as a string, so that it comes back byte for byte.

mod execution;
mod scope;
mod session;
mod variable;

use serde::{Deserialize, Serialize};

pub use execution::{from_checkpoint, from_removed_execution, to_checkpoint, to_removed_execution};
pub use scope::{from_batch, from_scope_deletion, to_batch, to_scope_deletion};
pub use session::{from_session, to_session};
pub use variable::{from_variable, to_variable};

use super::{Result, StoreError};
use crate::domain::version::Version;

fn write<T: Serialize>(answer: &T) -> Result<String> {
    serde_json::to_string(answer).map_err(|error| StoreError::Internal(Box::new(error)))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    // The parser's message may quote the text, and so a value: only its position is repeated.
    serde_json::from_str(text).map_err(|error| corrupt(format!("answer is unreadable at byte {}", error.column())))
}

fn corrupt(detail: String) -> StoreError {
    StoreError::Corrupt { table: "idempotency", detail }
}

fn version(number: i64) -> Result<Version> {
    Version::new(number).ok_or_else(|| corrupt(format!("answer has version {number}")))
}
