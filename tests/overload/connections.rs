//! O6 and O13: clients that hold connections and do nothing with them, or next to nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::process_figures::{descriptors, forget_peak, memory};
use super::{STATE, p99, say};
use crate::api::app::{Options, TestApp};
use crate::api::raw;
use crate::process::Place;
use crate::support::size;

/// Longest wait for the end of a connection that the server is to cut.
const PATIENCE: Duration = Duration::from_secs(20);
/// The limit on heads, bodies and answers. Longer than a second, after which the kernel sends a lost handshake again: many come at once.
const LIMIT: Duration = Duration::from_secs(3);
/// How many of them come at once: fewer than any kernel keeps for a server. A handshake that it drops, the server never hears of.
const STEP: usize = 64;

/// How long the pause of a slow client is between two bytes.
fn drip_pause() -> Duration {
    Duration::from_millis(size(250, 1000) as u64)
}

#[derive(Debug, Clone, Copy)]
enum Manner {
    Silent,
    DripsHead,
    DripsBody,
    NeverReads,
    DripsReading,
}

/// Holds a connection for as long as the server lets it.
async fn hold(mut stream: TcpStream, manner: Manner, token: &str) -> Duration {
    let begin = Instant::now();
    let authorization = format!("Authorization: Bearer {token}\r\n");
    let holding = async {
        match manner {
            Manner::Silent => drop(stream.read(&mut [0]).await),
            Manner::DripsHead => {
                let head = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "x".repeat(10_000));
                drip(&mut stream, head.as_bytes()).await;
            }
            Manner::DripsBody => {
                let head = format!(
                    "PUT {STATE} HTTP/1.1\r\nHost: a\r\n{authorization}Content-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
                );
                // The server may have lost patience with it by now.
                let _ = stream.write_all(head.as_bytes()).await;
                drip(&mut stream, &[b' '; 10_000]).await;
            }
            Manner::NeverReads | Manner::DripsReading => {
                let request = format!("GET {STATE} HTTP/1.1\r\nHost: a\r\n{authorization}\r\n");
                // More than all buffers between the two hold.
                let _ = stream.write_all(request.repeat(8).as_bytes()).await;
                if matches!(manner, Manner::DripsReading) {
                    while stream.read(&mut [0; 512]).await.is_ok_and(|count| count > 0) {
                        sleep(drip_pause()).await;
                        if is_broken(&stream) {
                            return;
                        }
                    }
                    return;
                }
                while !is_broken(&stream) {
                    sleep(drip_pause()).await;
                }
            }
        }
    };
    timeout(PATIENCE, holding).await.unwrap_or_else(|_| panic!("{manner:?} is not cut"));
    begin.elapsed()
}

/// All of them at once, as far as the kernel's queue has room for them; and for each, how long it was held.
async fn crowd(address: SocketAddr, manners: Vec<Manner>, token: &str) -> Vec<Duration> {
    let mut held = Vec::new();
    for step in manners.chunks(STEP) {
        let streams = join_all(step.iter().map(|_| TcpStream::connect(address))).await;
        // They are accepted in the order in which they came: after this answer all of the step are.
        let answer = raw::get(address, "/health/live", token).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        held.extend(streams.into_iter().zip(step).map(|(stream, manner)| hold(stream.unwrap(), *manner, token)));
    }
    join_all(held).await
}

/// Whether the server has closed: seen by an error of the socket, without reading.
fn is_broken(stream: &TcpStream) -> bool {
    !matches!(stream.take_error(), Ok(None)) || stream.try_write(b"G").is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
}

/// Sends a byte now and then until the server closes.
async fn drip(stream: &mut TcpStream, bytes: &[u8]) {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        for byte in bytes {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(drip_pause()).await;
        }
    };
    let read = async {
        let mut buffer = [0; 1024];
        while reader.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}

