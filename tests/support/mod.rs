//! What several test modules need.

pub(crate) mod postgres;
pub(crate) mod proxy;
