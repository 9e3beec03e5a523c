//! The corpora of `cargo fuzz`, replayed: every input that a fuzzer found worth keeping still holds the properties of its target.
//!
//! On the stable toolchain and without a fuzzer. A file that fails here is run alone with
//! `cargo +nightly fuzz run TARGET fuzz/corpus/TARGET/FILE` (docs/fuzzing.md).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nworkflow_state::fuzzing;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The names in a folder, hidden files not counted.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

fn replay(target: &str) {
    let folder = fuzz().join("corpus").join(target);
    let files = names(&folder);
    assert!(!files.is_empty(), "{} is empty: run cargo fuzz cmin, and commit what it leaves", folder.display());
    for file in files {
        let data = std::fs::read(folder.join(&file)).unwrap();
        // The name of the file in the message of the panic.
        let verdict = std::panic::catch_unwind(|| fuzzing::run(target, &data));
        assert!(verdict.is_ok(), "fuzz/corpus/{target}/{file} breaks a property, see above");
    }
}

macro_rules! targets {
    ($($target:ident),* $(,)?) => {
        /// The targets that are replayed here.
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];

        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*
    };
}

targets!(bus_message, cursor, document, headers, identifiers, json_patch, key_set, key_text, merge_patch, query, slot, token);

#[test]
fn every_target_has_an_entry_point_a_corpus_and_a_replay() {
    let listed: BTreeSet<String> = fuzzing::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let entry_points = names(&fuzz().join("fuzz_targets"));
    assert_eq!(entry_points, listed.iter().map(|name| format!("{name}.rs")).collect(), "fuzz/fuzz_targets");
    assert_eq!(names(&fuzz().join("corpus")), listed, "fuzz/corpus");
    assert_eq!(REPLAYED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), listed, "tests/fuzz_corpus.rs");
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    assert!(listed.iter().all(|name| manifest.contains(&format!("name = \"{name}\""))), "fuzz/Cargo.toml");
}

/// A name that nobody knows is no target that finds nothing.
#[test]
fn an_unknown_target_is_refused() {
    let verdict = std::panic::catch_unwind(|| fuzzing::run("no_such_target", b""));
    assert!(verdict.is_err());
}
