//! Work that nobody asked for: it keeps the store small. Readers never notice it.

pub mod sweep;
pub mod watch;
