//! What several test modules need.

pub(crate) mod counted_store;
pub(crate) mod documents;
pub(crate) mod faulty;
pub(crate) mod issuer;
pub(crate) mod keys;
pub(crate) mod port;
pub(crate) mod postgres;
pub(crate) mod postgres_cluster;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod store_methods;
pub(crate) mod tcp_proxy;
pub(crate) mod tokens;

/// Set to anything, tests that come in two sizes take the full one, which needs minutes.
const FULL: &str = "NWORKFLOW_TEST_FULL";

/// The size of a test: the small one, or the full one when [`FULL`] asks for it.
pub(crate) fn size(small: usize, full: usize) -> usize {
    if std::env::var_os(FULL).is_some() { full } else { small }
}