/// What a client sees meanwhile that comes and goes.
async fn served(address: SocketAddr, token: &str, time: Duration) -> Duration {
    let begin = Instant::now();
    let mut times = Vec::new();
    while begin.elapsed() < time {
        let begin = Instant::now();
        let answer = raw::get(address, "/workflows", token).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        times.push(begin.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    p99(times)
}

/// In a process of its own, so that what is measured is the server and not the crowd in front of it.
#[test]
fn slow_clients_are_cut_and_others_do_not_notice() {
    let place = Place::new();
    let settings =
        ["header_read_timeout_ms", "body_read_timeout_ms", "write_timeout_ms"].map(|name| format!("server.{name}={}", LIMIT.as_millis()));
    // One tenant is the crowd and whoever is served meanwhile: its share is not what is measured.
    let share = "server.max_in_flight_per_tenant=1024".to_owned();
    let arguments: Vec<&str> = settings.iter().chain([&share]).flat_map(|setting| ["--set", setting]).collect();
    let server = place.dev_with(&arguments, &[]);
    let (address, token) = (server.address(), server.printed_after("Token:").to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // More than all buffers between the two hold, and not too large for the cache: what is measured is not the answers.
    let text = "x".repeat(3 * 1024 * 1024);
    let large = format!(r#"{{"marking":{{}},"metadata":{{"x":"{text}"}}}}"#);
    let manners = [
        (Manner::Silent, size(300, 700)),
        (Manner::DripsHead, size(200, 600)),
        (Manner::DripsBody, size(100, 600)),
        (Manner::NeverReads, size(3, 90)),
        (Manner::DripsReading, size(3, 10)),
    ];
    raise_descriptors();
    let total: usize = manners.iter().map(|(_, count)| count).sum();
    let stored = runtime.block_on(raw::put_chunked(address, STATE, &token, large.as_bytes()));
    assert!(stored.starts_with("HTTP/1.1 201 "), "{stored}");
    let quiet = runtime.block_on(served(address, &token, Duration::from_secs(1)));
    let (token, process) = (&token, server.id());
    let before = (descriptors(process), memory(process, "VmRSS"));
    forget_peak(process);
    let (attacked, most, longest) = std::thread::scope(|scope| {
        // Whoever is served is not one of the crowd.
        let watcher = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                // Once all of them are there.
                sleep(Duration::from_millis(size(300, 1200) as u64)).await;
                let half = Duration::from_millis(750);
                let first = served(address, token, half).await;
                let most = descriptors(process);
                (first.max(served(address, token, half).await), most)
            })
        });
        let manners = manners.iter().flat_map(|(manner, count)| std::iter::repeat_n(*manner, *count)).collect();
        let held = runtime.block_on(crowd(address, manners, token));
        let (attacked, most) = watcher.join().unwrap();
        (attacked, most, held.into_iter().max().unwrap())
    });
    // The end of the last ones is on its way.
    let begin = Instant::now();
    while descriptors(process) > before.0 + 2 && begin.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    let after = (descriptors(process), memory(process, "VmRSS"), memory(process, "VmHWM"));
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    say(
        "slowloris",
        format!(
            "{total} connections, all cut within {:.1} s of a limit of {LIMIT:?}; p99 {:.1} ms before, {:.1} ms meanwhile; descriptors {} before, {most} \
             meanwhile, {} after; memory {} MiB before, {} MiB at most, {} MiB after",
            longest.as_secs_f64(),
            milliseconds(quiet),
            milliseconds(attacked),
            before.0,
            after.0,
            before.1 / 1024,
            after.2 / 1024,
            after.1 / 1024,
        ),
    );
    assert!(most > before.0 + total / 2, "the crowd was not there: {before:?} {most}");
    assert!(after.0 <= before.0 + 2, "descriptors are left: {before:?} {after:?}");
    // Some tens of KiB each, buffers included.
    assert!(after.2.saturating_sub(before.1) < 64 * 1024 + 128 * total as u64, "{before:?} {after:?}");
    // Whoever had to wait for one of them would wait for the limit.
    assert!(attacked < LIMIT * 4 / 5, "{quiet:?} {attacked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_ends_at_the_cap() {
    const CAP: usize = 40;
    let flood = size(400, 10_000);
    raise_descriptors();
    let options = Options::default().set("server.max_connections", &CAP.to_string()).set("server.header_read_timeout_ms", "1000");
    let app = TestApp::sqlite_with(options).await;
    let ada = app.admin("acme");
    ada.put("/variables/global/x", r#"{"value":1}"#).send().await.expect(201);
    let stop = tokio_util::sync::CancellationToken::new();
    let crowd = join_all((0..flood).map(|_| {
        let (stop, address) = (stop.clone(), app.address);
        async move {
            let turn = async {
                // The kernel's queue takes them, or does not.
                let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(address)).await else { return false };
                let request = b"GET /limits HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
                stream.write_all(request).await.is_ok() && stream.read(&mut [0; 16]).await.is_ok_and(|count| count > 0)
            };
            stop.run_until_cancelled(turn).await == Some(true)
        }
    }));
    let existing = async {
        let mut times = Vec::new();
        for _ in 0..100 {
            let begin = Instant::now();
            ada.get("/variables/global/x").send().await.expect(200);
            times.push(begin.elapsed());
            sleep(Duration::from_millis(size(5, 50) as u64)).await;
        }
        // Whoever had no turn by now is one of many whom the cap keeps outside.
        stop.cancel();
        p99(times)
    };
    let (served, existing) = tokio::join!(crowd, existing);
    let served = served.into_iter().filter(|is_served| *is_served).count();
    let begin = Instant::now();
    app.anonymous().get("/limits").send().await.expect(200);
    say(
        "connection_flood",
        format!(
            "{flood} against a cap of {CAP}: {served} had a turn, p99 of the client that was there {} ms, a new one waits {} ms",
            existing.as_millis(),
            begin.elapsed().as_millis()
        ),
    );
    assert!(existing < Duration::from_secs(2));
}

/// As many descriptors as the system lets this process and its servers have.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

/// A burst is kept while the server is busy with something else: here, stopped.
#[test]
fn a_burst_waits_in_the_kernels_queue() {
    let kept: usize = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let place = Place::new();
    let server = place.dev_with(&[], &[]);
    server.pause();
    let burst: Vec<_> =
        (0..kept.min(300)).map(|_| std::net::TcpStream::connect_timeout(&server.address(), PATIENCE).expect("there is room")).collect();
    server.signal("CONT");
    for mut stream in burst {
        std::io::Write::write_all(&mut stream, b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let answer = std::io::read_to_string(stream).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
