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
