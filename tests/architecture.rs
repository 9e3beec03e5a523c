//! The house rules that a machine can check: who may import whom, how large a file gets, and that the map names every file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, top first. A room imports itself and rooms on lower floors.
const FLOORS: &[&[&str]] = &[
    &["main", "lib"],
    &["command", "fuzzing"],
    &["app"],
    &["http", "jobs"],
    &["service"],
    &["store", "cache"],
    &["telemetry"],
    &["error", "config", "lifecycle", "deadline", "places"],
    &["domain"],
];

/// Rooms on lower floors that are out of reach all the same, and why.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("http", "store", "handlers call services: rules and write order live there"),
    ("http", "cache", "handlers call services: what is cached, and how, is decided there"),
    ("jobs", "store", "jobs call services: they have no rules of their own"),
    ("jobs", "cache", "jobs call services: they have no rules of their own"),
];

/// Libraries that belong to certain rooms.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("deadpool_redis", &["cache"]),
    ("axum", &["http", "app", "command"]),
    ("utoipa", &["http"]),
    ("jsonwebtoken", &["http"]),
    ("tokio", &["main", "command", "app", "http", "jobs", "service", "store", "cache", "telemetry", "lifecycle", "deadline", "places"]),
];

/// Longest file in lines, its unit tests not counted.
const MAX_LINES: usize = 400;
/// Files that are longer. The list may only get shorter.
const LONGER: &[&str] = &[];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `src`, by its path from the root.
fn sources() -> BTreeMap<String, String> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                collect(&entry, files);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                files.push(entry);
            }
        }
    }
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    files
        .into_iter()
        .map(|file| (file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&file).unwrap()))
        .collect()
}

/// `src/http/routes/states.rs` and `src/http.rs` are both in the room `http`.
fn room(file: &str) -> &str {
    file.strip_prefix("src/").unwrap().split('/').next().unwrap().trim_end_matches(".rs")
}

fn floor(room: &str) -> usize {
    let floor = FLOORS.iter().position(|rooms| rooms.contains(&room));
    floor.unwrap_or_else(|| panic!("src/{room} is in no floor: add it to FLOORS in tests/architecture.rs and to docs/ARCHITECTURE.md"))
}

/// The text in front of the unit tests, without comments.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The rooms that a file names as `crate::ROOM`, also in `use crate::{a, b}`.
fn imports(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (index, _) in code.match_indices("crate::") {
        let rest = &code[index + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default().split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for name in names {
            rooms.push(name.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect());
        }
    }
    rooms
}

#[test]
fn imports_go_downwards_only() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let (own, code) = (room(&file), code(&text));
        for imported in imports(&code).iter().filter(|imported| *imported != own && !imported.is_empty()) {
            // Items of the crate root, such as macros, are no rooms.
            if !FLOORS.iter().any(|rooms| rooms.contains(&imported.as_str())) {
                continue;
            }
            if floor(imported) <= floor(own) {
                wrong.push(format!("{file} imports {imported}, which is not on a lower floor than {own}"));
            }
            if let Some((_, _, why)) = FORBIDDEN.iter().find(|(from, to, _)| *from == own && to == imported) {
                wrong.push(format!("{file} imports {imported}: {why}"));
            }
        }
        for (library, rooms) in LIBRARIES {
            let used = code.contains(&format!("{library}::")) || code.contains(&format!("use {library}"));
            if used && !rooms.contains(&own) {
                wrong.push(format!("{file} uses {library}, which belongs to {rooms:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "move the code to the room that may do this, or pass what it needs in:\n{}", wrong.join("\n"));
}

#[test]
fn the_import_check_sees_a_forbidden_import() {
    assert_eq!(imports("use crate::store::Store;\nfn f() -> crate::error::Error {}"), ["store", "error"]);
    assert_eq!(imports("use crate::{cache, service::Memory};"), ["cache", "service"]);
    assert_eq!(code("use a;\n// use crate::b\n#[cfg(test)]\nmod tests { use crate::c; }"), "use a;");
}

/// What computes goes on when nobody waits for it, so it must hold the place of its request.
#[test]
fn threads_are_taken_in_one_place() {
    let takers: Vec<String> =
        sources().into_iter().filter(|(_, text)| code(text).contains("spawn_blocking")).map(|(file, _)| file).collect();
    assert_eq!(takers, ["src/places.rs"], "compute with places::compute, which holds the place of the request");
}

#[test]
fn files_stay_small() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(file, text)| (file, text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count()))
        .filter(|(file, lines)| *lines > MAX_LINES && !LONGER.contains(&file.as_str()))
        .map(|(file, lines)| format!("{file}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "split what has more than one reason to exist:\n{}", long.join("\n"));
}

#[test]
fn the_map_names_every_file() {
    let map = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    let missing: Vec<String> = sources().into_keys().filter(|file| !map.contains(&format!("`{file}`"))).collect();
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md does not name (as `src/...`):\n{}", missing.join("\n"));
    let gone: Vec<&str> =
        map.split('`').filter(|word| word.starts_with("src/") && word.ends_with(".rs") && !root().join(word).exists()).collect();
    assert!(gone.is_empty(), "docs/ARCHITECTURE.md names files that are gone:\n{}", gone.join("\n"));
}

#[test]
fn both_stores_have_the_same_migrations() {
    let names = |backend: &str| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(root().join("migrations").join(backend))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("postgres"), names("sqlite"));
    assert!(!names("postgres").is_empty());
}

#[test]
fn paths_in_the_documents_exist() {
    for document in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/ARCHITECTURE.md",
        "docs/api.md",
        "docs/configuration.md",
        "docs/errors.md",
        "docs/operation.md",
    ] {
        let text = fs::read_to_string(root().join(document)).unwrap_or_else(|_| panic!("{document} is missing"));
        // Relative links of Markdown: `](path)`, without anchors and addresses.
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let base = root().join(document);
            assert!(base.parent().unwrap().join(path).exists(), "{document} links to {path}, which does not exist");
        }
    }
}
