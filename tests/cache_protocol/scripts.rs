//! The scripts of the second tier do the same on Redis, on Valkey, and in Lua 5.4, which is Dragonfly's.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::figure;
use crate::support::redis::resp::{Connection, Value};
use crate::support::redis::{Binary, Options, RedisServer, program};

const KEY: &str = "{m1:ns}:key";
const CHANNEL: &str = "m1:ns:channel";
/// How long an entry lives, told apart by their size: what was there before, and what the script sets.
const OLD_LIFE: u64 = 1_000_000_000;
const NEW_LIFE: u64 = 2_000_000_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cache/dragonfly/scripts")
}

/// What a script finds, is told, answers and leaves.
struct Case {
    script: &'static str,
    before: Option<String>,
    arguments: Vec<String>,
    answer: i64,
    /// A changed slot has a new life, an unchanged one keeps its own.
    after: Option<String>,
    published: bool,
}

fn version(number: u128) -> String {
    format!("{number:020}")
}

fn mark_of(number: u128) -> Option<String> {
    Some(format!("M{}", version(number)))
}

fn value_of(number: u128) -> Option<String> {
    Some(format!("V{}1payload", version(number)))
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn mark(number: u128, before: Option<String>, after: Option<String>) -> Case {
    let arguments = vec![version(number), NEW_LIFE.to_string(), CHANNEL.into(), "a message".into()];
    Case { script: "mark", before, arguments, answer: 1, after, published: true }
}

/// With this value, which is not the one of the version, so that it is seen whether it was written.
fn put(number: u128, value: &str, before: Option<String>, answer: i64, after: Option<String>) -> Case {
    let arguments = vec![version(number), value.into(), NEW_LIFE.to_string(), CHANNEL.into(), "a message".into()];
    Case { script: "put", before, arguments, answer, after, published: true }
}

fn fill(value: &str, before: Option<String>, answer: i64, after: Option<String>) -> Case {
    let arguments = vec!["Ltoken".into(), value.into(), NEW_LIFE.to_string()];
    Case { script: "fill", before, arguments, answer, after, published: false }
}

fn unmark(number: u128, before: Option<String>, answer: i64) -> Case {
    let after = if answer == 1 { None } else { before.clone() };
    Case { script: "unmark", before, arguments: vec![version(number)], answer, after, published: false }
}

fn discard(before: Option<String>, answer: i64) -> Case {
    let after = if answer == 1 { None } else { before.clone() };
    Case { script: "discard", before, arguments: vec![], answer, after, published: false }
}

/// Versions of which the second is the next one after the first. From 2^53 on, the numbers of Lua 5.1 are too coarse to tell; beyond 2^63 there
/// are no integers in Lua 5.4; and one digit more must not make a version smaller.
const NEIGHBOURS: [(u128, u128); 7] = [
    (1, 2),
    (9, 10),
    (999, 1_000),
    (1 << 53, (1 << 53) + 1),
    ((1 << 63) - 1, 1 << 63),
    (9_999_999_999_999_999_999, 10_000_000_000_000_000_000),
    (99_999_999_999_999_999_998, 99_999_999_999_999_999_999),
];

fn cases() -> Vec<Case> {
    let none = || None;
    let mut cases = Vec::new();
    for (low, high) in NEIGHBOURS {
        cases.extend([
            // Nothing old may stay, and nothing new may go.
            mark(high, value_of(low), mark_of(high)),
            mark(high, mark_of(low), mark_of(high)),
            mark(low, value_of(high), value_of(high)),
            mark(low, mark_of(high), mark_of(high)),
            mark(high, value_of(high), value_of(high)),
            mark(high, mark_of(high), mark_of(high)),
            // Its own mark becomes the value, what is older goes, what is newer stays.
            put(high, "Vnew", mark_of(high), 1, text("Vnew")),
            put(high, "Vnew", value_of(low), 0, text("Vnew")),
            put(high, "Vnew", mark_of(low), 0, None),
            put(low, "Vnew", value_of(high), 0, value_of(high)),
            put(low, "Vnew", mark_of(high), 0, mark_of(high)),
            put(high, "Vnew", value_of(high), 0, value_of(high)),
            // No value to put, but the same to tell.
            put(high, "", mark_of(high), 1, None),
            put(high, "", value_of(low), 0, None),
            put(high, "", mark_of(low), 0, None),
            put(low, "", value_of(high), 0, value_of(high)),
            put(low, "", mark_of(high), 0, mark_of(high)),
            unmark(high, mark_of(high), 1),
            unmark(high, mark_of(low), 0),
            unmark(low, mark_of(high), 0),
            unmark(high, value_of(high), 0),
        ]);
    }
    cases.extend([
        mark(2, none(), mark_of(2)),
        mark(2, text("Ltoken"), mark_of(2)),
        mark(2, text(""), mark_of(2)),
        mark(2, text("foreign"), mark_of(2)),
        mark(2, text("V"), mark_of(2)),
        // An empty slot stays empty: what was evicted may have been newer.
        put(2, "Vnew", none(), 0, None),
        put(2, "", none(), 0, None),
        put(2, "Vnew", text("Ltoken"), 0, None),
        put(2, "", text("Ltoken"), 0, None),
        put(2, "Vnew", text(""), 0, text("")),
        put(2, "Vnew", text("foreign"), 0, text("foreign")),
        put(2, "Vnew", text("V"), 0, text("Vnew")),
        fill("Vnew", text("Ltoken"), 1, text("Vnew")),
        fill("", text("Ltoken"), 1, None),
        fill("Vnew", none(), 0, None),
        fill("", none(), 0, None),
        fill("Vnew", text("Lanother"), 0, text("Lanother")),
        fill("Vnew", text("Ltoken2"), 0, text("Ltoken2")),
        fill("Vnew", text("Ltoke"), 0, text("Ltoke")),
        fill("Vnew", mark_of(1), 0, mark_of(1)),
        fill("", mark_of(1), 0, mark_of(1)),
        fill("Vnew", value_of(1), 0, value_of(1)),
        fill("Vnew", text(""), 0, text("")),
        unmark(2, none(), 0),
        unmark(2, text("Ltoken"), 0),
        unmark(2, text(""), 0),
        discard(none(), 0),
        discard(value_of(1), 1),
        discard(mark_of(1), 0),
        discard(text("Ltoken"), 0),
        discard(text("foreign"), 1),
        discard(text(""), 1),
    ]);
    cases
}

/// What a script did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    answer: i64,
    after: Option<String>,
    /// Of the slot, in milliseconds.
    life: Option<u64>,
    published: Vec<String>,
}

