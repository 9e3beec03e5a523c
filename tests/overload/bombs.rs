//! O7 and O8: bodies that are small to send and large to read.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::process_figures::{forget_peak, memory};
use super::say;
use crate::api::raw;
use crate::process::Place;
use crate::support::postgres::TestDatabase;

/// What a stored body takes at most, as a multiple of it. Measured: 3.25 on SQLite (the document, what SQLite binds, its record, and 2 MiB of pages)
/// and 3.1 on PostgreSQL (the document, the driver's parameters, its message).
const STORED: f64 = 3.6;

async fn put(address: SocketAddr, token: &str, path: &str, headers: &str, body: &[u8]) -> String {
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    raw::exchange(address, &[head.as_bytes(), body].concat()).await
}

/// A body of about this size.
fn filled(begin: &str, part: &str, end: &str, size: usize) -> String {
    format!("{begin}{}{end}", part.repeat((size - begin.len() - end.len()) / part.len()))
}

/// What the image sets for the C library's allocator. Without it large blocks that were given back stay with the process.
fn environment() -> Vec<(String, String)> {
    let image = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile")).unwrap();
    let words = image.split_whitespace().filter_map(|word| word.split_once('='));
    let set: Vec<_> =
        words.filter(|(name, _)| name.starts_with("MALLOC_")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(set.len(), 2, "the image sets two limits of the allocator");
    set
}

/// A server that has done nothing yet, with its token.
fn fresh(place: &Place, settings: &[&str]) -> (crate::process::Server, String) {
    let environment = environment();
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let server =
        place.dev_with(&[&["--set", "cache.local=false", "--set", "server.request_timeout_ms=60000"], settings].concat(), &environment);
    let token = server.printed_after("Token:").to_owned();
    (server, token)
}

/// A server that has done nothing yet, and how much more memory it takes for this body, as a multiple of it: at most meanwhile, and after two
/// of them.
fn growth(settings: &[&str], path: &str, body: &str, status: &str) -> (f64, f64) {
    let place = Place::new();
    let (server, token) = fresh(&place, settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What every first request takes.
    runtime.block_on(put(server.address(), &token, path, "", b"{}"));
    runtime.block_on(put(server.address(), &token, path, "", br#"{"marking":{}}"#));
    let before = memory(server.id(), "VmRSS");
    forget_peak(server.id());
    for _ in 0..2 {
        let answer = runtime.block_on(put(server.address(), &token, path, "", body.as_bytes()));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{}", &answer[..answer.len().min(600)]);
    }
    let times = |line: &str| memory(server.id(), line).saturating_sub(before) as f64 * 1024.0 / body.len() as f64;
    (times("VmHWM"), times("VmRSS"))
}

const SIZE: usize = 8 * 1024 * 1024 - 64;
const PATH: &str = "/workflows/w/executions/e/state";
const METADATA: &str = r#"{"marking":{},"metadata":{"x":["#;

/// So many different members as fit, each as short as can be: from `"a`, in base 64.
fn different(begin: &str, end: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::from(begin);
    for number in 0_usize.. {
        if text.len() + 16 + end.len() > SIZE {
            break;
        }
        text.push('"');
        let mut rest = number;
        while rest > 0 || text.ends_with('"') {
            text.push(DIGITS[rest % 64] as char);
            rest /= 64;
        }
        text.push_str("\":0,");
    }
    text + end
}

/// O7: what is in a body makes no difference to what it takes.
#[test]
fn a_body_takes_no_more_than_any_other_of_its_size() {
    let stored = [
        ("plain", filled(r#"{"marking":{},"metadata":{"x":""#, "a", r#""}}"#, SIZE)),
        ("empty names", filled(METADATA, r#"{"":0},"#, "0]}}", SIZE)),
        ("nested arrays", filled(METADATA, "[[0]],", "0]}}", SIZE)),
        ("digits", filled(METADATA, "1,", "0]}}", SIZE)),
        ("escapes", filled(r#"{"marking":{},"metadata":{"x":""#, "\\u0001", r#""}}"#, SIZE)),
        ("different names", different(r#"{"marking":{},"metadata":{"#, r#""_____":0}}"#)),
    ];
    let refused = [
        ("numbers beyond all", filled(METADATA, "1e131000,", "0]}}", SIZE), "422"),
        ("opening brackets", filled("", "[", "", SIZE), "4"),
        ("opening braces", filled("", "{\"a\":", "", SIZE), "4"),
        ("one long name", filled(r#"{"marking":{},""#, "k", r#"":1}"#, SIZE), "4"),
        ("one long place", filled(r#"{"marking":{""#, "p", r#"":1}}"#, SIZE), "4"),
        ("unknown names", filled(r#"{"marking":{},"a":1"#, r#","b":1"#, "}", SIZE), "4"),
        ("different unknown names", different("{", r#""marking":{}}"#), "400"),
        ("tokens", filled(r#"{"marking":{"p":["#, "0,", "0]}}", SIZE), "422"),
    ];
    let stored: Vec<_> = stored.iter().map(|(name, body)| (*name, growth(&[], PATH, body, "20"))).collect();
    let refused: Vec<_> = refused.iter().map(|(name, body, status)| (*name, growth(&[], PATH, body, status))).collect();
    say("json_bombs", format!("8 MiB, times the body at most and after two; stored: {stored:.1?}; refused: {refused:.1?}"));
    assert!(refused.iter().all(|(_, (most, _))| *most <= 3.0), "{refused:?}");
    assert!(stored.iter().all(|(_, (most, _))| *most <= STORED), "{stored:?}");
    // What is done is gone.
    assert!(stored.iter().chain(&refused).all(|(_, (_, after))| *after <= 1.0), "{stored:?} {refused:?}");
}

async fn patch(address: SocketAddr, token: &str, media: &str, body: &str) -> String {
    let head = format!(
        "PATCH {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/{media}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    raw::exchange(address, &[head.as_bytes(), body.as_bytes()].concat()).await
}

/// How much more memory a server takes for this patch of this document, as a multiple of both.
fn patch_growth(document: &str, media: &str, body: &str, verdict: &str) -> f64 {
    let place = Place::new();
    let (server, token) = fresh(&place, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What every first request takes.
    runtime.block_on(put(server.address(), &token, PATH, "", br#"{"marking":{}}"#));
    runtime.block_on(patch(server.address(), &token, "merge-patch+json", r#"{"marking":{}}"#));
    runtime.block_on(patch(server.address(), &token, "json-patch+json", r#"[{"op":"test","path":"/marking","value":{}}]"#));
    let stored = runtime.block_on(put(server.address(), &token, PATH, "", document.as_bytes()));
    assert!(stored.starts_with("HTTP/1.1 200"), "{}", &stored[..stored.len().min(600)]);
    let before = memory(server.id(), "VmRSS");
    forget_peak(server.id());
    let answer = runtime.block_on(patch(server.address(), &token, media, body));
    let is_expected = answer.starts_with(&format!("HTTP/1.1 {}", &verdict[..3])) && answer.contains(verdict[3..].trim());
    assert!(is_expected, "{verdict}: {}", &answer[..answer.len().min(600)]);
    let grown = memory(server.id(), "VmHWM").saturating_sub(before);
    grown as f64 * 1024.0 / (document.len() + body.len()) as f64
}

/// What a patch takes at most, as a multiple of the document and the patch together: the patch, the result, and what
/// storing it takes. Measured: 4.2 to 4.4 of a large patch of nothing, 2.5 where both are large.
const PATCHED: f64 = 4.6;

/// O7: what is in a patch makes little difference to what it takes.
#[test]
fn a_patch_takes_no_more_than_any_other_of_its_size() {
    const EMPTY: &str = r#"{"marking":{}}"#;
    const OPERATIONS: &str = "json-patch+json";
    let (half, too_deep) = (SIZE / 2, "422 document_too_deep");
    let two = format!("{},{}", filled(r#"[{"op":"move","from":""#, "/a", r#"""#, half), filled(r#""path":""#, "/b", r#""}]"#, half));
    let pointers = [
        ("slashes", filled(r#"[{"op":"remove","path":""#, "/", r#""}]"#, SIZE), too_deep),
        ("two pointers", two, too_deep),
        ("escapes", filled(r#"[{"op":"remove","path":""#, "/\\u0061", r#""}]"#, SIZE), too_deep),
        ("one segment", filled(r#"[{"op":"remove","path":"/"#, "a", r#""}]"#, SIZE), "422 patch_not_applicable"),
    ];
    let array = |part: &str| {
        let end = r#"]},{"op":"remove","path":"/metadata/q/0"}]"#;
        filled(r#"[{"op":"add","path":"/metadata","value":{}},{"op":"add","path":"/metadata/q","value":["#, part, &format!("0{end}"), SIZE)
    };
    let object = different(
        r#"[{"op":"add","path":"/metadata","value":{"q":{"#,
        r#""_____":0}}},{"op":"add","path":"/metadata/q/__","value":0},{"op":"remove","path":"/metadata/q/_____"}]"#,
    );
    let members = different(r#"{"marking":{},"metadata":{"q":{"#, r#""_____":0}}}"#);
    let (_, q) = members.split_once(r#""q":"#).unwrap();
    let test = format!(r#"[{{"op":"test","path":"/metadata/q","value":{}}}]"#, &q[..q.len() - 2]);
    let operated = [("numbers", EMPTY, array("0,"), "200"), ("members", EMPTY, object, "200"), ("test", &*members, test, "200")];
    let merged = [
        ("string", EMPTY, filled(r#"{"metadata":{"x":""#, "a", r#""}}"#, SIZE - 100), "200"),
        ("names", EMPTY, different(r#"{"metadata":{"#, r#""_____":0}}"#), "200"),
    ];
    let pointers = pointers.map(|(name, body, verdict)| (name, patch_growth(EMPTY, OPERATIONS, &body, verdict)));
    let operated = operated.map(|(name, document, body, verdict)| (name, patch_growth(document, OPERATIONS, &body, verdict)));
    let merged = merged.map(|(name, document, body, verdict)| (name, patch_growth(document, "merge-patch+json", &body, verdict)));
    say(
        "patch_bombs",
        format!("8 MiB, times document and patch at most; pointers: {pointers:.1?}; operations: {operated:.1?}; merges: {merged:.1?}"),
    );
    assert!(pointers.iter().all(|(_, most)| *most <= 3.0), "{pointers:?}");
    assert!(operated.iter().chain(&merged).all(|(_, most)| *most <= PATCHED), "{operated:?} {merged:?}");
}

/// The same on PostgreSQL: how many copies the driver makes does not depend on what is in the body.
#[test]
fn a_body_on_its_way_to_postgres_takes_as_little() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let database = runtime.block_on(TestDatabase::migrated());
    let url = format!("database.url={}", database.config().url.expose());
    let bodies = [
        ("plain", filled(r#"{"marking":{},"metadata":{"x":""#, "a", r#""}}"#, SIZE)),
        ("different names", different(r#"{"marking":{},"metadata":{"#, r#""_____":0}}"#)),
    ];
    let stored: Vec<_> = bodies.iter().map(|(name, body)| (*name, growth(&["--set", &url], PATH, body, "20"))).collect();
    say("json_bombs_postgres", format!("8 MiB, times the body at most and after two: {stored:.1?}"));
    assert!(stored.iter().all(|(_, (most, after))| *most <= STORED && *after <= 1.0), "{stored:?}");
}

/// O8: nothing is inflated.
#[test]
fn what_comes_compressed_is_not_looked_at() {
    let place = Place::new();
    let server = place.dev_with(&[], &[]);
    let (address, process) = (server.address(), server.id());
    let token = server.printed_after("Token:").to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let send = |path: &str, headers: &str, body: &[u8]| runtime.block_on(put(address, &token, path, headers, body));
    // 64 KiB that would become 64 MiB: nothing of it is looked at.
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut zipped, &vec![b' '; 64 * 1024 * 1024]).unwrap();
    let zipped = zipped.finish().unwrap();
    let before = memory(process, "VmRSS");
    forget_peak(process);
    for headers in ["gzip", "x-gzip", "deflate", "br", "zstd", "identity\r\nContent-Encoding: gzip", "gzip, gzip", ""] {
        let answer = send("/variables/global/x", &format!("Content-Encoding: {headers}\r\n"), &zipped);
        assert!(answer.starts_with("HTTP/1.1 415 "), "{headers}: {answer}");
    }
    // Without its name it is no JSON.
    assert!(send("/variables/global/x", "", &zipped).starts_with("HTTP/1.1 400 "));
    assert!(send("/variables/global/x", "Transfer-Encoding: gzip\r\n", &zipped).starts_with("HTTP/1.1 400 "));
    let grown = memory(process, "VmHWM").saturating_sub(before);
    say("compression_bombs", format!("{} KiB for {} KiB that would be 65536 KiB", grown, zipped.len() / 1024));
    assert!(grown < 8 * 1024, "{grown} KiB");
}
