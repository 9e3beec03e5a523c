//! The tour of `docs/api.md`: its blocks of each language are one program, which is run from top to bottom against a server on each store. All
//! three print the same, and that is what the page shows.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{Place, Server};
use crate::readme::mask;
use crate::support::postgres::TestDatabase;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md");
/// Set: the page's outputs are written anew, from what curl prints.
const WRITE: &str = "NWORKFLOW_TEST_WRITE_PAGES";
/// Printed by each program between its blocks.
const END: &str = "=== end of a block";

/// How each language is run. The test's own lines are put between the page's blocks, and nothing else is changed but addresses.
struct Language {
    fence: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    file: &'static str,
    end: &'static str,
}

const LANGUAGES: [Language; 3] = [
    Language { fence: "sh", program: "bash", arguments: &["-eu"], file: "tour.sh", end: "echo" },
    Language { fence: "js", program: "node", arguments: &[], file: "tour.mjs", end: "console.log" },
    Language { fence: "python", program: "python3", arguments: &[], file: "tour.py", end: "print" },
];

/// The fenced blocks of a page, in their order: language and text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let fenced = page.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').map(|(language, text)| (language.to_owned(), text.to_owned())).unwrap()).collect()
}

/// The programs of the tasks, by language, and what the page says that they print.
fn tasks() -> (Vec<[String; 3]>, Vec<String>) {
    let blocks = blocks(&std::fs::read_to_string(PAGE).unwrap());
    assert!(blocks.len().is_multiple_of(4) && blocks.len() >= 48, "{} blocks", blocks.len());
    let mut shown = Vec::new();
    let mut programs = Vec::new();
    for task in blocks.chunks(4) {
        let languages: Vec<&str> = task.iter().map(|(language, _)| language.as_str()).collect();
        assert_eq!(languages, ["sh", "js", "python", "text"], "each task has three programs and what they print: {task:?}");
        programs.push([task[0].1.clone(), task[1].1.clone(), task[2].1.clone()]);
        shown.push(task[3].1.clone());
    }
    (programs, shown)
}

/// What a language's program prints, task by task.
fn run(number: usize, programs: &[[String; 3]], server: &Server, folder: &Path) -> Vec<String> {
    let language = &LANGUAGES[number];
    let mark = if language.fence == "sh" { format!("echo '{END}'\n") } else { format!("{}('{END}')\n", language.end) };
    let text: String = programs.iter().map(|task| format!("{}{mark}", task[number])).collect();
    assert!(text.contains("http://127.0.0.1:8080") && text.contains("target/debug/nworkflow-state"), "the page says where");
    let text = text
        .replace("target/debug/nworkflow-state", env!("CARGO_BIN_EXE_nworkflow-state"))
        .replace("127.0.0.1:8080", &server.address().to_string());
    let file = folder.join(language.file);
    std::fs::write(&file, text).unwrap();
    let output = Command::new(language.program)
        .args(language.arguments)
        .arg(&file)
        .current_dir(folder)
        .env("NWORKFLOW__DATA_DIR", folder.join("data"))
        .env("no_proxy", "*")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", language.program));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", language.fence);
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut parts: Vec<String> = printed.split(&format!("{END}\n")).map(str::to_owned).collect();
    assert_eq!(parts.pop().as_deref(), Some(""), "{}: {errors}", language.fence);
    parts
}

fn walk(environment: &[(&str, &str)]) {
    let place = Place::new();
    let server = place.dev_with(&[], environment);
    let (programs, shown) = tasks();
    let (programs, server, folder) = (&programs, &server, place.folder());
    let printed: Vec<Vec<String>> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..LANGUAGES.len()).map(|number| scope.spawn(move || run(number, programs, server, folder))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    if std::env::var_os(WRITE).is_some() {
        return write(&printed[0]);
    }
    for (language, printed) in LANGUAGES.iter().zip(&printed) {
        assert_eq!(printed.len(), shown.len());
        for (printed, shown) in printed.iter().zip(&shown) {
            assert_eq!(mask(printed), mask(shown), "docs/api.md shows something else than {} prints: {printed}", language.fence);
        }
    }
}

/// Puts what was printed into the page.
fn write(printed: &[String]) {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut parts: Vec<String> = page.split("```text\n").map(str::to_owned).collect();
    for (part, printed) in parts.iter_mut().skip(1).zip(printed) {
        let rest = part.split_once("```").unwrap().1.to_owned();
        *part = format!("{printed}```{rest}");
    }
    std::fs::write(PAGE, parts.join("```text\n")).unwrap();
}

#[test]
fn the_page_runs_on_sqlite_in_three_languages() {
    walk(&[]);
}

#[test]
fn the_page_runs_on_postgresql_in_three_languages() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(TestDatabase::empty());
    let url = database.url("postgres");
    walk(&[("NWORKFLOW__DATABASE__URL", url.as_str())]);
}

#[test]
fn a_page_is_read_block_by_block() {
    let page = "a\n```sh\necho 1\n```\nb\n```text\n1\n```\n";
    assert_eq!(blocks(page), [("sh".to_owned(), "echo 1\n".to_owned()), ("text".to_owned(), "1\n".to_owned())]);
}
