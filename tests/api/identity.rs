//! Identity through the whole server.
