//! The protocol of the two cache tiers: a model of it, searched whole, and its scripts on the servers that run them.

mod model;
