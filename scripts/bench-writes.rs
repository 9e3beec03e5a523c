//! The load of `bench-writes`: PUT requests of one tenant over kept connections, one at a time on each.
//!
//!     bench-writes ADDRESS TOKEN CONNECTIONS SECONDS BODY_BYTES [KEYS]
//!
//! Prints one line: requests a second, the median and the 99th percentile of their times in milliseconds, and how many were no success.
//! Only the standard library, so that it compiles without the project: a thread for each connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Sends requests until it is told to stop. Answers the time of each in microseconds, and the number of failures.
fn drive(address: &str, token: &str, number: usize, body: &str, keys: usize, stop: &AtomicBool) -> (Vec<u32>, u32) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let (mut times, mut failures, mut buffer) = (Vec::new(), 0, vec![0; 64 * 1024]);
    // Its own sequence over all keys, so that connections seldom meet on one.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
    while !stop.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = (random >> 33) as usize % keys;
        let request = format!(
            "PUT /workflows/bench/executions/e{key}/state HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\
             prefer: return=minimal\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let begin = Instant::now();
        stream.write_all(request.as_bytes()).expect("the connection lives");
        let status = answer(&mut stream, &mut buffer);
        times.push(begin.elapsed().as_micros() as u32);
        if !(200..300).contains(&status) {
            failures += 1;
        }
    }
    (times, failures)
}

/// Reads one answer to its end; its status.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> u16 {
    let (mut filled, mut whole) = (0, None);
    loop {
        let read = stream.read(&mut buffer[filled..]).expect("the connection lives");
        assert!(read > 0, "the server closed the connection: {}", String::from_utf8_lossy(&buffer[..filled]));
        filled += read;
        if whole.is_none()
            && let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|text| text.trim().parse().ok());
            whole = Some(end + 4 + length.unwrap_or(0_usize));
        }
        if whole.is_some_and(|whole| filled >= whole) {
            return String::from_utf8_lossy(&buffer[9..12]).parse().unwrap_or(0);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, token, connections, seconds, bytes, rest @ ..] = arguments.as_slice() else { panic!("see the head of the file") };
    let [connections, seconds, bytes] = [connections, seconds, bytes].map(|text| text.parse::<usize>().expect("a number"));
    let keys = rest.first().map_or(100_000, |text| text.parse().expect("a number"));
    let head = r#"{"marking":{"p":1},"metadata":{"fill":""#;
    let body = Arc::new(format!("{head}{}\"}}}}", "x".repeat(bytes.saturating_sub(head.len() + 3))));
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let (address, token, body, stop) = (address.clone(), token.clone(), Arc::clone(&body), Arc::clone(&stop));
            let builder = thread::Builder::new().stack_size(256 * 1024);
            builder.spawn(move || drive(&address, &token, number, &body, keys, &stop)).expect("a thread")
        })
        .collect();
    let begin = Instant::now();
    thread::sleep(Duration::from_secs(seconds as u64));
    stop.store(true, Ordering::Relaxed);
    let (mut times, mut failures) = (Vec::new(), 0);
    for thread in threads {
        let (own, failed) = thread.join().expect("a driver");
        times.extend(own);
        failures += failed;
    }
    let rate = times.len() as f64 / begin.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |part: f64| f64::from(times[((times.len() - 1) as f64 * part) as usize]) / 1000.0;
    println!("{rate:.0} {:.2} {:.2} {failures}", at(0.5), at(0.99));
}
