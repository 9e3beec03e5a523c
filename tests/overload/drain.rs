//! O9: the end of a server under load.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::say;
use crate::process::{Place, STATE};
use crate::support::size;

#[test]
fn nothing_that_has_begun_is_lost_when_the_server_stops() {
    let begun = size(20, 200);
    let place = Place::new();
    let settings = ["server.stop_delay_ms=300", "server.body_read_timeout_ms=2500", "server.drain_timeout_ms=20000"];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let mut server = place.dev_with(&arguments, &[]);
    let idle: Vec<TcpStream> = (0..size(5, 50))
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET /limits HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let read = stream.read(&mut [0; 4096]).unwrap();
            assert!(read > 0);
            stream
        })
        .collect();
    let stuck = server.begin_write();
    let writes: Vec<TcpStream> = (0..begun).map(|_| server.begin_write()).collect();
    let begin = Instant::now();
    server.signal("TERM");
    server.wait_for_log("the server stops");
    // Announced, and still open: probes see it, and nobody is turned away.
    let mut probe = server.connect();
    // Behind the probe a request like any other, which is still answered.
    probe.write_all(b"GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\nGET /limits HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    probe.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting_down") && answer.to_lowercase().contains("\r\nretry-after: "),
        "{answer}"
    );
    assert!(answer.contains("HTTP/1.1 200 OK\r\n"), "{answer}");
    server.wait_until_closed();
    let lost = writes
        .into_iter()
        .filter_map(|mut stream| {
            stream.write_all(STATE.as_bytes()).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
            answer.starts_with("HTTP/1.1 20").then_some(())
        })
        .count();
    let lost = begun - lost;
    for mut stream in idle {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    let status = server.wait_for_end();
    let took = begin.elapsed();
    drop(stuck);
    say(
        "graceful_drain",
        format!("{begun} at work, {lost} lost, exit {:?} after {:.1} s with a client that was stuck", status.code(), took.as_secs_f64()),
    );
    assert_eq!((lost, status.code()), (0, Some(0)), "{}", server.log());
    assert!(took < Duration::from_secs(25));
}
