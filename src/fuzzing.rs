//! What `cargo fuzz` and the replay of its corpora call: one function for each target, which panics when a property does not hold.
//!
//! Each room asserts what is private to it in a file `fuzzing.rs` of its own, so that nothing becomes public for the sake of fuzzing but
//! this list. Always compiled: the tests replay the corpora with the very library that they test (docs/decisions/0020).

use crate::{cache, domain, http};

/// A target: takes any bytes, and panics when a property does not hold.
pub type Target = fn(&[u8]);

/// All targets by name. `fuzz/fuzz_targets` has an entry point and `fuzz/corpus` a folder for each.
pub const TARGETS: &[(&str, Target)] = &[
    ("bus_message", cache::fuzzing::bus_message),
    ("cursor", domain::fuzzing::cursor),
    ("document", domain::fuzzing::document),
    ("headers", http::fuzzing::headers),
    ("identifiers", domain::fuzzing::identifiers),
    ("json_patch", domain::fuzzing::json_patch),
    ("key_set", http::auth::fuzzing::key_set),
    ("key_text", cache::fuzzing::key_text),
    ("merge_patch", domain::fuzzing::merge_patch),
    ("query", http::fuzzing::query),
    ("slot", cache::fuzzing::slot),
    ("token", http::auth::fuzzing::token),
];

/// Runs the target of this name.
///
/// # Panics
/// A property does not hold, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(own, _)| *own == name);
    assert!(target.is_some(), "no target {name}");
    if let Some((_, target)) = target {
        target(data);
    }
}
