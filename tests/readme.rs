//! The README's tour, run as it stands on both stores, and compared with the output that it shows.

use std::process::{Command, Stdio};

use crate::process::Place;
use crate::support::postgres::TestDatabase;

/// The fenced blocks of the tour, in their order: language and text.
fn blocks() -> Vec<(String, String)> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let tour = readme.split("## Five minutes").nth(1).unwrap().split("\n## ").next().unwrap();
    let fenced = tour.split("```").skip(1).step_by(2);
    fenced
        .map(|block| {
            let (language, text) = block.split_once('\n').unwrap();
            (language.to_owned(), text.to_owned())
        })
        .collect()
}

/// What changes from run to run or from store to store: times, ids, cursors, figures, and which cache answered.
pub(crate) fn mask(text: &str) -> String {
    text.lines().map(mask_line).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

fn mask_line(text: &str) -> String {
    if let Some(figures) = ["{\"postgres_connected\":", "{\"local_entries_removed\":", "cache-status: nworkflow-"]
        .into_iter()
        .find(|start| text.starts_with(start))
    {
        return figures.to_owned();
    }
    let mut masked = String::new();
    let mut rest = text;
    while let Some((before, quoted)) = rest.split_once('"') {
        let (word, after) = quoted.split_once('"').unwrap_or((quoted, ""));
        let is_time = word.len() == 27 && word.ends_with('Z') && word.contains("T");
        let is_id = word.len() == 36 && word.matches('-').count() == 4;
        masked.push_str(before);
        let is_cursor = masked.ends_with("\"next_cursor\":");
        let shown = if is_time {
            "TIME"
        } else if is_id {
            "ID"
        } else if is_cursor {
            "CURSOR"
        } else {
            word
        };
        masked.push_str(&format!("\"{shown}\""));
        rest = after;
    }
    masked.push_str(rest);
    masked.trim_end().to_owned()
}

/// The requests of the log that were refused and whose problem nobody sees: a tour shows what it does.
fn unseen(log: &str, printed: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let refused = lines.filter(|line| line["message"] == "request" && line["status"].as_u64() >= Some(400));
    let is_seen = |line: &serde_json::Value| printed.contains(&format!("\"code\":{},\"request_id\":{}", line["code"], line["request_id"]));
    refused.filter(|line| !is_seen(line)).map(|line| line.to_string()).collect()
}

/// Pastes the tour's commands into a shell, one block after the other.
fn run(environment: &[(&str, &str)]) {
    let place = Place::new();
    let server = place.dev_with(&[], environment);
    let mut script = String::from("set -u\n");
    let mut shown = Vec::new();
    for (language, text) in blocks() {
        match language.as_str() {
            "sh" => script.push_str(&format!("{text}\necho '=== end of a block'\n")),
            _ => shown.push(text),
        }
    }
    let script = script
        .replace("target/debug/nworkflow-state", env!("CARGO_BIN_EXE_nworkflow-state"))
        .replace("127.0.0.1:8080", &server.address().to_string());
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(place.folder())
        .env("NWORKFLOW__DATA_DIR", place.folder().join("data"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let unseen = unseen(&server.log(), &printed);
    assert!(unseen.is_empty(), "the tour hides what went wrong: {unseen:#?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    let printed: Vec<&str> = printed.split("=== end of a block\n").skip(1).filter(|block| !block.is_empty()).collect();
    assert_eq!(printed.len(), shown.len(), "{printed:?}\n{errors}");
    for (printed, shown) in printed.iter().zip(&shown) {
        assert_eq!(mask(printed), mask(shown), "the README shows something else than the server answers: {printed}\n{errors}");
    }
}

#[test]
fn what_changes_from_run_to_run_is_masked() {
    let text =
        r#"{"at":"2026-11-24T06:20:07.129377Z","request_id":"01a20c36-3ddb-7c95-92eb-2a0b6b1c7d2e","next_cursor":"NW6vRw","value":"x"}"#;
    assert_eq!(mask(text), r#"{"at":"TIME","request_id":"ID","next_cursor":"CURSOR","value":"x"}"#);
}

#[test]
fn a_hidden_refusal_is_found() {
    let log = r#"{"message":"request","status":200,"code":"","request_id":"r1"}
{"message":"request","status":422,"code":"missing_member","request_id":"r2"}
{"message":"request","status":404,"code":"session_not_found","request_id":"r3"}"#;
    let shown = |code: &str, id: &str| format!(r#"{{"status":1,"code":"{code}","request_id":"{id}"}}"#);
    assert_eq!(unseen(log, &shown("session_not_found", "r3")).len(), 1);
    assert_eq!(unseen(log, &(shown("missing_member", "r2") + &shown("session_not_found", "r3"))), Vec::<String>::new());
    assert_eq!(unseen(log, &(shown("missing_member", "r3") + &shown("session_not_found", "r2"))).len(), 2);
}

#[test]
fn the_tour_runs_on_sqlite() {
    run(&[]);
}

#[test]
fn the_tour_runs_on_postgresql_with_a_url_alone() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(TestDatabase::empty());
    let url = database.url("postgres");
    run(&[("NWORKFLOW__DATABASE__URL", url.as_str())]);
}