impl Case {
    fn expected(&self) -> Outcome {
        // Its own version put again is the same slot, and shows in the life alone. Its own mark begins a new life: the commit may be late.
        let is_own_mark = self.script == "mark" && self.before == Some(format!("M{}", self.arguments[0]));
        let life = if self.after == self.before && !is_own_mark { OLD_LIFE } else { NEW_LIFE };
        let published = if self.published { vec![format!("{CHANNEL} a message")] } else { vec![] };
        Outcome { answer: self.answer, after: self.after.clone(), life: self.after.as_ref().map(|_| life), published }
    }

    fn describe(&self) -> String {
        format!("{}, which finds {:?} and is told {:?}", self.script, self.before, self.arguments)
    }
}

/// A server, and what it publishes.
struct Server {
    commands: Connection,
    subscriber: Connection,
    /// What it is, and what kills it.
    server: RedisServer,
}

impl Server {
    fn start(binary: Binary) -> Self {
        let server = RedisServer::start(Options { binary, ..Options::default() });
        let (commands, mut subscriber) = (server.connect().unwrap(), server.connect().unwrap());
        subscriber.command(&["SUBSCRIBE", CHANNEL]).unwrap();
        Self { commands, subscriber, server }
    }

    fn command(&mut self, words: &[&str]) -> Value {
        self.commands.command(words).unwrap()
    }

    fn run(&mut self, case: &Case) -> Outcome {
        self.command(&["DEL", KEY]);
        if let Some(slot) = &case.before {
            self.command(&["SET", KEY, slot, "PX", &OLD_LIFE.to_string()]);
        }
        let text = std::fs::read_to_string(folder().join(case.script).with_extension("lua")).unwrap();
        let arguments = case.arguments.iter().map(String::as_str);
        let words: Vec<&str> = ["EVAL", &text, "1", KEY].into_iter().chain(arguments).collect();
        let Value::Integer(answer) = self.command(&words) else { panic!("{}: no integer", case.describe()) };

        let after = match self.command(&["GET", KEY]) {
            Value::Null => None,
            value => Some(value.to_text()),
        };
        let Value::Integer(left) = self.command(&["PTTL", KEY]) else { panic!("no time to live") };
        // Some of it has gone by.
        let life = u64::try_from(left).ok().map(|left| left.next_multiple_of(OLD_LIFE));
        self.command(&["PUBLISH", CHANNEL, "end"]);
        let mut published = Vec::new();
        loop {
            let Value::Items(message) = self.subscriber.read().unwrap() else { panic!("no message") };
            match message[2].to_text() {
                end if end == "end" => break,
                text => published.push(format!("{} {text}", message[1].to_text())),
            }
        }
        Outcome { answer, after, life, published }
    }
}

/// The same in an interpreter of Lua 5.4.
fn run_in_lua(case: &Case) -> Outcome {
    let before = case.before.as_ref().map_or("-".to_owned(), |slot| format!("={slot}"));
    let mut lua = Command::new(program("NWORKFLOW_TEST_LUA54_BIN"));
    lua.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cache_protocol/redis_call.lua"));
    lua.arg(folder().join(case.script).with_extension("lua")).args([KEY, &before]).args(&case.arguments);
    let output = lua.output().unwrap();
    assert!(output.status.success(), "{}: {}", case.describe(), String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut lines = printed.lines();
    let answer = lines.next().unwrap().parse().unwrap();
    let after = lines.next().unwrap().strip_prefix('=').map(str::to_owned);
    let life = match lines.next().unwrap() {
        "none" => None,
        "kept" => Some(OLD_LIFE),
        milliseconds => Some(milliseconds.parse().unwrap()),
    };
    Outcome { answer, after, life, published: lines.map(str::to_owned).collect() }
}

#[test]
fn each_script_does_the_same_on_redis_on_valkey_and_in_lua_5_4() {
    let mut servers = Binary::ALL.map(Server::start);
    let cases = cases();
    for case in &cases {
        let expected = case.expected();
        assert_eq!(run_in_lua(case), expected, "{} in Lua 5.4", case.describe());
        for server in &mut servers {
            assert_eq!(server.run(case), expected, "{} on {}", case.describe(), server.server.info("redis_version"));
        }
    }
    figure(&format!(
        "scripts: {} cases, the same on Redis {}, Valkey {} and Lua 5.4",
        cases.len(),
        servers[0].server.info("redis_version"),
        servers[1].server.info("valkey_version")
    ));
}

#[test]
fn every_script_has_cases() {
    let cases = cases();
    let scripts = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    for script in scripts.filter(|path| path.extension().is_some_and(|extension| extension == "lua")) {
        let name = script.file_stem().unwrap().to_str().unwrap();
        assert!(cases.iter().any(|case| case.script == name), "{name} has no case");
    }
}
