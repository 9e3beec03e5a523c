//! O7 and O8: bodies that are small to send and large to read.

use std::fs;
use std::net::SocketAddr;

use super::say;
use crate::api::raw;
use crate::process::Place;

/// Kilobytes, as the kernel counts them.
fn memory(process: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    value.trim_matches([':', ' ', '\t']).split(' ').next().unwrap().parse().unwrap()
}

/// The most memory that the process has had since this is forgotten.
fn forget_peak(process: u32) {
    fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
}

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

/// A server that has done nothing yet, and how much more memory it takes for this body, as a multiple of it.
fn growth(path: &str, body: &str, status: &str) -> f64 {
    let place = Place::new();
    let server = place.dev_with(&["--set", "cache.local=false"], &[]);
    let token = server.printed_after("Token:").to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What every first request takes.
    runtime.block_on(put(server.address(), &token, path, "", b"{}"));
    let before = memory(server.id(), "VmRSS");
    forget_peak(server.id());
    let answer = runtime.block_on(put(server.address(), &token, path, "", body.as_bytes()));
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{}", &answer[..answer.len().min(600)]);
    memory(server.id(), "VmHWM").saturating_sub(before) as f64 * 1024.0 / body.len() as f64
}

/// O7: what is in a body makes no difference to what it takes.
#[test]
fn a_body_takes_no_more_than_any_other_of_its_size() {
    const SIZE: usize = 8 * 1024 * 1024 - 64;
    let metadata = r#"{"marking":{},"metadata":{"x":["#;
    let plain = filled(r#"{"marking":{},"metadata":{"x":""#, "a", r#""}}"#, SIZE);
    let stored = [
        ("empty names", filled(metadata, r#"{"":0},"#, "0]}}", SIZE)),
        ("nested arrays", filled(metadata, "[[0]],", "0]}}", SIZE)),
        ("digits", filled(metadata, "1,", "0]}}", SIZE)),
        ("escapes", filled(r#"{"marking":{},"metadata":{"x":""#, "\\u0001", r#""}}"#, SIZE)),
    ];
    let refused = [
        ("numbers beyond all", filled(metadata, "1e131000,", "0]}}", SIZE), "422"),
        ("opening brackets", filled("", "[", "", SIZE), "4"),
        ("opening braces", filled("", "{\"a\":", "", SIZE), "4"),
        ("one long name", filled(r#"{"marking":{},""#, "k", r#"":1}"#, SIZE), "4"),
        ("one long place", filled(r#"{"marking":{""#, "p", r#"":1}}"#, SIZE), "4"),
        ("unknown names", filled(r#"{"marking":{},"a":1"#, r#","b":1"#, "}", SIZE), "4"),
        ("tokens", filled(r#"{"marking":{"p":["#, "0,", "0]}}", SIZE), "422"),
    ];
    let path = "/workflows/w/executions/e/state";
    let usual = growth(path, &plain, "20");
    let stored: Vec<(&str, f64)> = stored.iter().map(|(name, body)| (*name, growth(path, body, "20"))).collect();
    let refused: Vec<(&str, f64)> = refused.iter().map(|(name, body, status)| (*name, growth(path, body, status))).collect();
    say("json_bombs", format!("a plain body of 8 MiB: {usual:.1}x; bombs that are stored: {stored:.1?}; that are refused: {refused:.1?}"));
    assert!(refused.iter().all(|(_, times)| *times <= 3.0), "{refused:?}");
    // The copies on the way to the disk and back to the client are as many, whatever the shape is.
    assert!(stored.iter().all(|(_, times)| *times <= usual * 1.5), "{usual} {stored:?}");
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
