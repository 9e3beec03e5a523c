//! The API document as a promise: what was released keeps working.

mod compatibility;
mod released;
