//! C20: one server's clock is wrong.

use std::time::{Duration, Instant};

use super::client::{Client, From};
use super::flavour::Flavour;
use super::ground::Ground;
use super::node::Node;
use super::process::Process;
use super::say;

/// The library that makes a process see another time.
fn library() -> std::path::PathBuf {
    let folders = ["x86_64-linux-gnu/faketime", "aarch64-linux-gnu/faketime", "faketime", "../local/lib/faketime"];
    let mut paths = folders.iter().map(|folder| std::path::Path::new("/usr/lib").join(folder).join("libfaketime.so.1"));
    paths.find(|path| path.exists()).expect("the package libfaketime is installed")
}

/// Sessions end by the database's clock, whatever a server's own says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_of_a_server_is_wrong() {
    let library = library();
    let ground = Ground::new(Flavour::Redis).await;
    let right = Node::start(&ground, 1).await;
    for skew in ["-300", "+300"] {
        let mut wrong = Process::new(&ground, 0);
        let preload = library.to_str().unwrap();
        // Tokens are judged by the server's own clock: that it believes them is not what is looked at here.
        wrong.launch_with(
            &[("LD_PRELOAD", preload), ("FAKETIME", skew), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")],
            &[("auth.leeway_seconds", "300")],
        );
        wrong.is_ready().await;
        wrong.uses_both_tiers().await;
        let id = format!("c20{}", &skew[1..]) + if skew.starts_with('-') { "m" } else { "p" };
        let path = format!("/sessions/{id}");
        let body = r#"{"data":{},"ttl_seconds":3,"sliding":false}"#;
        let request = |client: &Client| client.request(reqwest::Method::PUT, &path).header("content-type", "application/json").body(body);
        let made = Instant::now();
        assert_eq!(Client::send(request(&right.client)).await.status, 201);
        let (mut early, mut late, mut cached, mut gone) = (Duration::ZERO, Duration::ZERO, 0, [None; 2]);
        while made.elapsed() < Duration::from_secs(5) {
            for (number, client) in [&right.client, &wrong.client].into_iter().enumerate() {
                let asked = made.elapsed();
                let answer = client.get(&path).await;
                cached += usize::from(answer.from != From::Store && answer.status == 200);
                if answer.status == 404 {
                    gone[number] = gone[number].or(Some(asked));
                    early = early.max(Duration::from_secs(3).saturating_sub(made.elapsed()));
                } else {
                    late = late.max(asked.saturating_sub(Duration::from_secs(3)));
                }
            }
        }
        say(
            "C20 clock_skew",
            format!("{skew} s: gone after {gone:?} instead of 3 s; too early {early:?}, too late {late:?}; cached answers {cached}"),
        );
        assert!(early.is_zero() && late < Duration::from_millis(500), "{early:?} {late:?}");
    }
}
