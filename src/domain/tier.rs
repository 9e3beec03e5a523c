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

/// Where an answer comes from, and how sure of it its giver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Where it was.
    pub tier: Tier,
    /// Seconds since the store last answered, when a cache answers while the store does not.
    pub store_away_seconds: Option<u32>,
}

impl From<Tier> for Source {
    fn from(tier: Tier) -> Self {
        Self { tier, store_away_seconds: None }
    }
}
