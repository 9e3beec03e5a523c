//! What operators learn when it matters: while all places are taken, and of requests whose client or server is gone.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use crate::process::{Place, STATE, Server};

/// The log lines about writes.
fn writes(server: &Server) -> Vec<Value> {
    let lines = server.log();
    lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["message"] == "request" && line["method"] == "PUT")
        .collect()
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_are_told_while_all_places_are_taken() {
    let place = Place::new();
    let mut server = place.dev(&["--set", "server.max_in_flight=1"]);
    server.wait_for_log("metrics are at");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("metrics are at")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let metrics: SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    let _at_work = server.begin_write();
    assert!(get(server.address(), "/limits").starts_with("HTTP/1.1 503 "));
    let answer = get(metrics, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("nworkflow_http_problems_total{code=\"overloaded\"} 1"), "{answer}");
    assert!(get(server.address(), "/health/live").starts_with("HTTP/1.1 200 "));
}

/// Who has sent all of a request may say so (RFC 9112 section 9.6), and be gone: the request is done, answered, and in the log.
#[test]
fn a_request_is_told_though_its_client_is_gone() {
    let place = Place::new();
    let server = place.dev(&[]);
    for number in 0..5 {
        let mut half = server.begin_write();
        half.write_all(STATE.as_bytes()).unwrap();
        half.shutdown(Shutdown::Write).unwrap();
        let mut head = [0; 12];
        half.read_exact(&mut head).unwrap();
        assert_eq!(&head, if number == 0 { b"HTTP/1.1 201" } else { b"HTTP/1.1 200" });
        let mut gone = server.begin_write();
        gone.write_all(STATE.as_bytes()).unwrap();
        drop(gone);
        // Told before a later one of the same key is.
        let mut last = server.begin_write();
        last.write_all(STATE.as_bytes()).unwrap();
        last.read_exact(&mut head).unwrap();
    }
    let begin = std::time::Instant::now();
    while writes(&server).len() < 15 && begin.elapsed().as_secs() < 20 {
        std::thread::yield_now();
    }
    let statuses: Vec<_> = writes(&server).iter().map(|line| line["status"].as_u64()).collect();
    assert!(statuses.len() == 15 && statuses.iter().all(|status| matches!(status, Some(200 | 201))), "{statuses:?}");
}

/// What a stop cuts off has its line as well.
#[test]
fn a_request_that_is_cut_off_is_told() {
    let place = Place::new();
    let mut server = place.dev(&["--set", "server.drain_timeout_ms=100"]);
    let _stuck = server.begin_write();
    server.signal("TERM");
    server.wait_for_end();
    let lines = writes(&server);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(
        (line["status"].as_u64(), line["method"].as_str(), line["tenant"].as_str()),
        (Some(499), Some("PUT"), Some("dev")),
        "{line}"
    );
}
