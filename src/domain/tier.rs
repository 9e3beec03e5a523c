//! Where an answer comes from.

/// Where what a read found, or did not find, came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// The cache in this process.
    Local,
    /// The cache of all servers.
    Second,
    /// The store: because the request asked for it, or because no cache had it.
    Store {
        /// Whether the request asked for it.
        asked: bool,
    },
}
