//! The embedded store as a file.
