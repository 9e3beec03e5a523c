//! What the tests stand on.

pub(crate) mod issuer;
pub(crate) mod keys;
pub(crate) mod tokens;
