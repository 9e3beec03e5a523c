//! A deadline that passes ends the waiting and not the work: as long as that goes on, its place is taken.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{STATE, say};
use crate::api::app::{Caller, Options, TestApp};
use crate::support::faulty::Behaviour;

/// Longest wait for something that comes as soon as the machine gets to it.
const PATIENCE: Duration = Duration::from_secs(20);
const PATCH: &str = r#"{"marking":{"p":2}}"#;

/// A patch at work in the store, which holds it, and for which nobody waits any more.
async fn leave_a_patch_at_work(app: &TestApp, tenant: &str, watcher: &Caller) {
    app.faults.set(Behaviour::Hold);
    let token = app.token(tenant, "admin", &["nworkflow-admin"]);
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "PATCH {STATE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/merge-patch+json\r\n\
         X-Request-Timeout-Ms: 300\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{PATCH}",
        PATCH.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    app.faults.wait_for_calls(1).await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    // The server counts the one request that asks.
    let begin = Instant::now();
    while !watcher.get("/metrics").send().await.expect(200).text().contains("nworkflow_http_requests_in_flight 1\n") {
        assert!(begin.elapsed() < PATIENCE, "the request is still at work");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until there is a place again.
async fn until_free(caller: &Caller) {
    let begin = Instant::now();
    loop {
        let answer = caller.get("/workflows").send().await;
        if answer.status == 200 {
            return;
        }
        assert!(matches!(answer.status.as_u16(), 429 | 503), "{answer:?}");
        assert!(begin.elapsed() < PATIENCE, "the place is not free again: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_whose_time_is_over_keeps_its_tenants_place() {
    let app = TestApp::sqlite_with(Options::default().set("server.max_in_flight_per_tenant", "1")).await;
    let (acme, other) = (app.admin("acme"), app.admin("other"));
    acme.put(STATE, r#"{"marking":{"p":1}}"#).send().await.expect(201);
    leave_a_patch_at_work(&app, "acme", &other).await;
    for _ in 0..3 {
        acme.get("/workflows").send().await.problem(429, "too_many_requests");
    }
    app.faults.set(Behaviour::Pass);
    until_free(&acme).await;
    assert_eq!(acme.get(STATE).send().await.expect(200).json()["marking"]["p"], 1, "what had not begun in time is not begun");
    say("left_work_tenant", "429 while it is at work, 200 afterwards");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_whose_time_is_over_keeps_one_of_all_places() {
    let app = TestApp::sqlite_with(Options::default().set("server.max_in_flight", "2")).await;
    let (acme, other) = (app.admin("acme"), app.admin("other"));
    acme.put(STATE, r#"{"marking":{"p":1}}"#).send().await.expect(201);
    leave_a_patch_at_work(&app, "acme", &other).await;
    // The other place: a write that waits in the store as well.
    let refused = async {
        app.faults.wait_for_calls(2).await;
        other.get("/workflows").send().await.problem(503, "overloaded");
        app.anonymous().get("/health/live").send().await.expect(200);
        app.faults.set(Behaviour::Pass);
    };
    let (waiting, ()) = tokio::join!(other.put(STATE, r#"{"marking":{}}"#).send(), refused);
    waiting.expect(201);
    until_free(&other).await;
    say("left_work_all", "503 while it is at work, 200 afterwards");
}

/// Its cost is minutes; its time is over before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_ends_with_its_deadline_and_frees_its_place() {
    let options = Options::default().set("server.max_in_flight_per_tenant", "1").set("limits.patch_steps_per_byte", "1000000");
    let app = TestApp::sqlite_with(options).await;
    let acme = app.admin("acme");
    let members: Vec<String> = (0..250_000).map(|number| format!("\"m{number}\":0")).collect();
    let before = acme.put(STATE, format!(r#"{{"marking":{{}},"metadata":{{"a":{{{}}}}}}}"#, members.join(","))).send().await.expect(201);
    let cycle = r#"{"op":"copy","from":"/metadata/a","path":"/metadata/b"},{"op":"add","path":"/metadata/b/x","value":0},{"op":"remove","path":"/metadata/b"}"#;
    let patch = format!("[{}]", vec![cycle; 333].join(","));
    let begin = Instant::now();
    let late = acme.operate(STATE, patch).header("x-request-timeout-ms", "2000").send().await.problem(504, "deadline_exceeded");
    let took = begin.elapsed();
    until_free(&acme).await;
    say("late_patch", format!("answered after {} ms of 2000, free after {} ms", took.as_millis(), begin.elapsed().as_millis()));
    assert!(late.text().contains("deadline") || late.text().contains("took longer"), "{}", late.text());
    assert_eq!(acme.get(STATE).send().await.expect(200).etag(), before.etag());
}
